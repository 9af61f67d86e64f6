"""A study to click through: what it starts with, and every explorer in tabs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import pandas as pd

from qinspect.data.dataset import Dataset
from qinspect.errors import DataError, QinspectError
from qinspect.show.view import view_of
from qinspect.show.widgets.base import LABEL, WIDE, Explorer, Tabs, hooked, sentence, shown
from qinspect.show.widgets.board import DiagnosisBoard
from qinspect.show.widgets.errors import ErrorExplorer
from qinspect.show.widgets.figure import FigureView
from qinspect.show.widgets.flips import FlipBrowser
from qinspect.show.widgets.observers import ObserverPlayer
from qinspect.show.widgets.playground import QuantizationPlayground
from qinspect.show.widgets.ranges import RangeExplorer
from qinspect.show.widgets.significance import SignificanceExplorer

if TYPE_CHECKING:
    from qinspect.diagnosis.answer import Diagnosis
    from qinspect.measure.layer_tables import Layers
    from qinspect.studies.stored import Study


class Overview(Explorer):
    """Sentences, tables and figures of any result."""

    def __init__(self, result: Any) -> None:
        self._view = view_of(result)
        self.figure_choice = hooked(
            widgets.Dropdown(options=list(self._view.figures), description="figure", style=LABEL,
                             layout=WIDE),
            "qi-over-choice",
        )
        self.said = widgets.HTML("".join(map(sentence, self._view.sentences)))
        self.figure = FigureView(8.0, 4.0, "qi-over-figure")
        self.table = hooked(widgets.HTML("".join(map(shown, self._view.tables))), "qi-over-table")
        super().__init__("overview", [], [self.said, self.table, self.figure_choice, self.figure])
        self.watch(self.refresh, self.figure_choice)
        self.guarded(self.refresh)()

    def refresh(self) -> None:
        """Draw the chosen figure."""
        kind = self.figure_choice.value
        self.figure.show(self._view.figure(kind), layout=kind)


class LayerExplorer(Tabs):
    """Ranges and errors of measured layers."""

    def __init__(self, layers: Layers) -> None:
        super().__init__({"Ranges": lambda: RangeExplorer(layers),
                          "Errors": lambda: ErrorExplorer(layers.errors)})


class Dashboard(Tabs):
    """Every explorer of a study.

    ``diagnosis`` fills the tab of that name; ``observers`` are tables of other QAT runs to play
    beside the study's own, such as one with a warm start.
    """

    def __init__(
        self,
        study: Study | str | os.PathLike[str],
        *,
        diagnosis: Diagnosis | None = None,
        observers: Mapping[str, pd.DataFrame] | None = None,
    ) -> None:
        if isinstance(study, (str, os.PathLike)):
            from qinspect.studies.stored import load_study

            study = load_study(study)
        self.study = study
        self._diagnosis = diagnosis
        self._observers = dict(observers or {})
        super().__init__({
            "Overview": lambda: Overview(self.study),
            "Ranges": lambda: self._with_notes(RangeExplorer(self.layers)),
            "Errors": lambda: self._with_notes(ErrorExplorer(self.layers.errors)),
            "Significance": self._significance,
            "Flips": lambda: FlipBrowser(self.study, self._test_examples()),
            "Observers": self._players,
            "Diagnosis": self._board,
            "Playground": QuantizationPlayground,
        })

    @cached_property
    def layers(self) -> Layers:
        """Layers of the float, PTQ and QAT files, measured on first use."""
        return self.study.layers()

    def _test_examples(self) -> Dataset | None:
        """Pictures are an extra: without the data set the flips are still listed."""
        from qinspect.studies.run import load_splits

        try:
            return load_splits(self.study.spec).test
        except QinspectError:
            return None

    def _with_notes(self, explorer: widgets.Widget) -> widgets.Widget:
        notes = [f"measured on {self.layers.examples} test examples.", *self.layers.notes]
        return widgets.VBox([explorer, widgets.HTML("".join(map(sentence, notes)))])

    def _significance(self) -> widgets.Widget:
        chosen = [arm for arm in ("ptq_int8", "qat") if arm in self.study.arms]
        return SignificanceExplorer(self.study.results, *(chosen if len(chosen) == 2 else ()))

    def _players(self) -> widgets.Widget:
        own = self.study.observers
        runs = {str(name): rows for name, rows in own.groupby("phase", sort=False)}
        return ObserverPlayer({**runs, **self._observers})

    def _board(self) -> widgets.Widget:
        if self._diagnosis is None:
            raise DataError("no diagnosis was given; pass what qi.diagnose(study) returns as "
                            "Dashboard(study, diagnosis=...).")
        return DiagnosisBoard(self._diagnosis)
