"""What quantization did to the weights, channel by channel."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from qinspect.affine import Affine
from qinspect.measure.error_metrics import error_metrics
from qinspect.measure.probe import Pairs, as_pairs
from qinspect.schema import Array
from qinspect.tflite.constants import dequantized
from qinspect.tflite.graph import Graph, Tensor

# Axis of the output channels among the dimensions of the weights, TensorFlow Lite layouts.
CHANNEL_AXIS = {
    "CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 0, "CONV_3D": 4,
}
# A channel whose weights are this much smaller than the layer's largest contributes nothing.
_DEAD = 1e-6

# min, max of the float channel; stored_min, stored_max: ends of what its scale can hold;
# used_share: its largest magnitude over that of its grid (1: the scale fits the channel); dead:
# whether that magnitude is below 1e-6 of the layer's.
WEIGHTS = ("layer", "op", "channel", "dtype", "granularity", "scale", "min", "max", "stored_min",
           "stored_max", "sqnr_db", "mse", "rmse_over_scale", "cosine", "max_abs", "used_share",
           "dead")
# disparity: largest over smallest channel magnitude, dead channels left out (one scale for all
# channels costs the smallest log2(disparity) bits); sqnr_db: median over the living channels;
# worst_channel: the one of least SQNR, -1 where none is known.
CHANNELS = ("layer", "op", "channels", "dead", "disparity", "granularity", "sqnr_db",
            "worst_channel", "worst_sqnr_db")


def weight_tensor(graph: Graph, op: int) -> Tensor | None:
    """Constant that holds the weights of a convolution or dense operator, else None."""
    # Weights behind a DEQUANTIZE (float16 files) are found there.
    operator = graph.main.operators[op]
    if operator.code not in CHANNEL_AXIS or len(operator.inputs) < 2 or operator.inputs[1] < 0:
        return None
    tensor = graph.main.tensors[operator.inputs[1]]
    for other in graph.main.operators:
        if other.code == "DEQUANTIZE" and tensor.index in other.outputs:
            tensor = graph.main.tensors[other.inputs[0]]
    return tensor if tensor.constant else None


def weight_channels(graph: Graph, op: int) -> tuple[Tensor, Array] | None:
    """Stored weights of an operator and their real values, float32 (output channels, rest)."""
    tensor = weight_tensor(graph, op)
    if tensor is None:
        return None
    return tensor, _channels(dequantized(graph, tensor), graph.main.operators[op].code)


def weight_errors(float_graph: Graph, quant_graph: Graph, pairs: Pairs) -> pd.DataFrame:
    """Ranges and errors of the weights of matched layers: :data:`WEIGHTS`, a row a channel."""
    rows = []
    for pair in as_pairs(pairs, float_graph, quant_graph):
        first = weight_tensor(float_graph, pair.op_a)
        second = weight_tensor(quant_graph, pair.op_b)
        if first is None or second is None or first.shape != second.shape:
            continue
        code = quant_graph.main.operators[pair.op_b].code
        reference = _channels(dequantized(float_graph, first), code)
        values = _channels(dequantized(quant_graph, second), code)
        affine = second.affine
        largest = float(np.abs(reference).max(initial=0.0))
        for channel, (true, stored) in enumerate(zip(reference, values, strict=True)):
            own = None if affine is None else affine.channel(channel)
            numbers = error_metrics(true, stored, own)
            limits = stored_columns(affine, channel)
            magnitude = float(np.abs(true).max(initial=0.0))
            rows.append(
                {
                    **numbers,
                    "layer": pair.layer,
                    "op": code,
                    "channel": channel,
                    "dtype": second.dtype,
                    "granularity": granularity(second),
                    **limits,
                    "min": float(true.min()),
                    "max": float(true.max()),
                    "used_share": magnitude / limits["stored_max"]
                    if limits["stored_max"] > 0 else np.nan,
                    "dead": magnitude <= _DEAD * largest,
                }
            )
    return pd.DataFrame.from_records(rows, columns=list(WEIGHTS))


def channel_summary(weights: pd.DataFrame) -> pd.DataFrame:
    """One row a layer, :data:`CHANNELS`, from the table of :func:`weight_errors`."""
    rows = []
    for layer, part in weights.groupby("layer", sort=False):
        living = part[~part["dead"].astype(bool)]
        magnitude = np.maximum(living["max"].abs(), living["min"].abs())
        quality = living["sqnr_db"].to_numpy(dtype=np.float64)
        known = np.flatnonzero(~np.isnan(quality))
        worst = known[np.argmin(quality[known])] if len(known) else None
        rows.append(
            {
                "layer": layer,
                "op": part["op"].iloc[0],
                "channels": len(part),
                "dead": int(part["dead"].sum()),
                "disparity": float(magnitude.max() / magnitude.min()) if len(living) else np.nan,
                "granularity": part["granularity"].iloc[0],
                "sqnr_db": float(living["sqnr_db"].median()),
                "worst_channel": -1 if worst is None else int(living["channel"].iloc[worst]),
                "worst_sqnr_db": np.nan if worst is None else float(quality[worst]),
            }
        )
    return pd.DataFrame.from_records(rows, columns=list(CHANNELS))


def granularity(tensor: Tensor) -> str:
    """``float``, ``per tensor``, ``per channel`` or ``blockwise``."""
    quantization = tensor.quantization
    if quantization is None:
        return "float"
    if quantization.blockwise:
        return "blockwise"
    if quantization.scale.size == 0:
        return "float"
    return "per channel" if quantization.per_channel else "per tensor"


def stored_columns(affine: Affine | None, channel: int = -1) -> dict[str, float]:
    """Columns of ``schema.TENSORS`` about the stored range of a channel, or (-1) of the tensor."""
    if affine is None:
        return dict.fromkeys(("scale", "zero_point", "stored_min", "stored_max"), math.nan)
    if channel < 0 and affine.scale.size > 1:
        return {"scale": math.nan, "zero_point": math.nan,
                "stored_min": float(affine.real_low.min()),
                "stored_max": float(affine.real_high.max())}
    own = affine.channel(channel)
    scale, low, high = own.grid
    return {"scale": scale, "zero_point": int(own.zero_point[0]), "stored_min": low,
            "stored_max": high}


def _channels(values: Array, code: str) -> Array:
    """Weights as (channels, rest)."""
    moved = np.moveaxis(values, CHANNEL_AXIS[code], 0)
    return np.ascontiguousarray(moved.reshape(len(moved), -1))
