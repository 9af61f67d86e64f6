"""Curves over training: loss, accuracy, and the ranges that QAT's observers hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

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


_RUN_COLOURS = (COLOURS["qat"], COLOURS["ptq"], COLOURS["finetuned"], COLOURS["accent"])


def learning_curves(history: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw validation accuracy by training step, one line a model.

    Parameters
    ----------
    history : DataFrame
        ``schema.HISTORY`` columns; ``accuracy`` and ``val_accuracy`` are shares in 0..1.
    ax : Axes, optional
        Where to draw; new axes when not given.

    Returns
    -------
    Axes
    """
    ax = ax or new_axes(7.0, 3.6)
    ended = history.loc[history["phase"] == "float", "steps"].max()
    for phase, rows in history.groupby("phase", sort=False):
        colour = arm_colour(str(phase))
        style = "--" if str(phase).endswith("_bn") else "-"
        # Every other phase goes on from where float training ended.
        steps = rows["steps"] + (0 if phase == "float" or pd.isna(ended) else ended)
        ax.plot(steps, 100 * rows["val_accuracy"], style, marker="o", markersize=4,
                color=colour, label=f"{label(phase)}, validation")
        ax.plot(steps, 100 * rows["accuracy"], ":", marker=".", markersize=3, color=colour,
                linewidth=1, label=f"{label(phase)}, training")
    ax.set_xlabel("training step, float training included")
    ax.set_ylabel("accuracy, %")
    if len(history):
        ax.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return ax


def describe_learning(history: pd.DataFrame) -> str:
    """The figure's content as a sentence."""
    last = history.groupby("phase", sort=False).tail(1)
    listed = "; ".join(
        f"{row['phase']} after {int(row['steps'])} steps: validation "
        f"{100 * row['val_accuracy']:.1f} %, training {100 * row['accuracy']:.1f} %"
        for row in last.to_dict("records")
    )
    return f"{listed}." if listed else "No training was recorded."


def observer_ranges(observers: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the activation range each QAT observer holds, by step.

    Parameters
    ----------
    observers : DataFrame
        ``schema.OBSERVERS`` columns of one QAT run.
    ax : Axes, optional
        Where to draw; new axes when not given.

    Returns
    -------
    Axes
        Width ``max - min`` of each activation range; the dotted line is tfmot's initial 12.
    """
    import seaborn as sns

    ax = ax or new_axes(7.0, 3.6)
    activations = _moving_averages(observers)
    groups = list(activations.groupby(["layer", "tensor"], sort=False))
    colours = sns.color_palette("viridis", max(len(groups), 1))
    for ((layer, _), rows), colour in zip(groups, colours, strict=False):
        ax.plot(rows["step"], rows["max"] - rows["min"], marker="o", markersize=3, color=colour,
                label=label(layer) if len(groups) <= 14 else None)
    ax.axhline(12, color="0.5", linewidth=1, linestyle=":")
    ax.set_xlabel("QAT step")
    ax.set_ylabel("width of the range, max - min")
    if 0 < len(groups) <= 14:
        ax.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return ax


def _moving_averages(observers: pd.DataFrame) -> pd.DataFrame:
    """Activation ranges but the input's, which keeps the extremes it has seen, from zero on."""
    rows = observers[observers["kind"] == "activation"]
    return rows[rows["tensor"] != "input"]


def describe_observers(observers: pd.DataFrame) -> str:
    """The figure's content as a sentence."""
    activations = _moving_averages(observers)
    if activations.empty:
        return "No observer ranges were recorded."
    last = activations[activations["step"] == activations["step"].max()]
    width = last["max"] - last["min"]
    return (
        f"After {int(last['step'].max())} steps the {len(last)} activation ranges are "
        f"{width.min():.2f} to {width.max():.2f} wide; tfmot starts every one at 12 "
        "(-6 to 6) and moves it by 0.1 % of the difference a step."
    )


def observers_at(observers: pd.DataFrame, step: int) -> pd.DataFrame:
    """The last range that each observer of each run held at or before a step.

    Parameters
    ----------
    observers : DataFrame
        ``schema.OBSERVERS`` columns and ``run``.
    step : int
        QAT step.

    Returns
    -------
    DataFrame
        One row a run and activation observer, the same columns.
    """
    rows = _moving_averages(observers)
    rows = rows[rows["step"] <= step].sort_values("step", kind="stable")
    return rows.groupby(["run", "layer", "tensor"], sort=False).tail(1)


def observer_bars(held: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the ranges that observers hold at one step, the runs side by side.

    Parameters
    ----------
    held : DataFrame
        ``schema.OBSERVERS`` columns and ``run``, one row a run and observer.
    ax : Axes, optional
        Where to draw; new axes when not given.

    Returns
    -------
    Axes
        Dotted: -6 and 6, where tfmot starts.
    """
    layers = list(dict.fromkeys(held["layer"]))
    runs = list(dict.fromkeys(held["run"]))
    place = {name: at for at, name in enumerate(layers)}
    ax = ax or new_axes(7.5, row_height(len(layers), each=0.16 * len(runs) + 0.12))
    for turn, run in enumerate(runs):
        part = held[held["run"] == run]
        offset = (turn - (len(runs) - 1) / 2) * 0.7 / max(len(runs), 1)
        y = part["layer"].map(place).to_numpy(dtype=float) + offset
        colour = _RUN_COLOURS[turn % len(_RUN_COLOURS)]
        ax.hlines(y, part["min"], part["max"], color=colour, linewidth=5, label=label(run))
    for start in (-6, 6):
        ax.axvline(start, color="0.5", linewidth=1, linestyle=":")
    name_rows(ax, layers)
    ax.set_xlabel("range held (dotted: where tfmot starts)")
    legend_beside(ax)
    return ax


def describe_observer_bars(held: pd.DataFrame, step: int) -> str:
    """The figure's content as a sentence."""
    parts = []
    for run, rows in held.groupby("run", sort=False):
        width = (rows["max"] - rows["min"]).to_numpy(dtype=float)
        parts.append(
            f"{run}: {len(rows)} ranges {width.min():.2f} to {width.max():.2f} wide, "
            f"{int((abs(width - 12) < 0.6).sum())} still within 5 % of the initial 12"
        )
    share = 100 * 0.999**step
    return (
        f"At step {step}: {'; '.join(parts) or 'nothing was recorded'}. A moving average of decay "
        f"0.999 still holds {share:.0f} % of where it started."
    )
