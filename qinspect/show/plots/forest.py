"""Accuracy of each model with its interval, one line a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from qinspect.show.plots.style import arm_colour, name_rows, new_axes, row_height

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def accuracy_forest(runs: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw accuracies with intervals.

    Parameters
    ----------
    runs : DataFrame
        Columns ``arm``, ``accuracy``, ``accuracy_low``, ``accuracy_high`` (shares in 0..1), in
        the order to draw from top to bottom.
    ax : Axes, optional
        Where to draw; new axes when not given.

    Returns
    -------
    Axes
    """
    ax = ax or new_axes(7.0, row_height(len(runs), base=0.9))
    for row, record in enumerate(runs.to_dict("records")):
        colour = arm_colour(str(record["arm"]))
        ends = [100 * record["accuracy_low"], 100 * record["accuracy_high"]]
        ax.plot(ends, [row, row], color=colour, linewidth=2, solid_capstyle="butt")
        ax.plot(100 * record["accuracy"], row, "o", color=colour, markersize=6)
    reference = runs.loc[runs["arm"] == "float", "accuracy"]
    if len(reference):
        ax.axvline(100 * float(reference.iloc[0]), color="0.6", linewidth=1, linestyle="--",
                   zorder=0)
    name_rows(ax, list(runs["arm"]))
    ax.set_xlabel("accuracy, % (point and interval; dashed: float)")
    return ax


def describe_forest(runs: pd.DataFrame) -> str:
    """The figure's content as a sentence."""
    ordered = runs.sort_values("accuracy", kind="stable").to_dict("records")
    worst, best = ordered[0], ordered[-1]
    return (
        f"Accuracy runs from {100 * worst['accuracy']:.2f} % ({worst['arm']}) to "
        f"{100 * best['accuracy']:.2f} % ({best['arm']}); the intervals show how far each may "
        "be off for want of more test examples."
    )
