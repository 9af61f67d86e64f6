"""Exact tests against enumeration and statsmodels."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from statsmodels.stats.contingency_tables import mcnemar

from qinspect.errors import DataError, SpecError
from qinspect.stats import mcnemar_exact, mcnemar_midp, sign_flip_test


def test_exact_equals_statsmodels_on_random_tables():
    rng = np.random.default_rng(0)
    for _ in range(1000):
        a_only, b_only = (int(v) for v in rng.integers(0, rng.integers(2, 500), size=2))
        expected = mcnemar([[5, a_only], [b_only, 5]], exact=True).pvalue
        if a_only + b_only == 0:
            expected = 1.0
        assert mcnemar_exact(a_only, b_only) == pytest.approx(expected, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("m", range(9))
def test_exact_and_midp_equal_enumeration(m):
    patterns = list(itertools.product([-1, 1], repeat=m))
    for b_only in range(m + 1):
        observed = abs(2 * b_only - m)
        further = sum(abs(sum(p)) > observed for p in patterns) / 2**m
        as_far = sum(abs(sum(p)) == observed for p in patterns) / 2**m
        assert mcnemar_exact(m - b_only, b_only) == pytest.approx(further + as_far, rel=1e-12)
        # A tie of the counts is the middle of the distribution: p = 1 by convention.
        midp = 1.0 if observed == 0 else further + as_far / 2
        assert mcnemar_midp(m - b_only, b_only) == pytest.approx(midp, rel=1e-12)


def test_no_disagreement_is_p_one():
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_midp(0, 0) == 1.0
    assert sign_flip_test(np.zeros(50)) == 1.0


def test_known_case_five_to_nothing():
    assert mcnemar_exact(0, 5) == 0.0625


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 300), st.integers(0, 300))
def test_symmetry_and_order(a_only, b_only):
    p, midp = mcnemar_exact(a_only, b_only), mcnemar_midp(a_only, b_only)
    assert p == mcnemar_exact(b_only, a_only)
    assert midp == mcnemar_midp(b_only, a_only)
    assert 0 < midp <= p <= 1
    values = np.repeat([-1.0, 0.0, 1.0], [a_only, 3, b_only])
    assert sign_flip_test(values) == p


def test_sign_flip_of_general_scores_equals_enumeration():
    values = np.random.default_rng(3).normal(0.4, 1.0, size=9)
    patterns = np.array(list(itertools.product([-1, 1], repeat=9)))
    expected = np.mean(np.abs(patterns @ np.abs(values)) >= abs(values.sum()) - 1e-12)
    assert sign_flip_test(values) == pytest.approx(expected, rel=1e-12)
    # Zeros change nothing, and tied sums of decimal fractions are counted.
    assert sign_flip_test(np.append(values, [0.0, 0.0])) == sign_flip_test(values)
    assert sign_flip_test([0.1, 0.2, 0.3]) == 0.25


@pytest.mark.parametrize("seed", range(6))
def test_sign_flips_of_whole_numbers_are_exact(seed):
    """Sums over groups: more patterns than can be listed, against the distribution term by term."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-4, 6, size=45).astype(float)
    total = int(np.abs(values).sum())
    distribution = np.zeros(2 * total + 1)
    distribution[total] = 1
    for size in np.abs(values).astype(int):
        distribution = (np.roll(distribution, size) + np.roll(distribution, -size)) / 2
    at_least = np.abs(np.arange(-total, total + 1)) >= abs(values.sum())
    assert sign_flip_test(values) == pytest.approx(distribution[at_least].sum(), rel=1e-9)
    # The seed has nothing to say, and the sign of all does not matter.
    assert sign_flip_test(values, rng=1) == sign_flip_test(-values, rng=2)


def test_very_many_whole_numbers_are_flipped_at_random_and_agree():
    values = np.random.default_rng(0).integers(-950, 950, size=2000).astype(float)
    exact = 2 * norm.sf(abs(values.sum()) / np.sqrt(np.sum(values**2)))
    assert sign_flip_test(values) == pytest.approx(exact, abs=0.02)
    assert sign_flip_test(values) != sign_flip_test(values, rng=1)
    assert sign_flip_test(np.repeat([1.0, 2.0], 500)) < 1e-14


def test_sign_flip_by_simulation_agrees_with_the_normal_limit_and_the_seed():
    rng = np.random.default_rng(4)
    values = rng.normal(0.1, 1.0, size=400)
    p = sign_flip_test(values, rng=1)
    assert p == sign_flip_test(values, rng=1)
    limit = 2 * norm.sf(abs(values.sum()) / np.sqrt(np.sum(values**2)))
    assert p == pytest.approx(limit, abs=4 * np.sqrt(limit * (1 - limit) / 99_999) + 1e-3)
    # Fine enough for every pair of a hundred models under Holm's correction.
    assert sign_flip_test(values + 5) * 4950 <= 0.05


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="no paired"):
        sign_flip_test([])
    with pytest.raises(DataError, match="1 paired differences are NaN"):
        sign_flip_test([1.0, np.nan])
    with pytest.raises(SpecError, match="counts"):
        mcnemar_exact(-1, 3)
