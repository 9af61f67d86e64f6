"""The bootstrap against SciPy, exact enumeration and theory."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qinspect.errors import DataError, SpecError
from qinspect.stats import bootstrap_distribution, compare_paired
from qinspect.stats.bootstrap import bootstrap_intervals, units_of
from qinspect_bench.coverage import exact_bootstrap


def correct_pair(n, a_only, b_only, seed=0):
    values = np.zeros((2, n), bool)
    values[:, a_only + b_only : a_only + b_only + n // 2] = True
    values[0, :a_only] = True
    values[1, a_only : a_only + b_only] = True
    return values[:, np.random.default_rng(seed).permutation(n)]


@pytest.mark.parametrize("values", [[0, 0, 1, 1, 1], [-1, 0, 0, 1], [0.3, 1.7, 2.9, 11.0]])
def test_distribution_equals_enumeration_of_all_resamples(values):
    """Small samples: every resample is equally likely, so the means can be listed."""
    n = len(values)
    means = np.array([np.mean(r) for r in itertools.product(values, repeat=n)]).round(10)
    levels, counts = np.unique(means, return_counts=True)
    draws = bootstrap_distribution(values, n_resamples=40_000, rng=1).round(10)
    assert set(np.unique(draws)) <= set(levels)
    observed = np.array([np.count_nonzero(draws == level) for level in levels])
    expected = counts / counts.sum() * 40_000
    large = expected >= 5
    chi2 = np.sum((observed[large] - expected[large]) ** 2 / expected[large])
    assert stats.chi2.sf(chi2, large.sum() - 1) > 1e-4


def test_ideal_bootstrap_by_fourier_transform_equals_enumeration():
    """n = 6 with two wins and one loss: 6^6 resamples."""
    values = [1, 1, -1, 0, 0, 0]
    sums = np.array([sum(r) for r in itertools.product(values, repeat=6)])
    offset, probability = exact_bootstrap(6, np.array([1]), np.array([2]))
    for total in range(-6, 7):
        p = probability[0][offset == total - 1].sum()
        assert p == pytest.approx(np.mean(sums == total), abs=1e-12)


@pytest.mark.parametrize("counts", [(2000, 30, 60), (300, 4, 19)])
@pytest.mark.parametrize(("method", "scipy_name"), [("percentile", "percentile"), ("bca", "BCa")])
def test_intervals_equal_scipy_within_monte_carlo_error(counts, method, scipy_name):
    a, b = correct_pair(*counts)
    reference = stats.bootstrap(
        (a.astype(float), b.astype(float)),
        lambda x, y, axis: np.mean(y - x, axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=4999,
        method=scipy_name,
        batch=200,
        random_state=np.random.default_rng(0),
    ).confidence_interval
    found = compare_paired(a, b, seed=1).intervals[method]
    low, high = (end / 100 for end in found)
    # The standard error of a 2.5 % quantile of 4,999 normal draws is 0.038 standard deviations;
    # one step of the grid of possible means comes on top.
    spread = np.sqrt(counts[1] + counts[2]) / counts[0]
    assert (low, high) == pytest.approx(tuple(reference), abs=0.15 * spread + 1 / counts[0])


def test_bca_of_a_skewed_score_equals_scipy():
    loss = np.random.default_rng(2).lognormal(0, 1.2, size=60)
    reference = stats.bootstrap(
        (loss,), np.mean, n_resamples=9999, method="BCa",
        random_state=np.random.default_rng(0)
    ).confidence_interval
    found = bootstrap_intervals(units_of(loss), confidence=0.95, rng=1)
    assert found["bca"] == pytest.approx(tuple(reference), rel=0.04)
    assert found["bca"][1] > 1.02 * found["percentile"][1]


def test_sufficient_statistics_and_direct_resampling_agree():
    """The same 0/1/2 values, once recognised as three levels and once blurred into many."""
    rng = np.random.default_rng(6)
    few = rng.integers(0, 3, size=2000).astype(float)
    many = few + rng.normal(0, 1e-7, size=2000)
    first = bootstrap_distribution(few, n_resamples=4000, rng=1)
    second = bootstrap_distribution(many, n_resamples=4000, rng=2)
    assert stats.ks_2samp(first, second).pvalue > 1e-3


def test_groups_are_resampled_whole():
    """Identical frames of 40 videos carry the information of 40 examples, not of 4,000."""
    rng = np.random.default_rng(7)
    video = rng.normal(size=40)
    score, groups = np.repeat(video, 100), np.repeat(np.arange(40), 100)
    clustered = bootstrap_distribution(score, groups=groups, rng=1)
    assert clustered.std() == pytest.approx(video.std() / np.sqrt(40), rel=0.05)
    assert bootstrap_distribution(score, rng=1).std() < 0.2 * clustered.std()
    # With groups of one the groups do nothing.
    alone = bootstrap_distribution(score, groups=np.arange(4000), n_resamples=500, rng=1)
    assert alone.std() == pytest.approx(score.std() / np.sqrt(4000), rel=0.15)


def test_groups_of_unequal_size_give_the_linearised_standard_error():
    rng = np.random.default_rng(8)
    sizes = rng.integers(1, 30, size=200)
    groups = np.repeat(np.arange(200), sizes)
    score = rng.normal(size=200)[groups] + rng.normal(size=len(groups))
    mean = score.mean()
    residual = np.bincount(groups, score - mean)
    expected = np.sqrt(np.sum(residual**2)) / len(groups)
    assert bootstrap_distribution(score, groups=groups).std() == pytest.approx(expected, rel=0.06)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-2, 2), min_size=2, max_size=60), st.integers(0, 1000))
def test_properties(values, seed):
    means = bootstrap_distribution(values, n_resamples=499, rng=seed)
    assert min(values) <= means.min() <= means.max() <= max(values)
    assert np.array_equal(means, bootstrap_distribution(values, n_resamples=499, rng=seed))
    shifted = bootstrap_distribution(np.array(values) + 7.0, n_resamples=499, rng=seed)
    assert shifted == pytest.approx(means + 7)
    for low, high in bootstrap_intervals(units_of(values), confidence=0.9, rng=seed).values():
        assert np.isnan(low) == (len(set(values)) == 1)
        assert np.isnan(low) or min(values) <= low <= high <= max(values)


def test_swapping_the_models_negates_the_intervals():
    a, b = correct_pair(1000, 30, 60)
    first, second = compare_paired(a, b).intervals, compare_paired(b, a).intervals
    for name in ("percentile", "bca", "tango"):
        low, high = second[name]
        assert (-high, -low) == pytest.approx(first[name], abs=0.2)


def test_grouped_intervals_resample_whole_groups():
    a, b = correct_pair(400, 20, 40)
    groups = np.repeat(np.arange(400), 5)
    plain = compare_paired(a, b).intervals
    many = compare_paired(np.repeat(a, 5), np.repeat(b, 5), groups=groups).intervals
    for name in ("percentile", "bca"):
        assert many[name] == pytest.approx(plain[name], abs=0.35)


def test_the_global_random_state_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    bootstrap_distribution([1.0, 2.0, 3.0], rng=np.random.default_rng(1))
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([],), "at least one example"),
        (([[1, 2]],), "one array"),
        (([1.0, np.nan],), "1 of 2 scores are NaN"),
        ((["a"],), "must be numbers"),
    ],
)
def test_bad_values_are_refused(arguments, words):
    with pytest.raises(DataError, match=words):
        bootstrap_distribution(*arguments)


def test_bad_options_are_refused():
    with pytest.raises(DataError, match="groups have shape"):
        bootstrap_distribution([1.0, 2.0], groups=[0, 0, 1])
    with pytest.raises(SpecError, match="resamples"):
        bootstrap_distribution([1.0, 2.0], n_resamples=0)
