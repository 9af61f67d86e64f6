"""Ranges of weights and activations, observed against what a file can store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from qinspect.show.plots.rows import least, most
from qinspect.show.plots.style import (
    COLOURS,
    arm_colour,
    label,
    legend_beside,
    name_rows,
    new_axes,
    row_height,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from qinspect.schema import Array

# Marks on one stored range: more would run together.
_MARKS = 17
_MARKED_ROWS = 40


def grid_marks(low: float, high: float, scale: float, most: int = _MARKS) -> Array:
    """Every 2**k-th level of a quantization grid, with the least k that gives at most ``most``.

    Zero, which every affine grid holds, is always among them; float64, ascending.
    """
    if not scale > 0 or not high >= low:
        return np.empty(0)
    step = scale
    while (high - low) / step + 1 > most:
        step *= 2
    return step * np.arange(np.ceil(low / step - 1e-6), np.floor(high / step + 1e-6) + 1)


def weight_ranges(tensors: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the range of each layer's weights, the models side by side.

    Parameters
    ----------
    tensors : DataFrame
        ``schema.TENSORS`` columns; ``file`` is the name of the model.  Rows of single channels
        are passed over.
    ax : Axes, optional
        Where to draw; new axes when not given.

    Returns
    -------
    Axes
        Thin line: least to greatest weight.  Pale band: what the file can store, with the
        quantization grid marked on it (all levels where there are few, else every 2**k-th).
    """
    rows = tensors[tensors["channel"] == -1]
    layers = list(dict.fromkeys(rows["layer"]))
    models = list(dict.fromkeys(rows["file"]))
    ax = ax or new_axes(7.5, row_height(len(layers), each=0.12 + 0.13 * len(models)))
    place = {name: at for at, name in enumerate(layers)}
    width = max(1.0, min(5.0, 90.0 / max(len(layers), 1)))
    for turn, model in enumerate(models):
        part = rows[rows["file"] == model]
        colour = arm_colour(str(model))
        offset = (turn - (len(models) - 1) / 2) * 0.8 / max(len(models), 1)
        y = part["layer"].map(place).to_numpy(dtype=float) + offset
        stored = part["stored_min"].notna().to_numpy()
        ax.hlines(y[stored], part["stored_min"][stored], part["stored_max"][stored],
                  color=colour, alpha=0.25, linewidth=width)
        ax.hlines(y, part["min"], part["max"], color=colour, linewidth=max(width / 3, 0.7),
                  label=label(model))
        _mark_grid(ax, part, y, colour, len(layers))
    ax.axvline(0, color="0.7", linewidth=0.8, zorder=0)
    name_rows(ax, layers)
    ax.set_xlabel("weight (line: values; band: what can be stored; ticks: grid)")
    legend_beside(ax)
    return ax


def _mark_grid(ax: Axes, part: pd.DataFrame, y: Array, colour: str, layers: int) -> None:
    if layers > _MARKED_ROWS:
        return
    marks = [
        grid_marks(row["stored_min"], row["stored_max"], row["scale"])
        for row in part[["stored_min", "stored_max", "scale"]].to_dict("records")
    ]
    at = np.repeat(y, [len(found) for found in marks])
    if len(at):
        ax.plot(np.concatenate(marks), at, "|", color=colour, markersize=5, markeredgewidth=0.7)


def describe_weight_ranges(tensors: pd.DataFrame) -> str:
    """The figure's content as a sentence."""
    rows = tensors[tensors["channel"] == -1]
    if rows.empty:
        return "No weights were measured."
    parts = []
    for model, part in rows.groupby("file", sort=False):
        reach = part.assign(reach=np.maximum(part["min"].abs(), part["max"].abs()))
        widest, narrowest = most(reach, "reach"), least(reach, "reach")
        parts.append(
            f"{model}: {len(part)} layers, the largest weight is {widest['reach']:.3g} in "
            f"{widest['layer']}; {narrowest['layer']} reaches least, {narrowest['reach']:.3g}"
        )
    return "; ".join(parts) + "."


