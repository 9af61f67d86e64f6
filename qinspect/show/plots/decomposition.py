"""The parts of a gap, stacked one after the other up to their sum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qinspect.show import text
from qinspect.show.plots.style import COLOURS, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def waterfall(
    parts: list[dict[str, Any]], total_pp: float, ax: Axes | None = None, *, total: str = "gap"
) -> Axes:
    """Draw a decomposition as a waterfall.

    Parameters
    ----------
    parts : list of dict
        ``title``, ``diff_pp``, ``ci_pp`` of each part, in percentage points.
    total_pp : float
        Their sum.
    ax : Axes, optional
        Where to draw; new axes when not given.
    total : str
        Name of the sum.

    Returns
    -------
    Axes
    """
    ax = ax or new_axes(7.0, 1.2 + 0.45 * (len(parts) + 1))
    start = 0.0
    for row, part in enumerate(parts):
        value = float(part["diff_pp"])
        ax.barh(row, value, left=start, height=0.6,
                color=COLOURS["good"] if value >= 0 else COLOURS["bad"])
        low, high = part["ci_pp"]
        ax.plot([start + low, start + high], [row, row], color="black", linewidth=1.2)
        ax.plot([start + value] * 2, [row - 0.3, row + 1.3], color="0.5", linewidth=0.8)
        start += value
    ax.barh(len(parts), total_pp, height=0.6, color=COLOURS["neutral"])
    ax.axvline(0, color="black", linewidth=0.8)
    labels = [f"{p['title']}\n{text.points(p['diff_pp'])}" for p in parts]
    ax.set_yticks(range(len(parts) + 1), [*labels, f"{total}\n{text.points(total_pp)}"])
    ax.set_ylim(len(parts) + 0.6, -0.6)
    ax.set_xlabel("accuracy, percentage points (line: interval of the part)")
    ax.grid(axis="y", visible=False)
    return ax


def describe_waterfall(parts: list[dict[str, Any]], total_pp: float) -> str:
    """The figure's content as a sentence."""
    listed = "; ".join(
        f"{p['title']} {text.points(p['diff_pp'])} {text.interval(p['ci_pp'])}" for p in parts
    )
    return f"The gap of {text.points(total_pp)} points is the sum of: {listed}."
