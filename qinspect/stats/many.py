"""Three and more models: Cochran's Q over all, and corrections of a family of comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import chdtrc

from qinspect.errors import DataError, SpecError
from qinspect.schema import Array
from qinspect.stats.paired import Comparison, as_correct, judge


def cochran_q(correct: Mapping[str, Array]) -> dict[str, Any]:
    """Cochran's Q: do all models have the same accuracy on these examples?

    It takes the examples as independent, grouped or not.

    Parameters
    ----------
    correct : mapping of name -> array_like of bool, shape (n,)
        Which examples each model gets right, in one order; at least two models.

    Returns
    -------
    dict
        ``q``, ``df``, ``p`` (chi-squared approximation), ``models`` and ``informative``, the
        number of examples that some but not all models get right.  p is 1 when there are none.

    Raises
    ------
    DataError
        When there are fewer than two models or the arrays do not fit each other.

    References
    ----------
    Cochran (1950), Biometrika 37, 256-266.

    Examples
    --------
    >>> found = cochran_q({"a": [1, 1, 0, 1], "b": [1, 0, 0, 1], "c": [0, 0, 0, 1]})
    >>> found["q"], found["informative"]
    (3.0, 2)
    """
    table = _table(correct)
    k = table.shape[1]
    hits = table.sum(axis=1)
    informative = int(np.count_nonzero((hits > 0) & (hits < k)))
    totals = table.sum(axis=0).astype(np.float64)
    spread = float(np.sum(hits * (k - hits)))
    q = 0.0
    if informative:
        q = float(k * (k - 1) * np.sum((totals - totals.mean()) ** 2) / spread)
    return {"q": q, "df": k - 1, "p": float(chdtrc(k - 1, q)), "models": k,
            "informative": informative}


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of p-values for several comparisons.

    Parameters
    ----------
    p_values : sequence of float
        Each in 0..1.

    Returns
    -------
    list of float
        Adjusted p-values in the given order; reject those at most the level.

    Raises
    ------
    SpecError
        When a value is not in 0..1.

    References
    ----------
    Holm (1979), Scandinavian Journal of Statistics 6, 65-70.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.size and not np.all((p >= 0) & (p <= 1)):
        raise SpecError("p-values must lie between 0 and 1 and not be NaN.")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, stepped)
    return [float(value) for value in adjusted]


def false_discovery(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of which those at most q are false in a share of at most q on average.

    Parameters
    ----------
    p_values : sequence of float
        Each in 0..1, independent of each other, as those of disjoint examples are.

    Returns
    -------
    list of float
        In the given order.

    References
    ----------
    Benjamini and Hochberg (1995), Journal of the Royal Statistical Society B 57, 289-300.

    Examples
    --------
    >>> [round(p, 3) for p in false_discovery([0.01, 0.04, 0.03, 0.5])]
    [0.04, 0.053, 0.053, 0.5]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.size and not np.all((p >= 0) & (p <= 1)):
        raise SpecError("p-values must lie between 0 and 1 and not be NaN.")
    order = np.argsort(p, kind="stable")
    stepped = p[order] * p.size / np.arange(1, p.size + 1)
    found = np.empty_like(p)
    found[order] = np.minimum.accumulate(stepped[::-1])[::-1]
    return [float(value) for value in found]


def corrected(family: Sequence[Comparison], strict: Sequence[Comparison]) -> list[Comparison]:
    """Comparisons that answer one question together, each judged by what it is at a strict level.

    ``strict`` are the same comparisons at the level ``strict_confidence``: their intervals hold
    together, and their p-values times the number of comparisons agree with these intervals.  Those
    of equivalence and of being not worse, which have none, are Holm's.
    """
    k = len(family)
    if k < 2:
        return list(family)
    of_equivalence, of_not_worse = (holm([getattr(one, name) for one in family])
                                    for name in ("equivalence_p", "not_worse_p"))
    return [judge(replace(one, p_adjusted=min(1.0, k * at.p_single), test=at.test,
                          equivalence_p=alike, not_worse_p=kept, family=k,
                          interval_simultaneous=at.interval, detectable_adjusted=at.detectable))
            for one, at, alike, kept in zip(family, strict, of_equivalence, of_not_worse,
                                            strict=True)]


def strict_confidence(confidence: float, family: int) -> float:
    """Level of each of several intervals that together hold at ``confidence``.

    References
    ----------
    Bonferroni's inequality, whatever the dependence: Miller (1981), Simultaneous Statistical
    Inference, section 1.4.
    """
    return 1 - (1 - confidence) / family


def _table(correct: Mapping[str, Array]) -> Array:
    if len(correct) < 2:
        raise DataError(f"{len(correct)} model was given; a comparison needs at least two.")
    columns = {name: as_correct(values, name) for name, values in correct.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise DataError(f"the models have results for different numbers of examples ({listed}).")
    return np.column_stack(list(columns.values()))
