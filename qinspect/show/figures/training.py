"""Curves over training: accuracy or loss, and the ranges that QAT's observers hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from qinspect.show import text
from qinspect.show.figure import Figure
from qinspect.show.style import (
    COLOURS,
    INK,
    label,
    legend_beside,
    model_colours,
    name_rows,
    ordered_colours,
    row_height,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RUN_COLOURS = (COLOURS["qat"], COLOURS["ptq"], COLOURS["finetuned"], COLOURS["accent"])
_SCORES = {"val_accuracy": "validation", "accuracy": "training"}
_LOSSES = {"val_loss": "validation", "loss": "training"}
_IN_LEGEND = 14


def learning_curves(history: pd.DataFrame) -> Figure:
    """Accuracy by training step (by epoch where steps are not known), one colour a ``phase``.

    What the history lacks is left out; without any accuracy the loss is drawn.
    """
    right = any(_holds(history, name) for name in _SCORES)
    curves = _SCORES if right else _LOSSES
    known = [name for name in curves if _holds(history, name)]
    scale, form = (100, "{:.1f} %".format) if right else (1, text.number)
    known_steps = history["steps"].notna().all()
    unit, words = ("steps", "steps") if known_steps else ("epoch", "epochs")
    place = history.assign(at=history[unit] + _started(history, unit))

    def draw(ax: Axes) -> None:
        import seaborn as sns

        tall = place.melt(["phase", "at"], known, var_name="score", value_name="value")
        tall = tall.dropna(subset="value").replace({"score": curves})
        tall = tall.assign(drawn=scale * tall["value"].astype(float))
        phases = list(dict.fromkeys(tall["phase"].astype(str)))
        sns.lineplot(tall, x="at", y="drawn", hue="phase", style="score", ax=ax, markers=True,
                     palette=model_colours(phases),
                     errorbar=None, estimator=None, markeredgecolor="none")
        _label_legend(ax)
        what = "training step" if known_steps else "epoch"
        ax.set_xlabel(f"{what}, float training included")
        ax.set_ylabel("accuracy, %" if right else "loss")

    title = "Learning curves"
    if not known:
        return Figure(_nothing, "The history holds no accuracy and no loss.", title, (7.0, 1.2))
    listed = "; ".join(
        f"{row['phase']} after {int(row[unit])} {words}: " + ", ".join(
            f"{curves[name]} {form(scale * row[name])}" for name in known if pd.notna(row[name]))
        for row in history.groupby("phase", sort=False).tail(1).to_dict("records")
    )
    said = f"{listed}." if right else f"Loss: {listed}."
    return Figure(draw, said, title, (7.5, 3.6))


def _holds(history: pd.DataFrame, name: str) -> bool:
    return name in history and bool(history[name].notna().any())


def _started(history: pd.DataFrame, unit: str) -> np.ndarray:
    """Steps before each phase: every other one goes on from where float training ended."""
    ended = history.loc[history["phase"] == "float", unit].max()
    return np.where(history["phase"] == "float", 0, 0 if pd.isna(ended) else ended)


def _label_legend(ax: Axes) -> None:
    handles, names = ax.get_legend_handles_labels()
    for handle in handles:
        if getattr(handle, "get_color", str)() == ".2":  # seaborn's own, lost on a dark page
            handle.set(color=INK)
    ax.legend(handles, [label(name) for name in names], fontsize=9, loc="center left",
              bbox_to_anchor=(1.0, 0.5), frameon=False)


def _nothing(ax: Axes) -> None:
    ax.set_axis_off()


def observer_ranges(observers: pd.DataFrame) -> Figure:
    """Width of the activation range that each QAT observer of one run holds, by step."""
    rows = _moving_averages(observers)

    def draw(ax: Axes) -> None:
        groups = list(rows.groupby(["layer", "tensor"], sort=False))
        for ((layer, _), part), colour in zip(groups, ordered_colours(len(groups)), strict=False):
            ax.plot(part["step"], part["max"] - part["min"], marker="o", markersize=3, color=colour,
                    label=label(layer) if len(groups) <= _IN_LEGEND else None)
        ax.axhline(12, color=INK, linewidth=1, linestyle=":")
        ax.set_xlabel("QAT step (dotted: tfmot's 12 at the start)")
        ax.set_ylabel("width of the range, max - min")
        legend_beside(ax)

    title, size = "Ranges held by the QAT observers", (7.5, 3.6)
    if rows.empty:
        return Figure(draw, "No observer ranges were recorded.", title, size)
    last = rows[rows["step"] == rows["step"].max()]
    width = last["max"] - last["min"]
    said = (
        f"After {int(last['step'].max())} steps the {len(last)} activation ranges are "
        f"{width.min():.2f} to {width.max():.2f} wide; tfmot starts every one at 12 "
        "(-6 to 6) and moves it by 0.1 % of the difference a step."
    )
    return Figure(draw, said, title, size)


def _moving_averages(observers: pd.DataFrame) -> pd.DataFrame:
    """Activation ranges but the input's, which keeps the extremes it has seen, from zero on."""
    rows = observers[observers["kind"] == "activation"]
    return rows[rows["tensor"] != "input"]


