"""A study: its models, the gap QAT - PTQ and where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from qinspect.show import figures, text
from qinspect.show.table import Table, table
from qinspect.show.view import Section, View
from qinspect.show.views.comparisons import comparison_table, resamples

if TYPE_CHECKING:
    from qinspect.studies.stored import Study


def view(study: Study) -> View:
    """The view of a finished study."""
    summary = study.summary
    spec = summary["spec"]
    return View(
        f"Study: {spec['dataset']}, {spec['model']}, seed {spec['seed']}",
        headline(summary),
        (arm_table(summary), part_table(summary)),
        _figures(study),
        (Section("All comparisons", tables=(comparison_table(summary["comparisons"]),),
                 folded=True),
         Section("Settings and versions", tables=(_settings(summary),), folded=True)),
        tuple(summary["notes"]),
        explore=lambda: _explore(study),
        layers=study.layers,
    )


def headline(summary: dict[str, Any]) -> tuple[str, ...]:
    """The sentences to take away: QAT against PTQ, and PTQ against float."""
    return (_pair(summary, "ptq_int8", "qat")["sentence"],
            _pair(summary, "float", "ptq_int8")["sentence"])


def arm_table(summary: dict[str, Any]) -> Table:
    """One row a model."""
    spec = summary["spec"]
    to_float = {row["b"]: row for row in summary["comparisons"] if row["a"] == "float"}

    def paired(key: str) -> Any:
        return lambda arm: to_float.get(arm["arm"], {}).get(key)

    def verdict(arm: dict[str, Any]) -> str:
        row = to_float.get(arm["arm"])
        return "reference" if row is None else text.verdict(row["verdict"], "float", arm["arm"])

    percent = f"{100 * spec['confidence']:g} %"
    return table(
        "Models", summary["arms"],
        {"arm": "arm", "what it is": "title", "format": lambda arm: arm["scheme"] or "Keras",
         "verdict": verdict, "accuracy": ("accuracy", text.percent),
         "to float, points": (paired("diff_pp"), text.points),
         f"{percent} of it": (paired("ci_pp"), text.interval), "p": (paired("p"), text.p_value),
         "size": ("bytes", text.size)},
        caption=f"{spec['dataset']} with {spec['model']}, seed {spec['seed']}: "
                f"{spec['float_epochs']} float and {spec['qat_epochs']} QAT epoch(s); "
                f"{summary['arms'][0]['n']:,} test examples, the same ones for every model. The "
                "format is read from the file, not from its name.",
        spare=("what it is", "size", "format"),
    )


def part_table(summary: dict[str, Any]) -> Table:
    """The parts of the gap QAT - PTQ and their sum."""
    gap = _pair(summary, "ptq_int8", "qat")
    rows = [*summary["decomposition"],
            {"title": "sum: the gap", "diff_pp": gap["diff_pp"], "ci_pp": gap["ci_pp"]}]
    return table("Where the gap qat - ptq_int8 comes from", rows, {
        "part": "title", "points": ("diff_pp", text.points), "interval": ("ci_pp", text.interval)})


def _pair(summary: dict[str, Any], a: str, b: str) -> dict[str, Any]:
    return next(row for row in summary["comparisons"] if (row["a"], row["b"]) == (a, b))


def _figures(study: Study) -> dict[str, Any]:
    summary = study.summary
    gap = _pair(summary, "ptq_int8", "qat")["diff_pp"]
    observers = study.observers[study.observers["phase"] == "qat"]
    return {
        "accuracy": lambda: figures.accuracy_forest(study.runs),
        "gap": lambda: figures.waterfall(summary["decomposition"], gap, total="qat - ptq_int8"),
        "disagreement": lambda: figures.discordance(pd.DataFrame(summary["comparisons"])),
        "resamples": lambda: resamples(study.results, "ptq_int8", "qat"),
        "learning": lambda: figures.learning_curves(study.history),
        "observers": lambda: figures.observer_ranges(observers),
        "size": lambda: figures.accuracy_size(study.runs),
    }


def _settings(summary: dict[str, Any]) -> Table:
    made = summary["environment"]
    rows = [*summary["spec"].items(), ("python", made.get("python")),
            ("system", f"{made.get('system', '')} {made.get('machine', '')}".strip() or None),
            *made.get("packages", {}).items()]
    return Table(("setting", "value"), (text.plain, text.plain), tuple(rows))


def _explore(study: Study) -> Any:
    from qinspect.show.widgets import Dashboard

    return Dashboard(study)
