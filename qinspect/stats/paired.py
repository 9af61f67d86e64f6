"""The paired comparison of two models: every number, one verdict, one sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from qinspect.errors import DataError
from qinspect.schema import Array
from qinspect.stats.bootstrap import bootstrap_intervals, counted, grouped
from qinspect.stats.exact import mcnemar_exact, mcnemar_midp, sign_flip_test
from qinspect.stats.groups import design_effect, group_sums
from qinspect.stats.intervals import (
    check_confidence,
    equivalence_test,
    tango_interval,
    wilson_interval,
)
from qinspect.stats.power import sign_error_probability, smallest_detectable
from qinspect.verdicts import Difference, p_words


@dataclass(frozen=True)
class Comparison:
    """Paired comparison of two models on the same examples; differences are b - a.

    Attributes
    ----------
    a, b : str
        Names of the two models.
    n : int
        Examples.
    accuracy_a, accuracy_b : float
        Shares in 0..1, with their own intervals ``accuracy_a_ci`` and ``accuracy_b_ci``.
    diff_pp : float
        100 (accuracy_b - accuracy_a), percentage points.
    ci_pp : tuple of float
        Interval of ``diff_pp`` at ``confidence``: Tango's, over the effective number of examples.
    mcnemar_p, mcnemar_midp : float
        Exact and mid-p two-sided McNemar p-values of independent examples; 1 when nothing
        disagrees.
    a_only, b_only : int
        Examples that only a, only b gets right.
    mde_pp : float
        Smallest difference detectable at 80 % power given the observed disagreement; NaN if none.
    margin_pp, equivalence_p : float
        Margin of equivalence, and the p-value of the hypothesis that it is reached.
    verdict, sentence : str
        One of ``qinspect.verdicts.DIFFERENCES``, and the same in words with its reason.
    groups : int or None
        Number of clusters of examples, when they were given.
    group_p : float or None
        Sign-flip p-value over whole groups, which takes the place of ``mcnemar_p``.
    p_adjusted : float or None
        p-value after Holm's correction over the ``family`` of comparisons it belongs to.
    seed : int
        Of what is drawn: the bootstrap of :attr:`intervals_pp`.
    """

    a: str
    b: str
    n: int
    accuracy_a: float
    accuracy_b: float
    accuracy_a_ci: tuple[float, float]
    accuracy_b_ci: tuple[float, float]
    diff_pp: float
    ci_pp: tuple[float, float]
    ci_method: str
    confidence: float
    mcnemar_p: float
    mcnemar_midp: float
    a_only: int
    b_only: int
    mde_pp: float
    margin_pp: float
    equivalence_p: float
    verdict: Difference = "cannot_tell"
    sentence: str = ""
    groups: int | None = None
    group_p: float | None = None
    p_adjusted: float | None = None
    family: int = 1
    seed: int = 0
    metric: str = "accuracy"
    unit: str = "points"
    direction: str = "higher"
    group_table: tuple[Array, Array] | None = field(default=None, repr=False, compare=False)

    @property
    def gap(self) -> float:
        """Metric of b minus metric of a, in ``unit``."""
        return self.diff_pp

    @property
    def p_single(self) -> float:
        """The p-value of this comparison by itself: over groups where there are any."""
        return self.mcnemar_p if self.group_p is None else self.group_p

    @property
    def p(self) -> float:
        """The p-value the verdict rests on: adjusted where it belongs to a family."""
        return self.p_single if self.p_adjusted is None else self.p_adjusted

    @property
    def brief(self) -> str:
        """The difference with its interval and the number of examples, to put into a sentence."""
        low, high = self.ci_pp
        return f"{self.diff_pp:+.2f} {self.unit} [{low:+.2f}, {high:+.2f}], n = {self.n:,}"

    @property
    def significant(self) -> bool:
        """Whether one of the two is shown to be better."""
        return self.verdict in ("a_better", "b_better")

    @property
    def equivalent(self) -> bool:
        """Whether the two are shown to be equivalent within the margin."""
        return self.verdict == "equivalent"

    @property
    def worse(self) -> str:
        """The one that did worse on these examples, significantly or not."""
        return self.b if self.diff_pp < 0 else self.a

    @property
    def intervals_pp(self) -> dict[str, tuple[float, float]]:
        """Intervals by method; the bootstrap ones are drawn when asked for, NaN if all is alike."""
        if self.group_table is None:
            units = counted(self.n, self.a_only, self.b_only)
        else:
            units = grouped(*self.group_table)
        shares = bootstrap_intervals(units, confidence=self.confidence, rng=self.seed)
        found = {name: (100 * low, 100 * high) for name, (low, high) in shares.items()}
        return {**found, self.ci_method: self.ci_pp}

    def to_json(self) -> dict[str, Any]:
        """The comparison as numbers, strings and lists; None for what is not defined."""
        return {
            "a": self.a,
            "b": self.b,
            "n": self.n,
            "accuracy_a": self.accuracy_a,
            "accuracy_b": self.accuracy_b,
            "accuracy_a_ci": list(self.accuracy_a_ci),
            "accuracy_b_ci": list(self.accuracy_b_ci),
            "diff_pp": self.diff_pp,
            "ci_pp": list(self.ci_pp),
            "ci_method": self.ci_method,
            "confidence": self.confidence,
            "intervals_pp": {name: None if math.isnan(low) else [low, high]
                             for name, (low, high) in self.intervals_pp.items()},
            "mcnemar_p": self.mcnemar_p,
            "mcnemar_midp": self.mcnemar_midp,
            "p_adjusted": self.p_adjusted,
            "groups": self.groups,
            "group_p": self.group_p,
            "a_only": self.a_only,
            "b_only": self.b_only,
            "mde_pp": None if math.isnan(self.mde_pp) else self.mde_pp,
            "margin_pp": self.margin_pp,
            "equivalence_p": self.equivalence_p,
            "verdict": self.verdict,
            "sentence": self.sentence,
            "p": self.p,
            "family": self.family,
            "metric": self.metric,
            "gap": self.gap,
            "unit": self.unit,
            "direction": self.direction,
            "about": "files",
        }


def compare_paired(
    correct_a: Array, correct_b: Array, *, a: str = "a", b: str = "b", confidence: float = 0.95,
    margin_pp: float = 1.0, groups: Array | None = None, seed: int = 0,
) -> Comparison:
    """Compare two models on the same examples.

    The verdict is ``a_better`` or ``b_better`` only when the exact McNemar test rejects at
    1 - confidence *and* the interval leaves out zero.  When only one of the two does, it is
    ``cannot_tell``.  When neither does, it is ``equivalent`` if two one-sided tests place the
    difference within ``margin_pp``; else ``no_gap_seen``, or ``cannot_tell`` where so few examples
    could show no difference, however large.

    Examples that come in groups (frames of one video) do not count as independent: the test flips
    the signs of whole groups, the bootstrap resamples groups, and Tango's interval, equivalence and
    the smallest detectable difference use all counts divided by the design effect.  The accuracies'
    own intervals and ``mcnemar_p`` stay those of independent examples.

    Parameters
    ----------
    correct_a, correct_b : array_like of bool, shape (n,)
        Whether each model got each example right; 0 and 1 are taken as well.
    a, b : str
        Names of the models, used in the sentence.
    confidence : float
        Two-sided level of the intervals; tests use 1 - confidence.
    margin_pp : float
        Margin of equivalence in percentage points.
    groups : array_like or None, shape (n,)
        Cluster of each example, if any; at least two different ones.
    seed : int
        Of the bootstrap, and of random sign flips where groups are too many for exact ones.

    Returns
    -------
    Comparison
        Differences are b - a, in percentage points.

    Raises
    ------
    DataError
        When the arrays are empty, not one-dimensional, of unequal length, or hold anything but
        true and false.
    SpecError
        When an option has a value that is not allowed.

    Examples
    --------
    >>> right = np.arange(400) % 20 > 0
    >>> better = right | (np.arange(400) % 40 == 0)
    >>> found = compare_paired(right, better, a="ptq", b="qat")
    >>> found.verdict, found.diff_pp, round(found.p, 4)
    ('b_better', 2.5, 0.002)
    """
    right_a, right_b = as_correct(correct_a, a), as_correct(correct_b, b)
    if len(right_a) != len(right_b):
        raise DataError(
            f"{a} has {len(right_a)} results and {b} has {len(right_b)}; "
            "a paired comparison needs the same examples."
        )
    check_confidence(confidence)
    n = len(right_a)
    hits_a, hits_b = int(np.count_nonzero(right_a)), int(np.count_nonzero(right_b))
    b_only = int(np.count_nonzero(right_b & ~right_a))
    a_only = hits_a - (hits_b - b_only)

    effect, table, group_p = 1.0, None, None
    if groups is not None:
        difference = right_b.astype(np.float64) - right_a
        table = group_sums(difference, groups)
        effect = design_effect(difference, *table)
        group_p = sign_flip_test(table[0], rng=seed)
    # Counts of as many independent examples as the grouped ones are worth.
    worth, worth_a, worth_b = n / effect, a_only / effect, b_only / effect
    low, high = tango_interval(worth, worth_a, worth_b, confidence)
    return judge(Comparison(
        a=a,
        b=b,
        n=n,
        accuracy_a=hits_a / n,
        accuracy_b=hits_b / n,
        accuracy_a_ci=wilson_interval(hits_a, n, confidence),
        accuracy_b_ci=wilson_interval(hits_b, n, confidence),
        diff_pp=100 * (b_only - a_only) / n,
        ci_pp=(100 * low, 100 * high),
        ci_method="tango",
        confidence=confidence,
        mcnemar_p=mcnemar_exact(a_only, b_only),
        mcnemar_midp=mcnemar_midp(a_only, b_only),
        a_only=a_only,
        b_only=b_only,
        mde_pp=smallest_detectable(max(1, int(worth)), (a_only + b_only) / n, alpha=1 - confidence),
        margin_pp=margin_pp,
        equivalence_p=equivalence_test(worth, worth_a, worth_b, margin_pp),
        groups=None if table is None else len(table[0]),
        group_p=group_p,
        seed=seed,
        group_table=table,
    ))


def as_correct(values: Array, name: str) -> Array:
    """One model's correctness as a boolean array; 0 and 1 are taken as well."""
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise DataError(
            f"correctness of {name} has shape {array.shape}; "
            "it must be one value an example, with at least one example."
        )
    if array.dtype == bool:
        return array
    if array.dtype.kind not in "iuf":
        raise DataError(
            f"correctness of {name} is of type {array.dtype}; it must be true or false."
        )
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise DataError(
            f"correctness of {name} is NaN for {int(np.isnan(array).sum())} of {array.size} "
            "examples; remove or mend them."
        )
    wrong = (array != 0) & (array != 1)
    if wrong.any():
        raise DataError(
            f"correctness of {name} holds {array[wrong][0]}; only 0 and 1 (or false and true) "
            "are allowed."
        )
    return array.astype(bool)


