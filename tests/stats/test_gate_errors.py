"""How often a gate errs: exactly where counts can be enumerated, else over simulated pairs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multinomial

from qinspect.gating import CODES, gate
from qinspect.predictions import results
from qinspect.stats import compare_paired
from qinspect.stats.planning import not_worse_step
from qinspect.verdicts import GATE, gate_verdict

PAIRS = 1_000
# Three standard errors of a share of 5 % among so many pairs.
NOISE = 3 * np.sqrt(0.05 * 0.95 / PAIRS)


def decision(n: int, lost: int, won: int, margin: float) -> str:
    old, new = np.ones(n, bool), np.ones(n, bool)
    new[:lost], old[lost:lost + won] = False, False
    found = compare_paired(old, new, margin=margin, non_inferior=True)
    return gate_verdict(found.verdict, found.not_worse_p, 0.05)


def chances(n: int, lost: float, won: float, margin: float) -> dict[str, float]:
    """Exact probability of each decision: every pair of counts that is not too unlikely."""
    counts = np.arange(n // 4)
    a, b = (grid.ravel() for grid in np.meshgrid(counts, counts))
    likely = multinomial.pmf(np.stack([a, b, n - a - b], axis=1), n, [lost, won, 1 - lost - won])
    found = dict.fromkeys(GATE, 0.0)
    for lost_, won_, p in zip(a, b, likely, strict=True):
        if p > 1e-6:
            found[decision(n, int(lost_), int(won_), margin)] += p
    return found


@pytest.mark.parametrize(("n", "margin", "disagreement"), [(120, 5.0, 0.08), (200, 3.0, 0.06)])
def test_exact_error_rates(n: int, margin: float, disagreement: float) -> None:
    share = margin / 100
    at_margin = chances(n, (disagreement + share) / 2, (disagreement - share) / 2, margin)
    assert at_margin["not_worse"] <= 0.05 + 1e-4
    equal = chances(n, disagreement / 2, disagreement / 2, margin)
    assert equal["worse"] <= 0.05
    # Nor is a pass denied to what is better, or a loss of twice the margin passed.
    worse = chances(n, (disagreement + 2 * share) / 2, max(0, disagreement / 2 - share), margin)
    assert worse["not_worse"] < 0.005


def drawn(kind: str, loss: float, rng: np.random.Generator) -> tuple[dict, dict]:
    """Outputs of a pair whose true loss is ``loss``, and what belongs to them."""
    if kind == "mae":
        y = rng.normal(size=150)
        old = y + 1 + np.abs(rng.normal(size=150))
        # Errors of the new model are larger by the loss on average.
        error = np.abs(old - y) + loss + rng.normal(0, 0.2, size=150)
        return {"old": old, "new": y + error}, {"y": y, "metric": "mae"}
    n, share = 600, loss / 100
    if kind == "groups":  # ten frames each, that are lost and won together
        move = np.repeat(rng.choice([-1, 0, 1], n // 10, p=[
            0.05 + share / 2, 0.9, 0.05 - share / 2]), 10)
        groups = {"groups": np.repeat(np.arange(n // 10), 10)}
    else:
        move = rng.choice([-1, 0, 1], n, p=[0.05 + share / 2, 0.9, 0.05 - share / 2])
        groups = {}
    y = np.ones(n, int)
    return {"old": np.where(move > 0, 0, y), "new": np.where(move < 0, 0, y)}, {"y": y, **groups}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "margin"), [("accuracy", 3.0), ("groups", 6.0), ("mae", 0.05)])
def test_of_a_thousand_pairs_few_are_judged_wrongly(kind: str, margin: float) -> None:
    rng = np.random.default_rng(1)
    codes = {loss: [gate("old", "new", predictions=results(outputs, **rest), margin=margin).code
                    for outputs, rest in (drawn(kind, loss, rng) for _ in range(PAIRS))]
             for loss in (margin, 0.0)}
    passed = np.mean(np.equal(codes[margin], CODES["not_worse"]))
    worse = np.mean(np.equal(codes[0.0], CODES["worse"]))
    print(f"{kind}: at the margin {passed:.1%} pass, of equal ones {worse:.1%} are called worse")
    assert max(passed, worse) <= 0.05 + NOISE


@pytest.mark.slow
def test_a_family_of_pairs_errs_no_more_often() -> None:
    rng = np.random.default_rng(2)
    wrong = []
    for _ in range(300):
        outputs = {}
        for pair in range(4):
            found, rest = drawn("accuracy", 0.0, rng)
            outputs |= {f"old{pair}": found["old"], f"new{pair}": found["new"]}
        pairs = [(f"old{pair}", f"new{pair}") for pair in range(4)]
        wrong.append("worse" in gate(pairs=pairs, predictions=results(outputs, **rest),
                                     margin=3).verdicts)
    assert np.mean(wrong) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize(("n", "margin", "disagreement"), [(100, 4.0, 0.06), (150, 5.0, 0.1)])
def test_the_examples_asked_for_tell_in_four_of_five_cases(
        n: int, margin: float, disagreement: float) -> None:
    step = not_worse_step(n, margin, 0.0, 1.0, disagreement=disagreement)
    assert step is not None
    found = chances(n + step.more, disagreement / 2, disagreement / 2, margin)
    assert 0.75 < found["not_worse"] < 0.86


def test_what_is_seen_beyond_the_margin_needs_no_more_examples() -> None:
    assert not_worse_step(300, 1.0, -1.5, 0.8, disagreement=0.03) is not None  # if equally good
    assert not_worse_step(10**6, 1.0, -1.5, 0.01, disagreement=0.03) is None
