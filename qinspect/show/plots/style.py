"""Look of every figure: seaborn's white grid, the Okabe-Ito colours, names that cannot break it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from qinspect.schema import Array
from qinspect.show.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure

# Okabe and Ito (2008), distinguishable with the common forms of colour blindness.
COLOURS = {
    "float": "#000000",
    "ptq": "#0072B2",
    "qat": "#D55E00",
    "finetuned": "#009E73",
    "accent": "#CC79A7",
    "good": "#009E73",
    "bad": "#D55E00",
    "neutral": "#7F7F7F",
    "light": "#56B4E9",
    "warn": "#E69F00",
}

# Tallest figure: a page, not a scroll; with more rows the rows grow thinner and labels fewer.
_TALLEST = 12.0
_LONGEST_NAME = 34
# Points from one label to the next that keep 8-point text apart.
_PITCH = 11.0


def arm_colour(arm: str) -> str:
    """Colour of an arm by its family: float, fine-tuned, PTQ, QAT."""
    if arm.startswith("qat"):
        return COLOURS["qat"]
    if arm.startswith("ptq"):
        return COLOURS["finetuned"] if "_ft" in arm else COLOURS["ptq"]
    return COLOURS["finetuned"] if "_ft" in arm else COLOURS["float"]


def new_axes(width: float = 7.0, height: float = 4.0) -> Axes:
    """Fresh axes on a figure that no global state holds, so nothing leaks between notebooks."""
    import seaborn as sns
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with sns.axes_style("whitegrid"):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        ax = figure.add_subplot()
    _set_grid(ax)
    return ax


def clear_axes(ax: Axes) -> None:
    """Empty the axes but keep the look that :func:`new_axes` gave them."""
    import seaborn as sns

    with sns.axes_style("whitegrid"):
        ax.clear()
    _set_grid(ax)


def _set_grid(ax: Axes) -> None:
    # Ticks that are made later would take the default colour, which is darker.
    ax.grid(visible=True, color="0.85", linewidth=0.8)


def figure_of(ax: Axes) -> Figure:
    """The figure that holds the axes (not a subfigure)."""
    from matplotlib.figure import Figure

    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    return figure


def label(name: object, longest: int = _LONGEST_NAME) -> str:
    """A name from a file as a label: no mathtext, no control characters, the middle left out."""
    text = printable(str(name))
    if len(text) > longest:
        half = (longest - 1) // 2
        text = f"{text[:half]}…{text[-half:]}"
    return text.replace("$", r"\$")


def row_height(rows: int, each: float = 0.26, base: float = 1.0) -> float:
    """Inches for a figure with one line a row, at most a page."""
    return min(base + each * rows, _TALLEST)


def name_rows(ax: Axes, names: Sequence[object], axis: Literal["x", "y"] = "y") -> None:
    """Put names at 0, 1, 2 ... of an axis, leaving out as many as do not fit."""
    figure = figure_of(ax)
    inches = figure.get_figheight() if axis == "y" else figure.get_figwidth()
    room = max(1, int(0.82 * 72 * inches / _PITCH))
    every = -(-len(names) // room) if names else 1
    shown = range(0, len(names), every)
    labels = [label(names[i], _LONGEST_NAME if axis == "y" else 22) for i in shown]
    if axis == "y":
        ax.set_yticks(list(shown), labels, fontsize=8)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.grid(axis="y", visible=False)
    else:
        ax.set_xticks(list(shown), labels, fontsize=8, rotation=90)
        ax.set_xlim(-0.5, len(names) - 0.5)
        ax.grid(axis="x", visible=False)


def columns(ax: Axes, left: Array, width: Array | float, bottom: Array, top: Array,
            **look: Any) -> PolyCollection:
    """Columns as one artist: hundreds of bars one by one take longer than all the rest."""
    from matplotlib.collections import PolyCollection

    right = left + width
    corners = [(left, bottom), (left, top), (right, top), (right, bottom)]
    shape = PolyCollection(list(np.array(corners).transpose(2, 0, 1)), **look)
    # The extent is known here; worked out from the shapes it would take longer than drawing them.
    ax.add_collection(shape, autolim=False)
    if len(left):
        ax.update_datalim([(left.min(), np.min(bottom)), (right.max(), np.max(top))])
    ax.autoscale_view()
    return shape


def round_reach(value: float) -> float:
    """The next round number from ``value`` > 0 up, for an axis that should not move all the time.

    One of 1, 1.5, 2, 3, 5, 7.5 times a power of ten.
    """
    power = 10.0 ** np.floor(np.log10(value))
    steps = (1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0)
    return float(power * next(step for step in steps if step * power >= value * (1 - 1e-9)))


def legend_beside(ax: Axes) -> None:
    """A legend to the right of the axes, where it covers no data; the one there if it fits."""
    handles, names = ax.get_legend_handles_labels()
    old = ax.get_legend()
    if old is not None and [text.get_text() for text in old.get_texts()] == names:
        return
    if old is not None:
        old.remove()
    if handles:
        ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
