"""A difference that is looked at because it is significant is too large on average."""

from __future__ import annotations

import math

from scipy.special import ndtr, ndtri

from qinspect.stats.intervals import check_confidence


def unselected(gap: float, error: float, confidence: float = 0.95) -> float:
    """Likeliest true difference, given that it was chosen for being significant.

    The likelihood is that of a normal estimate which is only seen beyond the level, so that a
    difference that just reached it shrinks to nearly nothing and a clear one stays as it is.

    Parameters
    ----------
    gap, error : float
        Difference that was seen, and its standard error.
    confidence : float
        Two-sided level at which it is significant.

    Returns
    -------
    float
        Between 0 and ``gap``.

    References
    ----------
    Zhong and Prentice (2008), Biostatistics 9, 621-634.

    Examples
    --------
    >>> [round(unselected(gap, 1.0), 2) for gap in (2.0, 2.5, 3.0, 5.0)]
    [0.5, 1.14, 2.52, 5.0]
    """
    from scipy.optimize import brentq  # slow to import

    level = float(ndtri((1 + check_confidence(confidence)) / 2))
    seen = abs(gap) / error if error > 0 else math.inf
    if math.isinf(seen):
        return gap

    def excess(true: float) -> float:
        """How far the mean of what is seen beyond the level lies below what was seen."""
        density = [math.exp(-((level - side * true) ** 2) / 2) / math.sqrt(2 * math.pi)
                   for side in (1, -1)]
        beyond = float(ndtr(true - level) + ndtr(-true - level))
        return seen - true - (density[0] - density[1]) / beyond

    # At 0 both sides cancel; the sign beside it says whether anything is left.
    start = 1e-6
    if excess(start) <= 0:
        return 0.0
    return math.copysign(error * float(brentq(excess, start, seen)), gap)
