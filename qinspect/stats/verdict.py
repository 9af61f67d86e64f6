"""From the numbers of a comparison to one verdict and one sentence."""

from __future__ import annotations

import math
from dataclasses import replace

from qinspect.stats.comparison import Comparison, Verdict
from qinspect.stats.power import sign_error_probability


def verdict_p(comparison: Comparison) -> float:
    """The p-value the verdict rests on: over groups where there are any, else McNemar's.

    Parameters
    ----------
    comparison : Comparison
        With every number filled in.

    Returns
    -------
    float
        p-value in (0, 1].
    """
    c = comparison
    return c.mcnemar_p if c.group_p is None else c.group_p


def judge(comparison: Comparison, p_adjusted: float | None = None) -> Comparison:
    """The comparison with its verdict and sentence.

    Parameters
    ----------
    comparison : Comparison
        With every number filled in.
    p_adjusted : float or None
        p-value of :func:`verdict_p` corrected for several comparisons; takes its place.

    Returns
    -------
    Comparison
        A copy with ``verdict``, ``sentence`` and ``p_adjusted`` set.
    """
    c = replace(comparison, p_adjusted=p_adjusted)
    alpha = 1 - c.confidence
    p = verdict_p(c) if p_adjusted is None else p_adjusted
    excludes_zero = c.ci_pp[0] > 0 or c.ci_pp[1] < 0
    verdict: Verdict = "cannot_tell"
    if p <= alpha and excludes_zero:
        verdict = "b_better" if c.diff_pp > 0 else "a_better"
    elif p > alpha and not excludes_zero and c.equivalence_p <= alpha:
        verdict = "equivalent"
    c = replace(c, verdict=verdict)
    return replace(c, sentence=_sentence(c, p <= alpha, excludes_zero))


def _sentence(c: Comparison, test_rejects: bool, excludes_zero: bool) -> str:
    level = f"{100 * c.confidence:g} % interval"
    interval = f"{level} {c.ci_pp[0]:+.2f} to {c.ci_pp[1]:+.2f}"
    test = "exact McNemar test" if c.groups is None else "sign-flip test over groups"
    if c.p_adjusted is None:
        p_words = f"{test}: p = {_p(verdict_p(c))}"
    else:
        p_words = f"{test}: p = {_p(c.p_adjusted)} after Holm's correction"
    examples = f"{c.n} examples" + ("" if c.groups is None else f" in {c.groups} groups")
    counts = f"only {c.a} right on {c.a_only}, only {c.b} on {c.b_only} of {examples}"
    if c.verdict in ("a_better", "b_better"):
        better, worse = (c.b, c.a) if c.verdict == "b_better" else (c.a, c.b)
        text = (
            f"{better} is better than {worse} by {abs(c.diff_pp):.2f} points "
            f"(difference {c.b} - {c.a}: {interval}; {p_words}; {counts})."
        )
        if c.equivalence_p <= 1 - c.confidence:
            text += (
                f" The difference is real but smaller than the margin of {c.margin_pp:g} points."
            )
        return text
    if c.a_only + c.b_only == 0:
        start = (
            f"{c.a} and {c.b} are right and wrong on the same {examples}, which bounds the "
            f"true difference at {c.ci_pp[1]:.2f} points either way ({level})"
        )
        if c.verdict == "equivalent":
            return f"{start}: equivalent within {c.margin_pp:g} points (p = {_p(c.equivalence_p)})."
        return (
            f"{start}; that is too few examples to call them equivalent within "
            f"{c.margin_pp:g} points."
        )
    seen = f"difference {c.b} - {c.a} of {c.diff_pp:+.2f} points, {interval}; {p_words}; {counts}"
    if c.verdict == "equivalent":
        return (
            f"{c.a} and {c.b} are equivalent within {c.margin_pp:g} points "
            f"(two one-sided tests, p = {_p(c.equivalence_p)}; {seen})."
        )
    if excludes_zero != test_rejects:
        conflict = (
            f"the interval ({c.ci_method}) leaves out zero but the {test} does not reject"
            if excludes_zero
            else f"the {test} rejects but the interval ({c.ci_method}) holds zero"
        )
        text = f"Cannot tell {c.a} and {c.b} apart: {conflict}, and a verdict needs both ({seen})."
        if c.equivalence_p <= 1 - c.confidence:
            text += (
                f" Either way the difference is smaller than the margin of {c.margin_pp:g} points."
            )
        return text
    text = f"Cannot tell {c.a} and {c.b} apart: {seen}."
    if math.isnan(c.mde_pp):
        return f"{text} With {c.n} examples no difference, however large, would be found reliably."
    text += f" A true difference of {c.mde_pp:.2f} points would be found in 80 % of such studies."
    if c.diff_pp != 0 and c.groups is None:
        wrong = sign_error_probability(c.n, c.diff_pp, (c.a_only + c.b_only) / c.n).wrong
        text += (
            f" If the true difference were as large as the one seen, a new set of {c.n} examples "
            f"would show the opposite sign in {100 * wrong:.0f} % of studies."
        )
    return text


def _p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"
