"""Print or write a diagnosis: the cause, what was tried, what is ruled out, what to do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from qinspect import store
from qinspect.show import markdown, text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import Console

    from qinspect.diagnosis.cases import Case
    from qinspect.show.evidence import Draw
    from qinspect.show.report import Figure

_WORDS = {
    "explains": "explains it",
    "indicated": "indicated, not proved",
    "not_shown": "not shown",
    "ruled_out": "ruled out",
    "does_not_apply": "does not apply",
    "not_tried": "not tried",
}


def print_diagnosis(answer: dict[str, Any], console: Console) -> None:
    """Print a diagnosis for people.

    Parameters
    ----------
    answer : dict
        From :meth:`qinspect.diagnose.answer.Diagnosis.to_json`.  Names in it are untrusted.
    console : rich.console.Console
        Where to print.
    """
    console.print(f"[bold]{escape(text.printable(answer['summary']))}[/bold]")
    console.print(f"primary: {answer['primary']}", markup=False)
    tried = tried_cells(answer)
    if tried:
        console.print(_table("What each remedy, applied alone, did to the gap", tried))
    if answer["parts"]:
        console.print(_table("Parts that add up to the gap QAT - PTQ", part_cells(answer)))
    for row in explained(answer):
        console.print(f"{row['id']}: {text.printable(row['sentence'])}", markup=False)
    there = [row for row in answer["causes"] if row["verdict"] == "not_shown"]
    if there:
        console.print("\n[bold]Not shown to move the gap[/bold]")
        for row in there:
            console.print(f"- {row['id']}: {text.printable(row['sentence'])}", markup=False)
    console.print(f"\nruled out: {', '.join(answer['ruled_out']) or 'nothing'}", markup=False)
    for line in untested(answer):
        console.print(f"not tested: {text.printable(line)}", markup=False)
    if answer["late_seconds"] > 0:
        console.print(f"an intervention ended {answer['late_seconds']:.0f} s after the time "
                      "allowed; those left were not started.", markup=False)
    for row in explained(answer)[:1]:
        console.print(f"\n[bold]What to do[/bold]: {escape(row['remedy'])}")
        console.print(_indented(row["code"]), markup=False)


def write_diagnosis_report(
    answer: dict[str, Any], name: str, path: str | os.PathLike[str], case: Case | None = None
) -> Path:
    """Write a diagnosis as one HTML file, with the same as Markdown and JSON beside it.

    Parameters
    ----------
    answer : dict
        From :meth:`qinspect.diagnose.answer.Diagnosis.to_json`; everything is escaped.
    name : str
        Of the case.
    path : path
        Where to write.
    case : Case, optional
        What was diagnosed: its layers, history and batch-norm statistics are drawn.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    from qinspect.show import plots
    from qinspect.show.evidence import case_figures
    from qinspect.show.layer_tables import case_layer_tables
    from qinspect.show.report import as_figure, render, write_beside

    tables = None if case is None else case_layer_tables(case)
    own = {} if case is None else case_figures(case, tables)

    figures = []
    if answer["decomposition"]:
        figures.append(
            as_figure(
                "What each remedy alone closes", effect_plot(answer), describe_effects(answer)
            )
        )
    if answer["parts"]:
        figures.append(
            as_figure(
                "Parts that add up to the gap",
                plots.waterfall(answer["parts"], answer["gap_pp"], total="QAT - PTQ"),
                plots.describe_waterfall(answer["parts"], answer["gap_pp"]),
            )
        )
    target = Path(path)
    page = render(
        "diagnosis.html",
        tables,
        evidence={row["id"]: _figures(row, own.get(row["id"])) for row in answer["causes"]},
        name=name,
        answer=answer,
        words={row["id"]: in_words(row) for row in answer["causes"]},
        tried=tried_cells(answer),
        figures=figures,
        untested=untested(answer),
        numbers={row["id"]: number_cells(row) for row in answer["causes"]},
    )
    store.write_text(target, page)
    write_beside(target, _as_markdown(answer, name), answer)
    return target


def _figures(row: dict[str, Any], own: Draw | None) -> list[Figure]:
    """What its numbers say about a cause against their thresholds, and what else there is."""
    from qinspect.show.evidence import number_figure
    from qinspect.show.plots.style import new_axes
    from qinspect.show.report import as_figure

    figures = []
    for draw in (number_figure(row), own):
        if draw is not None:
            ax = new_axes(7.5, 3.4)
            said = draw(ax)
            figures.append(as_figure(row["title"], ax, said))
    return figures


