"""Three and more models: Cochran's Q over all, then pairs with Holm's correction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from scipy.special import chdtrc

from qinspect.errors import DataError, SpecError
from qinspect.schema import Array
from qinspect.stats.compare import Interval, as_correct, compare_paired
from qinspect.stats.comparison import Comparison
from qinspect.stats.verdict import judge, verdict_p


def cochran_q(correct: Mapping[str, Array]) -> dict[str, Any]:
    """Cochran's Q: do all models have the same accuracy on these examples?

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
    return {
        "q": q,
        "df": k - 1,
        "p": float(chdtrc(k - 1, q)),
        "models": k,
        "informative": informative,
    }


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
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.size and not np.all((p >= 0) & (p <= 1)):
        raise SpecError("p-values must lie between 0 and 1 and not be NaN.")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, stepped)
    return [float(value) for value in adjusted]


def compare_many(
    correct: Mapping[str, Array],
    *,
    confidence: float = 0.95,
    margin_pp: float = 1.0,
    n_resamples: int = 9999,
    method: Interval | None = None,
    groups: Array | None = None,
    rng: int | np.random.Generator = 0,
) -> tuple[dict[str, Any], list[Comparison]]:
    """Compare every pair of models, with p-values corrected for the number of pairs.

    Verdicts rest on the Holm-adjusted p-values; intervals are those of each pair on its own, and
    Cochran's Q takes the examples as independent, grouped or not.

    Parameters
    ----------
    correct : mapping of name -> array_like of bool, shape (n,)
        Which examples each model gets right, in one order; at least two models.
    confidence, margin_pp, n_resamples, method, groups, rng
        As for :func:`qinspect.stats.compare_paired`.

    Returns
    -------
    cochran : dict
        As :func:`cochran_q`.
    comparisons : list of Comparison
        One a pair, in the order of the mapping, with ``p_adjusted`` set.

    Raises
    ------
    DataError, SpecError
        As for :func:`cochran_q` and :func:`qinspect.stats.compare_paired`.
    """
    overall = cochran_q(correct)
    generator = np.random.default_rng(rng)
    pairs = [
        compare_paired(
            correct[a],
            correct[b],
            a=a,
            b=b,
            confidence=confidence,
            margin_pp=margin_pp,
            n_resamples=n_resamples,
            method=method,
            groups=groups,
            rng=generator,
        )
        for a, b in combinations(correct, 2)
    ]
    adjusted = holm([verdict_p(pair) for pair in pairs])
    return overall, [judge(pair, p) for pair, p in zip(pairs, adjusted, strict=True)]


def _table(correct: Mapping[str, Array]) -> Array:
    if len(correct) < 2:
        raise DataError(f"{len(correct)} model was given; a comparison needs at least two.")
    columns = {name: as_correct(values, name) for name, values in correct.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise DataError(f"the models have results for different numbers of examples ({listed}).")
    return np.column_stack(list(columns.values()))
