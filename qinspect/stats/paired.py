"""The paired comparison of two models: every number, one verdict, one sentence."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit

from qinspect.errors import DataError, SpecError
from qinspect.metrics import ACCURACY, Metric
from qinspect.schema import Array
from qinspect.stats.bootstrap import Units, bootstrap_intervals, counted, grouped, units_of
from qinspect.stats.exact import mcnemar_exact, mcnemar_midp, sign_flip_test, smallest_p
from qinspect.stats.groups import (
    FEW,
    effect_of,
    effective_number,
    examples_a_piece,
    group_sums,
    widened,
)
from qinspect.stats.intervals import (
    check_confidence,
    margin_tests,
    tango_interval,
    wilson_interval,
)
from qinspect.stats.planning import NextStep, new_sign, new_sign_of, next_step
from qinspect.stats.power import smallest_detectable
from qinspect.stats.selection import unselected
from qinspect.verdicts import Difference, examples, p_words

# Differences up to which their signs are flipped; beyond, the mean is near enough to normal.
_FLIPPED = 1_000
# Two files that score alike on so many examples differ on less than 5 % of others (rule of three).
_ENOUGH_ALIKE = 60


@dataclass(frozen=True)
class Comparison:
    """Paired comparison of two models on the same examples; differences are b - a.

    Attributes
    ----------
    a, b : str
        Names of the two models.
    n : int
        Examples.
    value_a, value_b : float
        The metric of each, of accuracy a share in 0..1, with intervals ``interval_a`` and
        ``interval_b``.
    gap : float
        ``metric.scale`` (value_b - value_a), in the metric's unit (of accuracy: points).
    interval : tuple of float
        Interval of ``gap`` at ``confidence``, by ``method``.
    margin, equivalence_p : float
        Difference that would matter, and the p-value of the hypothesis that it is reached, in a
        family after Holm's correction.
    not_worse_p : float
        p-value of the hypothesis that b is worse than a by the margin or more, corrected likewise.
    non_inferior : bool
        Whether that is what was asked, instead of equivalence.
    detectable : float
        Smallest difference detectable at 80 % power given what was seen; NaN if none.
    p_single, test : float, str
        p-value of this comparison by itself, and the test it comes from.
    a_only, b_only : int or None
        Examples on which a, on which b is better: of right or wrong, that only it gets right.
        None where only sets have a value.
    mcnemar_p, mcnemar_midp : float or None
        Exact and mid-p two-sided McNemar p-values, the examples taken as independent.
    verdict, sentence : str
        One of ``qinspect.verdicts.DIFFERENCES``, and the same in words with its reason.
    groups : int or None
        Number of clusters of examples, when they were given.
    p_adjusted : float or None
        In a family: its p-value times their number; it agrees with ``interval_simultaneous``.
    interval_simultaneous : tuple of float or None
        In a family: all such intervals together hold at ``confidence`` (Bonferroni).
    detectable_adjusted : float or None
        In a family: smallest difference detectable at its first, strictest step.
    next : NextStep or None
        Where nothing was shown: what would find the margin, or else the difference seen.
    opposite_sign, tie : float or None
        Where nothing was shown: chance that as many new examples show the other sign, none.
    seed : int
        Of what is drawn at random.
    metric : Metric
    """

    a: str
    b: str
    n: int
    value_a: float
    value_b: float
    interval_a: tuple[float, float]
    interval_b: tuple[float, float]
    gap: float
    interval: tuple[float, float]
    method: str
    confidence: float
    p_single: float
    test: str
    detectable: float
    margin: float
    equivalence_p: float
    not_worse_p: float
    a_only: int | None = None
    b_only: int | None = None
    mcnemar_p: float | None = None
    mcnemar_midp: float | None = None
    verdict: Difference = "cannot_tell"
    sentence: str = ""
    groups: int | None = None
    p_adjusted: float | None = None
    family: int = 1
    interval_simultaneous: tuple[float, float] | None = None
    detectable_adjusted: float | None = None
    non_inferior: bool = False
    next: NextStep | None = None
    opposite_sign: float | None = None
    tie: float | None = None
    seed: int = 0
    metric: Metric = ACCURACY
    units: Units | None = field(default=None, repr=False, compare=False)

    @property
    def p(self) -> float:
        """The p-value the verdict rests on: adjusted where it belongs to a family."""
        return self.p_single if self.p_adjusted is None else self.p_adjusted

    @property
    def improvement(self) -> float:
        """By how much b is better than a, in the metric's unit; negative where it is worse."""
        return self.metric.better * self.gap

    @property
    def brief(self) -> str:
        """Who is better and by how much, and the number of examples, to put into a sentence."""
        return f"{self.metric.ahead(self.a, self.b, self.gap, self.interval)}, n = {self.n:,}"

    @property
    def error(self) -> float:
        """Standard error of the gap that its interval has, were it a normal one."""
        return (self.interval[1] - self.interval[0]) / 2 / float(
            ndtri((1 + self.confidence) / 2))

    @property
    def unselected(self) -> float:
        """The likeliest true gap where this one is looked at because it is significant."""
        return unselected(self.gap, self.error, self.confidence) if self.significant else self.gap

    @property
    def possible(self) -> tuple[float, float]:
        """What the true difference may be: in a family the simultaneous interval."""
        return self.interval_simultaneous or self.interval

    @property
    def findable(self) -> float:
        """Smallest difference found in 80 % of studies: in a family at its first step."""
        return self.detectable if self.detectable_adjusted is None else self.detectable_adjusted

    @property
    def significant(self) -> bool:
        """Whether one of the two is shown to be better."""
        return self.verdict in ("a_better", "b_better")

    @property
    def equivalent(self) -> bool:
        """Whether the two are shown to be equivalent within the margin."""
        return self.verdict == "equivalent"

    @property
    def within_margin(self) -> bool:
        """Whether the difference is shown to be smaller than the margin, be it real or not."""
        return self.equivalence_p <= 1 - self.confidence

    @property
    def worse(self) -> str:
        """The one that did worse on these examples, significantly or not."""
        return self.b if self.improvement < 0 else self.a

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """Intervals by method; the bootstrap ones are drawn when asked for, NaN if all is alike."""
        found = {}
        if self.units is not None:
            scale = self.metric.scale
            drawn = bootstrap_intervals(self.units, confidence=self.confidence, rng=self.seed)
            found = {name: (scale * low, scale * high) for name, (low, high) in drawn.items()}
        return {**found, self.method: self.interval}

    def to_json(self) -> dict[str, Any]:
        """The comparison as numbers, strings and lists; None for what is not defined."""
        counted_right = self.mcnemar_p is not None
        points = self.metric.unit == "points"
        intervals = {name: None if math.isnan(low) else [low, high]
                     for name, (low, high) in self.intervals.items()}
        detectable, adjusted = (
            None if value is None or math.isnan(value) else value
            for value in (self.detectable, self.detectable_adjusted))
        together = self.interval_simultaneous
        return {
            "a": self.a,
            "b": self.b,
            "n": self.n,
            "metric": self.metric.id,
            "unit": self.metric.unit,
            "direction": self.metric.direction,
            "value_a": self.value_a,
            "value_b": self.value_b,
            "value_a_ci": list(self.interval_a),
            "value_b_ci": list(self.interval_b),
            "gap": self.gap,
            "interval": list(self.interval),
            "intervals": intervals,
            "margin": self.margin,
            "detectable": detectable,
            "test": self.test,
            "accuracy_a": self.value_a if counted_right else None,
            "accuracy_b": self.value_b if counted_right else None,
            "accuracy_a_ci": list(self.interval_a) if counted_right else None,
            "accuracy_b_ci": list(self.interval_b) if counted_right else None,
            "diff_pp": self.gap if points else None,
            "ci_pp": list(self.interval) if points else None,
            "ci_method": self.method,
            "confidence": self.confidence,
            "intervals_pp": intervals if points else None,
            "mcnemar_p": self.mcnemar_p,
            "mcnemar_midp": self.mcnemar_midp,
            "p_adjusted": self.p_adjusted,
            "groups": self.groups,
            "group_p": None if self.groups is None else self.p_single,
            "a_only": self.a_only,
            "b_only": self.b_only,
            "mde_pp": detectable if points else None,
            "margin_pp": self.margin if points else None,
            "equivalence_p": self.equivalence_p,
            "not_worse_p": self.not_worse_p,
            "non_inferior": self.non_inferior,
            "interval_simultaneous": None if together is None else list(together),
            "detectable_adjusted": adjusted,
            "next": None if self.next is None else asdict(self.next),
            "opposite_sign": self.opposite_sign,
            "tie": self.tie,
            "verdict": self.verdict,
            "sentence": self.sentence,
            "p": self.p,
            "family": self.family,
            "about": "files",
        }


