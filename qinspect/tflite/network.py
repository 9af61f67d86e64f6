"""The weighted layers of any model file in one form, under names that a Keras user recognises."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np

from qinspect.affine import along
from qinspect.errors import ModelFileError
from qinspect.schema import Array
from qinspect.tflite.constants import FLOATS, Weight, constant, dequantized, weights_of
from qinspect.tflite.graph import Graph, Operator, Subgraph, Tensor
from qinspect.tflite.keras_file import KerasLayer, KerasModelTable

_CONVOLUTION = re.compile(r"conv", re.IGNORECASE)
_DENSE = re.compile(r"matmul|einsum", re.IGNORECASE)
# What the last part of a tensor name looks like for an operator of each kind.
_KIND_NAMES = {
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
_KERNELS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV",
                      "CONV_3D", "BATCH_MATMUL"})
_BIAS = re.compile(r"^BiasAdd")
# Parts that belong to an operation inside a layer, not to the layer's own path.
_INNER = re.compile(r"^(ReadVariableOp.*|resource|Tensordot|FakeQuant.*|MovingAvgQuantize|"
                    r"LastValueQuant|AllValuesQuantize|StatefulPartitionedCall.*)$")
_UNIQUE_SUFFIX = re.compile(r"\d*(:\d+)?$")
# Of the names of layers that tfmot wraps.
_WRAPPED = "quant_"
_PLACEHOLDER = re.compile(r"^(Identity|StatefulPartitionedCall|tfl\.|arith\.|serving_default)")


def layer_names(subgraph: Subgraph) -> dict[int, str]:
    """A unique name for each operator: its Keras layer if tensor names tell it, else its kind."""
    # The kind of operator is appended where several operators belong to one layer.
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


def _of_operator(op: Operator, subgraph: Subgraph) -> str:
    if op.code in ("QUANTIZE", "DEQUANTIZE"):  # named after whatever stands next to them
        return ""
    kind = _KIND_NAMES.get(op.code)
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
                return path[-2].removeprefix(_WRAPPED)
    return ""


def _path(segment: str) -> list[str]:
    return [part for part in segment.split("/") if part and not _INNER.match(part)]


def _layer_if(segment: str, pattern: re.Pattern[str]) -> str:
    """The part before the last one, if the last one looks like the wanted operation."""
    path = _path(segment)
    if len(path) < 2:
        return ""
    last = _UNIQUE_SUFFIX.sub("", path[-1])
    return path[-2].removeprefix(_WRAPPED) if pattern.search(last) else ""


# Relative rounding of stored floats; folding a batch normalization in float32 costs some more.
# Of integers: step / sqrt(12) (Widrow and Kollar, Quantization Noise, 2008).
_RELATIVE_NOISE = {"float16": 2.0**-12, "bfloat16": 2.0**-9}
_FLOAT_NOISE = 1e-6
_STEP = 12**-0.5
# Without this many values two constants may be equal by chance (all zeros, all ones).
_ENOUGH_TO_BE_SHARED = 16


@dataclass(frozen=True)
class WeightedLayer:
    """One layer with a kernel, real values, batch normalization folded, from any model file."""

    name: str  # that of Keras where it is known
    kind: str  # conv, depthwise, dense, transpose_conv, other
    shape: tuple[int, ...]  # of the kernel as LiteRT stores it
    kernel: Array = field(repr=False)  # float32 (channels, values of one channel)
    bias: Array | None = field(repr=False)  # float64 (channels,)
    # Standard deviation of the rounding error with which they are stored; both broadcast.
    noise: Array = field(repr=False)
    bias_noise: Array = field(repr=False)
    operators: tuple[int, ...] = ()  # all that use it; empty for a Keras layer
    folded: str = ""  # name of the batch normalization that was folded in


_KINDS = {
    "CONV_2D": "conv",
    "CONV_3D": "conv",
    "DEPTHWISE_CONV_2D": "depthwise",
    "FULLY_CONNECTED": "dense",
    "BATCH_MATMUL": "dense",
    "TRANSPOSE_CONV": "transpose_conv",
    "CONV_3D_TRANSPOSE": "transpose_conv",
}


def graph_layers(graph: Graph) -> tuple[tuple[WeightedLayer, ...], dict[str, str]]:
    """Weighted layers of a file's first subgraph; and the undecodable ones, with the reason."""
    subgraph = graph.main
    names = layer_names(subgraph)
    # Operators that share one kernel (and bias) share one entry.
    layers: dict[tuple[object, ...], WeightedLayer] = {}
    unreadable: dict[str, str] = {}
    several = _operators_with_several_weights(weights_of(subgraph))
    for weight in weights_of(subgraph):
        index = weight.operator.index
        name = names[index]
        if index in several:
            name = f"{name}[{weight.position}]"
        try:
            kernel = dequantized(graph, weight.tensor, subgraph)
            bias = None if weight.bias is None else dequantized(graph, weight.bias, subgraph)
        except ModelFileError as error:
            unreadable[name] = str(error)
            continue
        layer = _graph_layer(graph, weight, name, kernel, bias)
        key = _identity(layer, weight)
        known = layers.get(key)
        if known is not None:
            layers[key] = replace(known, operators=(*known.operators, index))
        else:
            layers[key] = layer
    return tuple(layers.values()), unreadable


