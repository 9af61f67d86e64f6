"""The answer of a diagnosis: causes with verdicts, evidence and remedies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets as widgets

from qinspect.errors import DataError
from qinspect.show.table import STYLE
from qinspect.show.text import printable
from qinspect.show.view import Section, View, fragment, view_of
from qinspect.show.views.diagnosis import section, word
from qinspect.show.widgets.base import FLOW, LABEL, Explorer, hooked
from qinspect.show.widgets.figure import FigureView

if TYPE_CHECKING:
    from qinspect.diagnosis.answer import Diagnosis


class DiagnosisBoard(Explorer):
    """Causes with verdicts; choosing one shows its evidence and its remedy."""

    def __init__(self, diagnosis: Diagnosis) -> None:
        causes = diagnosis.ordered()
        if not causes:
            raise DataError("the diagnosis has no causes to show.")
        self._diagnosis = diagnosis
        self._view = view_of(diagnosis)
        self._causes = {cause.rule.id: cause for cause in causes}
        assert self._view.card is not None
        self.summary = hooked(widgets.HTML(STYLE + self._view.card.html()), "qi-board-summary")
        listed = [(f"{word(diagnosis, c)}: {printable(c.rule.title)}", c.rule.id) for c in causes]
        self.cause = hooked(
            widgets.Select(options=listed, rows=min(12, len(listed)), description="cause",
                           style=LABEL, layout={"width": "640px"}),
            "qi-board-cause",
        )
        self.board = FigureView(9.0, 4.0, "qi-board-figure")
        self.detail = hooked(widgets.HTML(), "qi-board-detail")
        self.evidence = FigureView(7.5, 4.0, "qi-board-evidence")
        self.measured = FigureView(7.5, 3.4, "qi-board-measured")
        beside = widgets.HBox([self.measured, self.evidence], layout=FLOW)
        super().__init__("board", [], [self.summary, self.board, self.cause, beside, self.detail])
        self.watch(self.refresh, self.cause)
        self.guarded(lambda: self._draw(self.board, "causes"))()
        self.guarded(self.refresh)()

    def refresh(self) -> None:
        """Show the chosen cause."""
        chosen = self.cause.value
        for figure, kind in ((self.measured, f"{chosen} numbers"), (self.evidence, chosen)):
            self._draw(figure, kind)
        told = section(self._diagnosis, self._causes[chosen], ())
        code = (Section("Remedy as code, to copy", code=told.code),) if told.code else ()
        # Last, so that whoever sees the text of a cause sees its figures, too.
        self.detail.value = fragment(
            View(told.title, told.sentences, told.tables, sections=code), ())

    def _draw(self, figure: FigureView, kind: str) -> None:
        figure.layout.display = "none"
        if kind not in self._view.figures:
            return
        try:
            made = self._view.figure(kind)
        except DataError:
            return  # there is nothing of this kind in the files
        figure.layout.display = ""
        figure.show(made, layout=kind)
