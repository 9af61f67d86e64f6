"""The answer of a diagnosis: causes with verdicts, evidence and remedies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from qinspect.errors import DataError
from qinspect.show import plots, text
from qinspect.show.evidence import number_figure
from qinspect.show.plots.board import verdict_look
from qinspect.show.widgets import markup
from qinspect.show.widgets.base import LABEL, Explorer, hooked
from qinspect.show.widgets.figure import FigureView

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Draws the evidence of one cause on empty axes and returns the sentence that says the same.
Evidence = Callable[["Axes"], str]

_ROWS_SHOWN = 12


def evidence_rows(evidence: Mapping[str, Any]) -> list[dict[str, str]]:
    """Numbers of a finding as text; nested ones with dots in the name."""
    rows: list[dict[str, str]] = []
    for key, value in evidence.items():
        if isinstance(value, Mapping):
            rows += [{"number": f"{key}.{row['number']}", "value": row["value"]}
                     for row in evidence_rows(value)]
        elif isinstance(value, float):
            rows.append({"number": str(key), "value": f"{value:.4g}"})
        elif isinstance(value, (list, tuple)):
            shown = ", ".join(_short(item) for item in value[:_ROWS_SHOWN])
            more = f" and {len(value) - _ROWS_SHOWN} more" if len(value) > _ROWS_SHOWN else ""
            rows.append({"number": str(key), "value": shown + more})
        else:
            rows.append({"number": str(key), "value": str(value)})
    return rows


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def cause_markup(cause: Mapping[str, Any]) -> str:
    """Everything a diagnosis says about one cause, as HTML; all of it escaped."""
    _, _, word = verdict_look(cause["verdict"])
    parts = [f"<h3>{markup.escaped(cause.get('title') or cause['id'])}: "
             f"{markup.escaped(word)}</h3>"]
    for key in ("question", "sentence", "symptom", "cause", "remedy"):
        if cause.get(key):
            title = {"sentence": "evidence"}.get(key, key)
            parts.append(
                f'<p class="qi-said"><b>{markup.escaped(title.capitalize())}:</b> '
                f"{markup.escaped(cause[key])}</p>"
            )
    if cause.get("effect_pp") is not None:
        confirmed = "confirmed" if cause.get("confirmed_by_intervention") else "not confirmed"
        bounds = f" {text.interval(cause['ci_pp'])}" if cause.get("ci_pp") else ""
        parts.append(
            f'<p class="qi-said"><b>Tried:</b> {markup.escaped(cause.get("intervention") or "")} '
            f"closes {text.points(float(cause['effect_pp']))} points{bounds} of the gap: "
            f"{confirmed}.</p>"
        )
    elif cause.get("not_tried"):
        said = markup.escaped(cause["not_tried"])
        parts.append(f'<p class="qi-said"><b>Not tried:</b> {said}</p>')
    if isinstance(cause.get("evidence"), Mapping) and cause["evidence"]:
        parts.append(markup.table(evidence_rows(cause["evidence"]), "evidence in numbers"))
    if cause.get("code"):
        parts.append("<p><b>Remedy as code, to copy:</b></p>")
        parts.append(markup.code_block(str(cause["code"])))
    if cause.get("source"):
        parts.append(f'<p class="qi-said">Source: {markup.escaped(cause["source"])}</p>')
    return "".join(parts)


class DiagnosisBoard(Explorer):
    """Causes with verdicts; choosing one shows its evidence and its remedy.

    Parameters
    ----------
    diagnosis : mapping
        The dict of a diagnosis: ``causes``, a list of dicts with ``id``, ``title``, ``verdict``
        and whatever else is known (``sentence``, ``evidence``, ``remedy``, ``code``,
        ``effect_pp``, ``ci_pp``); ``summary`` and ``primary`` if known.
    figures : mapping of cause id to callable, optional
        Draws the evidence of a cause on the axes it is given and returns a sentence.

    Raises
    ------
    DataError
        If there are no causes.
    """

    def __init__(
        self, diagnosis: Mapping[str, Any], figures: Mapping[str, Evidence] | None = None
    ) -> None:
        causes = list(diagnosis.get("causes") or [])
        if not causes:
            raise DataError("the diagnosis has no causes to show.")
        self._causes = {str(cause["id"]): cause for cause in causes}
        self._figures = dict(figures or {})
        self.summary = hooked(widgets.HTML(), "qi-board-summary")
        self.summary.value = markup.sentence(str(diagnosis.get("summary") or ""))
        listed = [
            (f"{verdict_look(c['verdict'])[2]}: {text.printable(str(c.get('title') or c['id']))}",
             str(c["id"]))
            for c in causes
        ]
        self.cause = hooked(
            widgets.Select(options=listed, rows=min(12, len(listed)), description="cause",
                           style=LABEL, layout={"width": "640px"}),
            "qi-board-cause",
        )
        self.board = FigureView(9.0, 4.0, "qi-board-figure")
        self.detail = hooked(widgets.HTML(), "qi-board-detail")
        self.evidence = FigureView(7.5, 4.0, "qi-board-evidence")
        self.measured = FigureView(7.5, 3.4, "qi-board-measured")
        beside = widgets.HBox([self.measured, self.evidence], layout={"flex_flow": "row wrap"})
        super().__init__("board", [], [self.summary, self.board, self.cause, beside, self.detail])
        self.watch(self.refresh, self.cause)
        self.guarded(self._draw_board)()
        self.guarded(self.refresh)()

    def _draw_board(self) -> None:
        frame = plots.cause_frame(list(self._causes.values()))
        self.board.show(
            lambda ax: plots.diagnosis_board(frame, ax), plots.describe_board(frame),
            layout="board", height=min(1.0 + 0.28 * len(frame), 10.0),
        )

    def refresh(self) -> None:
        """Show the chosen cause."""
        chosen = self.cause.value
        for view, draw in (
            (self.measured, number_figure(self._causes[chosen])),
            (self.evidence, self._figures.get(chosen)),
        ):
            view.layout.display = "none" if draw is None else ""
            if draw is not None:
                view.show(draw, None, layout=chosen)
        # Last, so that whoever sees the text of a cause sees its figures, too.
        self.detail.value = cause_markup(self._causes[chosen])
