"""Hints in a file that its quantization was learned in training, or made after it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qinspect.schema import Graph, Operator, Origin, Quantization, Scheme, Tensor
from qinspect.tflite.converter import ConverterRecord, converter_record
from qinspect.tflite.weights import INTEGER_KINDS, Weight, all_weights

# tfmot starts every range at [-6, 6]: 255 steps for activations, 254 for symmetric weights.
START_ACTIVATION_SCALE = 12 / 255
START_WEIGHT_SCALE = 12 / 254
# An observer with decay 0.999 has moved by less than this share after some 150 steps.
_NEAR = 0.15
_FAKE_QUANT = re.compile(r"FakeQuant|LastValueQuant|MovingAvgQuantize|AllValuesQuantize")
_WRAPPED = re.compile(r"(?:^|[/;])quant_")
_PTQ_MODES = {"PTQ_FLOAT16", "PTQ_DYNAMIC_RANGE", "PTQ_FULL_INTEGER", "PTQ_INT16"}
_QAT_MODE = "QUANTIZATION_AWARE_TRAINING"
_RELUS = {"RELU", "RELU6", "RELU_0_TO_1"}
_LOWEST = {"int8": -128, "uint8": 0}


@dataclass(frozen=True)
class _Hint:
    towards: Literal["qat", "ptq"]
    strength: float
    reason: str


def origin_of(graph: Graph, scheme: Scheme) -> Origin:
    """Whether a file was quantized after training or by quantization-aware training.

    Parameters
    ----------
    graph : Graph
    scheme : str
        Its scheme.

    Returns
    -------
    Origin
        ``certain`` where the converter wrote it into the file.  Otherwise the hints are weighed:
        names of fake-quantization operators, activation ranges that still are near tfmot's
        starting value, ranges behind a ReLU that reach below zero (calibration never stores
        those), weights at the starting scale, and dense kernels per channel (the converter's
        post-training quantization makes them, tfmot does not).
    """
    record = converter_record(graph)
    hints = [*_name_hints(graph), *_range_hints(graph), *_weight_hints(graph)]
    reasons = [hint.reason for hint in hints]
    version = record.version if record else None
    recorded = _recorded(record)
    if recorded is not None:
        value, reason = recorded
        return Origin(value, "certain", (reason, *reasons), version)
    score = {
        side: sum(hint.strength for hint in hints if hint.towards == side)
        for side in ("qat", "ptq")
    }
    if scheme == "float32":
        if score["qat"] >= 2:
            return Origin("qat", "medium", (
                *reasons, "it computes in float all the same: the trained ranges are not used"
            ), version)  # fmt: skip
        return Origin("unknown", "low", ("a float file holds no quantization",), version)
    if scheme in ("dynamic_range", "weight_only", "float16") and score["qat"] < 2:
        reasons.append(
            "the file holds no activation ranges, which quantization-aware training would leave"
        )
        return Origin("ptq", "high", tuple(reasons), version)
    lead = score["qat"] - score["ptq"]
    if abs(lead) < 1:
        reasons.append("the hints are too weak to decide")
        return Origin("unknown", "low", tuple(reasons), version)
    confidence: Literal["high", "medium", "low"] = (
        "high" if abs(lead) >= 3 else "medium" if abs(lead) >= 1.5 else "low"
    )
    return Origin("qat" if lead > 0 else "ptq", confidence, tuple(reasons), version)


def trained_names(graph: Graph) -> bool:
    """Whether tensors are named after the operators or wrappers of quantization-aware training."""
    return bool(_name_hints(graph))


def _recorded(record: ConverterRecord | None) -> tuple[Literal["qat", "ptq"], str] | None:
    if record is None:
        return None
    version = f"TensorFlow {record.version}" if record.version else "the converter"
    if _QAT_MODE in record.modes:
        return "qat", f"{version} recorded quantization-aware training in the file"
    made = [mode for mode in record.modes if mode in _PTQ_MODES]
    if made:
        return "ptq", f"{version} recorded {', '.join(made)} in the file"
    return None


def _name_hints(graph: Graph) -> list[_Hint]:
    names = [tensor.name for subgraph in graph.subgraphs for tensor in subgraph.tensors]
    fake = sum(bool(_FAKE_QUANT.search(name)) for name in names)
    if fake:
        return [_Hint("qat", 3, f"{fake} tensors are named after fake-quantization operators")]
    wrapped = sum(bool(_WRAPPED.search(name)) for name in names)
    if wrapped:
        return [_Hint("qat", 2, f"{wrapped} tensors belong to layers called quant_...")]
    return []


def _range_hints(graph: Graph) -> list[_Hint]:
    """What the stored ranges of 8-bit activations say."""
    stored: dict[tuple[float, int], None] = {}
    below, at_zero = 0, 0
    for subgraph in graph.subgraphs:
        for op in subgraph.operators:
            for index in op.outputs:
                tensor = subgraph.tensors[index]
                q = tensor.quantization
                if tensor.dtype not in _LOWEST or q is None or q.scale.size != 1:
                    continue
                stored[float(q.scale[0]), int(q.zero_point[0])] = None
                if is_relu(op):
                    low = _LOWEST[tensor.dtype]
                    below += int(q.zero_point[0]) > low
                    at_zero += int(q.zero_point[0]) == low
    hints = []
    near = sum(near_start(scale) for scale, _ in stored)
    if near >= 2 and near >= 0.4 * len(stored):
        hints.append(_Hint("qat", 2, (
            f"{near} of {len(stored)} activation ranges are within {_NEAR:.0%} of the width "
            "from -6 to 6 at which tfmot's observers start"
        )))  # fmt: skip
    if below:
        hints.append(_Hint("qat", 2, (
            f"{below} of {below + at_zero} outputs of a ReLU have a range that reaches below "
            "zero, which calibration would not give"
        )))  # fmt: skip
    elif at_zero >= 2:
        hints.append(_Hint("ptq", 2, (
            f"all {at_zero} outputs of a ReLU have ranges that start exactly at zero, as "
            "calibration gives"
        )))  # fmt: skip
    return hints


def _weight_hints(graph: Graph) -> list[_Hint]:
    weights = [w for w in all_weights(graph) if w.kind in INTEGER_KINDS]
    hints = []
    untrained = sum(never_trained(weight.tensor) for weight in weights)
    if untrained:
        hints.append(_Hint("qat", 3, (
            f"{untrained} weights have the scale 12/254 at which tfmot starts: never trained"
        )))  # fmt: skip
    dense = [w for w in weights if w.operator.code == "FULLY_CONNECTED"]
    conv = [w for w in weights if w.operator.code == "CONV_2D"]
    if any(_per_channel(w) for w in dense):
        hints.append(_Hint("ptq", 2, (
            "dense kernels are quantized per channel, which tfmot does not do"
        )))  # fmt: skip
    elif dense and conv and all(_per_channel(w) for w in conv):
        hints.append(_Hint("qat", 0.5, (
            "dense kernels are quantized per tensor and convolutions per channel, as tfmot and "
            "older converters do"
        )))  # fmt: skip
    return hints


def near_start(scale: float) -> bool:
    """Whether an 8-bit activation scale is about that of the range from -6 to 6."""
    return abs(scale / START_ACTIVATION_SCALE - 1) < _NEAR


def never_trained(weight: Tensor) -> bool:
    """Whether all scales of a weight are exactly those at which tfmot's weight ranges start."""
    q: Quantization | None = weight.quantization
    return (
        q is not None
        and q.scale.size > 0
        and bool(np.allclose(q.scale, START_WEIGHT_SCALE, rtol=1e-4, atol=0))
    )


def is_relu(op: Operator) -> bool:
    """Whether an operator's output cannot be negative because of a ReLU."""
    return op.activation in _RELUS or op.code in _RELUS


def _per_channel(weight: Weight) -> bool:
    return weight.tensor.quantization is not None and weight.tensor.quantization.per_channel
