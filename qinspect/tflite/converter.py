"""What the TensorFlow converter recorded about the conversion, where it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ai_edge_litert import schema_py_generated as fb
from flatbuffers import number_types
from flatbuffers.table import Table

from qinspect.schema import Graph
from qinspect.tflite.flatbuffer import DAMAGE

_METADATA = b"CONVERSION_METADATA"
# ModelOptimizationMode of TensorFlow's conversion_metadata.fbs.
_MODES = {
    1001: "PTQ_FLOAT16",
    1002: "PTQ_DYNAMIC_RANGE",
    1003: "PTQ_FULL_INTEGER",
    1004: "PTQ_INT16",
    2000: "QUANTIZATION_AWARE_TRAINING",
    3001: "RANDOM_SPARSITY",
    3002: "BLOCK_SPARSITY",
    3003: "STRUCTURED_SPARSITY",
}
_MAX_MODES = 64
# Slots of the fields in their tables, in the order of conversion_metadata.fbs.
_FIRST, _SECOND = 4, 6


@dataclass(frozen=True)
class ConverterRecord:
    """Version of TensorFlow and the optimizations that were applied, by name."""

    version: str
    modes: tuple[str, ...]


def converter_record(graph: Graph) -> ConverterRecord | None:
    """The converter's own record in the file's metadata; None if absent or unreadable."""
    try:
        content = _metadata(graph)
        return _read(content) if content else None
    except DAMAGE:
        return None


def _metadata(graph: Graph) -> bytes | None:
    model = fb.Model.GetRootAs(graph.content, 0)
    for i in range(len(graph.metadata)):
        entry = model.Metadata(i)
        if entry.Name() == _METADATA:
            return bytes(model.Buffers(entry.Buffer()).DataAsNumpy())
    return None


def _read(content: bytes) -> ConverterRecord:
    root = Table(content, 0)
    root = Table(content, root.Get(number_types.UOffsetTFlags, 0))
    environment, options = _child(root, _FIRST), _child(root, _SECOND)
    version = ""
    modes: tuple[str, ...] = ()
    if environment is not None and (offset := environment.Offset(_FIRST)):
        version = environment.String(offset + environment.Pos)[:64].decode("utf-8", "replace")
    if options is not None and (offset := options.Offset(_FIRST)):
        if options.VectorLen(offset) > _MAX_MODES:
            raise ValueError("too many optimization modes")
        codes = options.GetVectorAsNumpy(number_types.Int32Flags, offset).tolist()
        modes = tuple(_MODES.get(code, str(code)) for code in codes)
    return ConverterRecord(version, modes)


def _child(table: Any, slot: int) -> Any:
    offset = table.Offset(slot)
    return Table(table.Bytes, table.Indirect(offset + table.Pos)) if offset else None