def observers_at(observers: pd.DataFrame, step: int) -> pd.DataFrame:
    """The last range that each observer of each ``run`` held at or before a step."""
    rows = _moving_averages(observers)
    rows = rows[rows["step"] <= step].sort_values("step", kind="stable")
    return rows.groupby(["run", "layer", "tensor"], sort=False).tail(1)


def observer_course(observers: pd.DataFrame, layer: str) -> Figure:
    """Ranges that the observers of one layer hold, by step, one band a ``run``."""
    rows = _moving_averages(observers)
    rows = rows[rows["layer"] == layer]

    def draw(ax: Axes) -> None:
        for turn, (run, part) in enumerate(rows.groupby("run", sort=False)):
            colour = _RUN_COLOURS[turn % len(_RUN_COLOURS)]
            ax.fill_between(part["step"], part["min"], part["max"], color=colour, alpha=0.25,
                            label=label(run))
            for end in ("min", "max"):
                ax.plot(part["step"], part[end], color=colour, marker="o", markersize=3)
        for start in (-6, 6):
            ax.axhline(start, color=INK, linewidth=1, linestyle=":")
        ax.set_xlabel("QAT step (dotted: where tfmot starts)")
        ax.set_ylabel("range held")
        legend_beside(ax)

    parts = []
    for run, part in rows.groupby("run", sort=False):
        first, last = part.iloc[0], part.iloc[-1]
        ends = [text.span((row["min"], row["max"])) for row in (first, last)]
        parts.append(f"{run} from {ends[0]} to {ends[1]} in {int(last['step']):,} steps")
    said = f"{layer} held: {'; '.join(parts)}." if parts else f"No ranges of {layer} were recorded."
    return Figure(draw, said, f"Ranges held by {layer}", (7.0, 3.2))


def observer_bars(held: pd.DataFrame, step: int) -> Figure:
    """Ranges that observers hold at one step, the ``run``s side by side."""
    layers = list(dict.fromkeys(held["layer"]))
    runs = list(dict.fromkeys(held["run"]))

    def draw(ax: Axes) -> None:
        place = {name: at for at, name in enumerate(layers)}
        for turn, run in enumerate(runs):
            part = held[held["run"] == run]
            offset = (turn - (len(runs) - 1) / 2) * 0.7 / max(len(runs), 1)
            y = part["layer"].map(place).to_numpy(dtype=float) + offset
            colour = _RUN_COLOURS[turn % len(_RUN_COLOURS)]
            ax.hlines(y, part["min"], part["max"], color=colour, linewidth=5, label=label(run))
        for start in (-6, 6):
            ax.axvline(start, color=INK, linewidth=1, linestyle=":")
        name_rows(ax, layers)
        ax.set_xlabel("range held (dotted: where tfmot starts)")
        legend_beside(ax)

    parts = []
    for run, rows in held.groupby("run", sort=False):
        width = (rows["max"] - rows["min"]).to_numpy(dtype=float)
        parts.append(
            f"{run}: {len(rows)} ranges {width.min():.2f} to {width.max():.2f} wide, "
            f"{int((abs(width - 12) < 0.6).sum())} still within 5 % of the initial 12"
        )
    said = (
        f"At step {step}: {'; '.join(parts) or 'nothing was recorded'}. A moving average of decay "
        f"0.999 still holds {text.share(0.999**step)} of where it started."
    )
    return Figure(draw, said, f"Ranges held at step {step}",
                  (8.0, row_height(len(layers), each=0.16 * len(runs) + 0.12)))
