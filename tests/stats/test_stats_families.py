"""Families, margins and gates, by exact enumeration and simulation."""

from functools import cache
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binom, norm

from qinspect import results
from qinspect.errors import SpecError
from qinspect.metrics import METRICS
from qinspect.stats import (
    compare_paired,
    compare_seeds,
    equivalence_test,
    mcnemar_midp,
    tango_interval,
)
from qinspect.stats.exact import binomial_cdf
from qinspect.stats.intervals import margin_tests


def rejecting(alpha, most):
    """Chance that either gate, exact or mid-p, rejects given m disagreements of equal models."""
    found = np.zeros((2, most + 1))
    for m in range(1, most + 1):
        # Of so many wins of the worse one or fewer; half of all is never far.
        fewer = np.arange((m - 1) // 2 + 1)
        upto, below = binomial_cdf(fewer, m, 0.5), binomial_cdf(fewer - 1, m, 0.5)
        outside = (m - 2 * fewer) / np.sqrt(m) > norm.isf(alpha / 2)
        for row, p in enumerate((2 * upto, upto + below)):
            far = np.flatnonzero((p <= alpha) & outside)
            found[row, m] = 2 * upto[far[-1]] if far.size else 0
    return found


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_type_one_error_of_the_gate_on_the_whole_grid(alpha):
    """Exactly enumerated: two equal models, n from 5 to 5,000, disagreement from 0.2 to 100 %."""
    worst, (exact, mid) = 0.0, rejecting(alpha, 800)
    for n in (*range(5, 60), 75, 100, 150, 200, 300, 449, 750, 1000, 2000, 5000):
        m = np.arange(min(n, 800) + 1)
        given = np.where(2 * m > n, exact[m], mid[m])
        share = np.unique([*np.geomspace(0.002, 1, 40), *np.linspace(0.02, 1, 30)])
        share = share[(n * share < 600) | (n <= 800)][:, None]
        worst = max(worst, float((binom.pmf(m, n, share) @ given).max()))
    assert worst <= 1.001 * alpha


def test_the_gate_that_is_enumerated_is_the_one_that_decides():
    rng = np.random.default_rng(0)
    for _ in range(40):
        n = int(rng.integers(5, 200))
        a_only, b_only = (int(v) for v in rng.multinomial(n, [0.06, 0.12, 0.82])[:2])
        a, b = np.zeros((2, n), bool)
        a[:a_only], b[a_only:a_only + b_only] = True, True
        c = compare_paired(a, b)
        low, high = tango_interval(n, a_only, b_only)
        total = a_only + b_only
        p = c.mcnemar_p if 2 * total > n else mcnemar_midp(a_only, b_only)
        assert c.significant == (p <= 0.05 and (low > 0 or high < 0))


@cache
def _not_worse(n, a_only, b_only, margin):
    return margin_tests(n, a_only, b_only, 100 * margin)[0] <= 0.05


@pytest.mark.parametrize("n", [268, 299, 450])
def test_margin_reached_is_called_missed_in_at_most_5_5_percent(n):
    """Exactly enumerated, with the true difference at the margin: few and more disagreements."""
    margin = 0.01
    for wins in (0, 0.003, 0.01):
        b = np.arange(int(binom.ppf(1 - 1e-6, n, wins)) + 1)
        a = np.arange(int(binom.ppf(1 - 1e-6, n, wins + margin)) + 1)
        wrong = 0.0
        for b_only, chance in zip(b, binom.pmf(b, n, wins), strict=True):
            likely = chance * binom.pmf(a, n - b_only, (wins + margin) / (1 - wins))
            wrong += sum(float(p) for a_only, p in zip(a, likely, strict=True)
                         if p > 1e-7 and _not_worse(n, int(a_only), int(b_only), margin))
        assert wrong <= 0.055


def test_nothing_disagrees_is_the_rule_of_three():
    for n in (50, 298, 299):
        assert margin_tests(n, 0, 0, 1.0) == pytest.approx((0.99**n, 0.99**n), rel=1e-9)
    right = np.ones(299)
    assert compare_paired(right, right).verdict == "equivalent"
    assert compare_paired(right[1:], right[1:]).verdict == "no_gap_seen"


def arms(rng, k=16, n=1000, share=0.9):
    return {name: rng.random(n) < share for name in ("float", *(f"m{i}" for i in range(k)))}


def test_sixteen_null_arms_give_a_false_better_in_at_most_5_percent_of_studies():
    """2,000 simulated studies by the rule, which is that of ``compare`` in the first of them."""
    rng, k = np.random.default_rng(5), 16
    right = rng.random((2000, k + 1, 1000)) < 0.9
    a_only = (right[:, :1] & ~right[:, 1:]).sum(axis=2)
    b_only = (right[:, 1:] & ~right[:, :1]).sum(axis=2)
    least = 2 * binomial_cdf(np.minimum(a_only, b_only), a_only + b_only, 0.5).min(axis=1)
    low, high = tango_interval(1000, a_only, b_only, 1 - 0.05 / k)
    beyond = (low > 0) | (high < 0)
    assert np.mean(least <= 0.05 / k) <= 0.05
    assert np.mean(beyond.any(axis=1)) <= 0.05 + 0.005
    for study, found in enumerate(right[:4]):
        family = results(dict(zip(("float", *map(str, range(k))), found, strict=True))).compare(
            reference="float")
        assert any(c.significant for c in family) == (least[study] <= 0.05 / k)
        assert [c.interval_simultaneous for c in family] == [
            pytest.approx((100 * one, 100 * other))
            for one, other in zip(low[study], high[study], strict=True)]


def test_simultaneous_intervals_are_those_of_the_stricter_level():
    found = results(arms(np.random.default_rng(1), k=4))
    family = found.compare(reference="float")
    assert {(c.a, c.family) for c in family} == {("float", 4)}
    for c in family:
        strict = compare_paired(found.scores(c.a), found.scores(c.b), confidence=1 - 0.05 / 4)
        assert c.interval_simultaneous == strict.interval
        assert c.detectable_adjusted == strict.detectable
        assert c.interval == found.comparison(c.a, c.b).interval
        if c.verdict == "no_gap_seen":
            assert "95 % interval of this pair alone" in c.sentence
            assert (f"from {c.metric.between(c.a, c.b, c.possible)} is possible (simultaneous for "
                    "4 comparisons; margin 1 point)" in c.sentence)
            assert f"{c.detectable_adjusted:.2f} points would be found" in c.sentence
    alone = found.compare([("float", "m0")]).comparisons[0]
    assert alone.interval_simultaneous is alone.detectable_adjusted is None


def test_families_of_sets_and_of_scores_have_simultaneous_intervals_too():
    rng = np.random.default_rng(2)
    y = np.arange(200) % 2
    made = {name: np.clip(y * 0.2 + rng.normal(0.4, 0.2, 200), 0, 1)
            for name in ("float", *"abcdef")}
    for metric in ("auc", "mae"):
        for c in results(made, y.astype(float) if metric == "mae" else y,
                         metric=metric).compare(reference="float"):
            assert c.interval_simultaneous[0] < c.interval[0]
            assert c.interval_simultaneous[1] > c.interval[1]
            assert c.detectable_adjusted > c.detectable


def pair(n, a_only, b_only, wrong=0):
    a, b = np.ones((2, n), bool)
    a[:b_only], b[b_only:b_only + a_only] = False, False
    a[n - wrong:], b[n - wrong:] = False, False
    return {"float": a, "ptq": b}


def test_relative_margin_is_of_the_errors_of_the_reference():
    """10 errors against 15 of 2,000 are equivalent within a point, not within 10 % of 10."""
    made = pair(2000, 7, 2, wrong=8)
    assert results(made).compare().comparisons[0].verdict == "equivalent"
    c = results(made, margin_relative=0.1).compare().comparisons[0]
    assert c.margin == pytest.approx(0.05)
    assert c.verdict == "no_gap_seen"
    assert "margin 0.05 points" in c.sentence
    other = results(made, margin_relative=0.1).compare(reference="ptq").comparisons[0]
    assert other.margin == pytest.approx(0.075)
    y = np.arange(1.0, 101)
    shifted = results({"a": y + 2, "b": y + 2.01}, y, metric=METRICS["mae"], margin_relative=0.1)
    assert shifted.limit == pytest.approx(0.2)


def test_relative_margins_that_mean_nothing_are_refused():
    with pytest.raises(SpecError, match="relative margin would be 0; give one in the unit"):
        results(pair(100, 3, 0), margin_relative=0.1).compare()
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(SpecError, match="must be a share above 0"):
            results(pair(100, 3, 2), margin_relative=wrong)
    with pytest.raises(SpecError, match="two margins"):
        results(pair(100, 3, 2), margin_relative=0.1, margin=1)


def test_non_inferiority_asks_for_one_side_alone():
    made = pair(400, 3, 8)
    assert results(made).compare().comparisons[0].verdict == "no_gap_seen"
    c = results(made, non_inferior=True).compare().comparisons[0]
    assert c.verdict == "not_worse"
    assert c.sentence.startswith("ptq is not worse than float by more than 1 point (one-sided")
    assert c.not_worse_p == margin_tests(400, 3, 8, 1.0)[0] < 0.05 < c.equivalence_p
    back = results(dict(reversed(made.items())), non_inferior=True).compare().comparisons[0]
    assert back.verdict == "no_gap_seen"
    worse = results(pair(20_000, 90, 30), non_inferior=True).compare().comparisons[0]
    assert worse.verdict == "a_better"
    assert "ptq is worse by less than the margin of 1 point" in worse.sentence


def test_less_is_better_is_not_worse_by_its_own_direction():
    y = np.zeros(300)
    rng = np.random.default_rng(0)
    a = rng.normal(0, 1, 300)
    found = results({"a": a, "b": 0.8 * a}, y, metric="mae", margin=0.05, non_inferior=True)
    assert found.comparison("a", "b").not_worse_p < 1e-6
    assert found.comparison("b", "a").not_worse_p > 0.99


def test_arms_that_differ_by_the_margin_are_seldom_called_equivalent_in_a_family():
    """One pair by itself errs in up to 5 %; of six at least one must not in more."""
    rng, studies, wrong, alone = np.random.default_rng(2), 40, 0, 0
    for _ in range(studies):
        right = np.repeat(rng.random((1, 1500)) < 0.95, 7, axis=0)
        # On a part of the examples the others are worse, by the margin over all.
        right[1:, :300] = rng.random((6, 300)) < 0.90
        found = results(dict(zip("abcdefg", right, strict=True)))
        family = found.compare(reference="a")
        wrong += any(c.equivalent for c in family)
        alone += any(equivalence_test(1500, c.a_only, c.b_only, 1.0) <= 0.05 for c in family)
    assert wrong < alone
    assert wrong / studies <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / studies)


