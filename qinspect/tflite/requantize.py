"""Quantize a float ``.tflite`` file layer by layer, through litert-quantizer, without TensorFlow.

litert-quantizer finds a layer by searching a regular expression in the names of its output
tensors, joined by semicolons ("scope"), and finds a range by the name of the tensor.  Names are
therefore escaped, anchored, and required to be unique.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as fb

from qinspect.affine import LIMITS
from qinspect.errors import ModelFileError, SpecError
from qinspect.schema import Array
from qinspect.tflite.constants import constant
from qinspect.tflite.graph import Graph, Operator, Subgraph, Tensor
from qinspect.tflite.network import layer_names

# int16x8: activations of 16 bits, weights of 8.
Precision = Literal["float32", "int8", "int16x8"]
PRECISIONS: tuple[str, ...] = ("float32", "int8", "int16x8")

_ACTIVATION_BITS = {"int8": 8, "int16x8": 16}


@dataclass(frozen=True)
class QuantizableOperator:
    """An operator that can be quantized on its own: index, unique name for people, code."""

    index: int  # among the operators of the main subgraph
    name: str
    op: str


@dataclass(frozen=True)
class Ranges:
    """Ranges from which activations are quantized, and operators whose weights take one scale."""

    bounds: Mapping[str, tuple[float, float]]  # by name of a float tensor, real units
    # Operators whose weights take one scale in all instead of one a channel.
    per_tensor: frozenset[int] = field(default_factory=frozenset)


def check_float(graph: Graph) -> None:
    """Refuse a file that is not all float32, or whose tensor names are missing or not unique."""
    for tensor in graph.main.tensors:
        if tensor.quantization is not None and tensor.dtype in LIMITS:
            raise ModelFileError(
                f"{graph.file} is not a float model: tensor {tensor.name!r} is {tensor.dtype}; "
                "give the float32 file it was made from."
            )
        if tensor.dtype == "float16":
            raise ModelFileError(
                f"{graph.file} is not a float32 model: tensor {tensor.name!r} is float16; give the "
                "float32 file it was made from."
            )
    scopes = [_scope(graph.main, op) for op in graph.main.operators]
    names = [tensor.name for tensor in activations(graph)]
    if len(set(scopes)) < len(scopes) or len(set(names)) < len(names) or "" in names:
        raise ModelFileError(
            f"{graph.file} has tensors without a name or with the same name, so its layers "
            "cannot be told apart by the quantizer."
        )


def activations(graph: Graph) -> tuple[Tensor, ...]:
    """Float tensors of the main subgraph that are computed or fed, not constant."""
    return tuple(t for t in graph.main.tensors if not t.constant and t.dtype == "float32")


def quantizable_operators(
    graph: Graph, precision: Precision = "int8"
) -> tuple[QuantizableOperator, ...]:
    """The operators of a float32 file that litert-quantizer can quantize, in execution order."""
    check_float(graph)
    manager = _recipe_manager()
    _add_static(manager, ".*", precision, per_tensor=False)
    names = layer_names(graph.main)
    found = []
    for op in graph.main.operators:
        key = _operation(graph, op)
        if key is None or not any(
            index >= 0 and graph.main.tensors[index].dtype == "float32" for index in op.inputs
        ):
            continue
        algorithm, _ = manager.get_quantization_configs(key, _scope(graph.main, op))
        if algorithm != "no_quantize":
            found.append(QuantizableOperator(op.index, names[op.index], op.code))
    return tuple(found)


def quantize_file(
    graph: Graph,
    ranges: Ranges,
    precision: Precision = "int8",
    layers: Mapping[int, Precision] | None = None,
) -> bytes:
    """A quantized copy of a float32 file, with its own precision for chosen operators."""
    # Inputs and outputs become integers when `precision` is not float32 and the layers beside them
    # are quantized; QUANTIZE and DEQUANTIZE are put where precisions meet.  Weights are symmetric,
    # per channel unless `ranges.per_tensor` says otherwise.
    if precision == "float32" and all(p == "float32" for p in (layers or {}).values()):
        check_float(graph)
        return graph.content
    recipe = recipe_of(graph, ranges.per_tensor, precision, layers)
    observed = _observations(graph, ranges)
    try:
        # All-zero channels make NumPy warn, tensors kept for a look LiteRT; neither matters here.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quantizer = _quantizer("quantizer").Quantizer(_with_wide_codes(graph.content), recipe)
            result = quantizer.quantize(
                observed, enable_progress_bar=False, enable_progress_report=False
            )
    # The quantizer raises whatever its parts raise; none of it is a fault of the caller's code.
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelFileError(f"litert-quantizer cannot quantize {graph.file}: {reason}") from error
    return bytes(result.quantized_model)


def recipe_of(
    graph: Graph,
    per_tensor: frozenset[int],
    precision: Precision = "int8",
    layers: Mapping[int, Precision] | None = None,
) -> list[dict[str, Any]]:
    """The quantizer's own recipe for such a file, plain data; ranges are no part of it."""
    check_float(graph)
    chosen = dict(layers or {})
    for name in (precision, *chosen.values()):
        if name not in PRECISIONS:
            raise SpecError(f"precision is {name!r}; choose one of {', '.join(PRECISIONS)}.")
    for index in chosen:
        if not 0 <= index < len(graph.main.operators):
            raise SpecError(
                f"there is no operator {index} in {graph.file}, which has "
                f"{len(graph.main.operators)}."
            )
    manager = _recipe_manager()
    if precision != "float32":
        _add_static(manager, ".*", precision, per_tensor=False)
        for index in sorted(per_tensor - chosen.keys()):
            _add_static(manager, _regex(graph, index), precision, per_tensor=True)
    for index, name in chosen.items():
        regex = _regex(graph, index)
        if name == "float32":
            manager.add_quantization_config(regex, _all_operators(), None, "no_quantize")
        else:
            _add_static(manager, regex, name, per_tensor=index in per_tensor)
    recipe: list[dict[str, Any]] = manager.get_quantization_recipe()
    return recipe


