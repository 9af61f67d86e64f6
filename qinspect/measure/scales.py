"""Scale, granularity and range of every matched layer of two files, side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from qinspect.measure.probe import Pairs, as_pairs
from qinspect.measure.weights import granularity, weight_tensor
from qinspect.tflite.graph import Graph, Tensor

# For each layer a row "output" and, where it has weights, one "weights".  Scales of several
# channels stand as their median.  scale_ratio: scale_b / scale_a, median over channels; bits_lost:
# its base-2 logarithm, above 0 where file b is the coarser.  low, high: ends of the range that can
# be stored, real units, over all channels.  used_share: width of the observed range, as far as the
# file can store it, over the width that it can store; 1 / 2**k leaves k bits unused.  A range of
# quantization-aware training that never left its start stands out by low_b, high_b near -6 and 6
# and a small used_share_b.
SCALES = ("layer", "op", "tensor", "dtype_a", "dtype_b", "granularity_a", "granularity_b",
          "scale_a", "scale_b", "scale_ratio", "bits_lost", "low_a", "high_a", "low_b", "high_b",
          "observed_low", "observed_high", "used_share_a", "used_share_b")


def scale_table(
    graph_a: Graph, graph_b: Graph, pairs: Pairs, observed: pd.DataFrame | None = None
) -> pd.DataFrame:
    """How two files quantize the same layers: :data:`SCALES`; NaN where floats or not observed."""
    # `observed`: rows of `schema.TENSORS` with the ranges that occur, for example in the float
    # network, under the layer names of the pairs.
    ranges: dict[str, tuple[float, float]] = {}
    if observed is not None:
        whole = observed[observed["channel"] == -1]
        ranges = {
            str(layer): (float(low), float(high))
            for layer, low, high in zip(whole["layer"], whole["min"], whole["max"], strict=True)
        }
    rows = []
    for pair in as_pairs(pairs, graph_a, graph_b):
        outputs = (graph_a.main.tensors[pair.output_a], graph_b.main.tensors[pair.output_b])
        head = {"layer": pair.layer, "op": graph_b.main.operators[pair.op_b].code}
        rows.append(head | _row("output", *outputs, ranges.get(pair.layer)))
        weights = (weight_tensor(graph_a, pair.op_a), weight_tensor(graph_b, pair.op_b))
        if weights[0] is not None and weights[1] is not None:
            rows.append(head | _row("weights", weights[0], weights[1], None))
    return pd.DataFrame.from_records(rows, columns=list(SCALES))


def _row(what: str, a: Tensor, b: Tensor, observed: tuple[float, float] | None) -> dict[str, Any]:
    nan = float("nan")
    row: dict[str, Any] = {"tensor": what, "scale_ratio": nan, "bits_lost": nan}
    row["observed_low"], row["observed_high"] = observed or (nan, nan)
    scales = []
    for side, tensor in (("a", a), ("b", b)):
        affine = tensor.affine
        row[f"dtype_{side}"] = tensor.dtype
        row[f"granularity_{side}"] = granularity(tensor)
        row |= {f"{name}_{side}": nan for name in ("scale", "low", "high", "used_share")}
        if affine is None:
            continue
        scales.append(affine.scale)
        low, high = float(affine.real_low.min()), float(affine.real_high.max())
        row[f"scale_{side}"] = float(np.median(affine.scale))
        row[f"low_{side}"], row[f"high_{side}"] = low, high
        if observed is not None and high > low:
            seen = min(observed[1], high) - max(observed[0], low)
            row[f"used_share_{side}"] = max(seen, 0.0) / (high - low)
    if len(scales) == 2 and (scales[0] > 0).all():
        sizes = {scales[0].size, scales[1].size}
        # Scales of two different groupings have no channel-by-channel ratio.
        comparable = len(sizes) == 1 or 1 in sizes
        ratio = float(np.median(scales[1] / scales[0])) if comparable else nan
        row["scale_ratio"] = ratio
        row["bits_lost"] = float(np.log2(ratio)) if ratio > 0 else nan
    return row
