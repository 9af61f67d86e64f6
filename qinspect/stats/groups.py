"""Examples that come in groups: how much less they say than as many independent ones."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri, stdtrit

from qinspect.errors import DataError
from qinspect.schema import Array

# Fewer effective groups, or differences, say too little to rest on their spread alone; chosen.
FEW = 15


def group_sums(values: Array, groups: Array) -> tuple[Array, Array]:
    """Sum of the values (..., n) over each group's examples, and the number of these."""
    labels = np.asarray(groups)
    if labels.shape != values.shape[-1:]:
        raise DataError(
            f"groups have shape {labels.shape}; {values.shape[-1]} examples need one label each."
        )
    code = np.unique(labels, return_inverse=True)[1]
    sizes = np.bincount(code)
    if len(sizes) < 2:
        raise DataError("all examples are in one group; at least two groups are needed, so give "
                        "examples of others or leave the groups out.")
    sums = np.apply_along_axis(lambda row: np.bincount(code, row), -1, values)
    return sums, sizes


def linearised(values: Array, groups: Array) -> Array:
    """Values (..., groups) with the mean of ``values`` (..., n) and each group's part in it.

    The mean over examples is a ratio, sum over size; its linearised part in a group is
    (sum - mean x size) groups / n, whatever the sizes.
    """
    sums, sizes = group_sums(values, groups)
    mean = values.mean(axis=-1, keepdims=True)
    found: Array = mean + (sums - mean * sizes) * len(sizes) / values.shape[-1]
    return found


def effective_number(parts: Array) -> Array:
    """How many parts of one size say as much as these, (sum x)^2 / sum x^2 over the last axis.

    References
    ----------
    Kish (1965), Survey Sampling, section 11.7.
    """
    parts = np.asarray(parts, np.float64)
    squares = np.sum(parts * parts, axis=-1)
    found: Array = np.divide(parts.sum(axis=-1) ** 2, squares, out=np.zeros(np.shape(squares)),
                             where=squares > 0)
    return found


def design_effect(
    alone: Array, sums: Array, sizes: Array, confidence: float
) -> tuple[Array, Array]:
    """How many grouped examples count as one independent one, and the degrees of freedom of that.

    The variance of the mean over that of as many independent examples, at least 1.  It is estimated
    from the squared residuals of the groups' sums.  Behind it stand the effective number of groups
    less one and, as far as examples share groups, the effective number of these squares: a few
    groups with all that varies say little about the others.  Where that is wider than groups
    that count as one example each, they do; so they do where nothing varies.

    Parameters
    ----------
    alone : array_like, shape (...)
        Sum of squares of the values about their mean.
    sums, sizes : array_like, shape (..., groups)
        Sum of the values of each group, and its number of examples.
    confidence : float
        Two-sided level at which the two are compared.

    Returns
    -------
    effect, freedom : ndarray, shape (...)

    References
    ----------
    Rao and Scott (1992), Biometrics 48, 577-585; ratio of sums: Cochran (1977), Sampling
    Techniques, section 6.3; freedom of a sum of squares: Satterthwaite (1946), Biometrics Bulletin
    2, 110-114.  Coverage: docs/intervals.md.
    """
    alone, sums, sizes = (np.asarray(each, np.float64) for each in (alone, sums, sizes))
    n, count = sizes.sum(axis=-1), effective_number(sizes)
    squares = (sums - (sums.sum(axis=-1) / n)[..., None] * sizes) ** 2
    together = squares.sum(axis=-1) * count / (count - 1)
    whole = n / count
    effect = np.where(alone > 0, np.maximum(1.0, together / np.where(alone > 0, alone, 1)), whole)
    few = 1 / (1 / (count - 1) + (1 - count / n) / np.maximum(1.0, effective_number(squares)))
    freedom, most = np.maximum(1.0, few), np.maximum(1.0, count - 1)
    bounded = np.maximum(effect, whole)
    tail = (1 + confidence) / 2
    narrow = effect * stdtrit(freedom, tail) ** 2 < bounded * stdtrit(most, tail) ** 2
    return np.where(narrow, effect, bounded), np.where(narrow, freedom, most)


def effect_of(values: Array, groups: Array, confidence: float) -> tuple[float, float]:
    """The design effect of the mean of grouped values, and its degrees of freedom."""
    sums, sizes = group_sums(values, groups)
    alone = np.sum((values - values.mean()) ** 2)
    effect, freedom = design_effect(alone, sums, sizes, confidence)
    return float(effect), float(freedom)


def widened(effect: Array | float, freedom: Array | float, confidence: float) -> Array:
    """What counts are divided by in a score interval, whose quantile is the normal one."""
    tail = (1 + confidence) / 2
    found: Array = effect * (stdtrit(freedom, tail) / ndtri(tail)) ** 2
    return found


def examples_a_piece(values: Array, groups: Array | None, confidence: float) -> float:
    """Examples that count as one independent one in a score interval; 1 without groups."""
    if groups is None:
        return 1.0
    return float(widened(*effect_of(values, groups, confidence), confidence))
