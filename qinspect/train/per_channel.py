"""One weight range for each output of a dense layer, in training and in the file.

tfmot gives a dense kernel one range in all; the converter's own quantization gives it one for
each output.  tfmot has the quantizer that it takes (that of convolutions), but the converter of
TensorFlow 2.21 refuses what comes out of it: it turns the kernel over and leaves the scales'
axis as it was ("'tfl.transpose' op has mismatched quantized axes").  So the kernel is converted
with one range and its integers, scales and bias are written into the file afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from qinspect.errors import TrainError
from qinspect.schema import Array
from qinspect.train.keras import batchnorm_layers, is_wrapped, sources, tensorflow, tf_keras

# Integers of a symmetric int8 weight are -127..127.
_STEPS = 127


def make_scheme(model: Any, per_channel_dense: bool) -> Any:
    """The 8-bit scheme of tfmot, the model's dense layers per channel if asked for."""
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_registry as registries,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_scheme as schemes,
    )

    if not per_channel_dense:
        return schemes.Default8BitQuantizeScheme()
    dense = tf_keras().layers.Dense
    # The converter folds batch norm into the kernel, so these stay as tfmot makes them.
    folded = {source.name for layer in batchnorm_layers(model) for source in sources(layer)}

    class Registry(registries.Default8BitQuantizeRegistry):
        def get_quantize_config(self, layer: Any) -> Any:
            if isinstance(layer, dense) and layer.name not in folded:
                return registries.Default8BitConvQuantizeConfig(["kernel"], ["activation"], False)
            return super().get_quantize_config(layer)

    class Scheme(schemes.Default8BitQuantizeScheme):
        def get_quantize_registry(self) -> Any:
            return Registry()

    return Scheme()


@contextmanager
def one_range_each(model: Any) -> Iterator[None]:
    """Give each per-channel dense kernel one range while the model is converted."""
    with ExitStack() as stack:
        for layer in _per_channel_dense(model):
            before = layer._weight_vars
            weight, _, variables = before[0]
            # Past Keras' own __setattr__, which would start to track what is put there.
            one = _OneRange(_widest(variables))
            object.__setattr__(layer, "_weight_vars", [(weight, one, variables)])
            stack.callback(object.__setattr__, layer, "_weight_vars", before)
        yield


class _OneRange:
    """Stands in for a per-channel quantizer: one symmetric range for all channels."""

    def __init__(self, widest: float) -> None:
        self._widest = widest

    def __call__(self, inputs: Any, training: bool, weights: Any, **_: Any) -> Any:
        return tensorflow().quantization.fake_quant_with_min_max_args(
            inputs, -self._widest, self._widest, narrow_range=True
        )


def store_channel_scales(model: Any, content: bytes) -> bytes:
    """Write per-channel dense kernels into a file converted under :func:`one_range_each`."""
    layers = _per_channel_dense(model)
    if not layers:
        return content
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    file = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = file.subgraphs[0]
    dense = [operator for operator in graph.operators
             if _code(file, operator) == schema.BuiltinOperator.FULLY_CONNECTED]
    for layer in layers:
        kernel, _, variables = layer._weight_vars[0]
        weights = np.asarray(kernel).T
        coarse = _integers(weights, np.full(len(weights), _widest(variables) / _STEPS))
        found = [one for one in dense if _holds(file, graph.tensors[one.inputs[1]], coarse)]
        if not found:
            raise TrainError(
                f"the converted file has no int8 dense operator with the weights of layer "
                f"{layer.layer.name!r}, so its scales cannot be written; quantize the model "
                "without per_channel_dense."
            )
        for operator in found:
            dense.remove(operator)
            _rewrite(file, graph, operator, layer)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(file.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _rewrite(file: Any, graph: Any, operator: Any, layer: Any) -> None:
    """Put a layer's integers, scales and bias into a dense operator."""
    kernel, _, variables = layer._weight_vars[0]
    high = np.asarray(variables["max_var"], dtype=np.float64)
    # The file's scale, in float32, is what the kernel is read with; a channel that is all zero
    # keeps a scale of its own, since 0 is none.
    scales = (np.where(high > 0, high, 1.0) / _STEPS).astype(np.float32)
    source, weights = (graph.tensors[operator.inputs[i]] for i in (0, 1))
    _store(file, weights, _integers(np.asarray(kernel).T, scales).astype(np.int8), scales)
    if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
        # int32 biases count steps of input scale times weight scale.
        step = float(source.quantization.scale[0]) * scales.astype(np.float64)
        bias = layer.layer.bias
        values = np.zeros(len(step)) if bias is None else np.asarray(bias, dtype=np.float64)
        limits = np.iinfo(np.int32)
        stored = np.clip(np.rint(values / step), limits.min, limits.max).astype(np.int32)
        _store(file, graph.tensors[operator.inputs[2]], stored, step.astype(np.float32))


def _store(file: Any, tensor: Any, values: Array, scales: Array) -> None:
    file.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)
    tensor.quantization.scale = scales
    tensor.quantization.zeroPoint = np.zeros(len(scales), np.int64)
    tensor.quantization.quantizedDimension = 0


def _integers(weights: Array, scales: Array) -> Array:
    """Rows of weights as integers -127..127, one scale a row."""
    return np.clip(np.rint(weights / scales[:, np.newaxis]), -_STEPS, _STEPS)


def _holds(file: Any, tensor: Any, coarse: Array) -> bool:
    """Whether an int8 tensor is a kernel, up to a step where float32 rounds the other way."""
    data = file.buffers[tensor.buffer].data
    if data is None or tuple(tensor.shape) != coarse.shape or len(data) != coarse.size:
        return False
    stored = np.asarray(data, np.uint8).view(np.int8).reshape(coarse.shape)
    off = np.abs(stored - coarse)
    return bool(off.max(initial=0) <= 1 and (off > 0).mean() < 0.01)


def _code(file: Any, operator: Any) -> int:
    code = file.operatorCodes[operator.opcodeIndex]
    return max(int(code.builtinCode), int(code.deprecatedBuiltinCode))


def _per_channel_dense(model: Any) -> list[Any]:
    """Wrappers of dense layers whose kernels have one range for each output."""
    return [
        layer for layer in model.layers
        if is_wrapped(layer) and isinstance(layer.layer, tf_keras().layers.Dense)
        and any(getattr(quantizer, "per_axis", False) for _, quantizer, _ in layer._weight_vars)
    ]


def _widest(variables: dict[str, Any]) -> float:
    return float(np.asarray(variables["max_var"]).max())
