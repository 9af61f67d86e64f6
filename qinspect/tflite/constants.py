"""Values of the constant tensors of a ``.tflite`` file: weights, biases, tables."""

from __future__ import annotations

import itertools
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
from ai_edge_litert import schema_py_generated as fb

from qinspect.affine import Affine, dequantize
from qinspect.errors import ModelFileError
from qinspect.schema import Array
from qinspect.tflite.graph import Graph, Operator, Subgraph, Tensor
from qinspect.tflite.read import DAMAGE, Damaged, buffer_span

_PACKED_BITS = {"int2": 2, "int4": 4, "uint4": 4}
_SIGNED = {"int2", "int4"}
_NUMPY = {
    name: np.dtype(name)
    for name in (
        "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16",
        "uint32", "uint64", "bool", "complex64", "complex128",
    )
}


def constant(graph: Graph, tensor: Tensor) -> Array:
    """Stored values of a constant tensor.

    Parameters
    ----------
    graph : Graph
        The file that ``tensor`` belongs to.
    tensor : Tensor
        A constant of any subgraph of it.

    Returns
    -------
    ndarray, shape ``tensor.shape``
        Values as stored, *not* dequantized.  Whole-byte types are a read-only view of the file;
        int2, int4 and uint4 are unpacked to int8 or uint8, bfloat16 to float32, strings to an
        object array of ``bytes``.

    Raises
    ------
    ModelFileError
        If the tensor is not constant, sparse, held in another file, of a type that cannot be
        decoded, or its buffer does not have the size its shape needs.
    """
    where = f"tensor {tensor.index} ({tensor.name!r}) of {graph.file}"
    if not tensor.constant:
        raise ModelFileError(f"{where} is not a constant.")
    if tensor.sparse:
        raise ModelFileError(f"{where} is stored sparse, which cannot be decoded.")
    try:
        root = fb.Model.GetRootAs(graph.content, 0)
        start, length = buffer_span(root.Buffers(tensor.buffer), len(graph.content))
    except (*DAMAGE, Damaged) as error:
        raise ModelFileError(f"the data of {where} lie outside of the file.") from error
    if tensor.dtype == "string":
        return _strings(graph.content[start : start + length], tensor.shape, where)
    count = int(np.prod(tensor.shape, dtype=object)) if tensor.shape else 1
    bits = _PACKED_BITS.get(tensor.dtype)
    if bits is None and tensor.dtype not in _NUMPY and tensor.dtype != "bfloat16":
        raise ModelFileError(f"{where} has the type {tensor.dtype}, which cannot be decoded.")
    stored = np.dtype(np.uint16) if tensor.dtype == "bfloat16" else _NUMPY.get(tensor.dtype)
    needed = -(-count * bits // 8) if bits else count * stored.itemsize  # type: ignore[union-attr]
    if length != needed:
        raise ModelFileError(
            f"{where} has {length:,} bytes, but {tensor.dtype} of shape {tensor.shape} "
            f"takes {needed:,}."
        )
    if bits:
        packed = np.frombuffer(graph.content, np.uint8, length, start)
        return _unpack(packed, bits, count, tensor.dtype in _SIGNED).reshape(tensor.shape)
    assert stored is not None
    values = np.frombuffer(graph.content, stored, count, start).reshape(tensor.shape)
    if tensor.dtype == "bfloat16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values


def dequantized(graph: Graph, tensor: Tensor, subgraph: Subgraph | None = None) -> Array:
    """Real values of a constant: ``scale * (stored - zero_point)``, the LiteRT specification.

    Parameters
    ----------
    graph : Graph
        The file that ``tensor`` belongs to.
    tensor : Tensor
        A constant; float constants are returned as float32 unchanged.
    subgraph : Subgraph or None
        The subgraph of the tensor, needed for blockwise scales; the first one by default.

    Returns
    -------
    ndarray of float32 (float64 from int32 and int64 biases), shape ``tensor.shape``

    Raises
    ------
    ModelFileError
        As :func:`constant`, and if the blocks do not divide the last dimension.
    """
    stored = constant(graph, tensor)
    q = tensor.quantization
    if q is None or stored.dtype.kind not in "iu":
        return stored.astype(np.float32) if stored.dtype.kind in "fiub" else stored
    real = np.float64 if stored.dtype.itemsize >= 4 else np.float32
    if q.blockwise:
        return _blockwise(graph, tensor, stored, subgraph or graph.main)
    return dequantize(stored, Affine(q.scale, q.zero_point, axis=q.axis), real)


def _unpack(packed: Array, bits: int, count: int, signed: bool) -> Array:
    """Elements of ``bits`` bits, the first one in the lowest bits of each byte."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    values = ((packed[:, None] >> shifts) & ((1 << bits) - 1)).reshape(-1)[:count]
    if not signed:
        return values
    wide = values.astype(np.int8)
    return np.where(wide >= 1 << (bits - 1), wide - (1 << bits), wide).astype(np.int8)


def _strings(content: bytes, shape: tuple[int, ...], where: str) -> Array:
    """Strings: int32 count, count + 1 int32 offsets, then the characters."""
    if len(content) < 4:
        raise ModelFileError(f"the strings of {where} are truncated.")
    (count,) = struct.unpack_from("<i", content, 0)
    if count < 0 or 4 * (count + 2) > len(content):
        raise ModelFileError(f"{where} claims {count:,} strings in {len(content):,} bytes.")
    offsets = np.frombuffer(content, "<i4", count + 1, 4)
    values = np.empty(count, dtype=object)
    values[:] = [content[a:b] for a, b in itertools.pairwise(offsets)]
    if int(np.prod(shape, dtype=object)) != count:
        raise ModelFileError(f"{where} holds {count} strings, but its shape is {shape}.")
    return values.reshape(shape)


def _blockwise(graph: Graph, tensor: Tensor, stored: Array, subgraph: Subgraph) -> Array:
    q = tensor.quantization
    assert q is not None
    scales = constant(graph, subgraph.tensors[q.block_scales]).astype(np.float64)
    blocks = stored.size // q.block_size if q.block_size > 0 else 0
    if blocks * q.block_size != stored.size or scales.size != blocks or stored.ndim == 0:
        raise ModelFileError(
            f"tensor {tensor.index} ({tensor.name!r}) of {graph.file} has {stored.size:,} values "
            f"in blocks of {q.block_size}, but {scales.size:,} block scales."
        )
    grouped = stored.reshape(blocks, q.block_size).astype(np.float64) * scales.reshape(-1, 1)
    return grouped.reshape(stored.shape).astype(np.float32)


# How an operator computes with its weight.  float16: half-precision constant, widened before use.
# dynamic_range: integer weight, activations float in the file.  weight_only: integer constant
# behind an explicit DEQUANTIZE.  int8, uint8 (the legacy format), int16x8 (16-bit activations):
# integer weight and activation.  other: complex numbers, for example.
Kind = Literal[
    "float32", "float16", "dynamic_range", "weight_only", "int8", "uint8", "int16x8", "other"
]
INTEGER_KINDS: frozenset[str] = frozenset({"int8", "uint8", "int16x8"})

BITS = {
    "int2": 2, "int4": 4, "uint4": 4, "int8": 8, "uint8": 8, "int16": 16, "uint16": 16,
    "int32": 32, "int64": 64, "float16": 16, "bfloat16": 16, "float32": 32, "float64": 64,
    "float8_e4m3fn": 8, "float8_e5m2": 8,
}
_NARROW_INTEGERS = frozenset({"int2", "int4", "uint4", "int8", "uint8", "int16"})
_HALF_FLOATS = frozenset({"float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"})
FLOATS = frozenset({"float32", "float64"}) | _HALF_FLOATS


@dataclass(frozen=True)
class _Places:
    """Positions of an operator's inputs: weights, activation (None: the output), bias."""

    weights: tuple[int, ...]
    activation: int | None = 0
    bias: int | None = None


# From the operator definitions of the TensorFlow Lite schema.
_PLACES = {
    "CONV_2D": _Places((1,), 0, 2),
    "DEPTHWISE_CONV_2D": _Places((1,), 0, 2),
    "FULLY_CONNECTED": _Places((1,), 0, 2),
    "TRANSPOSE_CONV": _Places((1,), 2, 3),
    "CONV_3D": _Places((1,), 0, 2),
    "CONV_3D_TRANSPOSE": _Places((1,), 2, 3),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _Places(tuple(range(1, 9))),
    "LSTM": _Places(tuple(range(1, 9))),
    "BIDIRECTIONAL_SEQUENCE_LSTM": _Places((*range(1, 9), *range(18, 26))),
    "UNIDIRECTIONAL_SEQUENCE_RNN": _Places((1, 2), 0, 3),
    "BIDIRECTIONAL_SEQUENCE_RNN": _Places((1, 2, 5, 6)),
    "RNN": _Places((1, 2), 0, 3),
    "SVDF": _Places((1, 2), 0, 3),
    "EMBEDDING_LOOKUP": _Places((1,), None),
}
# Either side of a product may be the constant one, and then it is the weight.
_EITHER_SIDE = {"BATCH_MATMUL": (_Places((1,), 0), _Places((0,), 1))}
# A table of at least two dimensions that is looked up by index is an embedding.
_TABLES = {"GATHER": _Places((0,), None)}

# A constant may pass through these on its way to the operator that uses it as a weight.
_PASS_THROUGH = frozenset(
    {"DEQUANTIZE", "RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS", "CAST", "DENSIFY",
     "FAKE_QUANT", "QUANTIZE"}
)


@dataclass(frozen=True)
class Weight:
    """One weight of one operator: its stored constant, and how the operator computes with it."""

    operator: Operator
    position: int  # of the operator's input that it is, or comes in by
    tensor: Tensor
    kind: Kind
    through: tuple[str, ...]  # operators between the constant and its user, in that order
    bias: Tensor | None
    activation: Tensor  # that it meets; the output where the input is an index


def constant_source(
    subgraph: Subgraph, index: int, producers: dict[int, Operator]
) -> tuple[Tensor, tuple[str, ...]] | None:
    """The constant behind a tensor, and the operators it passes through; None if computed."""
    through: list[str] = []
    # A chain longer than the list of operators would be a cycle, which a damaged file may hold.
    for _ in range(len(subgraph.operators) + 1):
        if index < 0:
            return None
        tensor = subgraph.tensors[index]
        if tensor.constant:
            return tensor, tuple(reversed(through))
        producer = producers.get(index)
        if producer is None or producer.code not in _PASS_THROUGH or not producer.inputs:
            return None
        through.append(producer.code)
        index = producer.inputs[0]
    return None


def producers_of(subgraph: Subgraph) -> dict[int, Operator]:
    """The operator that writes each tensor, by tensor index."""
    return {index: op for op in subgraph.operators for index in op.outputs}


def weights_of(subgraph: Subgraph) -> tuple[Weight, ...]:
    """Weights of a subgraph in the order of their operators."""
    producers = producers_of(subgraph)
    found = []
    for op in subgraph.operators:
        places = _places(op, subgraph, producers)
        if places is None:
            continue
        activation = _activation(op, places, subgraph)
        if activation is None:
            continue
        bias = None
        if places.bias is not None and places.bias < len(op.inputs):
            source = constant_source(subgraph, op.inputs[places.bias], producers)
            bias = source[0] if source else None
        for position in places.weights:
            if position >= len(op.inputs):
                continue
            source = constant_source(subgraph, op.inputs[position], producers)
            if source is None:
                continue
            tensor, through = source
            kind = _kind(tensor, through, activation)
            found.append(Weight(op, position, tensor, kind, through, bias, activation))
    return tuple(found)


def _places(op: Operator, subgraph: Subgraph, producers: dict[int, Operator]) -> _Places | None:
    if op.code in _PLACES:
        return _PLACES[op.code]
    for places in _EITHER_SIDE.get(op.code, ()):
        position = places.weights[0]
        if position < len(op.inputs) and constant_source(subgraph, op.inputs[position], producers):
            return places
    if op.code in _TABLES and op.inputs:
        source = constant_source(subgraph, op.inputs[0], producers)
        if source and len(source[0].shape) >= 2 and _is_number(source[0]):
            return _TABLES[op.code]
    return None


def _is_number(tensor: Tensor) -> bool:
    return tensor.dtype in FLOATS or (
        tensor.dtype in _NARROW_INTEGERS and tensor.quantization is not None
    )


def _activation(op: Operator, places: _Places, subgraph: Subgraph) -> Tensor | None:
    indices = op.outputs if places.activation is None else op.inputs
    position = places.activation or 0
    if position >= len(indices) or indices[position] < 0:
        return None
    return subgraph.tensors[indices[position]]


def _kind(weight: Tensor, through: tuple[str, ...], activation: Tensor) -> Kind:
    if weight.dtype in _HALF_FLOATS:
        return "float16"
    if weight.dtype in ("float32", "float64"):
        if "QUANTIZE" in through and activation.dtype not in FLOATS:
            return "int16x8" if activation.dtype == "int16" else "int8"
        return "float32"
    if weight.dtype not in _NARROW_INTEGERS:
        return "other"
    if "DEQUANTIZE" in through:
        return "weight_only"
    if activation.dtype in FLOATS:
        return "dynamic_range"
    if activation.dtype == "int16":
        return "int16x8"
    if activation.dtype == "uint8" and weight.dtype == "uint8":
        return "uint8"
    return "int8"


def all_weights(graph: Graph) -> tuple[Weight, ...]:
    """Weights of every subgraph."""
    return tuple(weight for subgraph in graph.subgraphs for weight in weights_of(subgraph))


@dataclass(frozen=True)
class NonFinite:
    """A constant of which some values are no numbers: its tensor, and how many are what."""

    tensor: Tensor
    nan: int
    infinite: int
    not_positive: int = 0  # scales


def non_finite(graph: Graph) -> tuple[NonFinite, ...]:
    """Constants that hold NaN, and weights and biases that are infinite; scales count as well.

    Infinite constants of other operators may be meant: masks are made so.  A scale must be above
    zero, too, unless it is of a channel of weights that are zero.
    """
    found = []
    for subgraph in graph.subgraphs:
        weighted = {one.index for weight in weights_of(subgraph)
                    for one in (weight.tensor, weight.bias) if one is not None}
        used = {index for op in subgraph.operators for index in op.inputs if index >= 0}
        used |= set(subgraph.outputs)
        for tensor in subgraph.tensors:
            if tensor.index not in used or tensor.dtype == "string":
                continue
            scale = np.empty(0) if tensor.quantization is None else tensor.quantization.scale
            least = np.finfo(float).tiny if not tensor.constant else 0.0
            below, endless = (int(np.count_nonzero(one)) for one in (scale < least,
                                                                     np.isinf(scale)))
            values = [scale]
            if tensor.constant and tensor.dtype in FLOATS:
                with suppress(ModelFileError):  # of a type that nothing here can decode
                    values.append(constant(graph, tensor))
            nan = sum(int(np.count_nonzero(np.isnan(one))) for one in values)
            infinite = sum(int(np.count_nonzero(np.isinf(one))) for one in values)
            if nan or below or endless or (infinite and tensor.index in weighted):
                found.append(NonFinite(tensor, nan, infinite, below))
    return tuple(found)
