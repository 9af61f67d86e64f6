"""Statistics of a set of examples, such as an area under a curve: the bootstrap over examples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit

from qinspect.errors import DataError
from qinspect.metrics import Metric
from qinspect.schema import Array
from qinspect.stats.groups import FEW
from qinspect.stats.intervals import check_confidence
from qinspect.stats.paired import Comparison, judge, two_sided

# Weights of one chunk (16 MB of float64).
_CHUNK = 1 << 21
# Resamples in which a statistic is not defined, such as one class alone, up to this share are left
# out; beyond, nothing can be said.
_UNDEFINED = 0.05
# Beyond the last so many resamples their normal distribution takes over.
_TAIL = 10
# Blocks of examples whose parts in a statistic are told apart.
_BLOCKS = 100


def resampled_values(
    metric: Metric, y: Array | None, output: Any, *, groups: Array | None = None, seed: int = 0,
) -> Array:
    """The statistic on resamples of the examples, or of whole groups.

    The same seed draws the same examples, so that differences of two models are paired.

    Parameters
    ----------
    metric : Metric
        Of the kind ``set``.
    y, output : array_like, shape (n, ...)
    groups : array_like or None, shape (n,)
    seed : int

    Returns
    -------
    ndarray of float64, shape (metric.resamples,)
        NaN where the statistic is not defined.

    References
    ----------
    Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 6; groups: Davison and
    Hinkley (1997), Bootstrap Methods and their Application, section 3.8.

    Examples
    --------
    >>> from qinspect.metrics import metric
    >>> y = np.arange(40) % 2
    >>> drawn = resampled_values(metric("auc"), y, np.where(y == 1, 0.9, 0.1))
    >>> drawn.shape, float(drawn.min())
    ((1999,), 1.0)
    """
    n = len(output) if y is None else len(y)
    codes, units = _units_of(n, groups)
    if units < 2:
        raise DataError(f"there is {units} example or group; a bootstrap needs at least two, so "
                        "give more.")
    rng = np.random.default_rng((seed, units))
    found = np.empty(metric.resamples)
    step = max(1, _CHUNK // n) if metric.weighted else 1
    for start in range(0, metric.resamples, step):
        rows = min(step, metric.resamples - start)
        drawn = np.stack([np.bincount(rng.integers(0, units, units), minlength=units)
                          for _ in range(rows)])[:, codes]
        if metric.weighted:
            found[start:start + rows] = metric.score(y, output, weights=drawn)
        else:
            found[start] = _value(metric, y, output, np.repeat(np.arange(n), drawn[0]))
    return found


def pseudo_values(
    metric: Metric, y: Array | None, output: Any, *, groups: Array | None = None, seed: int = 0,
) -> Array:
    """The statistic as a mean of values, one of each random block of examples or groups.

    Each is blocks times the whole minus (blocks - 1) times what is left without the block, shifted
    so that their mean is the statistic.

    References
    ----------
    Quenouille (1956), Biometrika 43, 353-360; of blocks: Shao and Tu (1995), The Jackknife and
    Bootstrap, section 2.3.
    """
    n = len(output) if y is None else len(y)
    codes, units = _units_of(n, groups)
    blocks = min(units, _BLOCKS)
    block = np.random.default_rng((seed, units)).permutation(np.arange(units) % blocks)[codes]
    whole = float(metric.score(y, output))
    left = np.array([_value(metric, y, output, np.flatnonzero(block != one))
                     for one in range(blocks)])
    if not np.isfinite(left).all():
        raise DataError("the metric is not defined without some of the examples; there are too few "
                        "of one kind, so give more of it.")
    found: Array = blocks * whole - (blocks - 1) * left
    return found + (whole - found.mean())


def compare_sets(
    metric: Metric, values: tuple[float, float], drawn: tuple[Array, Array], *, a: str, b: str,
    n: int, units: float, confidence: float, margin: float | None, groups: int | None, seed: int,
    non_inferior: bool = False,
) -> Comparison:
    """Compare two models by a statistic of the whole set, from paired resamples of it."""
    check_confidence(confidence)
    margin = metric.margin_of(values[0]) if margin is None else margin
    scale, alpha = metric.scale, 1 - confidence
    gap = scale * (values[1] - values[0])
    moved = spread_about(scale * (drawn[1] - drawn[0]), gap, units)
    # Where everything is alike nothing is ever drawn that differs.
    alike = not np.any(moved != gap)
    few = units < FEW
    outside = min(np.count_nonzero(moved <= 0), np.count_nonzero(moved >= 0))
    error = float(moved.std(ddof=1))
    p = 1.0 if few or (alike and gap == 0) else min(1.0, 2 * (outside + 1) / (len(moved) + 1))
    if p < 1 and outside == 0 and error > 0:
        # Beyond all resamples: fine enough for a family of many pairs.
        p = min(p, 2 * float(stdtr(units - 1, -abs(gap) / error)))
    beyond = max(np.count_nonzero(moved >= margin), np.count_nonzero(moved <= -margin))
    within = (beyond + 1) / (len(moved) + 1)
    worse = (np.count_nonzero(metric.better * moved <= -margin) + 1) / (len(moved) + 1)
    found = float(ndtri(1 - alpha / 2) + ndtri(0.8)) * error
    ends = tuple(set_interval(scale * each, scale * value, units, confidence)
                 for each, value in zip(drawn, values, strict=True))
    if alpha / 2 * len(moved) < _TAIL:
        half = float(ndtri(1 - alpha / 2)) * error
        low, high = gap - half, gap + half
    else:
        low, high = np.quantile(moved, [alpha / 2, 1 - alpha / 2])
    return judge(Comparison(
        a=a,
        b=b,
        n=n,
        value_a=values[0],
        value_b=values[1],
        interval_a=(ends[0][0] / scale, ends[0][1] / scale),
        interval_b=(ends[1][0] / scale, ends[1][1] / scale),
        gap=gap,
        interval=(float(low), float(high)),
        method="bootstrap",
        confidence=confidence,
        p_single=p,
        test="bootstrap test" + ("" if groups is None else " over groups"),
        detectable=found if found > 0 and not few else math.nan,
        margin=margin,
        equivalence_p=1.0 if few else within if groups is None else two_sided(within),
        not_worse_p=1.0 if few else worse if groups is None else two_sided(worse),
        non_inferior=non_inferior,
        groups=groups,
        seed=seed,
        metric=metric,
    ))


def spread_about(drawn: Array, value: float, units: float) -> Array:
    """Resampled values, spread so that the interval they give holds with few units as well.

    A resample of m units varies less than the sample by sqrt((m - 1) / m), and has normal instead
    of Student's tails.

    References
    ----------
    Hesterberg (2015), The American Statistician 69, 371-386, section 4 (expanded percentiles).
    """
    defined = drawn[np.isfinite(drawn)]
    if len(defined) < (1 - _UNDEFINED) * len(drawn):
        raise DataError(f"the metric is not defined on {len(drawn) - len(defined)} of {len(drawn)} "
                        "resamples of these examples; there are too few of one kind, so give "
                        "more of it.")
    wider = math.sqrt(units / (units - 1)) * float(stdtrit(units - 1, 0.975) / ndtri(0.975))
    found: Array = value + wider * (defined - value)
    return found


def set_interval(
    drawn: Array, value: float, units: float, confidence: float
) -> tuple[float, float]:
    """Interval of a statistic from its resamples."""
    low, high = np.quantile(spread_about(drawn, value, units),
                            [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _units_of(n: int, groups: Array | None) -> tuple[Array, int]:
    """Number of the unit (example or group) that each example belongs to, and of all units."""
    codes = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    return codes, int(codes.max()) + 1


def _value(metric: Metric, y: Array | None, output: Any, index: Array) -> float:
    """The statistic on some of the examples; NaN where it is not defined on them."""
    try:
        return float(metric.score(None if y is None else y[index], output[index]))
    except DataError:
        return math.nan
