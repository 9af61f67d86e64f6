"""Which layers cost the accuracy, and which to keep from quantization: measured, then proposed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from qinspect.errors import DataError, ModelFileError, SpecError
from qinspect.measure.calibrate import observe_ranges, stored_ranges
from qinspect.measure.sensitivity import Bench, Variant, mixed_file, sensitivity_order
from qinspect.schema import Array, Graph
from qinspect.stats import compare_paired
from qinspect.tflite.lineage import lineage
from qinspect.tflite.match import match_graphs
from qinspect.tflite.quantize import Layer, Precision, Ranges

# One row a layer and variant ("only" it quantized, "all_but" it), or a point of the curve
# ("keep"); differences are to the float file and to the fully quantized one.
SENSITIVITY = (
    "variant", "layer", "op", "kept", "bytes", "sqnr_db", "agreement", "accuracy",
    "to_float_pp", "to_float_low_pp", "to_float_high_pp", "to_float_p",
    "to_full_pp", "to_full_low_pp", "to_full_high_pp", "to_full_p",
)  # fmt: skip


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
    order : tuple of Layer
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
    order: tuple[Layer, ...]
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
    )  # fmt: skip
    total = 2 + 3 * len(bench.layers)
    variants = [bench.float, bench.full, *bench.one_at_a_time()]
    order = sensitivity_order(variants)
    curve = [bench.full, *bench.keep_curve(order)]
    table = _Table(bench, y, confidence)
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

    def __init__(self, bench: Bench, y: Array | None, confidence: float) -> None:
        self.bench, self.confidence = bench, confidence
        self.y = None if y is None else np.asarray(y)

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
            "accuracy": math.nan,
        }
        if self.y is not None:
            row["accuracy"] = float(np.mean(variant.prediction == self.y))
        return {
            **row,
            **self._paired("to_float", self.bench.float, variant),
            **self._paired("to_full", self.bench.full, variant),
        }

    def _paired(self, name: str, reference: Variant, variant: Variant) -> dict[str, float]:
        if self.y is None:
            keys = (f"{name}_pp", f"{name}_low_pp", f"{name}_high_pp", f"{name}_p")
            return dict.fromkeys(keys, math.nan)
        # The interval reported is Tango's, which needs no resampling.
        c = compare_paired(
            reference.prediction == self.y, variant.prediction == self.y,
            confidence=self.confidence, n_resamples=1,
        )  # fmt: skip
        return {
            f"{name}_pp": c.diff_pp,
            f"{name}_low_pp": c.ci_pp[0],
            f"{name}_high_pp": c.ci_pp[1],
            f"{name}_p": c.mcnemar_p,
        }
