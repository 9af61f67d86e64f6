"""``.tflite`` files compared on the same examples: what they are, pairs, layers, kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from qinspect.errors import DataError
from qinspect.show import figures, text
from qinspect.show.table import Table, table
from qinspect.show.view import Section, View
from qinspect.show.views.comparisons import alike, comparison_table, pair_figures, short

if TYPE_CHECKING:
    from qinspect.comparisons import FileComparison
    from qinspect.show.figure import Figure

_WORST_LAYERS = 8


def view(found: FileComparison) -> View:
    """The view of compared files."""
    report = found.numbers
    names = text.short_names(report["names"])
    pairs = short(report["comparisons"], names)
    against = list(dict.fromkeys(row["b"] for row in report["layers"]))
    return View(
        f"Comparison of {', '.join(report['names'])}",
        tuple(text.renamed(line, names) for line in _sentences(report)),
        tuple(filter(None, (
            file_table(report, names), comparison_table(pairs), _agreement(report, names),
            *(layer_table(report, b, names) for b in against)))),
        {**(pair_figures(pairs) if pairs else {}),
         **{f"layers of {names[b]}": _profile(report, b, names) for b in against}},
        (Section("Every verdict", tuple(text.renamed(line, names) for line in _all(report)),
                 folded=True),
         *(Section(f"Scales of {names[a]} and {names[b]} side by side",
                   tables=(_scales(report, a, b),), folded=True)
           for a, b in dict.fromkeys((row["a"], row["b"]) for row in report["recipes"])),
         *(section for row in report["flips"] for section in _flips(row, names))),
        (*alike(report.get("cochran_q")), *report["notes"]), names,
        explore=lambda: _explore(found), layers=found.layers,
    )


def file_table(report: Mapping[str, Any], names: Mapping[str, str]) -> Table:
    """One row a file: what it is, accuracy, ties, kernels."""
    rows = [{**file, "kernel": kernel, "tie": tie} for file, kernel, tie in
            zip(report["files"], report["kernels"], report["ties"], strict=True)]

    def tied(row: Mapping[str, Any]) -> str:
        tie = row["tie"]
        if not tie["tied"] or tie["accuracy_worst"] is None:
            return f"{tie['tied']:,}"
        worst, best = 100 * tie["accuracy_worst"], 100 * tie["accuracy_best"]
        return f"{tie['tied']:,} (accuracy {worst:.2f} to {best:.2f})"

    def flips(row: Mapping[str, Any]) -> str:
        kernel = row["kernel"]
        return "did not run" if kernel["error"] else f"{kernel['flips']} of {kernel['examples']}"

    return table(f"Files, {report['n']:,} examples", rows, {
        "file": lambda row: names[row["name"]], "is really": "scheme",
        "accuracy": ("accuracy", text.percent),
        "interval": ("accuracy_ci", text.percent_interval),
        "origin": lambda row: row["origin"]["value"], "size": ("size", text.size),
        "tied outputs": tied, "flips, reference kernels": flips,
    }, caption="What a file is comes from its content, not from its name.",
        spare=("tied outputs", "flips, reference kernels", "interval"))


def _agreement(report: Mapping[str, Any], names: Mapping[str, str]) -> Table:
    rows = [{**pair, "lineage": line["verdict"]}
            for pair, line in zip(report["agreement"], report["lineage"], strict=True)]

    def sqnr(row: Mapping[str, Any]) -> Any:
        value = row["output_sqnr_db"]
        return "equal" if row["outputs_equal"] else None if value is None else text.decibels(value)

    return table("Outputs", rows, {
        "a": lambda row: names[row["a"]], "b": lambda row: names[row["b"]],
        "same class": ("agreement", text.percent), "output SQNR": sqnr, "lineage": "lineage"})


def layer_table(report: Mapping[str, Any], b: str, names: Mapping[str, str]) -> Table:
    """One row a layer of file ``b``, the largest error of its own first."""
    rows: dict[str, dict[str, Any]] = {}
    for row in report["layers"]:
        if row["b"] == b:
            rows.setdefault(row["layer"], {**row, "own": {}, "all": {}})
            rows[row["layer"]]["own" if row["reference"] == "local" else "all"] = row

    def own(key: str, where: str = "own") -> Any:
        return lambda row: row[where].get(key)

    def bounds(kind: str) -> Any:
        return lambda row: (row.get(f"{kind}_low"), row.get(f"{kind}_high"))

    def worst(row: Mapping[str, Any]) -> float:
        value = row["own"].get("sqnr_db")
        return float("inf") if value is None else value

    return table(f"{names[b]}: layers, the largest error of their own first",
                 sorted(rows.values(), key=worst), {
        "layer": lambda row: text.elided(row["layer"], 44), "operator": "op",
        "own SQNR": (own("sqnr_db"), text.decibels),
        "accumulated": (own("sqnr_db", "all"), text.decibels),
        "RMSE / scale": (own("rmse_over_scale"), "{:.2f}".format),
        "clipped": (own("clipped_share"), text.percent),
        "bits used": (own("effective_bits"), "{:.1f}".format),
        "stored range": (bounds("stored"), text.span),
        "calibration range": (bounds("calibration"), text.span),
    }, most=_WORST_LAYERS, spare=("calibration range", "operator", "RMSE / scale", "stored range"),
        caption=f"On the first {report['detail_examples']:,} examples. Own: what the layer adds by "
                "itself, given the inputs it has in the quantized file; accumulated: everything "
                "before it included. RMSE / scale of ideal rounding is 0.29.")


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


def _sentences(report: Mapping[str, Any]) -> list[str]:
    """Verdicts against the first file and sure ones, surprises of lineage and kernels."""
    first = report["names"][0]
    lines = [row["sentence"] for row in report["comparisons"]
             if row["a"] == first or row["verdict"] in ("a_better", "b_better")]
    lines += [f"{line['a']} and {line['b']}: {line['verdict']} ({'; '.join(line['reasons'])})."
              for line in report["lineage"] if line["verdict"] != "same weights"]
    for kernel in report["kernels"]:
        if kernel["flips"]:
            lines.append(f"{kernel['file']}: default and reference kernels give another class for "
                         f"{kernel['flips']} of {kernel['examples']} examples.")
        elif kernel["error"]:
            lines.append(f"{kernel['file']}: reference kernels did not run: {kernel['error']}")
    return lines


def _all(report: Mapping[str, Any]) -> list[str]:
    lines = [row["sentence"] for row in report["comparisons"]]
    return lines + [f"{line['a']} and {line['b']}: {line['verdict']} "
                    f"({'; '.join(line['reasons'])})." for line in report["lineage"]]


def _flips(row: Mapping[str, Any], names: Mapping[str, str]) -> list[Section]:
    a, b = names[row["a"]], names[row["b"]]
    words = {"only_a": f"Of {a} and {b} only {a} is right",
             "only_b": f"Of {a} and {b} only {b} is right",
             "differ": f"{a} and {b} give different classes"}
    return [Section(f"{said}: {len(row[key])} examples", (", ".join(row[key]),), folded=True)
            for key, said in words.items() if row.get(key)]


def _profile(report: Mapping[str, Any], b: str, names: Mapping[str, str]) -> Any:
    def make() -> Figure:
        rows = pd.DataFrame([row for row in report["layers"] if row["b"] == b])
        return figures.sqnr_profile(rows.assign(sqnr_db=rows["sqnr_db"].astype(float))).about(
            names[b])

    return make


def _explore(found: FileComparison) -> Any:
    from qinspect.show.widgets import LayerExplorer

    layers = found.layers()
    if layers is None:
        raise DataError("none of the files is float32, so layers have nothing to stand beside.")
    return LayerExplorer(layers)
