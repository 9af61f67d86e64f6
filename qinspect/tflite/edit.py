"""Change the constants of a ``.tflite`` file in place, without rebuilding it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qinspect.errors import ModelFileError, SpecError
from qinspect.schema import Array, Graph
from qinspect.tflite.constants import constant


def replace_constants(graph: Graph, values: Mapping[int, Array]) -> bytes:
    """A copy of a file with other values in some of its constants.

    Sizes do not change, so every offset of the flatbuffer stays valid and nothing else of the
    file is touched.

    Parameters
    ----------
    graph : Graph
        The file.
    values : mapping of int to ndarray
        Index of a constant tensor of the main subgraph -> new stored values, of its shape.
        Floating values are rounded to the tensor's floating type; integer tensors take integers
        within their type only, quantized by the caller.

    Returns
    -------
    bytes
        The new file.

    Raises
    ------
    SpecError
        If an index, a shape or a type does not fit, or two tensors that share one buffer are
        given different values.
    ModelFileError
        If a tensor is not a constant, or is packed (int4) or sparse.
    """
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
