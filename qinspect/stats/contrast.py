"""Score interval of any linear contrast of accuracies on the same examples, grouped or not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import ndtri

from qinspect.errors import DataError
from qinspect.metrics import ACCURACY, Metric
from qinspect.schema import Array
from qinspect.stats.groups import examples_a_piece
from qinspect.stats.intervals import check_confidence
from qinspect.stats.paired import as_correct, as_scores, score_interval


def contrast_interval(
    correct: Mapping[str, Array], signs: Mapping[str, float], *, confidence: float = 0.95,
    groups: Array | None = None, metric: Metric = ACCURACY,
) -> tuple[float, float, float]:
    """Sum of signed accuracies with a score interval that holds with few disagreements.

    For two models with signs -1 and +1 this is Tango's interval; for more it is the same
    construction over all values that one example can contribute, so that with no disagreement at
    all the interval still has a width: bound * z^2 / (n + z^2), the bound being the largest
    contribution of one example.

    Examples that come in groups count for as many independent ones as they are worth: their number
    is divided by the design effect of the signed sum, as in
    :func:`qinspect.stats.compare_paired`.

    Parameters
    ----------
    correct : mapping of name -> array_like of bool, shape (n,)
        Which examples each model gets right, in one order; of another metric than accuracy its
        scores, whose signed sum has Student's interval.
    signs : mapping of name -> float
        Factor of each model's accuracy, e.g. ``{"qat": 1, "ptq": -1}``.
    confidence : float
        Two-sided level.
    groups : array_like or None, shape (n,)
        Cluster of each example, if any; at least two different ones.
    metric : Metric
        What the scores are of.

    Returns
    -------
    estimate, low, high : float
        In the metric's unit, of accuracy percentage points.

    Raises
    ------
    DataError
        When a model is missing, or the arrays are empty or of unequal length.
    SpecError
        When the level is not allowed.

    References
    ----------
    Tango (1998), Statistics in Medicine 17, 891-908, with the restricted likelihood of Owen (2001),
    Empirical Likelihood, section 2.3, over the known range of the values; design effect: Rao and
    Scott (1992), Biometrics 48, 577-585.

    Examples
    --------
    >>> right = {"ptq": np.ones(200, bool), "qat": np.arange(200) >= 12}
    >>> [round(value, 2) for value in contrast_interval(right, {"qat": 1, "ptq": -1})]
    [-6.0, -10.19, -3.47]
    """
    z = float(ndtri((1 + check_confidence(confidence)) / 2))
    absent = [name for name in signs if name not in correct]
    if absent or not signs:
        needed = ", ".join(absent) if signs else "at least one model"
        raise DataError(f"a contrast needs {needed}; there are results of {', '.join(correct)}.")
    if metric.id != ACCURACY.id and any(
        np.asarray(correct[name]).dtype != bool for name in signs
    ):
        scores = [sign * as_scores(correct[name], name) for name, sign in signs.items()]
        signed = np.sum(scores, axis=0)
        first, last = score_interval(signed, confidence, groups)
        return (metric.scale * float(signed.mean()), metric.scale * first, metric.scale * last)
    columns = {name: as_correct(correct[name], name) for name in signs}
    if len({len(column) for column in columns.values()}) > 1:
        raise DataError("the models of a contrast must have results for the same examples.")
    values = np.sum([signs[name] * column for name, column in columns.items()], axis=0)
    lowest = float(sum(min(sign, 0.0) for sign in signs.values()))
    highest = float(sum(max(sign, 0.0) for sign in signs.values()))
    levels, counts = np.unique(values, return_counts=True)
    mean = float(counts @ levels / counts.sum())
    worth = counts / examples_a_piece(values, groups, confidence)

    from scipy.optimize import brentq  # slow to import

    def upper(mean: float, levels: Array, highest: float) -> float:
        # Mirrored for the lower bound. At the very end of the range there is nothing above.
        room = highest - mean
        if room < 1e-12:
            return highest
        end = highest - 1e-9 * room

        def excess(difference: float) -> float:
            variance = _restricted_variance(levels, worth, difference, highest)
            return (difference - mean) * np.sqrt(worth.sum() / variance) - z

        return (
            float(brentq(excess, mean + 1e-9 * room, end, xtol=1e-14)) if excess(end) > 0 else end
        )

    low = -upper(-mean, -levels, -lowest)
    high = upper(mean, levels, highest)
    return 100 * mean, 100 * low, 100 * high


def _restricted_variance(levels: Array, counts: Array, mean: float, highest: float) -> float:
    """Variance of one value under the likeliest distribution with the given, larger mean.

    The likelihood is greatest at probabilities n_k / (n (1 + t (v_k - mean))); t is negative here.
    It cannot pass -1 / (highest - mean); when it would, what is left of the probability sits on
    the highest possible value although that was never observed.
    """
    from scipy.optimize import brentq  # slow to import

    away = levels - mean
    share = counts / counts.sum()
    limit = -1 / (highest - mean)

    def tilt(t: float) -> float:
        return float(np.sum(share * away / (1 + t * away)))

    if levels.max() >= highest:
        # The observed highest value makes the sum grow without bound at the limit.
        t = brentq(tilt, limit * (1 - 1e-13), 0.0, xtol=1e-16)
    elif tilt(limit) > 0:
        t = brentq(tilt, limit, 0.0, xtol=1e-16)
    else:
        t = limit
    probability = share / (1 + t * away)
    rest = max(0.0, 1 - float(probability.sum())) if t == limit else 0.0
    return float(probability @ away**2 + rest * (highest - mean) ** 2)
