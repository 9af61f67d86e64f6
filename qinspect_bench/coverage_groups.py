"""How often the intervals of grouped examples hold the truth, and how often equivalence is wrong.

``python -m qinspect_bench.coverage_groups`` simulates 20,000 comparisons for each row of a grid,
writes ``data/group_coverage.csv`` and prints the table of ``docs/intervals.md``.  Each row has a
seed of its own; rows that the file holds already are not simulated again.
"""

from __future__ import annotations

import argparse
import os
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtri

from qinspect.schema import Array
from qinspect.stats.groups import design_effect, widened
from qinspect.stats.intervals import tango_statistic

STUDIES = 20_000
CONFIDENCE = 0.95
# A share, as the difference at which calling two models equivalent is wrong.
MARGIN = 0.01
# Studies drawn at a time, times groups.
_CHUNK = 1 << 20


class Setting(NamedTuple):
    """Groups of a mean size, alike or lognormal, and how two models differ on them.

    A group's probabilities that only a, only b, or neither alone is right are drawn from a
    Dirichlet distribution of the given intraclass correlation.
    """

    groups: int
    size: int
    unequal: bool
    disagreement: float
    difference: float
    correlation: float


_MODELS = ((0.1, 0.0, 0.05), (0.05, 0.0, 0.05), (0.3, 0.2, 0.1), (0.02, 0.01, 0.05),
           (0.01, 0.01, 0.05), (0.1, 0.0, 0.2), (0.05, 0.01, 0.2), (0.012, 0.01, 0.2),
           (0.012, 0.01, 0.9))
GRID = tuple(Setting(groups, size, unequal, *models) for groups, size, unequal, models in
             product((5, 8, 10, 20, 50, 100, 400), (20, 200), (False, True), _MODELS))
FOUND = ("before", "gap", "share", "equivalent", "width_points")


def drawn(setting: Setting, studies: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Sizes of groups, and in each how many only a, only b gets right: (studies, groups)."""
    shape = (studies, setting.groups)
    sizes = np.full(shape, setting.size)
    if setting.unequal:
        spread = rng.lognormal(0, 1, shape) / np.exp(0.5)
        sizes = np.maximum(2, np.round(setting.size * spread)).astype(int)
    strength = (1 - setting.correlation) / setting.correlation
    only_a = (setting.disagreement - setting.difference) / 2
    only_b = (setting.disagreement + setting.difference) / 2
    # Weights below the smallest double are as good as none.
    a, b, rest = (rng.standard_gamma(max(share * strength, 1e-12), shape)
                  for share in (only_a, only_b, 1 - setting.disagreement))
    a_only = rng.binomial(sizes, a / np.maximum(a + b + rest, 1e-300))
    b_only = rng.binomial(sizes - a_only, b / np.maximum(b + rest, 1e-300))
    return sizes, a_only, b_only


def found(setting: Setting, sizes: Array, a_only: Array, b_only: Array) -> dict[str, Array]:
    """Of each study: which intervals hold the truth, and whether the gap's is within the margin.

    ``before``: the design effect as Rao and Scott's with the normal quantile.  ``share``: Wilson's
    interval of the share that only b gets right.
    """
    n, a, b = (each.sum(axis=-1) for each in (sizes, a_only, b_only))
    z = float(ndtri((1 + CONFIDENCE) / 2))
    alone, sums = a + b - (b - a) ** 2 / n, b_only - a_only
    wide = widened(*design_effect(alone, sums, sizes, CONFIDENCE), CONFIDENCE)
    squares = np.sum((sums - ((b - a) / n)[:, None] * sizes) ** 2, axis=-1)
    once = np.where(alone > 0, alone, 1)
    plain = np.where(alone > 0, np.maximum(1, squares / once * setting.groups
                                           / (setting.groups - 1)), n / setting.groups)

    def statistic(each: Array, difference: float) -> Array:
        return tango_statistic(n / each, a / each, b / each, difference)

    truth = (setting.disagreement + setting.difference) / 2
    of_share = widened(*design_effect(b - b**2 / n, b_only, sizes, CONFIDENCE), CONFIDENCE)
    away = np.abs(b / n - truth) / np.sqrt(truth * (1 - truth) * of_share / n)
    return {
        "before": np.abs(statistic(plain, setting.difference)) <= z,
        "gap": np.abs(statistic(wide, setting.difference)) <= z,
        "share": away <= z,
        "equivalent": (statistic(wide, -MARGIN) > z) & (statistic(wide, MARGIN) < -z),
        # Twice the half-width of a normal interval, near enough to compare rows by.
        "width_points": 200 * z * np.sqrt(alone * wide) / n,
    }


def simulated(setting: Setting, studies: int = STUDIES) -> dict[str, float]:
    """Shares of studies, and the median width."""
    rng = np.random.default_rng([int(1000 * value) for value in setting])
    step = max(1, _CHUNK // setting.groups)
    parts = [found(setting, *drawn(setting, min(step, studies - start), rng))
             for start in range(0, studies, step)]
    together = {name: np.concatenate([part[name] for part in parts]) for name in FOUND}
    return {name: float(np.median(each) if name == "width_points" else each.mean())
            for name, each in together.items()}


def to_markdown(table: pd.DataFrame) -> str:
    """The least coverage and the most wrong equivalence of each number and kind of groups."""
    lines = ["| groups | sizes | gap, before | gap | one share | equivalent, wrongly |",
             "|---:|---|---:|---:|---:|---:|"]
    for (groups, unequal), rows in table.groupby(["groups", "unequal"]):
        wrong = rows[rows["difference"] >= MARGIN]["equivalent"].max()
        least = " | ".join(f"{100 * rows[name].min():.1f}" for name in ("before", "gap", "share"))
        lines.append(f"| {groups} | {'lognormal' if unequal else 'alike'} | {least} "
                     f"| {100 * wrong:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Simulate what is missing in the table and print its extremes."""
    parser = argparse.ArgumentParser(prog="python -m qinspect_bench.coverage_groups",
                                     description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/group_coverage.csv"))
    out: Path = parser.parse_args().out
    rows: list[dict[Any, Any]] = pd.read_csv(out).to_dict("records") if out.exists() else []
    done = {tuple(row[name] for name in Setting._fields) for row in rows}
    for setting in GRID:
        if tuple(setting) in done:
            continue
        rows.append({**setting._asdict(), **simulated(setting)})
        partial = out.with_suffix(".partial")
        pd.DataFrame(rows).to_csv(partial, index=False, float_format="%.6g")
        os.replace(partial, out)  # noqa: PTH105
    print(to_markdown(pd.DataFrame(rows)))


if __name__ == "__main__":
    main()
