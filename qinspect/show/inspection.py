"""What ``qinspect inspect`` prints for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from qinspect.show.text import printable, size

_RUNS = {
    "ok": "yes, once, in a child process",
    "refused": "no, LiteRT refuses it",
    "crashed": "no, it kills the process that opens it",
    "timeout": "no answer in time",
}
_MAX_NAMES = 12


def print_inspection(inspections: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print a table for each inspected file.

    Parameters
    ----------
    inspections : sequence of dict
        From :func:`qinspect.tflite.inspection.inspect_file`.  Names in them are untrusted: they
        are escaped, and control characters are replaced.
    console : rich.console.Console
        Where to print.
    """
    for described in inspections:
        console.print(inspection_table(described))


def inspection_table(described: Mapping[str, Any]) -> Table:
    """Everything about one file in a table of two columns."""
    table = Table(
        title=f"{_safe(described['file'])}: {_safe(described['scheme'])}",
        title_justify="left",
        show_header=False,
        box=None,
        pad_edge=False,
    )
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("size", size(described["size"]))
    table.add_row("why", _lines(described["reasons"]))
    table.add_row("weights", _weights(described["weights"]))
    table.add_row("activations", _activations(described["activations"]))
    table.add_row("inputs", _tensors(described["inputs"]))
    table.add_row("outputs", _tensors(described["outputs"]))
    table.add_row("operators", _counts(described["ops"]))
    table.add_row("in float", _counts(described["float_ops"]) or "none")
    table.add_row("origin", _origin(described["origin"]))
    table.add_row("runs", _RUNS.get(described["runs"], _safe(described["runs"])))
    if described["warnings"]:
        table.add_row("[yellow]warnings[/yellow]", _lines(described["warnings"]))
    return table


def _safe(text: Any) -> str:
    return escape(printable(str(text)))


def _lines(sentences: Sequence[str]) -> str:
    return "\n".join(_safe(sentence) for sentence in sentences)


def _weights(weights: Mapping[str, Any]) -> str:
    if not weights["total"]:
        return "none"
    parts = [f"{weights['quantized']} of {weights['total']} quantized"]
    for key in ("per_channel", "per_tensor", "blockwise"):
        if weights[key]:
            parts.append(f"{weights[key]} {key.replace('_', ' ')}")
    widths = ", ".join(f"{count} with {bits} bits" for bits, count in weights["by_bits"].items())
    return f"{', '.join(parts)}; {widths}"


def _activations(activations: Mapping[str, int]) -> str:
    text = f"{activations['quantized']} of {activations['total']} with stored ranges"
    if activations["dynamic"]:
        text += f"; {activations['dynamic']} operators quantize theirs while running"
    return text


def _tensors(tensors: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for tensor in tensors[:_MAX_NAMES]:
        text = f"{tensor['name']}  {tensor['dtype']} {list(tensor['shape'])}"
        if tensor["scale"] is not None:
            text += f"  scale {tensor['scale']:.6g}, zero point {tensor['zero_point']}"
        lines.append(_safe(text))
    if len(tensors) > _MAX_NAMES:
        lines.append(f"and {len(tensors) - _MAX_NAMES} more")
    return "\n".join(lines) or "none"


def _counts(counts: Mapping[str, int]) -> str:
    return _safe(", ".join(f"{name} {count}" for name, count in counts.items()))


def _origin(origin: Mapping[str, Any]) -> str:
    words = {
        "ptq": "quantized after training",
        "qat": "quantization-aware training",
        "unknown": "unknown",
    }
    head = words[origin["value"]]
    if origin["value"] != "unknown":
        head += f" ({origin['confidence']})"
    return "\n".join([head, *(f"- {_safe(reason)}" for reason in origin["reasons"])])
