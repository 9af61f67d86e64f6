"""Tables of seeds x examples: variance components, and means for new seeds and new examples."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import stdtrit

from qinspect.schema import Array
from qinspect.stats.intervals import tango_interval

_CHUNK = 1 << 21


def variance_components(difference: Array) -> dict[str, float]:
    """Unbiased variance components of a seeds x examples table.

    Model: d[s, e] = mean + seed[s] + example[e] + residual[s, e], all random.  The estimators
    equate the mean squares with their expectations, so they are unbiased and can be negative.

    Parameters
    ----------
    difference : ndarray, shape (seeds, n)
        At least 2 x 2.

    Returns
    -------
    dict
        ``seed``, ``example`` and ``residual``.
    """
    seeds, n = difference.shape
    of_seed, of_example, of_residual = _mean_squares(difference)
    return {
        "seed": (of_seed - of_residual) / n,
        "example": (of_example - of_residual) / seeds,
        "residual": of_residual,
    }


def crossed_interval(difference: Array, confidence: float) -> tuple[float, float]:
    """Interval of the mean for new seeds and new examples.

    The variance of the mean is estimated from the mean squares; Student's t takes Satterthwaite's
    degrees of freedom, so that few seeds give a wide interval.

    Parameters
    ----------
    difference : ndarray, shape (seeds, n)
        Difference of each seed on each example, at least 2 x 2.
    confidence : float
        Two-sided level.

    Returns
    -------
    low, high : float
        In the unit of ``difference``.  When nothing varies: Tango's bounds for differences of 0/1
        scores, NaN for others.

    References
    ----------
    Satterthwaite (1946), Biometrics Bulletin 2, 110-114.
    """
    seeds, n = difference.shape
    mean = float(difference.mean())
    squares = np.array(_mean_squares(difference))
    # var(mean) = (MS_seed + MS_example - MS_residual) / (seeds n); never below its largest part.
    variance = max(squares[0] + squares[1] - squares[2], squares[0], squares[1])
    if variance == 0:
        # Nothing varies, which bounds a difference of 0/1 scores but not of unbounded ones.
        if mean not in (-1, 0, 1):
            return math.nan, math.nan
        low, high = tango_interval(n, n * (mean == -1), n * (mean == 1), confidence)
        return float(low), float(high)
    freedom = variance**2 / (
        squares[0] ** 2 / (seeds - 1)
        + squares[1] ** 2 / (n - 1)
        + squares[2] ** 2 / ((seeds - 1) * (n - 1))
    )
    quantile = float(stdtrit(max(1.0, freedom), (1 + confidence) / 2))
    half = quantile * math.sqrt(variance / (seeds * n))
    return mean - half, mean + half


def crossed_bootstrap(
    difference: Array, *, n_resamples: int = 9999, rng: int | np.random.Generator = 0
) -> Array:
    """Means of resamples that draw seeds and examples independently, with replacement.

    Examples on which all seeds agree that the difference is zero only matter by their number, so
    a resample draws how many of the others it holds, and then which.

    Parameters
    ----------
    difference : ndarray, shape (seeds, n)
        Difference of each seed on each example.
    n_resamples : int
        Number of resamples.
    rng : int or Generator
        Seed or generator.

    Returns
    -------
    ndarray of float64, shape (n_resamples,)
    """
    generator = np.random.default_rng(rng)
    seeds, n = difference.shape
    active = difference[:, np.any(difference != 0, axis=0)].astype(np.float64)
    count = active.shape[1]
    sums = np.zeros(n_resamples)
    if count == 0:
        return sums
    drawn = generator.binomial(n, count / n, size=n_resamples)
    step = max(1, _CHUNK // count)
    for start in range(0, n_resamples, step):
        rows = min(step, n_resamples - start)
        seed_counts = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=rows)
        of_example = seed_counts.astype(np.float64) @ active
        for row in range(rows):
            index = generator.integers(0, count, size=drawn[start + row], dtype=np.int32)
            sums[start + row] = of_example[row][index].sum()
    return sums / (seeds * n)


def _mean_squares(difference: Array) -> tuple[float, float, float]:
    seeds, n = difference.shape
    mean = difference.mean()
    rows = difference.mean(axis=1) - mean
    columns = difference.mean(axis=0) - mean
    total = float(np.sum((difference - mean) ** 2))
    seed_squares, example_squares = n * float(rows @ rows), seeds * float(columns @ columns)
    # Rounding may leave a tiny negative rest when one of the two effects explains everything.
    rest = max(0.0, total - seed_squares - example_squares)
    return (
        seed_squares / (seeds - 1),
        example_squares / (n - 1),
        rest / ((seeds - 1) * (n - 1)),
    )
