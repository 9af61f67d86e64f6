"""``.tflite`` files: what they are, and how they compare on the same examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from qinspect.errors import DataError
from qinspect.metrics import ACCURACY, Metric
from qinspect.show import figures, text
from qinspect.show.table import Table, table
from qinspect.show.view import Section, View, view_of
from qinspect.show.views.layers import error_table, shortened
from qinspect.show.views.predictions import (
    IN_FULL,
    alike,
    answer,
    calibration_table,
    class_table,
    comparison_table,
    pair_figures,
    short,
)
from qinspect.tflite.recorded import recorded_name
from qinspect.verdicts import examples

if TYPE_CHECKING:
    from qinspect.comparisons import FileComparison
    from qinspect.measure.layer_tables import Layers
    from qinspect.show.figure import Figure
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
# Pairs whose verdicts are all said in the beginning.
_FEW = 3
# Remarks after which no number means what it seems to.
_VOID = ("input-units", "no-answer")


def inspections_view(found: Inspections) -> View:
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
        ("remarks", "\n".join(remark["sentence"] for remark in file["remarks"])),
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




def file_comparison_view(found: FileComparison) -> View:
    """The view of compared files."""
    report = found.numbers
    names = text.short_names(report["names"])
    names |= {row["name"]: recorded_name(names[row["file"]]) for row in report["recorded"]}
    pairs = short(report["comparisons"], names)
    metric = ACCURACY if found.comparisons is None else found.comparisons.results.metric
    against = list(dict.fromkeys(row["b"] for row in report["layers"]))
    classes = () if found.comparisons is None else found.comparisons.class_sentences
    return View(
        f"Comparison of {', '.join(names[name] for name in report['names'])}",
        tuple(text.renamed(line, names) for line in (*_answers(report, pairs, metric), *classes)),
        tuple(filter(None, (
            file_table(report, names, metric), _recorded(report, names, metric),
            comparison_table(pairs, metric),
            _agreement(report, names),
            class_table(report["classes"], names, metric) if report["classes"] else None))),
        {**pair_figures(pairs, metric),
         **{f"layers of {names[b]}": _profile(report, b, names) for b in against}},
        (Section(IN_FULL, tuple(text.renamed(line, names) for line in _all(report)), folded=True),
         *_probabilities(report, names),
         *(_layer_section(report, names, b) for b in against),
         *(Section(f"Scales of {names[a]} and {names[b]} side by side",
                   tables=(_scales(report, a, b),), folded=True)
           for a, b in dict.fromkeys((row["a"], row["b"]) for row in report["recipes"])),
         *(section for row in report["flips"] for section in _flips(row, names))),
        tuple(text.renamed(line, names) for line in report["notes"]), names,
        explore=lambda: view_of(_known(found)).widget(), layers=lambda: _layers(found, names),
    )


def _probabilities(report: Mapping[str, Any], names: Mapping[str, str]) -> list[Section]:
    made = calibration_table(report["calibration"], names)
    return [] if made is None else [Section("Probabilities", tables=(made,), folded=True)]


def _layer_section(report: Mapping[str, Any], names: Mapping[str, str], b: str) -> Section:
    rows = [row for row in report["layers"] if row["b"] == b]
    made = error_table("The largest error of their own first", rows, report["detail_examples"])
    name = f"layers of {names[b]}"
    return Section(text.capital(name), tables=(made,), figures=(name,), folded=True)


def file_table(report: Mapping[str, Any], names: Mapping[str, str], metric: Metric) -> Table:
    """One row a file: what it is, what it is worth, ties, kernels."""
    rows = [{**file, "kernel": kernel, "tie": tie} for file, kernel, tie in
            zip(report["files"], report["kernels"], report["ties"], strict=True)]

    def tied(row: Mapping[str, Any]) -> str | None:
        tie = row["tie"]
        if not metric.classes:
            return None
        if not tie["tied"] or tie["accuracy_worst"] is None:
            return f"{tie['tied']:,}"
        worst, best = 100 * tie["accuracy_worst"], 100 * tie["accuracy_best"]
        return f"{tie['tied']:,} (accuracy {worst:.2f} to {best:.2f})"

    def flips(row: Mapping[str, Any]) -> str | None:
        kernel = row["kernel"]
        if kernel["error"]:
            return "did not run"
        return None if kernel["flips"] is None else f"{kernel['flips']} of {kernel['examples']}"

    def change(row: Mapping[str, Any]) -> float | None:
        kernel = row["kernel"]
        return kernel["max_abs"] if kernel["flips"] is None else None

    return table(f"Files, {examples(report['n'])}", rows, {
        "file": lambda row: names[row["name"]], "is really": "scheme",
        metric.title: ("score", text.value_of(metric)),
        "interval": ("score_ci", text.bounds_of(metric)),
        "origin": lambda row: row["origin"]["value"], "size": ("size", text.size),
        "tied outputs": tied, "flips, reference kernels": flips,
        "largest change, reference kernels": (change, text.number),
    }, caption=f"What a file is comes from its content, not from its name. {text.lower(metric)}"
        .rstrip(),
        spare=("tied outputs", "flips, reference kernels", "largest change, reference kernels",
               "interval"))


def _recorded(report: Mapping[str, Any], names: Mapping[str, str], metric: Metric) -> Table | None:
    """Recorded outputs beside those of the file here."""
    if not report["recorded"]:
        return None
    return table(f"Recorded elsewhere, {examples(report['n'])}", report["recorded"], {
        "recorded of": lambda row: names[row["file"]],
        metric.title: ("score", text.value_of(metric)),
        "interval": ("score_ci", text.bounds_of(metric)),
        "other class": ("flips", "{:,}".format), "other output": ("differ", "{:,}".format),
        "by up to": lambda row: row["most"] or None},
        caption="Beside the same file run here.")


def _agreement(report: Mapping[str, Any], names: Mapping[str, str]) -> Table:
    rows = [{**pair, "lineage": line["verdict"]}
            for pair, line in zip(report["agreement"], report["lineage"], strict=True)]

    def sqnr(row: Mapping[str, Any]) -> Any:
        value = row["output_sqnr_db"]
        return "equal" if row["outputs_equal"] else None if value is None else text.decibels(value)

    return table("Outputs", rows, {
        "a": lambda row: names[row["a"]], "b": lambda row: names[row["b"]],
        "same class": ("agreement", text.percent),
        "Cohen's kappa": ("kappa", "{:.3f}".format), "output SQNR": sqnr, "lineage": "lineage"})


def _scales(report: Mapping[str, Any], a: str, b: str) -> Table:
    rows = [row for row in report["recipes"] if (row["a"], row["b"]) == (a, b)]

    def bounds(side: str) -> Any:
        return lambda row: (row.get(f"low_{side}"), row.get(f"high_{side}"))

    return table("", rows, {
        "layer": "layer", "tensor": "tensor",
        "a": lambda row: f"{row['dtype_a']}, {row['granularity_a']}",
        "b": lambda row: f"{row['dtype_b']}, {row['granularity_b']}",
        "scale b / a": "scale_ratio", "bits lost in b": ("bits_lost", "{:+.2f}".format),
        "range a": (bounds("a"), text.span), "range b": (bounds("b"), text.span)})


def _answers(report: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]],
             metric: Metric) -> list[str]:
    """What makes the numbers void, verdicts, other remarks, surprises of the kernels.

    Of many pairs those against the first file, and the sure ones.
    """
    first = pairs[0]["a"] if pairs else ""
    lines = [answer(pair, metric) for pair in pairs if len(pairs) <= _FEW or
             pair["a"] == first or pair["verdict"] in ("a_better", "b_better")]
    lines += [row["sentence"] for row in report["recorded"]]
    for kernel in report["kernels"]:
        if kernel["flips"]:
            lines.append(f"{kernel['file']}: default and reference kernels give another class for "
                         f"{kernel['flips']} of {kernel['examples']} examples.")
        elif kernel["error"]:
            lines.append(f"{kernel['file']}: reference kernels did not run: {kernel['error']}")
    void = [row for row in report["remarks"] if row["id"] in _VOID]
    other = [row for row in report["remarks"] if row["id"] not in _VOID]
    return [*remark_lines(void), *lines, *remark_lines(other)]


def remark_lines(remarks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Remarks as sentences, each with the file that it is about."""
    return [f"{remark['file']}: {remark['sentence']}" if remark["file"] else
            remark["sentence"][0].upper() + remark["sentence"][1:] for remark in remarks]


