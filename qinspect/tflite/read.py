"""Read a ``.tflite`` flatbuffer into a graph, with work in proportion to the size of the file."""

from __future__ import annotations

import functools
import os
import re
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as fb

from qinspect import store
from qinspect.errors import ModelFileError
from qinspect.schema import Array
from qinspect.tflite.graph import Graph, Operator, Quantization, Subgraph, Tensor

# The generated accessors follow offsets without verifying them; vectors are counted on a budget.
# What they raise when an offset leads outside the file.
DAMAGE = (struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError)
_MAX_NAME = 65_536
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def enum_names(enum: type) -> dict[int, str]:
    """Names of a generated enumeration by value."""
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}


_OPTIONS = enum_names(fb.BuiltinOptions)
_OPTIONS_2 = enum_names(fb.BuiltinOptions2)


class Damaged(Exception):
    """The content contradicts itself; the message completes "<file> is damaged: "."""


class Budget:
    """Bounds the total size of all vectors read, which may overlap in a hostile file."""

    def __init__(self, size: int) -> None:
        self.left = 16 * size + (1 << 20)

    def take(self, count: int, width: int, what: str) -> None:
        """Spend ``count`` entries of ``width`` bytes, or raise :class:`Damaged`."""
        self.left -= count * width
        if self.left < 0:
            raise Damaged(f"{what} claims {count:,} entries, more than the file can hold")


def tables(table: Any, field: str, budget: Budget) -> list[Any]:
    """A field that is a list of tables."""
    count = getattr(table, f"{field}Length")()
    budget.take(count, 8, f"the list of {field.lower()}")
    get = getattr(table, field)
    return [get(i) for i in range(count)]


def vector(table: Any, field: str, width: int, budget: Budget) -> Array:
    """A field that is a list of numbers of ``width`` bytes; empty where absent."""
    count = getattr(table, f"{field}Length")()
    if count == 0:
        return np.empty(0)
    budget.take(count, width, f"a {field.lower()} vector")
    return getattr(table, f"{field}AsNumpy")()


def ints(table: Any, field: str, budget: Budget) -> tuple[int, ...]:
    """A field that is a list of 32-bit integers."""
    return tuple(vector(table, field, 4, budget).tolist())


def check_indices(indices: tuple[int, ...], count: int, what: str, optional: bool = False) -> None:
    """Raise :class:`Damaged` unless every tensor index exists (-1 means absent if optional)."""
    low = -1 if optional else 0
    for index in indices:
        if not low <= index < count:
            raise Damaged(f"{what} is tensor {index}, but there are {count} tensors")


def text(raw: bytes | None) -> str:
    """A string of bounded length, whatever bytes it holds."""
    return (raw or b"")[:_MAX_NAME].decode("utf-8", errors="replace")


def buffer_span(table: Any, size: int) -> tuple[int, int]:
    """First byte and length of a buffer, inside the flatbuffer or appended behind it."""
    offset, length = table.Offset(), table.Size()
    # An offset of 1 is the converter's placeholder for "not yet known".
    if offset > 1:
        if offset + length > size:
            raise Damaged(f"a buffer ends at byte {offset + length:,}, after the end of the file")
        return offset, length
    length = table.DataLength()
    if length == 0:
        return 0, 0
    tab = table._tab
    start = tab.Vector(tab.Offset(4))
    if start < 0 or start + length > size:
        raise Damaged(f"a buffer of {length:,} bytes ends after the end of the file")
    return start, length


@functools.cache
def _option_fields(name: str) -> tuple[type, tuple[tuple[str, str, bool], ...]]:
    """Accessor class of an options table and its fields: (key, method, is a vector)."""
    cls = getattr(fb, name)
    fields = []
    for method, function in vars(cls).items():
        code = getattr(function, "__code__", None)
        if code is None or code.co_argcount != 1 or method.endswith(("Length", "IsNone")):
            continue
        vector = method.endswith("AsNumpy")
        key = method.removesuffix("AsNumpy")
        fields.append((_WORD.sub("_", key).lower(), method, vector))
    return cls, tuple(fields)


