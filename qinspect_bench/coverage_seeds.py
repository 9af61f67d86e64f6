"""How often the interval over training seeds holds the truth: Gaussian seeds, and real ones.

``python -m qinspect_bench.coverage_seeds`` simulates comparisons of two ways of training, each over
2 to 20 seeds and the same test examples, writes ``data/seed_coverage.csv`` and prints the table of
``docs/intervals.md``.  Real seeds are drawn from the 20 of each data set in
``data/one_epoch_sweep.csv``: as they are (``drawn``, so that one may come twice) or each moved a
little (``smoothed``).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import ndtri

from qinspect import store
from qinspect.schema import Array
from qinspect.stats.seeds import mean_interval, runs_interval

STUDIES = 2_000
SEEDS = (2, 3, 4, 5, 6, 8, 10, 15, 20)
EXAMPLES = 449
CONFIDENCE = 0.95
# Correlation of one example's answers between runs, on the normal scale behind right and wrong.
_ALIKE = 0.7
# Accuracy of the first way of training in the middle, and the spread of its runs.
_ACCURACY, _SPREAD = 0.6, 0.02
SWEEP = Path("data/one_epoch_sweep.csv")
_QUANTITIES = ("qat_minus_ptq_pp", "ptq_minus_float_pp", "qat_minus_ptq_ft_pp")

Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]


def answers(rng: np.random.Generator, first: Array, second: Array, n: int) -> Array:
    """Correctness (2, runs, n) of runs of known accuracies, (runs, 1) or of each example."""
    accuracy = np.stack(np.broadcast_arrays(np.zeros((len(first), n)), first, second)[1:])
    limit = ndtri(np.clip(accuracy, 1e-3, 1 - 1e-3))
    hard, own = rng.standard_normal(n), rng.standard_normal(accuracy.shape)
    right: Array = np.sqrt(_ALIKE) * hard + np.sqrt(1 - _ALIKE) * own < limit
    return right


def gaussian(mean: float, spread: float) -> Draw:
    """Differences of runs, normal."""
    return lambda rng, shape: rng.normal(mean, spread, shape)


def drawn(values: Array, smooth: bool) -> Draw:
    """Differences of real runs, of the same mean and variance where they are smoothed.

    References
    ----------
    Silverman and Young (1987), Biometrika 74, 469-479 (the shrunken smoothed bootstrap).
    """
    mean, width = values.mean(), 0.9 * len(values) ** -0.2

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        picked: Array = rng.choice(values, shape)
        if not smooth:
            return picked
        moved = picked - mean + width * values.std() * rng.standard_normal(shape)
        found: Array = mean + moved / np.sqrt(1 + width**2)
        return found

    return draw


def ways(sweep: pd.DataFrame) -> dict[tuple[str, str], tuple[Draw, float]]:
    """Where differences of runs come from, and their mean, both as shares."""
    found: dict[tuple[str, str], tuple[Draw, float]] = {
        ("gaussian", f"sd {100 * spread:g} points"): (gaussian(0.0, spread), 0.0)
        for spread in (0.0, 0.01, 0.039, 0.1)}
    for dataset, rows in sweep.groupby("dataset"):
        for name in _QUANTITIES:
            values = rows[name].to_numpy() / 100
            for smooth in (False, True):
                kind = "smoothed" if smooth else "drawn"
                found[kind, f"{dataset}: {name.removesuffix('_pp')}"] = (
                    drawn(values, smooth), float(values.mean()))
    return found


def coverage(draw: Draw, truth: float, seeds: int, studies: int) -> dict[str, float]:
    """Shares of studies whose interval holds the truth: of the runs, and of runs and examples."""
    rng = np.random.default_rng(seeds)
    runs = nested = 0
    width = []
    for _ in range(studies):
        difference = draw(rng, (seeds,))
        low, high = mean_interval(difference, CONFIDENCE)
        runs += low <= truth <= high
        first = rng.normal(_ACCURACY, _SPREAD, seeds)
        a, b = answers(rng, (first - difference / 2)[:, None], (first + difference / 2)[:, None],
                       EXAMPLES)
        low, high = runs_interval(b.astype(float) - a, CONFIDENCE, bound=1.0)
        nested += low <= truth <= high
        width.append(high - low)
    return {"runs": runs / studies, "runs_and_examples": nested / studies,
            "width_points": 100 * float(np.median(width))}


def table(sweep: pd.DataFrame, studies: int = STUDIES) -> pd.DataFrame:
    """One row a number of seeds and a source of them."""
    return pd.DataFrame([
        {"seeds": seeds, "kind": kind, "source": source, **coverage(draw, truth, seeds, studies)}
        for (kind, source), (draw, truth) in ways(sweep).items() for seeds in SEEDS])


def to_markdown(found: pd.DataFrame) -> str:
    """Coverage over runs and the same examples by source and number of seeds, in percent."""
    lines = ["| seeds | " + " | ".join(map(str, SEEDS)) + " |",
             "|---|" + "---:|" * len(SEEDS)]
    for (kind, source), rows in found.groupby(["kind", "source"], sort=False):
        cells = " | ".join(f"{100 * value:.1f}" for value in rows["runs_and_examples"])
        lines.append(f"| {kind}, {source} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Simulate the grid and print its table."""
    parser = argparse.ArgumentParser(prog="python -m qinspect_bench.coverage_seeds",
                                     description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/seed_coverage.csv"))
    found = table(pd.read_csv(SWEEP))
    store.write_frame(parser.parse_args().out, found)
    print(to_markdown(found))


if __name__ == "__main__":
    main()
