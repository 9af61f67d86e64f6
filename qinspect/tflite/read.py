"""Read a ``.tflite`` flatbuffer into the immutable graph of :mod:`qinspect.schema`.

The generated flatbuffer accessors follow offsets without verifying them.  In Python a wrong
offset raises instead of reading foreign memory, but it can still yield vectors of absurd length
and indices that point nowhere; everything is therefore bounded and checked here, once, so that
the rest of the package can trust a :class:`~qinspect.schema.Graph`.
"""

from __future__ import annotations

import itertools
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as fb

from qinspect.errors import ModelFileError
from qinspect.schema import Array, Graph, Operator, Quantization, Subgraph, Tensor
from qinspect.tflite.flatbuffer import (
    DAMAGE,
    Budget,
    Damaged,
    buffer_span,
    check_indices,
    enum_names,
    ints,
    operator_options,
    tables,
    text,
    vector,
)

_IDENTIFIER = b"TFL3"
_VERSION = 3
# LiteRT's kernels take at most 8 dimensions; anything far above is a damaged file.
_MAX_RANK = 64

_TYPES = {value: name.lower() for value, name in enum_names(fb.TensorType).items()}
_OPERATORS = enum_names(fb.BuiltinOperator)
_PADDINGS = enum_names(fb.Padding)
_ACTIVATIONS = enum_names(fb.ActivationFunctionType)
_CUSTOM = "CUSTOM"
# Up to this code operators are stored in a byte of their own; later ones only in the wide field.
_BYTE_CODES = 127

_PACKED_BITS = {"int2": 2, "int4": 4, "uint4": 4}
_SIGNED = {"int2", "int4"}
_NUMPY = {
    name: np.dtype(name)
    for name in (
        "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16",
        "uint32", "uint64", "bool", "complex64", "complex128",
    )
}  # fmt: skip


def read_graph(model: str | os.PathLike[str] | bytes | bytearray) -> Graph:
    """Read a ``.tflite`` file.

    Parameters
    ----------
    model : path or bytes
        The file, or its content.

    Returns
    -------
    Graph
        All subgraphs, operators and tensors; constants stay undecoded in ``Graph.content``
        (see :func:`constant`).

    Raises
    ------
    ModelFileError
        If the path cannot be read, or the content is not a TensorFlow Lite model of schema
        version 3 with at least one subgraph and consistent indices and quantization.
    """
    if isinstance(model, (bytes, bytearray)):
        content, name = bytes(model), "model"
    else:
        name = os.fspath(model)
        try:
            content = Path(model).read_bytes()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ModelFileError(f"cannot read the model file {name!r}: {reason}.") from error
    _refuse_other_formats(content, name)
    try:
        graph = _read_model(content, name)
    except Damaged as error:
        raise ModelFileError(f"{name} is damaged: {error}.") from None
    except (*DAMAGE, MemoryError) as error:
        raise ModelFileError(
            f"{name} is damaged or truncated: its flatbuffer points outside of its "
            f"{len(content):,} bytes."
        ) from error
    if not graph.subgraphs:
        raise ModelFileError(f"{name} has no subgraph, so there is nothing in it to run.")
    return graph


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
    scale, zero_point = q.scale, q.zero_point
    if q.axis is not None and q.per_channel:
        shape = [1] * stored.ndim
        shape[q.axis] = -1
        scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    return ((stored.astype(np.float64) - zero_point) * scale).astype(real)


# --- the file --------------------------------------------------------------------------------


def _refuse_other_formats(content: bytes, name: str) -> None:
    head = content[:512].lstrip()
    if not content:
        raise ModelFileError(f"{name} is empty.")
    if head.startswith(b"version https://git-lfs"):
        raise ModelFileError(
            f"{name} is a Git LFS pointer, not the model itself; fetch it with: git lfs pull"
        )
    if head[:15].lower().startswith((b"<!doctype html", b"<html")):
        raise ModelFileError(
            f"{name} is an HTML page, not a model; download the raw file instead of its web page."
        )
    if content[:2] == b"PK":
        raise ModelFileError(
            f"{name} is a zip archive (a .keras model?), not a .tflite file; convert it first."
        )
    if content[:8] == b"\x89HDF\r\n\x1a\n":
        raise ModelFileError(f"{name} is an HDF5 (Keras .h5) file, not a .tflite file.")
    if len(content) < 8 or content[4:8] != _IDENTIFIER:
        raise ModelFileError(
            f"{name} is not a TensorFlow Lite model: bytes 4 to 8 are {content[4:8]!r}, "
            f"not {_IDENTIFIER!r}."
        )


def _read_model(content: bytes, name: str) -> Graph:
    model = fb.Model.GetRootAs(content, 0)
    budget = Budget(len(content))
    version = model.Version()
    if version != _VERSION:
        raise ModelFileError(
            f"{name} has schema version {version}; only version {_VERSION} can be read."
        )
    buffers = tables(model, "Buffers", budget)
    spans = [buffer_span(buffer, len(content)) for buffer in buffers]
    filled = [length > 0 for _, length in spans]
    codes = [_operator_code(code) for code in tables(model, "OperatorCodes", budget)]
    subgraphs = tuple(
        _read_subgraph(table, i, codes, filled, budget)
        for i, table in enumerate(tables(model, "Subgraphs", budget))
    )
    return Graph(
        file=name,
        content=content,
        subgraphs=subgraphs,
        signatures=tuple(
            text(table.SignatureKey()) for table in tables(model, "SignatureDefs", budget)
        ),
        metadata=tuple(text(table.Name()) for table in tables(model, "Metadata", budget)),
        description=text(model.Description()),
        version=version,
    )


