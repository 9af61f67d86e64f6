"""The binomial distribution function on ``scipy.special``: ``scipy.stats`` is slow to import."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import betainc

from qinspect.schema import Array


def binomial_cdf(most: Any, n: Any, probability: float) -> Array:
    """Probability of at most ``most`` successes in ``n`` trials.

    Parameters
    ----------
    most, n : int or array_like
        They broadcast; ``most`` below 0 gives 0, from ``n`` on 1.
    probability : float
        Of one success, 0..1.

    Returns
    -------
    ndarray of float64

    References
    ----------
    Abramowitz and Stegun (1964), 26.5.24: a regularised incomplete beta function.
    """
    most, n = np.broadcast_arrays(np.asarray(most, np.float64), np.asarray(n, np.float64))
    inside = (most >= 0) & (most < n)
    k = np.where(inside, most, 0.0)
    value = betainc(np.where(inside, n - k, 1.0), k + 1, 1 - probability)
    return np.where(inside, value, np.where(most < 0, 0.0, 1.0))
