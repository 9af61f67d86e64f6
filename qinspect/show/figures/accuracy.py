"""What each model is worth: with its interval, and against the size of its file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from qinspect.metrics import ACCURACY, Metric
from qinspect.show import text
from qinspect.show.figure import Figure, least, most
from qinspect.show.style import (
    INK,
    label,
    legend_beside,
    model_colours,
    name_rows,
    row_height,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "osD^v<>PXdph*"
_LEGEND = 26


def accuracy_forest(rows: pd.DataFrame, metric: Metric = ACCURACY) -> Figure:
    """Values with intervals, one line a model: the frame of results, or runs of a study."""
    rows = _as_results(rows)

    def draw(ax: Axes) -> None:
        scale = metric.scale
        colours = model_colours(map(str, rows["model"]))
        for row, record in enumerate(rows.to_dict("records")):
            colour = colours[str(record["model"])]
            ends = [scale * record["low"], scale * record["high"]]
            ax.plot(ends, [row, row], color=colour, linewidth=2, solid_capstyle="butt")
            ax.plot(scale * record["value"], row, "o", color=colour, markersize=6)
        reference = rows.loc[rows["model"] == "float", "value"]
        if len(reference):
            ax.axvline(scale * float(reference.iloc[0]), color=INK, linewidth=1, linestyle="--",
                       zorder=0)
        name_rows(ax, list(rows["model"]))
        dashed = "; dashed: float" if len(reference) else ""
        ax.set_xlabel(metric.label + text.remarks(metric, f"point and interval{dashed}"))

    ordered = rows.sort_values("value", kind="stable").to_dict("records")[::metric.better]
    worst, best = ordered[0], ordered[-1]
    title, form = text.capital(metric.title), text.value_of(metric)
    said = (
        f"{title} runs from {form(worst['value'])} ({worst['model']}) to "
        f"{form(best['value'])} ({best['model']}); the intervals show how far each may "
        f"be off for want of more test examples{text.or_lower(metric)}."
    )
    return Figure(draw, said, f"{title} of each model", (7.0, row_height(len(rows), base=0.9)))


def accuracy_size(rows: pd.DataFrame, metric: Metric = ACCURACY) -> Figure:
    """Values with intervals against file size (``bytes``), kB on a logarithmic axis."""
    rows = _as_results(rows)

    def draw(ax: Axes) -> None:
        colours = model_colours(map(str, rows["model"]))
        for turn, record in enumerate(rows.to_dict("records")):
            _mark(ax, record, turn, colours[str(record["model"])], metric.scale)
        ax.set_xscale("log")
        ax.margins(x=0.12)
        low, high = ax.get_xlim()
        for marks in ((1, 2, 5), range(1, 10)):
            ticks = [m * 10.0**k for k in range(-3, 9) for m in marks if low <= m * 10.0**k <= high]
            if len(ticks) > 2:
                break
        if len(ticks) < 2:  # files of nearly one size
            ticks = [float(f"{tick:.3g}") for tick in np.linspace(low, high, 5)[1:-1]]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
        ax.set_xlabel("file, kB")
        ax.set_ylabel(metric.label + text.remarks(metric, "line: interval"))
        legend_beside(ax)

    title, form = f"{text.capital(metric.title)} against size", text.value_of(metric)
    if rows.empty:
        return Figure(draw, "No model was measured.", title, (7.5, 4.2))
    small, large = least(rows, "bytes"), most(rows, "bytes")
    said = (
        f"Files run from {text.size(int(small['bytes']))} ({small['model']}, "
        f"{form(small['value'])}) to {text.size(int(large['bytes']))} ({large['model']}, "
        f"{form(large['value'])}){text.or_lower(metric)}."
    )
    return Figure(draw, said, title, (7.5, 4.2))


def _as_results(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns as in the frame of results where they are named as in ``schema.RUNS``."""
    return frame.rename(columns={"arm": "model", "accuracy": "value", "accuracy_low": "low",
                                 "accuracy_high": "high"})


def _mark(ax: Axes, record: dict[Any, Any], turn: int, colour: str, scale: float) -> None:
    size = record["bytes"] / 1000
    ax.vlines([size], [scale * record["low"]], [scale * record["high"]],
              color=colour, linewidth=1.0, alpha=0.4)
    ax.plot(size, scale * record["value"], _MARKERS[turn % len(_MARKERS)], color=colour,
            markersize=7, alpha=0.8, linestyle="none",
            label=label(record["model"], 26) if turn < _LEGEND else None)
