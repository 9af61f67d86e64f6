"""What ``.tflite`` files really are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qinspect.show import text
from qinspect.show.table import Table
from qinspect.show.view import View

if TYPE_CHECKING:
    from qinspect.tflite.identity import Inspections

_RUNS = {
    "ok": "yes, once, in a child process",
    "refused": "no, LiteRT refuses it",
    "crashed": "no, it kills the process that opens it",
    "timeout": "no answer in time",
}
_ORIGIN = {"ptq": "quantized after training", "qat": "quantization-aware training",
           "unknown": "unknown"}
_MAX_NAMES = 12


def view(found: Inspections) -> View:
    """A sentence and a table for each file."""
    names = ", ".join(str(file["file"]) for file in found.files)
    return View(f"Inspection of {names}", (found.sentence,), tuple(map(_table, found.files)))


def _table(file: Mapping[str, Any]) -> Table:
    rows = [
        ("size", text.size(file["size"])),
        ("why", "\n".join(file["reasons"])),
        ("weights", _weights(file["weights"])),
        ("activations", _activations(file["activations"])),
        ("inputs", _tensors(file["inputs"])),
        ("outputs", _tensors(file["outputs"])),
        ("operators", _counts(file["ops"])),
        ("in float", _counts(file["float_ops"]) or "none"),
        ("origin", _origin(file["origin"])),
        ("runs", _RUNS.get(file["runs"], file["runs"])),
        ("warnings", "\n".join(file["warnings"])),
    ]
    lines = [(key if at == 0 else "", line) for key, said in rows if said
             for at, line in enumerate(said.split("\n"))]
    return Table(("", ""), (text.plain, text.plain), tuple(lines),
                 f"{file['file']}: {file['scheme']}", most=len(lines))


def _weights(weights: Mapping[str, Any]) -> str:
    if not weights["total"]:
        return "none"
    parts = [f"{weights['quantized']} of {weights['total']} quantized"]
    parts += [f"{weights[key]} {key.replace('_', ' ')}"
              for key in ("per_channel", "per_tensor", "blockwise") if weights[key]]
    widths = ", ".join(f"{count} with {bits} bits" for bits, count in weights["by_bits"].items())
    return f"{', '.join(parts)}; {widths}"


def _activations(activations: Mapping[str, int]) -> str:
    said = f"{activations['quantized']} of {activations['total']} with stored ranges"
    if activations["dynamic"]:
        said += f"; {activations['dynamic']} operators quantize theirs while running"
    return said


def _tensors(tensors: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for tensor in tensors[:_MAX_NAMES]:
        said = f"{text.printable(tensor['name'])}  {tensor['dtype']} {list(tensor['shape'])}"
        if tensor["scale"] is not None:
            said += f"  scale {tensor['scale']:.6g}, zero point {tensor['zero_point']}"
        lines.append(said)
    if len(tensors) > _MAX_NAMES:
        lines.append(f"and {len(tensors) - _MAX_NAMES} more")
    return "\n".join(lines) or "none"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _origin(origin: Mapping[str, Any]) -> str:
    head = _ORIGIN[origin["value"]]
    if origin["value"] != "unknown":
        head += f" ({origin['confidence']})"
    return "\n".join([head, *(f"- {reason}" for reason in origin["reasons"])])
