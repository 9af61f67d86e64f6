"""Draw numbers, choose bits and a range, and see the grid and the error."""

from __future__ import annotations

from collections.abc import Mapping

import ipywidgets as widgets

from qinspect.measure.clipping import Binned
from qinspect.measure.quantizers import (
    BY_HAND,
    DISTRIBUTIONS,
    METHODS,
    Quantized,
    draw_numbers,
    quantize_numbers,
)
from qinspect.measure.ranges import RANGE_METHODS
from qinspect.show import figures, text
from qinspect.show.style import COLOURS
from qinspect.show.table import Table, table
from qinspect.show.views.layers import series
from qinspect.show.widgets.base import (
    FLOW,
    LABEL,
    WIDE,
    Explorer,
    choice,
    hooked,
    sentence,
    shown,
)
from qinspect.show.widgets.figure import ClipHistogram, FigureView

_WORDS = {
    "minmax": "least to greatest",
    "percentile": "percentile",
    "mse": "least squared error",
    "kmeans": "k-means levels",
    BY_HAND: "by hand (drag the limits)",
}


def method_table(results: Mapping[str, Quantized], chosen: str) -> Table:
    """What each method makes of the same numbers."""
    rows = [(method, results[method]) for method in METHODS if method in results]
    return table("The same numbers by each method", rows, {
        "": lambda row: ">" if row[0] == chosen else "",
        "range": lambda row: _WORDS[row[0]],
        "from": lambda row: min(low for low, _ in row[1].ranges),
        "to": lambda row: max(high for _, high in row[1].ranges),
        "clipped": (lambda row: row[1].clipped_share, text.percent),
        "levels used": lambda row: row[1].levels,
        "SQNR": (lambda row: row[1].sqnr_db, text.decibels),
        "worst channel": (lambda row: row[1].worst_channel_db, text.decibels),
    })


class QuantizationPlayground(Explorer):
    """Numbers of a chosen shape and everything that a quantizer can be told."""

    def __init__(self) -> None:
        self._busy = False
        self._results: dict[str, Quantized] = {}
        self.distribution = choice("numbers", DISTRIBUTIONS, "qi-play-distribution")
        self.count = hooked(
            widgets.SelectionSlider(options=[100, 400, 2000, 8000], value=2000, style=LABEL,
                                    description="how many", layout=WIDE),
            "qi-play-count",
        )
        self.seed = hooked(
            widgets.BoundedIntText(0, 0, 9999, description="which draw", style=LABEL),
            "qi-play-seed",
        )
        self.bits = hooked(
            widgets.BoundedIntText(4, 2, 8, description="bits", style=LABEL), "qi-play-bits"
        )
        self.symmetric = hooked(
            widgets.Checkbox(False, description="symmetric (zero point 0)"), "qi-play-symmetric"
        )
        self.per_channel = hooked(
            widgets.Checkbox(False, description="a range for each channel"), "qi-play-channel"
        )
        self.method = hooked(
            widgets.Dropdown(options=[(_WORDS[m], m) for m in METHODS], description="range",
                             style=LABEL, layout=WIDE),
            "qi-play-method",
        )
        self.percentile = hooked(
            widgets.BoundedFloatText(99.0, min=50, max=100, step=0.5, style=LABEL,
                                     description="percentile"),
            "qi-play-percentile",
        )
        self.histogram = hooked(
            ClipHistogram(title="numbers drawn", unit="value", bits=4), "qi-play-histogram"
        )
        self.figure = FigureView(6.4, 3.8, "qi-play-figure")
        self.said = hooked(widgets.HTML(), "qi-play-said")
        self.table = hooked(widgets.HTML(), "qi-play-table")
        controls = [self.distribution, self.count, self.seed, self.bits, self.method,
                    self.percentile, self.symmetric, self.per_channel]
        super().__init__(
            "playground", controls,
            [self.said, self.histogram, widgets.HBox([self.figure, self.table], layout=FLOW)],
        )
        self.watch(self.redraw, self.distribution, self.count, self.seed)
        self.watch(self.refresh, *controls[3:])
        self.histogram.observe(self.guarded(self._dragged), names="clip")
        self.guarded(self.redraw)()

    def redraw(self) -> None:
        """Draw other numbers."""
        self._x = draw_numbers(self.distribution.value, self.count.value, self.seed.value)
        binned = Binned.values(self._x)
        self.histogram.series = [series(binned, self.distribution.value, COLOURS["ptq"])]
        self.refresh()

    def refresh(self) -> None:
        """Quantize anew."""
        if self._busy:
            return
        method = self.method.value
        found = self._quantized(method)
        if method != BY_HAND:
            # Per channel: the outermost limits.
            low = min(0.0, *(r[0] for r in found.ranges))
            high = max(0.0, *(r[1] for r in found.ranges))
            self._set_clip(low, high)
        self._set_look()
        self._results = {name: self._quantized(name) for name in RANGE_METHODS} | {method: found}
        if not self.per_channel.value and method != BY_HAND:
            self._results[BY_HAND] = self._quantized(BY_HAND)
        self._tell(found)

    def _quantized(self, method: str) -> Quantized:
        low, high = self.histogram.clip
        return quantize_numbers(
            self._x, method, bits=self.bits.value, symmetric=self.symmetric.value,
            per_channel=self.per_channel.value, percentile=self.percentile.value,
            by_hand=(low, high),
        )

    def _set_clip(self, low: float, high: float) -> None:
        self._busy = True
        try:
            self.histogram.clip = [low, high]
        finally:
            self._busy = False

    def _set_look(self) -> None:
        self.histogram.bits = self.bits.value
        self.histogram.symmetric = self.symmetric.value

    def _dragged(self) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            self.method.value = BY_HAND
            self.per_channel.value = False
        finally:
            self._busy = False
        if self._was_per_channel():
            self._results = {name: self._quantized(name) for name in RANGE_METHODS}
        self._results[BY_HAND] = self._quantized(BY_HAND)
        self._tell(self._results[BY_HAND])

    def _was_per_channel(self) -> bool:
        return any(len(found.ranges) > 1 for found in self._results.values())

    def _tell(self, found: Quantized) -> None:
        chosen = self.method.value
        how = "one range for each channel" if self.per_channel.value else "one range for all"
        self.said.value = sentence(
            f"{self.bits.value} bits, {_WORDS[chosen]}, {how}: SQNR "
            f"{text.decibels(found.sqnr_db)} over all numbers, "
            f"{text.decibels(found.worst_channel_db)} in the worst channel."
        )
        self.table.value = shown(method_table(self._results, chosen))
        self.figure.show(figures.transfer_plot(found.values), layout=self.distribution.value)