def compare_paired(
    scores_a: Array, scores_b: Array, *, a: str = "a", b: str = "b", confidence: float = 0.95,
    margin: float | None = None, non_inferior: bool = False, groups: Array | None = None,
    seed: int = 0, metric: Metric = ACCURACY,
) -> Comparison:
    """Compare two models on the same examples.

    Of right and wrong, the verdict is ``a_better`` or ``b_better`` only when the exact McNemar test
    rejects at 1 - confidence *and* Tango's interval leaves out zero.  When the interval does and
    the test does not, the mid-p test decides (of independent examples, at most half of which
    disagree; its error rate is then at most the level).  When still only one of the two does, it
    is ``cannot_tell``.  When neither does, it is ``equivalent`` if two one-sided tests
    place the difference within ``margin``; else ``no_gap_seen``, or ``cannot_tell`` where so few
    examples could show no difference, however large.

    Of other scores, such as absolute errors, the interval is Student's over the differences and the
    test flips their signs at random; beyond a thousand differences it is Student's as well.

    Examples that come in groups (frames of one video) do not count as independent: the test flips
    the signs of whole groups, the bootstrap resamples groups, and all intervals and the smallest
    detectable difference use counts divided by the design effect, widened for what is not known
    about it (docs/intervals.md).  Groups are ``equivalent`` only where the two-sided interval lies
    within the margin: the p-value of equivalence is twice that of the one-sided tests.
    ``mcnemar_p`` stays that of independent examples.

    Parameters
    ----------
    scores_a, scores_b : array_like, shape (n,)
        Score of each example: booleans where it is right or wrong (of accuracy 0 and 1 are taken as
        well), else floats.
    a, b : str
        Names of the models, used in the sentence.
    confidence : float
        Two-sided level of the intervals; tests use 1 - confidence.
    margin : float, optional
        Margin of equivalence in the metric's unit; the metric's own by default (of accuracy 1).
    non_inferior : bool
        Ask only whether b is not worse than a by more than the margin, whatever it gains.
    groups : array_like or None, shape (n,)
        Cluster of each example, if any; at least two different ones.
    seed : int
        Of the bootstrap, and of random sign flips where they are too many for exact ones.
    metric : Metric
        What the scores are of: its unit, and which way is better.

    Returns
    -------
    Comparison
        Differences are b - a, in the metric's unit.

    Raises
    ------
    DataError
        When the arrays are empty, not one-dimensional, of unequal length, or hold what is no score.
    SpecError
        When an option has a value that is not allowed.

    References
    ----------
    Student (1908), Biometrika 6, 1-25; of groups, the ratio of sums and its variance: Cochran
    (1977), Sampling Techniques, section 6.3; design effect: Rao and Scott (1992), Biometrics 48,
    577-585.

    Examples
    --------
    >>> right = np.arange(400) % 20 > 0
    >>> better = right | (np.arange(400) % 40 == 0)
    >>> found = compare_paired(right, better, a="ptq", b="qat")
    >>> found.verdict, found.gap, round(found.p, 4)
    ('b_better', 2.5, 0.002)
    """
    return judge(measured(
        scores_a, scores_b, a=a, b=b, confidence=confidence, margin=margin,
        non_inferior=non_inferior, groups=groups, seed=seed, metric=metric))


