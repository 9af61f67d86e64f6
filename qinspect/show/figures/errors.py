"""Quantization error: in one layer, along the network, what layers cost, a quantizer's stairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from qinspect.errors import DataError
from qinspect.metrics import ACCURACY, Metric
from qinspect.show import text
from qinspect.show.figure import Figure, least
from qinspect.show.style import (
    COLOURS,
    FAINT,
    INK,
    columns,
    label,
    legend_beside,
    model_colours,
    name_rows,
    ordered_colours,
    round_reach,
    row_height,
)
from qinspect.verdicts import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Half a count: on a logarithmic axis bins of a single value would have no height from one.
_FOOT = 0.5
_PART_COLOUR = {"rounded": COLOURS["light"], "clipped": COLOURS["bad"]}
_REFERENCE_LOOK = {
    "local": ("o", COLOURS["light"], 7.0, "of the layer itself"),
    "accumulated": ("s", COLOURS["accent"], 4.0, "accumulated"),
}
_POINTS = 3000
_LEVEL_LINES = 64
_IN_LEGEND = 12
_UPRIGHT = 42  # longest name of an upright axis on one line


def error_histogram(histogram: pd.DataFrame, *, most: float = 0.0) -> Figure:
    """Errors of one layer, clipped and rounded values apart, on a logarithmic axis.

    Columns ``part`` ("rounded", "clipped"), ``low``, ``high``, ``count``, ``unit``.  Both axes end
    on round numbers, with room for ``most``, so that layers are often drawn on the same ones.
    """

    def draw(ax: Axes) -> None:
        below: dict[float, float] = {}
        for part in ("rounded", "clipped"):
            rows = histogram[histogram["part"] == part]
            low = rows["low"].to_numpy(dtype=float)
            count = rows["count"].to_numpy(dtype=float)
            bottom = np.array([below.get(value, 0.0) for value in low])
            columns(ax, low, rows["high"].to_numpy(dtype=float) - low, np.maximum(bottom, _FOOT),
                    bottom + count, color=_PART_COLOUR[part], linewidth=0, label=part)
            below = dict(zip(low, count, strict=True))
        if ax.get_yscale() != "log":
            ax.set_yscale("log")
        start, end = (float(edge) for edge in ax.dataLim.intervalx)
        if start < 0 < end:
            ax.set_xlim(-round_reach(-start), round_reach(end))
        ax.set_ylim(_FOOT, 10.0 ** np.ceil(np.log10(max(10.0, most, 1.2 * float(ax.dataLim.y1)))))
        ax.minorticks_off()
        # Plain numbers: powers of ten as formulas take longer to set than all the bars to draw.
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        if steps:
            for edge in (-0.5, 0.5):
                ax.axvline(edge, color=INK, linewidth=1, linestyle="--")
        ax.set_xlabel("error, steps of the output's scale (dashed: half a step)" if steps else
                      "error, units of the layer")
        ax.set_ylabel("values")
        legend_beside(ax)

    steps = len(histogram) > 0 and histogram["unit"].iloc[0] == "step"
    return Figure(draw, _histogram_sentence(histogram, steps), "Errors of a layer", (7.0, 3.6))


def _histogram_sentence(histogram: pd.DataFrame, steps: bool) -> str:
    total = int(histogram["count"].sum())
    if total == 0:
        return "No error was measured."
    clipped = int(histogram.loc[histogram["part"] == "clipped", "count"].sum())
    middle = (histogram["low"] + histogram["high"]).abs() / 2
    outside = ""
    if steps:
        beyond = int(histogram.loc[middle > 0.55, "count"].sum())
        outside = f", {text.share(beyond / total)} are off by more than half a step"
    return (
        f"Of {total:,} values {clipped:,} ({text.share(clipped / total)}) are clipped and the rest "
        f"rounded{outside}; the largest error is about {text.number(middle.max())} "
        f"{'steps' if steps else 'units of the layer'}."
    )


def channel_sqnr(models: Mapping[str, np.ndarray]) -> Figure:
    """SQNR of one layer's weights by output channel, the models side by side; dB, (channels,)."""
    colours = model_colours(["float", *models])

    def draw(ax: Axes) -> None:
        for turn, (model, values) in enumerate(models.items()):
            wide = 0.8 / len(models)
            there = np.isfinite(values)
            ax.bar(np.flatnonzero(there) - 0.4 + (turn + 0.5) * wide, values[there], wide,
                   color=colours[model], label=label(model))
        ax.set_xlabel("output channel")
        ax.set_ylabel("SQNR of the weights, dB")
        legend_beside(ax)

    parts = []
    for model, values in models.items():
        there = np.isfinite(values)
        if there.any():
            worst = int(np.nanargmin(np.where(there, values, np.nan)))
            parts.append(f"{model}: lowest {text.decibels(values[worst])} in channel {worst}, "
                         f"median {text.decibels(float(np.median(values[there])))}")
    said = f"SQNR of the weights, {'; '.join(parts)}." if parts else "No weights were measured."
    return Figure(draw, said, "Weights by channel", (7.2, 3.0))


