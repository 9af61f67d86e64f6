"""Every explorer of a study, in tabs."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import ipywidgets as widgets
import pandas as pd

from qinspect.data.dataset import Dataset
from qinspect.errors import DataError, QinspectError
from qinspect.show.evidence import evidence_figures
from qinspect.show.layer_tables import LayerTables, study_layer_tables
from qinspect.show.widgets import markup
from qinspect.show.widgets.board import DiagnosisBoard
from qinspect.show.widgets.errors import ErrorExplorer
from qinspect.show.widgets.flips import FlipBrowser
from qinspect.show.widgets.observers import ObserverPlayer
from qinspect.show.widgets.overview import StudyOverview
from qinspect.show.widgets.playground import QuantizationPlayground
from qinspect.show.widgets.ranges import RangeExplorer
from qinspect.show.widgets.significance import SignificanceExplorer
from qinspect.studies.run import load_splits
from qinspect.studies.stored import Study, load_study


class Dashboard(widgets.VBox):
    """A study to click through; each tab is built when it is first opened.

    Parameters
    ----------
    study : Study or path
        A finished study.
    diagnosis : mapping, optional
        The dict of a diagnosis, for the tab "Diagnosis".
    observers : mapping of name to DataFrame, optional
        Observer tables of other QAT runs to play beside the study's own, such as one with a
        warm start (``schema.OBSERVERS`` columns).

    Raises
    ------
    StoreError
        If the folder is not a finished study.
    """

    def __init__(
        self,
        study: Study | str | os.PathLike[str],
        *,
        diagnosis: Mapping[str, Any] | None = None,
        observers: Mapping[str, pd.DataFrame] | None = None,
    ) -> None:
        self.study = study if isinstance(study, Study) else load_study(study)
        self._diagnosis = diagnosis
        self._observers = dict(observers or {})
        self._builders: dict[str, Callable[[], widgets.Widget]] = {
            "Overview": lambda: StudyOverview(self.study),
            "Ranges": self._ranges,
            "Errors": self._errors,
            "Significance": self._significance,
            "Flips": lambda: FlipBrowser(self.study, self._test_examples()),
            "Observers": self._players,
            "Diagnosis": self._board,
            "Playground": QuantizationPlayground,
        }
        self.pages = {name: widgets.VBox() for name in self._builders}
        self.tabs = widgets.Tab(children=list(self.pages.values()), titles=list(self.pages))
        self.tabs.selected_index = 0
        self.tabs.observe(lambda change: self.page(self._name(change["new"])), "selected_index")
        super().__init__([self.tabs])
        self.add_class("qinspect-dashboard")
        self.page("Overview")

    def _name(self, index: int | None) -> str:
        return list(self.pages)[index or 0]

    def page(self, name: str) -> widgets.Widget:
        """Build a tab if it is not there yet; what fails is shown in the tab.

        Returns
        -------
        Widget
            Its content.
        """
        holder = self.pages[name]
        if not holder.children:
            try:
                holder.children = (self._builders[name](),)
            except QinspectError as error:
                holder.children = (widgets.HTML(markup.alert(str(error))),)
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
                holder.children = (widgets.HTML(markup.alert(said, traceback.format_exc())),)
        return holder.children[0]

    @cached_property
    def layers(self) -> LayerTables:
        """Layers of the float, PTQ and QAT files, measured on first use."""
        return study_layer_tables(self.study)

    def _test_examples(self) -> Dataset | None:
        """Pictures are an extra: without the data set the flips are still listed."""
        try:
            return load_splits(self.study.spec).test
        except QinspectError:
            return None

    def _with_notes(self, explorer: widgets.Widget) -> widgets.Widget:
        notes = [f"measured on {self.layers.examples} test examples.", *self.layers.notes]
        said = widgets.HTML("".join(markup.sentence(note) for note in notes))
        return widgets.VBox([explorer, said])

    def _ranges(self) -> widgets.Widget:
        return self._with_notes(RangeExplorer(self.layers))

    def _errors(self) -> widgets.Widget:
        return self._with_notes(ErrorExplorer(self.layers.errors))

    def _significance(self) -> widgets.Widget:
        correct = {arm: self.study.correct(arm) for arm in self.study.arms}
        chosen = [arm for arm in ("ptq_int8", "qat") if arm in correct]
        return SignificanceExplorer(correct, *(chosen if len(chosen) == 2 else ()))

    def _players(self) -> widgets.Widget:
        own = self.study.observers
        runs = {str(name): rows for name, rows in own.groupby("phase", sort=False)}
        return ObserverPlayer({**runs, **self._observers})

    def _board(self) -> widgets.Widget:
        if self._diagnosis is None:
            raise DataError(
                "no diagnosis was given; run 'qinspect diagnose' on the study and pass its JSON "
                "as Dashboard(study, diagnosis=...)."
            )
        return DiagnosisBoard(self._diagnosis, evidence_figures(self.study, self.layers))
