"""One layer's values in several files, and a clip range to drag over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import numpy as np
import pandas as pd

from qinspect.errors import DataError
from qinspect.measure.clipping import METHODS, Binned, clip_effect, method_range
from qinspect.show import figures, text
from qinspect.show.style import model_colours
from qinspect.show.table import Table, table
from qinspect.show.views.layers import series
from qinspect.show.widgets.base import (
    LABEL,
    ONE_ROW,
    WIDE,
    Explorer,
    choice,
    hooked,
    options,
    sentence,
    shown,
)
from qinspect.show.widgets.chart import ChartView, Series
from qinspect.show.widgets.figure import ClipHistogram
from qinspect.show.widgets.selection import WHOLE, Selection

if TYPE_CHECKING:
    from qinspect.measure.layer_tables import Layers

BY_HAND = "by hand"
_METHOD_WORDS = {"minmax": "least to greatest", "percentile": "central 99.9 %",
                 "mse": "least squared error"}
_STORED = "stored in "


def stored_ranges(
    layers: Layers, layer: str, kind: str, channel: int = WHOLE
) -> dict[str, tuple[float, float]]:
    """Ranges that the files store for a layer, by model."""
    rows = layers.of(kind)
    rows = rows[(rows["layer"] == layer) & (rows["channel"] == channel)]
    rows = rows[rows["stored_min"].notna()]
    return {str(row["file"]): (float(row["stored_min"]), float(row["stored_max"]))
            for row in rows.to_dict("records")}


def range_table(
    layers: Layers, layer: str, kind: str, channel: int, values: Binned, bits: int
) -> Table:
    """One row a model: its values, its stored range, and what that does to ``values``."""
    rows = layers.of(kind)
    rows = rows[(rows["layer"] == layer) & (rows["channel"] == channel)]

    def effect(row: dict[Any, Any]) -> dict[str, Any]:
        low, high = row["stored_min"], row["stored_max"]
        if not np.isfinite(low) or not low <= 0 <= high:
            return {}
        return dict(clip_effect(values, low, high, bits=bits, symmetric=kind == "weight"))

    def stored(row: dict[Any, Any]) -> Any:
        return (row["stored_min"], row["stored_max"]) if np.isfinite(row["stored_min"]) else None

    return table("What each file holds, and what its range would do",
                 [{**row, **effect(row)} for row in rows.to_dict("records")], {
        "model": "file", "values": "count", "least": "min", "0.1 %": "p0_1",
        "99.9 %": "p99_9", "greatest": "max", "stored range": (stored, text.span),
        "step": "scale", "clipped": ("clipped_share", text.percent),
        "SQNR": ("sqnr_db", text.decibels)})


def effect_sentence(effect: dict[str, float], bits: int) -> str:
    """The numbers of a clip range in words, as ``static/histogram.js`` says them."""
    sqnr = "no error" if math.isinf(effect["sqnr_db"]) else f"SQNR {effect['sqnr_db']:.1f} dB"
    return (
        f"Range {effect['low']:.4g} to {effect['high']:.4g} at {bits} bits: "
        f"step {effect['step']:.3g}, {100 * effect['clipped_share']:.2f} % of the values clipped, "
        f"{sqnr}, "
        f"{100 * effect['clipped_error_share']:.0f} % of the squared error from clipping."
    )


class RangeExplorer(Explorer):
    """Pick a layer, weights or activations, a channel; drag the range that would be quantized."""

    def __init__(self, layers: Layers, selection: Selection | None = None) -> None:
        self._layers, self._selection = layers, selection or Selection()
        self._colours = model_colours(layers.models)
        self._values: Binned | None = None
        self._drawn: tuple[str, str] | None = None
        self._channels_of = ""
        self.layer = choice("layer", layers.layers, "qi-range-layer")
        kinds = ["weight", "activation"] if layers.activations else ["weight"]
        self.kind = hooked(
            widgets.ToggleButtons(
                options=kinds, description="values", style=LABEL, layout=ONE_ROW,
                tooltips=[f"{kind} values" for kind in kinds],
            ),
            "qi-range-kind",
        )
        self.channel = hooked(
            widgets.Dropdown(options=[("all", WHOLE)], description="channel", style=LABEL),
            "qi-range-channel",
        )
        self.model = choice("try it on", layers.models, "qi-range-model")
        self.method = hooked(
            widgets.Dropdown(options=[BY_HAND], description="range", style=LABEL, layout=WIDE),
            "qi-range-method",
        )
        self.bits = hooked(
            widgets.BoundedIntText(8, 2, 8, description="bits", style=LABEL), "qi-range-bits"
        )
        self.symmetric = hooked(
            widgets.Checkbox(False, description="symmetric (zero point 0)"), "qi-range-symmetric"
        )
        self.log_scale = hooked(widgets.Checkbox(True, description="logarithmic"), "qi-range-log")
        self.histogram = hooked(ClipHistogram(log=True), "qi-range-histogram")
        self.effect = hooked(widgets.HTML(), "qi-range-effect")
        self.table = hooked(widgets.HTML(), "qi-range-table")
        self.every = ChartView("qi-range-overview")
        self.channels = ChartView("qi-range-channels", "channel")
        controls = [self.layer, self.kind, self.channel, self.model, self.method, self.bits,
                    self.symmetric, self.log_scale]
        super().__init__(
            "ranges", controls,
            [self.every, self.histogram, self.effect, self.channels, self.table]
        )
        self.watch(self.refresh, self.layer, self.kind, self.channel, self.model)
        self.watch(self._apply_method, self.method, self.bits, self.symmetric)
        self.watch(self._apply_log, self.log_scale)
        self.histogram.observe(self.guarded(self._dragged), names="clip")
        self.every.chart.observe(self.guarded(self._picked_layer), names="chosen")
        self.channels.chart.observe(self.guarded(self._picked_channel), names="chosen")
        self.guarded(self.refresh)()
        chosen = self._selection
        chosen.observe(self.guarded(lambda: self._have(chosen.layer)), names="layer")
        self.guarded(lambda: self._have(chosen.layer))()
        self.joins(chosen, "layer", self.layer)
        self.joins(chosen, "channel", self.channel)

    def refresh(self) -> None:
        """Show another layer, kind, channel or model."""
        if self.busy:
            return
        kind = self.kind.value
        layer = self._fit_layers(kind)
        channel = self._fit_channels(layer, kind)
        found = {model: binned for model in self._layers.models if
                 (binned := self._layers.binned(model, layer, kind, channel)) is not None}
        if not found:
            raise DataError(f"{layer} has no {kind} values to show.")
        active = self.model.value if self.model.value in found else next(iter(found))
        self._values = found[active]
        stored = stored_ranges(self._layers, layer, kind, channel)
        self._fit_methods(stored)
        order = [active, *(name for name in found if name != active)]
        where = "" if channel == WHOLE else f", channel {channel}"
        self.histogram.set_trait("title", f"{kind} values of {layer}{where} in {active}")
        self.histogram.set_trait("unit", f"{kind}, units of the layer")
        self.histogram.series = [series(found[name], name, self._colours[name]) for name in order]
        self.histogram.marks = [
            {"name": name, "colour": self._colours[name], "low": low, "high": high}
            for name, (low, high) in stored.items()
        ]
        self._apply_method()
        self._draw_layers(layer, kind)
        self._draw_channels(layer, channel, kind)

    def _have(self, layer: str) -> None:
        """Change to the kind of values that a layer chosen elsewhere has."""
        having = [kind for kind in self.kind.options if layer in self._having(kind)]
        if having and self.kind.value not in having:
            self.kind.value = having[0]

    def _having(self, kind: str) -> list[str]:
        """Layers that have such values, in order."""
        held = {layer for _, layer in (self._layers.weights if kind == "weight"
                                       else self._layers.activations)}
        return [layer for layer in self._layers.layers if layer in held]

    def _picked_layer(self) -> None:
        names = [value for _, value in self.layer.options]
        if 0 <= self.every.chart.chosen < len(names):
            self.layer.value = names[self.every.chart.chosen]

    def _picked_channel(self) -> None:
        if self.channels.chart.chosen >= 0:
            self.channel.value = self.channels.chart.chosen

    def _fit_layers(self, kind: str) -> str:
        """Offer the layers that have such values; keep the chosen one if it is among them."""
        names = self._having(kind)
        if not names:
            raise DataError(f"no layer has {kind} values to show.")
        kept = self.layer.value if self.layer.value in names else names[0]
        if [value for _, value in self.layer.options] != names:
            self.quietly(self.layer, options(names), kept)
        return kept

    def _fit_channels(self, layer: str, kind: str) -> int:
        """Offer the channels that there are; keep the chosen one if it is among them."""
        own = [len(v) for (_, name), v in self._layers.weights.items() if name == layer]
        count = min(own) if own and kind == "weight" else 0
        if len(self.channel.options) != count + 1:
            kept = self._selection.channel if self._selection.channel < count else WHOLE
            self.quietly(
                self.channel, [("all", WHOLE), *((str(c), c) for c in range(count))], kept
            )
        self.channel.disabled = count == 0
        return int(self.channel.value)

    def _fit_methods(self, stored: dict[str, tuple[float, float]]) -> None:
        words = [(_METHOD_WORDS[m], m) for m in METHODS]
        wanted = [*words, *((f"{_STORED}{n}", f"{_STORED}{n}") for n in stored),
                  (BY_HAND, BY_HAND)]
        allowed = [value for _, value in wanted if value != BY_HAND]
        kept = self.method.value if self.method.value in allowed else "minmax"
        # A range set by hand belongs to the values it was set on.
        if list(self.method.options) != wanted or self.method.value != kept:
            self.quietly(self.method, wanted, kept)

    def _apply_method(self) -> None:
        if self.busy or self._values is None:
            return
        bits, symmetric, method = self.bits.value, self.symmetric.value, self.method.value
        low, high = self.histogram.clip
        if method.startswith(_STORED):
            layer, kind = self.layer.value, self.kind.value
            stored = stored_ranges(self._layers, layer, kind, int(self.channel.value))
            low, high = stored[method.removeprefix(_STORED)]
        elif method != BY_HAND:
            low, high = method_range(self._values, method, bits=bits, symmetric=symmetric)
        if symmetric:
            low, high = -max(-low, high), max(-low, high)
        self.busy = True
        try:
            self.histogram.bits, self.histogram.symmetric = bits, symmetric
            self.histogram.clip = [min(low, 0.0), max(high, 0.0)]
        finally:
            self.busy = False
        self._tell()
        self.table.value = shown(range_table(
            self._layers, self.layer.value, self.kind.value, int(self.channel.value),
            self._values, bits,
        ))

    def _dragged(self) -> None:
        if self.busy:
            return
        self.busy = True
        try:
            self.method.value = BY_HAND
        finally:
            self.busy = False
        self._tell()

    def _tell(self) -> None:
        assert self._values is not None
        low, high = self.histogram.clip
        bits = self.bits.value
        found = clip_effect(self._values, low, high, bits=bits, symmetric=self.symmetric.value)
        self.effect.value = sentence(f"Checked in Python: {effect_sentence(found, bits)}")

    def _apply_log(self) -> None:
        self.histogram.log = self.log_scale.value

    def _draw_layers(self, layer: str, kind: str) -> None:
        names = [value for _, value in self.layer.options]
        if (kind, self.model.value) != self._drawn:
            self._drawn = (kind, self.model.value)
            rows = self._layers.of(kind)
            rows = rows[rows["channel"] == WHOLE]
            if kind == "weight":
                figure = figures.weight_ranges(rows)
            else:
                quantized = (self.model.value if self.model.value != self._layers.models[0]
                             else self._layers.models[-1])
                figure = figures.activation_ranges(
                    self._layers.stored_against_observed(quantized)).about(quantized)
            self.every.show(names, self._series(rows, "layer", names), figure,
                            unit=f"{kind}, units of the layer")
        self.every.chart.chosen = names.index(layer)

    def _draw_channels(self, layer: str, channel: int, kind: str) -> None:
        rows = self._layers.of("weight")
        rows = rows[(rows["layer"] == layer) & (rows["channel"] != WHOLE)]
        self.channels.layout.display = "" if kind == "weight" and len(rows) else "none"
        if kind == "weight" and self._channels_of != layer:
            self._channels_of = layer
            count = int(rows["channel"].max()) + 1 if len(rows) else 0
            self.channels.show([str(one) for one in range(count)],
                               self._series(rows, "channel", range(count)),
                               figures.channel_ranges(rows).about(layer), unit="weight")
        self.channels.chart.chosen = channel

    def _series(self, rows: pd.DataFrame, key: str, items: Sequence[Any]) -> list[Series]:
        """What occurs in the float file, and what each other file can store."""
        found = []
        for model in self._layers.models:
            own = rows[rows["file"] == model].drop_duplicates(key)
            own = own.set_index(key).reindex(list(items))
            stored = own["stored_min"].notna().any()
            low, high = (own[f"stored_{end}" if stored else end] for end in ("min", "max"))
            said = [f"{'stores' if stored else 'holds'} {text.span(ends)}"
                    if np.isfinite(ends).all() else "" for ends in zip(low, high, strict=True)]
            found.append(Series(model, self._colours[model], low.tolist(), high.tolist(), said))
        return found
