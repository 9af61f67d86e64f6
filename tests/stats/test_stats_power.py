"""Power, sample size, sign error and equivalence against enumeration and simulation."""

import math

import numpy as np
import pytest
from scipy.stats import multinomial, norm

from qinspect.errors import SpecError
from qinspect.stats import (
    equivalence_test,
    examples_needed,
    mcnemar_exact,
    mcnemar_power,
    power_curve,
    power_sentence,
    sign_error_probability,
    smallest_detectable,
    tango_interval,
)


def enumerated(n, diff, disagreement):
    """Every table of n examples with its probability."""
    for a_only in range(n + 1):
        for b_only in range(n + 1 - a_only):
            cells = [a_only, b_only, n - a_only - b_only]
            p_b = (disagreement + diff) / 2
            p = multinomial.pmf(cells, n, [disagreement - p_b, p_b, 1 - disagreement])
            yield a_only, b_only, p


@pytest.mark.parametrize(("n", "diff", "disagreement"), [(14, 0.2, 0.5), (20, 0.3, 0.3), (9, 0, 1)])
def test_power_and_sign_error_equal_enumeration(n, diff, disagreement):
    tables = list(enumerated(n, diff, disagreement))
    found = [(a, b, p) for a, b, p in tables if mcnemar_exact(a, b) <= 0.05]
    expected = sum(p for *_, p in found)
    assert mcnemar_power(n, 100 * diff, disagreement) == pytest.approx(expected, abs=1e-9)
    error = sign_error_probability(n, 100 * diff, disagreement)
    assert error.wrong == pytest.approx(sum(p for a, b, p in tables if a > b), abs=1e-9)
    assert error.tie == pytest.approx(sum(p for a, b, p in tables if a == b), abs=1e-9)
    wrong_found = sum(p for a, b, p in found if a > b)
    assert error.wrong_if_significant == pytest.approx(wrong_found / expected, abs=1e-9)


def test_level_is_held_under_the_null():
    for n, disagreement in [(50, 0.1), (1000, 0.05), (20_000, 0.2)]:
        assert mcnemar_power(n, 0, disagreement) <= 0.05


@pytest.mark.parametrize(
    ("n", "disagreement"), [(200, 0.0), (200, 0.05), (1000, 0.1), (10**6, 0.02)]
)
def test_smallest_detectable_has_eighty_percent_power(n, disagreement):
    smallest = smallest_detectable(n, disagreement)
    total = max(disagreement, smallest / 100)
    assert mcnemar_power(n, smallest, total) == pytest.approx(0.8, abs=2e-3)
    assert mcnemar_power(n, 0.9 * smallest, total) < 0.8


def test_smallest_detectable_approaches_the_normal_formula():
    n, disagreement = 10**6, 0.1
    limit = (norm.ppf(0.975) + norm.ppf(0.8)) * math.sqrt(disagreement / n)
    assert smallest_detectable(n, disagreement) == pytest.approx(100 * limit, rel=0.01)


def test_too_few_examples_can_detect_nothing():
    assert math.isnan(smallest_detectable(5, 0.4))  # 2^-4 > 0.05
    # Six of six needs every example to be won: power 1 at a difference of 100 points only.
    assert 80 < smallest_detectable(6, 0.5) <= 100
    assert "no difference" in power_sentence(5, 0.4)


@pytest.mark.parametrize(("diff", "disagreement"), [(1, 0.05), (4, 0.04), (0.2, 0.01), (10, 0.5)])
def test_examples_needed_is_where_power_is_reached(diff, disagreement):
    n = examples_needed(diff, disagreement)
    assert mcnemar_power(n, diff, disagreement) >= 0.8
    assert mcnemar_power(n - 1, diff, disagreement) < 0.8
    assert examples_needed(-diff, disagreement) == n


def test_power_curve_rises_with_examples_and_difference():
    curve = power_curve(0.05, n=[200, 1000, 5000], diff_pp=[0, 1, 2, 6])
    assert list(curve.columns) == ["n", "diff_pp", "disagreement", "power", "wrong_sign"]
    assert len(curve) == 9  # 6 points are more than the disagreement
    table = curve.pivot(index="n", columns="diff_pp", values="power")
    assert (table.diff().iloc[1:][[1.0, 2.0]] > 0).all().all()
    assert (table.diff(axis=1).iloc[:, 1:] > 0).all().all()


def test_power_sentence_names_the_numbers():
    sentence = power_sentence(200, 0.05, 2)
    assert f"{smallest_detectable(200, 0.05):.2f} points" in sentence
    assert f"{examples_needed(2, 0.05)} examples" in sentence


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mcnemar_power(0, 1, 0.1), "at least one example"),
        (lambda: mcnemar_power(10, 20, 0.1), "impossible"),
        (lambda: mcnemar_power(10, 1, 1.5), "between 0 and 1"),
        (lambda: mcnemar_power(10, float("nan"), 0.1), "impossible"),
        (lambda: examples_needed(0, 0.1), "0 points"),
        (lambda: examples_needed(1e-6, 0.5), "10\\^9"),
        (lambda: smallest_detectable(10, 0.1, power=1.0), "power is"),
        (lambda: smallest_detectable(10, 0.1, alpha=0.0), "alpha is"),
        (lambda: equivalence_test(10, 0, 0, 0.0), "margin"),
        (lambda: equivalence_test(10, 0, 0, float("nan")), "margin"),
    ],
)
def test_impossible_requests_are_refused(call, words):
    with pytest.raises(SpecError, match=words):
        call()


def test_equivalence_is_the_ninety_percent_interval_within_the_margin():
    for n, a_only, b_only in [
        (200, 0, 0),
        (400, 0, 0),
        (2000, 10, 12),
        (10_000, 300, 310),
        (500, 4, 1),
    ]:
        low, high = tango_interval(n, a_only, b_only, 0.9)
        inside = low > -0.01 and high < 0.01
        assert (equivalence_test(n, a_only, b_only, 1.0) < 0.05) == inside
        assert equivalence_test(n, a_only, b_only, 1.0) == pytest.approx(
            equivalence_test(n, b_only, a_only, 1.0)
        )


def test_equivalence_without_disagreement_agrees_with_the_rule_of_three():
    # With n identical results the exact test of a difference of 1 point has p = 0.99^n.
    first = next(n for n in range(100, 600) if equivalence_test(n, 0, 0, 1.0) <= 0.05)
    exact = math.ceil(math.log(0.05) / math.log(0.99))
    assert abs(first - exact) / exact < 0.12


@pytest.mark.parametrize("disagreement", [0.02, 0.05])
def test_equivalence_error_rate_at_the_margin(disagreement):
    """True difference exactly at the margin: equivalence is claimed in about 5 % of studies."""
    n, probability = 1000, 0.0
    p_b = (disagreement + 0.01) / 2
    counts = np.arange(0, 80)
    for b_only in counts:
        cells = np.column_stack([counts, np.full_like(counts, b_only), n - counts - b_only])
        pmf = multinomial.pmf(cells, n, [disagreement - p_b, p_b, 1 - disagreement])
        for a_only in counts[pmf > 1e-7]:
            if equivalence_test(n, int(a_only), int(b_only), 1.0) <= 0.05:
                probability += pmf[a_only]
    assert probability < 0.062
