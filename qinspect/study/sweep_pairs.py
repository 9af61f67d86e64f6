"""Both levels of chance in a sweep: other test examples, and another training run."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from qinspect.errors import DataError
from qinspect.schema import Array
from qinspect.stats import SeedComparison, compare_seeds
from qinspect.study.load import load_study
from qinspect.study.sweep_sentences import sweep_groups


def sweep_correct(out: str | os.PathLike[str], frame: pd.DataFrame, arm: str) -> Array:
    """Which test examples an arm gets right in each run.

    Parameters
    ----------
    out : path
        Folder of the sweep.
    frame : DataFrame
        Finished rows of its table, which share their test examples.
    arm : str
        Name of the arm.

    Returns
    -------
    ndarray of bool, shape (runs, n)
        Rows as in ``frame``, columns sorted by example id: what
        :func:`qinspect.stats.compare_seeds` takes.

    Raises
    ------
    DataError
        If the runs have different test examples, which a ``split_seed`` avoids.
    """
    rows = []
    first: Array | None = None
    for key in frame["key"]:
        study = load_study(Path(out) / "runs" / str(key))
        order = np.argsort(study.arrays["id"])
        ids = study.arrays["id"][order]
        first = ids if first is None else first
        if not np.array_equal(ids, first):
            raise DataError(
                f"run {key} was tested on other examples than the first one; give all runs the "
                "same split_seed to compare them example by example."
            )
        rows.append(study.correct(arm)[order])
    if not rows:
        raise DataError("there are no finished runs to compare.")
    return np.stack(rows)


def sweep_seeds(
    out: str | os.PathLike[str], frame: pd.DataFrame, a: str = "ptq_int8", b: str = "qat"
) -> dict[str, SeedComparison]:
    """Compare two arms over the runs of each experiment, paired by seed and by example.

    Parameters
    ----------
    out : path
        Folder of the sweep.
    frame : DataFrame
        Its table.
    a, b : str
        Names of the arms; differences are b - a.

    Returns
    -------
    dict of str -> SeedComparison
        By the names of :func:`qinspect.study.sweep_sentences.sweep_groups`; experiments with
        fewer than two finished runs are left out.

    Raises
    ------
    DataError
        If the runs of an experiment have different test examples.
    """
    compared = {}
    for name, rows in sweep_groups(frame):
        done = rows[rows["status"] == "finished"]
        if len(done) > 1:
            correct = (sweep_correct(out, done, arm) for arm in (a, b))
            compared[name] = compare_seeds(*correct, a=a, b=b)
    return compared