def channel_ranges(tensors: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the range of every output channel of one layer, the models side by side.

    Parameters
    ----------
    tensors : DataFrame
        ``schema.TENSORS`` columns of one layer; rows of channels (``channel`` >= 0).
    ax : Axes, optional
        Where to draw; new axes when not given.

    Returns
    -------
    Axes
        A line a channel; pale: what its scale can store.
    """
    rows = tensors[tensors["channel"] >= 0]
    models = list(dict.fromkeys(rows["file"]))
    ax = ax or new_axes(7.5, 3.8)
    channels = int(rows["channel"].max()) + 1 if len(rows) else 0
    width = max(0.7, min(5.0, 200.0 / max(channels * max(len(models), 1), 1)))
    for turn, model in enumerate(models):
        part = rows[rows["file"] == model]
        colour = arm_colour(str(model))
        x = part["channel"] + (turn - (len(models) - 1) / 2) * 0.8 / max(len(models), 1)
        stored = part["stored_min"].notna()
        ax.vlines(x[stored], part["stored_min"][stored], part["stored_max"][stored],
                  color=colour, alpha=0.25, linewidth=width)
        ax.vlines(x, part["min"], part["max"], color=colour, linewidth=max(width / 2, 0.7),
                  label=label(model))
    ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    ax.set_xlim(-0.6, max(channels, 1) - 0.4)
    ax.set_xlabel("output channel")
    ax.set_ylabel("weight (pale: what can be stored)")
    legend_beside(ax)
    return ax


def describe_channel_ranges(tensors: pd.DataFrame) -> str:
    """The figure's content as a sentence."""
    rows = tensors[tensors["channel"] >= 0]
    if rows.empty:
        return "No channels were measured."
    parts = []
    for model, part in rows.groupby("file", sort=False):
        reach = np.maximum(part["min"].abs(), part["max"].abs())
        alive = reach[reach > 0]
        ratio = f"{alive.max() / alive.min():.3g}" if len(alive) else "undefined"
        scales = part["scale"].dropna().nunique()
        how = (
            "not quantized"
            if scales == 0
            else "one scale for all"
            if scales == 1
            else f"{scales} scales"
        )
        parts.append(
            f"{model}: {len(part)} channels ({how}), the largest reaches {ratio} times as far "
            "as the smallest"
        )
    return "; ".join(parts) + "."


def activation_ranges(tensors: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw observed activation ranges against the stored ones of one model.

    Parameters
    ----------
    tensors : DataFrame
        One row a layer: ``layer``, ``min``, ``max``, ``p0_1``, ``p99_9`` (what occurs),
        ``stored_min``, ``stored_max`` (what the file can store), one unit a layer.
    ax : Axes, optional
        Where to draw; new axes when not given.

    Returns
    -------
    Axes
        Grey: stored and used; orange, hatched: stored but never used; red: occurs but is
        clipped.  Thick line: 0.1 % to 99.9 % of the values; thin line: all.
    """
    rows = _whole(tensors)
    ax = ax or new_axes(7.5, row_height(len(rows)))
    y = np.arange(len(rows))
    edges = {key: rows[key].to_numpy(dtype=float) for key in
             ("min", "max", "stored_min", "stored_max", "p0_1", "p99_9")}
    inner_low = np.maximum(edges["min"], edges["stored_min"])
    inner_high = np.minimum(edges["max"], edges["stored_max"])
    wasted = {"color": COLOURS["warn"], "alpha": 0.45, "hatch": "////"}
    clipped = {"color": COLOURS["bad"], "alpha": 0.9}
    _bars(ax, y, inner_low, inner_high, "stored and used", color="0.8")
    twice = np.concatenate([y, y])
    _bars(
        ax, twice,
        np.concatenate([edges["stored_min"], np.maximum(edges["max"], edges["stored_min"])]),
        np.concatenate([np.minimum(edges["min"], edges["stored_max"]), edges["stored_max"]]),
        "stored, never used", **wasted,
    )
    _bars(
        ax, twice,
        np.concatenate([edges["min"], np.maximum(edges["stored_max"], edges["min"])]),
        np.concatenate([np.minimum(edges["stored_min"], edges["max"]), edges["max"]]),
        "clipped", **clipped,
    )
    ax.hlines(y, edges["min"], edges["max"], color="black", linewidth=0.8, label="observed, all")
    ax.hlines(y, edges["p0_1"], edges["p99_9"], color="black", linewidth=2.5,
              label="observed, 99.8 %")
    name_rows(ax, list(rows["layer"]))
    ax.set_xlabel("activation, units of the layer")
    legend_beside(ax)
    return ax


def _bars(ax: Axes, y: Array, low: Array, high: Array, name: str, **look: object) -> None:
    """Bars where ``high`` is above ``low``."""
    there = high > low
    if there.any():
        ax.barh(y[there], (high - low)[there], left=low[there], height=0.75, linewidth=0,
                label=name, **look)  # type: ignore[arg-type]


def _whole(tensors: pd.DataFrame) -> pd.DataFrame:
    """Rows of whole tensors that have a stored range."""
    rows = tensors
    if "channel" in rows:
        rows = rows[rows["channel"] == -1]
    return rows[rows["stored_min"].notna()]


def range_use(tensors: pd.DataFrame) -> pd.DataFrame:
    """How well each stored range fits what occurs.

    Returns
    -------
    DataFrame
        ``layer``, ``unused_share`` (of the stored range), ``bits_unused`` (base-2 logarithm of
        stored over used width), ``clipped_share`` (of the observed range, not of the values).
    """
    rows = _whole(tensors)
    low, high = rows["min"].to_numpy(dtype=float), rows["max"].to_numpy(dtype=float)
    start, end = rows["stored_min"].to_numpy(dtype=float), rows["stored_max"].to_numpy(dtype=float)
    used = np.clip(np.minimum(high, end) - np.maximum(low, start), 0, None)
    with np.errstate(divide="ignore", invalid="ignore"):
        return pd.DataFrame(
            {
                "layer": rows["layer"].to_numpy(),
                "unused_share": 1 - used / (end - start),
                "bits_unused": np.log2((end - start) / used),
                "clipped_share": 1 - np.where(high > low, used / (high - low), 1.0),
            }
        )


def describe_activation_ranges(tensors: pd.DataFrame) -> str:
    """The figure's content as a sentence."""
    use = range_use(tensors)
    if use.empty:
        return "No activation has a stored range."
    waste = most(use, "bits_unused")
    clipped = use[use["clipped_share"] > 0.001]
    text = (
        f"Of {len(use)} stored ranges the least used is that of {waste['layer']}: "
        f"{100 * waste['unused_share']:.0f} % of it never occurs, which leaves "
        f"{waste['bits_unused']:.1f} bits idle"
    )
    if clipped.empty:
        return f"{text}; none clips."
    worst = most(clipped, "clipped_share")
    return (
        f"{text}; {len(clipped)} clip, most of all {worst['layer']} "
        f"({100 * worst['clipped_share']:.0f} % of its observed range lies outside)."
    )
