"""Accuracy of each model: with its interval, and against the size of its file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from qinspect.show import text
from qinspect.show.figure import Figure, least, most
from qinspect.show.style import (
    COLOURS,
    INK,
    arm_colour,
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


def accuracy_forest(runs: pd.DataFrame) -> Figure:
    """Accuracies with intervals, one line a model: runs of a study, or the frame of results."""
    runs = _as_runs(runs)

    def draw(ax: Axes) -> None:
        for row, record in enumerate(runs.to_dict("records")):
            colour = arm_colour(str(record["arm"]))
            ends = [100 * record["accuracy_low"], 100 * record["accuracy_high"]]
            ax.plot(ends, [row, row], color=colour, linewidth=2, solid_capstyle="butt")
            ax.plot(100 * record["accuracy"], row, "o", color=colour, markersize=6)
        reference = runs.loc[runs["arm"] == "float", "accuracy"]
        if len(reference):
            ax.axvline(100 * float(reference.iloc[0]), color=INK, linewidth=1, linestyle="--",
                       zorder=0)
        name_rows(ax, list(runs["arm"]))
        dashed = "; dashed: float" if len(reference) else ""
        ax.set_xlabel(f"accuracy, % (point and interval{dashed})")

    ordered = runs.sort_values("accuracy", kind="stable").to_dict("records")
    worst, best = ordered[0], ordered[-1]
    said = (
        f"Accuracy runs from {text.percent(worst['accuracy'])} ({worst['arm']}) to "
        f"{text.percent(best['accuracy'])} ({best['arm']}); the intervals show how far each may "
        "be off for want of more test examples."
    )
    return Figure(draw, said, "Accuracy of each model", (7.0, row_height(len(runs), base=0.9)))


def accuracy_size(runs: pd.DataFrame) -> Figure:
    """Accuracy with its interval against file size (``bytes``), kB on a logarithmic axis."""
    runs = _as_runs(runs)

    def draw(ax: Axes) -> None:
        arms = [str(arm) for arm in runs["arm"]]
        # Names of no family would all be grey.
        known = {arm_colour(arm) for arm in arms} != {COLOURS["float"]}
        colours = {arm: arm_colour(arm) for arm in arms} if known else model_colours(arms)
        for turn, record in enumerate(runs.to_dict("records")):
            _mark(ax, record, turn, colours[str(record["arm"])])
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
        ax.set_ylabel("accuracy, % (line: interval)")
        legend_beside(ax)

    if runs.empty:
        return Figure(draw, "No model was measured.", "Accuracy against size", (7.5, 4.2))
    small, large = least(runs, "bytes"), most(runs, "bytes")
    said = (
        f"Files run from {text.size(int(small['bytes']))} ({small['arm']}, "
        f"{text.percent(small['accuracy'])}) to {text.size(int(large['bytes']))} ({large['arm']}, "
        f"{text.percent(large['accuracy'])})."
    )
    return Figure(draw, said, "Accuracy against size", (7.5, 4.2))


def _as_runs(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of ``schema.RUNS`` where they are named as in the frame of results."""
    return frame.rename(columns={"model": "arm", "value": "accuracy", "low": "accuracy_low",
                                 "high": "accuracy_high"})


def _mark(ax: Axes, record: dict[Any, Any], turn: int, colour: str) -> None:
    size = record["bytes"] / 1000
    ax.vlines([size], [100 * record["accuracy_low"]], [100 * record["accuracy_high"]],
              color=colour, linewidth=1.0, alpha=0.4)
    ax.plot(size, 100 * record["accuracy"], _MARKERS[turn % len(_MARKERS)], color=colour,
            markersize=7, alpha=0.8, linestyle="none",
            label=label(record["arm"], 26) if turn < _LEGEND else None)
