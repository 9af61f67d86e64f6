"""One proportion (Wilson), a paired difference of proportions (Tango), and its equivalence test."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import ndtri, stdtr

from qinspect.errors import SpecError
from qinspect.schema import Array
from qinspect.stats.exact import binomial_cdf

# Up to so many disagreements a margin is tested exactly; beyond, equivalence at the margin is wrong
# in at most 5.0 % (enumerated for n = 300 to 10,000, margins of 0.5 to 2 points, 1.2 to 30 %
# disagreement).
_FEW = 30
# Shares of the other model's wins over which the exact p-value is maximised.
_SHARES = 25
# Numbers of wins less likely than that add nothing to an exact p-value.
_NEVER = 1e-15
# Halving [-1, 1] this often reaches the spacing of doubles around 1.
_HALVINGS = 56
# Into so many parts, at most, and of so many points in all, an interval is cut at once.
_PARTS, _AT_ONCE = 64, 256


def check_confidence(confidence: float) -> float:
    """Return ``confidence`` if it lies strictly between 0.5 and 1."""
    if not 0.5 < confidence < 1:
        raise SpecError(f"confidence is {confidence}; it must lie between 0.5 and 1, such as 0.95.")
    return float(confidence)


def wilson_interval(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of one proportion.

    Parameters
    ----------
    successes, n : float
        ``0 <= successes <= n``, ``n > 0``; effective numbers of grouped examples may be broken.
    confidence : float
        Two-sided level.

    Returns
    -------
    tuple of float
        Low and high, shares in 0..1.

    Raises
    ------
    SpecError
        When the counts or the level are impossible.

    References
    ----------
    Wilson (1927), Journal of the American Statistical Association 22, 209-212.

    Examples
    --------
    >>> low, high = wilson_interval(90, 100)
    >>> round(low, 4), round(high, 4)
    (0.8256, 0.9448)
    """
    if n <= 0 or not 0 <= successes <= n:
        raise SpecError(f"{successes} successes of {n} are impossible; need 0 <= successes <= n.")
    z2 = float(ndtri((1 + check_confidence(confidence)) / 2)) ** 2
    p = successes / n
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # The bounds at 0 and n successes are exactly 0 and 1; rounding may miss them.
    low = 0.0 if successes == 0 else max(0.0, float(middle - half))
    high = 1.0 if successes == n else min(1.0, float(middle + half))
    return low, high


def tango_statistic(n: Any, a_only: Any, b_only: Any, difference: Any) -> Array:
    """Score statistic of the hypothesis that accuracy b - accuracy a is ``difference`` (a share).

    Standard normal under it for large samples, strictly decreasing in ``difference``, +-inf where
    the hypothesis cannot have produced the counts.  All arguments broadcast.

    References
    ----------
    Tango (1998), Statistics in Medicine 17, 891-908, equation (13).
    """
    n, a_only, b_only, difference = (
        np.asarray(v, dtype=np.float64) for v in (n, a_only, b_only, difference)
    )
    negative = difference < 0
    # Exchanging the models negates the statistic; for differences >= 0 nothing cancels.
    d = np.abs(difference)
    more = np.where(negative, a_only, b_only)
    fewer = np.where(negative, b_only, a_only)
    # Restricted maximum-likelihood estimate q of the probability of the `fewer` cell.
    linear = (2 * n - more + fewer) * d - more - fewer
    constant = -fewer * d * (1 - d)
    root = np.sqrt(linear * linear - 8 * n * constant)
    with np.errstate(divide="ignore", invalid="ignore"):
        q = np.where(linear > 0, -2 * constant / (linear + root), (root - linear) / (4 * n))
        numerator = more - fewer - n * d
        value = numerator / np.sqrt(n * (2 * q + d * (1 - d)))
    value = np.where(numerator == 0, 0.0, value)
    return np.where(negative, -value, value)


def tango_interval(n: Any, a_only: Any, b_only: Any, confidence: float = 0.95) -> tuple[Any, Any]:
    """Score interval of accuracy b - accuracy a on the same examples.

    Never of zero width: with no disagreement it is +-z^2 / (n + z^2).

    Parameters
    ----------
    n, a_only, b_only : float or array_like
        Examples, and how many of them only a, only b gets right; they broadcast, and effective
        numbers of grouped examples may be broken.
    confidence : float
        Two-sided level.

    Returns
    -------
    low, high : float or ndarray
        Shares in -1..1; floats when all counts are scalars.

    Raises
    ------
    SpecError
        When the counts or the level are impossible.

    References
    ----------
    Tango (1998), Statistics in Medicine 17, 891-908.

    Examples
    --------
    >>> low, high = tango_interval(449, 2, 9)
    >>> round(100 * low, 2), round(100 * high, 2)
    (0.13, 3.38)
    """
    n, a_only, b_only = np.broadcast_arrays(n, a_only, b_only)
    possible = (n > 0) & (a_only >= 0) & (b_only >= 0) & (a_only + b_only <= n * (1 + 1e-12))
    if not np.all(possible):
        raise SpecError("disagreements must be at least 0 and together at most n, and n positive.")
    z = float(ndtri((1 + check_confidence(confidence)) / 2))
    estimate = (b_only - a_only) / n
    whole = np.ones_like(estimate)
    low, high = _solve(n, a_only, b_only, np.stack([-whole, estimate]),
                       np.stack([estimate, whole]), np.stack([z * whole, -z * whole]))
    if estimate.ndim == 0:
        return float(low), float(high)
    return low, high


