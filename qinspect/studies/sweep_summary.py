"""Both levels of chance in a sweep: other test examples, and another training run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qinspect.errors import DataError
from qinspect.predictions import Results
from qinspect.shown import Shown
from qinspect.stats import SeedComparison, wilson_interval
from qinspect.studies.stored import load_study
from qinspect.studies.sweeping import SPEC_COLUMNS


@dataclass(frozen=True)
class Sweep(Shown):
    """A study repeated over seeds and settings.

    Attributes
    ----------
    runs : DataFrame
        One row a run, as ``sweep.csv`` holds it.
    seeds : mapping of str to SeedComparison
        QAT against PTQ over the seeds of each experiment, by its name; empty where the runs have
        different test examples.
    """

    runs: pd.DataFrame
    seeds: Mapping[str, SeedComparison]

    @property
    def frame(self) -> pd.DataFrame:
        """One row a run."""
        return self.runs

    @property
    def sentence(self) -> str:
        """How often PTQ beat QAT, by how much."""
        return " ".join(sweep_finding(self.runs))

    def to_json(self) -> dict[str, Any]:
        """Runs, finding and seeds as plain data; what a run lacks is None."""
        known = self.runs.astype(object).where(self.runs.notna(), None)
        return {
            "runs": known.to_dict(orient="records"),
            "finding": sweep_finding(self.runs),
            "seeds": {name: compared.to_json() for name, compared in self.seeds.items()},
        }


def sweep_results(out: str | os.PathLike[str], frame: pd.DataFrame, arms: Iterable[str]) -> Results:
    """What some arms predicted in each run of one experiment.

    Parameters
    ----------
    out : path
        Folder of the sweep.
    frame : DataFrame
        Finished rows of its table, which share their test examples.
    arms : iterable of str
        Names of the arms.

    Returns
    -------
    Results
        ``runs`` as in ``frame``, examples sorted by id.

    Raises
    ------
    DataError
        If the runs have different test examples, which a ``split_seed`` avoids.
    """
    found: list[Results] = []
    for key in frame["key"]:
        study = load_study(Path(out) / "runs" / str(key))
        found.append(study.results.take(np.argsort(study.arrays["id"])))
        if not np.array_equal(found[-1].ids, found[0].ids):  # type: ignore[arg-type]
            raise DataError(
                f"run {key} was tested on other examples than the first one; give all runs the "
                "same split_seed to compare them example by example."
            )
    if not found:
        raise DataError("there are no finished runs to compare.")
    return replace(
        found[0], outputs={arm: np.stack([one.scores(arm) for one in found]) for arm in arms},
        runs=tuple(frame["key"]), seed=0)


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
        By the names of :func:`sweep_groups`; experiments with fewer than two finished runs are left
        out.

    Raises
    ------
    DataError
        If the runs of an experiment have different test examples.
    """
    compared = {}
    for name, rows in sweep_groups(frame):
        done = rows[rows["status"] == "finished"]
        if len(done) > 1:
            compared[name] = sweep_results(out, done, (a, b)).over_runs(a, b)
    return compared


# --- What a sweep says, in plain language: how often, by how much, and what ---------------------

# Two runs that differ in these alone repeat one experiment.
_REPEATS = ("seed", "split_seed")


