"""Which layers the cost of quantization comes from: one at a time, and all but one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from qinspect.errors import SpecError
from qinspect.measure.metrics import error_metrics
from qinspect.schema import Array, Evaluation, Graph
from qinspect.tflite.quantize import Layer, Precision, Ranges, quantizable_layers, quantize
from qinspect.tflite.run import evaluate

VariantKind = Literal["float", "full", "only", "all_but", "keep"]


@dataclass(frozen=True)
class Variant:
    """One mixed-precision file, evaluated.

    Attributes
    ----------
    kind : str
        "float"; "full": every layer quantized; "only": one layer quantized; "all_but": one
        layer left as ``keep``; "keep": several left so.
    layers : tuple of Layer
        The layer or layers that ``kind`` speaks of.
    bytes : int
        Size of the file.
    sqnr_db : float
        Output SQNR against the float file, over all outputs of all examples: 10 log10 of sum
        float^2 / sum difference^2; inf where they are equal.
    prediction : ndarray of int64, shape (n,)
        Predicted class of each example.
    """

    kind: VariantKind
    layers: tuple[Layer, ...]
    bytes: int
    sqnr_db: float
    prediction: Array


def mixed_file(
    graph: Graph,
    ranges: Ranges,
    kept: Sequence[Layer],
    *,
    precision: Precision = "int8",
    keep: Precision = "float32",
) -> bytes:
    """A file with every layer at ``precision`` but the ``kept`` ones, which are at ``keep``."""
    return quantize(graph, ranges, precision, {layer.index: keep for layer in kept})


class Bench:
    """Evaluates mixed-precision versions of one float file on the same examples.

    Parameters
    ----------
    graph : Graph
        A float32 file.
    ranges : Ranges
        Ranges of its activations.
    x : ndarray, shape (n, ...)
        Examples as the float model takes them.
    precision : {"int8", "int16x8"}
        Of quantized layers.
    keep : {"float32", "int16x8"}
        Of layers that are kept from it.
    on_step : callable, optional
        Called with the number of files evaluated so far.
    """

    def __init__(
        self,
        graph: Graph,
        ranges: Ranges,
        x: Array,
        *,
        precision: Precision = "int8",
        keep: Precision = "float32",
        batch_size: int = 128,
        num_threads: int = 2,
        on_step: Callable[[int], None] | None = None,
    ) -> None:
        if precision == "float32" or keep == precision:
            raise SpecError(
                f"layers cannot be quantized to {precision} and kept as {keep}; choose int8 or "
                "int16x8, and another precision for those that are kept."
            )
        self.graph, self.ranges, self.x = graph, ranges, x
        self.precision, self.keep = precision, keep
        self.batch_size, self.num_threads, self.on_step = batch_size, num_threads, on_step
        self.layers = quantizable_layers(graph, precision)
        if not self.layers:
            raise SpecError(f"{graph.file} has no layer that can be quantized to {precision}.")
        self.evaluated = 0
        self.reference = self._evaluate(graph.content)
        self.float = self._variant("float", (), graph.content, self.reference)
        self.full = self._make("full", (), precision, {})

    def one_at_a_time(self) -> list[Variant]:
        """For each layer two variants: "only" it quantized, and "all_but" it."""
        found = []
        for layer in self.layers:
            only: dict[int, Precision] = {layer.index: self.precision}
            found.append(self._make("only", (layer,), "float32", only))
            found.append(self._make("all_but", (layer,), self.precision, {layer.index: self.keep}))
        return found

    def keep_curve(self, order: Sequence[Layer]) -> list[Variant]:
        """For k = 1, 2, ... the variant that keeps the first k layers of ``order``."""
        return [
            self._make("keep", tuple(order[:k]), self.precision,
                       {layer.index: self.keep for layer in order[:k]})
            for k in range(1, len(order) + 1)
        ]  # fmt: skip

    def _make(
        self,
        kind: VariantKind,
        layers: tuple[Layer, ...],
        precision: Precision,
        chosen: Mapping[int, Precision],
    ) -> Variant:
        content = quantize(self.graph, self.ranges, precision, chosen)
        return self._variant(kind, layers, content, self._evaluate(content))

    def _evaluate(self, content: bytes) -> Evaluation:
        result = evaluate(content, self.x, batch_size=self.batch_size, num_threads=self.num_threads)
        self.evaluated += 1
        if self.on_step is not None:
            self.on_step(self.evaluated)
        return result

    def _variant(
        self, kind: VariantKind, layers: tuple[Layer, ...], content: bytes, result: Evaluation
    ) -> Variant:
        sqnr = error_metrics(self.reference.outputs, result.outputs)["sqnr_db"]
        return Variant(kind, layers, len(content), sqnr, result.prediction)


def sensitivity_order(variants: Sequence[Variant]) -> list[Layer]:
    """Layers from the most to the least sensitive.

    Sorted by the output SQNR with only that layer quantized, the lowest first.  "All but" is no
    use for this: a tensor that two layers share stays quantized when one of them is kept, so
    neither seems to matter.

    Parameters
    ----------
    variants : sequence of Variant
        From :meth:`Bench.one_at_a_time`.
    """
    alone = [v for v in variants if v.kind == "only"]
    return [v.layers[0] for v in sorted(alone, key=lambda v: v.sqnr_db)]
