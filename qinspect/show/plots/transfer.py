"""What a quantizer makes of each value: its staircase."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from qinspect.show.plots.style import COLOURS, legend_beside, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS = 3000
_LEVEL_LINES = 64


def transfer_plot(values: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw each value against what it becomes.

    Parameters
    ----------
    values : DataFrame
        Columns ``channel``, ``value``, ``quantized``, one unit.
    ax : Axes, optional
        Where to draw; new axes when not given.

    Returns
    -------
    Axes
        Points on the diagonal are kept exactly; faint lines: the levels in use, where there are
        few.  At most 3,000 points, evenly taken.
    """
    import seaborn as sns

    ax = ax or new_axes(6.4, 4.0)
    shown = values.iloc[:: max(1, len(values) // _POINTS)]
    channels = sorted(set(shown["channel"]))
    colours = sns.color_palette("viridis", max(len(channels), 1))
    levels = np.unique(values["quantized"].to_numpy(dtype=float))
    ends = [float(values["value"].min()), float(values["value"].max())] if len(values) else [0, 1]
    if len(levels) <= _LEVEL_LINES:
        ax.hlines(levels, ends[0], ends[1], color="0.85", linewidth=0.8, zorder=0)
    ax.plot(ends, ends, color=COLOURS["neutral"], linewidth=1)
    for name, colour in zip(channels, colours, strict=False):
        part = shown[shown["channel"] == name]
        ax.plot(part["value"], part["quantized"], ".", color=colour, markersize=3,
                label=f"channel {name}" if 1 < len(channels) <= 12 else None)
    ax.set_xlabel("value")
    ax.set_ylabel("value after quantization")
    legend_beside(ax)
    return ax


def describe_transfer(values: pd.DataFrame) -> str:
    """The figure's content as a sentence."""
    if values.empty:
        return "There are no values."
    levels = values["quantized"].nunique()
    gap = (values["quantized"] - values["value"]).abs()
    return (
        f"{len(values):,} values became {levels:,} different ones; the largest change is "
        f"{gap.max():.3g}, the median change {gap.median():.3g}."
    )