def _all(report: Mapping[str, Any]) -> list[str]:
    lines = [row["sentence"] for row in report["comparisons"]]
    return [*lines, *alike(report.get("cochran_q")),
            *(f"{line['a']} and {line['b']}: {line['verdict']} ({'; '.join(line['reasons'])})."
              for line in report["lineage"])]


def _flips(row: Mapping[str, Any], names: Mapping[str, str]) -> list[Section]:
    a, b = names[row["a"]], names[row["b"]]
    words = {"only_a": f"Of {a} and {b} only {a} is right",
             "only_b": f"Of {a} and {b} only {b} is right",
             "differ": f"{a} and {b} give different classes"}
    largest = {"better_a": f"Where {a} is better than {b}",
               "better_b": f"Where {b} is better than {a}"}
    return [
        *(Section(f"{said}: {examples(len(row[key]))}", (", ".join(row[key]),), folded=True)
          for key, said in words.items() if row.get(key)),
        *(Section(f"{said}, the largest difference first", (", ".join(row[key]),), folded=True)
          for key, said in largest.items() if row.get(key))]


def _profile(report: Mapping[str, Any], b: str, names: Mapping[str, str]) -> Any:
    def make() -> Figure:
        rows = pd.DataFrame([row for row in report["layers"] if row["b"] == b])
        return figures.sqnr_profile(rows.assign(sqnr_db=rows["sqnr_db"].astype(float))).about(
            names[b])

    return make


def _layers(found: FileComparison, names: Mapping[str, str]) -> Layers | None:
    layers = found.layers()
    return None if layers is None else shortened(layers, names)


def _known(found: FileComparison) -> Layers:
    layers = found.layers()
    if layers is None:
        raise DataError("none of the files is float32, so layers have nothing to stand beside.")
    return layers
