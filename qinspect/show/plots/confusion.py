"""The confusion matrix of the fault benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from qinspect.show.plots.style import label, name_rows, new_axes, row_height

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def confusion_matrix(counts: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Injected cause against answer, as shares of a row with the counts written in.

    Parameters
    ----------
    counts : DataFrame
        ``truth``, ``answer`` and ``cases``, one row a pair that occurred.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
    """
    truths, answers, table = _table(counts)
    if ax is None:
        ax = new_axes(row_height(len(answers), 0.36, 3.4), row_height(len(truths), 0.3, 2.4))
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    ax.grid(visible=False)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.argwhere(table > 0):
        dark = shares[row, column] > 0.6
        ax.text(column, row, str(table[row, column]), ha="center", va="center", fontsize=8,
                color="white" if dark else "black")
    name_rows(ax, truths)
    ax.set_xticks(range(len(answers)), [label(name) for name in answers], fontsize=8, rotation=90)
    ax.set_xlim(-0.5, len(answers) - 0.5)
    ax.set_xlabel("answer")
    ax.set_ylabel("injected")
    return ax


def describe_confusion(counts: pd.DataFrame) -> str:
    """The figure's content as a sentence."""
    truths, answers, table = _table(counts)
    total = int(table.sum())
    wrong = [
        f"{truth} answered as {answer} ({table[i, j]})"
        for i, truth in enumerate(truths)
        for j, answer in enumerate(answers)
        if table[i, j] and truth != answer and not truth.startswith("none")
    ]
    tail = f" Taken for something else: {'; '.join(wrong)}." if wrong else ""
    return f"{total} cases of {len(truths)} truths.{tail}"


def _table(counts: pd.DataFrame) -> tuple[list[str], list[str], np.ndarray]:
    """Truths and answers in one order, so that right answers lie on the diagonal."""
    truths = sorted(set(counts["truth"]), key=lambda name: (name.startswith("none"), name))
    given = set(counts["answer"])
    answers = [name for name in truths if name in given] + sorted(given - set(truths))
    table = np.zeros((len(truths), len(answers)), dtype=np.int64)
    for row in counts.to_dict("records"):
        table[truths.index(row["truth"]), answers.index(row["answer"])] += int(row["cases"])
    return truths, answers, table
