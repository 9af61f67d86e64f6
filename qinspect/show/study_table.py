"""Print a study: the table of arms, the headline comparison and its decomposition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from qinspect.show import text

if TYPE_CHECKING:
    from rich.console import Console

    from qinspect.studies.stored import Study

# Columns that the table needs to keep every cell on one line.
_WIDE = 112


def print_study(study: Study, console: Console) -> None:
    """Print the verdict of a study for people."""
    spec = study.summary["spec"]
    console.print(
        f"[bold]{escape(str(spec['dataset']))}[/bold] with {escape(str(spec['model']))}, "
        f"seed {spec['seed']}: {spec['float_epochs']} float and {spec['qat_epochs']} QAT "
        f"epoch(s), {study.summary['arms'][0]['n']:,} test examples"
    )
    console.print(arm_table(study.summary, wide=console.width >= _WIDE))
    for line in headline(study.summary):
        console.print(line, markup=False)
    console.print(decomposition_table(study.summary))
    for note in study.summary["notes"]:
        console.print(f"note: {note}", markup=False)


def find_comparison(summary: dict[str, Any], a: str, b: str) -> dict[str, Any]:
    """The row of ``comparisons`` for a pair of arms."""
    return next(row for row in summary["comparisons"] if (row["a"], row["b"]) == (a, b))


def arm_rows(summary: dict[str, Any]) -> list[dict[str, str]]:
    """The rows of the arm table as text, also used by the report."""
    rows = []
    for arm in summary["arms"]:
        row = {
            "arm": arm["arm"],
            "format": arm["scheme"] or "Keras",
            "size": text.size(arm["bytes"]),
            "accuracy": f"{text.percent(arm['accuracy'])} "
            f"({text.percent_interval(arm['accuracy_ci'])})",
            "difference": "",
            "p": "",
            "verdict": "reference",
        }
        if arm["arm"] != "float":
            paired = find_comparison(summary, "float", arm["arm"])
            row["difference"] = f"{text.points(paired['diff_pp'])} {text.interval(paired['ci_pp'])}"
            row["p"] = text.p_value(paired["p"])
            row["verdict"] = text.verdict(paired["verdict"], "float", arm["arm"])
        rows.append(row)
    return rows


def arm_table(summary: dict[str, Any], *, wide: bool = True) -> Table:
    """Arm, format, size, accuracy, difference to float, p, verdict.

    With ``wide=False`` intervals go to a second line of their cell, for an 80-column terminal.
    """
    percent = f"{100 * summary['spec']['confidence']:g} %"
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1))
    table.add_column("arm", no_wrap=wide)
    table.add_column("format", no_wrap=wide)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column(f"accuracy ({percent})", justify="right")
    table.add_column("to float, points", justify="right")
    table.add_column("p", justify="right", no_wrap=True)
    table.add_column("verdict")
    for row in arm_rows(summary):
        cells = dict(row)
        if not wide:
            cells["accuracy"] = cells["accuracy"].replace(" (", "\n(")
            cells["difference"] = cells["difference"].replace(" [", "\n[")
        table.add_row(*(escape(cell) for cell in cells.values()))
    return table


def headline(summary: dict[str, Any]) -> list[str]:
    """The sentences a reader takes away: QAT against PTQ, and PTQ against float."""
    return [
        find_comparison(summary, "ptq_int8", "qat")["sentence"],
        find_comparison(summary, "float", "ptq_int8")["sentence"],
    ]


def decomposition_table(summary: dict[str, Any]) -> Table:
    """The parts of the gap and their sum."""
    table = Table(title="Where the gap qat - ptq_int8 comes from", title_justify="left",
                  box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("part")
    table.add_column("points", justify="right")
    table.add_column("interval", justify="right")
    for part in summary["decomposition"]:
        table.add_row(part["title"], text.points(part["diff_pp"]), text.interval(part["ci_pp"]))
    gap = find_comparison(summary, "ptq_int8", "qat")
    table.add_section()
    table.add_row("sum: the gap", text.points(gap["diff_pp"]), text.interval(gap["ci_pp"]))
    return table
