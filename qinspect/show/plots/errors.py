"""Quantization error: its histogram in one layer, its way along the network, what layers cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from qinspect.errors import DataError
from qinspect.show import text
from qinspect.show.plots.rows import least
from qinspect.show.plots.style import (
    COLOURS,
    columns,
    legend_beside,
    name_rows,
    new_axes,
    round_reach,
    row_height,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Half a count: on a logarithmic axis bins of a single value would have no height from one.
_FOOT = 0.5
_PART_COLOUR = {"rounded": COLOURS["light"], "clipped": COLOURS["bad"]}
_REFERENCE_LOOK = {
    "local": ("o", COLOURS["ptq"], 7.0, "of the layer itself"),
    "accumulated": ("s", COLOURS["qat"], 4.0, "accumulated"),
}


def error_histogram(histogram: pd.DataFrame, ax: Axes | None = None, *, most: float = 0.0) -> Axes:
    """Draw the errors of one layer, clipped and rounded values apart.

    Parameters
    ----------
    histogram : DataFrame
        Rows of one layer and reference of :class:`qinspect.measure.local.LayerErrors`
        ``histograms``: ``part`` ("rounded", "clipped"), ``low``, ``high``, ``count``, ``unit``.
    ax : Axes, optional
        Where to draw; new axes when not given.
    most : float
        Largest count in the histograms that this one is compared with; the axis has room for it.

    Returns
    -------
    Axes
        Counts on a logarithmic axis; clipped stands on top of rounded in a bin that has both.
        Both axes end on round numbers, so that two layers are often drawn on the same ones.
    """
    ax = ax or new_axes(7.0, 3.6)
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
    steps = len(histogram) > 0 and histogram["unit"].iloc[0] == "step"
    if steps:
        for edge in (-0.5, 0.5):
            ax.axvline(edge, color="0.4", linewidth=1, linestyle="--")
    unit = "steps of the output's scale (dashed: half a step)" if steps else "units of the layer"
    ax.set_xlabel(f"error, {unit}")
    ax.set_ylabel("values")
    legend_beside(ax)
    return ax


def describe_error_histogram(histogram: pd.DataFrame) -> str:
    """The figure's content as a sentence."""
    total = int(histogram["count"].sum())
    if total == 0:
        return "No error was measured."
    counts = histogram.groupby("part")["count"].sum()
    clipped = int(counts.get("clipped", 0))
    middle = (histogram["low"] + histogram["high"]).abs() / 2
    unit = "steps" if histogram["unit"].iloc[0] == "step" else "units of the layer"
    outside = ""
    if unit == "steps":
        beyond = int(histogram.loc[middle > 0.55, "count"].sum())
        outside = f", {100 * beyond / total:.2g} % are off by more than half a step"
    return (
        f"Of {total:,} values {clipped:,} ({100 * clipped / total:.2g} %) are clipped and the rest "
        f"rounded{outside}; the largest error is about {middle.max():.3g} {unit}."
    )


def sqnr_profile(errors: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw signal to quantization noise along the network.

    Parameters
    ----------
    errors : DataFrame
        ``schema.ERRORS`` columns in the order of execution.
    ax : Axes, optional
        Where to draw; new axes when not given.

    Returns
    -------
    Axes
        One line for the error of each layer itself, one for what has accumulated; a layer
        without error (infinite) or without a number (NaN) has no point.
    """
    ax = ax or new_axes(7.5, 4.2)
    layers = list(dict.fromkeys(errors["layer"]))
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
    return ax


def describe_sqnr(errors: pd.DataFrame) -> str:
    """The figure's content as a sentence."""
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
        worst = least(known, "sqnr_db")
        last = known.to_dict("records")[-1]
        said = f"SQNR {title}: lowest {worst['sqnr_db']:.1f} dB in {worst['layer']}"
        if reference == "accumulated":
            said += f", {last['sqnr_db']:.1f} dB at the end ({last['layer']})"
        parts.append(said + (f"; {lost} layers without error or number" if lost else ""))
    return "; ".join(parts) + "." if parts else "No layer was measured."


def sensitivity_bars(layers: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw what quantizing each layer alone does to the accuracy, worst first.

    Parameters
    ----------
    layers : DataFrame
        Rows with ``variant`` "only" of :class:`qinspect.diagnose.sensitivity.Sensitivity`
        ``layers``: ``layer``, ``to_float_pp``, ``to_float_low_pp``, ``to_float_high_pp``.
    ax : Axes, optional
        Where to draw; new axes when not given.

    Returns
    -------
    Axes

    Raises
    ------
    DataError
        If no row has an accuracy (the examples had no labels).
    """
    rows = _costs(layers)
    ax = ax or new_axes(7.0, row_height(len(rows)))
    y = np.arange(len(rows))
    value = rows["to_float_pp"].to_numpy(dtype=float)
    colours = [COLOURS["bad"] if v < 0 else COLOURS["good"] for v in value]
    ax.barh(y, value, height=0.6, color=colours)
    ax.hlines(y, rows["to_float_low_pp"], rows["to_float_high_pp"], color="black", linewidth=1.1)
    ax.axvline(0, color="black", linewidth=0.8)
    name_rows(ax, list(rows["layer"]))
    ax.set_xlabel("accuracy - float, percentage points, only this layer quantized")
    return ax


def _costs(layers: pd.DataFrame) -> pd.DataFrame:
    rows = layers[layers["variant"] == "only"] if "variant" in layers else layers
    known = rows[rows["to_float_pp"].notna()]
    if known.empty:
        raise DataError(
            f"none of {len(rows)} layers has an accuracy; measure sensitivity with labels."
        )
    return known.sort_values("to_float_pp", kind="stable")


def describe_sensitivity(layers: pd.DataFrame) -> str:
    """The figure's content as a sentence."""
    rows = _costs(layers)
    sure = rows[rows["to_float_high_pp"] < 0]
    worst = least(rows, "to_float_pp")
    bounds = (worst["to_float_low_pp"], worst["to_float_high_pp"])
    return (
        f"Quantized alone, {worst['layer']} costs most: {text.points(worst['to_float_pp'])} points "
        f"{text.interval(bounds)}; for {len(sure)} of {len(rows)} layers the interval lies "
        "below zero (intervals are not corrected for the number of layers)."
    )
