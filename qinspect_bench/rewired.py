"""Float ``.tflite`` files with other operators in them that compute the same."""

from __future__ import annotations

from copy import copy
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as fb

from qinspect.errors import SpecError
from qinspect.schema import Array
from qinspect.tflite import constant
from qinspect.tflite.constants import Weight, weights_of
from qinspect.tflite.graph import RESHAPING, Graph

# Channels go through these one by one, and a factor of a channel with them.
_THROUGH = (RESHAPING - {"TRANSPOSE"}) | {"AVERAGE_POOL_2D", "MAX_POOL_2D", "MEAN", "PAD", "RELU"}
_HOMOGENEOUS = frozenset({"NONE", "RELU", "RELU6"})


def in_two_branches(graph: Graph, ratio: float) -> bytes:
    """The first layer in two halves that a CONCATENATION puts together, one of them smaller.

    The second half gives values that are ``ratio`` times as small, and the layer that reads both
    makes as much more of them.
    """
    first, second = _in_a_row(graph)
    kernel = np.array(constant(graph, first.tensor))
    bias = np.zeros(len(kernel), np.float32) if first.bias is None else np.array(
        constant(graph, first.bias))
    half = len(kernel) // 2
    factors = np.where(np.arange(len(kernel)) < half, 1.0, ratio).astype(np.float32)
    reader = np.array(constant(graph, second.tensor))
    # The channels come last, again and again where positions were laid out in a row.
    reader *= np.resize(factors, reader.shape[-1])
    model = fb.ModelT.InitFromPackedBuf(graph.content, 0)
    main = model.subgraphs[0]
    _write(model, main.tensors[second.tensor.index], reader)
    whole = first.operator.outputs[0]
    operators, parts = [], []
    for name, at in (("large", slice(0, half)), ("small", slice(half, None))):
        factor = 1.0 if name == "large" else 1 / ratio
        inputs = [first.operator.inputs[0]]
        for what, values in (("weights", kernel[at]), ("bias", bias[at])):
            inputs.append(_added(main, first.tensor.index, f"{name}/{what}", values.shape))
            _write(model, main.tensors[-1], values * np.float32(factor))
        parts.append(_part(main, whole, f"{name}/output", len(kernel[at])))
        operator = copy(main.operators[first.operator.index])
        operator.inputs, operator.outputs = inputs, [parts[-1]]
        operators.append(operator)
    operators.append(_concatenation(model, parts, whole, len(main.tensors[whole].shape)))
    place = first.operator.index
    main.operators[place : place + 1] = operators
    builder = flatbuffers.Builder(len(graph.content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _in_a_row(graph: Graph) -> tuple[Weight, Weight]:
    """The first layer whose channels a single other layer reads, and that one."""
    main = graph.main
    by_operator = {weight.operator.index: weight for weight in weights_of(main)}
    for weight in by_operator.values():
        op = weight.operator
        if op.code not in ("CONV_2D", "FULLY_CONNECTED") or op.activation not in _HOMOGENEOUS:
            continue
        index = op.outputs[0]
        for _ in main.operators:
            readers = [one for one in main.operators if index in one.inputs]
            if len(readers) != 1:
                break
            found = by_operator.get(readers[0].index)
            if found is not None:
                if found.tensor.shape[-1] % weight.tensor.shape[0] == 0:
                    return weight, found
                break
            if readers[0].code not in _THROUGH:
                break
            index = readers[0].outputs[0]
    raise SpecError(f"{graph.file} has no two layers in a row; take another network.")


def _write(model: Any, tensor: Any, values: Array) -> None:
    """Give a constant tensor a buffer of its own with other values."""
    buffer = fb.BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(values, np.float32).tobytes(), np.uint8)
    tensor.buffer = len(model.buffers)
    model.buffers.append(buffer)


def _added(main: Any, like: int, name: str, shape: tuple[int, ...]) -> int:
    tensor = copy(main.tensors[like])
    tensor.name, tensor.shape, tensor.shapeSignature = name, list(shape), None
    main.tensors.append(tensor)
    return len(main.tensors) - 1


def _part(main: Any, whole: int, name: str, channels: int) -> int:
    """A tensor like another one, of fewer channels."""
    tensor = copy(main.tensors[whole])
    tensor.name, tensor.shape = name, [*tensor.shape[:-1], channels]
    if tensor.shapeSignature is not None:
        tensor.shapeSignature = [*tensor.shapeSignature[:-1], channels]
    main.tensors.append(tensor)
    return len(main.tensors) - 1


def _concatenation(model: Any, parts: list[int], whole: int, rank: int) -> Any:
    code, operator, options = fb.OperatorCodeT(), fb.OperatorT(), fb.ConcatenationOptionsT()
    code.builtinCode = code.deprecatedBuiltinCode = fb.BuiltinOperator.CONCATENATION
    code.version = 1
    options.axis = rank - 1
    operator.opcodeIndex = len(model.operatorCodes)
    model.operatorCodes.append(code)
    operator.inputs, operator.outputs = parts, [whole]
    operator.builtinOptionsType = fb.BuiltinOptions.ConcatenationOptions
    operator.builtinOptions = options
    return operator


def in_dynamic_range(graph: Graph) -> bytes:
    """The file with int8 weights of every size, whose activations are quantized while running."""
    # The converter leaves small kernels in float.
    from contextlib import redirect_stdout
    from io import StringIO

    from litert_quantizer import quantizer, recipe

    with redirect_stdout(StringIO()):
        made = quantizer.Quantizer(graph.content, recipe.dynamic_wi8_afp32()).quantize()
    return bytes(made.quantized_model)
