"""The paired comparison of two models: every number, one verdict, one sentence."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from qinspect.errors import DataError, SpecError
from qinspect.schema import Array
from qinspect.stats.bootstrap import counted_intervals, grouped_intervals
from qinspect.stats.comparison import Comparison
from qinspect.stats.equivalence import equivalence_test
from qinspect.stats.groups import design_effect, group_sums
from qinspect.stats.intervals import check_confidence, tango_interval, wilson_interval
from qinspect.stats.mcnemar import mcnemar_exact, mcnemar_midp, sign_flip_test
from qinspect.stats.power import smallest_detectable
from qinspect.stats.verdict import judge

Interval = Literal["percentile", "bca", "tango"]

# Chosen from the coverage table in docs/intervals.md.
DEFAULT_INTERVAL: Interval = "tango"
INTERVALS: tuple[Interval, ...] = ("percentile", "bca", "tango")


def compare_paired(
    correct_a: Array,
    correct_b: Array,
    *,
    a: str = "a",
    b: str = "b",
    confidence: float = 0.95,
    margin_pp: float = 1.0,
    n_resamples: int = 9999,
    method: Interval | None = None,
    groups: Array | None = None,
    rng: int | np.random.Generator = 0,
) -> Comparison:
    """Compare two models on the same examples.

    The verdict is ``a_better`` or ``b_better`` only when the exact McNemar test rejects at
    1 - confidence *and* the interval leaves out zero.  When only one of the two does, it is
    ``cannot_tell``; when neither does, it is ``equivalent`` if two one-sided tests place the
    difference within ``margin_pp``, else ``cannot_tell``.

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
    n_resamples : int
        Bootstrap resamples.
    method : {"percentile", "bca", "tango"} or None
        Interval reported as ``ci_pp``; None takes the one with the best coverage, Tango's.  When
        nothing disagrees the bootstrap has no interval and Tango's is reported.
    groups : array_like or None, shape (n,)
        Cluster of each example, if any; at least two different ones.
    rng : int or Generator
        Seed or generator of the bootstrap.

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
    """
    right_a, right_b = as_correct(correct_a, a), as_correct(correct_b, b)
    if len(right_a) != len(right_b):
        raise DataError(
            f"{a} has {len(right_a)} results and {b} has {len(right_b)}; "
            "a paired comparison needs the same examples."
        )
    if method is not None and method not in INTERVALS:
        raise SpecError(f"unknown interval {method!r}; choose percentile, bca or tango.")
    check_confidence(confidence)
    n = len(right_a)
    hits_a, hits_b = int(np.count_nonzero(right_a)), int(np.count_nonzero(right_b))
    b_only = int(np.count_nonzero(right_b & ~right_a))
    a_only = hits_a - (hits_b - b_only)

    generator = np.random.default_rng(rng)
    effect, clusters, group_p = 1.0, None, None
    if groups is None:
        shares = counted_intervals(
            n, a_only, b_only, confidence=confidence, n_resamples=n_resamples, rng=generator
        )
    else:
        difference = right_b.astype(np.float64) - right_a
        sums, sizes = group_sums(difference, groups)
        effect, clusters = design_effect(difference, sums, sizes), len(sums)
        group_p = sign_flip_test(sums, rng=generator)
        shares = grouped_intervals(
            difference, groups, confidence=confidence, n_resamples=n_resamples, rng=generator
        )
    # Counts of as many independent examples as the grouped ones are worth.
    worth, worth_a, worth_b = n / effect, a_only / effect, b_only / effect
    shares["tango"] = tango_interval(worth, worth_a, worth_b, confidence)
    intervals = {name: (100 * low, 100 * high) for name, (low, high) in shares.items()}
    used = method or DEFAULT_INTERVAL
    if math.isnan(intervals[used][0]):
        used = "tango"
    comparison = Comparison(
        a=a,
        b=b,
        n=n,
        accuracy_a=hits_a / n,
        accuracy_b=hits_b / n,
        accuracy_a_ci=wilson_interval(hits_a, n, confidence),
        accuracy_b_ci=wilson_interval(hits_b, n, confidence),
        diff_pp=100 * (b_only - a_only) / n,
        ci_pp=intervals[used],
        ci_method=used,
        confidence=confidence,
        mcnemar_p=mcnemar_exact(a_only, b_only),
        mcnemar_midp=mcnemar_midp(a_only, b_only),
        a_only=a_only,
        b_only=b_only,
        mde_pp=smallest_detectable(max(1, int(worth)), (a_only + b_only) / n, alpha=1 - confidence),
        margin_pp=margin_pp,
        equivalence_p=equivalence_test(worth, worth_a, worth_b, margin_pp),
        verdict="cannot_tell",
        sentence="",
        intervals_pp=intervals,
        groups=clusters,
        group_p=group_p,
    )
    return judge(comparison)


def as_correct(values: Array, name: str) -> Array:
    """One model's correctness as a boolean array.

    Parameters
    ----------
    values : array_like, shape (n,)
        True and false, or 0 and 1.
    name : str
        Name of the model, for the error.

    Returns
    -------
    ndarray of bool, shape (n,)

    Raises
    ------
    DataError
        When the array is empty, not one-dimensional, or holds anything else.
    """
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


def comparison_row(comparison: Comparison) -> dict[str, Any]:
    """The comparison as a JSON object.

    Parameters
    ----------
    comparison : Comparison
        What to write down.

    Returns
    -------
    dict
        Numbers, strings and lists only; what is not defined is None, never NaN.
    """
    c = comparison
    return {
        "a": c.a,
        "b": c.b,
        "n": c.n,
        "accuracy_a": c.accuracy_a,
        "accuracy_b": c.accuracy_b,
        "accuracy_a_ci": list(c.accuracy_a_ci),
        "accuracy_b_ci": list(c.accuracy_b_ci),
        "diff_pp": c.diff_pp,
        "ci_pp": list(c.ci_pp),
        "ci_method": c.ci_method,
        "confidence": c.confidence,
        "intervals_pp": {
            name: None if math.isnan(low) else [low, high]
            for name, (low, high) in c.intervals_pp.items()
        },
        "mcnemar_p": c.mcnemar_p,
        "mcnemar_midp": c.mcnemar_midp,
        "p_adjusted": c.p_adjusted,
        "groups": c.groups,
        "group_p": c.group_p,
        "a_only": c.a_only,
        "b_only": c.b_only,
        "mde_pp": None if math.isnan(c.mde_pp) else c.mde_pp,
        "margin_pp": c.margin_pp,
        "equivalence_p": c.equivalence_p,
        "verdict": c.verdict,
        "sentence": c.sentence,
    }
