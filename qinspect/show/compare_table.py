"""Print or write the comparison of several ``.tflite`` files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from qinspect import store
from qinspect.show import markdown, plots, text
from qinspect.show.report import Figure, as_figure, render, write_beside

if TYPE_CHECKING:
    from rich.console import Console

    from qinspect.show.layer_tables import LayerTables

_WORST_LAYERS = 8
_SHOWN_IDS = 10


def print_compare(report: dict[str, Any], console: Console) -> None:
    """Print a comparison for people.

    Parameters
    ----------
    report : dict
        From :func:`qinspect.study.compare.compare_files`.  Names and ids in it are untrusted.
    console : rich.console.Console
        Where to print.
    """
    console.print(f"{report['n']:,} examples")
    console.print(_table("Files", file_cells(report)))
    if report["comparisons"]:
        console.print(_table("Accuracy, paired", comparison_cells(report)))
    console.print(_table("Outputs", agreement_cells(report)))
    for line in sentences(_brief(report)):
        console.print(line, markup=False)
    for b in dict.fromkeys(row["b"] for row in report["layers"]):
        title = f"{b}: the layers with the largest error of their own"
        console.print(_table(title, layer_cells(report, b)[:_WORST_LAYERS]))
    for note in report["notes"]:
        console.print(f"note: {text.printable(note)}", markup=False)


def write_compare_report(
    report: dict[str, Any], path: str | os.PathLike[str], tables: LayerTables | None = None
) -> Path:
    """Write a comparison as one HTML file, with the same as Markdown and JSON beside it.

    Parameters
    ----------
    report : dict
        From :func:`qinspect.study.compare.compare_files`; everything is escaped.
    path : path
        Where to write.
    tables : LayerTables, optional
        Layers whose histograms the page shows.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    target = Path(path)
    tables_shown = [("Files", file_cells(report))]
    if report["comparisons"]:
        tables_shown.append(("Accuracy, paired", comparison_cells(report)))
    tables_shown.append(("Outputs", agreement_cells(report)))
    details = [
        (f"Layers of {b}", layer_cells(report, b))
        for b in dict.fromkeys(row["b"] for row in report["layers"])
    ]
    details += [
        (f"Scales of {a} and {b} side by side", recipe_cells(report, a, b))
        for a, b in dict.fromkeys((row["a"], row["b"]) for row in report["recipes"])
    ]
    page = render(
        "compare.html",
        tables,
        figures=compare_figures(report),
        names=report["names"],
        n=report["n"],
        sentences=sentences(report),
        tables_shown=tables_shown,
        details=details,
        flips=report["flips"],
        lineage=report["lineage"],
        detail_examples=report["detail_examples"],
        notes=report["notes"],
    )
    store.write_text(target, page)
    text = markdown.page(
        f"Comparison of {', '.join(report['names'])}",
        [f"{report['n']:,} examples.", *sentences(report), *report["notes"]],
        [(title, markdown.table(rows)) for title, rows in (*tables_shown, *details) if rows],
    )
    write_beside(target, text, report)
    return target


def compare_figures(report: dict[str, Any]) -> list[Figure]:
    """Figures of a comparison: disagreements of each pair, and SQNR along each network."""
    figures = []
    if report["comparisons"]:
        pairs = pd.DataFrame(report["comparisons"])
        figures.append(
            as_figure("Examples on which two files part", plots.discordance(pairs),
                      plots.describe_discordance(pairs))
        )
    layers = pd.DataFrame(report["layers"])
    for b in layers["b"].unique() if len(layers) else ():
        rows = layers[layers["b"] == b]
        rows = rows.assign(sqnr_db=rows["sqnr_db"].astype(float))
        figures.append(
            as_figure(f"Error along {b}", plots.sqnr_profile(rows), plots.describe_sqnr(rows))
        )
    return figures


def file_cells(report: dict[str, Any]) -> list[dict[str, str]]:
    """One row a file: what it is, accuracy, ties, kernels."""
    rows = []
    for file, kernel, tie in zip(report["files"], report["kernels"], report["ties"], strict=True):
        row = {
            "file": file["name"],
            "is really": file["scheme"],
            "origin": file["origin"]["value"],
            "size": text.size(file["size"]),
        }
        if report["labelled"]:
            row["accuracy"] = (
                f"{text.percent(file['accuracy'])} ({text.percent_interval(file['accuracy_ci'])})"
            )
        row["tied outputs"] = str(tie["tied"])
        if tie["tied"] and report["labelled"]:
            worst, best = tie["accuracy_worst"], tie["accuracy_best"]
            row["tied outputs"] += f" (accuracy {100 * worst:.2f} to {100 * best:.2f})"
        row["flips, reference kernels"] = (
            "did not run" if kernel["error"] else f"{kernel['flips']} of {kernel['examples']}"
        )
        rows.append(row)
    return rows


def comparison_cells(report: dict[str, Any]) -> list[dict[str, str]]:
    """One row a pair of files."""
    rows = []
    for c in report["comparisons"]:
        rows.append(
            {
                "a": c["a"],
                "b": c["b"],
                "b - a, points": text.points(c["diff_pp"]),
                f"{100 * c['confidence']:g} % interval": text.interval(c["ci_pp"]),
                "only a right": str(c["a_only"]),
                "only b right": str(c["b_only"]),
                "p (Holm)" if c["p_adjusted"] is not None else "p": text.p_value(c["p"]),
                "verdict": text.verdict(c["verdict"], c["a"], c["b"]),
            }
        )
    return rows


