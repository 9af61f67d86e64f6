"""The way in: what is known of a study, a case or loose files, every explorer in a tab."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import pandas as pd

from qinspect.data.dataset import Dataset
from qinspect.diagnosis.answer import Diagnosis
from qinspect.diagnosis.cases import Case
from qinspect.errors import DataError, QinspectError
from qinspect.progress import Progress
from qinspect.show.text import escaped
from qinspect.show.view import view_of
from qinspect.show.widgets.base import (
    LABEL,
    WIDE,
    Explorer,
    Tabs,
    choice,
    hooked,
    sentence,
    shown,
)
from qinspect.show.widgets.board import DiagnosisBoard
from qinspect.show.widgets.errors import ErrorExplorer
from qinspect.show.widgets.figure import FigureView
from qinspect.show.widgets.flips import Answers, ExampleView, FlipBrowser
from qinspect.show.widgets.making import Maker, Work
from qinspect.show.widgets.observers import ObserverPlayer
from qinspect.show.widgets.playground import QuantizationPlayground
from qinspect.show.widgets.ranges import RangeExplorer
from qinspect.show.widgets.selection import Selection
from qinspect.show.widgets.significance import SignificanceExplorer
from qinspect.store import plain
from qinspect.studies.arms import QUESTION
from qinspect.tflite.identity import Inspections, identify

if TYPE_CHECKING:
    from qinspect.measure.layer_tables import Layers
    from qinspect.studies.stored import Study, Sweep

# What the choice of remedies means to a diagnosis.
_REMEDIES: dict[str, dict[str, Any]] = {
    "all that can be tried": {},
    "those that train nothing": {"training": False},
    "none: the evidence alone": {"interventions": False},
}
_ABOUT_LAYERS = ("Ranges and errors of every layer, measured on the first evaluation examples: "
                 "some seconds for a small network.")
_ABOUT_RUNNING = ("Every file is run on the evaluation examples and scored by their labels y; "
                  "layers and diagnosis do without labels.")
_ABOUT_DIAGNOSIS = ("Every known cause is asked about, then the remedies of those that are "
                    "indicated are tried. The evidence takes seconds to a minute; remedies that "
                    "train take minutes. Everything else can be used meanwhile.")


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
        drawn = [self.figure_choice, self.figure] if self._view.figures else []
        super().__init__("overview", [], [self.said, self.table, *drawn])
        if drawn:
            self.watch(self.refresh, self.figure_choice)
            self.guarded(self.refresh)()

    def refresh(self) -> None:
        """Draw the chosen figure."""
        kind = self.figure_choice.value
        self.figure.show(self._view.figure(kind), layout=kind)


class LayerExplorer(Tabs):
    """Ranges and errors of measured layers."""

    def __init__(self, layers: Layers) -> None:
        selection = Selection()
        super().__init__({"Ranges": lambda: RangeExplorer(layers, selection),
                          "Errors": lambda: ErrorExplorer(layers.errors, selection, layers)})


class Dashboard(Tabs):
    """Every explorer of a study, of a case (loose files) or of a diagnosis of either.

    What is not there yet has a button that makes it: ``measured``, ``evaluated`` and ``diagnosed``
    are these works.  A layer, channel or example chosen in one tab is chosen in all of them
    (``selection``).  ``observers`` are tables of other QAT runs to play beside the study's own,
    such as one with a warm start.
    """

    def __init__(
        self,
        given: Study | Case | Diagnosis,
        *,
        diagnosis: Diagnosis | None = None,
        observers: Mapping[str, pd.DataFrame] | None = None,
    ) -> None:
        diagnosis = given if isinstance(given, Diagnosis) else diagnosis
        self.given: Study | Case = given.case if isinstance(given, Diagnosis) else given
        self.selection = Selection()
        self._observers = dict(observers or {})
        self.remedies = hooked(
            widgets.Dropdown(options=list(_REMEDIES), description="remedies", style=LABEL,
                             layout=WIDE), "qi-make-remedies")
        self.measured = Work("Measure the layers", _ABOUT_LAYERS, self._measure)
        self.evaluated = Work("Run the files", _ABOUT_RUNNING, self._evaluate,
                              self._stored_answers())
        self.diagnosed = Work("Run the diagnosis", _ABOUT_DIAGNOSIS, self._diagnose, diagnosis)
        runs = self._runs()
        super().__init__({
            "Overview": self._overview,
            "Diagnosis": lambda: self._of(self.diagnosed, DiagnosisBoard, self.remedies),
            "Ranges": lambda: self._of(self.measured, self._ranges),
            "Errors": lambda: self._of(self.measured, self._errors),
            "Significance": lambda: self._of(self.evaluated, self._significance),
            "Flips": lambda: self._of(self.evaluated, self._flips),
            "Examples": lambda: self._of(
                self.evaluated, lambda answers: ExampleView(answers, self.selection)),
            **({"Observers": lambda: ObserverPlayer(runs, self.selection)} if runs else {}),
            "Playground": QuantizationPlayground,
        })
        for work, tabs in ((self.measured, ("Ranges", "Errors")),
                           (self.evaluated, ("Overview", "Significance", "Flips", "Examples")),
                           (self.diagnosed, ("Diagnosis",))):
            work.observe(lambda change, tabs=tabs: self.rebuild(*tabs), names="value")
        self.evaluated.start()

    def _of(
        self, work: Work, build: Callable[[Any], widgets.Widget], *choices: widgets.Widget
    ) -> widgets.Widget:
        """What a work made, shown; else the button that makes it."""
        return Maker(work, *choices) if work.value is None else build(work.value)

    # --- works: in a thread of their own -----------------------------------------------------

    def _measure(self, progress: Progress) -> Layers:
        found = self.given.layers(progress=progress)
        if found is None:
            raise DataError("layers are measured against a float32 file, and there is none; open "
                            "the dashboard with the float file as well.")
        return found

    def _stored_answers(self) -> Answers | None:
        """What a study has kept."""
        if isinstance(self.given, Case):
            return None
        study = self.given
        raw = {name.removeprefix("raw__"): values for name, values in study.arrays.items()
               if name.startswith("raw__")}
        return Answers(study.results, _test_examples(study), raw)

    def _evaluate(self, progress: Progress) -> Answers:
        from qinspect.evaluation import evaluate

        case = self.given
        assert isinstance(case, Case)
        if case.data is None:
            raise DataError("there are no evaluation examples to run the files on; open the "
                            "dashboard with data as well.")
        files = {role: graph.content for role in case.roles
                 if (graph := case.graph(role)) is not None}
        results = evaluate(
            files, case.data, metric=case.metric, output=case.output, confidence=case.confidence,
            margin=case.margin, seed=case.seed, progress=progress)
        return Answers(results, case.data, results.outputs)

    def _diagnose(self, progress: Progress) -> Diagnosis:
        from qinspect.diagnosis.cases import case
        from qinspect.diagnosis.engine import diagnose

        given = self.given if isinstance(self.given, Case) else case(self.given)
        return diagnose(given, progress=progress, notify=lambda said: None,
                        **_REMEDIES[self.remedies.value])

    # --- tabs ----------------------------------------------------------------------------------

    def _overview(self) -> widgets.Widget:
        if not isinstance(self.given, Case):
            return Overview(self.given)
        return widgets.VBox([
            self._of(self.evaluated, lambda told: Overview(told.results)),
            _told(_identities(self.given), "What each file is"),
            _told(self.given, "What was given and what was not")])

    def _ranges(self, layers: Layers) -> widgets.Widget:
        return _with_notes(RangeExplorer(layers, self.selection), layers)

    def _errors(self, layers: Layers) -> widgets.Widget:
        return _with_notes(ErrorExplorer(layers.errors, self.selection, layers), layers)

    def _question(self, answers: Answers) -> tuple[str, str]:
        """The pair that is asked about first."""
        models = answers.results.models
        for pair in (QUESTION, ("ptq", "qat")):
            if set(pair) <= set(models):
                return pair
        return models[0], models[-1]

    def _significance(self, answers: Answers) -> widgets.Widget:
        return SignificanceExplorer(answers.results, *self._question(answers))

    def _flips(self, answers: Answers) -> widgets.Widget:
        return FlipBrowser(answers, *self._question(answers), self.selection)

    def _runs(self) -> dict[str, pd.DataFrame]:
        """Logged observers by run."""
        own = self.given.observers
        runs = {} if own is None or own.empty else {
            str(name): rows for name, rows in own.groupby("phase", sort=False)}
        return {**runs, **self._observers}


class SweepBoard(Tabs):
    """A sweep: its runs together, and the dashboard of any one whose folder is kept."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        kept = [] if sweep.folder is None else [
            key for key in sweep.frame["key"].astype(str)
            if (sweep.folder / "runs" / key / "spec.json").exists()]
        super().__init__({"Overview": lambda: Overview(sweep),
                          **({"One run": lambda: self._one(kept)} if kept else {})})

    def _one(self, keys: list[str]) -> widgets.Widget:
        from qinspect.studies.stored import load_study

        self.run = choice("run", keys, "qi-sweep-run")
        place = widgets.VBox()

        def build() -> None:
            assert self._sweep.folder is not None
            place.children = (Dashboard(load_study(self._sweep.folder / "runs" / self.run.value)),)

        made = Explorer("sweep", [self.run], [place])
        made.watch(build, self.run)
        made.guarded(build)()
        return made


def _test_examples(study: Study) -> Dataset | None:
    """Pictures are an extra: without the data set the flips are still listed."""
    from qinspect.studies.run import load_splits

    try:
        return load_splits(study.spec).test
    except QinspectError:
        return None


def _identities(case: Case) -> Inspections:
    """What the files are; they have been run by whoever built the case."""
    return Inspections(tuple({**plain(asdict(identify(graph))), "file": role, "runs": "ok"}
                             for role in case.roles if (graph := case.graph(role)) is not None))


def _told(result: Any, title: str) -> widgets.HTML:
    """The sentences of a result, and its tables folded away."""
    view = view_of(result)
    return widgets.HTML(
        f"{''.join(map(sentence, view.sentences))}<details><summary>{escaped(title)}</summary>"
        f"{''.join(map(shown, view.tables))}</details>")


def _with_notes(explorer: widgets.Widget, layers: Layers) -> widgets.Widget:
    notes = [f"measured on {layers.examples} test examples.", *layers.notes]
    return widgets.VBox([explorer, widgets.HTML("".join(map(sentence, notes)))])
