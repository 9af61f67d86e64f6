"""Read intermediate tensors of a network batch by batch."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from qinspect.errors import DataError, ModelFileError, SpecError
from qinspect.schema import Array
from qinspect.tflite.graph import Graph
from qinspect.tflite.match import GraphMatch
from qinspect.tflite.run import Kernels, cannot_run, feed, make_interpreter


class Pair(NamedTuple):
    """Operators of two networks that compute the same thing."""

    op_a: int
    op_b: int
    layer: str = ""  # that of file a's output tensor where it is empty
    output_a: int = -1  # the first output of the operator where it is -1
    output_b: int = -1
    # Further operators of the layer, such as an activation that the other file has fused.
    absorbed_a: tuple[int, ...] = ()
    absorbed_b: tuple[int, ...] = ()


Pairs = GraphMatch | Sequence[Pair] | Sequence[tuple[int, int]]
# Float kernels may sum in another order for another batch size or another partition of the graph.
_FLOAT_TOLERANCE = 1e-5


def as_pairs(pairs: Pairs, graph_a: Graph, graph_b: Graph) -> list[Pair]:
    """Pairs with names and output tensors filled in."""
    if isinstance(pairs, GraphMatch):
        given = [
            Pair(m.a, m.b, m.layer, m.output_a, m.output_b, m.absorbed_a, m.absorbed_b)
            for m in pairs.pairs
        ]
    else:
        given = [Pair(*pair) for pair in pairs]
    named = []
    for pair in given:
        for op, graph in ((pair.op_a, graph_a), (pair.op_b, graph_b)):
            if not 0 <= op < len(graph.main.operators):
                raise SpecError(
                    f"there is no operator {op} in {graph.file}, which has "
                    f"{len(graph.main.operators)}."
                )
        if pair.output_a < 0:
            pair = pair._replace(output_a=graph_a.main.operators[pair.op_a].outputs[0])
        if pair.output_b < 0:
            pair = pair._replace(output_b=graph_b.main.operators[pair.op_b].outputs[0])
        named.append(pair._replace(layer=pair.layer or graph_a.main.tensors[pair.output_a].name))
    return named


class Probe:
    """An interpreter that returns chosen tensors for every example of a batch."""

    # Whole batches where the graph allows it: if every tensor takes the batch as its leading
    # dimension and the first example of the first batch gives the same values alone.  Otherwise one
    # example at a time, which `notes` says.  `preserve`: intermediate tensors must be kept.
    def __init__(
        self,
        content: bytes,
        name: str,
        inputs: tuple[int, ...],
        tensors: tuple[int, ...],
        *,
        preserve: bool,
        num_threads: int = 1,
        kernels: Kernels = "default",
    ) -> None:
        self.content, self.name = content, name
        self.inputs, self.tensors = inputs, tensors
        self.preserve, self.num_threads, self.kernels = preserve, num_threads, kernels
        self.notes: tuple[str, ...] = ()
        self._single = self._open(preserve)
        self._shapes = {i: tuple(self._single.get_tensor(i).shape) for i in tensors}
        self._batched: Any = None
        self._batch = 0

    def _open(self, preserve: bool) -> Any:
        with warnings.catch_warnings():
            # LiteRT warns that keeping tensors costs memory; that is what is wanted here.
            warnings.simplefilter("ignore", UserWarning)
            interpreter = make_interpreter(
                self.content,
                self.name,
                num_threads=self.num_threads,
                kernels=self.kernels,
                preserve_all_tensors=preserve,
            )
        try:
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise cannot_run(self.name, error) from error
        return interpreter

    def run(self, feeds: dict[int, Array], *, copy: bool = True) -> dict[int, Array]:
        """Stored values of the chosen tensors, (batch, ...), for those of every input."""
        # Without copies the arrays may be views of the interpreter's memory, and LiteRT refuses the
        # next run while one of them is still held.
        count = len(next(iter(feeds.values())))
        if not self._batch:
            self._start(feeds, count)
        if self._batched is None:
            return self._one_by_one(feeds, count)
        parts = []
        for start in range(0, count, self._batch):
            part = {i: v[start : start + self._batch] for i, v in feeds.items()}
            found = self._whole(part, min(self._batch, count - start))
            if copy or count > self._batch:
                found = {i: values.copy() for i, values in found.items()}
            parts.append(found)
        if len(parts) == 1:
            return parts[0]
        return {i: np.concatenate([part[i] for part in parts]) for i in self.tensors}

    def _start(self, feeds: dict[int, Array], count: int) -> None:
        """Fix the batch size, and check on the first example that batching changes nothing."""
        self._batch = count
        alone = self._one_by_one({i: v[:1] for i, v in feeds.items()}, 1)
        if count == 1:
            return
        interpreter = self._open(self.preserve)
        try:
            for i, values in feeds.items():
                interpreter.resize_tensor_input(i, values.shape)
            interpreter.allocate_tensors()
            self._batched = interpreter
            together = self._whole(feeds, count)
            fits = all(self._shapes[i][:1] == (1,) and same_values(together[i][:1], alone[i])
                       for i in self.tensors)
        except (ValueError, RuntimeError):
            fits = False
        if not fits:
            self._batched = None
            self.notes = (
                f"{self.name} cannot run in batches (its graph fixes the batch size); "
                "it was run one example at a time.",
            )

    def _whole(self, feeds: dict[int, Array], count: int) -> dict[int, Array]:
        interpreter = self._batched
        for i, values in feeds.items():
            if count < self._batch:
                # Repeating the last example is cheaper than allocating for one partial batch.
                last = np.repeat(values[-1:], self._batch - count, axis=0)
                values = np.concatenate([values, last])
            interpreter.set_tensor(i, values)
        interpreter.invoke()
        # Copying every activation of every example would cost as much as comparing them.
        return {i: interpreter.tensor(i)()[:count] for i in self.tensors}

    def _one_by_one(self, feeds: dict[int, Array], count: int) -> dict[int, Array]:
        results: dict[int, list[Array]] = {i: [] for i in self.tensors}
        for at in range(count):
            try:
                for i, values in feeds.items():
                    shape = tuple(self._single.get_tensor(i).shape)
                    self._single.set_tensor(i, values[at].reshape(shape))
                self._single.invoke()
            except (ValueError, RuntimeError) as error:
                raise cannot_run(self.name, error) from error
            for i in self.tensors:
                results[i].append(self._single.get_tensor(i))
        return {
            i: np.concatenate(parts) if self._shapes[i][:1] == (1,) else np.stack(parts)
            for i, parts in results.items()
        }


def network_probe(
    graph: Graph, tensors: Iterable[int], *, num_threads: int = 1, kernels: Kernels = "default"
) -> Probe:
    """A probe of intermediate tensors of a whole network with one input."""
    if len(graph.main.inputs) != 1:
        raise ModelFileError(
            f"{graph.file} has {len(graph.main.inputs)} inputs; "
            "only networks with one input can be measured."
        )
    # Outputs come along so that they can be compared with those of a plain run.
    wanted = tuple(dict.fromkeys([*tensors, *graph.main.outputs]))
    return Probe(graph.content, graph.file, graph.main.inputs, wanted, preserve=True,
                 num_threads=num_threads, kernels=kernels)


def plain_run_note(graph: Graph, probe: Probe, feed: Array, kept: dict[int, Array]) -> str | None:
    """What keeping all tensors changed in the outputs, or None where nothing."""
    # Keeping tensors can change which kernels run; the first example is run once more without.
    index = graph.main.inputs[0]
    plain = Probe(graph.content, graph.file, (index,), graph.main.outputs, preserve=False,
                  num_threads=probe.num_threads, kernels=probe.kernels)
    outputs = plain.run({index: feed[:1]})
    largest = 0.0
    for i in graph.main.outputs:
        if not same_values(kept[i][:1], outputs[i]):
            gap = np.abs(kept[i][:1].astype(np.float64) - outputs[i])
            largest = float(np.maximum(largest, gap.max()))
    if largest == 0:
        return None
    return (
        f"{graph.file}: keeping all tensors changed the outputs of the first example by up to "
        f"{largest:g} (stored units) against a plain run, because other kernels run."
    )


def same_values(a: Array, b: Array) -> bool:
    """Equal integers, or floats equal to 1e-5 of their largest magnitude; NaN equals NaN."""
    if a.shape != b.shape:
        return False
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    finite = np.abs(b[np.isfinite(b)])
    largest = float(finite.max(initial=0.0))
    return bool(np.allclose(a, b, rtol=0, atol=_FLOAT_TOLERANCE * largest, equal_nan=True))


def batches(x: Array | Iterable[Array], batch_size: int) -> Iterator[Array]:
    """Batches of at most ``batch_size`` examples of an array, or of an iterable of arrays."""
    seen = False
    for part in [x] if isinstance(x, np.ndarray) else x:
        for start in range(0, len(part), batch_size):
            seen = True
            yield np.asarray(part[start : start + batch_size])
    if not seen:
        raise DataError("there are no examples to measure (x is empty).")


def network_feed(graph: Graph, x: Array) -> Array:
    """A batch in the dtype of the network's input, quantized where that is an integer."""
    return feed(x, graph.main.tensors[graph.main.inputs[0]], graph.file)
