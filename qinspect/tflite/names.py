"""Names that a Keras user recognises, out of the tensor names that the converter leaves."""

from __future__ import annotations

import re
from collections import Counter

from qinspect.schema import Operator, Subgraph

_CONVOLUTION = re.compile(r"conv", re.IGNORECASE)
_DENSE = re.compile(r"matmul|einsum", re.IGNORECASE)
# What the last part of a tensor name looks like for an operator of each kind.
_KINDS = {
    "CONV_2D": _CONVOLUTION,
    "CONV_3D": _CONVOLUTION,
    "TRANSPOSE_CONV": _CONVOLUTION,
    "DEPTHWISE_CONV_2D": re.compile(r"depthwise", re.IGNORECASE),
    "FULLY_CONNECTED": _DENSE,
    "BATCH_MATMUL": _DENSE,
    "ADD": re.compile(r"add", re.IGNORECASE),
    "SUB": re.compile(r"sub", re.IGNORECASE),
    "MUL": re.compile(r"mul", re.IGNORECASE),
    "AVERAGE_POOL_2D": re.compile(r"avg_?pool", re.IGNORECASE),
    "MAX_POOL_2D": re.compile(r"max_?pool", re.IGNORECASE),
    "MEAN": re.compile(r"mean", re.IGNORECASE),
    "RESHAPE": re.compile(r"reshape", re.IGNORECASE),
    "SOFTMAX": re.compile(r"softmax", re.IGNORECASE),
    "CONCATENATION": re.compile(r"concat", re.IGNORECASE),
    "PAD": re.compile(r"pad", re.IGNORECASE),
    "LOGISTIC": re.compile(r"sigmoid", re.IGNORECASE),
    "RELU": re.compile(r"relu", re.IGNORECASE),
    "RELU6": re.compile(r"relu", re.IGNORECASE),
    "TANH": re.compile(r"tanh", re.IGNORECASE),
}
_BIAS = re.compile(r"^BiasAdd")
# Parts that belong to an operation inside a layer, not to the layer's own path.
_INNER = re.compile(r"^(ReadVariableOp.*|resource|Tensordot|FakeQuant.*|MovingAvgQuantize|"
                    r"LastValueQuant|AllValuesQuantize|StatefulPartitionedCall.*)$")  # fmt: skip
_UNIQUE_SUFFIX = re.compile(r"\d*(:\d+)?$")
_PLACEHOLDER = re.compile(r"^(Identity|StatefulPartitionedCall|tfl\.|arith\.|serving_default)")


def clean_layer(name: str) -> str:
    """A layer's name without the prefix of tfmot's wrappers."""
    return name.removeprefix("quant_")


def layer_names(subgraph: Subgraph) -> dict[int, str]:
    """A unique name for each operator, by operator index.

    The Keras layer where the names of the operator's tensors tell it, with the kind of operator
    appended where several operators belong to one layer; else the kind.
    """
    weighted = {op.index: _of_operator(op, subgraph) for op in subgraph.operators}
    seen: Counter[str] = Counter()
    names: dict[int, str] = {}
    # Operators with a kernel take the bare name of their layer first.
    order = sorted(subgraph.operators, key=lambda op: (op.code not in _KERNELS, op.index))
    for op in order:
        name = weighted[op.index]
        if not name:
            name = (op.custom or op.code).lower()
        elif seen[name]:
            name = f"{name}/{(op.custom or op.code).lower()}"
        seen[name] += 1
        names[op.index] = name if seen[name] == 1 else f"{name}#{seen[name]}"
    return names


_KERNELS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV",
                      "CONV_3D", "BATCH_MATMUL"})  # fmt: skip


def _of_operator(op: Operator, subgraph: Subgraph) -> str:
    if op.code in ("QUANTIZE", "DEQUANTIZE"):  # named after whatever stands next to them
        return ""
    kind = _KINDS.get(op.code)
    texts = []
    if op.code in _KERNELS and len(op.inputs) > 1:
        # The name of the kernel is the cleanest; a bias may be named after its neighbours too.
        texts += [subgraph.tensors[i].name for i in (op.inputs[1], *op.inputs[2:]) if i >= 0]
    texts += [subgraph.tensors[i].name for i in op.outputs]
    for text in texts:
        segments = [segment for segment in text.split(";") if segment]
        for pattern in (_BIAS if op.code in _KERNELS else None, kind):
            if pattern is None:
                continue
            for segment in segments:
                layer = _layer_if(segment, pattern)
                if layer:
                    return layer
    for text in reversed(texts):
        for segment in text.split(";"):
            path = _path(segment)
            if len(path) >= 2 and not _PLACEHOLDER.match(segment):
                return clean_layer(path[-2])
    return ""


def _path(segment: str) -> list[str]:
    return [part for part in segment.split("/") if part and not _INNER.match(part)]


def _layer_if(segment: str, pattern: re.Pattern[str]) -> str:
    """The part before the last one, if the last one looks like the wanted operation."""
    path = _path(segment)
    if len(path) < 2:
        return ""
    last = _UNIQUE_SUFFIX.sub("", path[-1])
    return clean_layer(path[-2]) if pattern.search(last) else ""
