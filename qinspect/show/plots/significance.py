"""Is the difference real: bootstrap distribution, disagreements, power, seeds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from qinspect.show import text
from qinspect.show.plots.style import (
    COLOURS,
    arm_colour,
    columns,
    label,
    legend_beside,
    name_rows,
    new_axes,
    round_reach,
    row_height,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from qinspect.stats import Comparison

_BINS = 60


def bootstrap_plot(resamples: pd.DataFrame, comparison: Comparison, ax: Axes | None = None) -> Axes:
    """Draw the distribution of resampled differences with the reported interval, zero and margin.

    Parameters
    ----------
    resamples : DataFrame
        Column ``diff_pp``: resampled differences b - a, percentage points.
    comparison : Comparison
        Of the same two models; gives the interval and the margin.
    ax : Axes, optional
        Where to draw; new axes when not given.

    Returns
    -------
    Axes
        Bars: one a possible difference where there are few, else bins; dark: inside the
        interval.  Solid line: zero; dashed: the margin of equivalence.
    """
    ax = ax or new_axes(7.0, 3.8)
    values = resamples["diff_pp"].to_numpy(dtype=float)
    middle, count, width = _bins(values, 100.0 / comparison.n)
    low, high = comparison.ci_pp
    inside = (middle >= low) & (middle <= high)
    colours = [COLOURS["ptq"] if found else "0.75" for found in inside]
    share = count / max(len(values), 1)
    columns(ax, middle - width / 2, width, np.zeros(len(share)), share, color=colours, linewidth=0)
    ax.axvspan(low, high, color=COLOURS["light"], alpha=0.15, linewidth=0, zorder=0)
    ax.axvline(0, color="black", linewidth=1.5)
    for edge in (-comparison.margin_pp, comparison.margin_pp):
        ax.axvline(edge, color=COLOURS["warn"], linewidth=1.2, linestyle="--")
    top = round_reach(1.02 * float(share.max(initial=1e-3)))
    ax.plot([low, high], [-0.05 * top] * 2, color=COLOURS["ptq"], linewidth=4,
            solid_capstyle="butt")
    ax.plot(comparison.diff_pp, -0.05 * top, "o", color="black", markersize=6)
    ax.set_ylim(-0.12 * top, top)
    reach = max(abs(low), abs(high), comparison.margin_pp, float(np.abs(values).max(initial=0)))
    # Round, so that a slider moves the data and not the axis all the time.
    reach = round_reach(1.02 * reach)
    ax.set_xlim(-reach, reach)
    ax.set_xlabel(
        f"accuracy {label(comparison.b, 20)} - {label(comparison.a, 20)}, percentage points"
    )
    ax.set_ylabel("share of resamples")
    return ax


def _bins(values: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Middles, counts and width; a whole number of possible differences goes into one bar."""
    if len(values) == 0:
        return np.empty(0), np.empty(0), step
    grain = np.rint(values / step).astype(np.int64)
    per_bar = max(1, math.ceil((grain.max() - grain.min() + 1) / _BINS))
    bar = np.floor_divide(grain, per_bar)
    found, count = np.unique(bar, return_counts=True)
    return (found * per_bar + (per_bar - 1) / 2) * step, count, 0.9 * per_bar * step


def describe_bootstrap(comparison: Comparison) -> str:
    """The figure's content as a sentence."""
    c = comparison
    zero = "holds" if c.ci_pp[0] <= 0 <= c.ci_pp[1] else "leaves out"
    return (
        f"{c.b} - {c.a}: {text.points(c.diff_pp)} points on {c.n:,} examples; the "
        f"{100 * c.confidence:g} % interval {text.interval(c.ci_pp)} ({c.ci_method}) {zero} zero."
    )


