"""The paired comparisons of a file of predictions, for the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from qinspect.show.text import interval, p_value, percent, points, printable, verdict


def print_significance(report: dict[str, Any], console: Console) -> None:
    """Print models, one row a pair, and each verdict as a sentence.

    Parameters
    ----------
    report : dict
        As made by :meth:`qinspect.predictions.Comparisons.to_json`.
    console : rich.console.Console
        Where to print.
    """
    console.print(_text(f"{report['file']}: {report['n']} examples"))
    models = Table("model", "read as", "accuracy")
    for model in report["models"]:
        models.add_row(_text(model["name"]), model["read_as"], percent(model["accuracy"]))
    console.print(models)

    corrected = "cochran_q" in report
    if corrected:
        q = report["cochran_q"]
        console.print(
            f"All {q['models']} models alike? Cochran's Q = {q['q']:.2f} on {q['df']} degrees of "
            f"freedom, p {p_value(q['p'])}."
        )
    pairs = Table("a", "b", "b - a (points)", "interval", "only a / only b right",
                  "p (Holm)" if corrected else "p", "verdict")
    for row in report["comparisons"]:
        pairs.add_row(
            _text(row["a"]),
            _text(row["b"]),
            points(row["diff_pp"]),
            interval(row["ci_pp"]),
            f"{row['a_only']} / {row['b_only']}",
            p_value(row["p"]),
            _text(verdict(row["verdict"], row["a"], row["b"])),
        )
    console.print(pairs)
    for row in report["comparisons"]:
        console.print(_text(row["sentence"]))


def _text(words: str) -> Text:
    """Names come from files: no markup and no control characters."""
    return Text(printable(words))