def judge(c: Comparison) -> Comparison:
    """The comparison with the verdict and the sentence that its numbers lead to."""
    alpha = 1 - c.confidence
    test_rejects, excludes_zero = c.p <= alpha, c.ci_pp[0] > 0 or c.ci_pp[1] < 0
    verdict: Difference = "cannot_tell"
    if test_rejects and excludes_zero:
        verdict = "b_better" if c.diff_pp > 0 else "a_better"
    elif not test_rejects and not excludes_zero:
        if c.equivalence_p <= alpha:
            verdict = "equivalent"
        elif not math.isnan(c.mde_pp):
            verdict = "no_gap_seen"
    c = replace(c, verdict=verdict)
    return replace(c, sentence=_sentence(c, test_rejects, excludes_zero))


def _sentence(c: Comparison, test_rejects: bool, excludes_zero: bool) -> str:
    level = f"{100 * c.confidence:g} % interval"
    interval = f"{level} {c.ci_pp[0]:+.2f} to {c.ci_pp[1]:+.2f}"
    within = f"anything within [{c.ci_pp[0]:+.2f}, {c.ci_pp[1]:+.2f}] is possible"
    test = "exact McNemar test" if c.groups is None else "sign-flip test over groups"
    tested = f"{test}: {p_words(c.p)}"
    if c.p_adjusted is not None:
        tested += f" after Holm's correction over {c.family} comparisons"
    examples = f"{c.n} examples" + ("" if c.groups is None else f" in {c.groups} groups")
    counts = f"only {c.a} right on {c.a_only}, only {c.b} on {c.b_only} of {examples}"
    margin = f"the margin of {c.margin_pp:g} points"
    small = c.equivalence_p <= 1 - c.confidence
    if c.significant:
        better, worse = (c.b, c.a) if c.verdict == "b_better" else (c.a, c.b)
        text = (f"{better} is better than {worse} by {abs(c.diff_pp):.2f} points "
                f"(difference {c.b} - {c.a}: {interval}; {tested}; {counts}).")
        return f"{text} The difference is real but smaller than {margin}." if small else text
    difference = f"difference {c.b} - {c.a} of {c.diff_pp:+.2f} points"
    seen = f"{difference}, {interval}; {tested}; {counts}"
    alike = c.a_only + c.b_only == 0
    if c.equivalent and alike:
        return (f"{c.a} and {c.b} are right and wrong on the same {examples}, which bounds the "
                f"true difference at {c.ci_pp[1]:.2f} points either way ({level}): equivalent "
                f"within {c.margin_pp:g} points ({p_words(c.equivalence_p)}).")
    if c.equivalent:
        return (f"{c.a} and {c.b} are equivalent within {c.margin_pp:g} points "
                f"(two one-sided tests, {p_words(c.equivalence_p)}; {seen}).")
    if excludes_zero != test_rejects:
        conflict = (f"the interval ({c.ci_method}) leaves out zero but the {test} does not reject"
                    if excludes_zero else
                    f"the {test} rejects but the interval ({c.ci_method}) holds zero")
        text = f"Cannot tell {c.a} and {c.b} apart: {conflict}, and a verdict needs both ({seen})."
        return f"{text} Either way the difference is smaller than {margin}." if small else text
    if c.verdict == "cannot_tell":
        return (f"Cannot tell {c.a} and {c.b} apart: {seen}. With {c.n} examples no difference, "
                "however large, would be found reliably.")
    if alike:
        return (f"No gap seen between {c.a} and {c.b}: they are right and wrong on the same "
                f"{examples}, too few to call them equivalent within {c.margin_pp:g} points; "
                f"{level}: {within}.")
    text = (f"No gap seen between {c.a} and {c.b}: {difference}; {tested}; {counts}; {level}: "
            f"{within}. A true difference of {c.mde_pp:.2f} points would be found in 80 % of such "
            "studies.")
    if c.diff_pp != 0 and c.groups is None:
        wrong = sign_error_probability(c.n, c.diff_pp, (c.a_only + c.b_only) / c.n).wrong
        text += (f" If the true difference were as large as the one seen, a new set of {c.n} "
                 f"examples would show the opposite sign in {100 * wrong:.0f} % of studies.")
    return text