def equivalence_test(
    n: float, a_only: float, b_only: float, margin_pp: float, freedom: float = math.inf
) -> float:
    """p-value of the hypothesis that the accuracies differ by ``margin_pp`` or more.

    A small value shows equivalence within the margin: it is the larger one of ``margin_tests``.

    Parameters
    ----------
    n, a_only, b_only : float
        Examples, and how many of them only a, only b gets right; effective numbers may be broken.
    margin_pp : float
        Margin in percentage points, above 0 and below 100.
    freedom : float
        Degrees of freedom of Student's t in the place of the normal distribution.

    Returns
    -------
    float
        p-value in 0..1.

    Raises
    ------
    SpecError
        When the margin is not positive or reaches 100.

    References
    ----------
    Schuirmann (1987), Journal of Pharmacokinetics and Biopharmaceutics 15, 657-680; with the
    score statistic of Tango (1998): Liu et al. (2002), Statistics in Medicine 21, 231-245.

    Examples
    --------
    >>> round(equivalence_test(2000, 30, 40, 1.0), 4)
    0.12
    >>> round(equivalence_test(299, 0, 0, 1.0), 4), round(0.99**299, 4)
    (0.0495, 0.0495)
    """
    return max(margin_tests(n, a_only, b_only, margin_pp, freedom))


def margin_tests(
    n: float, a_only: float, b_only: float, margin_pp: float, freedom: float = math.inf
) -> tuple[float, float]:
    """p-values of the hypotheses that b is worse than a by a margin or more, and better by it.

    A small first value shows that b is not inferior.  Both are one-sided tests with Tango's score
    statistic; with at most 30 disagreements its distribution is exact, the largest p-value over
    the unknown share of examples that the better model gets wrong.

    Parameters
    ----------
    n, a_only, b_only : float
        Examples, and how many of them only a, only b gets right; effective numbers may be broken.
    margin_pp : float
        Margin in percentage points, above 0 and below 100.

    Returns
    -------
    worse, better : float
        Each in 0..1.

    Raises
    ------
    SpecError
        When the margin is not positive or reaches 100.

    References
    ----------
    Chan and Zhang (1999), Biometrics 55, 1202-1209 (exact unconditional tests); paired: Sidik
    (2003), Statistics in Medicine 22, 265-278.

    Examples
    --------
    >>> worse, better = margin_tests(449, 3, 0, 1.0)
    >>> round(worse, 3), round(better, 5)
    (0.343, 0.00246)
    """
    if not 0 < margin_pp < 100 or not math.isfinite(margin_pp):
        raise SpecError(f"the margin is {margin_pp} points; it must lie between 0 and 100.")
    margin = margin_pp / 100
    if a_only + b_only <= _FEW and math.isinf(freedom):
        return (_exact_margin(n, a_only, b_only, margin), _exact_margin(n, b_only, a_only, margin))
    return (float(stdtr(freedom, -tango_statistic(n, a_only, b_only, -margin))),
            float(stdtr(freedom, tango_statistic(n, a_only, b_only, margin))))


@lru_cache(maxsize=1024)
def _exact_margin(n: float, a_only: float, b_only: float, margin: float) -> float:
    """Exact p-value of the hypothesis that a is better by ``margin`` (a share) or more."""
    # Of broken numbers the whole ones that speak less against the hypothesis.
    n, a_only, b_only = math.floor(n + 1e-9), math.ceil(a_only - 1e-9), math.floor(b_only + 1e-9)
    observed = float(tango_statistic(n, a_only, b_only, -margin)) - 1e-9
    wins = np.arange(min(n, 4 * (a_only + b_only) + _FEW) + 1, dtype=np.float64)
    # The most losses that are as far from the hypothesis, for each number of wins; -1: none.
    low, high = np.full(len(wins), -1.0), n - wins + 1
    while np.any(high - low > 1):
        middle = np.floor((low + high) / 2)
        far = (middle < 0) | (tango_statistic(n, np.maximum(middle, 0), wins, -margin) >= observed)
        low, high = np.where(far, middle, low), np.where(far, high, middle)
    # Beyond, b wins more often than it can have done with these counts.
    most = min((b_only + 4 * math.sqrt(b_only + 1) + 2) / n, (1 - margin) / 2)
    share = np.linspace(0.0, max(0.0, most), _SHARES)[:, None]
    likely = np.diff(binomial_cdf(wins, n, share), axis=1, prepend=0)
    some = likely > _NEVER
    losses = np.minimum(1.0, (share + margin) / (1 - share))
    tail = np.zeros_like(likely)
    tail[some] = binomial_cdf(*(np.broadcast_to(each, likely.shape)[some]
                                for each in (low, n - wins, losses)))
    return min(1.0, float((likely * tail).sum(axis=1).max()))


def _solve(
    n: Array, a_only: Array, b_only: Array, left: Array, right: Array, level: Array
) -> Array:
    """Where the decreasing statistic passes each ``level``, (levels, ...), by cutting up."""
    bits = int(math.log2(min(max(_AT_ONCE // left.size, 2), _PARTS)))
    inner = np.arange(1, 2**bits) / 2**bits
    n, a_only, b_only = n[..., None], a_only[..., None], b_only[..., None]
    for _ in range(-(-_HALVINGS // bits)):
        at = left[..., None] + (right - left)[..., None] * inner
        above = tango_statistic(n, a_only, b_only, at)
        passed = (above > level[..., None]).sum(axis=-1)
        part = (right - left) / 2**bits
        left, right = left + passed * part, np.where(passed == len(inner), right,
                                                     left + (passed + 1) * part)
    return np.where(level > 0, right, left)
