"""Histories of training: our own table of phases, or what Keras' CSVLogger wrote of each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qinspect.data.tables import read_csv
from qinspect.errors import DataError, SpecError

History = str | os.PathLike[str] | pd.DataFrame | Mapping[str, Any]

# Columns of Keras by the names of ours; its names of accuracy depend on the metric.
_ACCURACY = ("accuracy", "acc", "sparse_categorical_accuracy", "categorical_accuracy",
             "binary_accuracy")
_COLUMNS = {
    "loss": ("loss",), "accuracy": _ACCURACY, "val_loss": ("val_loss",),
    "val_accuracy": tuple(f"val_{name}" for name in _ACCURACY),
    "learning_rate": ("learning_rate", "lr"),
}


def gather_history(
    whole: History | None, by_phase: Mapping[str, History | None], epoch_steps: int | None
) -> tuple[pd.DataFrame | None, tuple[str, ...]]:
    """The history of a case, ``schema.HISTORY`` as far as known with a column ``phase``, and notes.

    ``epoch_steps``: steps of an epoch, None where they are not known; ``steps`` is then NaN.  What
    Keras logged without saying of which training is QAT's, or the float training's and then QAT's
    where epochs begin anew once; the note says so.
    """
    given = {phase: source for phase, source in by_phase.items() if source is not None}
    if whole is None:
        found = [_of_keras(source, phase, epoch_steps) for phase, source in given.items()]
        return (pd.concat(found, ignore_index=True) if found else None), ()
    if given:
        raise SpecError(f"give one history of all phases or one a phase ({', '.join(given)}), not "
                        "both.")
    table, where = _table(whole)
    if "phase" not in table and "loss" in table and len(table):
        return _of_one_log(table, where, epoch_steps)
    if absent := [name for name in ("phase", "epoch", "steps", "loss") if name not in table]:
        raise DataError(f"{where} has no column {', '.join(absent)}; give a file of Keras' "
                        "CSVLogger as the history of the float or of the QAT training instead "
                        "(--history-float, --history-qat).")
    return table, ()


def _of_one_log(
    table: pd.DataFrame, where: str, epoch_steps: int | None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A log of Keras that does not say of which training it is: one of QAT, or of both in turn."""
    epochs = pd.to_numeric(table.get("epoch", pd.Series(range(len(table)))), errors="coerce")
    starts = np.flatnonzero(np.diff(epochs.to_numpy(dtype=float)) < 0) + 1
    if len(starts) > 1:
        raise DataError(f"{where} has no column phase, and its epochs begin anew {len(starts)} "
                        "times; give the rows of each training as a file of its own "
                        "(--history-float, --history-qat).")
    if not len(starts):
        note = (f"{where} has no column phase: its rows ({len(table)}) were taken for QAT's "
                "epochs; if they are the float training's, give it with --history-float.")
        return _of_keras(table, "qat", epoch_steps, where), (note,)
    parts = {"float": table.iloc[: starts[0]], "qat": table.iloc[starts[0]:]}
    note = (f"{where} has no column phase: its first {len(parts['float'])} epochs were taken for "
            f"the float training's, the {len(parts['qat'])} after them for QAT's.")
    found = [_of_keras(part.reset_index(drop=True), phase, epoch_steps, where)
             for phase, part in parts.items()]
    return pd.concat(found, ignore_index=True), (note,)


def _table(source: History) -> tuple[pd.DataFrame, str]:
    """A table and what to call it."""
    if isinstance(source, pd.DataFrame):
        return source, "the history"
    if isinstance(source, Mapping):
        try:
            return pd.DataFrame(dict(source)), "the history"
        except ValueError as error:
            raise DataError(f"the history is no table: {error}.") from None
    return read_csv(Path(source)), str(source)


def _of_keras(
    source: History, phase: str, epoch_steps: int | None, origin: str | None = None
) -> pd.DataFrame:
    """One training as Keras logged it: ``epoch`` from 1, in the order of the rows."""
    table, where = _table(source)
    where = origin or where
    if "phase" in table:
        raise DataError(f"{where} has a column phase; give it as the history of all phases "
                        "(--history).")
    if "loss" not in table or table.empty:
        raise DataError(f"{where} has no {'epochs' if 'loss' in table else 'column loss'}; give "
                        "what Keras' CSVLogger wrote, with one row an epoch.")
    count = np.arange(1, len(table) + 1)
    if "epoch" in table:
        epochs = pd.to_numeric(table["epoch"], errors="coerce").to_numpy(dtype=float)
        broken = np.flatnonzero(~(np.diff(epochs, prepend=epochs[0] - 1) == 1))
        if len(broken):
            raise DataError(
                f"{where}: epoch goes from {epochs[max(broken[0] - 1, 0)]:g} to "
                f"{epochs[broken[0]]:g} at row {broken[0] + 1}; keep the rows of one training."
            )
        # QAT often counts on from where the float training ended.
        if phase == "float" and epochs[0] > 1:
            raise DataError(f"{where} begins with epoch {epochs[0]:g}; give the log of the whole "
                            "float training.")
    known: dict[str, Any] = {}
    for name, called in _COLUMNS.items():
        column = next((one for one in called if one in table), None)
        if column is not None:
            known[name] = _numbers(table[column], f"{where}: {column}")
    steps = np.full(len(table), np.nan) if epoch_steps is None else count * epoch_steps
    return pd.DataFrame({"phase": phase, "epoch": count, "steps": steps, **known})


def _numbers(values: pd.Series[Any], named: str) -> pd.Series[float]:
    """A column of numbers; what was not logged is NaN."""
    found = pd.to_numeric(values, errors="coerce")
    odd = values[found.isna() & values.notna()]
    if len(odd):
        raise DataError(f"{named} holds {str(odd.iloc[0])[:40]!r}, which is no number.")
    return found.astype(float)
