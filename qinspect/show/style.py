"""Look of every figure: seaborn's grid without a background, colours for light and dark pages."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from qinspect.show.text import elided

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure

# Text and lines: contrast 4.4 to 1 on white, 4.3 to 1 on the dark theme of JupyterLab (#111111).
INK = "#787878"
FAINT = "#80808066"
# After Okabe and Ito (2008), distinguishable with the common forms of colour blindness.  Black
# would vanish on a dark page.
COLOURS = {
    "float": "#8A8A8A",
    "ptq": "#0072B2",
    "qat": "#D55E00",
    "finetuned": "#009E73",
    "accent": "#CC79A7",
    "good": "#009E73",
    "bad": "#D55E00",
    "neutral": "#A0A0A0",
    "light": "#56B4E9",
    "warn": "#E69F00",
}
_FAMILIES = ("float", "ptq", "qat", "finetuned", "accent", "warn", "light")
_LOOK = {
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
    "legend.facecolor": "none", "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": FAINT,
    "xtick.color": INK, "ytick.color": INK, "hatch.color": INK, "grid.color": FAINT,
    "grid.linewidth": 0.6, "patch.force_edgecolor": False, "patch.edgecolor": "none",
}
# Tallest figure: a page, not a scroll; with more rows the rows grow thinner and labels fewer.
_TALLEST = 12.0
_LONGEST_NAME = 34
# Points from one label to the next that keep 9-point text apart.
_PITCH = 12.0


def family_of(name: str) -> str | None:
    """Family of a model by its name: float, PTQ, QAT, fine-tuned; None where it does not tell."""
    name = name.lower()
    if "qat" in name:
        return "qat"
    if "_ft" in name:
        return "finetuned"
    if any(word in name for word in ("ptq", "int8", "int16", "quant", "dynamic")):
        return "ptq"
    return "float" if any(word in name for word in ("float", "fp32", "f32")) else None


def model_colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each model, that of its family where it is free: no two of seven are alike.

    Of more models those of a family share its colour.
    """
    models = list(dict.fromkeys(names))
    families = {name: family_of(name) for name in models}
    if len(models) > len(_FAMILIES):
        return {name: COLOURS[family or "neutral"] for name, family in families.items()}
    # The first of each family has its colour, whoever else comes before it.
    found = {name: COLOURS[family] for name, family in reversed(families.items())
             if family is not None and name == next(m for m in models if families[m] == family)}
    free = (COLOURS[family] for family in (*_FAMILIES[4:], *_FAMILIES[3::-1])
            if COLOURS[family] not in found.values())
    return {name: found.get(name) or next(free) for name in models}


def ordered_colours(n: int) -> list[Any]:
    """Colours of a series in order, from pale to deep, none too near to white or black."""
    import seaborn as sns

    return list(sns.cubehelix_palette(max(n, 1), start=0.4, rot=-0.8, dark=0.38, light=0.72,
                                      hue=1.4))


# A Jupyter kernel may run the messages of widgets beside a cell; matplotlib's settings are one for
# the whole process, and its figures are not made for two threads.
DRAWING = threading.RLock()


@contextmanager
def look() -> Iterator[None]:
    """The look while something is drawn, by one thread at a time; nothing of it is left behind."""
    import matplotlib as mpl
    import seaborn as sns
    from cycler import cycler

    turns = cycler(color=[COLOURS[family] for family in _FAMILIES[1:]])
    settings = {**sns.axes_style("whitegrid", rc=_LOOK), "axes.prop_cycle": turns}
    with DRAWING, mpl.rc_context(settings):
        yield


def new_axes(width: float = 7.0, height: float = 4.0) -> Axes:
    """Fresh axes on a figure that no global state holds, so nothing leaks between notebooks."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with look():
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        return figure.add_subplot()


def figure_of(ax: Axes) -> Figure:
    """The figure that holds the axes (not a subfigure)."""
    from matplotlib.figure import Figure

    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    return figure


def label(name: object, longest: int = _LONGEST_NAME) -> str:
    """A name from a file as a label: no mathtext, no control characters, the middle left out."""
    return elided(str(name), longest).replace("$", r"\$")


def row_height(rows: int, each: float = 0.26, base: float = 1.0) -> float:
    """Inches for a figure with one line a row, at most a page."""
    return min(base + each * rows, _TALLEST)


def name_rows(ax: Axes, names: Sequence[object], axis: Literal["x", "y"] = "y") -> None:
    """Put names at 0, 1, 2 ... of an axis, leaving out as many as do not fit."""
    if not names:
        return
    figure = figure_of(ax)
    inches = figure.get_figheight() if axis == "y" else figure.get_figwidth()
    room = max(1, int(0.82 * 72 * inches / _PITCH))
    every = -(-len(names) // room)
    shown = range(0, len(names), every)
    labels = [label(names[i], _LONGEST_NAME if axis == "y" else 22) for i in shown]
    if axis == "y":
        ax.set_yticks(list(shown), labels, fontsize=9)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.grid(axis="y", visible=False)
    else:
        ax.set_xticks(list(shown), labels, fontsize=9, rotation=90)
        ax.set_xlim(-0.5, len(names) - 0.5)
        ax.grid(axis="x", visible=False)


def columns(ax: Axes, left: np.ndarray, width: np.ndarray | float, bottom: np.ndarray,
            top: np.ndarray, **looks: Any) -> PolyCollection:
    """Columns as one artist: hundreds of bars one by one take longer than all the rest."""
    from matplotlib.collections import PolyCollection

    right = left + width
    corners = [(left, bottom), (left, top), (right, top), (right, bottom)]
    shape = PolyCollection(list(np.array(corners).transpose(2, 0, 1)), **looks)
    # The extent is known here; worked out from the shapes it would take longer than drawing them.
    ax.add_collection(shape, autolim=False)
    if len(left):
        ax.update_datalim([(left.min(), np.min(bottom)), (right.max(), np.max(top))])
    ax.autoscale_view()
    return shape


def round_reach(value: float) -> float:
    """The next of 1, 1.5, 2, 3, 5, 7.5 times a power of ten from ``value`` > 0 up.

    For an axis that should not move all the time.
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
        ax.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
