"""Looking several times while examples or seeds are added, at one error rate in all."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr, ndtri

from qinspect.errors import SpecError
from qinspect.schema import Array

# Half the width of the grid in standard deviations, and its points.
_REACH, _POINTS = 8.0, 801
_HALVINGS = 40


def alpha_spent(fraction: float, alpha: float = 0.05) -> float:
    """Two-sided error that may be spent up to a share of what will be collected.

    References
    ----------
    Lan and DeMets (1983), Biometrika 70, 659-663; the function that resembles O'Brien and Fleming.

    Examples
    --------
    >>> round(alpha_spent(0.5), 4), round(alpha_spent(1.0), 4)
    (0.0031, 0.05)
    """
    return float(4 * ndtr(ndtri(alpha / 4) / math.sqrt(fraction)))


def look_levels(fractions: Sequence[float], alpha: float = 0.05) -> list[float]:
    """Level of the two-sided p-value at each look, so that all looks together err at ``alpha``.

    Parameters
    ----------
    fractions : sequence of float
        Share of the examples, or of the seeds, that each look has, rising up to at most 1.
    alpha : float
        Error of all looks together.

    Returns
    -------
    list of float
        At look k a difference is shown if its p-value is at most the k-th level.

    Raises
    ------
    SpecError
        When the shares do not rise within 0..1, or alpha is not between 0 and 0.5.

    References
    ----------
    Armitage, McPherson and Rowe (1969), Journal of the Royal Statistical Society A 132, 235-244
    (the recursion); Lan and DeMets (1983), Biometrika 70, 659-663.

    Examples
    --------
    >>> [round(level, 4) for level in look_levels([0.5, 1.0])]
    [0.0031, 0.049]
    """
    t = np.asarray(fractions, dtype=np.float64)
    if t.size == 0 or not (t[0] > 0 and np.all(np.diff(t) > 0) and t[-1] <= 1 + 1e-12):
        raise SpecError(f"the looks are at {list(fractions)} of all; give rising shares above 0 "
                        "and up to 1.")
    if not 0 < alpha < 0.5:
        raise SpecError(f"alpha is {alpha}; it must lie between 0 and 0.5, such as 0.05.")
    found, spent, last = [], 0.0, 0.0
    # Density of the sum so far, sqrt(t) z, where no look has shown anything; a point at first.
    where, weight = np.zeros(1), np.ones(1)
    for now in t:
        step = math.sqrt(now - last)
        left = alpha_spent(now, alpha) - spent

        def outside(z: float, step: float = step, now: float = now, at: Array = where,
                    mass: Array = weight) -> float:
            end = z * math.sqrt(now)
            return float(mass @ (ndtr((at - end) / step) + ndtr((-at - end) / step)))

        low, high = 0.0, 2 * _REACH
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if outside(middle) > left else (low, middle)
        found.append(float(2 * ndtr(-high)))
        spent += outside(high)
        end = min(high, _REACH) * math.sqrt(now)
        grid = np.linspace(-end, end, _POINTS)
        kernel = np.exp(-(((grid[:, None] - where) / step) ** 2) / 2)
        weight = kernel @ weight / (step * math.sqrt(2 * math.pi)) * _simpson(grid)
        where, last = grid, float(now)
    return found


def look_confidence(look: int, of: int, confidence: float = 0.95) -> float:
    """Level of intervals and tests at one of several equally spaced looks, all at ``confidence``.

    Parameters
    ----------
    look, of : int
        Which look it is, from 1, and how many are planned: after ``look / of`` of the examples, or
        seeds, that will be collected.
    confidence : float
        Two-sided level of all looks together.

    Returns
    -------
    float
        To be given as ``confidence`` at this look.

    Raises
    ------
    SpecError
        When there is no such look.

    Examples
    --------
    >>> round(look_confidence(1, 2), 4), round(look_confidence(2, 2), 4)
    (0.9969, 0.951)
    """
    if not 1 <= look <= of:
        raise SpecError(f"look {look} of {of} does not exist; number the looks from 1 to {of}.")
    return 1 - look_levels([one / of for one in range(1, look + 1)], 1 - confidence)[-1]


def _simpson(grid: Array) -> Array:
    """Weights of Simpson's rule on an even grid."""
    weights = np.full(len(grid), 2.0)
    weights[1::2] = 4.0
    weights[[0, -1]] = 1.0
    return weights * (grid[1] - grid[0]) / 3
