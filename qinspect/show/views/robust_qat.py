"""Robust QAT: what was done, what came of it, and its training."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from qinspect.show import figures, text
from qinspect.show.table import table
from qinspect.show.view import View

if TYPE_CHECKING:
    from qinspect.train.robust import RobustQat


def view(found: RobustQat) -> View:
    """The view of a run of robust QAT."""
    settings = table("What was done", list(asdict(found.record).items()), {
        "setting": lambda pair: pair[0], "value": (lambda pair: pair[1], text.plain)})
    drawn = {} if found.history.empty else {
        "learning": lambda: figures.learning_curves(found.history),
        "observers": lambda: figures.observer_ranges(found.observers)}
    return View("Robust QAT", (found.sentence,), (settings,), drawn)
