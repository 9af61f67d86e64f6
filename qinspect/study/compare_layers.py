"""The parts of a comparison that look inside the files: layers, scales, kernels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from qinspect.errors import QinspectError
from qinspect.measure.calibrate import ObservedRanges, observe_ranges
from qinspect.measure.local import layer_errors
from qinspect.measure.metrics import error_metrics
from qinspect.measure.recipe import recipe_table
from qinspect.schema import Array, Graph, GraphMatch
from qinspect.study.preprocess import Preprocessing, prepare
from qinspect.tflite import evaluate, match_graphs, scheme_of
from qinspect.tflite.quantize import stored_bounds


def layer_rows(
    models: Sequence[tuple[str, Graph, Array, Preprocessing]],
    calibration_x: Array | None,
    *,
    num_threads: int = 2,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Errors of every layer of every other file against the first float32 file.

    Parameters
    ----------
    models : sequence of (name, graph, x, preprocessing)
        ``x`` as each file takes it.
    calibration_x : ndarray or None
        Calibration examples, before preprocessing.
    num_threads : int
        Of the measurement.

    Returns
    -------
    rows : list of dict
        ``schema.ERRORS`` with a, b (names), stored_low, stored_high (ends of the stored range of
        the output) and, given calibration examples, calibration_low, calibration_high (minimum and
        maximum of the float file on them) and range_ratio (stored over calibration width).
    notes : list of str
        What is missing, and why.
    """
    floats = [m for m in models if scheme_of(m[1]) == "float32"]
    if not floats:
        return [], ["no file is float32, so the errors of layers have no reference."]
    name, graph, x, how = floats[0]
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    observed = None
    if calibration_x is not None:
        try:
            real, _ = prepare(calibration_x, graph, how)
            observed = observe_ranges(graph, real, num_threads=num_threads)
        except QinspectError as error:
            notes.append(f"no calibration ranges: {error}")
    for other, quantized, fed, _ in models:
        if other == name:
            continue
        if fed.shape != x.shape or not np.array_equal(fed, x):
            notes.append(
                f"no layer errors of {other}: it is given other values than {name}, so its "
                "layers cannot be compared."
            )
            continue
        matched = match_graphs(graph, quantized)
        try:
            found = layer_errors(
                graph, quantized, matched, x, histograms=False, num_threads=num_threads
            )
        except QinspectError as error:
            notes.append(f"no layer errors of {other}: {error}")
            continue
        notes += [f"{other}: {note}" for note in found.notes]
        ranges = _ranges(graph, quantized, matched, observed)
        for row in records(found.errors):
            rows.append({"a": name, "b": other, **row, **ranges.get(row["layer"], {})})
    return rows, notes


def _ranges(
    graph: Graph, quantized: Graph, matched: GraphMatch, observed: ObservedRanges | None
) -> dict[str, dict[str, float | None]]:
    seen = observed.over().bounds if observed is not None else {}
    found: dict[str, dict[str, float | None]] = {}
    for pair in matched.pairs:
        stored = stored_bounds(quantized.main.tensors[pair.output_b])
        low, high = stored or (None, None)
        row: dict[str, float | None] = {"stored_low": low, "stored_high": high}
        if observed is not None:
            real = seen.get(graph.main.tensors[pair.output_a].name)
            row["calibration_low"], row["calibration_high"] = real or (None, None)
            row["range_ratio"] = None
            if stored is not None and real is not None and real[1] > real[0]:
                # Ranges are widened to hold zero before they are stored.
                width = max(real[1], 0.0) - min(real[0], 0.0)
                row["range_ratio"] = (stored[1] - stored[0]) / width
        found[pair.layer] = row
    return found


def recipe_rows(models: Sequence[tuple[str, Graph]]) -> list[dict[str, Any]]:
    """How each two quantized files quantize the same layers, see ``measure.recipe_table``."""
    quantized = [(name, graph) for name, graph in models if scheme_of(graph) != "float32"]
    rows: list[dict[str, Any]] = []
    for (a, first), (b, second) in combinations(quantized, 2):
        table = recipe_table(first, second, match_graphs(first, second))
        rows += [{"a": a, "b": b, **row} for row in records(table)]
    return rows


def kernel_row(
    name: str, graph: Graph, x: Array, y: Array | None, ids: Array, *, num_threads: int = 2
) -> dict[str, Any]:
    """Default (XNNPACK) kernels against reference kernels on the same examples.

    Returns
    -------
    dict
        file, examples, flips (examples classified differently), flip_ids, max_abs (largest
        difference of an output, real units), output_sqnr_db, accuracy_default,
        accuracy_reference (None without labels), error (why reference kernels did not run).
    """
    row: dict[str, Any] = {
        "file": name, "examples": len(x), "flips": None, "flip_ids": [], "max_abs": None,
        "output_sqnr_db": None, "accuracy_default": None, "accuracy_reference": None,
        "error": None,
    }  # fmt: skip
    default = evaluate(graph.content, x, num_threads=num_threads)
    try:
        reference = evaluate(graph.content, x, num_threads=num_threads, kernels="reference")
    except QinspectError as error:
        return {**row, "error": str(error)}
    flips = default.prediction != reference.prediction
    gap = np.abs(default.outputs.astype(np.float64) - reference.outputs)
    row |= {
        "flips": int(flips.sum()),
        "flip_ids": ids[flips],
        "max_abs": float(gap.max()),
        "output_sqnr_db": output_sqnr(reference.outputs, default.outputs),
    }
    if y is not None:
        row["accuracy_default"] = float(np.mean(default.prediction == y))
        row["accuracy_reference"] = float(np.mean(reference.prediction == y))
    return row


def output_sqnr(reference: Array, other: Array) -> float | None:
    """SQNR of outputs in dB; None where shapes differ or the outputs are equal (no error)."""
    if reference.size != other.size:
        return None
    value = error_metrics(reference.reshape(-1), other.reshape(-1))["sqnr_db"]
    return value if np.isfinite(value) else None


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a frame as dicts with text keys."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]
