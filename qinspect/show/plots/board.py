"""The causes of a diagnosis with their verdicts, and accuracy against file size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from qinspect.show import text
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
    from collections.abc import Sequence

    from matplotlib.axes import Axes

_MARKERS = "osD^v<>PXdph*"
_LEGEND = 26
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


def diagnosis_board(causes: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw every cause with its verdict and what its remedy alone changed.

    Parameters
    ----------
    causes : DataFrame
        Columns ``title``, ``verdict``, ``effect_pp``, ``ci_low_pp``, ``ci_high_pp``, the last
        three NaN where no intervention was tried; in the order to draw.
    ax : Axes, optional
        Where to draw; new axes when not given.

    Returns
    -------
    Axes
        The marker stands at the effect, or on zero, hollow, where nothing was tried.
    """
    ax = ax or new_axes(8.0, row_height(len(causes), each=0.28))
    effect = causes["effect_pp"].to_numpy(dtype=float)
    for row, record in enumerate(causes.to_dict("records")):
        marker, colour, _ = verdict_look(record["verdict"])
        tried = bool(np.isfinite(effect[row]))
        if tried:
            ax.hlines([row], [record["ci_low_pp"]], [record["ci_high_pp"]], color=colour,
                      linewidth=2)
        ax.plot(effect[row] if tried else 0.0, row, marker, color=colour, markersize=7,
                markerfacecolor=colour if tried else "none")
    ax.axvline(0, color="0.6", linewidth=1, zorder=0)
    names = [
        f"{label(record['title'], 48)}: {verdict_look(record['verdict'])[2]}"
        for record in causes.to_dict("records")
    ]
    name_rows(ax, names)
    ax.set_yticks(ax.get_yticks(), [names[int(at)] for at in ax.get_yticks()])
    if not np.isfinite(effect).any():
        ax.set_xlim(-1, 1)
    ax.set_xlabel("gap closed by its remedy, points (hollow: not tried)")
    return ax


def describe_board(causes: pd.DataFrame) -> str:
    """The figure's content as a sentence."""
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


def cause_frame(causes: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The ``causes`` of a diagnosis as the frame that the board takes.

    Parameters
    ----------
    causes : sequence of dict
        ``id``, ``title``, ``verdict``; ``effect_pp`` and ``ci_pp`` may be missing or None.
    """
    rows = []
    for cause in causes:
        low, high = cause.get("ci_pp") or (None, None)
        rows.append((cause["id"], cause.get("title") or cause["id"], cause["verdict"],
                     cause.get("effect_pp"), low, high))
    frame = pd.DataFrame(
        rows, columns=["id", "title", "verdict", "effect_pp", "ci_low_pp", "ci_high_pp"]
    )
    numbers = ["effect_pp", "ci_low_pp", "ci_high_pp"]
    frame[numbers] = frame[numbers].astype(float)
    return frame


def accuracy_size(runs: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw accuracy with its interval against file size.

    Parameters
    ----------
    runs : DataFrame
        ``schema.RUNS`` columns.
    ax : Axes, optional
        Where to draw; new axes when not given.

    Returns
    -------
    Axes
        Size on a logarithmic axis, kB of 1,000 bytes.
    """
    ax = ax or new_axes(7.5, 4.2)
    for turn, record in enumerate(runs.to_dict("records")):
        size = record["bytes"] / 1000
        colour = arm_colour(str(record["arm"]))
        ax.vlines([size], [100 * record["accuracy_low"]], [100 * record["accuracy_high"]],
                  color=colour, linewidth=1.0, alpha=0.4)
        ax.plot(size, 100 * record["accuracy"], _MARKERS[turn % len(_MARKERS)], color=colour,
                markersize=7, alpha=0.8, linestyle="none",
                label=label(record["arm"], 26) if turn < _LEGEND else None)
    ax.set_xscale("log")
    ax.margins(x=0.12)
    low, high = ax.get_xlim()
    ticks = [m * 10.0**k for k in range(-3, 9) for m in (1, 2, 5) if low <= m * 10.0**k <= high]
    if len(ticks) < 2:  # files of nearly one size
        ticks = [float(f"{tick:.3g}") for tick in np.linspace(low, high, 5)[1:-1]]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set_xlabel("file, kB")
    ax.set_ylabel("accuracy, % (line: interval)")
    legend_beside(ax)
    return ax


def describe_size(runs: pd.DataFrame) -> str:
    """The figure's content as a sentence."""
    if runs.empty:
        return "No model was measured."
    small, large = least(runs, "bytes"), most(runs, "bytes")
    return (
        f"Files run from {text.size(int(small['bytes']))} ({small['arm']}, "
        f"{text.percent(small['accuracy'])}) to {text.size(int(large['bytes']))} ({large['arm']}, "
        f"{text.percent(large['accuracy'])})."
    )