def _with_wide_codes(content: bytes) -> bytes:
    """The file with every operator code in its wide field, the only one the quantizer reads."""
    # Converters before TensorFlow 2.4 wrote the byte field alone, which it takes for ADD (0).
    model = fb.Model.GetRootAs(content, 0)
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    if all(code.BuiltinCode() >= code.DeprecatedBuiltinCode() for code in codes):
        return content
    unpacked = fb.ModelT.InitFromPackedBuf(content, 0)
    for code in unpacked.operatorCodes:
        code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(unpacked.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _observations(graph: Graph, ranges: Ranges) -> dict[str, dict[str, Any]]:
    absent = [t.name for t in activations(graph) if t.name not in ranges.bounds]
    if absent:
        raise ModelFileError(
            f"{len(absent)} tensors of {graph.file} have no range, the first is {absent[0]!r}."
        )
    observed = {}
    for tensor in activations(graph):
        low, high = ranges.bounds[tensor.name]
        if not (np.isfinite(low) and np.isfinite(high) and low <= high):
            raise ModelFileError(
                f"the range of tensor {tensor.name!r} of {graph.file} is {low:g} to {high:g}; "
                "it must be finite and ascending."
            )
        shape = (1,) * len(tensor.shape)
        observed[tensor.name] = {
            "min": np.full(shape, low, np.float32),
            "max": np.full(shape, high, np.float32),
        }
    return observed


def _quantizer(module: str) -> Any:
    """A module of litert-quantizer."""
    return import_module(f"litert_quantizer.{module}")


def _recipe_manager() -> Any:
    return _quantizer("recipe_manager").RecipeManager()


def _all_operators() -> Any:
    return _quantizer("qtyping").TFLOperationName.ALL_SUPPORTED


def _add_static(manager: Any, regex: str, precision: str, *, per_tensor: bool) -> None:
    kinds = _quantizer("qtyping").QuantGranularity
    granularity = kinds.TENSORWISE if per_tensor else kinds.CHANNELWISE
    bits = _ACTIVATION_BITS[precision]
    manager.add_static_config(regex, _all_operators(), bits, 8, granularity)


def _scope(subgraph: Subgraph, op: Operator) -> str:
    return "".join(f"{subgraph.tensors[index].name};" for index in op.outputs)


def _regex(graph: Graph, index: int) -> str:
    return f"^{re.escape(_scope(graph.main, graph.main.operators[index]))}$"


def _operation(graph: Graph, op: Operator) -> Any:
    """The quantizer's name of an operator, or None for one that it does not know."""
    known = _quantizer("utils.tfl_flatbuffer_utils").TFL_OP_CODE_TO_NAME
    return known.get(getattr(fb.BuiltinOperator, op.code, -1))


def replace_constants(graph: Graph, values: Mapping[int, Array]) -> bytes:
    """A copy of a file with other stored values in some constants, by tensor index."""
    # Sizes do not change, so every offset of the flatbuffer stays valid and nothing else is
    # touched.  Floats are rounded to the tensor's type; integers must lie within theirs.
    content = bytearray(graph.content)
    base = np.frombuffer(graph.content, np.uint8).ctypes.data
    written: dict[int, bytes] = {}
    for index, given in values.items():
        if not 0 <= index < len(graph.main.tensors):
            raise SpecError(
                f"there is no tensor {index} in {graph.file}, which has {len(graph.main.tensors)}."
            )
        tensor = graph.main.tensors[index]
        old = constant(graph, tensor)
        start = old.ctypes.data - base
        # Unpacked types are decoded into memory of their own, whose bytes are not the file's.
        if not 0 <= start <= len(content) - old.nbytes or str(old.dtype) != tensor.dtype:
            raise ModelFileError(
                f"tensor {index} ({tensor.name!r}) of {graph.file} is stored as {tensor.dtype}, "
                "which cannot be replaced in place."
            )
        new = _fitting(np.asarray(given), old, f"tensor {index} ({tensor.name!r})").tobytes()
        if written.setdefault(start, new) != new:
            raise SpecError(
                f"tensor {index} ({tensor.name!r}) shares its buffer with another tensor that is "
                "given different values."
            )
        content[start : start + len(new)] = new
    return bytes(content)


def _fitting(given: Array, old: Array, what: str) -> Array:
    if given.shape != old.shape:
        raise SpecError(f"{what} has shape {old.shape}; values of shape {given.shape} do not fit.")
    if old.dtype.kind == "f":
        if given.dtype.kind not in "fiu":
            raise SpecError(f"{what} is {old.dtype}; values of type {given.dtype} do not fit.")
        return np.ascontiguousarray(given, dtype=old.dtype)
    if given.dtype.kind not in "iu":
        raise SpecError(f"{what} is {old.dtype}; values of type {given.dtype} do not fit.")
    if given.size and old.dtype.kind in "iu":
        limits = np.iinfo(old.dtype)
        if given.min() < limits.min or given.max() > limits.max:
            raise SpecError(
                f"{what} is {old.dtype}; values from {given.min()} to {given.max()} do not fit."
            )
    return np.ascontiguousarray(given, dtype=old.dtype)


def round_activations(graph: Graph, grids: Mapping[int, Tensor]) -> bytes:
    """A float file whose activations pass through integers: QUANTIZE, DEQUANTIZE behind each."""
    # `grids`: by index of a float activation the quantized tensor whose type and scale it takes.
    # Everything else is computed in float, so that rounding and clipping are all that is changed.
    # What reads an output by its name finds the rounded one.
    model = fb.ModelT.InitFromPackedBuf(graph.content, 0)
    main = model.subgraphs[0]
    codes = []
    for name in ("QUANTIZE", "DEQUANTIZE"):
        code = fb.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(fb.BuiltinOperator, name)
        code.version = 2
        codes.append(len(model.operatorCodes))
        model.operatorCodes.append(code)
    operators: list[Any] = []
    rounded: dict[int, int] = {}

    def pass_through(index: int) -> None:
        affine, source = grids[index].affine, main.tensors[index]
        if affine is None or affine.scale.size != 1:
            raise ModelFileError(f"tensor {grids[index].name!r} has no single scale to round to.")
        made = [copy(source), copy(source)]
        made[0].name = f"t{len(main.tensors)}/stored"
        made[0].type = getattr(fb.TensorType, grids[index].dtype.upper())
        made[0].quantization = fb.QuantizationParametersT()
        made[0].quantization.scale = affine.scale.astype(np.float32)
        made[0].quantization.zeroPoint = affine.zero_point.astype(np.int64)
        if index in main.inputs:
            made[1].name = f"t{len(main.tensors)}/rounded"
        else:
            source.name = f"t{len(main.tensors)}/exact"
        rounded[index] = len(main.tensors) + 1
        for code, read, one in zip(codes, (index, rounded[index] - 1), made, strict=True):
            operator = fb.OperatorT()
            operator.opcodeIndex, operator.inputs = code, [read]
            operator.outputs = [len(main.tensors)]
            main.tensors.append(one)
            operators.append(operator)

    for index in main.inputs:
        if index in grids:
            pass_through(index)
    for operator in main.operators:
        operators.append(operator)
        operator.inputs = [rounded.get(int(i), int(i)) for i in operator.inputs]
        for index in operator.outputs:
            if index in grids:
                pass_through(int(index))
    main.operators = operators
    main.outputs = [rounded.get(int(i), int(i)) for i in main.outputs]
    for signature in model.signatureDefs or ():
        if signature.subgraphIndex == 0:
            for output in signature.outputs:
                output.tensorIndex = rounded.get(output.tensorIndex, output.tensorIndex)
    builder = flatbuffers.Builder(len(graph.content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
