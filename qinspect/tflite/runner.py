"""One way to run ``.tflite`` files: by name, on all cores, in a process that may die if need be.

A :class:`Session` is one file ready to run; :func:`run_files` runs several over the same examples
in one pass.  The engine is ``runner_child``, used in this process or, by ``isolated``, in a child.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from qinspect.errors import ModelFileError, SpecError, unknown_name
from qinspect.quiet import quiet
from qinspect.schema import Array
from qinspect.tflite.graph import Graph, Operator, Subgraph, Tensor
from qinspect.tflite.inputs import Preprocessing
from qinspect.tflite.isolated import MEMORY, Died, Remote, cores, too_large
from qinspect.tflite.ports import (
    READABLE,
    Arrays,
    Feeds,
    Port,
    check_inputs,
    feeds_of,
    ports_of,
    real_values,
)
from qinspect.tflite.read import read_graph
from qinspect.tflite.runner_child import (
    KERNELS,
    MAX_WORKERS,
    STEPS,
    Engine,
    Layout,
    Plan,
    Refused,
    Take,
    array_at,
    same_values,
)

# XNNPACK, where it can; the optimised kernels without it; the plain reference kernels.
Kernels = Literal["default", "builtin", "reference"]
Model = str | os.PathLike[str] | bytes | Graph

# What the widest operator reads and writes for one batch stays in a core's cache.
_CACHE = 1 << 19
_MAX_BATCH = 64
# Arrays move in blocks of about so many bytes, for which the files take turns.
_BLOCK = 16 << 20
# Every worker holds the weights once more.
_WEIGHTS = 1 << 30

_AS_GIVEN = Preprocessing()

# Operators of files that were compiled for a chip: by what, and for which.
_COMPILED = {
    "edgetpu-custom-op": ("the Edge TPU compiler", "a Coral Edge TPU"),
    "ethos-u": ("Vela", "an Arm Ethos-U"),
    "DISPATCH_OP": ("LiteRT's compiler", "an NPU"),
}


# --- what a file is ------------------------------------------------------------------------------


def compiled_for(graph: Graph) -> str | None:
    """Why a file runs on one kind of chip only, to follow its name, or None."""
    for custom in _custom(graph):
        for code, (compiler, chip) in _COMPILED.items():
            if custom.startswith(code):
                return (
                    f"was compiled by {compiler} for {chip} (operator {custom}) and runs nowhere "
                    "else; give the .tflite file that the compiler was given."
                )
    return None


def not_run(graph: Graph) -> str | None:
    """Why a file is not even given to LiteRT, to follow its name, or None."""
    if graph.flaws:
        return f"is damaged: {graph.flaws[0]}; convert it again."
    unwritten = next(filter(None, map(_unwritten, graph.subgraphs)), None)
    if unwritten:
        return f"is damaged: {unwritten}, which nothing writes before; convert it again."
    return compiled_for(graph)


def _unwritten(subgraph: Subgraph) -> str | None:
    """The first read of a tensor without values, in the order of execution; its outputs last."""
    written = {*subgraph.inputs, *(t.index for t in subgraph.tensors
                                   if t.constant or t.variable or 0 in t.shape)}
    for operator in subgraph.operators:
        for index in operator.inputs:
            if index >= 0 and index not in written:
                return (f"its operator {operator.index} ({operator.code}) reads the tensor "
                        f"{subgraph.tensors[index].name!r}")
        written.update(operator.outputs)
    for index in subgraph.outputs:
        if index not in written:
            return f"its output is the tensor {subgraph.tensors[index].name!r}"
    return None


def foreign_operators(graph: Graph) -> str | None:
    """What to do about operators that LiteRT may lack, to follow the file's name, or None."""
    custom = _custom(graph)
    flex = [name for name in custom if name.startswith("Flex")]
    if flex:
        return (
            f"needs TensorFlow itself for its operators {', '.join(flex)} (Select TF, Flex), which "
            "LiteRT does not have; convert it again with TFLITE_BUILTINS alone, or without the "
            "layer that needs them."
        )
    if custom:
        plural = "s" if len(custom) > 1 else ""
        return (
            f"needs the custom operator{plural} {', '.join(custom)}, which LiteRT does not have; "
            "convert it again from operators that LiteRT has."
        )
    return None


