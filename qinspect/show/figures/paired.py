"""Is the difference real: intervals, disagreements, resamples, power, seeds, chance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from qinspect.metrics import ACCURACY, Metric
from qinspect.show import text
from qinspect.show.figure import Figure
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
from qinspect.verdicts import examples

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from qinspect.stats import Comparison

_BINS = 60
_COUNTED = 25


def differences(
    rows: pd.DataFrame, margin: float | None = None, *, metric: Metric = ACCURACY
) -> Figure:
    """Differences b - a with their intervals: the frame of comparisons, ``name`` where known.

    Columns ``a``, ``b``, ``gap``, ``low``, ``high``.
    """
    names = list(rows["name"] if "name" in rows else rows["b"].astype(str) + " - " + rows["a"])

    def draw(ax: Axes) -> None:
        y = np.arange(len(rows))
        sure = (rows["low"] > 0) | (rows["high"] < 0)
        colours = [COLOURS["accent"] if beyond else COLOURS["neutral"] for beyond in sure]
        ax.hlines(y, rows["low"], rows["high"], color=colours, linewidth=2)
        ax.scatter(rows["gap"], y, color=colours, zorder=3)
        ax.axvline(0, color=INK, linewidth=1)
        for edge in () if margin is None else (-margin, margin):
            ax.axvline(edge, color=COLOURS["warn"], linewidth=1.2, linestyle="--")
        name_rows(ax, names)
        dashed = () if margin is None else ("dashed: the margin",)
        pairs = set(zip(rows["a"], rows["b"], strict=True))
        ax.set_xlabel(_axis(f"difference{metric.of}", *pairs.pop(), metric, *dashed)
                      if len(pairs) == 1 else text.gap_axis(
                          f"difference{metric.of}", metric, text.plus(metric, "the first"),
                          *dashed))

    listed = "; ".join(
        f"{name}: {metric.ahead(row['a'], row['b'], row['gap'], (row['low'], row['high']))}"
        for name, row in zip(names, rows.to_dict("records"), strict=True)
    )
    said = f"Differences{metric.of}: {listed}{text.or_lower(metric)}."
    return Figure(draw, said if listed else "Nothing was compared.",
                  "Differences", (7.0, row_height(len(rows), each=0.32)))


def _axis(what: str, a: str, b: str, metric: Metric, *said: str) -> str:
    """Name of an axis of differences b - a, which says which sign is whose."""
    short = {name: label(one) for name, one in text.short_names((a, b)).items()}
    return text.gap_axis(f"{what} {short[b]} - {short[a]}", metric, text.plus(metric, short[b]),
                         *said)


def discordance(comparisons: pd.DataFrame, *, right: bool = True) -> Figure:
    """Examples that only one of two models gets right; ``a``, ``b``, ``a_only``, ``b_only``.

    ``right`` is false of scores that are not right or wrong: examples on which one is better.
    """
    records = comparisons.to_dict("records")

    def draw(ax: Axes) -> None:
        colours = model_colours([str(r[side]) for r in records for side in ("a", "b")])
        for row, record in enumerate(records):
            a, b = str(record["a"]), str(record["b"])
            for value, name, side in ((-record["a_only"], a, "right"),
                                      (record["b_only"], b, "left")):
                ax.barh(row, value, height=0.65, color=colours[name], alpha=0.85)
                if len(records) <= _COUNTED:
                    ax.annotate(str(abs(value)), (value, row), fontsize=9, va="center", ha=side,
                                xytext=(4 if side == "left" else -4, 0),
                                textcoords="offset points")
        ax.axvline(0, color=INK, linewidth=0.8)
        name_rows(ax, [f"{text.elided(r['a'], 16)} | {text.elided(r['b'], 16)}" for r in records])
        most_a, most_b = (max((r[key] for r in records), default=0) for key in ("a_only", "b_only"))
        room = 0.15 * max(most_a + most_b, 1)
        ax.set_xlim(-most_a - room, most_b + room)
        ax.locator_params(axis="x", integer=True, min_n_ticks=1)
        ax.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
        ax.set_xlabel("examples: only the left model right | only the right model right" if right
                      else "examples: the left model better | the right model better")

    words = ("only {a} right on {a_only}, only {b} on {b_only}" if right else
             "{a} better on {a_only}, {b} on {b_only}")
    listed = "; ".join(words.format(**{key: r[key] for key in ("a", "b", "a_only", "b_only")})
                       for r in records)
    return Figure(draw, f"{listed}." if listed else "No pair of models was compared.",
                  "Examples on which two models part",
                  (7.0, row_height(len(records), each=0.34, base=1.1)))


def bootstrap_plot(resamples: pd.DataFrame, comparison: Comparison) -> Figure:
    """Resampled differences ``gap`` with the reported interval, zero and the margin.

    One bar a possible difference where there are few, else bins; dark: inside the interval.
    """
    c, metric = comparison, comparison.metric

    def draw(ax: Axes) -> None:
        values = resamples["gap"].to_numpy(dtype=float)
        values = values[np.isfinite(values)]
        spread = float(np.ptp(values)) / (_BINS - 1) if len(values) else 0.0
        middle, count, width = _bins(values, 100.0 / c.n if c.mcnemar_p is not None else
                                     spread or c.margin / _BINS)
        low, high = c.interval
        inside = (middle >= low) & (middle <= high)
        colours = [COLOURS["accent"] if found else COLOURS["neutral"] for found in inside]
        share = count / max(len(values), 1)
        columns(ax, middle - width / 2, width, np.zeros(len(share)), share, color=colours,
                linewidth=0)
        ax.axvspan(low, high, color=COLOURS["light"], alpha=0.15, linewidth=0, zorder=0)
        ax.axvline(0, color=INK, linewidth=1.5)
        for edge in (-c.margin, c.margin):
            ax.axvline(edge, color=COLOURS["warn"], linewidth=1.2, linestyle="--")
        top = round_reach(1.02 * float(share.max(initial=1e-3)))
        ax.plot([low, high], [-0.05 * top] * 2, color=COLOURS["accent"], linewidth=4,
                solid_capstyle="butt")
        ax.plot(c.gap, -0.05 * top, "o", color=INK, markersize=6)
        ax.set_ylim(-0.12 * top, top)
        reach = max(abs(low), abs(high), c.margin, float(np.abs(values).max(initial=0)))
        # Round, so that a slider moves the data and not the axis all the time.
        reach = round_reach(1.02 * reach)
        ax.set_xlim(-reach, reach)
        ax.set_xlabel(_axis(metric.title, c.a, c.b, metric, "dashed: the margin"))
        ax.set_ylabel("share of resamples")

    zero = "holds" if c.interval[0] <= 0 <= c.interval[1] else "leaves out"
    said = (
        f"{metric.ahead(c.a, c.b, c.gap, c.interval)}{metric.of} on {examples(c.n)}; the "
        f"{100 * c.confidence:g} % interval ({c.method}) {zero} zero{text.or_lower(metric)}."
    )
    return Figure(draw, said, "Resampled differences", (7.0, 3.8))


def _bins(values: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Middles, counts and width; a whole number of possible differences goes into one bar."""
    if len(values) == 0:
        return np.empty(0), np.empty(0), step
    grain = np.rint(values / step).astype(np.int64)
    per_bar = max(1, math.ceil((grain.max() - grain.min() + 1) / _BINS))
    bar = np.floor_divide(grain, per_bar)
    found, count = np.unique(bar, return_counts=True)
    return (found * per_bar + (per_bar - 1) / 2) * step, count, 0.9 * per_bar * step


