"""Power of the exact McNemar test: what a paired comparison of n examples can and cannot see.

The number of disagreements is binomial (n, disagreement), and those won by the better model are
binomial given it; every probability here is a sum over both, not a normal approximation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.special import ndtri

from qinspect.errors import SpecError
from qinspect.metrics import ACCURACY
from qinspect.schema import Array
from qinspect.stats.exact import binomial_cdf
from qinspect.verdicts import examples

_MAX_EXAMPLES = 10**9
# Standard deviations beyond which a power is 0 or 1.
_FAR = 8.0
# Numbers of disagreements whose critical values are made together.
_BLOCK = 1024
# Below this logarithm a probability counts as 0.
_NOTHING = -30.0


def mcnemar_power(n: int, diff_pp: float, disagreement: float, *, alpha: float = 0.05) -> float:
    """Probability that the exact two-sided McNemar test finds a true difference.

    Parameters
    ----------
    n : int
        Examples.
    diff_pp : float
        True accuracy difference in percentage points; the sign does not matter.
    disagreement : float
        Share of examples that exactly one model gets right, at least ``|diff_pp| / 100``.
    alpha : float
        Level of the test.

    Returns
    -------
    float
        Probability that p <= ``alpha``, in either direction.

    Raises
    ------
    SpecError
        When a value is impossible.

    Examples
    --------
    >>> round(mcnemar_power(449, 4, 0.06), 3)
    0.936
    """
    _check(n, disagreement, alpha)
    share = _share(diff_pp, disagreement)
    return sum(_found(n, disagreement, share, alpha))


def smallest_detectable(
    n: int, disagreement: float, power: float = 0.8, alpha: float = 0.05
) -> float:
    """Smallest true difference that the exact McNemar test finds with probability ``power``.

    A difference cannot exceed the disagreement; where the observed disagreement is too small for
    any detectable difference, the disagreement is taken to grow with the difference.

    Parameters
    ----------
    n : int
        Examples.
    disagreement : float
        Share of examples that exactly one model gets right, 0..1.
    power, alpha : float
        Wanted probability and level of the test.

    Returns
    -------
    float
        Percentage points; NaN when n is too small for the test to reach its level at all.

    Raises
    ------
    SpecError
        When a value is impossible.

    Examples
    --------
    >>> round(smallest_detectable(449, 0.03), 2)
    2.32
    """
    _check(n, disagreement, alpha)
    _check_power(power, alpha)

    # Even if every example were won by one model, p = 2^(1 - n) would not reach the level.
    if 2 * 0.5**n > alpha:
        return math.nan

    def over(difference: float) -> float:
        total = max(disagreement, difference)
        return _over(sum(_found(n, total, (1 + difference / total) / 2, alpha)), power)

    # Bracket from the normal approximation of the same power.
    quantiles = float(ndtri(1 - alpha / 2) + ndtri(power))
    high = min(1.0, quantiles * math.sqrt(max(disagreement, 1 / n) / n) + 1 / n)
    low, below = 0.0, -quantiles
    while (above := over(high)) < 0:
        if high == 1:
            return math.nan
        low, below, high = high, above, min(1.0, 1.1 * high)
    while high - low > 1e-5 * high:
        step = _between(below, above, 2e-6 * high / (high - low))
        middle = low + step * (high - low)
        if (value := over(middle)) < 0:
            low, below = middle, value
        else:
            high, above = middle, value
    return 100 * float(high)


def examples_needed(
    diff_pp: float, disagreement: float, power: float = 0.8, alpha: float = 0.05
) -> int:
    """Examples needed for the exact McNemar test to find a difference with probability ``power``.

    Parameters
    ----------
    diff_pp : float
        True accuracy difference in percentage points, not 0.
    disagreement : float
        Share of examples that exactly one model gets right, at least ``|diff_pp| / 100``.
    power, alpha : float
        Wanted probability and level of the test.

    Returns
    -------
    int
        Number of examples.  Power is a slightly jagged function of n; this is the end of a
        bisection, so n - 1 examples do not reach ``power`` and n do.

    Raises
    ------
    SpecError
        When a value is impossible, the difference is 0, or more than 10^9 examples are needed.

    Examples
    --------
    >>> examples_needed(1, 0.03)
    2489
    """
    _check(1, disagreement, alpha)
    _check_power(power, alpha)
    share = _share(diff_pp, disagreement)
    if diff_pp == 0:
        raise SpecError("no number of examples finds a difference of 0 points; ask for another.")

    def over(n: int) -> float:
        return _over(sum(_found(n, disagreement, share, alpha)), power)

    # Connor (1987), Biometrics 43, 207-211, and what the exact test takes more than the normal one.
    delta = abs(diff_pp) / 100
    quantiles = ndtri(1 - alpha / 2) * math.sqrt(disagreement)
    quantiles += ndtri(power) * math.sqrt(max(disagreement - delta**2, 0))
    high = max(8, math.ceil((quantiles / delta) ** 2 + 1.5 / delta))
    low, below = 0, -float(ndtri(1 - alpha / 2) + ndtri(power))
    while high <= _MAX_EXAMPLES and (above := over(high)) < 0:
        low, below, high = high, above, math.ceil(1.05 * high)
    if high > _MAX_EXAMPLES:
        raise SpecError(
            f"a difference of {diff_pp:g} points at {100 * disagreement:g} % disagreement "
            "needs more than 10^9 examples; ask for a larger difference."
        )
    while high - low > 1:
        middle = low + round(_between(below, above, 1 / (high - low)) * (high - low))
        if (value := over(middle)) < 0:
            low, below = middle, value
        else:
            high, above = middle, value
    return high


@dataclass(frozen=True)
class SignError:
    """How often a comparison points the wrong way.

    Attributes
    ----------
    wrong : float
        Probability that the observed difference has the opposite sign of the true one.
    tie : float
        Probability that the observed difference is exactly zero.
    wrong_if_significant : float
        Probability that a difference found significant has the wrong sign (the type S error of
        Gelman and Carlin, 2014); NaN when significance is impossible.
    """

    wrong: float
    tie: float
    wrong_if_significant: float


def sign_error_probability(
    n: int, diff_pp: float, disagreement: float, *, alpha: float = 0.05
) -> SignError:
    """Probability that the sign of an observed paired difference is wrong.

    Parameters
    ----------
    n : int
        Examples.
    diff_pp : float
        True accuracy difference in percentage points; the sign does not matter.
    disagreement : float
        Share of examples that exactly one model gets right, at least ``|diff_pp| / 100``.
    alpha : float
        Level of the exact McNemar test for ``wrong_if_significant``.

    Returns
    -------
    SignError
        At a true difference of 0 either sign counts as wrong with the probability of one side.

    Raises
    ------
    SpecError
        When a value is impossible.

    References
    ----------
    Gelman and Carlin (2014), Perspectives on Psychological Science 9, 641-651.

    Examples
    --------
    >>> round(sign_error_probability(449, 0.5, 0.03).wrong, 2)
    0.23
    """
    _check(n, disagreement, alpha)
    share = _share(diff_pp, disagreement)
    m, probability, _ = _disagreements(n, disagreement, alpha)
    wrong = float(probability @ binomial_cdf((m + 1) // 2 - 1, m, share))
    at_most_half = binomial_cdf(m // 2, m, share)
    tie = float(probability @ at_most_half) - wrong
    right_found, wrong_found = _found(n, disagreement, share, alpha)
    found = right_found + wrong_found
    return SignError(wrong, tie, wrong_found / found if found > 0 else math.nan)


def power_curve(
    disagreement: float, *, n: Iterable[int], diff_pp: Iterable[float], alpha: float = 0.05
) -> pd.DataFrame:
    """Power over a grid, for a figure.

    Parameters
    ----------
    disagreement : float
        Share of examples that exactly one model gets right; differences beyond it are left out.
    n : iterable of int
        Numbers of examples.
    diff_pp : iterable of float
        True differences in percentage points.
    alpha : float
        Level of the test.

    Returns
    -------
    DataFrame
        Columns ``n``, ``diff_pp``, ``disagreement``, ``power`` and ``wrong_sign``.

    Examples
    --------
    >>> power_curve(0.03, n=[100, 1000], diff_pp=[1.0])["power"].round(3).tolist()
    [0.006, 0.373]
    """
    differences = [d for d in diff_pp if abs(d) / 100 <= disagreement]
    rows = [
        {
            "n": size,
            "diff_pp": d,
            "disagreement": disagreement,
            "power": mcnemar_power(size, d, disagreement, alpha=alpha),
            "wrong_sign": sign_error_probability(size, d, disagreement, alpha=alpha).wrong,
        }
        for size in n
        for d in differences
    ]
    return pd.DataFrame(rows, columns=["n", "diff_pp", "disagreement", "power", "wrong_sign"])


def power_sentence(n: int, disagreement: float, wanted_pp: float | None = None) -> str:
    """What n examples can see, in words.

    Parameters
    ----------
    n : int
        Examples.
    disagreement : float
        Share of examples that exactly one model gets right.
    wanted_pp : float or None
        A difference of interest in percentage points.

    Returns
    -------
    str
        One or two sentences.

    Examples
    --------
    >>> power_sentence(449, 0.03)[:60]
    'With 449 examples and 3 % disagreement, a true difference of'
    """
    smallest = smallest_detectable(n, disagreement)
    if math.isnan(smallest):
        text = f"With {examples(n)} no difference, however large, would be found reliably."
    else:
        text = (
            f"With {n} examples and {100 * disagreement:.2g} % disagreement, a true difference of "
            f"{smallest:.2f} points would be found in 80 % of such studies; "
            "smaller ones would mostly be missed."
        )
    if wanted_pp is not None:
        needed = examples_needed(wanted_pp, disagreement)
        wrong = sign_error_probability(n, wanted_pp, disagreement).wrong
        text += (
            f" To find {ACCURACY.limit(abs(wanted_pp))} takes {needed} examples; with {n} the "
            f"observed sign would be wrong in {100 * wrong:.1f} % of studies."
        )
    return text


@lru_cache(maxsize=64)
def _disagreements(n: int, disagreement: float, alpha: float) -> tuple[Array, Array, Array]:
    """Plausible numbers of disagreements m, their probabilities, and the critical values.

    The critical value is the most losses of the better model at which p <= alpha, -1 where none.
    """
    # 6.5 standard deviations, and 15 more for the skewness of rare disagreements: what is left
    # out has a probability below 1e-9.
    reach = 6.5 * math.sqrt(n * disagreement * (1 - disagreement)) + 15
    low, high = math.floor(n * disagreement - reach), math.ceil(n * disagreement + reach)
    m = np.arange(max(0, low), min(n, high) + 1)
    first = m[0] // _BLOCK
    critical = np.concatenate([_critical(block, alpha) for block in
                               range(first, m[-1] // _BLOCK + 1)])[m - first * _BLOCK]
    up_to = binomial_cdf(np.arange(m[0] - 1, m[-1] + 1), n, disagreement)
    return m, np.diff(up_to), critical


@lru_cache(maxsize=1024)
def _critical(block: int, alpha: float) -> Array:
    """The critical values of the numbers of disagreements of a block."""
    m = np.arange(_BLOCK) + block * _BLOCK
    # The normal approximation is within a step or two; the exact probabilities decide.
    critical = np.floor((m - 1 + ndtri(alpha / 2) * np.sqrt(m)) / 2)
    while (over := 2 * binomial_cdf(critical, m, 0.5) > alpha).any():
        critical = critical - over
    while (under := (2 * binomial_cdf(critical + 1, m, 0.5) <= alpha) & (critical < m)).any():
        critical = critical + under
    return critical


def _found(n: int, disagreement: float, share: float, alpha: float) -> tuple[float, float]:
    """Probability that the test rejects in favour of the better, of the worse model.

    ``share`` is the better model's share of the disagreements.
    """
    m, probability, critical = _disagreements(n, disagreement, alpha)
    right = probability @ binomial_cdf(critical, m, 1 - share)
    # Hoeffding's bound tells which of these are as good as 0: most, where anything is found.
    some = -2 * (m * share - critical) ** 2 > _NOTHING * m
    wrong = probability[some] @ binomial_cdf(critical[some], m[some], share)
    return float(right), float(wrong)


def _over(found: float, power: float) -> float:
    """By how many standard deviations a probability exceeds another one; in n nearly a line."""
    return float(np.clip(ndtri(found) - ndtri(power), -_FAR, _FAR))


def _between(below: float, above: float, least: float) -> float:
    """Where in a bracket to look next, 0..1: where a line is 0, a little nearer to the far end.

    ``below`` and ``above`` are the values at its ends; ``least`` of its width is left on each side.
    """
    if above >= _FAR or below <= -_FAR:
        return 0.5
    line = below / (below - above)
    beyond = max(least, 0.03 * min(line, 1 - line))
    return min(max(line + math.copysign(beyond, 0.5 - line), least), 1 - least)


def _share(diff_pp: float, disagreement: float) -> float:
    difference = abs(diff_pp) / 100
    # The tolerance is for 100 (x / n) / 100, which may exceed x / n by a rounding.
    if not difference <= disagreement * (1 + 1e-9):
        raise SpecError(
            f"a difference of {diff_pp:g} points is impossible when the models disagree on "
            f"{100 * disagreement:g} % of the examples; it can be at most that."
        )
    return 0.5 if disagreement == 0 else min(1.0, (1 + difference / disagreement) / 2)


def _check(n: int, disagreement: float, alpha: float) -> None:
    if n < 1:
        raise SpecError(f"n is {n}; at least one example is needed.")
    if not 0 <= disagreement <= 1:
        raise SpecError(f"disagreement is {disagreement}; it is a share between 0 and 1.")
    if not 0 < alpha < 0.5:
        raise SpecError(f"alpha is {alpha}; it must lie between 0 and 0.5, such as 0.05.")


def _check_power(power: float, alpha: float) -> None:
    if not alpha < power < 1:
        raise SpecError(f"power is {power}; it must lie between alpha ({alpha}) and 1.")
