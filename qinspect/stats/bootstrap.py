"""Bootstrap of means and mean differences: distributions, percentile and BCa intervals."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.special import ndtr, ndtri

from qinspect.errors import DataError, SpecError
from qinspect.schema import Array
from qinspect.stats.intervals import check_confidence
from qinspect.stats.resampling import Layer, draw_means, estimate_of, layers_of

Method = Literal["percentile", "bca"]


def bootstrap_distribution(
    values: Array,
    *,
    groups: Array | None = None,
    weights: Array | None = None,
    strata: Array | None = None,
    n_resamples: int = 9999,
    rng: int | np.random.Generator = 0,
) -> Array:
    """Means of resamples of ``values`` drawn with replacement.

    Parameters
    ----------
    values : array_like, shape (n,)
        One score an example.
    groups : array_like or None, shape (n,)
        Cluster of each example (frames of one video); whole clusters are resampled.
    weights : array_like or None, shape (n,)
        Positive weight of each example in the mean.
    strata : array_like or None, shape (n,)
        Class of each example; the number of examples (or groups) of each class stays fixed.
    n_resamples : int
        Number of resamples, at least 1.
    rng : int or Generator
        Seed or generator.

    Returns
    -------
    ndarray of float64, shape (n_resamples,)
        Resampled means, in the unit of ``values``.

    Raises
    ------
    DataError
        When arrays are empty, of unequal length or not finite, a weight is not positive, or a
        group spans two strata.
    SpecError
        When ``n_resamples`` is below 1.

    References
    ----------
    Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapters 6 and 8; the multinomial
    view of resampling: section 20.2.
    """
    return draw_means(
        layers_of(values, groups, weights, strata), n_resamples, np.random.default_rng(rng)
    )


def bootstrap_mean(
    values: Array,
    *,
    confidence: float = 0.95,
    n_resamples: int = 9999,
    method: Method = "percentile",
    groups: Array | None = None,
    weights: Array | None = None,
    strata: Array | None = None,
    rng: int | np.random.Generator = 0,
) -> tuple[float, float, float]:
    """Mean of ``values`` with a bootstrap interval.

    When all values are equal, every resample is too and the interval has zero width: the bootstrap
    cannot see what the sample does not hold.  For contrasts of 0/1 correctness use
    :func:`qinspect.stats.contrast_interval`, which does not have that fault.

    Parameters
    ----------
    values, groups, weights, strata, n_resamples, rng
        As for :func:`bootstrap_distribution`.
    confidence : float
        Two-sided level.
    method : {"percentile", "bca"}
        Quantiles of the resampled means, as they are or bias-corrected and accelerated.

    Returns
    -------
    estimate, low, high : float
        In the unit of ``values``.

    Raises
    ------
    DataError, SpecError
        As for :func:`bootstrap_distribution`; also for an unknown method or level.

    References
    ----------
    Efron (1987), Journal of the American Statistical Association 82, 171-185 (BCa).
    """
    check_confidence(confidence)
    check_method(method)
    layers = layers_of(values, groups, weights, strata)
    means = draw_means(layers, n_resamples, np.random.default_rng(rng))
    estimate = estimate_of(layers)
    low, high = _interval(means, estimate, layers, confidence, method)
    return estimate, low, high


def bootstrap_difference(
    score_a: Array,
    score_b: Array,
    *,
    confidence: float = 0.95,
    n_resamples: int = 9999,
    method: Method = "percentile",
    groups: Array | None = None,
    weights: Array | None = None,
    strata: Array | None = None,
    rng: int | np.random.Generator = 0,
) -> tuple[float, float, float]:
    """Mean of score b - score a on the same examples, with a paired bootstrap interval.

    Parameters
    ----------
    score_a, score_b : array_like, shape (n,)
        Any per-example score: 0/1 correctness, top-k hit, loss, absolute error.
    confidence, n_resamples, method, groups, weights, strata, rng
        As for :func:`bootstrap_mean`.

    Returns
    -------
    estimate, low, high : float
        In the unit of the scores.

    Raises
    ------
    DataError, SpecError
        As for :func:`bootstrap_mean`; also when the two scores differ in length.
    """
    a, b = np.asarray(score_a), np.asarray(score_b)
    if a.shape != b.shape or a.ndim != 1:
        raise DataError(
            f"paired scores must be two arrays of equal length, but have shapes "
            f"{a.shape} and {b.shape}."
        )
    if a.dtype == bool and b.dtype == bool:
        difference: Array = b.view(np.int8) - a.view(np.int8)
    else:
        difference = b.astype(np.float64) - a.astype(np.float64)
    return bootstrap_mean(
        difference,
        confidence=confidence,
        n_resamples=n_resamples,
        method=method,
        groups=groups,
        weights=weights,
        strata=strata,
        rng=rng,
    )


def counted_intervals(
    n: int,
    a_only: int,
    b_only: int,
    *,
    confidence: float,
    n_resamples: int,
    rng: int | np.random.Generator,
) -> dict[str, tuple[float, float]]:
    """Percentile and BCa intervals of a paired accuracy difference from its counts alone.

    Parameters
    ----------
    n, a_only, b_only : int
        Examples, and how many of them only a, only b gets right.
    confidence, n_resamples, rng
        As for :func:`bootstrap_mean`.

    Returns
    -------
    dict
        ``percentile`` and ``bca``, each low and high as shares; NaN when every resample is the
        same, as when nothing disagrees.
    """
    levels = np.array([[-1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    layers = [(levels, np.array([a_only, n - a_only - b_only, b_only]))]
    return _both_intervals(layers, confidence, n_resamples, rng)


def grouped_intervals(
    difference: Array,
    groups: Array,
    *,
    confidence: float,
    n_resamples: int,
    rng: int | np.random.Generator,
) -> dict[str, tuple[float, float]]:
    """Percentile and BCa intervals of a mean paired difference, resampling whole groups.

    Parameters
    ----------
    difference : ndarray, shape (n,)
        Score of b minus score of a.
    groups : array_like, shape (n,)
        Cluster of each example.
    confidence, n_resamples, rng
        As for :func:`bootstrap_mean`.

    Returns
    -------
    dict
        As :func:`counted_intervals`.
    """
    layers = layers_of(difference, groups, None, None)
    return _both_intervals(layers, confidence, n_resamples, rng)


def check_method(method: str) -> None:
    """Raise SpecError unless ``method`` is a bootstrap interval."""
    if method not in ("percentile", "bca"):
        raise SpecError(f"unknown interval {method!r}; choose percentile or bca.")


def _interval(
    means: Array, estimate: float, layers: list[Layer], confidence: float, method: str
) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    probabilities = np.array([tail, 1 - tail])
    if method == "bca":
        spread, skew = 0.0, 0.0
        for levels, counts in layers:
            # Empirical influence of each unit on the ratio of sums, centred in its stratum.
            influence = levels[:, 0] - estimate * levels[:, 1]
            influence = influence - counts @ influence / counts.sum()
            spread += float(counts @ influence**2)
            skew += float(counts @ influence**3)
        below = np.count_nonzero(means < estimate) + np.count_nonzero(means <= estimate)
        if spread > 0 and 0 < below < 2 * len(means):
            probabilities = bca_levels(below / (2 * len(means)), skew / (6 * spread**1.5), tail)
    low, high = np.quantile(means, probabilities)
    return float(low), float(high)


def _both_intervals(
    layers: list[Layer], confidence: float, n_resamples: int, rng: int | np.random.Generator
) -> dict[str, tuple[float, float]]:
    means = draw_means(layers, n_resamples, np.random.default_rng(rng))
    if means.min() == means.max():
        return {"percentile": (np.nan, np.nan), "bca": (np.nan, np.nan)}
    estimate = estimate_of(layers)
    return {
        "percentile": _interval(means, estimate, layers, confidence, "percentile"),
        "bca": _interval(means, estimate, layers, confidence, "bca"),
    }


def bca_levels(below: float | Array, acceleration: float | Array, tail: float) -> Array:
    """Probabilities at which BCa reads the bootstrap distribution.

    Parameters
    ----------
    below : float or ndarray
        Share of resampled means below the estimate, ties counted half; between 0 and 1.
    acceleration : float or ndarray
        Sixth of the skewness of the influence values.
    tail : float
        Probability of one tail, such as 0.025.

    Returns
    -------
    ndarray, shape (..., 2)
        Lower and upper probability.

    References
    ----------
    Efron and Tibshirani (1993), equations 14.10, 14.14 and 14.15.
    """
    bias = ndtri(np.asarray(below))[..., None]
    shifted = bias + ndtri(np.array([tail, 1 - tail]))
    levels: Array = ndtr(bias + shifted / (1 - np.asarray(acceleration)[..., None] * shifted))
    return levels