def discordance(comparisons: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw, for each pair of models, the examples that only one of them gets right.

    Parameters
    ----------
    comparisons : DataFrame
        Columns ``a``, ``b``, ``a_only``, ``b_only``, in the order to draw.
    ax : Axes, optional
        Where to draw; new axes when not given.

    Returns
    -------
    Axes
        To the left only a right, to the right only b right.
    """
    ax = ax or new_axes(7.0, row_height(len(comparisons), each=0.34, base=1.1))
    names = []
    for row, record in enumerate(comparisons.to_dict("records")):
        a, b = str(record["a"]), str(record["b"])
        for value, arm, side in ((-record["a_only"], a, "right"), (record["b_only"], b, "left")):
            ax.barh(row, value, height=0.65, color=arm_colour(arm), alpha=0.85)
            if len(comparisons) <= 25:
                ax.annotate(
                    str(abs(value)),
                    (value, row),
                    xytext=(4 if side == "left" else -4, 0),
                    textcoords="offset points",
                    fontsize=8,
                    va="center",
                    ha=side,
                )
        names.append(f"{_short(a)} | {_short(b)}")
    ax.axvline(0, color="black", linewidth=0.8)
    name_rows(ax, names)
    ax.margins(x=0.15)
    ax.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    ax.set_xlabel("examples: only the left model right | only the right model right")
    return ax


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:7]}…{name[-8:]}"


def describe_discordance(comparisons: pd.DataFrame) -> str:
    """The figure's content as a sentence."""
    if comparisons.empty:
        return "No pair of models was compared."
    return (
        "; ".join(
            f"only {row['a']} right on {row['a_only']}, only {row['b']} on {row['b_only']}"
            for row in comparisons.to_dict("records")
        )
        + "."
    )


def power_plot(power: pd.DataFrame, ax: Axes | None = None, *, at: int | None = None) -> Axes:
    """Draw the probability of finding a true difference, by number of examples.

    Parameters
    ----------
    power : DataFrame
        From :func:`qinspect.stats.power_curve`.
    ax : Axes, optional
        Where to draw; new axes when not given.
    at : int, optional
        Number of examples to mark.

    Returns
    -------
    Axes
        One line a true difference; dashed: 80 %.
    """
    import seaborn as sns

    ax = ax or new_axes(7.0, 3.6)
    groups = list(power.groupby("diff_pp", sort=True))
    colours = sns.color_palette("viridis", max(len(groups), 1))
    for (difference, rows), colour in zip(groups, colours, strict=False):
        ax.plot(rows["n"], rows["power"], marker=".", color=colour, label=f"{difference:g} points")
    ax.axhline(0.8, color="0.4", linewidth=1, linestyle="--")
    if at is not None:
        ax.axvline(at, color=COLOURS["bad"], linewidth=1.2)
    ax.set_xscale("log")
    ax.set_ylim(-0.02, 1.02)
    ax.set_xlabel("test examples")
    ax.set_ylabel("probability of finding it")
    legend_beside(ax)
    return ax


def describe_power(power: pd.DataFrame) -> str:
    """The figure's content as a sentence."""
    parts = []
    for difference, rows in power.groupby("diff_pp", sort=True):
        enough = rows.loc[rows["power"] >= 0.8, "n"]
        found = f"is with {int(enough.min()):,}" if len(enough) else "is not with"
        most = "" if len(enough) else f" {int(rows['n'].max()):,}"
        parts.append(f"one of {difference:g} points {found}{most} examples")
    if not parts:
        return "No difference fits the disagreement of the two models."
    share = 100 * float(power["disagreement"].iloc[0])
    return (
        f"Found in 80 % of studies, at {share:.2g} % disagreement and of the numbers of examples "
        f"drawn: a true difference of {'; '.join(parts).removeprefix('one of ')}."
    )


def seeds_plot(
    seeds: pd.DataFrame, interval_pp: tuple[float, float], ax: Axes | None = None
) -> Axes:
    """Draw the difference of each training seed, and the interval for new seeds and examples.

    Parameters
    ----------
    seeds : DataFrame
        Columns ``seed`` (or its number) and ``diff_pp``; ``low_pp`` and ``high_pp``, the interval
        of each seed's own comparison, where known.
    interval_pp : (float, float)
        Interval of the mean difference, such as ``SeedComparison.ci_pp``.
    ax : Axes, optional
        Where to draw; new axes when not given.

    Returns
    -------
    Axes
    """
    ax = ax or new_axes(7.0, row_height(len(seeds) + 1, each=0.28, base=1.1))
    value = seeds["diff_pp"].to_numpy(dtype=float)
    y = np.arange(len(seeds))
    if "low_pp" in seeds:
        ax.hlines(y, seeds["low_pp"], seeds["high_pp"], color="0.6", linewidth=1.4)
    ahead, behind = value > 0, value < 0
    for chosen, colour, marker in (
        (ahead, COLOURS["good"], "^"), (behind, COLOURS["bad"], "v"),
        (~(ahead | behind), COLOURS["neutral"], "o"),
    ):
        ax.plot(value[chosen], y[chosen], marker, color=colour, markersize=7, linestyle="none")
    ax.hlines([len(seeds)], [interval_pp[0]], [interval_pp[1]], color=COLOURS["ptq"], linewidth=4)
    ax.plot(value.mean() if len(value) else math.nan, len(seeds), "D", color="black", markersize=6)
    ax.axvline(0, color="black", linewidth=1)
    name_rows(ax, [*(f"seed {name}" for name in seeds["seed"]), "mean"])
    ax.set_xlabel("difference, percentage points (triangle: its sign)")
    return ax


def describe_seeds(seeds: pd.DataFrame, interval_pp: tuple[float, float]) -> str:
    """The figure's content as a sentence."""
    if seeds.empty:
        return "No seed was measured."
    value = seeds["diff_pp"]
    return (
        f"Over {len(seeds)} seeds the difference runs from {text.points(value.min())} to "
        f"{text.points(value.max())} points, {int((value > 0).sum())} times above and "
        f"{int((value < 0).sum())} times below zero; mean {text.points(value.mean())} "
        f"{text.interval(interval_pp)} for new seeds and examples."
    )