def measured(
    scores_a: Array, scores_b: Array, *, a: str, b: str, confidence: float, margin: float | None,
    non_inferior: bool, groups: Array | None, seed: int, metric: Metric,
) -> Comparison:
    """The numbers of a paired comparison, before its verdict."""
    check_confidence(confidence)
    if len(scores_a) != len(scores_b):
        raise DataError(
            f"{a} has {len(scores_a)} results and {b} has {len(scores_b)}; "
            "a paired comparison needs the same examples."
        )
    both = np.asarray(scores_a).dtype == bool == np.asarray(scores_b).dtype
    right = metric.id == ACCURACY.id or (both and metric.better > 0 and metric.scale == 100)
    compared = _of_correct if right else _of_scores
    found: Comparison = compared(scores_a, scores_b, a=a, b=b, confidence=confidence, margin=margin,
                                 groups=groups, seed=seed, metric=metric)
    return replace(found, non_inferior=non_inferior)


def _of_correct(
    correct_a: Array, correct_b: Array, *, a: str, b: str, confidence: float,
    margin: float | None, groups: Array | None, seed: int, metric: Metric,
) -> Comparison:
    """Of right and wrong: McNemar, Tango and their kin."""
    right_a, right_b = as_correct(correct_a, a), as_correct(correct_b, b)
    n = len(right_a)
    hits_a, hits_b = int(np.count_nonzero(right_a)), int(np.count_nonzero(right_b))
    b_only = int(np.count_nonzero(right_b & ~right_a))
    a_only = hits_a - (hits_b - b_only)
    margin = metric.margin_of(hits_a / n) if margin is None else margin

    worth, worth_a, worth_b = float(n), float(a_only), float(b_only)
    if groups is None:
        units, number = counted(n, a_only, b_only), None
        p, test = mcnemar_exact(a_only, b_only), "exact McNemar test"
        worse, better = margin_tests(n, a_only, b_only, margin)
    else:
        difference = right_b.astype(np.float64) - right_a
        sums, sizes = group_sums(difference, groups)
        units, number = grouped(sums, sizes), len(sums)
        p, test = sign_flip_test(sums, rng=seed), "sign-flip test over groups"
        # Counts of as many independent examples as the grouped ones are worth.
        effect, freedom = effect_of(difference, groups, confidence)
        worse, better = map(two_sided, margin_tests(
            n / effect, a_only / effect, b_only / effect, margin, freedom))
        wide = float(widened(effect, freedom, confidence))
        worth, worth_a, worth_b = n / wide, a_only / wide, b_only / wide
    low, high = tango_interval(worth, worth_a, worth_b, confidence)
    outside = low > 0 or high < 0
    if groups is None and outside and p > 1 - confidence and 2 * (a_only + b_only) <= n:
        p, test = mcnemar_midp(a_only, b_only), "mid-p McNemar test"
    return Comparison(
        a=a,
        b=b,
        n=n,
        value_a=hits_a / n,
        value_b=hits_b / n,
        interval_a=share_interval(right_a, confidence, groups),
        interval_b=share_interval(right_b, confidence, groups),
        gap=100 * (b_only - a_only) / n,
        interval=(100 * low, 100 * high),
        method="tango",
        confidence=confidence,
        p_single=p,
        test=test,
        detectable=smallest_detectable(
            max(1, int(worth)), (a_only + b_only) / n, alpha=1 - confidence),
        margin=margin,
        equivalence_p=max(worse, better),
        not_worse_p=worse,
        a_only=a_only,
        b_only=b_only,
        mcnemar_p=mcnemar_exact(a_only, b_only),
        mcnemar_midp=mcnemar_midp(a_only, b_only),
        groups=number,
        seed=seed,
        metric=metric,
        units=units,
    )


