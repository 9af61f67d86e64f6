"""Seeds and examples as two levels of chance, by simulation and enumeration."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from qinspect.errors import DataError
from qinspect.stats import (
    compare_seeds,
    crossed_bootstrap,
    crossed_interval,
    mean_interval,
    variance_components,
    wilson_interval,
)


def table(rng, seeds, n, sd_seed, sd_example, sd_residual):
    return (
        sd_seed * rng.standard_normal((seeds, 1))
        + sd_example * rng.standard_normal((1, n))
        + sd_residual * rng.standard_normal((seeds, n))
    )


@pytest.mark.parametrize("truth", [(0.3, 0.5, 1.0), (0.0, 0.5, 1.0), (0.5, 0.0, 0.2)])
def test_variance_components_are_unbiased(truth):
    rng = np.random.default_rng(0)
    estimates = pd.DataFrame([variance_components(table(rng, 5, 40, *truth)) for _ in range(1500)])
    error = estimates.std() / np.sqrt(len(estimates))
    for name, sd in zip(("seed", "example", "residual"), truth, strict=True):
        assert abs(estimates[name].mean() - sd**2) < 4 * error[name] + 1e-12
    if truth[0] == 0:
        assert (estimates["seed"] < 0).any()  # not cut off at zero, or it would be biased


def test_variance_components_of_a_table_by_hand():
    # Only rows differ: two seeds at 0 and 1, no residual. Var of rows is 1/2.
    rows = np.array([[0.0, 0, 0], [1, 1, 1]])
    assert variance_components(rows) == pytest.approx({"seed": 0.5, "example": 0, "residual": 0})
    assert variance_components(rows.T) == pytest.approx({"seed": 0, "example": 0.5, "residual": 0})


def test_crossed_bootstrap_equals_enumeration():
    difference = np.array([[1.0, 0, 0], [0, -1, 0]])
    means = [
        difference[np.ix_(s, e)].mean()
        for s in itertools.product(range(2), repeat=2)
        for e in itertools.product(range(3), repeat=3)
    ]
    draws = crossed_bootstrap(difference, n_resamples=60_000, rng=1)
    for level in np.unique(np.round(means, 9)):
        share = np.mean(np.isclose(means, level))
        assert np.mean(np.isclose(draws, level)) == pytest.approx(share, abs=0.009)
    assert np.isclose(draws[:, None], np.unique(means)).any(axis=1).all()


@pytest.mark.parametrize("truth", [(3, 0.05, 0.1, 0.3), (8, 0.05, 0.1, 0.3), (4, 0.0, 0.2, 0.3)])
def test_interval_covers_new_seeds_and_examples(truth):
    seeds, *spread = truth
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(600):
        low, high = crossed_interval(table(rng, seeds, 100, *spread), 0.95)
        held += low <= 0 <= high
    # 95 % less three standard errors of 600 trials; it may be wider with few seeds.
    assert held / 600 > 0.923


def test_crossed_bootstrap_is_too_narrow_with_few_seeds_and_wide_without_seed_effect():
    """Why the t interval is the one to report."""
    rng = np.random.default_rng(5)
    student = crossed = 0
    for _ in range(250):
        difference = table(rng, 5, 150, 0.1, 0.1, 0.3)
        low, high = crossed_interval(difference, 0.95)
        student += low <= 0 <= high
        draws = crossed_bootstrap(difference, n_resamples=199, rng=rng)
        crossed += np.quantile(draws, 0.025) <= 0 <= np.quantile(draws, 0.975)
    assert student / 250 > 0.91
    assert crossed / 250 < 0.91
    noise = table(rng, 20, 400, 0, 0, 0.3)
    low, high = crossed_interval(noise, 0.95)
    ends = np.quantile(crossed_bootstrap(noise, n_resamples=1999, rng=rng), [0.025, 0.975])
    assert np.ptp(ends) > 1.3 * (high - low)


def test_one_pair_of_seeds_differs_the_sign_changes():
    rng = np.random.default_rng(2)
    a = rng.random((6, 500)) < 0.8
    b = a.copy()
    b[:4, :10] = True
    b[4] = a[4]
    b[5, :200] = False
    c = compare_seeds(a, b, a="qat", b="ptq", n_resamples=299)
    assert (c.b_wins, c.ties, c.a_wins) == (4, 1, 1)
    assert c.b_wins_share == pytest.approx(4 / 6)
    assert c.b_wins_ci == wilson_interval(4, 6)
    assert c.gap == pytest.approx(np.mean(c.per_seed))
    assert "ptq was ahead with 4 of 6 seeds and level with 1" in c.sentence
    json.dumps(c.to_json(), allow_nan=False)


def test_swapping_and_reordering():
    rng = np.random.default_rng(3)
    a, b = rng.random((4, 80)) < 0.8, rng.random((4, 80)) < 0.85
    one = compare_seeds(a, b, n_resamples=99)
    two = compare_seeds(b[::-1], a[::-1], n_resamples=99)
    assert one.gap == pytest.approx(-two.gap)
    assert one.interval == pytest.approx((-two.interval[1], -two.interval[0]))
    assert (one.b_wins, one.a_wins) == (two.a_wins, two.b_wins)
    assert one.sign_p == two.sign_p


def test_seed_noise_widens_the_interval_beyond_one_test_set():
    """Each seed moves accuracy by whole points: more examples do not help, more seeds do."""
    rng = np.random.default_rng(4)
    level = rng.normal(0.8, 0.05, size=(8, 1))
    a = rng.random((8, 5000)) < 0.8
    b = rng.random((8, 5000)) < level
    c = compare_seeds(a, b, n_resamples=299)
    assert c.seed_sd == pytest.approx(100 * (level - 0.8).std(ddof=1), rel=0.3)
    assert c.interval[1] - c.interval[0] > 2 * 196 * 0.05 / np.sqrt(8) * 0.6


def test_no_difference_anywhere_is_bounded_not_zero_width():
    a = np.ones((3, 200), bool)
    c = compare_seeds(a, a, n_resamples=99)
    assert c.interval[0] < 0 < c.interval[1]
    assert (c.ties, c.sign_p) == (3, 1.0)


def test_groups_of_one_change_nothing_but_the_words():
    rng = np.random.default_rng(6)
    a, b = rng.random((4, 90)) < 0.8, rng.random((4, 90)) < 0.85
    plain, one = compare_seeds(a, b), compare_seeds(a, b, groups=np.arange(90))
    assert one.interval == pytest.approx(plain.interval)
    assert one.variance_example == pytest.approx(plain.variance_example)
    assert (one.groups, one.n) == (90, 90)
    assert "90 examples in 90 groups" in one.sentence


def test_identical_examples_of_a_group_count_once():
    rng = np.random.default_rng(7)
    a, b = rng.random((5, 80)) < 0.8, rng.random((5, 80)) < 0.85
    plain = compare_seeds(a, b)
    many = compare_seeds(*(np.repeat(x, 6, axis=1) for x in (a, b)), groups=np.repeat(range(80), 6))
    assert many.gap == pytest.approx(plain.gap)
    assert many.interval == pytest.approx(plain.interval)
    assert many.per_seed == pytest.approx(plain.per_seed)


def test_interval_over_groups_of_unequal_size_covers():
    """Whole groups shift together: examples alone would be far too sure."""
    rng = np.random.default_rng(8)
    sizes = rng.integers(1, 40, 60)
    groups = np.repeat(np.arange(60), sizes)
    held = alone = 0
    for _ in range(120):
        shift = rng.choice([-0.5, 0, 0.5], size=60)[groups]
        a = rng.random((4, len(groups))) < 0.7 - shift / 2
        b = rng.random((4, len(groups))) < 0.7 + shift / 2
        low, high = compare_seeds(a, b, groups=groups, n_resamples=2).interval
        held += low <= 0 <= high
        low, high = compare_seeds(a, b, n_resamples=2).interval
        alone += low <= 0 <= high
    assert held / 120 > 0.88
    assert alone / 120 < 0.7


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), "one shape"),
        (np.ones((1, 3)), np.ones((1, 3)), "at least 2"),
        (np.ones(3), np.ones(3), "one shape"),
        (np.full((2, 3), np.nan), np.ones((2, 3)), "6 scores are NaN"),
        (np.full((2, 3), "x"), np.full((2, 3), "y"), "must be numbers"),
    ],
)
def test_bad_tables_are_refused(a, b, words):
    with pytest.raises(DataError, match=words):
        compare_seeds(a, b)


@pytest.mark.parametrize("n", [2, 5, 20])
def test_interval_of_a_mean_is_that_of_scipy(n):
    values = np.random.default_rng(n).normal(1, 2, n)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert np.allclose(mean_interval(values, 0.9), expected)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, np.nan]])
def test_a_mean_of_too_little_has_no_interval(values):
    with pytest.raises(DataError, match="two values or more"):
        mean_interval(values)


@pytest.mark.parametrize("alike", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("seeds", [2, 5, 20])
def test_ways_a_margin_apart_are_seldom_equivalent(seeds, alike):
    """Where runs differ on the same examples or on others, also where few examples differ."""
    rng, studies = np.random.default_rng(seeds), 150
    for n in (300, 450, 1500):
        wrong = 0
        for _ in range(studies):
            chance = np.where(rng.random(n) < alike, rng.random(n), rng.random((seeds, n)))
            found = compare_seeds(np.zeros((seeds, n), bool), chance < 0.01, n_resamples=10)
            wrong += found.verdict == "equivalent"
        assert stats.binom.sf(wrong - 1, studies, 0.05) > 1e-3


def test_ways_of_training_are_equivalent_within_the_margin():
    rng = np.random.default_rng(0)
    right = rng.random((5, 900)) < 0.9
    other = right ^ (rng.random((5, 900)) < 0.002)
    found = compare_seeds(right, other, n_resamples=10)
    assert found.verdict == found.to_json()["verdict"] == "equivalent"
    assert max(np.abs(found.interval)) < found.reach < found.margin == 1
    assert "equivalent within 1 point" in found.sentence
    assert found.next == ()
    assert compare_seeds(right, other, n_resamples=10, margin=0.2).verdict == "no_gap_seen"
    assert compare_seeds(right, right, n_resamples=10).verdict == "equivalent"
    few = compare_seeds(right[:, :200], right[:, :200], n_resamples=10)
    assert few.verdict == "no_gap_seen"
    assert few.reach > few.margin