def agreement_cells(report: dict[str, Any]) -> list[dict[str, str]]:
    """One row a pair of files: same class, output SQNR, lineage."""
    rows = []
    for pair, line in zip(report["agreement"], report["lineage"], strict=True):
        same, sqnr = pair["agreement"], pair["output_sqnr_db"]
        rows.append(
            {
                "a": pair["a"],
                "b": pair["b"],
                "same class": "-" if same is None else text.percent(same),
                "output SQNR": "equal"
                if pair["outputs_equal"]
                else "-"
                if sqnr is None
                else f"{sqnr:.1f} dB",
                "lineage": line["verdict"],
            }
        )
    return rows


def layer_cells(report: dict[str, Any], b: str) -> list[dict[str, str]]:
    """One row a layer of file ``b``, the largest local error first."""
    rows = [row for row in report["layers"] if row["b"] == b]
    accumulated = {row["layer"]: row for row in rows if row["reference"] == "accumulated"}
    local = {row["layer"]: row for row in rows if row["reference"] == "local"}
    cells = []
    for layer in sorted(accumulated | local, key=lambda name: _key(local.get(name))):
        own, total = local.get(layer), accumulated.get(layer)
        row = own or total or {}
        cell = {
            "layer": layer,
            "operator": row["op"],
            "own SQNR": _db(own),
            "accumulated SQNR": _db(total),
            "RMSE / scale": _number(own, "rmse_over_scale", "{:.2f}"),
            "clipped": _number(own, "clipped_share", "{:.2%}"),
            "bits used": _number(own, "effective_bits", "{:.1f}"),
            "stored range": _range(row, "stored"),
        }
        if "calibration_low" in row:
            cell["calibration range"] = _range(row, "calibration")
        cells.append(cell)
    return cells


def recipe_cells(report: dict[str, Any], a: str, b: str) -> list[dict[str, str]]:
    """One row a tensor of two quantized files."""
    return [
        {
            "layer": row["layer"],
            "tensor": row["tensor"],
            "a": f"{row['dtype_a']}, {row['granularity_a']}",
            "b": f"{row['dtype_b']}, {row['granularity_b']}",
            "scale b / a": _number(row, "scale_ratio", "{:.3g}"),
            "bits lost in b": _number(row, "bits_lost", "{:+.2f}"),
            "range a": _range(row, "", "_a"),
            "range b": _range(row, "", "_b"),
        }
        for row in report["recipes"]
        if (row["a"], row["b"]) == (a, b)
    ]


def sentences(report: dict[str, Any]) -> list[str]:
    """What to take away: verdicts, lineage, flips between kernels, ids of the flips."""
    lines = [c["sentence"] for c in report["comparisons"]]
    for line in report["lineage"]:
        reasons = "; ".join(line["reasons"])
        lines.append(f"{line['a']} and {line['b']}: {line['verdict']} ({reasons}).")
    for kernel in report["kernels"]:
        if kernel["flips"]:
            lines.append(
                f"{kernel['file']}: default and reference kernels give another class for "
                f"{kernel['flips']} of {kernel['examples']} examples: {_ids(kernel['flip_ids'])}."
            )
        elif kernel["error"]:
            lines.append(f"{kernel['file']}: reference kernels did not run: {kernel['error']}")
    for row in report["flips"]:
        for key, words in (
            ("only_a", f"only {row['a']} right"),
            ("only_b", f"only {row['b']} right"),
            ("differ", f"{row['a']} and {row['b']} give different classes"),
        ):
            if row.get(key):
                lines.append(f"{words}: {_ids(row[key])}.")
    return [text.printable(line) for line in lines]


def _brief(report: dict[str, Any]) -> dict[str, Any]:
    """The report with what a terminal has room for: pairs with the first file, and surprises."""
    first = report["names"][0]

    def shown(row: dict[str, Any]) -> bool:
        return row["a"] == first or row.get("verdict") in ("a_better", "b_better")

    return {
        **report,
        "comparisons": [row for row in report["comparisons"] if shown(row)],
        "flips": [row for row in report["flips"] if shown(row)],
        "lineage": [row for row in report["lineage"] if row["verdict"] != "same weights"],
    }


def _table(title: str, rows: list[dict[str, str]]) -> Table:
    table = Table(title=escape(text.printable(title)), title_justify="left", box=SIMPLE)
    for name in rows[0] if rows else ():
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(escape(text.printable(cell)) for cell in row.values()))
    return table


def _ids(ids: list[str]) -> str:
    shown = ", ".join(ids[:_SHOWN_IDS])
    return shown + (f" and {len(ids) - _SHOWN_IDS} more" if len(ids) > _SHOWN_IDS else "")


def _key(row: dict[str, Any] | None) -> float:
    value = row["sqnr_db"] if row else None
    return float("inf") if value is None else value


def _db(row: dict[str, Any] | None) -> str:
    return _number(row, "sqnr_db", "{:.1f} dB")


def _number(row: dict[str, Any] | None, key: str, form: str) -> str:
    value = row.get(key) if row else None
    return "-" if value is None else form.format(value)


def _range(row: dict[str, Any], prefix: str, suffix: str = "") -> str:
    join = f"{prefix}_" if prefix else ""
    low, high = row.get(f"{join}low{suffix}"), row.get(f"{join}high{suffix}")
    return "-" if low is None or high is None else f"{low:.3g} to {high:.3g}"