def _operator_code(table: Any) -> tuple[str, str | None]:
    # Old converters wrote only the byte field, new ones both; the larger one counts.
    narrow, wide = table.DeprecatedBuiltinCode(), table.BuiltinCode()
    code = max(narrow, wide) if narrow <= _BYTE_CODES else wide
    name = _OPERATORS.get(code)
    if name is None:
        name = f"UNKNOWN_{code}"
    return name, text(table.CustomCode()) if name == _CUSTOM else None


def _read_subgraph(
    table: Any,
    number: int,
    codes: list[tuple[str, str | None]],
    filled: list[bool],
    budget: Budget,
) -> Subgraph:
    tensors = tuple(
        _read_tensor(t, i, filled, budget) for i, t in enumerate(tables(table, "Tensors", budget))
    )
    where = f"subgraph {number}"
    for tensor in tensors:
        q = tensor.quantization
        if q is not None and q.blockwise:
            check_indices((q.block_scales,), len(tensors), f"the scales of tensor {tensor.index}")
    operators = tuple(
        _read_operator(op, i, codes, len(tensors), budget)
        for i, op in enumerate(tables(table, "Operators", budget))
    )
    inputs, outputs = ints(table, "Inputs", budget), ints(table, "Outputs", budget)
    check_indices(inputs, len(tensors), f"an input of {where}")
    check_indices(outputs, len(tensors), f"an output of {where}")
    return Subgraph(text(table.Name()), tensors, operators, inputs, outputs)


def _read_tensor(table: Any, index: int, filled: list[bool], budget: Budget) -> Tensor:
    what = f"tensor {index}"
    code = table.Type()
    if code not in _TYPES:
        raise Damaged(f"{what} has the unknown type {code}")
    shape = ints(table, "Shape", budget)
    signature = ints(table, "ShapeSignature", budget) or shape
    if len(shape) > _MAX_RANK:
        raise Damaged(f"{what} has {len(shape):,} dimensions")
    if any(d < 0 for d in shape):
        raise Damaged(f"{what} has the shape {shape}")
    buffer = table.Buffer()
    # Buffer 0 is by convention the empty one; some writers leave the whole list out.
    if buffer and buffer >= len(filled):
        raise Damaged(f"{what} uses buffer {buffer}, but there are {len(filled)}")
    budget.take(1, len(table.Name() or b""), f"the name of {what}")
    return Tensor(
        index=index,
        name=text(table.Name()),
        shape=shape,
        shape_signature=signature,
        dtype=_TYPES[code],
        constant=bool(filled) and filled[buffer],
        buffer=buffer,
        quantization=_read_quantization(table.Quantization(), shape, what, budget),
        sparse=table.Sparsity() is not None,
        variable=table.IsVariable(),
    )


def _read_quantization(
    table: Any, shape: tuple[int, ...], what: str, budget: Budget
) -> Quantization | None:
    if table is None:
        return None
    if table.DetailsType() == fb.QuantizationDetails.BlockwiseQuantization:
        union = table.Details()
        block = fb.BlockwiseQuantization()
        block.Init(union.Bytes, union.Pos)
        return Quantization(
            scale=np.empty(0), zero_point=np.empty(0, np.int64), axis=None, blockwise=True,
            block_scales=block.Scales(), block_size=block.BlockSize(),
        )  # fmt: skip
    scale = vector(table, "Scale", 4, budget).astype(np.float64)
    zero_point = vector(table, "ZeroPoint", 8, budget).astype(np.int64)
    if scale.size == 0:
        return None
    if zero_point.size <= 1:
        zero_point = np.full(scale.size, zero_point[0] if zero_point.size else 0, np.int64)
    if zero_point.size != scale.size:
        raise Damaged(f"{what} has {scale.size} scales but {zero_point.size} zero points")
    axis = None
    if scale.size > 1:
        axis = table.QuantizedDimension()
        if not 0 <= axis < len(shape):
            raise Damaged(
                f"{what} has the quantized dimension {axis}, but only {len(shape)} dimensions"
            )
        if shape[axis] != scale.size:
            raise Damaged(
                f"{what} has {scale.size} scales for the {shape[axis]} channels of its "
                f"quantized dimension {axis}"
            )
    return Quantization(scale=scale, zero_point=zero_point, axis=axis)


def _read_operator(
    table: Any, index: int, codes: list[tuple[str, str | None]], tensors: int, budget: Budget
) -> Operator:
    what = f"operator {index}"
    opcode = table.OpcodeIndex()
    if opcode >= len(codes):
        raise Damaged(f"{what} has operator code {opcode}, but there are {len(codes)}")
    code, custom = codes[opcode]
    inputs, outputs = ints(table, "Inputs", budget), ints(table, "Outputs", budget)
    check_indices(inputs, tensors, f"an input of {what}", optional=True)
    check_indices(outputs, tensors, f"an output of {what}")
    options = operator_options(table, budget)
    activation = _ACTIVATIONS.get(options.pop("fused_activation_function", 0), "NONE")
    if "padding" in options:
        options["padding"] = _PADDINGS.get(options["padding"], str(options["padding"]))
    return Operator(index, code, inputs, outputs, activation, custom, options)


# --- decoding --------------------------------------------------------------------------------


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
