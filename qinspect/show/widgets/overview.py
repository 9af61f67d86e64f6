"""The tables and figures that a study starts with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import ipywidgets as widgets

from qinspect.show import plots
from qinspect.show.study_table import arm_rows, find_comparison, headline
from qinspect.show.widgets import markup
from qinspect.show.widgets.base import LABEL, WIDE, Explorer, hooked
from qinspect.show.widgets.figure import FigureView

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from qinspect.studies.stored import Study


class StudyOverview(Explorer):
    """Verdict, arms and the figures of the whole study.

    Parameters
    ----------
    study : Study
    """

    def __init__(self, study: Study) -> None:
        summary, runs = study.summary, study.runs
        parts = summary["decomposition"]
        gap = find_comparison(summary, "ptq_int8", "qat")["diff_pp"]
        rows = min(1.0 + 0.26 * len(runs), 8.0)
        self._figures: dict[str, tuple[Callable[[Axes], object], str, float]] = {
            "accuracy of each model": (
                lambda ax: plots.accuracy_forest(runs, ax), plots.describe_forest(runs), rows,
            ),
            "where the gap comes from": (
                lambda ax: plots.waterfall(parts, gap, ax, total="qat - ptq_int8"),
                plots.describe_waterfall(parts, gap), 1.4 + 0.5 * len(parts),
            ),
            "accuracy against size": (
                lambda ax: plots.accuracy_size(runs, ax), plots.describe_size(runs), 4.4,
            ),
            "learning curves": (
                lambda ax: plots.learning_curves(study.history, ax),
                plots.describe_learning(study.history), 3.8,
            ),
        }
        self.figure_choice = hooked(
            widgets.Dropdown(options=list(self._figures), description="figure", style=LABEL,
                             layout=WIDE),
            "qi-over-choice",
        )
        self.said = widgets.HTML("".join(markup.sentence(line) for line in headline(summary)))
        self.figure = FigureView(8.0, 4.0, "qi-over-figure")
        self.table = hooked(widgets.HTML(), "qi-over-table")
        self.table.value = markup.table(arm_rows(summary), "models")
        super().__init__("overview", [], [self.said, self.table, self.figure_choice, self.figure])
        self.watch(self.refresh, self.figure_choice)
        self.guarded(self.refresh)()

    def refresh(self) -> None:
        """Draw the chosen figure."""
        draw, said, height = self._figures[self.figure_choice.value]
        self.figure.show(draw, said, layout=self.figure_choice.value, height=height)
