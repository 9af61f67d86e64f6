"""Ranges of weights and activations, observed against what a file can store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from qinspect.measure.ranges import range_use
from qinspect.show import text
from qinspect.show.figure import Figure, least, most
from qinspect.show.style import (
    COLOURS,
    FAINT,
    INK,
    label,
    legend_beside,
    model_colours,
    name_rows,
    row_height,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Marks on one stored range: more would run together.
_MARKS = 17
_MARKED_ROWS = 40


def grid_marks(low: float, high: float, scale: float, most: int = _MARKS) -> np.ndarray:
    """Every 2**k-th level of a quantization grid, with the least k that gives at most ``most``.

    Zero, which every affine grid holds, is always among them; ascending.
    """
    if not scale > 0 or not high >= low:
        return np.empty(0)
    step = scale
    while (high - low) / step + 1 > most:
        step *= 2
    return step * np.arange(np.ceil(low / step - 1e-6), np.floor(high / step + 1e-6) + 1)


def weight_ranges(tensors: pd.DataFrame) -> Figure:
    """Range of each layer's weights, the models side by side; ``TENSORS`` columns.

    Thin line: least to greatest weight.  Pale band: what the file can store, with the quantization
    grid marked on it (all levels where there are few, else every 2**k-th).
    """
    rows = tensors[tensors["channel"] == -1]
    layers = list(dict.fromkeys(rows["layer"]))
    colours = model_colours(map(str, rows["file"]))

    def draw(ax: Axes) -> None:
        place = {name: at for at, name in enumerate(layers)}
        width = max(1.0, min(5.0, 90.0 / max(len(layers), 1)))
        for turn, (model, colour) in enumerate(colours.items()):
            part = rows[rows["file"] == model]
            offset = (turn - (len(colours) - 1) / 2) * 0.8 / max(len(colours), 1)
            y = part["layer"].map(place).to_numpy(dtype=float) + offset
            stored = part["stored_min"].notna().to_numpy()
            ax.hlines(y[stored], part["stored_min"][stored], part["stored_max"][stored],
                      color=colour, alpha=0.3, linewidth=width)
            ax.hlines(y, part["min"], part["max"], color=colour, linewidth=max(width / 3, 0.7),
                      label=label(model))
            if len(layers) <= _MARKED_ROWS:
                _mark_grid(ax, part, y, colour)
        ax.axvline(0, color=FAINT, linewidth=0.8, zorder=0)
        name_rows(ax, layers)
        ax.set_xlabel("weight (line: values; band: what can be stored; ticks: grid)")
        legend_beside(ax)

    parts = []
    for model, part in rows.groupby("file", sort=False):
        reach = part.assign(reach=np.maximum(part["min"].abs(), part["max"].abs()))
        widest, narrowest = most(reach, "reach"), least(reach, "reach")
        parts.append(
            f"{model}: {len(part)} layers, the largest weight is {text.number(widest['reach'])} in "
            f"{widest['layer']}; {narrowest['layer']} reaches least, "
            f"{text.number(narrowest['reach'])}"
        )
    return Figure(draw, f"{'; '.join(parts)}." if parts else "No weights were measured.",
                  "Weights", (7.5, row_height(len(layers), each=0.12 + 0.13 * len(colours))))


def _mark_grid(ax: Axes, part: pd.DataFrame, y: np.ndarray, colour: str) -> None:
    marks = [grid_marks(row["stored_min"], row["stored_max"], row["scale"])
             for row in part[["stored_min", "stored_max", "scale"]].to_dict("records")]
    at = np.repeat(y, [len(found) for found in marks])
    if len(at):
        ax.plot(np.concatenate(marks), at, "|", color=colour, markersize=5, markeredgewidth=0.7)


def channel_ranges(tensors: pd.DataFrame) -> Figure:
    """Range of every output channel of one layer, the models side by side; ``TENSORS`` columns.

    A line a channel; pale: what its scale can store.
    """
    rows = tensors[tensors["channel"] >= 0]
    colours = model_colours(map(str, rows["file"]))

    def draw(ax: Axes) -> None:
        channels = int(rows["channel"].max()) + 1 if len(rows) else 0
        width = max(0.7, min(5.0, 200.0 / max(channels * max(len(colours), 1), 1)))
        for turn, (model, colour) in enumerate(colours.items()):
            part = rows[rows["file"] == model]
            x = part["channel"] + (turn - (len(colours) - 1) / 2) * 0.8 / max(len(colours), 1)
            stored = part["stored_min"].notna()
            ax.vlines(x[stored], part["stored_min"][stored], part["stored_max"][stored],
                      color=colour, alpha=0.3, linewidth=width)
            ax.vlines(x, part["min"], part["max"], color=colour, linewidth=max(width / 2, 0.7),
                      label=label(model))
        ax.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
        ax.set_xlim(-0.6, max(channels, 1) - 0.4)
        ax.set_xlabel("output channel")
        ax.set_ylabel("weight (pale: what can be stored)")
        legend_beside(ax)

    parts = []
    for model, part in rows.groupby("file", sort=False):
        reach = np.maximum(part["min"].abs(), part["max"].abs())
        alive = reach[reach > 0]
        ratio = text.number(alive.max() / alive.min()) if len(alive) else "undefined"
        scales = part["scale"].dropna().nunique()
        how = {0: "not quantized", 1: "one scale for all"}.get(scales, f"{scales} scales")
        parts.append(
            f"{model}: {len(part)} channels ({how}), the largest reaches {ratio} times as far "
            "as the smallest"
        )
    return Figure(draw, f"{'; '.join(parts)}." if parts else "No channels were measured.",
                  "Weights by channel", (7.5, 3.8))


def activation_ranges(tensors: pd.DataFrame) -> Figure:
    """Observed activation ranges against the stored ones of one model, one row a layer.

    Columns ``layer``, ``min``, ``max``, ``p0_1``, ``p99_9`` (what occurs), ``stored_min``,
    ``stored_max`` (what the file can store).  Grey: stored and used; yellow, hatched: stored
    but never used; deep orange: occurs but is clipped.
    """
    rows = tensors[tensors["channel"] == -1] if "channel" in tensors else tensors
    rows = rows[rows["stored_min"].notna()]

    def draw(ax: Axes) -> None:
        y = np.arange(len(rows))
        low, high, start, end = (rows[key].to_numpy(dtype=float)
                                 for key in ("min", "max", "stored_min", "stored_max"))
        _bars(ax, y, np.maximum(low, start), np.minimum(high, end), "stored and used",
              color=COLOURS["neutral"], alpha=0.5)
        twice = np.concatenate([y, y])
        _bars(ax, twice, np.concatenate([start, np.maximum(high, start)]),
              np.concatenate([np.minimum(low, end), end]), "stored, never used",
              facecolor=COLOURS["warn"], edgecolor=INK, alpha=0.45, hatch="////")
        _bars(ax, twice, np.concatenate([low, np.maximum(end, low)]),
              np.concatenate([np.minimum(start, high), high]), "clipped", color=COLOURS["bad"],
              alpha=0.9)
        ax.hlines(y, low, high, color=INK, linewidth=0.8, label="observed, all")
        ax.hlines(y, rows["p0_1"], rows["p99_9"], color=INK, linewidth=2.5,
                  label="observed, 99.8 %")
        name_rows(ax, list(rows["layer"]))
        ax.set_xlabel("activation, units of the layer")
        legend_beside(ax)

    return Figure(draw, _use_sentence(range_use(rows)), "Activation ranges",
                  (8.0, row_height(len(rows))))


def _bars(ax: Axes, y: np.ndarray, low: np.ndarray, high: np.ndarray, name: str,
          **looks: object) -> None:
    """Bars where ``high`` is above ``low``."""
    there = high > low
    if there.any():
        ax.barh(y[there], (high - low)[there], left=low[there], height=0.75, linewidth=0,
                label=name, **looks)  # type: ignore[arg-type]


def _use_sentence(use: pd.DataFrame) -> str:
    if use.empty:
        return "No activation has a stored range."
    waste = most(use, "bits_unused")
    clipped = use[use["clipped_share"] > 0.001]
    said = (
        f"Of {len(use)} stored ranges the least used is that of {waste['layer']}: "
        f"{text.share(waste['unused_share'])} of it never occurs"
        + (f", which leaves {waste['bits_unused']:.1f} bits idle"
           if np.isfinite(waste["bits_unused"]) else "")
    )
    if clipped.empty:
        return f"{said}; none clips."
    worst = most(clipped, "clipped_share")
    return (
        f"{said}; {len(clipped)} clip, most of all {worst['layer']} "
        f"({text.share(worst['clipped_share'])} of its observed range lies outside)."
    )
