"""What grouped examples are worth: one rule, its limits, and where it is used."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from qinspect.metrics import metric
from qinspect.predictions import Results
from qinspect.stats import compare_paired, compare_seeds, mean_interval, wilson_interval
from qinspect.stats.groups import design_effect, effect_of, effective_number, widened
from qinspect.stats.many import corrected


def test_effective_numbers():
    assert effective_number([3.0, 3.0, 3.0]) == pytest.approx(3)
    assert effective_number([5.0, 0.0, 0.0]) == 1
    assert effective_number(np.zeros((2, 3))).tolist() == [0, 0]
    assert effective_number([[1.0, 2.0]]) == pytest.approx([9 / 5])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30)), min_size=2, max_size=12))
def test_groups_never_count_for_less_than_one_example_each_nor_for_more_than_all(found):
    sizes = np.array([size for size, _ in found])
    sums = np.minimum([hits for _, hits in found], sizes)
    n, hits = sizes.sum(), sums.sum()
    effect, freedom = design_effect(hits - hits**2 / n, sums, sizes, 0.95)
    count = float(effective_number(sizes))
    wide = float(widened(effect, freedom, 0.95))
    assert effect >= 1
    assert 1 <= freedom <= max(1, count - 1)
    bound = np.sum((sums - hits / n * sizes) ** 2) * count / (count - 1)
    alone = hits - hits**2 / n
    most = max(n / count, bound / alone if alone else 0)
    assert wide <= most * (t.ppf(0.975, max(1, count - 1)) / 1.959964) ** 2 * (1 + 1e-6)


def test_groups_of_one_are_examples():
    right = np.arange(300) % 10 > 0
    effect, freedom = effect_of(right.astype(float), np.arange(300), 0.95)
    assert effect == pytest.approx(300 / 299)
    assert freedom == pytest.approx(299)


def test_alike_examples_of_groups_of_one_size_are_students_mean_of_the_groups():
    """A second way to the same interval: the means of the groups, each one observation."""
    errors = np.random.default_rng(0).gamma(2.0, size=12)
    found = Results({"a": np.repeat(errors, 7)}, np.zeros(84), groups=np.repeat(np.arange(12), 7),
                    metric=metric("mae"))
    assert found.value_interval("a") == pytest.approx(mean_interval(errors))


def pair(groups, size, a_only=0, b_only=0):
    a, b = np.ones(groups * size, bool), np.ones(groups * size, bool)
    a[:b_only], b[b_only:b_only + a_only] = False, False
    return a, b, np.repeat(np.arange(groups), size)


def test_one_disagreement_shows_no_equivalence():
    """2,000 examples in 5 groups: nothing differs, or one example does."""
    for a_only in (0, 1):
        a, b, groups = pair(5, 400, a_only)
        c = compare_paired(a, b, groups=groups)
        assert c.verdict == "cannot_tell"
        assert c.interval[1] - c.interval[0] > 5
    # As many independent examples, or groups, do show it.
    assert compare_paired(a, b).equivalent
    assert compare_paired(a, b, groups=np.arange(2000)).equivalent


def test_equivalent_groups_have_the_two_sided_interval_within_the_margin():
    rng = np.random.default_rng(3)
    seen = set()
    for _ in range(60):
        disagree = rng.random(40) < 0.2
        groups = np.repeat(np.arange(40), rng.integers(5, 60, 40))
        a = rng.random(len(groups)) > 0.1 * disagree[groups]
        b = rng.random(len(groups)) > 0.1 * disagree[groups]
        c = compare_paired(a, b, groups=groups, margin=4)
        within = c.interval[0] > -4 and c.interval[1] < 4
        assert (c.equivalence_p <= 0.05) == within
        seen.add(within)
    assert seen == {True, False}


@pytest.mark.parametrize(("groups", "family", "found"), [(5, 1, False), (7, 1, True),
                                                         (7, 3, True), (7, 6, False)])
def test_no_power_is_promised_where_no_p_is_small_enough(groups, family, found):
    """Five groups: 2 / 2^5 = 0.0625.  Seven: 0.016, six times of which are 0.094."""
    rng = np.random.default_rng(0)
    names = np.repeat(np.arange(groups), 300)
    a, b = rng.random((2, len(names))) < 0.9
    c = compare_paired(a, b, groups=names)
    if family > 1:
        alike = [replace(c, p_single=0.5)] * family
        c = corrected(alike, alike)[0]
    assert math.isnan(c.findable) != found
    assert ("would be found in 80 %" in c.sentence) == found
    if not found:
        assert c.verdict == "cannot_tell"
        assert f"in {groups} groups no difference, however large" in c.sentence


def test_the_accuracies_know_the_groups():
    right = np.random.default_rng(1).random(60) < 0.8
    groups = np.repeat(np.arange(60), 25)
    many = np.repeat(right, 25)
    c = compare_paired(many, ~many, groups=groups)
    alone = wilson_interval(int(right.sum()), 60)
    assert c.interval_a == pytest.approx(alone, abs=0.004)
    found = Results({"a": many}, np.zeros(1500, int), groups=groups)
    assert found.value_interval("a") == c.interval_a
    assert Results({"a": right}).value_interval("a") == alone


def test_seeds_over_groups_of_which_one_holds_all_that_differs():
    """Rare disagreements of whole groups: Student's interval alone held it in 6 of 10."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(150):
        sizes = np.maximum(2, np.round(60 * rng.lognormal(-0.5, 1, 20))).astype(int)
        groups = np.repeat(np.arange(20), sizes)
        share = rng.beta(0.04, 3.96, 20)[groups]
        b = np.ones((5, len(groups)), bool)
        a = rng.random((5, len(groups))) >= share
        low, high = compare_seeds(a, b, groups=groups, n_resamples=2).interval
        held += low <= 1 <= high
    assert held / 150 > 0.95


def test_the_effect_of_a_remedy_over_few_groups_holds_the_truth():
    """Eight groups that gain and lose together by a remedy that changes nothing in the mean."""
    rng, groups, held = np.random.default_rng(0), np.repeat(np.arange(8), 60), 0
    for _ in range(200):
        shift = 0.12 * rng.normal(size=8)[groups]
        found = Results({name: rng.random(480) < share for name, share in (
            ("ptq", 0.9), ("qat", 0.8 + shift), ("cure", 0.8 - shift))}, groups=groups)
        _, low, high = found.effect("ptq", "qat", {"qat": "cure"})
        held += low <= 0 <= high
    assert held / 200 > 0.95 - 0.046
