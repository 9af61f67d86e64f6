"""How often a study of few seeds names a winner that the twenty of the shipped sweep contradict.

``python -m qinspect_bench.coverage_studies`` draws seeds from ``data/one_epoch_sweep.csv``, judges
QAT against PTQ by the rule of ``qinspect study`` and prints the table of ``docs/intervals.md``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import ndtri

from qinspect.data.shipped import shipped_table
from qinspect.schema import Array
from qinspect.stats import mean_interval
from qinspect.stats.seeds import runs_interval

SEEDS = (2, 3, 5, 7, 10)
DRAWS = 4000
CONFIDENCE = 0.95


def tables(runs: pd.DataFrame, rng: np.random.Generator) -> dict[str, Array]:
    """QAT - PTQ of each run on each example, made to have each run's gap and its own interval.

    The sweep has no single examples.  How far runs go wrong on the same ones is unknown, hence both
    ends of what is possible: ``shared``, all of that variance in common, and ``own``, none of it.
    """
    n = int(runs["n"].iloc[0])
    width = (runs["qat_minus_ptq_high_pp"] - runs["qat_minus_ptq_low_pp"]).to_numpy(dtype=float)
    spread = width / (2 * ndtri((1 + CONFIDENCE) / 2)) * np.sqrt(n)
    gaps = runs["qat_minus_ptq_pp"].to_numpy(dtype=float)
    found = {}
    for name, rows in (("shared", 1), ("own", len(runs))):
        noise = rng.normal(size=(rows, n))
        noise -= noise.mean(axis=1, keepdims=True)
        noise /= noise.std(axis=1, keepdims=True)
        found[name] = gaps[:, None] + spread[:, None] * noise
    return found


def sign(interval: tuple[float, float]) -> int:
    """The winner that an interval of QAT - PTQ names: 1, -1, or 0 for none."""
    return int(interval[0] > 0) - int(interval[1] < 0)


def judged(table: Array, seeds: int, rng: np.random.Generator) -> dict[str, float]:
    """Shares of drawn studies by what they say, beside what all runs of the table say."""
    gaps = table.mean(axis=1)
    truth, winner = gaps.mean(), sign(mean_interval(gaps, CONFIDENCE))
    drawn = [runs_interval(table[rng.choice(len(table), seeds, replace=False)], CONFIDENCE)
             for _ in range(DRAWS)]
    named = np.array([sign(one) for one in drawn])
    # Two ways of training that do not differ: seeds drawn independently, each a new one.
    centred = table - truth
    none = [sign(runs_interval(centred[rng.choice(len(table), seeds)], CONFIDENCE))
            for _ in range(DRAWS)]
    return {
        "right": float(np.mean((named == winner) & (winner != 0))),
        "contradicted": float(np.mean((named != 0) & (named != winner))),
        "covered": float(np.mean([low <= truth <= high for low, high in drawn])),
        "false": float(np.mean(np.array(none) != 0)),
    }


def one_run(runs: pd.DataFrame) -> dict[str, float]:
    """The same of a single run, judged on its examples as if they told of the method."""
    gaps = runs["qat_minus_ptq_pp"].to_numpy(dtype=float)
    ends = runs[["qat_minus_ptq_low_pp", "qat_minus_ptq_high_pp"]].to_numpy(dtype=float)
    winner, truth = sign(mean_interval(gaps, CONFIDENCE)), gaps.mean()
    named = runs["qat_minus_ptq_verdict"].map({"qat": 1, "ptq_int8": -1}).fillna(0).to_numpy()
    return {"right": float(np.mean((named == winner) & (winner != 0))),
            "contradicted": float(np.mean((named != 0) & (named != winner))),
            "covered": float(np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1]))),
            "false": float("nan")}


def coverage_table(seeds: tuple[int, ...] = SEEDS) -> pd.DataFrame:
    """One row a data set, number of seeds and way of sharing examples; shares of drawn studies."""
    rows = []
    for dataset, runs in shipped_table("one_epoch_sweep").groupby("dataset"):
        rows.append({"dataset": dataset, "seeds": 1, "examples": "", **one_run(runs)})
        for examples, table in tables(runs, np.random.default_rng(0)).items():
            rows += [{"dataset": dataset, "seeds": count, "examples": examples,
                      **judged(table, count, np.random.default_rng(count))} for count in seeds]
    return pd.DataFrame(rows)


def to_markdown(table: pd.DataFrame) -> str:
    """The table in percent; of the two ways of sharing examples the lowest to the highest."""
    lines = ["| data set | seeds | names the winner of all twenty | contradicts them "
             "| interval holds their mean | names one where there is none |",
             "|---|---:|---:|---:|---:|---:|"]
    for (dataset, seeds), rows in table.groupby(["dataset", "seeds"]):
        cells = []
        for name in ("right", "contradicted", "covered", "false"):
            low, high = 100 * rows[name].min(), 100 * rows[name].max()
            cells.append("" if np.isnan(low) else f"{low:.1f}" if f"{low:.1f}" == f"{high:.1f}"
                         else f"{low:.1f} to {high:.1f}")
        lines.append(f"| {dataset} | {seeds} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(to_markdown(coverage_table()))
