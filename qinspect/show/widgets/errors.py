"""Quantization errors by layer: sort, choose, compare the layer's own with the accumulated one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import ipywidgets as widgets
import numpy as np
import pandas as pd

from qinspect.errors import DataError, SpecError
from qinspect.measure.local import LayerErrors
from qinspect.show import figures, text
from qinspect.show.style import model_colours, round_reach
from qinspect.show.table import Table, table
from qinspect.show.widgets.base import (
    FLOW,
    LABEL,
    ONE_ROW,
    WIDE,
    Explorer,
    TableView,
    choice,
    hooked,
    options,
    sentence,
)
from qinspect.show.widgets.chart import ChartView, Series
from qinspect.show.widgets.figure import FigureView
from qinspect.show.widgets.selection import WHOLE, Selection

if TYPE_CHECKING:
    from qinspect.measure.layer_tables import Layers

# Column of ERRORS -> title, whether large is bad, format.
METRICS: dict[str, tuple[str, bool, Callable[[float], str]]] = {
    "sqnr_db": ("SQNR", False, text.decibels),
    "rmse_over_scale": ("RMSE / step", True, text.number),
    "clipped_share": ("clipped share", True, text.percent),
    "clipped_energy": ("share of error from clipping", True, text.percent),
    "effective_bits": ("bits used", False, "{:.1f}".format),
    "cosine": ("cosine", False, "{:.4f}".format),
    "bias": ("bias", True, text.number),
    "max_abs": ("largest error", True, text.number),
}
ORDER = "order of execution"
# Least possible of the largest value on a threshold's slider.
_REACH = 1e-3


def sorted_errors(errors: pd.DataFrame, reference: str, metric: str = ORDER) -> pd.DataFrame:
    """Rows of one reference, the worst first by a metric; a bias counts by its size."""
    rows = errors[errors["reference"] == reference]
    if metric == ORDER:
        return rows
    if metric not in METRICS:
        raise SpecError(f"metric is {metric!r}; choose one of {', '.join((ORDER, *METRICS))}.")
    value = rows[metric].abs() if metric == "bias" else rows[metric]
    return rows.assign(key=value).sort_values(
        "key", ascending=not METRICS[metric][1], kind="stable", na_position="last"
    )


def error_table(rows: pd.DataFrame, chosen: str) -> Table:
    """The rows as a table, the chosen layer marked."""
    heads = {title: (column, form) for column, (title, _, form) in METRICS.items()}
    return table("Errors by layer", rows, {
        "": lambda row: ">" if row["layer"] == chosen else "", "layer": "layer",
        "operator": "op", **heads})


def beyond(rows: pd.DataFrame, thresholds: Mapping[str, float]) -> pd.DataFrame:
    """Rows above every threshold; one of 0 lets all pass, also those without a number."""
    for column, least in thresholds.items():
        if least > 0:
            rows = rows[rows[column] > least]
    return rows


class ErrorExplorer(Explorer):
    """Error histogram and errors by layer, of every model; thresholds filter the table.

    With ``layers`` also the errors of the weights by channel.
    """

    _shown = False

    def __init__(
        self, errors: Mapping[str, LayerErrors], selection: Selection | None = None,
        layers: Layers | None = None,
    ) -> None:
        if not errors:
            raise DataError("there are no layer errors to show; measure them on examples first.")
        self._errors, self._layers = dict(errors), layers
        self._selection = selection or Selection()
        self._colours = model_colours(["float", *errors])
        self.model = choice("model", list(errors), "qi-err-model")
        self.reference = hooked(
            widgets.ToggleButtons(
                options=[("accumulated", "accumulated"), ("of the layer itself", "local")],
                description="error", style=LABEL,
                tooltips=["everything before included", "of this layer alone"],
                layout=ONE_ROW,
            ),
            "qi-err-reference",
        )
        self.metric = hooked(
            widgets.Dropdown(
                options=[(ORDER, ORDER), *((title, key) for key, (title, *_) in METRICS.items())],
                value="sqnr_db", description="sort by", style=LABEL, layout=WIDE,
            ),
            "qi-err-metric",
        )
        first = str(next(iter(errors.values())).errors["layer"].iloc[0])
        self.layer = hooked(
            widgets.Select(options=options([first]), rows=6, description="layer", style=LABEL,
                           layout={"width": "360px"}),
            "qi-err-layer",
        )
        self.least = {
            "rmse_over_scale": self._threshold("error above, steps", "qi-err-least", ".3g"),
            "clipped_share": self._threshold("clipped above", "qi-err-clipped", ".1%"),
        }
        self.count = hooked(widgets.HTML(), "qi-err-count")
        self.profile = ChartView("qi-err-profile")
        self.channels = ChartView("qi-err-channels", "channel")
        self.histogram = FigureView(6.4, 3.2, "qi-err-histogram")
        self.table = TableView("qi-err-table")
        super().__init__(
            "errors",
            [self.model, self.reference, self.metric],
            [self.profile, widgets.HBox([
                self.layer, widgets.VBox([*self.least.values(), self.count])], layout=FLOW),
             self.histogram, self.channels, self.table],
        )
        self.watch(self.refresh, self.model, self.reference, self.metric)
        self.watch(self._show_layer, self.layer)
        self.watch(self._filter, *self.least.values())
        self.profile.chart.observe(self.guarded(self._picked), names="chosen")
        self.channels.chart.observe(self.guarded(self._picked_channel), names="chosen")
        self._selection.observe(self.guarded(self._mark_channel), names="channel")
        self.guarded(self.refresh)()
        self.joins(self._selection, "layer", self.layer)

    def _threshold(self, description: str, hook: str, form: str) -> widgets.FloatSlider:
        return hooked(widgets.FloatSlider(0.0, min=0.0, max=1.0, description=description,
                                          style=LABEL, layout=WIDE, readout_format=form), hook)

    def refresh(self) -> None:
        """Sort the layers anew; the chosen one stays, and where none was it is the worst."""
        rows = self._rows()
        layers = [str(name) for name in rows["layer"]]
        if not layers:
            raise DataError(f"{self.model.value} has no {self.reference.value} errors.")
        kept = self.layer.value if self._shown and self.layer.value in layers else layers[0]
        self.quietly(self.layer, options(layers), kept)
        self._shown = True
        for column, slider in self.least.items():
            values = self._errors[self.model.value].errors[column].to_numpy(dtype=float)
            most = round_reach(max(_REACH, *values[np.isfinite(values)]))
            slider.max, slider.step = most, most / 100
        self._draw_profile()
        self._show_layer()
        self._filter()

    def _rows(self) -> pd.DataFrame:
        errors = self._errors[self.model.value].errors
        return sorted_errors(errors, self.reference.value, self.metric.value)

    def _show_layer(self) -> None:
        if self.busy:
            return
        layer = self.layer.value
        self.profile.chart.chosen = self._places().index(layer)
        found = self._errors[self.model.value]
        every, bins = found.histograms, found.histogram(layer, self.reference.value)
        most = float(every["count"].max()) if len(every) else 1.0
        figure = figures.error_histogram(bins, most=most).about(
            f"{layer}, {self.reference.value} error")
        self.histogram.show(figure, layout=self.model.value)
        self._draw_channels(layer)
        self._show_table()

    def _filter(self) -> None:
        """Show the layers beyond the thresholds, in the table and in the chart."""
        rows = self._beyond()
        there = set(rows["layer"])
        asked = [slider for slider in self.least.values() if slider.value > 0]
        self.profile.chart.passing = [name in there for name in self._places()] if asked else []
        words = {"rmse_over_scale": f"error above {self.least['rmse_over_scale'].value:.3g} steps",
                 "clipped_share": "more than "
                                  f"{text.percent(self.least['clipped_share'].value)} clipped"}
        told = " and ".join(words[key] for key, one in self.least.items() if one in asked)
        self.count.value = sentence(
            f"{len(rows)} of {len(self._rows())} layers{f': {told}' if told else ''}.")
        self._show_table()

    def _beyond(self) -> pd.DataFrame:
        return beyond(self._rows(), {key: one.value for key, one in self.least.items()})

    def _show_table(self) -> None:
        self.table.show(error_table(self._beyond(), self.layer.value))

    def _picked(self) -> None:
        places = self._places()
        if 0 <= self.profile.chart.chosen < len(places):
            self.layer.value = places[self.profile.chart.chosen]

    def _picked_channel(self) -> None:
        if self.channels.chart.chosen >= 0:
            self._selection.channel = self.channels.chart.chosen

    def _mark_channel(self) -> None:
        there = self._selection.channel < len(self.channels.chart.names)
        self.channels.chart.chosen = self._selection.channel if there else WHOLE

    def _draw_channels(self, layer: str) -> None:
        found = {} if self._layers is None else {
            model: values for model in self._errors
            if len(values := self._layers.channel_sqnr(model, layer))}
        self.channels.layout.display = "" if found else "none"
        if found:
            count = max(map(len, found.values()))
            series = []
            for model, values in found.items():
                known = np.append(values, np.full(count - len(values), np.nan))
                series.append(Series(
                    model, self._colours[model], np.minimum(known, 0).tolist(),
                    np.maximum(known, 0).tolist(),
                    ["" if np.isnan(value) else text.decibels(value) for value in known]))
            self.channels.show([str(one) for one in range(count)], series,
                               figures.channel_sqnr(found).about(layer), unit="SQNR, weights")
        self._mark_channel()

    def _places(self) -> list[str]:
        """Layers as they stand in the chart: in the order of execution."""
        return [str(name) for name in
                sorted_errors(self._errors[self.model.value].errors, self.reference.value)["layer"]]

    def _draw_profile(self) -> None:
        key = "sqnr_db" if self.metric.value == ORDER else self.metric.value
        title, _, form = METRICS[key]
        places, series = self._places(), []
        for model, found in self._errors.items():
            rows = sorted_errors(found.errors, self.reference.value).drop_duplicates("layer")
            values = rows.set_index("layer")[key].reindex(places).astype(float)
            series.append(Series(
                model, self._colours[model], values.clip(upper=0).tolist(),
                values.clip(lower=0).tolist(), ["" if np.isnan(v) else form(v) for v in values]))
        figure = figures.sqnr_profile(self._errors[self.model.value].errors)
        self.profile.show(places, series, figure.about(self.model.value), unit=title)
