"""Where an observed gain lies among those of random networks, and the spread of a random one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import betaincinv

from qinspect.errors import DataError
from qinspect.stats.intervals import check_confidence

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class PerturbationTest:
    """An observed gain against the gains of random perturbations.

    Attributes
    ----------
    observed_pp : float
        The gain in question, percentage points.
    draws : int
        Random networks.
    mean_pp, sd_pp : float
        Mean and standard deviation of their gains.
    range_pp : tuple of float
        Central range of their gains, at ``confidence``.
    percentile : float
        Share of them below the observed gain, ties counted half, in 0..1.
    p : float
        One-sided: (1 + those at least as great) / (1 + draws).
    p_ci : tuple of float
        Interval of the probability that a random network gains at least as much: what the
        limited number of draws leaves open.
    confidence : float
        Of ``range_pp`` and ``p_ci``.
    sentence : str
        The result in words.
    """

    observed_pp: float
    draws: int
    mean_pp: float
    sd_pp: float
    range_pp: tuple[float, float]
    percentile: float
    p: float
    p_ci: tuple[float, float]
    confidence: float
    sentence: str


def perturbation_test(
    observed_pp: float, null_pp: Array, *, confidence: float = 0.95
) -> PerturbationTest:
    """Is a gain greater than what random perturbations of equal size bring?

    Parameters
    ----------
    observed_pp : float
        The gain of the quantized network over the float one, percentage points.
    null_pp : array_like, shape (draws,)
        Gains of randomly perturbed networks over the float one, on the same examples.
    confidence : float
        Level of the intervals; the sentence calls the gain more than luck if p is at most
        1 - confidence.

    Returns
    -------
    PerturbationTest

    Raises
    ------
    DataError
        If there are no gains, or one is not finite.

    Notes
    -----
    The p-value counts the observed network among the draws, which makes the test valid for any
    number of them (Phipson and Smyth 2010).  ``p_ci`` is the exact binomial interval of Clopper
    and Pearson (1934).
    """
    check_confidence(confidence)
    null = _finite(null_pp)
    if not np.isfinite(observed_pp):
        raise DataError(f"the observed gain is {observed_pp}; it must be a finite number.")
    n = len(null)
    # Accuracies are counts over n: differences within rounding error are ties.
    above = int(np.count_nonzero(null >= observed_pp - 1e-9))
    ties = int(np.count_nonzero(np.abs(null - observed_pp) <= 1e-9))
    p = (1 + above) / (1 + n)
    low, high = np.quantile(null, [(1 - confidence) / 2, (1 + confidence) / 2])
    percentile = (n - above + ties / 2) / n
    lucky = "more than" if p <= 1 - confidence else "not more than"
    sentence = (
        f"A gain of {observed_pp:+.2f} points is {lucky} what random weight noise of this size "
        f"does: {n} random networks gain {np.mean(null):+.2f} points on average, "
        f"{100 * confidence:g} % of them between {low:+.2f} and {high:+.2f}, and {above} gain at "
        f"least as much (p = {p:.3f})."
    )
    return PerturbationTest(
        observed_pp=float(observed_pp),
        draws=n,
        mean_pp=float(np.mean(null)),
        sd_pp=float(np.std(null, ddof=1)) if n > 1 else float("nan"),
        range_pp=(float(low), float(high)),
        percentile=percentile,
        p=p,
        p_ci=_clopper_pearson(above, n, confidence),
        confidence=confidence,
        sentence=sentence,
    )


def spread(accuracy: Array, reference: float, *, confidence: float = 0.95) -> dict[str, float]:
    """How much the accuracy of a model varies over random choices, and how often it wins.

    Parameters
    ----------
    accuracy : array_like, shape (draws,)
        Accuracies in 0..1, one for each choice (of a calibration set, for example).
    reference : float
        Accuracy of the model compared with (the float one), in 0..1.
    confidence : float
        Level of the central range and of the interval of the share.

    Returns
    -------
    dict
        draws; mean, sd, low, high (central range), least, greatest: shares in 0..1;
        above : share of draws above the reference, with above_low and above_high.

    Raises
    ------
    DataError
        If there are no accuracies, or one is not finite.
    """
    check_confidence(confidence)
    values = _finite(accuracy)
    n = len(values)
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    above = int(np.count_nonzero(values > reference + 1e-12))
    above_low, above_high = _clopper_pearson(above, n, confidence)
    return {
        "draws": n,
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)) if n > 1 else float("nan"),
        "low": float(low),
        "high": float(high),
        "least": float(values.min()),
        "greatest": float(values.max()),
        "above": above / n,
        "above_low": above_low,
        "above_high": above_high,
    }


def _finite(values: Array) -> Array:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or found.size == 0:
        raise DataError(f"there must be a list of results, not an array of shape {found.shape}.")
    if not np.isfinite(found).all():
        raise DataError(
            f"{int(np.count_nonzero(~np.isfinite(found)))} of {found.size} results are NaN or "
            "infinite."
        )
    return found


def _clopper_pearson(successes: int, n: int, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 1 - tail))
    return low, high