def _of_scores(
    scores_a: Array, scores_b: Array, *, a: str, b: str, confidence: float,
    margin: float | None, groups: Array | None, seed: int, metric: Metric,
) -> Comparison:
    """Of any other score an example: Student's interval of the mean difference."""
    first, second = as_scores(scores_a, a), as_scores(scores_b, b)
    difference = second - first
    n = len(difference)
    margin = metric.margin_of(float(first.mean())) if margin is None else margin
    if not margin > 0 or not math.isfinite(margin):
        raise SpecError(f"the margin is {margin}; it must be above 0.")
    mean, error, freedom = mean_error(difference, confidence, groups)
    sums = difference if groups is None else group_sums(difference, groups)[0]
    over = "" if groups is None else " over groups"
    # Where single differences decide, only the signs of what differs can be trusted.
    moved = np.abs(sums[sums != 0])
    if moved.size <= _FLIPPED:
        p, test = sign_flip_test(sums, rng=seed), f"sign-flip test{over}"
    else:
        p, test = 2 * float(stdtr(freedom, -abs(mean) / error)), f"Student's test{over}"
    scale, alpha = metric.scale, 1 - confidence
    half = float(stdtrit(freedom, 1 - alpha / 2)) * error
    found = float(stdtrit(freedom, 1 - alpha / 2) + stdtrit(freedom, 0.8)) * error
    if moved.size == 0:
        equivalence = not_worse = 0.0 if freedom + 1 >= _ENOUGH_ALIKE else 1.0
    elif effective_number(moved) < FEW or error == 0:
        equivalence = not_worse = 1.0
    else:
        equivalence, not_worse = (
            float(stdtr(freedom, -(margin / scale - loss) / error))
            for loss in (abs(mean), -metric.better * mean))
        if groups is not None:
            equivalence, not_worse = two_sided(equivalence), two_sided(not_worse)
    return Comparison(
        a=a,
        b=b,
        n=n,
        value_a=float(first.mean()),
        value_b=float(second.mean()),
        interval_a=score_interval(first, confidence, groups),
        interval_b=score_interval(second, confidence, groups),
        gap=scale * mean,
        interval=(scale * (mean - half), scale * (mean + half)),
        method="student",
        confidence=confidence,
        p_single=p,
        test=test,
        detectable=scale * found if found > 0 else math.nan,
        margin=margin,
        equivalence_p=equivalence,
        not_worse_p=not_worse,
        a_only=int(np.count_nonzero(metric.better * difference < 0)),
        b_only=int(np.count_nonzero(metric.better * difference > 0)),
        groups=None if groups is None else len(sums),
        seed=seed,
        metric=metric,
        units=units_of(difference, groups),
    )


