"""Wilson, Tango and contrast intervals against second implementations and properties."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.special import ndtri
from statsmodels.stats.proportion import proportion_confint

from qinspect.errors import DataError, SpecError
from qinspect.stats import (
    bootstrap_distribution,
    compare_paired,
    contrast_interval,
    tango_interval,
    wilson_interval,
)
from qinspect.stats.intervals import tango_statistic

tables = st.integers(1, 400).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, n)).flatmap(
        lambda nm: st.tuples(st.just(nm[0]), st.integers(0, nm[1])).map(
            lambda na: (na[0], na[1], nm[1] - na[1])
        )
    )
)


def paired(n, a_only, b_only):
    a, b = np.zeros(n, bool), np.zeros(n, bool)
    a[:a_only] = True
    b[a_only : a_only + b_only] = True
    return a, b


def score_by_maximisation(n, a_only, b_only, difference):
    """The score statistic with the restricted likelihood maximised numerically."""
    lowest, highest = max(0.0, -difference), (1 - difference) / 2

    def minus_log_likelihood(q):  # q: probability that only a is right
        cells = [
            (a_only, q),
            (b_only, q + difference),
            (n - a_only - b_only, 1 - 2 * q - difference),
        ]
        return -sum(count * np.log(max(p, 1e-300)) for count, p in cells if count)

    q = minimize_scalar(
        minus_log_likelihood, bounds=(lowest, highest), method="bounded", options={"xatol": 1e-13}
    ).x
    variance = n * (2 * q + difference - difference**2)
    return (b_only - a_only - n * difference) / np.sqrt(variance)


@pytest.mark.parametrize(
    ("n", "a_only", "b_only"),
    [(200, 4, 9), (200, 9, 4), (44, 1, 0), (100, 3, 3), (1000, 40, 80), (50, 10, 39), (30, 0, 6)],
)
def test_tango_equals_numerical_maximisation_and_root_finding(n, a_only, b_only):
    estimate = (b_only - a_only) / n
    z = ndtri(0.975)
    ends = (
        brentq(lambda d: score_by_maximisation(n, a_only, b_only, d) - z, -0.9999, estimate),
        brentq(lambda d: score_by_maximisation(n, a_only, b_only, d) + z, estimate, 0.9999),
    )
    assert tango_interval(n, a_only, b_only) == pytest.approx(ends, abs=2e-6)


def test_tango_statistic_at_zero_is_the_mcnemar_statistic():
    assert tango_statistic(500, 7, 20, 0.0) == pytest.approx(13 / np.sqrt(27), rel=1e-14)


@pytest.mark.parametrize("n", [1, 5, 200, 10_000, 10**6])
def test_tango_without_disagreement_has_its_closed_form(n):
    # (n d)^2 = z^2 n d (1 - d), solved for d.
    z2 = ndtri(0.975) ** 2
    low, high = tango_interval(n, 0, 0)
    assert high == pytest.approx(z2 / (n + z2), rel=1e-10)
    assert low == pytest.approx(-high, rel=1e-10)


def test_tango_when_the_models_always_disagree_is_wilson():
    # No example is alike, so the difference is 2 p - 1 of a single proportion p.
    low, high = tango_interval(30, 8, 22)
    expected = wilson_interval(22, 30)
    assert (low, high) == pytest.approx((2 * expected[0] - 1, 2 * expected[1] - 1), abs=1e-12)
    assert tango_interval(30, 0, 30) == pytest.approx((2 * wilson_interval(30, 30)[0] - 1, 1.0))


@settings(max_examples=60, deadline=None)
@given(tables, st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_tango_properties(table, confidence):
    n, a_only, b_only = table
    low, high = tango_interval(n, a_only, b_only, confidence)
    assert -1 <= low <= (b_only - a_only) / n <= high <= 1
    assert low < high
    mirrored = tango_interval(n, b_only, a_only, confidence)
    assert mirrored == pytest.approx((-high, -low), abs=1e-12)
    wider = tango_interval(n, a_only, b_only, 0.995)
    assert wider[0] <= low
    assert wider[1] >= high
    # The interval holds zero exactly when the score test does not reject.
    z = ndtri((1 + confidence) / 2)
    statistic = float(tango_statistic(n, a_only, b_only, 0.0))
    if abs(abs(statistic) - z) > 1e-6:
        assert (low <= 0 <= high) == (abs(statistic) <= z)


def test_tango_is_vectorised():
    a_only, b_only = np.array([0, 4, 9]), np.array([0, 9, 4])
    low, high = tango_interval(200, a_only, b_only)
    for i in range(3):
        assert (low[i], high[i]) == tango_interval(200, int(a_only[i]), int(b_only[i]))


@pytest.mark.parametrize("counts", [(0, 0, 0), (10, -1, 0), (10, 6, 5)])
def test_tango_refuses_impossible_counts(counts):
    with pytest.raises(SpecError, match="disagreements"):
        tango_interval(*counts)


@pytest.mark.parametrize("confidence", [0.5, 1.0, 95, float("nan")])
def test_levels_outside_the_range_are_refused(confidence):
    with pytest.raises(SpecError, match="confidence"):
        wilson_interval(3, 10, confidence)


def test_wilson_equals_statsmodels():
    for successes, n in [(0, 10), (10, 10), (3, 10), (917, 1000), (1, 1)]:
        expected = proportion_confint(successes, n, method="wilson")
        assert wilson_interval(successes, n) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(tables)
def test_contrast_of_two_models_is_tango(table):
    a, b = paired(*table)
    _, low, high = contrast_interval({"a": a, "b": b}, {"b": 1, "a": -1})
    expected = tango_interval(*table)
    assert (low, high) == pytest.approx((100 * expected[0], 100 * expected[1]), abs=1e-6)


def test_contrast_of_four_models_without_disagreement_has_width():
    same = np.ones(300, bool)
    signs = {"a": 1, "b": -1, "c": -1, "d": 1}
    estimate, low, high = contrast_interval(dict.fromkeys(signs, same), signs)
    z2 = ndtri(0.975) ** 2
    assert estimate == 0
    assert (low, high) == pytest.approx((-200 * z2 / (300 + z2), 200 * z2 / (300 + z2)))


def test_contrast_of_four_models_agrees_with_the_bootstrap_when_data_abound():
    rng = np.random.default_rng(5)
    correct = {name: rng.random(4000) < 0.9 for name in "abcd"}
    signs = {"a": 1, "b": -1, "c": -1, "d": 1}
    estimate, low, high = contrast_interval(correct, signs)
    values = sum(sign * correct[name].astype(float) for name, sign in signs.items())
    half = 196 * values.std() / np.sqrt(4000)
    assert estimate == pytest.approx(100 * values.mean())
    assert (low, high) == pytest.approx((estimate - half, estimate + half), abs=0.03)


def test_contrast_covers_at_small_counts():
    # Four models that are right together except on a few examples.
    rng = np.random.default_rng(11)
    signs = {"a": 1, "b": -1, "c": -1, "d": 1}
    held = bootstrapped = 0
    for _ in range(300):
        # a errs twice as often as the others.
        correct = {name: rng.random(200) > 0.0025 * (1 + (name == "a")) for name in signs}
        _, low, high = contrast_interval(correct, signs)
        held += low <= -0.25 <= high
        values = sum(sign * correct[name].astype(np.int8) for name, sign in signs.items())
        means = bootstrap_distribution(values, n_resamples=499, rng=rng)
        low, high = np.quantile(means, [0.025, 0.975])
        bootstrapped += low <= -0.0025 <= high
    # 95 % less three standard errors; the score interval errs on the wide side here.
    assert held / 300 > 0.91
    assert bootstrapped / 300 < 0.88


@settings(max_examples=30, deadline=None)
@given(tables, st.integers(0, 99))
def test_grouped_contrast_of_two_models_is_the_grouped_comparison(table, seed):
    a, b = paired(*table)
    groups = np.random.default_rng(seed).integers(0, 9, len(a))
    if len(np.unique(groups)) < 2:
        return
    found = contrast_interval({"a": a, "b": b}, {"b": 1, "a": -1}, groups=groups)
    c = compare_paired(a, b, groups=groups)
    assert found == pytest.approx((c.gap, *c.interval), abs=1e-6)


def test_contrast_over_groups_covers_where_examples_alone_do_not():
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(60), 20)
    signs = {"a": 1, "b": -1, "c": -1, "d": 1}
    held = alone = 0
    for _ in range(150):
        correct = {name: (rng.random(60) < 0.9)[groups] for name in signs}
        _, low, high = contrast_interval(correct, signs, groups=groups)
        held += low <= 0 <= high
        _, low, high = contrast_interval(correct, signs)
        alone += low <= 0 <= high
    assert held / 150 > 0.9
    assert alone / 150 < 0.5


def test_contrast_refuses_missing_models_and_unequal_lengths():
    with pytest.raises(DataError, match="needs qat"):
        contrast_interval({"a": [True]}, {"qat": 1})
    with pytest.raises(DataError, match="same examples"):
        contrast_interval({"a": [True], "b": [True, False]}, {"a": 1, "b": -1})


def test_contrast_maximises_the_restricted_likelihood():
    # Second implementation: the likelihood over a fine grid of three-level distributions.
    values = np.repeat([-2.0, 0.0, 1.0], [3, 40, 7])
    correct = {
        "a": values == 1,
        "b": values == -2,
        "c": values == -2,
        "d": np.zeros(50, bool),
    }
    signs = {"a": 1, "b": -1, "c": -1, "d": 1}
    estimate, low, high = contrast_interval(correct, signs)
    n, mean, z = 50, values.mean(), ndtri(0.975)
    assert estimate == pytest.approx(100 * mean)
    for end in (low / 100, high / 100):
        best = None
        grid = np.linspace(0, 0.5, 101)
        for p_low, p_high in itertools.product(grid, grid):  # p(-2), p(+2); p(1) follows
            p_one = end + 2 * p_low - 2 * p_high
            p_zero = 1 - p_low - p_high - p_one
            if min(p_one, p_zero) <= 0 or p_low == 0:
                continue
            log = 3 * np.log(p_low) + 40 * np.log(p_zero) + 7 * np.log(p_one)
            variance = 4 * p_low + p_one + 4 * p_high - end**2
            if best is None or log > best[0]:
                best = (log, variance)
        statistic = abs(mean - end) / np.sqrt(best[1] / n)
        assert statistic == pytest.approx(z, rel=0.02)