def null_distribution(null_pp: np.ndarray, observed_pp: float, step_pp: float, *,
                      observed: str = "observed", sentence: str = "") -> Figure:
    """What chance does, as bars ``step_pp`` apart, and what was observed, as a line."""

    def draw(ax: Axes) -> None:
        values, counts = np.unique(np.round(null_pp, 6), return_counts=True)
        ax.bar(values, counts, width=0.8 * step_pp, color=COLOURS["neutral"], label="chance")
        ax.axvline(0, color=INK, linewidth=1)
        ax.axvline(observed_pp, color=COLOURS["accent"], linewidth=3, label=label(observed))
        ax.set_xlabel("difference, percentage points")
        ax.set_ylabel("draws")
        legend_beside(ax)

    said = sentence or (
        f"{observed}: {text.points(observed_pp)} points; chance {text.points(np.min(null_pp))} to "
        f"{text.points(np.max(null_pp))}."
    )
    return Figure(draw, said, "Against chance", (7.0, 3.2))


def power_plot(power: pd.DataFrame, *, at: int | None = None) -> Figure:
    """Probability of finding a true difference, by number of examples; ``at`` is marked."""
    groups = _by_size(power)

    def draw(ax: Axes) -> None:
        for (size, rows), colour in zip(groups, ordered_colours(len(groups)), strict=False):
            ax.plot(rows["n"], rows["power"], marker=".", color=colour,
                    label=ACCURACY.limit(size))
        ax.axhline(0.8, color=FAINT, linewidth=1, linestyle="--")
        if at is not None:
            ax.axvline(at, color=COLOURS["bad"], linewidth=1.2)
        ax.set_xscale("log")
        ax.set_ylim(-0.02, 1.02)
        ax.set_xlabel("test examples")
        ax.set_ylabel("probability of finding it")
        legend_beside(ax)

    return Figure(draw, _power_sentence(power), "Chance of finding a difference", (7.0, 3.6))


