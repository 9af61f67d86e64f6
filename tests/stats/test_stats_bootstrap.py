"""The bootstrap against SciPy, exact enumeration and theory."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qinspect.errors import DataError, SpecError
from qinspect.stats import bootstrap_difference, bootstrap_distribution, bootstrap_mean
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
        rng=np.random.default_rng(0),
    ).confidence_interval
    estimate, low, high = bootstrap_difference(a, b, method=method, n_resamples=9999, rng=1)
    assert estimate == pytest.approx(b.mean() - a.mean(), abs=1e-15)
    # The standard error of a 2.5 % quantile of 4,999 normal draws is 0.038 standard deviations;
    # one step of the grid of possible means comes on top.
    spread = np.sqrt(counts[1] + counts[2]) / counts[0]
    assert (low, high) == pytest.approx(tuple(reference), abs=0.15 * spread + 1 / counts[0])


def test_bca_of_a_skewed_score_equals_scipy():
    loss = np.random.default_rng(2).lognormal(0, 1.2, size=60)
    reference = stats.bootstrap(
        (loss,), np.mean, n_resamples=9999, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    _, low, high = bootstrap_mean(loss, method="bca", rng=1)
    assert (low, high) == pytest.approx(tuple(reference), rel=0.04)
    # and it is not the percentile interval
    assert high > 1.02 * bootstrap_mean(loss, rng=1)[2]


def test_no_disagreement_gives_no_nan_where_scipy_gives_nan():
    a, _ = correct_pair(100, 0, 0)
    with np.errstate(all="ignore"), pytest.warns(stats.DegenerateDataWarning):
        reference = stats.bootstrap(
            (a.astype(float) - a,), np.mean, method="BCa", n_resamples=99
        ).confidence_interval
    assert np.isnan(reference.low)
    assert bootstrap_difference(a, a, method="bca") == (0.0, 0.0, 0.0)


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


def test_strata_keep_their_sizes():
    """Between-class spread does not count when the classes are fixed."""
    label = np.repeat([0, 1], 500)
    score = label * 10.0 + np.random.default_rng(9).normal(size=1000)
    fixed = bootstrap_distribution(score, strata=label)
    within = np.sqrt(np.mean([score[label == k].var() for k in (0, 1)]) / 1000)
    assert fixed.std() == pytest.approx(within, rel=0.05)
    assert bootstrap_distribution(score).std() > 3 * fixed.std()


def test_weights_give_the_weighted_mean():
    score, weights = np.array([1.0, 2.0, 4.0]), np.array([2.0, 1.0, 1.0])
    estimate, low, high = bootstrap_mean(score, weights=weights, method="bca")
    assert estimate == 2.0
    assert low < 2.0 < high
    # Integer weights are not repeated examples: the spread is that of three examples.
    means = np.array(
        [
            np.average(score[list(r)], weights=weights[list(r)])
            for r in itertools.product(range(3), repeat=3)
        ]
    )
    draws = bootstrap_distribution(score, weights=weights, n_resamples=20_000)
    assert draws.mean() == pytest.approx(means.mean(), abs=0.02)
    assert draws.std() == pytest.approx(means.std(), rel=0.03)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(-2, 2), min_size=2, max_size=60),
    st.sampled_from(["percentile", "bca"]),
    st.integers(0, 1000),
)
def test_properties(values, method, seed):
    options = {"method": method, "n_resamples": 499, "rng": seed}
    estimate, low, high = bootstrap_mean(values, **options)
    assert estimate == pytest.approx(np.mean(values))
    assert min(values) <= low <= high <= max(values)
    assert (estimate, low, high) == bootstrap_mean(values, **options)
    shifted = bootstrap_mean(np.array(values) + 7.0, **options)
    assert shifted == pytest.approx((estimate + 7, low + 7, high + 7))


def test_swapping_the_models_negates_the_difference():
    a, b = correct_pair(1000, 30, 60)
    first = bootstrap_difference(a, b, rng=1)
    second = bootstrap_difference(b, a, rng=1)
    assert second[0] == -first[0]
    assert (-second[2], -second[1]) == pytest.approx(first[1:], abs=0.002)


def test_the_global_random_state_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    bootstrap_mean([1.0, 2.0, 3.0], rng=np.random.default_rng(1))
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
        bootstrap_mean(*arguments)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weights": [1.0, 0.0]}, "weights must be positive"),
        ({"weights": [1.0]}, "weights have shape"),
        ({"groups": [0, 0, 1]}, "groups have shape"),
        ({"groups": [0, 0], "strata": [0, 1]}, "two strata"),
    ],
)
def test_bad_designs_are_refused(options, words):
    with pytest.raises(DataError, match=words):
        bootstrap_mean([1.0, 2.0], **options)


def test_bad_options_are_refused():
    with pytest.raises(SpecError, match="resamples"):
        bootstrap_mean([1.0, 2.0], n_resamples=0)
    with pytest.raises(SpecError, match="unknown interval"):
        bootstrap_mean([1.0, 2.0], method="normal")
    with pytest.raises(DataError, match="equal length"):
        bootstrap_difference([1.0], [1.0, 2.0])
