"""Comparison."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["a_better", "b_better", "equivalent", "cannot_tell"]
VERDICTS: tuple[str, ...] = ("a_better", "b_better", "equivalent", "cannot_tell")


# --- stats -----------------------------------------------------------------------------------


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
        Shares in 0..1.
    diff_pp : float
        100 (accuracy_b - accuracy_a), percentage points.
    ci_pp : tuple of float
        Default interval of ``diff_pp`` at ``confidence``, made by ``ci_method``.
    mcnemar_p : float
        Exact two-sided McNemar p-value; 1 when nothing disagrees.
    a_only, b_only : int
        Examples that only a, only b gets right.
    mde_pp : float
        Smallest difference detectable at 80 % power given the observed disagreement.
    verdict : str
        One of :data:`VERDICTS`.
    sentence : str
        The verdict in words, with its reason.
    p_adjusted : float or None
        p-value of the verdict's test after Holm's correction for several comparisons.
    groups : int or None
        Number of clusters of examples, when they were given.
    group_p : float or None
        Sign-flip p-value over whole groups; takes the place of ``mcnemar_p`` in the verdict.
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
    verdict: Verdict
    sentence: str
    intervals_pp: dict[str, tuple[float, float]] = field(default_factory=dict)
    p_adjusted: float | None = None
    groups: int | None = None
    group_p: float | None = None
