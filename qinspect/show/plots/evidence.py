"""Evidence of causes: numbers against thresholds, ties, batch-norm statistics."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from qinspect.show.plots.style import COLOURS, arm_colour, name_rows, new_axes, row_height

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Values of zero, and those far beyond, stand at the edge.
_REACH = 100.0
# Where a yes or a no stands.
_CLEARLY = 10.0


def threshold_plot(measures: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw numbers as multiples of the thresholds they were held against.

    Parameters
    ----------
    measures : DataFrame
        ``title``, ``value``, ``threshold``, ``side``, ``unit``, ``speaks``.
    ax : Axes, optional
        Where to draw; new axes when not given.

    Returns
    -------
    Axes
        Logarithmic; to the right of the dashed line, on the shaded side, a number speaks for the
        cause.  One that speaks for it below its threshold is drawn as threshold / value.
    """
    ax = ax or new_axes(7.5, row_height(len(measures), each=0.4, base=1.1))
    ratio = _ratio(measures)
    y = np.arange(len(measures))
    for_it = measures["speaks"].to_numpy(dtype=bool)
    ax.axvspan(1, _REACH, color=COLOURS["bad"], alpha=0.08, linewidth=0)
    ax.axvline(1, color="0.3", linewidth=1.2, linestyle="--")
    ax.hlines(y, 1, ratio, color="0.6", linewidth=1.4)
    for chosen, colour, marker in ((for_it, COLOURS["bad"], "s"), (~for_it, COLOURS["good"], "o")):
        ax.plot(ratio[chosen], y[chosen], marker, color=colour, markersize=8, linestyle="none")
    ax.set_xscale("log")
    ax.set_xlim(1 / _REACH, _REACH)
    ticks = [0.01, 0.1, 1, 10, 100]
    ax.set_xticks(ticks, ["1/100", "1/10", "threshold", "10 times", "100 times"])
    ax.minorticks_off()
    names = [f"{row['title']}\n{_against(row)}" for row in measures.to_dict("records")]
    name_rows(ax, names)
    ax.set_yticks(y, names, fontsize=8)
    ax.set_xlabel("against the threshold (shaded: speaks for the cause)")
    return ax


def _ratio(measures: pd.DataFrame) -> np.ndarray:
    """Value over threshold, or the reverse: above 1 on the side that speaks for the cause."""
    placed = []
    for row in measures.to_dict("records"):
        value, threshold = row["value"], row["threshold"]
        if isinstance(threshold, bool) or threshold <= 0:
            placed.append(_CLEARLY if row["speaks"] else 1 / _CLEARLY)
        elif value <= 0:
            placed.append(_REACH if row["speaks"] else 1 / _REACH)
        else:
            placed.append(value / threshold if row["side"] == "above" else threshold / value)
    return np.clip(placed, 1 / _REACH, _REACH)


def _against(row: dict[Hashable, Any]) -> str:
    """A value and the side of its threshold that speaks for the cause, in words."""
    if isinstance(row["threshold"], bool):
        return "yes" if row["value"] else "no"
    unit = f" {row['unit']}" if row["unit"] else ""
    side = "from" if row["side"] == "above" else "below"
    return f"{row['value']:.3g}{unit} ({side} {row['threshold']:.3g})"


def describe_thresholds(measures: pd.DataFrame) -> str:
    """The figure's content as a sentence."""
    if measures.empty:
        return "Nothing was measured that has a threshold."
    parts = [
        f"{row['title']}: {_against(row)}, which speaks {'for' if row['speaks'] else 'against'} it"
        for row in measures.to_dict("records")
    ]
    return f"Against the thresholds: {'; '.join(parts)}."


def tie_plot(ties: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the accuracy that each file has if all its ties went badly, and if all went well.

    Parameters
    ----------
    ties : DataFrame
        ``model``, ``tied_share`` in 0..1, ``worst_pp`` and ``best_pp`` (accuracy in percent).
    ax : Axes, optional
        Where to draw; new axes when not given.

    Returns
    -------
    Axes
    """
    ax = ax or new_axes(7.0, row_height(len(ties), each=0.4, base=1.1))
    y = np.arange(len(ties))
    colours = [arm_colour(str(name)) for name in ties["model"]]
    ax.hlines(y, ties["worst_pp"], ties["best_pp"], color=colours, linewidth=5)
    ax.scatter(ties["worst_pp"], y, marker="|", s=160, color=colours)
    ax.scatter(ties["best_pp"], y, marker="|", s=160, color=colours)
    name_rows(ax, list(ties["model"]))
    ax.margins(x=0.1)
    ax.set_xlabel("accuracy, % (line: all ties lost to all ties won)")
    return ax


def describe_ties(ties: pd.DataFrame) -> str:
    """The figure's content as a sentence."""
    parts = [
        f"{row['model']} {100 * row['tied_share']:.1f} % tied, accuracy {row['worst_pp']:.1f} to "
        f"{row['best_pp']:.1f} %"
        for row in ties.to_dict("records")
    ]
    return f"Ties at the top of the output: {'; '.join(parts)}." if parts else "No file was run."


def batchnorm_plot(channels: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how far stored batch-norm means are from re-estimated ones, channel by channel.

    Parameters
    ----------
    channels : DataFrame
        ``layer``, ``channel``, ``shift_sd``: stored minus re-estimated mean in standard deviations.
    ax : Axes, optional
        Where to draw; new axes when not given.

    Returns
    -------
    Axes
        One row a layer, one mark a channel.
    """
    layers = list(dict.fromkeys(channels["layer"]))
    ax = ax or new_axes(7.0, row_height(len(layers), each=0.3, base=1.1))
    place = {name: at for at, name in enumerate(layers)}
    y = channels["layer"].map(place).to_numpy(dtype=float)
    ax.plot(channels["shift_sd"], y, "|", color=COLOURS["qat"], markersize=11, alpha=0.7,
            linestyle="none")
    ax.axvline(0, color="0.3", linewidth=1)
    name_rows(ax, layers)
    ax.set_xlabel("stored - re-estimated mean, standard deviations (one mark a channel)")
    return ax


def describe_batchnorm(channels: pd.DataFrame) -> str:
    """The figure's content as a sentence."""
    if channels.empty:
        return "The network has no batch norm."
    size = channels["shift_sd"].abs()
    return (
        f"Of {len(channels)} channels in {channels['layer'].nunique()} batch-norm layers the "
        f"stored mean is {size.median():.3g} standard deviations from the re-estimated one "
        f"(median), {size.max():.3g} at most."
    )