def refusal(graph: Graph, refused: Refused, memory: int = MEMORY) -> str:
    """Why LiteRT does not run a file, to follow its name."""
    foreign = foreign_operators(graph)
    if foreign and re.search("custom op|flex", refused.reason, re.IGNORECASE):
        return foreign
    doing = STEPS[refused.step]
    if refused.reason == "MemoryError" or "bad_alloc" in refused.reason:
        return too_large(doing, memory)
    where = f" at example {refused.example}" if refused.example >= 0 else ""
    return f"is refused by LiteRT while {doing}{where}: {refused.reason}"


def _operators(graph: Graph) -> Iterator[Operator]:
    return (operator for subgraph in graph.subgraphs for operator in subgraph.operators)


def _custom(graph: Graph) -> list[str]:
    return list(dict.fromkeys(o.custom or "(without a name)" for o in _operators(graph)
                              if o.code == "CUSTOM"))


def state_of(graph: Graph) -> str:
    """How independent examples are had: "" as they come, after a "reset", or in a "fresh" one."""
    if any(operator.code == "ASSIGN_VARIABLE" for operator in _operators(graph)):
        return "fresh"
    variables = any(t.variable for subgraph in graph.subgraphs for t in subgraph.tensors)
    return "reset" if variables else ""


def batch_for(subgraph: Subgraph) -> int:
    """Arrays to run at once so that what an operator reads and writes stays in the cache."""
    widths = {t.index: _bytes(t) for t in subgraph.tensors if not t.constant}
    most = max((sum(widths.get(i, 0) for i in (*operator.inputs, *operator.outputs))
                for operator in subgraph.operators), default=1)
    return max(1, min(_MAX_BATCH, _CACHE // max(1, most)))


def _bytes(tensor: Tensor) -> int:
    width = np.dtype(tensor.dtype).itemsize if tensor.dtype in READABLE else 0
    return int(np.prod(tensor.shape, dtype=np.float64)) * width


# --- one file ------------------------------------------------------------------------------------


class Session:
    """A file ready to run; to be used in a ``with`` block.

    ``tensors`` are indices or names of further tensors to read.  With ``isolated``, by default for
    guarded graphs, which all are that nobody vouches for, every example runs in a child process,
    whose death is a ModelFileError.  ``sequence`` keeps a file's state from one example to the
    next.  With ``how`` None inputs are fed as they are, unchecked.
    """

    def __init__(
        self,
        model: Model,
        *,
        name: str = "",
        outputs: Sequence[int | str] | None = None,
        tensors: Sequence[int | str] = (),
        signature: str = "",
        kernels: Kernels = "default",
        batch_size: int | None = None,
        workers: int | None = None,
        sequence: bool = False,
        isolated: bool | None = None,
        how: Preprocessing | None = _AS_GIVEN,
    ) -> None:
        if kernels not in KERNELS:
            raise SpecError(f"kernels is {kernels!r}; choose one of {', '.join(KERNELS)}.")
        for option, value in (("batch_size", batch_size), ("workers", workers)):
            if value is not None and value < 1:
                raise SpecError(f"{option} is {value}; choose at least 1.")
        self.graph = model if isinstance(model, Graph) else read_graph(model)
        self.name = name or Path(self.graph.file).name
        reason = not_run(self.graph)
        if reason:
            raise ModelFileError(f"{self.name} {reason}")
        self.ports = ports_of(self.graph, signature)
        self.subgraph = self.graph.subgraphs[self.ports.subgraph]
        check_inputs(self.ports, self.name)
        self.how = how
        self._kernels: tuple[str, ...] = KERNELS if kernels == "default" else (kernels,)
        self._batch_size, self._workers = batch_size, workers
        self._sequence = sequence
        self._isolated = self.graph.guarded if isolated is None else isolated
        self._notes: list[str] = []
        self._missed: dict[int, str] = {}
        if not signature and len(self.graph.signatures) > 1:
            self._notes.append(
                f"it has the signatures {', '.join(self.graph.signatures)}; its main graph was run."
            )
        self.outputs = self._chosen(outputs)
        self.tensors = self._wanted(tensors)
        self.reads = tuple(dict.fromkeys(
            (*(port.tensor.index for port in self.outputs), *self.tensors.values())
        ))
        self.layout: Layout = []
        self.batched = False
        self.block = 1  # examples to give at least, for all workers to have work
        self._runner: _Local | _Child | None = None
        self._plain: list[Array | None] | None = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the interpreters or the child go."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about how the file ran."""
        return tuple(dict.fromkeys(self._notes))

    # --- what to read --------------------------------------------------------------------------

    def _output(self, key: int | str) -> Port:
        known = {port.name: port for port in self.ports.outputs}
        if isinstance(key, int):
            if not 0 <= key < len(known):
                raise ModelFileError(
                    f"{self.name} has {len(known)} outputs; output {key} is not there."
                )
            port = self.ports.outputs[key]
            if len(known) > 1:
                self._notes.append(f"it has the outputs {', '.join(known)}; {port.name} was taken, "
                                   "by its position.")
            return port
        found = known.get(key) or next((p for p in known.values() if key in p.aliases), None)
        if found is None:
            raise unknown_name(f"output of {self.name}", key, known)
        return found

    def _chosen(self, names: Sequence[int | str] | None) -> tuple[Port, ...]:
        found = []
        for key in [p.name for p in self.ports.outputs] if names is None else names:
            port = self._output(key)
            if port.tensor.dtype in READABLE:
                found.append(port)
                continue
            what = f"holds {port.tensor.dtype}, not numbers"
            if names is not None:
                raise ModelFileError(f"the output {port.name!r} of {self.name} {what}.")
            self._notes.append(f"its output {port.name!r} {what}, and was left out.")
        if not found:
            raise ModelFileError(f"{self.name} has no output of numbers.")
        return tuple(found)

    def _wanted(self, tensors: Sequence[int | str]) -> dict[int | str, int]:
        by_name = {tensor.name: tensor.index for tensor in self.subgraph.tensors}
        found: dict[int | str, int] = {}
        for key in tensors:
            if isinstance(key, str) and key not in by_name:
                raise unknown_name(f"tensor of {self.name}", key, by_name)
            index = by_name[key] if isinstance(key, str) else key
            if not 0 <= index < len(self.subgraph.tensors):
                raise SpecError(f"there is no tensor {key} in {self.name}, which has "
                                f"{len(self.subgraph.tensors)}.")
            tensor = self.subgraph.tensors[index]
            if tensor.constant:
                self._skip(index, "it is a constant")
            elif tensor.dtype not in READABLE:
                # Reading a resource as data can end the process.
                self._skip(index, f"it holds {tensor.dtype}, not numbers")
            else:
                found[key] = index
        return found

    def _skip(self, index: int, reason: str) -> None:
        self._missed[index] = reason
        name = self.subgraph.tensors[index].name
        self._notes.append(f"its tensor {name!r} was not read: {reason}.")

    # --- running -------------------------------------------------------------------------------

    def feeds(self, x: Arrays) -> Feeds:
        """Arrays matched to the inputs and checked."""
        return feeds_of(self.ports, x, self.how, self.name)

    def run(self, x: Arrays | Feeds) -> dict[int, Array]:
        """Stored values of outputs and tensors by index, one entry an example."""
        feeds = x if isinstance(x, Feeds) else self.feeds(x)
        count = len(feeds)
        self.settle(feeds)
        outs = self.arrays(count)
        self.load(feeds.take, 0, count)
        self.start()
        self.finish(outs)
        return self.filled(outs)

    def view(self, x: Arrays | Feeds) -> dict[int, Array]:
        """As :meth:`run`, without a copy out of the memory that is shared with a child.

        What it gives stays as it is while the next examples run, if they are no more than these.
        """
        feeds = x if isinstance(x, Feeds) else self.feeds(x)
        if self._plain is not None or not isinstance(self._runner, _Child):
            return self.run(feeds)
        self.load(feeds.take, 0, len(feeds))
        self.start()
        self.finish([None] * len(self.layout))
        return self.filled(self._runner.views())

    def settle(self, feeds: Feeds) -> None:
        """Find out on the first examples how the file runs; done once."""
        if self._runner is not None:
            return
        plan = self._plan(feeds)
        if plan.preserve and not plan.state:
            self._plain = self._run_plain(feeds, plan)
        self.block = plan.batch * plan.workers
        self._begin(plan, feeds.take, 0, len(feeds))
        if plan.lead > 1:
            self._notes.append(f"its graph fixes the batch at {plan.lead}; it was run "
                               f"{plan.lead} examples at a time.")

    def arrays(self, count: int) -> list[Array | None]:
        """Room for what ``count`` examples give."""
        try:
            return [laid and np.empty((count, *laid[0]), laid[1]) for laid in self.layout]
        except (MemoryError, ValueError):
            widest = max((laid[0] for laid in self.layout if laid), key=np.prod)
            raise ModelFileError(f"{self.name} gives values of shape {widest} for each of {count} "
                                 "examples, more than there is memory for.") from None

    def load(self, take: Take, start: int, stop: int) -> None:
        """Prepare some examples, while this file or another may still be running."""
        assert self._runner is not None
        self._loaded = take, start, stop
        try:
            self._runner.load(take, start, stop)
        except Refused as refused:
            raise self._refusal(refused) from None

    def start(self) -> None:
        """Begin to run what was loaded."""
        assert self._runner is not None
        self._begun = self._loaded
        self._runner.start()

    def finish(self, outs: Sequence[Array | None], tick: Callable[[int], None] | None = None
               ) -> None:
        """Wait for what was started, and fill in its rows of the arrays."""
        while True:
            assert self._runner is not None
            try:
                events = self._runner.finish(outs, tick)
                break
            except Refused as refused:
                raise self._refusal(refused) from None
            except Died as died:
                self._revive(died)
        self._tell(events)
        for at, laid in enumerate(self._runner.layout):
            if laid is None:
                self.layout[at] = None
        self._check_outputs()
        if self._plain is not None:
            self._compare_with_plain(outs)

    def filled(self, outs: Sequence[Array | None]) -> dict[int, Array]:
        """What could be read for every example, by tensor index."""
        return {index: out for index, out, laid in zip(self.reads, outs, self.layout, strict=True)
                if out is not None and laid is not None}

    # --- how it runs ---------------------------------------------------------------------------

    def _plan(self, feeds: Feeds) -> Plan:
        state = state_of(self.graph)
        workers = min(self._workers or cores(), len(feeds), MAX_WORKERS,
                      max(1, _WEIGHTS // self.graph.size))
        if state and self._sequence:
            if feeds.lead > 1:
                raise SpecError(
                    f"{self.name} takes {feeds.lead} examples at once, so it cannot keep its "
                    "state from one to the next; leave sequence out."
                )
            state, workers = "kept", 1
            self._notes.append("it keeps state, from one example to the next in the order "
                               "given.")
        elif state:
            self._notes.append(
                "it keeps state, which was reset before each example; if they are one sequence in "
                "order, say so (--sequence)."
            )
        batch = min(self._batch_size or batch_for(self.subgraph), -(-len(feeds) // workers))
        ports = (*self.ports.inputs, *self.ports.outputs)
        ends = {port.tensor.index for port in ports}
        return Plan(
            inputs=tuple(port.tensor.index for port in self.ports.inputs), reads=self.reads,
            kernels=self._kernels, lead=feeds.lead, batch=batch, state=state,
            preserve=any(index not in ends for index in self.reads), workers=workers,
            signature=self.ports.signature, subgraph=self.ports.subgraph,
            names=tuple((port.key, port.tensor.index) for port in ports),
        )

    def _new(self, plan: Plan) -> _Local | _Child:
        return (_Child if self._isolated else _Local)(self.graph.content, plan)

    def _begin(self, plan: Plan, take: Take, start: int, stop: int) -> None:
        """Settle with the kernels that are left, in a new child for those that kill it."""
        stop = min(stop, start + max(2 * plan.lead, 2))
        while True:
            self._runner = self._new(plan)
            try:
                events, size = self._runner.settle(take, start, stop)
                break
            except Refused as refused:
                raise self._refusal(refused) from None
            except Died as died:
                plan = self._without_first(plan, died)
        self.layout = list(self._runner.layout)
        self.batched = size > 1
        self._tell(events)
        self._check_outputs()

    def _without_first(self, plan: Plan, died: Died) -> Plan:
        self.close()
        if died.final or len(plan.kernels) == 1 or plan.state == "kept":
            raise ModelFileError(f"{self.name} {died}") from None
        self._tell([{"what": "kernels", "kernels": plan.kernels[1], "example": -1,
                     "reason": f"it {died}"}])
        return replace(plan, kernels=plan.kernels[1:])

    def _revive(self, died: Died) -> None:
        """Run again what a dead child had begun, by the next kernels in a new one."""
        assert self._runner is not None
        missed = [laid is None for laid in self.layout]
        self._begin(self._without_first(self._runner.plan, died), *self._begun)
        # What an earlier block lacks stays out.
        self.layout = [None if gone else laid
                       for gone, laid in zip(missed, self.layout, strict=True)]
        self._runner.load(*self._begun)
        self._runner.start()
        if self._loaded is not self._begun:
            self._runner.load(*self._loaded)

    def _run_plain(self, feeds: Feeds, plan: Plan) -> list[Array | None] | None:
        """Outputs of the first example without keeping tensors, which can change the kernels."""
        outputs = self.reads[: len(self.outputs)]
        runner = self._new(replace(plan, reads=outputs, preserve=False, workers=1, batch=1))
        try:
            runner.settle(feeds.take, 0, min(len(feeds), max(1, plan.lead)))
            outs = [laid and np.empty((1, *laid[0]), laid[1]) for laid in runner.layout]
            runner.load(feeds.take, 0, 1)
            runner.start()
            runner.finish(outs)
        except (Refused, Died):
            return None  # the run itself will tell
        finally:
            runner.close()
        return outs

    def _compare_with_plain(self, outs: Sequence[Array | None]) -> None:
        gap = 0.0
        for plain, kept in zip(self._plain or (), outs, strict=False):
            if plain is not None and kept is not None and not same_values(plain, kept[:1]):
                gap = max(gap, float(np.abs(plain.astype(np.float64) - kept[:1]).max()))
        self._plain = None
        if gap:
            self._notes.append(
                "keeping all its tensors changed the outputs of the first example by up "
                f"to {gap:g} (stored units) against a plain run, because other kernels run."
            )

    # --- what to say ---------------------------------------------------------------------------

    def _tell(self, events: Sequence[Mapping[str, Any]]) -> None:
        for event in events:
            since = f" from example {event['example']} on" if event.get("example", -1) > 0 else ""
            if event["what"] == "skipped":
                self._skip(event["tensor"], event["reason"])
            elif event["what"] == "alone":
                self.batched = False
                self._notes.append(
                    "it cannot run in batches (its graph fixes the batch size); it was run one "
                    f"example at a time{since}."
                )
            else:
                kind = "builtin kernels without XNNPACK"
                if event["kernels"] == "reference":
                    kind = "reference kernels"
                self._notes.append(f"it was run by the {kind}{since}, because the default ones do "
                                   f"not run it: {event['reason'].rstrip('.')}.")

    def _check_outputs(self) -> None:
        if any(self.layout[: len(self.outputs)]):
            return
        port = self.outputs[0]
        raise ModelFileError(f"the output {port.name!r} of {self.name} cannot be read: "
                             f"{self._missed[port.tensor.index]}.")

    def _refusal(self, refused: Refused) -> ModelFileError:
        return ModelFileError(f"{self.name} {refusal(self.graph, refused)}")


class _Local:
    """The engine of one file in this process; what it does is what ``_Child`` does."""

    def __init__(self, content: bytes, plan: Plan) -> None:
        self.plan = plan
        self._engine = Engine(content, plan, hush=_hushed)

    @property
    def layout(self) -> Layout:
        return self._engine.layout

    def settle(self, take: Take, start: int, stop: int) -> tuple[list[dict[str, Any]], int]:
        self._engine.settle(lambda a, b: take(start + a, start + b), stop - start)
        return self._events(), self._engine.size

    def _events(self) -> list[dict[str, Any]]:
        events, self._engine.events = self._engine.events, []
        return events

    def load(self, take: Take, start: int, stop: int) -> None:
        self._loaded = take, start, stop

    def start(self) -> None:
        self._begun = self._loaded
        self._engine.plan = replace(self._engine.plan, first=self._begun[1])

    def finish(self, outs: Sequence[Array | None], tick: Callable[[int], None] | None = None
               ) -> list[dict[str, Any]]:
        take, start, stop = self._begun
        self._engine.run(lambda a, b: take(start + a, start + b), stop - start, outs, tick)
        return self._events()

    def close(self) -> None:
        del self._engine


class _Child(Remote):
    """The engine of one file in a child process, whose memory can be looked into."""

    def views(self) -> list[Array | None]:
        """What the run that was finished last gave, where the child left it."""
        memory, command = self._begun
        return [place and array_at(memory, place) for place in command["outs"]]


_announced = False


def _hushed() -> contextlib.AbstractContextManager[Any]:
    """XNNPACK reports its creation on standard error, once a process: let nobody read it."""
    global _announced
    if _announced:
        return contextlib.nullcontext()
    _announced = True
    return quiet()


# --- several files -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """What one file gave: stored values by output, and tensors by what they were asked for."""

    outputs: dict[str, Array]
    ports: dict[str, Port]
    tensors: dict[int | str, Array]
    batched: bool
    notes: tuple[str, ...]

    def real(self, name: str) -> Array:
        """An output as float32, dequantized where it has a scale."""
        return real_values(self.ports[name].tensor, self.outputs[name])


def run_files(
    models: Mapping[str, Model],
    x: Arrays,
    *,
    how: Mapping[str, Preprocessing] | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> dict[str, Run]:
    """Run several files over the same examples in one pass; options as of :class:`Session`."""
    sessions = {name: Session(model, name=name, how=(how or {}).get(name, _AS_GIVEN), **options)
                for name, model in models.items()}
    return run_sessions(sessions, dict.fromkeys(sessions, x), progress)


def run_sessions(
    sessions: Mapping[str, Session], x: Mapping[str, Arrays],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Run]:
    """Run files in one pass, each over what it is given of the same examples, and close them."""
    with contextlib.ExitStack() as stack:
        for session in sessions.values():
            stack.enter_context(session)
        feeds = {name: session.feeds(x[name]) for name, session in sessions.items()}
        outs: dict[str, list[Array | None]] = {}
        for name, session in sessions.items():
            session.settle(feeds[name])
            outs[name] = session.arrays(len(feeds[name]))
        total = sum(len(of_one) for of_one in feeds.values())
        _take_turns(sessions, feeds, outs, _counter(total, progress))
        return {name: _result(session, feeds[name], outs[name])
                for name, session in sessions.items()}


def _take_turns(sessions: Mapping[str, Session], feeds: Mapping[str, Feeds],
                outs: Mapping[str, list[Array | None]], tick: Callable[[int], None]) -> None:
    """Every block of examples through every file; the next is prepared while one runs."""
    running: tuple[Session, list[Array | None]] | None = None
    for start, stop in _blocks(sessions, feeds, outs):
        for name, session in sessions.items():
            session.load(feeds[name].take, start, stop)
            if running is not None:
                running[0].finish(running[1], tick)
            session.start()
            running = session, [out if out is None else out[start:stop] for out in outs[name]]
    if running is not None:
        running[0].finish(running[1], tick)


def _blocks(sessions: Mapping[str, Session], feeds: Mapping[str, Feeds],
            outs: Mapping[str, list[Array | None]]) -> Iterator[tuple[int, int]]:
    count = len(next(iter(feeds.values())))
    widest = max(
        sum(array[:1].nbytes for array in (*feeds[name].arrays, *outs[name]) if array is not None)
        for name in sessions
    )
    step = max(_BLOCK // max(1, widest), *(session.block for session in sessions.values()))
    return ((start, min(start + step, count)) for start in range(0, count, step))


def _counter(total: int, progress: Callable[[int, int], None] | None) -> Callable[[int], None]:
    """Counts examples of all workers; only the caller's own thread reports, as displays want."""
    done, lock, caller = 0, threading.Lock(), threading.get_ident()

    def tick(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            now = done
        if progress is not None and (threading.get_ident() == caller or now == total):
            progress(now, total)

    return tick


def _result(session: Session, feeds: Feeds, outs: Sequence[Array | None]) -> Run:
    found = session.filled(outs)
    ports = {port.name: port for port in session.outputs if port.tensor.index in found}
    unused = tuple(f"the array {key!r} is no input of {session.name} and was not used."
                   for key in feeds.unused)
    return Run(
        outputs={name: found[port.tensor.index] for name, port in ports.items()}, ports=ports,
        tensors={key: found[i] for key, i in session.tensors.items() if i in found},
        batched=session.batched, notes=(*session.notes, *unused),
    )
