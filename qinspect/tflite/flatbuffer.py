"""Bounded access to the tables of a flatbuffer.

The generated accessors follow offsets without verifying them; these helpers keep the amount of
work in proportion to the size of the file.
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as fb

from qinspect.schema import Array

# What the accessors raise when an offset leads outside the file.
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