def as_scores(values: Array, name: str) -> Array:
    """One model's scores as finite float64, (n,)."""
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "biuf":
        raise DataError(f"scores of {name} have shape {array.shape} and type {array.dtype}; they "
                        "must be one number an example, with at least one example.")
    found = array.astype(np.float64)
    bad = int(np.count_nonzero(~np.isfinite(found)))
    if bad:
        raise DataError(f"scores of {name} are NaN or infinite for {bad} of {array.size} examples; "
                        "remove or mend them.")
    return found


def mean_error(
    values: Array, confidence: float, groups: Array | None
) -> tuple[float, float, float]:
    """Mean of the values, its standard error, and the degrees of freedom that stand behind it."""
    n, mean = len(values), float(values.mean())
    if n < 2:
        raise DataError("there is 1 example, of whose score no interval can be made; give at least "
                        "two.")
    if groups is None:
        return mean, float(values.std(ddof=1)) / math.sqrt(n), n - 1.0
    effect, freedom = effect_of(values, groups, confidence)
    return mean, math.sqrt(effect * float(np.sum((values - mean) ** 2))) / n, freedom


def score_interval(
    values: Array, confidence: float, groups: Array | None
) -> tuple[float, float]:
    """Student's interval of the mean of scores."""
    mean, error, freedom = mean_error(values, confidence, groups)
    half = float(stdtrit(freedom, (1 + confidence) / 2)) * error
    return mean - half, mean + half


def share_interval(
    right: Array, confidence: float, groups: Array | None
) -> tuple[float, float]:
    """Wilson's interval of the share of right examples."""
    worth = examples_a_piece(right.astype(np.float64), groups, confidence)
    return wilson_interval(np.count_nonzero(right) / worth, len(right) / worth, confidence)


