"""Was a file quantized after training or in it: the converter's record, else hints."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ai_edge_litert import schema_py_generated as fb
from flatbuffers import number_types
from flatbuffers.table import Table

from qinspect.tflite.constants import INTEGER_KINDS, Weight, all_weights
from qinspect.tflite.graph import Graph, Operator, Quantization, Scheme, Tensor
from qinspect.tflite.read import DAMAGE


@dataclass(frozen=True)
class Origin:
    """Whether a file was quantized after training or by quantization-aware training.

    Attributes
    ----------
    value : {"ptq", "qat", "unknown"}
    confidence : {"certain", "high", "medium", "low"}
        ``certain`` only where the converter recorded it in the file.
    reasons : tuple of str
        Evidence, in words, for and against.
    converter : str or None
        Version of the TensorFlow converter, if the file says it.
    """

    value: Literal["ptq", "qat", "unknown"]
    confidence: Literal["certain", "high", "medium", "low"]
    reasons: tuple[str, ...]
    converter: str | None = None


_METADATA = b"CONVERSION_METADATA"
# ModelOptimizationMode of TensorFlow's conversion_metadata.fbs.
_MODES = {
    1001: "PTQ_FLOAT16",
    1002: "PTQ_DYNAMIC_RANGE",
    1003: "PTQ_FULL_INTEGER",
    1004: "PTQ_INT16",
    2000: "QUANTIZATION_AWARE_TRAINING",
    3001: "RANDOM_SPARSITY",
    3002: "BLOCK_SPARSITY",
    3003: "STRUCTURED_SPARSITY",
}
_MAX_MODES = 64
# Slots of the fields in their tables, in the order of conversion_metadata.fbs.
_FIRST, _SECOND = 4, 6


@dataclass(frozen=True)
class ConverterRecord:
    """Version of TensorFlow and the optimizations that were applied, by name."""

    version: str
    modes: tuple[str, ...]


def converter_record(graph: Graph) -> ConverterRecord | None:
    """The converter's own record in the file's metadata; None if absent or unreadable."""
    try:
        content = _metadata(graph)
        return _read(content) if content else None
    except DAMAGE:
        return None


def _metadata(graph: Graph) -> bytes | None:
    model = fb.Model.GetRootAs(graph.content, 0)
    for i in range(len(graph.metadata)):
        entry = model.Metadata(i)
        if entry.Name() == _METADATA:
            return bytes(model.Buffers(entry.Buffer()).DataAsNumpy())
    return None


def _read(content: bytes) -> ConverterRecord:
    root = Table(content, 0)
    root = Table(content, root.Get(number_types.UOffsetTFlags, 0))
    environment, options = _child(root, _FIRST), _child(root, _SECOND)
    version = ""
    modes: tuple[str, ...] = ()
    if environment is not None and (offset := environment.Offset(_FIRST)):
        version = environment.String(offset + environment.Pos)[:64].decode("utf-8", "replace")
    if options is not None and (offset := options.Offset(_FIRST)):
        if options.VectorLen(offset) > _MAX_MODES:
            raise ValueError("too many optimization modes")
        codes = options.GetVectorAsNumpy(number_types.Int32Flags, offset).tolist()
        modes = tuple(_MODES.get(code, str(code)) for code in codes)
    return ConverterRecord(version, modes)


def _child(table: Any, slot: int) -> Any:
    offset = table.Offset(slot)
    return Table(table.Bytes, table.Indirect(offset + table.Pos)) if offset else None


# tfmot starts every range at [-6, 6]: 255 steps for activations, 254 for symmetric weights.
START_ACTIVATION_SCALE = 12 / 255
START_WEIGHT_SCALE = 12 / 254
# Of the moving average by which it moves those of activations: what one step leaves of the value.
OBSERVER_DECAY = 0.999
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
    """Whether a file of this scheme was quantized after training or in it."""
    # Certain where the converter wrote it into the file.  Otherwise hints are weighed: names of
    # fake-quantization operators, activation ranges that still are near tfmot's starting value,
    # ranges behind a ReLU that reach below zero (calibration never stores those), weights at the
    # starting scale, and dense kernels per channel (the converter's post-training quantization
    # makes them, tfmot does not).
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
            ), version)
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
                if _is_relu(op):
                    low = _LOWEST[tensor.dtype]
                    below += int(q.zero_point[0]) > low
                    at_zero += int(q.zero_point[0]) == low
    hints = []
    near = sum(near_start(scale) for scale, _ in stored)
    if near >= 2 and near >= 0.4 * len(stored):
        hints.append(_Hint("qat", 2, (
            f"{near} of {len(stored)} activation ranges are within {_NEAR:.0%} of the width "
            "from -6 to 6 at which tfmot's observers start"
        )))
    if below:
        hints.append(_Hint("qat", 2, (
            f"{below} of {below + at_zero} outputs of a ReLU have a range that reaches below "
            "zero, which calibration would not give"
        )))
    elif at_zero >= 2:
        hints.append(_Hint("ptq", 2, (
            f"all {at_zero} outputs of a ReLU have ranges that start exactly at zero, as "
            "calibration gives"
        )))
    return hints


def _weight_hints(graph: Graph) -> list[_Hint]:
    weights = [w for w in all_weights(graph) if w.kind in INTEGER_KINDS]
    hints = []
    untrained = sum(never_trained(weight.tensor) for weight in weights)
    if untrained:
        hints.append(_Hint("qat", 3, (
            f"{untrained} weights have the scale 12/254 at which tfmot starts: never trained"
        )))
    dense = [w for w in weights if w.operator.code == "FULLY_CONNECTED"]
    conv = [w for w in weights if w.operator.code == "CONV_2D"]
    if any(_per_channel(w) for w in dense):
        hints.append(_Hint("ptq", 2, (
            "dense kernels are quantized per channel, which tfmot does not do"
        )))
    elif dense and conv and all(_per_channel(w) for w in conv):
        hints.append(_Hint("qat", 0.5, (
            "dense kernels are quantized per tensor and convolutions per channel, as tfmot and "
            "older converters do"
        )))
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


def _is_relu(op: Operator) -> bool:
    """Whether an operator's output cannot be negative because of a ReLU."""
    return op.activation in _RELUS or op.code in _RELUS


def _per_channel(weight: Weight) -> bool:
    return weight.tensor.quantization is not None and weight.tensor.quantization.per_channel
