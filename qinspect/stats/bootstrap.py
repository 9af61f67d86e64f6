"""Bootstrap of a mean: resampled means, percentile and BCa intervals.

Resampling examples with replacement only changes how often each distinct value occurs, and those
counts are multinomial.  A 0/1 score has two distinct values, the difference of two has three, so
one multinomial draw of two or three counts replaces drawing thousands of examples, with exactly
the same distribution.  Scores with many distinct values are drawn example by example, vectorised
in chunks of bounded memory.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from qinspect.errors import DataError, SpecError
from qinspect.schema import Array
from qinspect.stats.groups import group_sums

# Distinct units, one row (sum of the scores, number of examples) each, and how often they occur.
Units = tuple[Array, Array]

# Elements of one chunk (16 MB of float64).
_CHUNK = 1 << 21
# A multinomial draw costs about this many times what drawing one example costs, per value.
_LEVEL_COST = 8
_RESAMPLES = 9999


def bootstrap_distribution(
    values: Array, *, groups: Array | None = None, n_resamples: int = _RESAMPLES,
    rng: int | np.random.Generator = 0,
) -> Array:
    """Means of resamples of ``values`` drawn with replacement.

    Parameters
    ----------
    values : array_like, shape (n,)
        One score an example, such as the difference of two models' scores.
    groups : array_like or None, shape (n,)
        Cluster of each example (frames of one video); whole clusters are resampled.
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
        When arrays are empty, of unequal length or not finite.
    SpecError
        When ``n_resamples`` is below 1.

    References
    ----------
    Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapters 6 and 8; the multinomial
    view of resampling: section 20.2.

    Examples
    --------
    >>> means = bootstrap_distribution([0, 0, 0, 1], rng=0)
    >>> round(float(means.mean()), 2), sorted(set(means.tolist()))
    (0.25, [0.0, 0.25, 0.5, 0.75, 1.0])
    """
    return draw_means(units_of(values, groups), n_resamples, np.random.default_rng(rng))


def units_of(values: Array, groups: Array | None = None) -> Units:
    """Check a sample and reduce it to its distinct units: examples, or whole groups."""
    values = np.asarray(values)
    if values.ndim != 1 or values.size == 0:
        raise DataError(
            f"scores must be one array with at least one example, but have shape {values.shape}."
        )
    if groups is not None:
        return grouped(*group_sums(_finite(values), groups))
    if values.dtype.kind in "bi" and values.dtype.itemsize <= 2:
        # Small integers need no sorting.
        whole = values.astype(np.int32)
        lowest = int(whole.min())
        counts = np.bincount(whole - lowest)
        distinct = np.flatnonzero(counts)
        counts, levels = counts[distinct], (distinct + lowest).astype(np.float64)
    else:
        levels, counts = np.unique(_finite(values), return_counts=True)
    return np.column_stack([levels, np.ones(len(levels))]), counts


def counted(n: int, a_only: int, b_only: int) -> Units:
    """Units of a paired accuracy difference, from its counts alone."""
    levels = np.array([[-1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    return levels, np.array([a_only, n - a_only - b_only, b_only])


def grouped(sums: Array, sizes: Array) -> Units:
    """Units that are whole groups."""
    distinct, counts = np.unique(np.column_stack([sums, sizes]), axis=0, return_counts=True)
    return distinct, counts


def draw_means(units: Units, n_resamples: int, rng: np.random.Generator) -> Array:
    """Means over examples of resamples of the units."""
    if n_resamples < 1:
        raise SpecError(f"{n_resamples} resamples were asked for; at least 1 is needed.")
    levels, counts = units
    total = np.zeros((n_resamples, 2))
    n = int(counts.sum())
    few = len(levels) * _LEVEL_COST <= n
    each = levels if few else np.repeat(levels, counts, axis=0)
    step = max(1, _CHUNK // len(each))
    equal_weight = bool(np.all(levels[:, 1] == levels[0, 1]))
    for start in range(0, n_resamples, step):
        part = slice(start, min(start + step, n_resamples))
        rows = part.stop - part.start
        if few:
            total[part] = rng.multinomial(n, counts / n, size=rows) @ levels
            continue
        index = rng.integers(0, n, size=(rows, n), dtype=np.int32)
        total[part, 0] = each[:, 0][index].sum(axis=1)
        total[part, 1] = n * levels[0, 1] if equal_weight else each[:, 1][index].sum(axis=1)
    means: Array = total[:, 0] / total[:, 1]
    return means


def bootstrap_intervals(
    units: Units, *, confidence: float, rng: int | np.random.Generator
) -> dict[str, tuple[float, float]]:
    """Percentile and BCa intervals of the mean; NaN when every resample is the same.

    References
    ----------
    Efron (1987), Journal of the American Statistical Association 82, 171-185 (BCa).
    """
    means = draw_means(units, _RESAMPLES, np.random.default_rng(rng))
    if means.min() == means.max():
        return {"percentile": (np.nan, np.nan), "bca": (np.nan, np.nan)}
    levels, counts = units
    totals = counts @ levels
    estimate = totals[0] / totals[1]
    tail = (1 - confidence) / 2
    plain = np.array([tail, 1 - tail])
    # Empirical influence of each unit on the ratio of sums.
    influence = levels[:, 0] - estimate * levels[:, 1]
    influence = influence - counts @ influence / counts.sum()
    spread, skew = float(counts @ influence**2), float(counts @ influence**3)
    below = np.count_nonzero(means < estimate) + np.count_nonzero(means <= estimate)
    accelerated = plain
    if spread > 0 and 0 < below < 2 * len(means):
        accelerated = bca_levels(below / (2 * len(means)), skew / (6 * spread**1.5), tail)
    return {name: tuple(np.quantile(means, at).tolist())
            for name, at in (("percentile", plain), ("bca", accelerated))}


def bca_levels(below: float | Array, acceleration: float | Array, tail: float) -> Array:
    """Probabilities (..., 2) at which BCa reads the bootstrap distribution.

    ``below`` is the share of resampled means below the estimate, ties counted half;
    ``acceleration`` a sixth of the skewness of the influence values; ``tail`` such as 0.025.

    References
    ----------
    Efron and Tibshirani (1993), equations 14.10, 14.14 and 14.15.
    """
    bias = ndtri(np.asarray(below))[..., None]
    shifted = bias + ndtri(np.array([tail, 1 - tail]))
    levels: Array = ndtr(bias + shifted / (1 - np.asarray(acceleration)[..., None] * shifted))
    return levels


def _finite(values: Array) -> Array:
    if values.dtype.kind not in "biuf":
        raise DataError(f"scores are of type {values.dtype}; they must be numbers.")
    array = values.astype(np.float64)
    bad = int(np.count_nonzero(~np.isfinite(array)))
    if bad:
        raise DataError(f"{bad} of {len(array)} scores are NaN or infinite; remove or mend them.")
    return array
