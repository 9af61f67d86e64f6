"""Which layers the cost of quantization comes from: one at a time, and all but one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from qinspect import store
from qinspect.errors import DataError, ModelFileError, SpecError
from qinspect.measure.activations import observe_ranges, stored_ranges
from qinspect.measure.error_metrics import error_metrics
from qinspect.predictions import Results
from qinspect.schema import Array
from qinspect.tflite.ancestry import lineage
from qinspect.tflite.graph import Graph
from qinspect.tflite.inputs import Preprocessing, load_examples, prepare
from qinspect.tflite.match import match_graphs
from qinspect.tflite.requantize import (
    PRECISIONS,
    Precision,
    QuantizableOperator,
    Ranges,
    quantizable_operators,
    quantize_file,
)
from qinspect.tflite.run import Evaluation, evaluate
from qinspect.tflite.sandbox import open_model

VariantKind = Literal["float", "full", "only", "all_but", "keep"]


@dataclass(frozen=True)
class Variant:
    """One mixed-precision file, evaluated.

    Attributes
    ----------
    kind : str
        "float"; "full": every layer quantized; "only": one layer quantized; "all_but": one
        layer left as ``keep``; "keep": several left so.
    layers : tuple of QuantizableOperator
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
    layers: tuple[QuantizableOperator, ...]
    bytes: int
    sqnr_db: float
    prediction: Array


def mixed_file(
    graph: Graph,
    ranges: Ranges,
    kept: Sequence[QuantizableOperator],
    *,
    precision: Precision = "int8",
    keep: Precision = "float32",
) -> bytes:
    """A file with every layer at ``precision`` but the ``kept`` ones, which are at ``keep``."""
    return quantize_file(graph, ranges, precision, {layer.index: keep for layer in kept})


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
        self.layers = quantizable_operators(graph, precision)
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

    def keep_curve(self, order: Sequence[QuantizableOperator]) -> list[Variant]:
        """For k = 1, 2, ... the variant that keeps the first k layers of ``order``."""
        return [
            self._make("keep", tuple(order[:k]), self.precision,
                       {layer.index: self.keep for layer in order[:k]})
            for k in range(1, len(order) + 1)
        ]

    def _make(
        self,
        kind: VariantKind,
        layers: tuple[QuantizableOperator, ...],
        precision: Precision,
        chosen: Mapping[int, Precision],
    ) -> Variant:
        content = quantize_file(self.graph, self.ranges, precision, chosen)
        return self._variant(kind, layers, content, self._evaluate(content))

    def _evaluate(self, content: bytes) -> Evaluation:
        result = evaluate(content, self.x, batch_size=self.batch_size, num_threads=self.num_threads)
        self.evaluated += 1
        if self.on_step is not None:
            self.on_step(self.evaluated)
        return result

    def _variant(
        self, kind: VariantKind, layers: tuple[QuantizableOperator, ...], content: bytes,
        result: Evaluation,
    ) -> Variant:
        sqnr = error_metrics(self.reference.outputs, result.outputs)["sqnr_db"]
        return Variant(kind, layers, len(content), sqnr, result.prediction)


def sensitivity_order(variants: Sequence[Variant]) -> list[QuantizableOperator]:
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


# --- Which layers cost the accuracy, and which to keep from quantization: m ---------------------

# One row a layer and variant ("only" it quantized, "all_but" it), or a point of the curve
# ("keep"); differences are to the float file and to the fully quantized one.
SENSITIVITY = (
    "variant", "layer", "op", "kept", "bytes", "sqnr_db", "agreement", "accuracy",
    "to_float_pp", "to_float_low_pp", "to_float_high_pp", "to_float_p",
    "to_full_pp", "to_full_low_pp", "to_full_high_pp", "to_full_p",
)


@dataclass(frozen=True)
class Sensitivity:
    """What each layer costs, and what keeping the worst ones buys.

    Attributes
    ----------
    layers : DataFrame
        Columns ``SENSITIVITY``: the rows "float" and "full", then two rows a layer in the
        order of execution.  ``agreement`` is the share of examples classified as the float file
        does; ``accuracy`` and what rests on it is NaN without labels.
    curve : DataFrame
        Same columns: row k keeps the first k layers of ``order``; the row "full" (k = 0) first.
        With all layers kept the file's input and output are still integers.
    order : tuple of QuantizableOperator
        Layers from the most to the least sensitive.
    precision, keep : str
        Of quantized layers, and of those that are kept.
    n : int
        Examples.
    confidence : float
        Of the intervals, each on its own: they are not corrected for the number of layers.
    notes : tuple of str
        What the reader should know about how it was made.
    """

    layers: pd.DataFrame
    curve: pd.DataFrame
    order: tuple[QuantizableOperator, ...]
    precision: Precision
    keep: Precision
    n: int
    confidence: float
    notes: tuple[str, ...]
    graph: Graph
    ranges: Ranges

    def proposal(self, margin_pp: float = 1.0) -> int | None:
        """Fewest layers to keep so that the file is not worse than float by ``margin_pp`` or more.

        The first row of the curve whose interval of the accuracy difference to float stays above
        -``margin_pp``.  It is chosen on the examples it is judged by: confirm it on others.

        Parameters
        ----------
        margin_pp : float
            Loss that would matter, percentage points, above 0.

        Returns
        -------
        int or None
            None where no row qualifies, or without labels.

        Raises
        ------
        SpecError
            If the margin is not above 0.
        """
        if not margin_pp > 0:
            raise SpecError(f"the margin is {margin_pp:g} points; it must be above 0.")
        good = np.flatnonzero((self.curve["to_float_low_pp"] > -margin_pp).to_numpy())
        return int(self.curve["kept"].iloc[good[0]]) if len(good) else None

    def mixed_file(self, kept: int) -> bytes:
        """The file of row ``kept`` of the curve.

        Raises
        ------
        SpecError
            If ``kept`` is not between 0 and the number of layers.
        """
        if not 0 <= kept <= len(self.order):
            raise SpecError(
                f"{kept} layers cannot be kept of {len(self.order)}; choose 0 to {len(self.order)}."
            )
        return mixed_file(
            self.graph, self.ranges, self.order[:kept], precision=self.precision, keep=self.keep
        )


