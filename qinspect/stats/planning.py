"""What to do next: how many more examples would tell, and what a new set of them may show."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, betaln, gammaln, ndtr, ndtri, stdtrit

from qinspect.errors import SpecError
from qinspect.stats.exact import binomial_cdf
from qinspect.stats.intervals import tango_statistic
from qinspect.stats.power import examples_needed

# Beyond so many disagreements a normal distribution is close enough.
_COUNTED = 300
# Points of equal probability that stand for the share of disagreements won.
_POINTS = 100
# So many examples that shares of them are as good as expected.
_MANY = 1e9
# Numbers of new disagreements less likely than that are left out.
_NEVER = 1e-9
# More seeds than that nobody trains.
_MOST_SEEDS = 1_000


@dataclass(frozen=True)
class NextStep:
    """What would find a difference in 80 % of studies.

    Attributes
    ----------
    more : int
        How many more of them than there are.
    of : str
        ``examples``, ``groups`` or ``seeds``.
    finds : float
        The difference, in the metric's unit.
    """

    more: int
    of: str
    finds: float

    @property
    def words(self) -> str:
        """The step, its number rounded up to two digits."""
        digits = 10 ** max(0, len(str(self.more)) - 2)
        number = -(-self.more // digits) * digits
        return f"about {number:,} more {self.of.removesuffix('s') if number == 1 else self.of}"


def next_step(
    n: int, detectable: float, wanted: tuple[float, ...], *, disagreement: float | None = None,
    alpha: float = 0.05, of: str = "examples",
) -> NextStep | None:
    """How many more examples or groups find the first wanted difference that takes more.

    Parameters
    ----------
    n : int
        Examples or groups that there are.
    detectable : float
        Smallest difference that these find in 80 % of studies; it falls with the root of their
        number.
    wanted : tuple of float
        Differences in the metric's unit, such as the margin and the one that was seen.
    disagreement : float, optional
        Of independent examples that are right or wrong, the share on which two models disagree;
        the number is then that of the exact McNemar test.
    alpha : float
        Level of the test.
    of : str
        What is counted.

    Returns
    -------
    NextStep or None
        None where nothing wanted takes more, or more than can be said.

    Examples
    --------
    >>> next_step(449, 2.3, (1.0,), disagreement=0.03).words
    'about 2,100 more examples'
    >>> next_step(100, 0.2, (0.1,)).more
    300
    """
    for one in wanted:
        if not one > 0:
            continue
        if disagreement is None:
            needed = n * (detectable / one) ** 2 if detectable > 0 else math.nan
        else:
            try:
                needed = examples_needed(one, max(disagreement, one / 100), alpha=alpha)
            except SpecError:
                needed = math.nan
        if needed > n:
            return NextStep(math.ceil(needed) - n, of, one)
    return None


def not_worse_step(
    n: int, margin: float, improvement: float, error: float, *, alpha: float = 0.05,
    disagreement: float | None = None, of: str = "examples",
) -> NextStep | None:
    """How many more examples or groups show in 80 % of cases that b is not worse by the margin.

    If the two are equally good; where that takes no more than there are, if they differ as seen.

    Parameters
    ----------
    n : int
        Examples or groups that there are.
    margin, improvement, error : float
        Margin, by how much b is better and the standard error of that, in the metric's unit.
    alpha : float
        Level of the one-sided test.
    disagreement : float, optional
        Of independent examples that are right or wrong, the share on which the two disagree; the
        spread under the hypothesis is then that of Tango's test.
    of : str
        What is counted.

    Returns
    -------
    NextStep or None
        ``finds`` is what lies between the assumed difference and the margin.  None where the loss
        seen reaches the margin.

    References
    ----------
    Tango (1998), Statistics in Medicine 17, 891-908, section 4.

    Examples
    --------
    >>> not_worse_step(449, 1.0, -0.2, 0.8, disagreement=0.03).words
    'about 1,600 more examples'
    """
    for assumed in (0.0, min(0.0, improvement)):
        left = margin + assumed
        if left <= 0:
            return None
        if disagreement is None:
            spread = math.sqrt(n) * error
            under = spread
        else:
            shares = [max(disagreement, -assumed / 100) / 2 + sign * assumed / 200
                      for sign in (1, -1)]
            spread = 100 * math.sqrt(max(0.0, sum(shares) - (assumed / 100) ** 2))
            lost, won = (_MANY * share for share in reversed(shares))
            score = float(tango_statistic(_MANY, lost, won, -margin / 100))
            under = left * math.sqrt(_MANY) / score
        needed = ((ndtri(1 - alpha) * under + ndtri(0.8) * spread) / left) ** 2
        if needed > n:
            return NextStep(math.ceil(needed) - n, of, left)
    return None


def steps_of_runs(
    parts: Mapping[str, float], seeds: int, units: int, wanted: float, *, confidence: float = 0.95,
    of: str = "examples",
) -> tuple[NextStep, ...]:
    """How many more seeds, and how many more examples or groups, find a difference.

    Either of them alone, with as many of the other as there are; left out where it never does.
    ``parts`` are the variance components ``seed``, ``example`` and ``residual`` of the difference,
    in the unit of ``wanted``.

    Examples
    --------
    >>> parts = {"seed": 4.0, "example": 100.0, "residual": 100.0}
    >>> [step.words for step in steps_of_runs(parts, 5, 1000, 2.0)]
    ['about 8 more seeds']
    """

    def found(runs: int, n: int) -> bool:
        seed, example, residual = (max(0.0, parts[name])
                                   for name in ("seed", "example", "residual"))
        error = math.sqrt(seed / runs + example / n + residual / (runs * n))
        quantiles = stdtrit(runs - 1, (1 + confidence) / 2) + stdtrit(runs - 1, 0.8)
        return bool(quantiles * error <= wanted)

    steps = [(many, of_what) for many, of_what in (
        (_least(lambda more: found(seeds + more, units), _MOST_SEEDS), "seeds"),
        (_least(lambda more: found(seeds, units + more), 10**9), of)) if many]
    return tuple(NextStep(more, of_what, wanted) for more, of_what in steps)


def _least(enough: Callable[[int], bool], most: int) -> int:
    """The least number that is enough, by bisection; 0 where none is needed or up to most found."""
    if enough(0) or not enough(most):
        return 0
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def new_sign(n: int, a_only: int, b_only: int) -> tuple[float, float]:
    """Chance that ``n`` new examples show the other sign, and that they show no difference.

    Predictive: what was seen is a sample itself, so that the true shares of wins, losses and the
    rest are uncertain, with Jeffreys' prior.

    Parameters
    ----------
    n, a_only, b_only : int
        Examples, and how many of them only a, only b gets right.

    Returns
    -------
    opposite, tie : float
        Of equal counts, either sign counts as the other with the chance of one side.

    References
    ----------
    Geisser (1993), Predictive Inference, chapter 3.

    Examples
    --------
    >>> opposite, tie = new_sign(449, 2, 3)
    >>> round(opposite, 2), round(tie, 2)
    (0.32, 0.13)
    """
    total, fewer = a_only + b_only, min(a_only, b_only)
    if total > _COUNTED:
        spread = math.sqrt(2 * (total - (a_only - b_only) ** 2 / n))
        away = abs(a_only - b_only) / spread
        tie = math.exp(-away * away / 2) / math.sqrt(2 * math.pi) / spread
        return float(ndtr(-away)) - tie / 2, tie
    # The number of new disagreements is beta-binomial, its prior the sum of two of three cells.
    reach = 6.5 * math.sqrt(2 * (total + 1)) + 20
    m = np.arange(max(0, math.floor(total - reach)), min(n, math.ceil(total + reach)) + 1.0)
    alpha, beta = total + 1.0, n - total + 0.5
    likely = np.exp(gammaln(n + 1) - gammaln(m + 1) - gammaln(n - m + 1)
                    + betaln(m + alpha, n - m + beta) - betaln(alpha, beta))
    m, likely = m[likely > _NEVER], likely[likely > _NEVER]
    share = betaincinv(total - fewer + 0.5, fewer + 0.5,
                       (np.arange(_POINTS) + 0.5) / _POINTS)[:, None]
    opposite = binomial_cdf(np.ceil(m / 2) - 1, m, share).mean(axis=0)
    even = m % 2 == 0
    at_most_half = binomial_cdf(m[even] / 2, m[even], share).mean(axis=0)
    return float(likely @ opposite), float(likely[even] @ (at_most_half - opposite[even]))


def new_sign_of(gap: float, error: float) -> tuple[float, float]:
    """The same of any difference with a standard error; a tie has no chance.

    Examples
    --------
    >>> new_sign_of(0.0, 1.0)
    (0.5, 0.0)
    """
    return float(ndtr(-abs(gap) / (math.sqrt(2) * error))), 0.0
