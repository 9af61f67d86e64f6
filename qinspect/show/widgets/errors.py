"""Quantization errors by layer: sort, choose, compare the layer's own with the accumulated one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import ipywidgets as widgets
import pandas as pd

from qinspect.errors import DataError, SpecError
from qinspect.measure.local import LayerErrors
from qinspect.show import figures, text
from qinspect.show.table import Table, table
from qinspect.show.widgets.base import (
    FLOW,
    LABEL,
    WIDE,
    Explorer,
    TableView,
    choice,
    hooked,
    options,
)
from qinspect.show.widgets.figure import FigureView

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


class ErrorExplorer(Explorer):
    """Error histogram and SQNR by layer, of every model."""

    def __init__(self, errors: Mapping[str, LayerErrors]) -> None:
        if not errors:
            raise DataError("there are no layer errors to show; measure them on examples first.")
        self._errors = dict(errors)
        self._busy = False
        self.model = choice("model", list(errors), "qi-err-model")
        self.reference = hooked(
            widgets.ToggleButtons(
                options=[("accumulated", "accumulated"), ("of the layer itself", "local")],
                description="error", style=LABEL,
                tooltips=["everything before included", "of this layer alone"],
                layout={"width": "max-content"},
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
            widgets.Select(options=options([first]), rows=8, description="layer", style=LABEL,
                           layout=WIDE),
            "qi-err-layer",
        )
        self.profile = FigureView(7.2, 3.8, "qi-err-profile")
        self.histogram = FigureView(6.4, 3.2, "qi-err-histogram")
        self.table = TableView("qi-err-table")
        super().__init__(
            "errors",
            [self.model, self.reference, self.metric],
            [widgets.HBox([self.layer, self.histogram], layout=FLOW),
             widgets.HBox([self.profile, self.table], layout=FLOW)],
        )
        self.watch(self.refresh, self.model, self.reference, self.metric)
        self.watch(self._show_layer, self.layer)
        self.watch(self._draw_profile, self.model)
        self.guarded(self.refresh)()
        self.guarded(self._draw_profile)()

    def refresh(self) -> None:
        """Sort the layers anew, and show the worst one unless they stand in their own order."""
        rows = self._rows()
        layers = [str(name) for name in rows["layer"]]
        if not layers:
            raise DataError(f"{self.model.value} has no {self.reference.value} errors.")
        self._busy = True
        try:
            self.layer.options = options(layers)
            self.layer.value = layers[0]
        finally:
            self._busy = False
        self._show_layer()

    def _rows(self) -> pd.DataFrame:
        errors = self._errors[self.model.value].errors
        return sorted_errors(errors, self.reference.value, self.metric.value)

    def _show_layer(self) -> None:
        if self._busy:
            return
        layer = self.layer.value
        found = self._errors[self.model.value]
        every, bins = found.histograms, found.histogram(layer, self.reference.value)
        most = float(every["count"].max()) if len(every) else 1.0
        figure = figures.error_histogram(bins, most=most).about(
            f"{layer}, {self.reference.value} error")
        self.histogram.show(figure, layout=self.model.value)
        self.table.show(error_table(self._rows(), layer))

    def _draw_profile(self) -> None:
        errors = self._errors[self.model.value].errors
        self.profile.show(figures.sqnr_profile(errors).about(self.model.value),
                          layout=self.model.value)
