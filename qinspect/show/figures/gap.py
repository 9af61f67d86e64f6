"""Where a gap comes from: its parts, the causes, what each remedy alone takes away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from qinspect.show import text
from qinspect.show.figure import Figure
from qinspect.show.figures.rows import most
from qinspect.show.style import COLOURS, FAINT, INK, label, name_rows, row_height

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Marker, colour and word: a verdict is told by shape and word as well as by colour.
VERDICT_LOOK = {
    "explains": ("s", COLOURS["bad"], "explains it"),
    "indicated": ("D", COLOURS["warn"], "indicated"),
    "not_shown": ("v", COLOURS["neutral"], "not shown"),
    "ruled_out": ("x", COLOURS["good"], "ruled out"),
    "does_not_apply": ("+", COLOURS["good"], "does not apply"),
    "not_tried": ("o", COLOURS["neutral"], "not tried"),
}


def verdict_look(verdict: object) -> tuple[str, str, str]:
    """Marker, colour and word of a verdict; an unknown one is shown as it stands."""
    return VERDICT_LOOK.get(str(verdict), ("*", COLOURS["accent"], str(verdict)))


def waterfall(parts: Sequence[Mapping[str, Any]], total_pp: float, *, total: str = "gap") -> Figure:
    """Parts of a gap stacked up to their sum; ``title``, ``diff_pp``, ``ci_pp`` of each."""

    def draw(ax: Axes) -> None:
        start = 0.0
        for row, part in enumerate(parts):
            value = float(part["diff_pp"])
            ax.barh(row, value, left=start, height=0.6,
                    color=COLOURS["good"] if value >= 0 else COLOURS["bad"])
            low, high = part["ci_pp"]
            ax.plot([start + low, start + high], [row, row], color=INK, linewidth=1.4)
            ax.plot([start + value] * 2, [row - 0.3, row + 1.3], color=FAINT, linewidth=0.8)
            start += value
        ax.barh(len(parts), total_pp, height=0.6, color=COLOURS["neutral"])
        ax.axvline(0, color=INK, linewidth=0.8)
        names = [f"{p['title']}\n{text.points(p['diff_pp'])}" for p in parts]
        ax.set_yticks(range(len(parts) + 1), [*names, f"{total}\n{text.points(total_pp)}"])
        ax.set_ylim(len(parts) + 0.6, -0.6)
        ax.set_xlabel("accuracy, percentage points (line: interval of the part)")
        ax.grid(axis="y", visible=False)

    listed = "; ".join(
        f"{p['title']} {text.points(p['diff_pp'])} {text.interval(p['ci_pp'])}" for p in parts
    )
    said = f"The gap of {text.points(total_pp)} points is the sum of: {listed}."
    return Figure(draw, said, "Where the gap comes from", (7.0, 1.2 + 0.45 * (len(parts) + 1)))


def effect_plot(effects: pd.DataFrame, gap_pp: float) -> Figure:
    """Points of the gap that each remedy alone closes; ``name``, ``effect_pp``, ``ci_low_pp``,
    ``ci_high_pp``, ``confirmed``.
    """

    def draw(ax: Axes) -> None:
        y = np.arange(len(effects))
        colours = [COLOURS["good"] if found else COLOURS["neutral"]
                   for found in effects["confirmed"]]
        ax.hlines(y, effects["ci_low_pp"], effects["ci_high_pp"], color=colours, linewidth=2)
        ax.scatter(effects["effect_pp"], y, color=colours, zorder=3)
        ax.axvline(0, color=INK, linewidth=0.8)
        ax.axvline(gap_pp, color=INK, linewidth=1, linestyle="--")
        name_rows(ax, list(effects["name"]))
        ax.set_xlabel("points of the gap that the remedy closes (dashed: the gap)")

    listed = "; ".join(
        f"{row['name']} {text.points(row['effect_pp'])} "
        f"{text.interval((row['ci_low_pp'], row['ci_high_pp']))}"
        for row in effects.to_dict("records")
    )
    said = (f"Of the gap of {text.points(gap_pp)} points, the remedies alone close: {listed}. "
            "They overlap.")
    return Figure(draw, said, "What each remedy alone closes",
                  (7.0, row_height(len(effects), each=0.4, base=1.2)))


def diagnosis_board(causes: pd.DataFrame) -> Figure:
    """Every cause with its verdict and what its remedy alone changed.

    Columns ``title``, ``verdict``, ``effect_pp``, ``ci_low_pp``, ``ci_high_pp``; the marker stands
    at the effect, or on zero, hollow, where nothing was tried.
    """
    effect = causes["effect_pp"].to_numpy(dtype=float)
    records = causes.to_dict("records")

    def draw(ax: Axes) -> None:
        for row, record in enumerate(records):
            marker, colour, _ = verdict_look(record["verdict"])
            tried = bool(np.isfinite(effect[row]))
            if tried:
                ax.hlines([row], [record["ci_low_pp"]], [record["ci_high_pp"]], color=colour,
                          linewidth=2)
            ax.plot(effect[row] if tried else 0.0, row, marker, color=colour, markersize=7,
                    markerfacecolor=colour if tried else "none")
        ax.axvline(0, color=INK, linewidth=1, zorder=0)
        names = [f"{label(r['title'], 48)}: {verdict_look(r['verdict'])[2]}" for r in records]
        name_rows(ax, names)
        ax.set_yticks(ax.get_yticks(), [names[int(at)] for at in ax.get_yticks()])
        if not np.isfinite(effect).any():
            ax.set_xlim(-1, 1)
        ax.set_xlabel("gap closed by its remedy, points (hollow: not tried)")

    return Figure(draw, _board_sentence(causes), "Every cause",
                  (9.0, row_height(len(causes), each=0.28)))


def _board_sentence(causes: pd.DataFrame) -> str:
    parts = []
    for verdict, (_, _, word) in VERDICT_LOOK.items():
        names = [str(title) for title in causes.loc[causes["verdict"] == verdict, "title"]]
        if names and verdict in ("explains", "indicated"):
            parts.append(f"{word}: {'; '.join(names)}")
        elif names:
            parts.append(f"{word}: {len(names)}")
    tried = causes[causes["effect_pp"].notna()]
    if len(tried):
        best = most(tried.assign(size=tried["effect_pp"].abs()), "size")
        bounds = (best["ci_low_pp"], best["ci_high_pp"])
        parts.append(
            f"the largest effect of a remedy is that of {best['title']}, "
            f"{text.points(best['effect_pp'])} points {text.interval(bounds)}"
        )
    return ". ".join(part[0].upper() + part[1:] for part in parts) + "."
