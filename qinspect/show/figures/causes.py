"""A diagnosis: the causes, what their remedies take away, the evidence for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from qinspect.metrics import ACCURACY, Metric
from qinspect.show import text
from qinspect.show.figure import Figure, most
from qinspect.show.style import COLOURS, FAINT, INK, label, model_colours, name_rows, row_height
from qinspect.verdicts import CAUSES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from qinspect.diagnosis.rule import Measure


# A verdict is told by shape and word as well as by colour.
VERDICT_LOOK = {
    "explains": ("s", COLOURS["bad"]),
    "indicated": ("D", COLOURS["warn"]),
    "not_shown": ("v", COLOURS["neutral"]),
    "ruled_out": ("x", COLOURS["good"]),
    "does_not_apply": ("+", COLOURS["good"]),
    "not_tried": ("o", COLOURS["neutral"]),
}


def verdict_look(verdict: object) -> tuple[str, str, str]:
    """Marker, colour and word of a verdict; an unknown one is shown as it stands."""
    marker, colour = VERDICT_LOOK.get(str(verdict), ("*", COLOURS["accent"]))
    return marker, colour, CAUSES.get(str(verdict), str(verdict))


def waterfall(
    parts: Sequence[Mapping[str, Any]], total_gap: float, metric: Metric = ACCURACY, *,
    pair: tuple[str, str] = ("PTQ", "QAT"),
) -> Figure:
    """Parts of a gap b - a stacked up to their sum; ``title``, ``diff_pp``, ``ci_pp`` of each.

    These are in the unit of the metric; ``pair``: a and b.
    """
    a, b = pair

    def whose(gap: float) -> str:
        return f"{b if metric.better * gap >= 0 else a} by {metric.size(gap)}"

    def draw(ax: Axes) -> None:
        start = 0.0
        for row, part in enumerate(parts):
            value = float(part["diff_pp"])
            ax.barh(row, value, left=start, height=0.6,
                    color=COLOURS["good"] if metric.better * value >= 0 else COLOURS["bad"])
            low, high = part["ci_pp"]
            ax.plot([start + low, start + high], [row, row], color=INK, linewidth=1.4)
            ax.plot([start + value] * 2, [row - 0.3, row + 1.3], color=FAINT, linewidth=0.8)
            start += value
        ax.barh(len(parts), total_gap, height=0.6, color=COLOURS["neutral"])
        ax.axvline(0, color=INK, linewidth=0.8)
        names = [f"{p['title']}\n{whose(p['diff_pp'])}" for p in parts]
        ax.set_yticks(range(len(parts) + 1), [*names, f"the gap\n{whose(total_gap)}"])
        ax.set_ylim(len(parts) + 0.6, -0.6)
        ax.set_xlabel(text.gap_axis(f"{metric.title} {b} - {a}", metric, text.plus(metric, b),
                                    "line: interval of the part"))
        ax.grid(axis="y", visible=False)

    leads = [metric.lead(a, b, p["diff_pp"], p["ci_pp"]) for p in parts]
    listed = "; ".join(f"{p['title']} makes {better} better by {by}"
                       for p, (better, _, by) in zip(parts, leads, strict=True))
    said = f"The gap, {whose(total_gap)}, is the sum of: {listed}."
    return Figure(draw, said, "Where the gap comes from", (7.0, 1.2 + 0.45 * (len(parts) + 1)))


def effect_plot(effects: pd.DataFrame, gap: float, metric: Metric = ACCURACY) -> Figure:
    """What of the gap each remedy alone closes, in the metric's unit.

    Columns ``name``, ``effect``, ``low``, ``high``, ``confirmed``.
    """

    def draw(ax: Axes) -> None:
        y = np.arange(len(effects))
        colours = [COLOURS["good"] if found else COLOURS["neutral"]
                   for found in effects["confirmed"]]
        ax.hlines(y, effects["low"], effects["high"], color=colours, linewidth=2)
        ax.scatter(effects["effect"], y, color=colours, zorder=3)
        ax.axvline(0, color=INK, linewidth=0.8)
        ax.axvline(gap, color=INK, linewidth=1, linestyle="--")
        name_rows(ax, list(effects["name"]))
        unit = f"{metric.unit} of the gap that the remedy closes".lstrip()
        ax.set_xlabel(f"{unit} (dashed: the gap)")

    listed = "; ".join(
        f"{row['name']}: {metric.closing(row['effect'], (row['low'], row['high']))}"
        for row in effects.to_dict("records")
    )
    said = (f"What each remedy alone makes of the gap of {metric.size(gap)}: {listed}. "
            "They overlap.")
    return Figure(draw, said, "What each remedy alone closes",
                  (7.0, row_height(len(effects), each=0.4, base=1.2)))


def diagnosis_board(causes: pd.DataFrame, metric: Metric = ACCURACY) -> Figure:
    """Causes whose remedy was tried, with their verdict; the sentence tells of all of them.

    Columns ``title``, ``verdict``, ``effect``, ``low``, ``high``.
    """
    records = causes[causes["effect"].notna()].to_dict("records")

    def draw(ax: Axes) -> None:
        for row, record in enumerate(records):
            marker, colour, _ = verdict_look(record["verdict"])
            ax.hlines([row], [record["low"]], [record["high"]], color=colour, linewidth=2)
            ax.plot(record["effect"], row, marker, color=colour, markersize=7)
        ax.axvline(0, color=INK, linewidth=1, zorder=0)
        names = [f"{label(r['title'], 48)}: {verdict_look(r['verdict'])[2]}" for r in records]
        name_rows(ax, names)
        ax.set_yticks(ax.get_yticks(), [names[int(at)] for at in ax.get_yticks()])
        ax.set_xlabel(text.headed("gap closed by its remedy", metric.unit))

    return Figure(draw, _board_sentence(causes, metric), "Every cause",
                  (9.0, row_height(len(records), each=0.28)))


def _board_sentence(causes: pd.DataFrame, metric: Metric) -> str:
    parts = []
    for verdict, word in CAUSES.items():
        names = [str(title) for title in causes.loc[causes["verdict"] == verdict, "title"]]
        if names and verdict in ("explains", "indicated"):
            parts.append(f"{word}: {'; '.join(names)}")
        elif names:
            parts.append(f"{word}: {len(names)}")
    tried = causes[causes["effect"].notna()]
    if len(tried):
        best = most(tried.assign(size=tried["effect"].abs()), "size")
        parts.append(f"the largest effect of a remedy is that of {best['title']}: the gap is "
                     f"{metric.closing(best['effect'], (best['low'], best['high']))}")
    return ". ".join(part[0].upper() + part[1:] for part in parts) + "."


# Values of zero, and those far beyond, stand at the edge.
_REACH = 100.0
# Where a yes or a no stands.
_CLEARLY = 10.0


def threshold_plot(measures: Sequence[Measure]) -> Figure:
    """Numbers as multiples of the thresholds that they were held against.

    To the right of the dashed line a number speaks for the cause; one that speaks for it below its
    threshold is drawn as threshold / value.  Measures without a threshold are passed over.
    """
    held = [measure for measure in measures if measure.speaks is not None]
    ratio = np.array([_ratio(measure) for measure in held])
    for_it = np.array([measure.speaks for measure in held], dtype=bool)

    def draw(ax: Axes) -> None:
        y = np.arange(len(held))
        ax.axvspan(1, _REACH, color=COLOURS["bad"], alpha=0.1, linewidth=0)
        ax.axvline(1, color=INK, linewidth=1.2, linestyle="--")
        ax.hlines(y, 1, ratio, color=FAINT, linewidth=1.4)
        for chosen, colour, marker in ((for_it, COLOURS["bad"], "s"),
                                       (~for_it, COLOURS["good"], "o")):
            ax.plot(ratio[chosen], y[chosen], marker, color=colour, markersize=8, linestyle="none")
        ax.set_xscale("log")
        ax.set_xlim(1 / _REACH, _REACH)
        ax.set_xticks([0.01, 0.1, 1, 10, 100],
                      ["1/100", "1/10", "threshold", "10 times", "100 times"])
        ax.minorticks_off()
        names = [f"{label(measure.title, 60)}\n{_against(measure)}" for measure in held]
        name_rows(ax, names)
        ax.set_yticks(y, names, fontsize=9)
        ax.set_xlabel("against the threshold (shaded: speaks for the cause)")

    parts = [f"{measure.title}: {_against(measure)}, which speaks "
             f"{'for' if measure.speaks else 'against'} it" for measure in held]
    said = f"Against the thresholds: {'; '.join(parts)}." if parts else (
        "Nothing was measured that has a threshold.")
    return Figure(draw, said, "The numbers that decided",
                  (7.5, row_height(len(held), each=0.4, base=1.1)))


def _ratio(measure: Measure) -> float:
    """Value over threshold, or the reverse: above 1 on the side that speaks for the cause."""
    value, threshold = measure.value, measure.threshold
    assert value is not None
    assert threshold is not None
    if isinstance(threshold, bool) or threshold <= 0:
        placed = _CLEARLY if measure.speaks else 1 / _CLEARLY
    elif value <= 0:
        placed = _REACH if measure.speaks else 1 / _REACH
    else:
        placed = value / threshold if measure.side == "above" else threshold / value
    return min(max(placed, 1 / _REACH), _REACH)


def _against(measure: Measure) -> str:
    """A value and the side of its threshold that speaks for the cause, in words."""
    if isinstance(measure.threshold, bool):
        return "yes" if measure.value else "no"
    unit = f" {measure.unit}" if measure.unit else ""
    side = "from" if measure.side == "above" else "below"
    return f"{text.plain(measure.value)}{unit} ({side} {text.plain(measure.threshold)})"


def tie_plot(ties: pd.DataFrame) -> Figure:
    """Accuracy of each ``model`` if all its ties went badly (``worst_pp``) or well (``best_pp``).

    ``tied_share`` in 0..1.
    """

    def draw(ax: Axes) -> None:
        y = np.arange(len(ties))
        names = [str(name) for name in ties["model"]]
        colours = [model_colours([n.lower() for n in names])[n.lower()] for n in names]
        ax.hlines(y, ties["worst_pp"], ties["best_pp"], color=colours, linewidth=5)
        ax.scatter(ties["worst_pp"], y, marker="|", s=160, color=colours)
        ax.scatter(ties["best_pp"], y, marker="|", s=160, color=colours)
        name_rows(ax, names)
        ax.margins(x=0.1)
        ax.set_xlabel("accuracy, % (line: all ties lost to all ties won)")

    parts = [
        f"{row['model']} {text.share(row['tied_share'])} tied, accuracy {row['worst_pp']:.1f} to "
        f"{row['best_pp']:.1f} %" for row in ties.to_dict("records")
    ]
    said = f"Ties at the top of the output: {'; '.join(parts)}." if parts else "No file was run."
    return Figure(draw, said, "Ties", (7.0, row_height(len(ties), each=0.4, base=1.1)))


def statistics_plot(channels: pd.DataFrame) -> Figure:
    """How far stored batch-norm means are from re-estimated ones, one mark a channel.

    Columns ``layer``, ``channel``, ``shift_sd`` (stored minus re-estimated, standard deviations).
    """
    layers = list(dict.fromkeys(channels["layer"]))

    def draw(ax: Axes) -> None:
        place = {name: at for at, name in enumerate(layers)}
        y = channels["layer"].map(place).to_numpy(dtype=float)
        ax.plot(channels["shift_sd"], y, "|", color=COLOURS["qat"], markersize=11, alpha=0.7,
                linestyle="none")
        ax.axvline(0, color=INK, linewidth=1)
        name_rows(ax, layers)
        ax.set_xlabel("stored - re-estimated mean, standard deviations (one mark a channel)")

    size = (7.0, row_height(len(layers), each=0.3, base=1.1))
    if channels.empty:
        return Figure(draw, "The network has no batch norm.", "Batch-norm statistics", size)
    shift = channels["shift_sd"].abs()
    said = (
        f"Of {len(channels)} channels in {len(layers)} batch-norm layers the stored mean is "
        f"{text.number(shift.median())} standard deviations from the re-estimated one (median), "
        f"{text.number(shift.max())} at most."
    )
    return Figure(draw, said, "Batch-norm statistics", size)
