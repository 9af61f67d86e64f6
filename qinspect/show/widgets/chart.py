"""Layers or channels side by side, drawn in the browser: hover, choose, look closer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets as widgets
import traitlets

from qinspect.show.text import printable
from qinspect.show.view import script
from qinspect.show.widgets.base import hooked, sentence

if TYPE_CHECKING:
    from qinspect.show.figure import Figure


@dataclass(frozen=True)
class Series:
    """One bar an item, from ``low`` to ``high``, and what is said of it; NaN: no bar."""

    name: str
    colour: str
    low: Sequence[float]
    high: Sequence[float]
    text: Sequence[str]

    def plain(self) -> dict[str, Any]:
        """As ``static/chart.js`` takes it."""
        return {"name": printable(self.name), "colour": self.colour, "low": _finite(self.low),
                "high": _finite(self.high), "text": list(self.text)}


def _finite(values: Iterable[float]) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values]


class BarChart(anywidget.AnyWidget):
    """The drawing; ``chosen`` is the place of an item, -1 for none."""

    _esm = script("drawing.js", "chart.js")
    names: Any = traitlets.List().tag(sync=True)
    series: Any = traitlets.List().tag(sync=True)
    chosen = traitlets.Int(-1).tag(sync=True)
    passing: Any = traitlets.List().tag(sync=True)
    limit: Any = traitlets.Float(None, allow_none=True).tag(sync=True)
    title = traitlets.Unicode("").tag(sync=True)
    unit = traitlets.Unicode("").tag(sync=True)
    what = traitlets.Unicode("layer").tag(sync=True)


class ChartView(widgets.VBox):
    """A chart to choose from, and the sentence that says the same.

    ``hook`` is the CSS class of the chart, ``hook``-said that of the sentence.
    """

    def __init__(self, hook: str, what: str = "layer") -> None:
        self.chart = hooked(BarChart(what=what), hook)
        self.sentence = hooked(widgets.HTML(), f"{hook}-said")
        self._figure: Figure | None = None
        super().__init__([self.chart, self.sentence])

    def show(self, names: Sequence[str], series: Sequence[Series], figure: Figure, *,
             unit: str) -> None:
        """Show other items; ``figure`` says the same where no kernel runs."""
        with self.chart.hold_sync():
            self.chart.names = [printable(name) for name in names]
            self.chart.series = [one.plain() for one in series]
            self.chart.title, self.chart.unit = figure.title, unit
        self._figure = figure
        self.sentence.value = sentence(figure.sentence)

    def still(self) -> str:
        """A picture for pages without a kernel."""
        return "" if self._figure is None else self._figure.html()