def two_sided(p: float) -> float:
    """The p-value of equivalence that calls for a two-sided interval within the margin."""
    return min(1.0, 2 * p)


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
    least = smallest_p(c.groups or c.n)
    if least > alpha:
        c = replace(c, detectable=math.nan)
    if c.detectable_adjusted is not None and c.family * least > alpha:
        c = replace(c, detectable_adjusted=math.nan)
    test_rejects, excludes_zero = c.p <= alpha, c.possible[0] > 0 or c.possible[1] < 0
    verdict: Difference = "cannot_tell"
    if test_rejects and excludes_zero:
        verdict = "b_better" if c.improvement > 0 else "a_better"
    elif not test_rejects and not excludes_zero and not _by_itself(c):
        if (c.not_worse_p if c.non_inferior else c.equivalence_p) <= alpha:
            verdict = "not_worse" if c.non_inferior else "equivalent"
        elif not math.isnan(c.findable):
            verdict = "no_gap_seen"
    c = replace(c, verdict=verdict, next=None, opposite_sign=None, tie=None)
    if verdict in ("no_gap_seen", "cannot_tell"):
        opposite, tie = _new_sign(c)
        c = replace(c, next=_next(c), opposite_sign=opposite, tie=tie)
    return replace(c, sentence=_sentence(c, test_rejects, excludes_zero))


def _by_itself(c: Comparison) -> bool:
    """Whether one of a family would show a difference were it alone."""
    return c.p_single <= 1 - c.confidence and (c.interval[0] > 0 or c.interval[1] < 0)


def _next(c: Comparison) -> NextStep | None:
    """What would find the margin or, where that is within reach, the difference seen."""
    wanted, alpha = (c.margin, abs(c.gap)), (1 - c.confidence) / c.family
    if c.groups is not None:
        return next_step(c.groups, c.findable, wanted, of="groups")
    if c.mcnemar_p is None:
        return next_step(c.n, c.findable, wanted)
    disagreement = ((c.a_only or 0) + (c.b_only or 0)) / c.n
    return next_step(c.n, c.findable, wanted, disagreement=disagreement, alpha=alpha)


def _new_sign(c: Comparison) -> tuple[float, float] | tuple[None, None]:
    """Chance that a new set shows the other sign, and that it shows no difference."""
    if c.gap == 0:
        return None, None
    if c.mcnemar_p is not None and c.groups is None:
        return new_sign(c.n, c.a_only or 0, c.b_only or 0)
    return new_sign_of(c.gap, c.error) if c.error > 0 else (None, None)


def _counts(c: Comparison) -> str:
    if c.a_only is None:
        return _examples(c)
    if c.mcnemar_p is None:
        return f"{c.a} better on {c.a_only}, {c.b} on {c.b_only} of {_examples(c)}"
    return f"only {c.a} right on {c.a_only}, only {c.b} on {c.b_only} of {_examples(c)}"


def _examples(c: Comparison) -> str:
    return examples(c.n) + ("" if c.groups is None else f" in {c.groups:,} groups")


