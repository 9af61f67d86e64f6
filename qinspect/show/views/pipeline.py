"""The decision of a gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qinspect.show import text
from qinspect.show.pipeline import lost_words
from qinspect.show.table import table
from qinspect.show.view import View, view_of
from qinspect.verdicts import GATE, examples

if TYPE_CHECKING:
    from qinspect.gating import Gate


def gate_view(found: Gate) -> View:
    """The view of a gate: decisions, pairs, examples that are lost; figures of the comparisons."""
    below = view_of(found.comparisons)
    rows = list(zip(found.comparisons, found.verdicts, found.needed, strict=True))
    metric = found.results.metric
    decisions = table("decisions", rows, {
        "old": lambda row: below.names.get(row[0].a, row[0].a),
        "new": lambda row: below.names.get(row[0].b, row[0].b),
        "decision": lambda row: GATE[row[1]],
        text.signed("new - old", metric, "new"): (lambda row: row[0].gap, text.gap_of(metric)),
        "interval": (lambda row: row[0].interval, text.interval_of(metric)),
        "margin": lambda row: f"{row[0].margin:.4g}",
        "one-sided p": lambda row: f"{row[0].not_worse_p:.3g}",
        "still needed": lambda row: "" if row[2] is None else row[2].words,
    }, most=len(rows))
    lost = tuple(text.renamed(lost_words(found, one.a, one.b), below.names)
                 for one in found.comparisons)
    return View(
        f"Gate: {GATE[found.verdict]} ({examples(found.results.n)})",
        (*found.results.first, *(text.renamed(line, below.names) for line in found.sentences),
         *lost),
        (decisions,), below.figures, notes=below.notes, names=below.names, explore=below.explore,
    )