def sensitivity(
    float_graph: Graph,
    x: Array,
    y: Array | None = None,
    *,
    groups: Array | None = None,
    calibration_x: Array | None = None,
    quantized: Graph | None = None,
    precision: Precision = "int8",
    keep: Precision = "float32",
    confidence: float = 0.95,
    batch_size: int = 128,
    num_threads: int = 2,
    on_step: Callable[[int, int], None] | None = None,
) -> Sensitivity:
    """Quantize one layer at a time, and all but one, from a float ``.tflite`` file alone.

    Parameters
    ----------
    float_graph : Graph
        A float32 file.
    x : ndarray, shape (n, ...)
        Evaluation examples as the float model takes them.
    y : ndarray of int, shape (n,), optional
        Their labels; without them only output SQNR and agreement are measured.
    groups : ndarray, shape (n,), optional
        Cluster of each example, if any.
    calibration_x : ndarray, shape (m, ...), optional
        Calibration examples; ranges are their minimum and maximum.
    quantized : Graph, optional
        A studied file; its stored ranges and weight granularity are used instead, and those of
        ``calibration_x`` only where it has none.
    precision : {"int8", "int16x8"}
        Of quantized layers.
    keep : {"float32", "int16x8"}
        Of layers kept from it.
    confidence : float
        Level of the paired intervals.
    batch_size, num_threads : int
        Of the evaluation.
    on_step : callable, optional
        Called with the number of files evaluated and the number there will be.

    Returns
    -------
    Sensitivity

    Raises
    ------
    SpecError
        If neither calibration examples nor a quantized file are given, or an option is not
        allowed.
    DataError
        If the examples or labels do not fit.
    ModelFileError
        If a file is not what it should be.
    """
    if y is not None and len(y) != len(x):
        raise DataError(f"there are {len(x)} examples but {len(y)} labels.")
    ranges, notes = choose_ranges(float_graph, calibration_x, quantized, num_threads=num_threads)
    total = 0

    def step(done: int) -> None:
        if on_step is not None:
            on_step(done, total)

    bench = Bench(
        float_graph, ranges, x, precision=precision, keep=keep, batch_size=batch_size,
        num_threads=num_threads, on_step=step,
    )
    total = 2 + 3 * len(bench.layers)
    variants = [bench.float, bench.full, *bench.one_at_a_time()]
    order = sensitivity_order(variants)
    curve = [bench.full, *bench.keep_curve(order)]
    given = None
    if y is not None:
        given = Results({"float": bench.float.prediction, "full": bench.full.prediction},
                        np.asarray(y), groups=groups, confidence=confidence)
    table = _Table(bench, given)
    return Sensitivity(
        layers=table.frame(variants),
        curve=table.frame(curve),
        order=tuple(order),
        precision=precision,
        keep=keep,
        n=len(x),
        confidence=confidence,
        notes=notes,
        graph=float_graph,
        ranges=ranges,
    )


def choose_ranges(
    float_graph: Graph,
    calibration_x: Array | None,
    quantized: Graph | None,
    *,
    num_threads: int = 2,
) -> tuple[Ranges, tuple[str, ...]]:
    """Ranges of a quantized file if there is one, else of calibration examples; and notes.

    Raises
    ------
    SpecError
        If neither is given.
    ModelFileError
        If the quantized file is another network.
    """
    observed = None
    if calibration_x is not None:
        observed = observe_ranges(float_graph, calibration_x, num_threads=num_threads)
    if quantized is None:
        if observed is None:
            raise SpecError(
                "ranges come from calibration examples or from a quantized file; give one of them."
            )
        return observed.over(), (
            f"ranges: minimum and maximum over {len(observed)} calibration examples.",
        )
    if lineage(float_graph, quantized).verdict == "unrelated":
        raise ModelFileError(
            f"{quantized.file} and {float_graph.file} are unrelated networks, so the ranges of one "
            "say nothing about the other."
        )
    matched = match_graphs(float_graph, quantized)
    ranges, borrowed = stored_ranges(
        float_graph, quantized, matched, observed.over() if observed else None
    )
    notes = [f"ranges and weight granularity: as stored in {quantized.file}."]
    if borrowed:
        notes.append(
            f"{len(borrowed)} tensors have no range there; theirs come from the calibration "
            f"examples: {', '.join(borrowed[:5])}{' and more' if len(borrowed) > 5 else ''}."
        )
    return ranges, tuple(notes)