def _sentence(c: Comparison, test_rejects: bool, excludes_zero: bool) -> str:
    metric = c.metric
    level = f"{100 * c.confidence:g} % interval"
    own = level if c.family < 2 else f"{level} of this pair alone"
    limit = metric.limit(c.margin)
    margin = f"the margin of {limit}"
    together = "" if c.family < 2 else f"simultaneous for {c.family} comparisons; "
    within = (f"anything from {metric.between(c.a, c.b, c.possible)} is possible "
              f"({together}margin {limit})")
    tested = f"{c.test}: {p_words(c.p)}"
    if c.p_adjusted is not None:
        tested += f" corrected for {c.family} comparisons"
    counts = _counts(c)
    small = c.within_margin
    kept = c.non_inferior and c.not_worse_p <= 1 - c.confidence
    if c.significant:
        better, worse, by = metric.lead(c.a, c.b, c.gap, c.interval)
        text = f"{better} is better than {worse} by {by}{metric.of} ({own}; {tested}; {counts})."
        if c.non_inferior and c.verdict == "a_better":
            said = "" if kept else "not shown to be "
            return f"{text} {c.b} is {said}worse by less than {margin}."
        return (f"{text} The difference is real but smaller than {margin}." if small else
                f"{text} The margin is {limit}.")
    ahead = f"{metric.ahead(c.a, c.b, c.gap, c.interval)}{metric.of}"
    seen = f"{ahead}, {own}; {tested}; {counts}"
    alike = c.a_only == c.b_only == 0
    if alike and c.mcnemar_p is None:
        most = 100 * (1 - (1 - c.confidence) ** (1 / (c.groups or c.n)))
        verdict = (f"equivalent within {limit}" if c.equivalent else
                   "too few to call them equivalent")
        return (f"{c.a} and {c.b} score alike on all {_examples(c)}, so that at most {most:.1f} % "
                f"of others can differ ({100 * c.confidence:g} %): {verdict}.")
    if c.equivalent and alike:
        return (f"{c.a} and {c.b} are right and wrong on the same {_examples(c)}, which bounds the "
                f"true difference at {c.interval[1]:.2f} points either way ({level}): equivalent "
                f"within {limit} ({p_words(c.equivalence_p)}).")
    if c.equivalent:
        return (f"{c.a} and {c.b} are equivalent within {limit}{metric.of} "
                f"(two one-sided tests, {p_words(c.equivalence_p)}; {seen}).")
    if c.verdict == "not_worse":
        return (f"{c.b} is not worse than {c.a} by more than {limit}{metric.of} (one-sided test, "
                f"{p_words(c.not_worse_p)}; {seen}).")
    if not test_rejects and not excludes_zero and _by_itself(c):
        return (f"Cannot tell {c.a} and {c.b} apart among {c.family} comparisons: this one by "
                f"itself would show a difference ({p_words(c.p_single)}), corrected for their "
                f"number it does not ({seen}); {within}.{_what_next(c, limit)}")
    if excludes_zero != test_rejects:
        conflict = (f"the interval ({c.method}) leaves out zero but the {c.test} does not reject"
                    if excludes_zero else
                    f"the {c.test} rejects but the interval ({c.method}) holds zero")
        text = f"Cannot tell {c.a} and {c.b} apart: {conflict}, and a verdict needs both ({seen})."
        return (f"{text} Either way the difference is smaller than {margin}." if small else
                f"{text} The margin is {limit}.{_what_next(c, limit)}")
    if c.verdict == "cannot_tell":
        return (f"Cannot tell {c.a} and {c.b} apart: {seen}. With {_examples(c)} no difference, "
                f"however large, would be found reliably; the margin is {limit}."
                f"{_what_next(c, limit)}")
    if alike:
        return (f"No gap seen between {c.a} and {c.b}: they are right and wrong on the same "
                f"{_examples(c)}, too few to call them equivalent within {limit}; "
                f"{level}: {within}.{_what_next(c, limit)}")
    among = "" if c.family < 2 else f" as one of {c.family} comparisons"
    return (f"No gap seen between {c.a} and {c.b}: {seen}; {within}. A true difference of "
            f"{metric.size(c.findable)} would be found in 80 % of such studies{among}."
            f"{_what_next(c, limit)}")


def _what_next(c: Comparison, limit: str) -> str:
    """How much more would tell, and how sure the sign is."""
    text = ""
    if c.next is not None:
        what = (f"a difference of {limit}" if c.next.finds == c.margin else
                f"a difference as large as the one seen, {c.metric.size(c.next.finds)},")
        text = f" To find {what} in 80 % of studies takes {c.next.words}."
    if c.opposite_sign is None or c.tie is None:
        return text
    again = f"{c.n} new examples" if c.groups is None else f"{c.groups} new groups"
    level = f", none at all in {100 * c.tie:.0f} %" if c.tie >= 0.005 else ""
    return (f"{text} {again[0].upper()}{again[1:]} would show the opposite sign in "
            f"{100 * c.opposite_sign:.0f} % of studies{level}.")
