"""Drawing resamples, from sufficient statistics where there are any.

Resampling examples with replacement only changes how often each distinct value occurs, and those
counts are multinomial.  A 0/1 score has two distinct values, the difference of two has three, so
one multinomial draw of two or three counts replaces drawing thousands of examples, with exactly
the same distribution.  Scores with many distinct values are drawn example by example, vectorised
in chunks of bounded memory.
"""

from __future__ import annotations

import numpy as np

from qinspect.errors import DataError, SpecError
from qinspect.schema import Array

# Elements of one chunk (16 MB of float64).
_CHUNK = 1 << 21
# A multinomial draw costs about this many times what drawing one example costs, per value.
_LEVEL_COST = 8

# A layer is one stratum: its distinct units (weighted sum, weight), and how often each occurs.
Layer = tuple[Array, Array]


def layers_of(
    values: Array, groups: Array | None, weights: Array | None, strata: Array | None
) -> list[Layer]:
    """Check a sample and reduce it to the distinct units of each stratum.

    Parameters
    ----------
    values, groups, weights, strata
        As for :func:`qinspect.stats.bootstrap_distribution`.

    Returns
    -------
    list of Layer
        One a stratum.

    Raises
    ------
    DataError
        As for :func:`qinspect.stats.bootstrap_distribution`.
    """
    values = np.asarray(values)
    if values.ndim != 1 or values.size == 0:
        raise DataError(
            f"scores must be one array with at least one example, but have shape {values.shape}."
        )
    if groups is None and weights is None and strata is None:
        return [_levels(values)]
    score = _finite(values, "scores", len(values))
    weight = np.ones(len(score)) if weights is None else _finite(weights, "weights", len(score))
    if np.any(weight <= 0):
        raise DataError(f"the smallest weight is {weight.min():g}; weights must be positive.")
    stratum = _codes(strata, "strata", len(score))
    units = np.column_stack([score * weight, weight])
    if groups is not None:
        group = _codes(groups, "groups", len(score))
        members = np.bincount(group)
        first = np.zeros(len(members), dtype=np.intp)
        first[group] = stratum
        if np.any(first[group] != stratum):
            raise DataError("a group has examples of two strata; groups must lie within one class.")
        units = np.column_stack([np.bincount(group, units[:, 0]), np.bincount(group, units[:, 1])])
        stratum = first
    layers = []
    for code in range(int(stratum.max()) + 1):
        distinct, counts = np.unique(units[stratum == code], axis=0, return_counts=True)
        layers.append((distinct, counts))
    return layers


def _levels(values: Array) -> Layer:
    """Distinct values and counts of an unweighted sample, without sorting small integers."""
    if values.dtype.kind in "bi" and values.dtype.itemsize <= 2:
        whole = values.astype(np.int32)
        lowest = int(whole.min())
        counts = np.bincount(whole - lowest)
        distinct = np.flatnonzero(counts)
        counts, levels = counts[distinct], (distinct + lowest).astype(np.float64)
    else:
        levels, counts = np.unique(_finite(values, "scores", len(values)), return_counts=True)
    return np.column_stack([levels, np.ones(len(levels))]), counts


def _finite(values: Array, what: str, n: int) -> Array:
    array = np.asarray(values)
    if array.shape != (n,):
        raise DataError(f"{what} have shape {array.shape}; {n} examples need shape ({n},).")
    if array.dtype.kind not in "biuf":
        raise DataError(f"{what} are of type {array.dtype}; they must be numbers.")
    array = array.astype(np.float64)
    bad = int(np.count_nonzero(~np.isfinite(array)))
    if bad:
        raise DataError(f"{bad} of {n} {what} are NaN or infinite; remove or mend them.")
    return array


def _codes(labels: Array | None, what: str, n: int) -> Array:
    if labels is None:
        return np.zeros(n, dtype=np.intp)
    array = np.asarray(labels)
    if array.shape != (n,):
        raise DataError(f"{what} have shape {array.shape}; {n} examples need shape ({n},).")
    return np.unique(array, return_inverse=True)[1]


def draw_means(layers: list[Layer], n_resamples: int, rng: np.random.Generator) -> Array:
    """Weighted means of resamples, each stratum keeping its number of units.

    Parameters
    ----------
    layers : list of Layer
        As made by :func:`layers_of`.
    n_resamples : int
        Number of resamples, at least 1.
    rng : Generator
        Source of randomness.

    Returns
    -------
    ndarray of float64, shape (n_resamples,)

    Raises
    ------
    SpecError
        When ``n_resamples`` is below 1.
    """
    if n_resamples < 1:
        raise SpecError(f"{n_resamples} resamples were asked for; at least 1 is needed.")
    total = np.zeros((n_resamples, 2))
    for levels, counts in layers:
        n = int(counts.sum())
        few = len(levels) * _LEVEL_COST <= n
        units = levels if few else np.repeat(levels, counts, axis=0)
        step = max(1, _CHUNK // len(units))
        equal_weight = bool(np.all(levels[:, 1] == levels[0, 1]))
        for start in range(0, n_resamples, step):
            part = slice(start, min(start + step, n_resamples))
            rows = part.stop - part.start
            if few:
                total[part] += rng.multinomial(n, counts / n, size=rows) @ levels
                continue
            index = rng.integers(0, n, size=(rows, n), dtype=np.int32)
            total[part, 0] += units[:, 0][index].sum(axis=1)
            total[part, 1] += n * levels[0, 1] if equal_weight else units[:, 1][index].sum(axis=1)
    return total[:, 0] / total[:, 1]


def estimate_of(layers: list[Layer]) -> float:
    """Weighted mean of the sample itself."""
    totals = np.sum([counts @ levels for levels, counts in layers], axis=0)
    return float(totals[0] / totals[1])
