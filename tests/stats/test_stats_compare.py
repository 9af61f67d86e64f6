"""The paired comparison: numbers, verdicts and words."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qinspect.errors import DataError, SpecError
from qinspect.stats import compare_paired, mcnemar_exact, smallest_detectable, tango_interval
from qinspect.verdicts import DIFFERENCES

KEYS = {"a", "b", "n", "diff_pp", "ci_pp", "mcnemar_p", "a_only", "b_only", "mde_pp", "verdict",
        "metric", "gap", "unit", "direction"}


def paired(n, a_only, b_only, both=None, seed=0):
    both = (n - a_only - b_only) // 2 if both is None else both
    a, b = np.zeros(n, bool), np.zeros(n, bool)
    a[:a_only] = True
    b[a_only : a_only + b_only] = True
    a[a_only + b_only : a_only + b_only + both] = True
    b[a_only + b_only : a_only + b_only + both] = True
    order = np.random.default_rng(seed).permutation(n)
    return a[order], b[order]


def compare(*counts, **options):
    return compare_paired(*paired(*counts), a="float", b="ptq", **options)


def test_numbers_are_those_of_their_own_functions():
    c = compare(1000, 40, 80, 800)
    assert (c.n, c.a_only, c.b_only) == (1000, 40, 80)
    assert (c.value_a, c.value_b) == (0.84, 0.88)
    assert c.gap == pytest.approx(4.0)
    assert c.interval == pytest.approx(tuple(100 * v for v in tango_interval(1000, 40, 80)))
    assert c.mcnemar_p == mcnemar_exact(40, 80)
    assert c.detectable == smallest_detectable(1000, 0.12, alpha=1 - 0.95)
    assert c.verdict == "b_better"
    assert "ptq is better than float by 4.00 points" in c.sentence


@pytest.mark.parametrize("n", [200, 20_000])
def test_interval_and_both_tests_may_disagree(n):
    """4 against 0: mid-p = 0.0625 although the interval leaves out zero."""
    c = compare(n, 0, 4)
    assert c.mcnemar_midp == 0.0625
    assert c.interval[0] > 0
    assert c.verdict == "cannot_tell"
    assert "leaves out zero but the mid-p McNemar test does not reject" in c.sentence
    assert ("smaller than the margin of 1 point" in c.sentence) == (n == 20_000)


def test_mid_p_decides_between_interval_and_exact_test():
    """5 against 0: exact p = 0.0625, mid-p = 0.03125; not where most examples disagree."""
    c = compare(200, 0, 5)
    assert (c.verdict, c.mcnemar_p, c.p, c.test) == (
        "b_better", 0.0625, 0.03125, "mid-p McNemar test")
    assert "mid-p McNemar test: p = 0.0312" in c.sentence
    c = compare(8, 0, 5)
    assert (c.verdict, c.test) == ("cannot_tell", "exact McNemar test")


@pytest.mark.parametrize(
    ("n", "verdict"),
    [(5, "cannot_tell"), (50, "no_gap_seen"), (200, "no_gap_seen"), (400, "equivalent")],
)
def test_no_disagreement_is_bounded_not_equal(n, verdict):
    c = compare(n, 0, 0)
    assert c.mcnemar_p == c.mcnemar_midp == 1.0
    assert c.gap == 0
    assert c.interval[0] < 0 < c.interval[1]
    assert c.verdict == verdict
    assert f"{c.interval[1]:.2f}" in c.sentence
    assert (c.detectable > 0) == (verdict != "cannot_tell")


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_bootstrap_without_disagreement_is_undefined(method):
    c = compare(200, 0, 0)
    assert math.isnan(c.intervals[method][0])
    row = json.loads(json.dumps(c.to_json(), allow_nan=False))
    assert row["intervals_pp"][method] is None


def test_significant_but_smaller_than_the_margin_says_both():
    c = compare(100_000, 300, 500)
    assert c.verdict == "b_better"
    assert "smaller than the margin of 1 point" in c.sentence


def test_equivalence_states_the_margin():
    c = compare(10_000, 300, 310)
    assert c.verdict == "equivalent"
    assert "equivalent within 1 point" in c.sentence
    wide = compare(1000, 30, 31, margin=3)
    assert wide.verdict == "equivalent"
    assert "within 3 points" in wide.sentence
    assert compare(1000, 30, 31, margin=1).verdict == "no_gap_seen"


def test_no_gap_seen_says_what_is_possible_and_what_would_be_detectable():
    c = compare(200, 4, 9)
    assert c.verdict == "no_gap_seen"
    assert c.sentence.startswith("No gap seen between float and ptq: ")
    low, high = c.interval
    assert low < 0 < c.gap
    assert (f"ptq is better by {c.gap:.2f} points [{low:.2f}, {high:.2f}], 95 % interval"
            in c.sentence)
    assert (f"anything from float better by {-low:.2f} to ptq better by {high:.2f} points is "
            "possible (margin 1 point)." in c.sentence)
    assert f"{c.detectable:.2f} points would be found" in c.sentence


def test_tiny_samples_never_reach_a_verdict_and_stay_json():
    c = compare_paired([False], [True])
    assert c.verdict == "cannot_tell"
    assert "however large" in c.sentence
    assert json.loads(json.dumps(c.to_json(), allow_nan=False))["mde_pp"] is None


def test_row_has_the_promised_keys():
    row = compare(500, 10, 12).to_json()
    assert set(row) >= KEYS
    json.dumps(row, allow_nan=False)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 150), st.integers(0, 60), st.integers(0, 60))
def test_swapping_the_models_swaps_everything(agree, a_only, b_only):
    n = agree + a_only + b_only
    a, b = paired(n, a_only, b_only)
    one = compare_paired(a, b)
    two = compare_paired(b, a)
    assert one.gap == -two.gap
    assert one.interval == pytest.approx((-two.interval[1], -two.interval[0]), abs=1e-9)
    assert (one.mcnemar_p, one.mcnemar_midp) == (two.mcnemar_p, two.mcnemar_midp)
    assert one.detectable == pytest.approx(two.detectable, nan_ok=True)
    assert one.equivalence_p == pytest.approx(two.equivalence_p)
    mirrored = {"a_better": "b_better", "b_better": "a_better"}
    assert one.verdict == mirrored.get(two.verdict, two.verdict)
    assert one.verdict in DIFFERENCES
    # A verdict for one model needs both the test and the interval.
    if one.verdict in mirrored:
        assert one.p <= 0.05
        assert one.p == (one.mcnemar_midp if one.test == "mid-p McNemar test" else one.mcnemar_p)
        assert one.interval[0] > 0 or one.interval[1] < 0
    # Words: never called equal or the same accuracy.
    assert "equal" not in one.sentence
    assert one.sentence.endswith(".")


def test_the_order_of_examples_does_not_matter():
    first = compare_paired(*paired(300, 7, 19, seed=1))
    assert first == compare_paired(*paired(300, 7, 19, seed=2))


def test_bad_options_are_refused():
    with pytest.raises(SpecError, match="confidence"):
        compare(10, 1, 1, confidence=95)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ([], [], "at least one example"),
        ([True, False], [True], "same examples"),
        ([[True]], [[True]], "shape"),
        ([1.0, np.nan], [1.0, 0.0], "NaN for 1 of 2"),
        ([0, 1, 2], [0, 1, 1], "holds 2"),
        (["yes"], ["no"], "true or false"),
    ],
)
def test_bad_correctness_is_refused(a, b, words):
    with pytest.raises(DataError, match=words):
        compare_paired(a, b)


def test_zero_and_one_are_taken_as_correctness():
    a, b = paired(100, 3, 9)
    assert compare_paired(a.astype(int), b.astype(float)) == compare_paired(a, b)


def frames(videos, length, rng, flip=0.05):
    """Two models of equal accuracy that disagree on whole videos."""
    kind = rng.choice([-1, 0, 1], size=videos, p=[flip, 1 - 2 * flip, flip])
    groups = np.repeat(np.arange(videos), length)
    a, b = kind[groups] != 1, kind[groups] != -1
    return a, b, groups


def test_frames_of_a_video_are_not_independent_examples():
    rng = np.random.default_rng(2)
    alone = grouped = held = 0
    for _ in range(80):
        a, b, groups = frames(100, 20, rng)
        alone += compare_paired(a, b).verdict in ("a_better", "b_better")
        c = compare_paired(a, b, groups=groups)
        grouped += c.verdict in ("a_better", "b_better")
        held += c.interval[0] <= 0 <= c.interval[1]
    # Equal models: the ungrouped comparison finds a winner most of the time, the grouped rarely.
    assert alone / 80 > 0.4
    assert grouped / 80 < 0.12
    assert held / 80 > 0.87


def test_groups_of_one_change_nothing_but_the_words():
    a, b = paired(400, 10, 30)
    plain = compare_paired(a, b)
    c = compare_paired(a, b, groups=np.arange(400))
    assert c.groups == 400
    assert c.p_single == plain.mcnemar_p
    assert c.interval == pytest.approx(plain.interval, rel=0.01)
    assert c.verdict == plain.verdict
    assert "400 groups" in c.sentence


def test_identical_groups_count_once():
    a, b = paired(400, 10, 30)
    plain = compare_paired(a, b)
    c = compare_paired(np.repeat(a, 5), np.repeat(b, 5), groups=np.repeat(np.arange(400), 5))
    assert c.gap == pytest.approx(plain.gap)
    assert c.interval == pytest.approx(plain.interval, rel=0.01)
    assert c.p_single == plain.mcnemar_p
    assert c.mcnemar_p < plain.mcnemar_p
    none = compare_paired(np.ones(2000), np.ones(2000), groups=np.repeat(np.arange(400), 5))
    alike = compare_paired(np.ones(400), np.ones(400)).interval
    assert none.interval == pytest.approx(alike, rel=0.01)
    json.dumps(c.to_json(), allow_nan=False)


def test_bad_groups_are_refused():
    with pytest.raises(DataError, match="one group"):
        compare_paired([True, False], [True, True], groups=[3, 3])
    with pytest.raises(DataError, match="groups have shape"):
        compare_paired([True, False], [True, True], groups=[3, 4, 5])


def test_in_brief_it_is_the_difference_with_its_interval():
    a = np.repeat([True, False], [90, 10])
    found = compare_paired(a, np.roll(a, 3))
    low, high = found.interval
    assert found.brief == f"a and b differ by 0.00 points [{low:.2f}, {high:.2f}], n = 100"