def _operators_with_several_weights(weights: tuple[Weight, ...]) -> set[int]:
    seen: set[int] = set()
    return {
        w.operator.index
        for w in weights
        if w.operator.index in seen or seen.add(w.operator.index)  # type: ignore[func-returns-value]
    }


def _identity(layer: WeightedLayer, weight: Weight) -> tuple[object, ...]:
    bias = weight.bias.buffer if weight.bias is not None else -1
    if layer.kernel.size < _ENOUGH_TO_BE_SHARED or np.ptp(layer.kernel) == 0:
        return (weight.operator.index, weight.tensor.index)
    content = None if layer.bias is None else layer.bias.tobytes()
    return (layer.kind, layer.shape, layer.kernel.tobytes(), content or bias)


def _graph_layer(
    graph: Graph, weight: Weight, name: str, kernel: Array, bias: Array | None
) -> WeightedLayer:
    kind = _KINDS.get(weight.operator.code, "other")
    noise = np.broadcast_to(_noise(graph, weight.tensor, kernel), kernel.shape)
    real = None if bias is None else np.asarray(bias, np.float64).reshape(-1)
    return WeightedLayer(
        name=name,
        kind=kind,
        shape=tuple(kernel.shape),
        kernel=np.ascontiguousarray(_as_matrix(weight, kind, kernel), np.float32),
        bias=real,
        operators=(weight.operator.index,),
        noise=_as_matrix(weight, kind, noise),
        bias_noise=np.zeros(1)
        if weight.bias is None or real is None
        else _noise(graph, weight.bias, real),
    )


def _as_matrix(weight: Weight, kind: str, kernel: Array) -> Array:
    if kernel.ndim == 0:
        return kernel.reshape(1, 1)
    # A depthwise kernel is (1, height, width, channels), every other one starts with channels.
    if kind == "depthwise":
        return kernel.reshape(-1, kernel.shape[-1]).T
    # The weight of a matrix product is stored (inputs, outputs) unless it says otherwise.
    if weight.operator.code == "BATCH_MATMUL" and kernel.ndim == 2:
        return kernel if weight.operator.options.get("adj_y") else kernel.T
    return kernel.reshape(kernel.shape[0], -1)


def _noise(graph: Graph, tensor: Tensor, real: Array) -> Array:
    """Standard deviation of the rounding error of stored values, broadcast to their shape."""
    q = tensor.quantization
    if q is None or tensor.dtype in FLOATS:
        return np.abs(real, dtype=np.float64) * _RELATIVE_NOISE.get(tensor.dtype, _FLOAT_NOISE)
    if q.blockwise:
        scales = constant(graph, graph.main.tensors[q.block_scales]).astype(np.float64)
        return np.repeat(np.abs(scales).reshape(-1), q.block_size).reshape(real.shape) * _STEP
    return along(q.scale, q.axis, real.ndim) * _STEP


def keras_layers(table: KerasModelTable) -> tuple[WeightedLayer, ...]:
    """Weighted layers of a Keras model, each with the batch normalization that follows it."""
    # It is folded where it is the only user of the layer's output and the layer has no activation
    # of its own, which is when the converter can fold it.
    users: dict[str, list[KerasLayer]] = {}
    for layer in table.layers:
        for source in layer.inbound:
            users.setdefault(source, []).append(layer)
    found: list[WeightedLayer] = []
    for layer in table.layers:
        followers = users.get(layer.name, [])
        for part in _keras_parts(layer):
            found.append(_fold(part, layer, followers))
    return tuple(found)


