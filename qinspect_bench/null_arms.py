"""How often a study of many models that are all alike calls one better than another.

``python -m qinspect_bench.null_arms`` simulates studies of a float model and 16 arms of one true
accuracy, compares them as ``study`` and ``significance`` do, with the float model and every pair,
writes ``data/null_arms.csv`` and prints the table of ``docs/intervals.md``.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from qinspect import store
from qinspect.predictions import Results
from qinspect.schema import Array
from qinspect.stats.exact import binomial_cdf

STUDIES = 2_000
ARMS, EXAMPLES, ALPHA = 16, 1_000, 0.05
# Share of examples that are hard: on the others all are right; and accuracy on the hard ones.
DRAWS = {"independent": (1.0, 0.9), "hard ones differ": (0.2, 0.7)}


def drawn(rng: np.random.Generator, how: str) -> Array:
    """Correctness (1 + arms, examples) of models that are alike."""
    hard, share = DRAWS[how]
    right: Array = rng.random((ARMS + 1, EXAMPLES)) < share
    return right | (rng.random(EXAMPLES) >= hard)


def pairs_of(reference: bool) -> Array:
    """The pairs of a family, (pairs, 2): all with the first model, or every pair."""
    if reference:
        return np.array([(0, arm) for arm in range(1, ARMS + 1)])
    return np.array(list(combinations(range(ARMS + 1), 2)))


def found_better(right: Array, reference: bool) -> bool:
    """Whether at least one comparison of the family calls a model better.

    A correction rejects anything only where it rejects the smallest p, so that one pair
    decides; a test holds that this is what :meth:`qinspect.predictions.Results.compare` does.
    """
    pairs = pairs_of(reference)
    a, b = right[pairs[:, 0]], right[pairs[:, 1]]
    lost, won = (a & ~b).sum(axis=1), (b & ~a).sum(axis=1)
    p = 2 * binomial_cdf(np.minimum(lost, won), lost + won, 0.5)
    if p.min() > ALPHA / len(pairs):
        return False
    first = Results(dict(zip("ab", right[pairs[p.argmin()]], strict=True))).comparison("a", "b")
    return bool(first.significant and first.p_single <= ALPHA / len(pairs))


def simulated(how: str, reference: bool, studies: int) -> float:
    """Share of studies with at least one false "better"."""
    rng = np.random.default_rng(len(how))
    return sum(found_better(drawn(rng, how), reference) for _ in range(studies)) / studies


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(prog="python -m qinspect_bench.null_arms",
                                     description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/null_arms.csv"))
    parser.add_argument("--studies", type=int, default=STUDIES)
    given = parser.parse_args()
    found = pd.DataFrame([
        {"answers": how, "family": family, "studies": given.studies,
         "false_better": simulated(how, reference, given.studies)}
        for how in DRAWS
        for family, reference in (("16 arms with float", True), ("every pair of 17", False))])
    store.write_frame(given.out, found)
    print(to_markdown(found))


def to_markdown(found: pd.DataFrame) -> str:
    """One row a family, in percent."""
    lines = ['| answers | family | studies | at least one false "better" |', "|---|---|---:|---:|"]
    lines += [f"| {row['answers']} | {row['family']} | {row['studies']:,} "
              f"| {100 * row['false_better']:.1f} |" for row in found.to_dict("records")]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
