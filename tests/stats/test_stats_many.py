"""Cochran's Q, Holm and all pairs, against statsmodels and enumeration."""

import itertools

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import cochrans_q
from statsmodels.stats.multitest import multipletests

from qinspect import results
from qinspect.errors import DataError, SpecError
from qinspect.stats import cochran_q, compare_paired, holm, mcnemar_exact
from qinspect.stats.many import corrected, strict_confidence


def models(seed, shares=(0.8, 0.85, 0.9, 0.9), n=300):
    rng = np.random.default_rng(seed)
    return {f"m{i}": rng.random(n) < share for i, share in enumerate(shares)}


@pytest.mark.parametrize("seed", range(5))
def test_cochran_equals_statsmodels(seed):
    correct = models(seed)
    expected = cochrans_q(np.column_stack(list(correct.values())).astype(int))
    q = cochran_q(correct)
    assert q["q"] == pytest.approx(expected.statistic, rel=1e-12)
    assert q["p"] == pytest.approx(expected.pvalue, rel=1e-10)
    assert (q["df"], q["models"]) == (3, 4)


def test_cochran_of_two_models_is_the_mcnemar_chi_squared():
    correct = models(1, (0.7, 0.9))
    a, b = correct.values()
    a_only, b_only = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    assert cochran_q(correct)["q"] == pytest.approx((a_only - b_only) ** 2 / (a_only + b_only))


def test_cochran_p_is_close_to_the_permutation_distribution():
    """Within each example the results are exchangeable between models: shuffle them."""
    correct = models(3, (0.7, 0.75, 0.8), n=60)
    table = np.column_stack(list(correct.values()))
    observed = cochran_q(correct)
    rng = np.random.default_rng(0)
    further = 0
    for _ in range(1000):
        shuffled = rng.permuted(table, axis=1)
        further += cochran_q(dict(zip("abc", shuffled.T, strict=True)))["q"] >= observed["q"] - 1e-9
    assert observed["p"] == pytest.approx(further / 1000, abs=0.06)


def test_models_that_never_disagree_have_p_one():
    same = np.array([True, False, True])
    q = cochran_q({"a": same, "b": same, "c": same})
    assert (q["q"], q["p"], q["informative"]) == (0.0, 1.0, 0)


@pytest.mark.slow
def test_holm_equals_statsmodels_and_keeps_order():
    rng = np.random.default_rng(0)
    for size in (1, 2, 6, 15):
        p = rng.random(size) ** 3
        expected = multipletests(p, method="holm")[1]
        assert holm(p) == pytest.approx(expected, rel=1e-12)
    assert holm([]) == []
    with pytest.raises(SpecError, match="between 0 and 1"):
        holm([0.2, float("nan")])


def family(correct, confidence=0.95):
    return [compare_paired(correct[a], correct[b], a=a, b=b, confidence=confidence)
            for a, b in itertools.combinations(correct, 2)]


def judged(correct):
    pairs = family(correct)
    return corrected(pairs, family(correct, strict_confidence(0.95, len(pairs))))


def test_a_family_is_judged_by_adjusted_p():
    pairs = judged(models(5))
    assert [c.p_adjusted for c in pairs] == [
        min(1.0, 6 * mcnemar_exact(c.a_only, c.b_only)) for c in pairs]
    assert [c.p for c in pairs] == [c.p_adjusted for c in pairs]
    assert all("corrected for 6 comparisons" in c.sentence
               for c in pairs if c.verdict != "equivalent")
    alone = family(models(5, (0.8, 0.9)))
    assert corrected(alone, alone) == alone
    assert alone[0].p == alone[0].mcnemar_p


def test_correction_can_take_a_verdict_back():
    base = np.zeros(400, bool)
    base[:300] = True
    better = base.copy()
    better[300:309] = True  # 9 against 1: p = 0.021 alone
    better[0] = False
    others = {f"x{i}": np.roll(base, i) for i in (1, 2)}
    pair = judged({"base": base, "better": better, **others})[0]
    assert pair.mcnemar_p < 0.05 < pair.p_adjusted
    assert pair.verdict == "cannot_tell"
    assert pair.sentence.startswith("Cannot tell base and better apart among 6 comparisons: this")
    assert pair.interval[0] > 0 > pair.interval_simultaneous[0]
    assert pair.detectable_adjusted > pair.detectable


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, 3])
def test_p_and_interval_of_a_family_agree(groups):
    """As for one pair: what is printed as shown has an interval beside it that leaves out zero."""
    contradicted = shown = 0
    for seed in range(12):
        correct = models(seed, (0.7, 0.72, 0.78, 0.8, 0.84, 0.85), n=240)
        found = results(correct, groups=None if groups == 1 else np.arange(240) // groups)
        for c in found.compare():
            low, high = c.interval_simultaneous
            apart = low > 0 or high < 0
            assert apart or not c.significant
            assert not c.significant or c.p <= 0.05
            contradicted += (c.p <= 0.05) != apart
            shown += c.significant
            # One pair at the strict level is the same question.
            names = None if groups == 1 else np.arange(240) // groups
            alone = compare_paired(correct[c.a], correct[c.b], a=c.a, b=c.b, groups=names,
                                   confidence=strict_confidence(0.95, 15))
            assert alone.significant == c.significant
    assert shown > 20
    assert contradicted == 0 or groups > 1  # as for one pair, the test over groups is another


def test_bad_tables_are_refused():
    with pytest.raises(DataError, match="at least two"):
        cochran_q({"a": [True]})
    with pytest.raises(DataError, match="a: 1, b: 2"):
        cochran_q({"a": [True], "b": [True, False]})