def operator_options(op: Any, budget: Budget) -> dict[str, Any]:
    """Numbers, vectors and strings among an operator's builtin options, in snake case."""
    first = _options(_OPTIONS.get(op.BuiltinOptionsType()), op.BuiltinOptions, budget)
    return first | _options(_OPTIONS_2.get(op.BuiltinOptions2Type()), op.BuiltinOptions2, budget)


def _options(name: str | None, union: Callable[[], Any], budget: Budget) -> dict[str, Any]:
    if name is None or name == "NONE":
        return {}
    position = union()
    if position is None:
        return {}
    cls, fields = _option_fields(name)
    table = cls()
    table.Init(position.Bytes, position.Pos)
    values: dict[str, Any] = {}
    for key, method, vector in fields:
        if vector:
            budget.take(getattr(table, method.replace("AsNumpy", "Length"))(), 8, f"{key}")
        value = getattr(table, method)()
        if isinstance(value, np.ndarray):
            values[key] = tuple(value.tolist())
        elif isinstance(value, bytes):
            values[key] = text(value)
        elif isinstance(value, (bool, int, float)) and not vector:
            values[key] = value
    return values


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


def read_content(model: str | os.PathLike[str] | bytes | bytearray) -> bytes:
    """Bytes of a model file, or those that are given."""
    if isinstance(model, (bytes, bytearray)):
        return bytes(model)
    try:
        with Path(model).open("rb") as file:
            # A device has no end.
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(0, "it is no regular file")
            return file.read()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ModelFileError(
            f"cannot read the model file {os.fspath(model)!r}: {reason}."
        ) from error


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
        (see :func:`qinspect.tflite.constant`).

    Raises
    ------
    ModelFileError
        If the path cannot be read, or the content is not a TensorFlow Lite model of schema
        version 3 with at least one subgraph and consistent indices.  Scales that contradict the
        shape of their tensor are a flaw of that tensor alone (``Graph.flaws``).
    """
    content = read_content(model)
    name = "model" if isinstance(model, (bytes, bytearray)) else store.text_of(model)
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
    quantization, flaw = _read_quantization(table.Quantization(), shape, what, budget)
    return Tensor(
        index=index,
        name=text(table.Name()),
        shape=shape,
        shape_signature=signature,
        dtype=_TYPES[code],
        constant=bool(filled) and filled[buffer],
        buffer=buffer,
        quantization=quantization,
        sparse=table.Sparsity() is not None,
        variable=table.IsVariable(),
        flaw=flaw,
    )


def _read_quantization(
    table: Any, shape: tuple[int, ...], what: str, budget: Budget
) -> tuple[Quantization | None, str]:
    """Scales of a tensor, or what is wrong with them: no reason not to read the rest of a file."""
    if table is None:
        return None, ""
    if table.DetailsType() == fb.QuantizationDetails.BlockwiseQuantization:
        union = table.Details()
        block = fb.BlockwiseQuantization()
        block.Init(union.Bytes, union.Pos)
        return Quantization(
            scale=np.empty(0), zero_point=np.empty(0, np.int64), axis=None, blockwise=True,
            block_scales=block.Scales(), block_size=block.BlockSize(),
        ), ""
    scale = vector(table, "Scale", 4, budget).astype(np.float64)
    zero_point = vector(table, "ZeroPoint", 8, budget).astype(np.int64)
    if scale.size == 0:
        return None, ""
    if zero_point.size <= 1:
        zero_point = np.full(scale.size, zero_point[0] if zero_point.size else 0, np.int64)
    if zero_point.size != scale.size:
        return None, f"{what} has {scale.size} scales but {zero_point.size} zero points"
    axis = None
    if scale.size > 1:
        axis = table.QuantizedDimension()
        if not 0 <= axis < len(shape):
            return None, (
                f"{what} has the quantized dimension {axis}, but only {len(shape)} dimensions"
            )
        if shape[axis] != scale.size:
            return None, (
                f"{what} has {scale.size} scales for the {shape[axis]} channels of its "
                f"quantized dimension {axis}"
            )
    return Quantization(scale=scale, zero_point=zero_point, axis=axis), ""


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