class _Table:
    """Rows of the frame, each variant paired with the float file and with the full one."""

    def __init__(self, bench: Bench, results: Results | None) -> None:
        self.bench, self.results = bench, results

    def frame(self, variants: list[Variant]) -> pd.DataFrame:
        return pd.DataFrame([self._row(v) for v in variants], columns=list(SENSITIVITY))

    def _row(self, variant: Variant) -> dict[str, Any]:
        last = variant.layers[-1] if variant.layers else None
        row: dict[str, Any] = {
            "variant": variant.kind,
            "layer": last.name if last else "",
            "op": last.op if last else "",
            "kept": len(variant.layers) if variant.kind == "keep" else 0,
            "bytes": variant.bytes,
            "sqnr_db": variant.sqnr_db,
            "agreement": float(np.mean(variant.prediction == self.bench.float.prediction)),
        }
        if self.results is not None:
            paired = self.results.with_outputs(variant=variant.prediction)
            row["accuracy"] = paired.value("variant")
            for reference in ("float", "full"):
                c = paired.comparison(reference, "variant")
                name = f"to_{reference}"
                row |= {f"{name}_pp": c.diff_pp, f"{name}_low_pp": c.ci_pp[0],
                        f"{name}_high_pp": c.ci_pp[1], f"{name}_p": c.p}
        return row


# --- Sensitivity from files to files ------------------------------------------------------------


def sensitivity_of_files(
    float_file: str | os.PathLike[str],
    data: str | os.PathLike[str],
    calibration: str | os.PathLike[str] | None = None,
    quantized_file: str | os.PathLike[str] | None = None,
    *,
    precision: str = "int8",
    keep: str = "float32",
    preprocessing: Preprocessing | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Sensitivity:
    """Sensitivity of a float ``.tflite`` file, see :func:`qinspect.measure.layer_cost`.

    Parameters
    ----------
    float_file : path
        The float32 file; it is first tried in a child process.
    data : path
        ``.npz`` with ``x`` and, if known, ``y``.
    calibration : path, optional
        ``.npz`` with ``x``.
    quantized_file : path, optional
        A studied file whose stored ranges are used.
    precision, keep : str
        Of quantized layers, and of those that are kept.
    preprocessing : Preprocessing, optional
        Of both ``x``.
    on_step : callable, optional
        Called with the number of files evaluated and the number there will be.

    Raises
    ------
    DataError, ModelFileError, SpecError
        One sentence each.
    """
    graph = open_model(float_file)
    quantized = None if quantized_file is None else open_model(quantized_file)
    how = preprocessing or Preprocessing()
    examples, labelled = load_examples(data)
    x = _real(examples.x, graph, quantized, how)
    calibration_x = None
    if calibration is not None:
        loaded, _ = load_examples(calibration)
        calibration_x = _real(loaded.x, graph, quantized, how)
    return sensitivity(
        graph, x, examples.y + how.label_offset if labelled else None, groups=examples.group,
        calibration_x=calibration_x, quantized=quantized,
        precision=_precision("precision", precision), keep=_precision("keep", keep),
        on_step=on_step,
    )


def write_mixed(
    result: Sensitivity,
    path: str | os.PathLike[str],
    kept: int | None = None,
    *,
    margin_pp: float = 1.0,
) -> int:
    """Write the file that keeps the most sensitive layers, atomically.

    Parameters
    ----------
    result : Sensitivity
    path : path
        Where to write.
    kept : int, optional
        How many layers to keep; by default the proposal for ``margin_pp``.

    Returns
    -------
    int
        Layers kept.

    Raises
    ------
    SpecError
        If there is no proposal and no number, or the number is not possible.
    StoreError
        If the file cannot be written.
    """
    number = result.proposal(margin_pp) if kept is None else kept
    if number is None:
        raise SpecError(
            "there is no proposal to write (no labels, or no point of the curve is good enough); "
            "say how many layers to keep with --keep."
        )
    store.write_bytes(Path(path), result.mixed_file(number))
    return number


def _real(x: Array, graph: Graph, quantized: Graph | None, how: Preprocessing) -> Array:
    """Examples as the float model takes them, checked against the quantized input if any."""
    real, _ = prepare(x, graph, how)
    if quantized is not None:
        prepare(real, quantized, Preprocessing())
    return real


def _precision(option: str, value: str) -> Precision:
    for known in PRECISIONS:
        if value == known:
            return known  # type: ignore[return-value]
    raise SpecError(f"{option} is {value!r}; choose one of {', '.join(PRECISIONS)}.")