def sqnr_profile(errors: pd.DataFrame) -> Figure:
    """Signal to quantization noise along the network; ``ERRORS`` columns in order of execution.

    A layer without error (infinite) or without a number (NaN) has no point.
    """
    layers = list(dict.fromkeys(errors["layer"]))

    def draw(ax: Axes) -> None:
        place = {name: at for at, name in enumerate(layers)}
        for reference, (marker, colour, size, title) in _REFERENCE_LOOK.items():
            rows = errors[errors["reference"] == reference]
            if rows.empty:
                continue
            y = rows["sqnr_db"].to_numpy(dtype=float)
            y = np.where(np.isfinite(y), y, np.nan)
            x = rows["layer"].map(place).to_numpy(dtype=float)
            ax.plot(x, y, f"-{marker}", color=colour, linewidth=1.2, label=title,
                    markersize=size if len(layers) <= 60 else 2.0)
        name_rows(ax, layers, "x")
        ax.set_ylabel("SQNR, dB (higher is better)")
        legend_beside(ax)

    parts = []
    for reference, (*_, title) in _REFERENCE_LOOK.items():
        rows = errors[errors["reference"] == reference]
        if rows.empty:
            continue
        known = rows[np.isfinite(rows["sqnr_db"].astype(float))]
        lost = len(rows) - len(known)
        if known.empty:
            parts.append(f"no layer has a finite SQNR ({title})")
            continue
        worst, last = least(known, "sqnr_db"), known.to_dict("records")[-1]
        said = f"SQNR {title}: lowest {worst['sqnr_db']:.1f} dB in {worst['layer']}"
        if reference == "accumulated":
            said += f", {last['sqnr_db']:.1f} dB at the end ({last['layer']})"
        parts.append(said + (f"; {counted(lost, 'layer')} without error or number" if lost else ""))
    return Figure(draw, f"{'; '.join(parts)}." if parts else "No layer was measured.",
                  "Error along the network", (7.5, 4.2))


def sensitivity_bars(layers: pd.DataFrame, metric: Metric = ACCURACY) -> Figure:
    """What quantizing each layer alone does to the metric, worst first.

    Rows with ``variant`` "only" of a sensitivity: ``layer``, ``to_float`` and its interval.
    """
    rows = layers[layers["variant"] == "only"] if "variant" in layers else layers
    known = rows[rows["to_float"].notna()].sort_values(
        "to_float", kind="stable", ascending=metric.better > 0)
    if known.empty:
        raise DataError(
            f"none of {len(rows)} layers has a score; measure sensitivity with labels."
        )

    def draw(ax: Axes) -> None:
        y = np.arange(len(known))
        value = known["to_float"].to_numpy(dtype=float)
        ax.barh(y, value, height=0.6,
                color=[COLOURS["bad" if metric.better * v < 0 else "good"] for v in value])
        ax.hlines(y, known["to_float_low"], known["to_float_high"], color=INK, linewidth=1.1)
        ax.axvline(0, color=INK, linewidth=0.8)
        name_rows(ax, list(known["layer"]))
        ax.set_xlabel(text.gap_axis(f"{metric.title} - float", metric, text.plus(metric))
                      + ", only this layer quantized")

    worst = known.iloc[0]
    bounds = (float(worst["to_float_low"]), float(worst["to_float_high"]))
    far = known["to_float_high"] < 0 if metric.better > 0 else known["to_float_low"] > 0
    said = (
        f"Quantized alone, {worst['layer']} costs most: "
        f"{metric.ahead('float', 'the file', float(worst['to_float']), bounds)}; for "
        f"{int(far.sum())} of {counted(len(known), 'layer')} the file is shown to be worse than "
        "float (intervals are not corrected for the number of layers)."
    )
    return Figure(draw, said, "What each layer costs", (7.0, row_height(len(known))))


