"""Runs examples through one ``.tflite`` file, in the caller's process or in one that may die.

As a script it is started with ``python -I -S``, so it must not import qinspect, and it gets its
import path from its parent.  Commands and answers are lines of JSON on standard input and output;
arrays lie in memory that both share, behind a page that tells which example is being run.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = json.loads(sys.argv[1])["path"]

import numpy as np

Array = np.ndarray[Any, Any]
# Stored values of the examples from one number to another, for every input.
Take = Callable[[int, int], list[Array]]
# Shape and type of one example of every tensor that is read, None where it cannot be.
Layout = list[tuple[tuple[int, ...], np.dtype[Any]] | None]

KERNELS = ("default", "builtin", "reference")
STEPS = ("starting", "opening it", "allocating its tensors", "running it")
# One-by-one and batched outputs of float kernels may differ by the order of summation.
TOLERANCE = 1e-5
# Bytes before the arrays in the shared memory: the step, then one example number a worker.
PAGE = 4096
MAX_WORKERS = PAGE // 8 - 1
# Examples that a worker takes at once where they run one by one.
_PIECE = 8
# Log lines of LiteRT beyond this many bytes are dropped rather than fill the disk.
_MAX_LOG = 4 << 20
# LiteRT warns that keeping tensors costs memory; silencing that is not safe in several threads.
_WARNING = threading.Lock()


class Refused(Exception):
    """LiteRT reported an error in one of the steps; ``example`` is -1 where it was the first."""

    def __init__(self, step: int, reason: str, example: int = -1) -> None:
        super().__init__(reason)
        self.step, self.reason, self.example = step, reason, example


class _Alone(Exception):
    """The graph does not take a batch, or gives other values in one."""


@dataclass(frozen=True)
class Plan:
    """How to run a file; everything in it can be written as JSON."""

    inputs: tuple[int, ...]
    reads: tuple[int, ...]
    kernels: tuple[str, ...] = KERNELS  # to be tried in this order
    lead: int = 1  # examples in one run of the graph as it is; 0: an example is the whole input
    batch: int = 1  # examples to try at once
    state: str = ""  # "reset" or "fresh" before each example, "kept" from one to the next
    preserve: bool = False  # keep intermediate tensors readable
    workers: int = 1
    signature: str = ""  # where it is not the main graph
    subgraph: int = 0
    names: tuple[tuple[str, int], ...] = ()  # of the inputs and outputs of the signature
    first: int = 0  # number of the first example, for messages


class Machine:
    """One interpreter that runs one example or one batch at a time."""

    def __init__(self, content: bytes, plan: Plan, kernels: str, marks: Array,
                 hush: Callable[[], contextlib.AbstractContextManager[Any]]) -> None:
        self.content, self.plan, self.kernels = content, plan, kernels
        self.marks, self.hush = marks, hush
        self._shapes: tuple[tuple[int, ...], ...] | None = None
        self._found: dict[str, Array] = {}
        self._open()

    def _open(self) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        resolver = {
            "default": OpResolverType.AUTO,
            "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            "reference": OpResolverType.BUILTIN_REF,
        }[self.kernels]
        self.marks[0] = 1
        with _refused(1), _unwarned(self.plan.preserve):
            self._interpreter = Interpreter(
                model_content=self.content, num_threads=1,
                experimental_op_resolver_type=resolver,
                experimental_preserve_all_tensors=self.plan.preserve,
            )
            if self.plan.signature:
                self._runner = self._interpreter.get_signature_runner(self.plan.signature)
        if self._shapes is not None:
            self._allocate(self._shapes)

    def _allocate(self, shapes: tuple[tuple[int, ...], ...]) -> None:
        self._shapes = shapes
        if self.plan.signature:
            return  # its runner does that at each call
        self.marks[0] = 2
        details = {d["index"]: d for d in self._interpreter.get_input_details()}
        with _refused(2), self.hush():
            for index, shape in zip(self.plan.inputs, shapes, strict=True):
                # XNNPACK refuses some resizing even to what is there already.
                if tuple(details[index]["shape"]) != shape:
                    self._interpreter.resize_tensor_input(index, shape)
            self._interpreter.allocate_tensors()

    def run(self, feeds: Sequence[Array]) -> None:
        """Run the graph once on whole input tensors."""
        shapes = tuple(values.shape for values in feeds)
        if shapes != self._shapes:
            self._allocate(shapes)
        elif self.plan.state == "fresh":
            self._open()
        if self.plan.state == "reset":
            self._interpreter.reset_all_variables()
        self.marks[0] = 3
        with _refused(3):
            if self.plan.signature:
                by_index = dict(zip(self.plan.inputs, feeds, strict=True))
                given = {n: by_index[i] for n, i in self.plan.names if i in by_index}
                self._found = self._runner(**given)
                return
            for index, values in zip(self.plan.inputs, feeds, strict=True):
                self._interpreter.set_tensor(index, values)
            self._interpreter.invoke()

    def read(self, index: int) -> Array | None:
        """A tensor after a run, to be let go before the next; None where it has no data."""
        try:
            if self.plan.signature:
                for name, i in self.plan.names:
                    if i == index and name in self._found:
                        return np.asarray(self._found[name])
                return np.asarray(self._interpreter.get_tensor(index, self.plan.subgraph))
            return np.asarray(self._interpreter.tensor(index)())
        except (ValueError, RuntimeError, TypeError):
            return None


@contextlib.contextmanager
def _refused(step: int) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise Refused(step, "MemoryError") from None
    except (ValueError, RuntimeError, TypeError, OverflowError) as error:
        raise Refused(step, " ".join(str(error).split())[:300] or type(error).__name__) from error


@contextlib.contextmanager
def _unwarned(preserve: bool) -> Iterator[None]:
    if not preserve:
        yield
        return
    with _WARNING, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


class Engine:
    """The interpreters of one file, one a worker; ``events`` collect what the user should know."""

    def __init__(self, content: bytes, plan: Plan, marks: Array | None = None,
                 hush: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
                 ) -> None:
        self.content, self.plan, self.hush = content, plan, hush
        self.marks = np.zeros(1 + plan.workers, np.int64) if marks is None else marks
        self.layout: Layout = []
        self.events: list[dict[str, Any]] = []
        sizes = [plan.lead]
        if plan.lead == 1 and plan.batch > 1 and not plan.state:
            sizes = [plan.batch, 1]
        self._modes = [(kernels, size) for kernels in plan.kernels for size in sizes]
        self._kernels = plan.kernels[0]
        self._carry: list[bool] = []
        self._machines: list[Machine] = []
        self._singles: list[list[Array | None]] = []

    @property
    def size(self) -> int:
        """Examples in one run of the graph, 0 where an example is the whole input."""
        return self._modes[0][1]

    def _machine(self, kernels: str) -> Machine:
        return Machine(self.content, self.plan, kernels, self.marks, self.hush)

    # --- how it runs ---------------------------------------------------------------------------

    def settle(self, take: Take, count: int, because: Refused | None = None) -> None:
        """Choose the first kernels and batch that run these examples, as events then tell."""
        refusal = because
        while self._modes:
            kernels, size = self._modes[0]
            try:
                self._try(kernels, size, take, count)
            except Refused as refused:
                refusal = refusal or refused
            except _Alone:
                self.events.append({"what": "alone", "example": -1})
            else:
                if refusal is not None and kernels != self._kernels:
                    self._kernels = kernels
                    self.events.append({"what": "kernels", "kernels": kernels,
                                        "reason": refusal.reason, "example": refusal.example})
                elif because is not None:
                    self.events.append({"what": "alone", "example": because.example})
                return
            self._modes.pop(0)
        raise refusal or Refused(3, "no kernels run it")

    def _try(self, kernels: str, size: int, take: Take, count: int) -> None:
        own = self.plan.lead
        self._machines, self._singles = [], []
        machine = self._machine(kernels)
        alone = self._values(machine, own, take, 0, count)
        self._lay_out(alone)
        if self.plan.state == "reset" and count > max(own, 1):
            self._check_reset(kernels, machine, own, take, count)
        if size == own:
            self._machines = [] if self.plan.state else [machine]
            return
        # What the graph does not carry through a batch can only be read example by example.
        if not all(carry for carry, found in zip(self._carry, self.layout, strict=True) if found):
            raise _Alone
        # The batch itself is compared with these when it is first run.
        self._singles = [alone]
        if count > 1:
            self._singles.append(self._values(machine, own, take, 1, count))

    def _check_batch(self, machine: Machine, rows: int) -> None:
        """Whether examples give in a batch what they gave alone."""
        singles, self._singles = self._singles[:rows], []
        for at, single in enumerate(singles):
            for index, alone in zip(self.plan.reads, single, strict=True):
                if alone is None:
                    continue
                found = machine.read(index)
                if (found is None or found.ndim != alone.ndim or found.shape[0] != self.size
                        or not same_values(alone[0], found[at])):
                    raise _Alone

    def _values(self, machine: Machine, size: int, take: Take, start: int, count: int
                ) -> list[Array | None]:
        """Copies of what is read after one run that begins with example ``start``."""
        stop = min(start + max(size, 1), count)
        machine.run(_padded(take(start, stop), size))
        found = [machine.read(index) for index in self.plan.reads]
        return [None if values is None else values.copy() for values in found]

    def _lay_out(self, values: list[Array | None]) -> None:
        if self.layout:  # other kernels fill the same arrays
            return
        lead = self.plan.lead
        for at, found in enumerate(values):
            carries = bool(lead and found is not None and found.ndim and found.shape[0] == lead)
            if found is None:
                reason = "it has no data after a run"
            elif lead > 1 and not carries:
                reason = f"it has no entry for each of the {lead} examples of a batch"
            else:
                shape = found.shape[1:] if carries else found.shape
                self.layout.append((shape, found.dtype))
                self._carry.append(carries)
                continue
            self.layout.append(None)
            self._carry.append(False)
            self._skip(at, reason)

    def _skip(self, at: int, reason: str) -> None:
        self.layout[at] = None
        self.events.append({"what": "skipped", "tensor": self.plan.reads[at], "reason": reason})

    def _check_reset(self, kernels: str, machine: Machine, own: int, take: Take, count: int
                     ) -> None:
        """Resource variables and delegates keep their state through a reset."""
        again = self._values(machine, own, take, own, count)
        fresh = self._values(self._machine(kernels), own, take, own, count)
        if not all(a is b or (a is not None and b is not None and a.tobytes() == b.tobytes())
                   for a, b in zip(again, fresh, strict=True)):
            self.plan = replace(self.plan, state="fresh")

    # --- running -------------------------------------------------------------------------------

    def run(self, take: Take, count: int, outs: Sequence[Array | None],
            tick: Callable[[int], None] | None = None) -> None:
        """Run all examples and write what is read into arrays of one entry an example."""
        length = self._piece(count)
        todo = [(at, min(at + length, count)) for at in range(0, count, length)]
        while todo:
            failed, todo = self._pass(take, todo, outs, tick)
            if failed is None:
                return
            if self.plan.state == "kept":
                raise failed
            self._modes.pop(0)
            start = todo[0][0]
            near = min(start + max(2 * self.plan.lead, 2), count) - start
            if isinstance(failed, _Alone):
                self.events.append({"what": "alone", "example": -1})
                self.settle(_from(take, start), near)
                continue
            try:
                self.settle(_from(take, start), near, failed)
            except Refused as refused:
                refused.example = failed.example
                raise refused from None

    def _piece(self, count: int) -> int:
        if self.size > 1:
            return self.size
        return max(1, min(_PIECE, count // (4 * self.plan.workers)))

    def _pass(self, take: Take, todo: list[tuple[int, int]], outs: Sequence[Array | None],
              tick: Callable[[int], None] | None
              ) -> tuple[Refused | _Alone | None, list[tuple[int, int]]]:
        """Run pieces on all workers; the first refusal, and the pieces that it left undone."""
        workers = max(1, min(self.plan.workers, len(todo)))
        while len(self._machines) < workers:
            self._machines.append(self._machine(self._modes[0][0]))
        if self._singles:
            try:
                self._run_piece(0, take, *todo[0], outs)
            except _Alone as alone:
                return alone, todo
            if tick is not None:
                tick(todo[0][1] - todo[0][0])
            todo = todo[1:]
        pieces, lock = iter(todo), threading.Lock()
        left: list[tuple[int, int]] = []
        refusals: list[Refused] = []
        errors: list[BaseException] = []

        def work(number: int) -> None:
            while True:
                with lock:
                    piece = None if refusals or errors else next(pieces, None)
                if piece is None:
                    return
                try:
                    self._run_piece(number, take, *piece, outs)
                    if tick is not None:
                        tick(piece[1] - piece[0])
                except Refused as refused:
                    with lock:
                        refused.example = int(self.marks[1 + number]) - 1
                        refusals.append(refused)
                        left.append(piece)
                    return
                except BaseException as error:
                    errors.append(error)
                    return

        threads = [threading.Thread(target=work, args=(n,)) for n in range(1, workers)]
        for thread in threads:
            thread.start()
        work(0)
        try:
            for thread in threads:
                thread.join()
        except BaseException as error:  # Ctrl-C: the others stop at their next piece
            errors.append(error)
            raise
        if errors:
            raise errors[0]
        return (refusals[0] if refusals else None), sorted([*left, *pieces])

    def _run_piece(self, number: int, take: Take, start: int, stop: int,
                   outs: Sequence[Array | None]) -> None:
        machine, size = self._machines[number], self.size
        feeds = take(start, stop)
        self.marks[1 + number] = self.plan.first + start + 1
        if size > 1:
            try:
                machine.run(_padded(feeds, size))
            except Refused:
                if self._singles:
                    raise _Alone from None
                raise
            self._check_batch(machine, stop - start)
            self._store(machine, outs, start, stop, size)
        else:
            for at in range(start, stop):
                self.marks[1 + number] = self.plan.first + at + 1
                i = at - start
                machine.run([f[i : i + 1] if size else f[i] for f in feeds])
                self._store(machine, outs, at, at + 1, size)
        self.marks[1 + number] = 0

    def _store(self, machine: Machine, outs: Sequence[Array | None], start: int, stop: int,
               size: int) -> None:
        for at, index in enumerate(self.plan.reads):
            laid, out = self.layout[at], outs[at]
            if laid is None or out is None:
                continue
            values = machine.read(index)
            carries = self._carry[at]
            if values is None or values.shape != ((size, *laid[0]) if carries else laid[0]):
                shape = "no data" if values is None else f"shape {values.shape[int(carries):]}"
                self._skip(at, f"example {self.plan.first + start} gives {shape}, "
                               f"the first gave {laid[0]}")
            elif carries:
                out[start:stop] = values[: stop - start]
            else:
                out[start] = values


def _from(take: Take, start: int) -> Take:
    return lambda a, b: take(start + a, start + b)


def _padded(feeds: list[Array], size: int) -> list[Array]:
    """Whole input tensors of some examples; the last one fills up a batch."""
    if size == 0:
        return [values[0] for values in feeds]
    missing = size - len(feeds[0])
    if missing <= 0:
        return feeds
    # Repeating an example is cheaper than allocating for one partial batch.
    return [np.concatenate([v, np.repeat(v[-1:], missing, axis=0)]) for v in feeds]


def same_values(a: Array, b: Array) -> bool:
    """Equal integers, or floats equal to 1e-5 of their largest magnitude; NaN equals NaN."""
    if a.shape != b.shape:
        return False
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    finite = np.abs(a[np.isfinite(a)])
    largest = float(finite.max(initial=0.0))
    return bool(np.allclose(a, b, rtol=0, atol=TOLERANCE * largest, equal_nan=True))


# --- as a child ----------------------------------------------------------------------------------


def limit(memory: int) -> None:
    """Bound address space and written files of this process (POSIX only)."""
    try:
        import resource
    except ImportError:  # Windows has no such limits; the parent's timeout still holds.
        return
    wanted = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: _MAX_LOG,
    }
    for what, value in wanted.items():
        hard = resource.getrlimit(what)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        # macOS refuses some of them.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (value, value))


def shared_memory(handle: int | str, size: int) -> mmap.mmap:
    """Memory that parent and child share, by an inherited file or, on Windows, by name."""
    if isinstance(handle, str):
        return mmap.mmap(-1, size, tagname=f"{handle}-{size}")  # type: ignore[call-arg]
    return mmap.mmap(handle, size)


def array_at(memory: mmap.mmap, place: Sequence[Any]) -> Array:
    """An array in shared memory from its (offset, shape, dtype)."""
    offset, shape, dtype = place
    return np.ndarray(tuple(shape), np.dtype(dtype), buffer=memory, offset=offset)


class _Child:
    """What the child has open."""

    def __init__(self, handle: int | str) -> None:
        self.handle, self.size = handle, 0
        self.memory = shared_memory(handle, PAGE)
        self.marks = np.ndarray((PAGE // 8,), np.int64, buffer=self.memory)
        self.engine: Engine | None = None

    def obey(self, command: dict[str, Any], payload: Callable[[int], bytes]) -> dict[str, Any]:
        if command["do"] == "open":
            self.engine = None  # the old interpreters go before the new ones come
            fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value
                                      for key, value in command["plan"].items()}
            self.engine = Engine(payload(command["bytes"]), Plan(**fields), self.marks)
            return {}
        if command["do"] == "close":
            self.engine = None
            return {}
        if command["size"] != self.size:
            self.memory, self.size = shared_memory(self.handle, command["size"]), command["size"]
        assert self.engine is not None
        feeds = [array_at(self.memory, place) for place in command["feeds"]]

        def take(start: int, stop: int) -> list[Array]:
            return [values[start:stop] for values in feeds]

        before = len(self.engine.events)
        self.engine.plan = replace(self.engine.plan, first=command["first"])
        if command["do"] == "settle":
            self.engine.settle(take, command["count"])
        else:
            outs = [array_at(self.memory, place) if place else None for place in command["outs"]]
            self.engine.run(take, command["count"], outs)
        layout = [laid and (laid[0], laid[1].str) for laid in self.engine.layout]
        return {"layout": layout, "events": self.engine.events[before:], "size": self.engine.size}


def _main(arguments: dict[str, Any]) -> None:
    limit(arguments["memory"])
    # LiteRT may write to standard output; keep the answers apart.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    child = _Child(arguments["handle"])
    source = sys.stdin.buffer
    for line in source:
        try:
            answer = child.obey(json.loads(line), source.read)
        except Refused as refused:
            answer = {"refused": [refused.step, refused.reason, refused.example]}
        except MemoryError:
            answer = {"refused": [0, "MemoryError", -1]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    # Destructors of a damaged model may crash after the answers are known.
    os._exit(0)


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