def test_ways_of_training_in_a_family_are_seldom_told_apart_where_none_differs():
    """Null simulation of Gaussian seeds: any false verdict among six pairs of four ways."""
    rng, studies, wrong, alone = np.random.default_rng(3), 200, 0, 0
    for _ in range(studies):
        share = 0.85 + 0.03 * rng.normal(size=(4, 5, 1))
        right = rng.random((4, 5, 200)) < share
        family = [compare_seeds(a, b, family=6, n_resamples=2)
                  for a, b in combinations(right, 2)]
        wrong += any(c.verdict != "no_gap_seen" for c in family)
        alone += any(c.interval[0] > 0 or c.interval[1] < 0 for c in family)
    assert wrong < alone
    assert wrong / studies <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / studies)
    family = results(dict(zip("abcd", right, strict=True)), runs=range(5)).compare_runs("a")
    for c in family.comparisons:
        strict = results({c.a: right[0], c.b: right["abcd".index(c.b)]}, runs=range(5),
                         confidence=1 - 0.05 / 3, margin=1.0).over_runs(c.a, c.b)
        assert c.interval_simultaneous == pytest.approx(strict.interval)
        assert (f"simultaneous for 3 comparisons from {c.metric.between(c.a, c.b, c.possible)}"
                in c.sentence)