def sensitivity_curve(
    curve: pd.DataFrame, margin: float | None = None, metric: Metric = ACCURACY
) -> Figure:
    """The metric against float by the number of layers ``kept`` out of quantization."""
    known = curve[curve["to_float"].notna()]
    if known.empty:
        raise DataError("the curve has no scores; measure sensitivity with labels.")

    def draw(ax: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        ax.fill_between(known["kept"], known["to_float_low"], known["to_float_high"],
                        alpha=0.25, color=COLOURS["ptq"], linewidth=0)
        ax.plot(known["kept"], known["to_float"], "o-", color=COLOURS["ptq"])
        ax.axhline(0, color=INK, linewidth=1)
        if margin is not None:
            ax.axhline(-metric.better * margin, color=COLOURS["warn"], linestyle="--")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlabel("layers kept")
        dashed = ("dashed: margin",) if margin else ()
        what, said = f"{metric.title} - float", text.remarks(metric, text.plus(metric), *dashed)
        line = text.headed(what, metric.unit) + said
        ax.set_ylabel(line if len(line) <= _UPRIGHT else f"{what}\n{metric.unit}{said}")

    first, last = known.iloc[0], known.iloc[-1]
    said = "; ".join(
        f"with {counted(int(row['kept']), 'layer')} kept "
        + metric.ahead("float", "the file", float(row["to_float"]),
                       (float(row["to_float_low"]), float(row["to_float_high"])))
        for row in (first, last))
    said = f"{text.capital(said)}."
    return Figure(draw, said, "Keeping the most sensitive layers", (7.0, 3.4))


def size_curve(points: pd.DataFrame, float_bytes: int, margin: float,
               metric: Metric = ACCURACY) -> Figure:
    """Difference to float against file size: rows with ``front`` and, on the other half, a gap."""
    front = points[points["front"]]
    kilobytes = front["bytes"].to_numpy(dtype=float) / 1000

    def draw(ax: Axes) -> None:
        ax.vlines(kilobytes, front["low"], front["high"], color=COLOURS["ptq"], linewidth=1.1)
        ax.plot(kilobytes, front["to_float"], "o-", color=COLOURS["ptq"], label="mixed files")
        for size, row in zip(kilobytes, front.to_dict("records"), strict=True):
            ax.annotate(str(row["kept"]), (size, row["to_float"]), xytext=(4, 4),
                        textcoords="offset points")
        ax.plot([float_bytes / 1000], [0], "s", color=COLOURS["float"], label="float")
        ax.axhline(-metric.better * margin, color=COLOURS["warn"], linestyle="--", label="margin")
        ax.set_xlabel("file, kB (numbers: layers kept)")
        ax.set_ylabel(text.gap_axis(f"{metric.title} - float", metric, text.plus(metric)))
        legend_beside(ax)

    told = "; ".join(
        f"with {text.size(int(row['bytes']))} "
        + metric.ahead("float", "the file", float(row["to_float"]),
                       (float(row["low"]), float(row["high"])))
        for row in (front.iloc[0], front.iloc[-1]))
    said = f"On the half that did not choose, {told}; float has {text.size(float_bytes)}."
    return Figure(draw, said, "Size against the metric", (7.0, 3.8))


def transfer_plot(values: pd.DataFrame) -> Figure:
    """Each ``value`` against what it becomes (``quantized``), by ``channel``.

    On the diagonal it is kept exactly; faint lines: the levels in use, where there are few.
    """

    def draw(ax: Axes) -> None:
        shown = values.iloc[:: max(1, len(values) // _POINTS)]
        channels = sorted(set(shown["channel"]))
        levels = np.unique(values["quantized"].to_numpy(dtype=float))
        ends = [float(values["value"].min()), float(values["value"].max())]
        if len(levels) <= _LEVEL_LINES:
            ax.hlines(levels, ends[0], ends[1], color=FAINT, linewidth=0.8, zorder=0)
        ax.plot(ends, ends, color=INK, linewidth=1)
        for name, colour in zip(channels, ordered_colours(len(channels)), strict=False):
            part = shown[shown["channel"] == name]
            ax.plot(part["value"], part["quantized"], ".", color=colour, markersize=3,
                    label=f"channel {name}" if 1 < len(channels) <= _IN_LEGEND else None)
        ax.set_xlabel("value")
        ax.set_ylabel("value after quantization")
        legend_beside(ax)

    if values.empty:
        return Figure(draw, "There are no values.", "Before and after", (6.4, 4.0))
    change = (values["quantized"] - values["value"]).abs()
    said = (
        f"{len(values):,} values became {values['quantized'].nunique():,} different ones; the "
        f"largest change is {text.number(change.max())}, the median change "
        f"{text.number(change.median())}."
    )
    return Figure(draw, said, "Before and after", (6.4, 4.0))
