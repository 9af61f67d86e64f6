"""Remedies that train, judged against shams, by simulation.

``python -m qinspect_bench.coverage_remedies`` writes ``data/remedy_coverage.csv`` and prints the
table of ``docs/intervals.md``.  Runs are judged by the function that a diagnosis uses, after 3, 4,
5 and 6 of them.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from qinspect import store
from qinspect.diagnosis.replicates import LOOKS, closed
from qinspect_bench.coverage_seeds import answers

TRIALS = 1_000
CONFIDENCE = 0.95
# Standard deviation of runs of one-epoch studies (measured), as a share.
SPREAD = 0.039


class Setting(NamedTuple):
    """Examples, true effect and gap in points, accuracy of the sham's runs, and groups (0: none).

    The sham's runs spread as the remedy's, or not at all.
    """

    n: int
    effect: float
    gap: float = 20.0
    accuracy: float = 0.6
    groups: int = 0
    sham_spreads: bool = True


GRID = (*(Setting(n, effect, accuracy=accuracy) for n, effect, accuracy in
          product((449, 1500), (0.0, 4.0, 10.0), (0.6, 0.85))),
        *(Setting(449, effect, sham_spreads=False) for effect in (0.0, 10.0)),
        *(Setting(450, effect, groups=groups) for effect, groups in
          product((0.0, 10.0), (6, 15, 45))))


def judged(setting: Setting, rng: np.random.Generator) -> dict[str, float]:
    """One remedy: whether it is confirmed, the interval holds the truth, how many runs it took."""
    runs = LOOKS[-1]
    move = SPREAD * rng.standard_normal((2, runs))
    move[0] *= setting.sham_spreads
    groups = None if setting.groups == 0 else np.arange(setting.n) % setting.groups
    effect = np.full(setting.n, setting.effect / 100)
    if groups is not None:
        # The remedy does more to some groups than to others, as far as accuracy allows.
        effect += (0.08 * rng.standard_normal(setting.groups))[groups]
    sham, remedy = answers(rng, setting.accuracy + move[0][:, None],
                           setting.accuracy + effect + move[1][:, None], setting.n)
    # What was wrong and is right closes the gap: the file's own answers cancel out.
    for done in LOOKS:
        found = closed(remedy[:done].astype(float), sham[:done].astype(float), setting.gap / 100,
                       CONFIDENCE, groups=groups, bound=1.0)
        if found.ends:
            break
    low, high = (100 * end for end in found.interval)
    return {"confirmed": found.confirmed, "covered": low <= setting.effect <= high,
            "runs": done, "estimate": 100 * found.amount, "width": high - low}


def simulated(setting: Setting, trials: int = TRIALS) -> dict[str, float]:
    """Shares of trials, and means; ``estimate_confirmed`` of those that were confirmed."""
    rng = np.random.default_rng([int(100 * value) for value in setting])
    table = pd.DataFrame([judged(setting, rng) for _ in range(trials)])
    shown = table.loc[table["confirmed"].astype(bool), "estimate"]
    return {"covered": table["covered"].mean(), "confirmed": table["confirmed"].mean(),
            "runs": table["runs"].mean(), "estimate": table["estimate"].mean(),
            "estimate_confirmed": shown.mean(), "width": table["width"].median()}


def to_markdown(found: pd.DataFrame) -> str:
    """One row a setting, shares in percent."""
    lines = ["| n | groups | accuracy | true effect | covered | confirmed | runs | mean effect "
             "| of those confirmed |", "|---:|---:|---:|---:|---:|---:|---:|---:|---:|"]
    lines += [
        f"| {row['n']} | {row['groups'] or 'none'} | {100 * row['accuracy']:g} % "
        f"{'' if row['sham_spreads'] else '(sham always alike) '}| {row['effect']:g} "
        f"| {100 * row['covered']:.1f} | {100 * row['confirmed']:.1f} | {row['runs']:.1f} "
        f"| {row['estimate']:.1f} "
        f"| {format(row['estimate_confirmed'], '.1f') if row['confirmed'] else 'none'} |"
        for row in found.to_dict("records")]
    return "\n".join(lines)


def main() -> None:
    """Simulate the grid and print its table."""
    parser = argparse.ArgumentParser(prog="python -m qinspect_bench.coverage_remedies",
                                     description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/remedy_coverage.csv"))
    found = pd.DataFrame([{**setting._asdict(), **simulated(setting)} for setting in GRID])
    store.write_frame(parser.parse_args().out, found)
    print(to_markdown(found))


if __name__ == "__main__":
    main()