def _as_markdown(answer: dict[str, Any], name: str) -> str:
    causes = [
        {"cause": row["id"], "verdict": in_words(row), "evidence": row["sentence"]}
        for row in answer["causes"]
    ]
    return markdown.page(
        f"Diagnosis of {name}",
        [answer["summary"], f"{answer['n']:,} examples; primary cause: {answer['primary']}."],
        [
            ("What was tried", markdown.table(tried_cells(answer)) if tried_cells(answer) else ""),
            ("Parts that add up to the gap",
             markdown.table(part_cells(answer)) if answer["parts"] else ""),
            ("Every cause", markdown.table(causes)),
            *((f"Remedy of {row['id']}", f"{markdown.escaped(row['remedy'])}\n\n"
               f"{markdown.code(row['code'])}") for row in explained(answer)[:1]),
        ],
    )


def in_words(row: dict[str, Any]) -> str:
    """The verdict on one cause."""
    return _WORDS[row["verdict"]]


def tried_cells(answer: dict[str, Any]) -> list[dict[str, str]]:
    """One row an intervention, the largest effect first."""
    rows = sorted(
        (row for row in answer["causes"] if row["effect_pp"] is not None),
        key=lambda row: -abs(row["effect_pp"]),
    )
    return [
        {
            "cause": row["id"],
            "what was done": row["intervention"],
            "closes, points": text.points(row["effect_pp"]),
            "interval": text.interval(row["ci_pp"]),
            "of the gap": f"{100 * row['closed_share']:.0f} %",
            "verdict": in_words(row),
        }
        for row in rows
    ]


def part_cells(answer: dict[str, Any]) -> list[dict[str, str]]:
    """One row a part of the gap, the largest first."""
    return [
        {
            "part": part["title"],
            "points": text.points(part["diff_pp"]),
            "interval": text.interval(part["ci_pp"]),
        }
        for part in answer["parts"]
    ]


def number_cells(row: dict[str, Any]) -> list[tuple[str, str]]:
    """The evidence of a cause as names and values."""
    return [(key.replace("_", " "), _value(value)) for key, value in row["evidence"].items()]


def explained(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Causes that explain the gap, or may, the primary one first."""
    return [row for row in answer["causes"] if row["verdict"] in ("explains", "indicated")]


def untested(answer: dict[str, Any]) -> list[str]:
    """What could not be tested, and which input would allow it."""
    lines = [f"{row['id']}: {row['reason']}" for row in answer["not_testable"]]
    lines += [
        f"the remedy of {row['id']}: {row['not_tried']}"
        for row in answer["causes"]
        if row["not_tried"] and row["verdict"] == "indicated"
    ]
    return lines


def effect_plot(answer: dict[str, Any], ax: Axes | None = None) -> Axes:
    """Effect of each intervention with its interval, beside the gap."""
    from qinspect.show.plots.style import COLOURS, new_axes

    rows = answer["decomposition"]
    ax = ax or new_axes(7.0, 1.2 + 0.4 * len(rows))
    for at, row in enumerate(rows):
        colour = COLOURS["good"] if row["confirmed_by_intervention"] else COLOURS["neutral"]
        ax.plot(row["ci_pp"], [at, at], color=colour, linewidth=2)
        ax.plot([row["effect_pp"]], [at], "o", color=colour)
    gap = answer["focus"]["diff_pp"]
    ax.axvline(0, color="black", linewidth=0.8)
    ax.axvline(gap, color="0.4", linewidth=1, linestyle="--")
    ax.set_yticks(range(len(rows)), [row["id"] for row in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlabel("points of the gap that the remedy closes (dashed: the gap)")
    return ax


def describe_effects(answer: dict[str, Any]) -> str:
    """The figure's content as a sentence."""
    listed = "; ".join(
        f"{row['id']} {text.points(row['effect_pp'])} {text.interval(row['ci_pp'])}"
        for row in answer["decomposition"]
    )
    gap = text.points(answer["focus"]["diff_pp"])
    return f"Of the gap of {gap} points, the remedies alone close: {listed}. They overlap."


def _table(title: str, rows: list[dict[str, str]]) -> Table:
    table = Table(title=escape(title), title_justify="left", box=SIMPLE)
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(escape(text.printable(cell)) for cell in row.values()))
    return table


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_value(item) for item in value)
    return "-" if value is None else str(value)


def _indented(code: str) -> str:
    return "\n".join(f"    {line}" for line in code.splitlines())