def _keras_parts(layer: KerasLayer) -> list[WeightedLayer]:
    """The kernels of a layer as LiteRT would store them; a separable convolution has two."""
    kind, weights = layer.kind, layer.weights
    bias = weights.get("bias")
    if kind.startswith("SeparableConv") and "pointwise_kernel" in weights:
        depth, point = weights["depthwise_kernel"], weights["pointwise_kernel"]
        return [
            _keras_layer(f"{layer.name}/depthwise", "depthwise", _depthwise(depth), None),
            _keras_layer(layer.name, "conv", _convolution(point), bias),
        ]
    kernel = weights.get("kernel")
    if kernel is None or kernel.ndim < 2:
        return []
    if kind.startswith("DepthwiseConv"):
        return [_keras_layer(layer.name, "depthwise", _depthwise(kernel), bias)]
    if kind.endswith("Transpose") and kernel.ndim >= 3:
        moved = np.moveaxis(kernel, -2, 0)
        return [_keras_layer(layer.name, "transpose_conv", moved, bias)]
    if kind.startswith("Conv") and kernel.ndim >= 3:
        return [_keras_layer(layer.name, "conv", _convolution(kernel), bias)]
    if kind == "Dense":
        return [_keras_layer(layer.name, "dense", kernel.T, bias)]
    return [_keras_layer(layer.name, "other", np.moveaxis(kernel, -1, 0), bias)]


def _convolution(kernel: Array) -> Array:
    moved = np.moveaxis(kernel, -1, 0)
    # LiteRT runs a 1-d convolution as a 2-d one of height 1.
    return moved[:, None] if moved.ndim == 3 else moved


def _depthwise(kernel: Array) -> Array:
    if kernel.ndim == 3:
        kernel = kernel[None]
    height, width, channels, multiplier = kernel.shape
    return kernel.reshape(1, height, width, channels * multiplier)


def _keras_layer(name: str, kind: str, kernel: Array, bias: Array | None) -> WeightedLayer:
    matrix = (
        kernel.reshape(-1, kernel.shape[-1]).T
        if kind == "depthwise"
        else kernel.reshape(kernel.shape[0], -1)
    )
    return WeightedLayer(
        name=name,
        kind=kind,
        shape=tuple(kernel.shape),
        kernel=np.ascontiguousarray(matrix, np.float32),
        bias=None if bias is None else np.asarray(bias, np.float64),
        noise=np.abs(matrix, dtype=np.float64) * _FLOAT_NOISE,
        bias_noise=np.zeros(1),
    )


def _fold(part: WeightedLayer, layer: KerasLayer, followers: list[KerasLayer]) -> WeightedLayer:
    if len(followers) != 1 or part.name != layer.name:
        return part
    norm = followers[0]
    if norm.kind != "BatchNormalization" or not _is_linear(layer):
        return part
    w = norm.weights
    if "moving_mean" not in w or w["moving_mean"].shape != (len(part.kernel),):
        return part
    mean, variance = (w[k].astype(np.float64) for k in ("moving_mean", "moving_variance"))
    gamma = w.get("gamma", np.ones_like(mean)).astype(np.float64)
    beta = w.get("beta", np.zeros_like(mean)).astype(np.float64)
    factor = gamma / np.sqrt(variance + float(norm.config.get("epsilon", 1e-3)))
    bias = part.bias if part.bias is not None else np.zeros_like(mean)
    return replace(
        part,
        kernel=(part.kernel * factor[:, None]).astype(np.float32),
        noise=part.noise * np.abs(factor[:, None]),
        bias=beta + (bias - mean) * factor,
        folded=norm.name,
    )


def _is_linear(layer: KerasLayer) -> bool:
    activation = layer.config.get("activation", "linear")
    # tfmot wraps the activation in QuantizeAwareActivation, and a linear one in NoOpActivation.
    while isinstance(activation, dict):
        if activation.get("class_name") == "NoOpActivation":
            return True
        activation = activation.get("config", {}).get("activation", "unknown")
    return activation in ("linear", None)