def _by_size(power: pd.DataFrame) -> list[tuple[float, pd.DataFrame]]:
    return [(float(rows["diff_pp"].iloc[0]), rows)
            for _, rows in power.groupby("diff_pp", sort=True)]


def _power_sentence(power: pd.DataFrame) -> str:
    parts = []
    for difference, rows in _by_size(power):
        enough = rows.loc[rows["power"] >= 0.8, "n"]
        found = f"is with {int(enough.min()):,}" if len(enough) else "is not with"
        most = "" if len(enough) else f" {int(rows['n'].max()):,}"
        parts.append(f"one of {ACCURACY.limit(difference)} {found}{most} examples")
    if not parts:
        return "No difference fits the disagreement of the two models."
    share = text.share(float(power["disagreement"].iloc[0]))
    return (
        f"Found in 80 % of studies, at {share} disagreement and of the numbers of examples drawn: "
        f"a true difference of {'; '.join(parts).removeprefix('one of ')}."
    )


def seeds_plot(
    seeds: pd.DataFrame, interval: tuple[float, float], *, same_examples: bool = False,
    metric: Metric = ACCURACY, pair: tuple[str, str] = ("a", "b"), family: int = 1,
) -> Figure:
    """Difference ``gap`` of each training ``seed``, and the interval for new ones.

    ``low`` and ``high``, the interval of each seed's own comparison, where known;
    ``same_examples``: the interval is for new seeds alone; ``pair``: a and b of b - a; ``family``:
    for how many comparisons the interval is simultaneous.
    """
    a, b = pair
    value = seeds["gap"].to_numpy(dtype=float)

    def draw(ax: Axes) -> None:
        y = np.arange(len(seeds))
        if "low" in seeds:
            ax.hlines(y, seeds["low"], seeds["high"], color=FAINT, linewidth=1.4)
        ahead, behind = metric.better * value > 0, metric.better * value < 0
        for chosen, colour, marker in (
            (ahead, COLOURS["good"], "^" if metric.better > 0 else "v"),
            (behind, COLOURS["bad"], "v" if metric.better > 0 else "^"),
            (~(ahead | behind), COLOURS["neutral"], "o"),
        ):
            ax.plot(value[chosen], y[chosen], marker, color=colour, markersize=7, linestyle="none")
        ax.hlines([len(seeds)], [interval[0]], [interval[1]], color=COLOURS["accent"],
                  linewidth=4)
        ax.plot(value.mean() if len(value) else math.nan, len(seeds), "D", color=INK, markersize=6)
        ax.axvline(0, color=INK, linewidth=1)
        name_rows(ax, [*(f"seed {name}" for name in seeds["seed"]), "mean"])
        ax.set_xlabel(_axis(f"difference{metric.of}", a, b, metric))

    size = (7.0, row_height(len(seeds) + 1, each=0.28, base=1.1))
    if seeds.empty:
        return Figure(draw, "No seed was measured.", "Difference by seed", size)
    wins, losses = (int((side * metric.better * value > 0).sum()) for side in (1, -1))
    together = f", simultaneous for {family} comparisons" if family > 1 else ""
    said = (
        f"Over {len(seeds)} seeds the difference{metric.of} runs from "
        f"{metric.between(a, b, (value.min(), value.max()))}; {b} is ahead {wins} times and {a} "
        f"{losses} times; in the mean {metric.ahead(a, b, value.mean(), interval)}, for new seeds"
        f"{'' if same_examples else ' and examples'}{together}{text.or_lower(metric)}."
    )
    return Figure(draw, said, "Difference by seed", size)