def sweep_groups(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Rows that repeat one experiment with other seeds, each group with a name.

    Parameters
    ----------
    frame : DataFrame
        A sweep's table, as ``run_sweep`` returns it or ``sweep.csv`` holds it.

    Yields
    ------
    (str, DataFrame)
        The name has the data set, the model, and every other setting that differs in the frame.

    Raises
    ------
    DataError
        If the frame has no rows or lacks columns of a sweep.
    """
    needed = ("status", "dataset", "model", "seed")
    if absent := [name for name in needed if name not in frame.columns]:
        raise DataError(f"the table of the sweep has no column {', '.join(absent)}.")
    if frame.empty:
        raise DataError("the table of the sweep has no rows.")
    settings = [name for name in SPEC_COLUMNS if name in frame.columns and name not in _REPEATS]
    # An empty cell is a value (the default), not a row to leave out.
    keys = frame[settings].astype(object).where(frame[settings].notna(), "")
    varied = [name for name in settings
              if keys[name].nunique() > 1 and name not in ("dataset", "model")]
    for values, rows in keys.groupby(settings, sort=False):
        named = dict(zip(settings, values, strict=True))
        name = f"{named['dataset']}, {named['model']}"
        name += "".join(f", {key} {_setting(named[key])}" for key in varied)
        yield name, frame.loc[rows.index]


def _setting(value: Any) -> str:
    """A setting as a person would write it; pandas turns whole numbers beside gaps into floats."""
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if value != "" else "default"


def sweep_finding(frame: pd.DataFrame) -> list[str]:
    """Sentences that answer: how often does PTQ beat QAT, and float, by how much, and why?

    Parameters
    ----------
    frame : DataFrame
        A sweep's table.

    Returns
    -------
    list of str
        For each group of :func:`sweep_groups`; shares with Wilson's 95 % intervals, which speak
        of new seeds.

    Raises
    ------
    DataError
        If the frame is not a sweep's table.
    """
    lines = []
    for name, rows in sweep_groups(frame):
        done = rows[rows["status"] == "finished"]
        failed = len(rows) - len(done)
        lines.append(f"{name}: {len(done)} runs" + (f", {failed} more failed." if failed else "."))
        if len(done):
            lines += _group_finding(done)
    return lines


def _group_finding(done: pd.DataFrame) -> list[str]:
    lines = [
        f"{_ahead('PTQ', 'QAT', -done['qat_minus_ptq_pp'])} Run by run, the test on its examples "
        f"calls {_calls(done['qat_minus_ptq_verdict'])}.",
        _ahead("PTQ", "the float model", done["ptq_minus_float_pp"]),
        "Training the float model for as many epochs more as QAT had, and then quantizing it: "
        + _ahead("that PTQ", "the PTQ of the float model", done["ptq_ft_minus_ptq_pp"]),
        "With that budget-matched control: "
        + _ahead("QAT", "the equally trained PTQ", done["qat_minus_ptq_ft_pp"]),
    ]
    part = "part_batchnorm_lag_pp"
    if part in done.columns and done[part].notna().all():
        lines.append(
            "With batch-norm statistics re-estimated on both sides, which changes the gap "
            f"QAT - PTQ by {_spread(-done[part])}: training on brings PTQ "
            f"{_spread(done['part_training_budget_pp'])}. "
            + _ahead("QAT", "the equally trained PTQ", done["part_quantization_aware_pp"])
        )
    return lines


def _ahead(a: str, b: str, difference: pd.Series) -> str:
    """How often and by how much ``a`` is ahead of ``b``; ``difference`` is a - b in points."""
    values = difference.to_numpy(dtype=float)
    n, wins = len(values), int(np.count_nonzero(values > 0))
    level = int(np.count_nonzero(values == 0))
    low, high = wilson_interval(wins, n)
    ties = f", level in {level}" if level else ""
    return (
        f"{a} was ahead of {b} in {wins} of {n} runs ({100 * wins / n:.0f} %, 95 % interval "
        f"{100 * low:.0f} to {100 * high:.0f} %){ties}; the difference was {_spread(difference)}."
    )


def _spread(difference: pd.Series) -> str:
    values = difference.to_numpy(dtype=float)
    return (
        f"{_points(float(np.median(values)))} points in the median "
        f"(from {_points(values.min())} to {_points(values.max())})"
    )


def _points(value: float) -> str:
    return f"{value:+.2f}" if abs(value) >= 0.005 else "0.00"


def _calls(verdicts: pd.Series) -> str:
    """The counts of the verdicts of single runs."""
    counts = verdicts.value_counts()
    named = (("ptq_int8", "PTQ better"), ("qat", "QAT better"), ("equivalent", "them equivalent"),
             ("no_gap_seen", "no gap seen"))
    parts = [f"{words} in {int(counts.get(key, 0))}" for key, words in named]
    return f"{', '.join(parts)}, and cannot tell in {int(counts.get('cannot_tell', 0))}"
