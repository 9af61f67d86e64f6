"""Values of the constant tensors of a ``.tflite`` file: weights, biases, tables."""

from __future__ import annotations

import itertools
import struct

import numpy as np
from ai_edge_litert import schema_py_generated as fb

from qinspect.errors import ModelFileError
from qinspect.schema import Array, Graph, Subgraph, Tensor
from qinspect.tflite.flatbuffer import DAMAGE, Damaged, buffer_span

_PACKED_BITS = {"int2": 2, "int4": 4, "uint4": 4}
_SIGNED = {"int2", "int4"}
_NUMPY = {
    name: np.dtype(name)
    for name in (
        "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16",
        "uint32", "uint64", "bool", "complex64", "complex128",
    )
}  # fmt: skip


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
