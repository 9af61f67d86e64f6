"""How many examples of each class (or stratum) a part of given size takes."""

from __future__ import annotations

import numpy as np

from qinspect.schema import Array


def quotas(counts: Array, total: int, *, each: bool = False) -> Array:
    """Divide ``total`` over strata in proportion to ``counts``, by largest remainder.

    Parameters
    ----------
    counts : ndarray of int, shape (k,)
        Examples at hand in each stratum.
    total : int
        Examples wanted, 0 <= total <= counts.sum().
    each : bool
        Give every stratum that is not empty at least one example, if ``total`` allows.

    Returns
    -------
    ndarray of int64, shape (k,)
        Sums to ``total`` and never exceeds ``counts``.

    Notes
    -----
    The method of largest remainders (Hamilton); ties go to the lower index.  No quota exceeds
    its count because ceil(total * c / n) <= c for total <= n.
    """
    counts = np.asarray(counts, dtype=np.int64)
    n = int(counts.sum())
    if n == 0:
        return np.zeros_like(counts)
    # Integers throughout: floats would let rounding decide ties differently between machines.
    quota, remainder = np.divmod(counts * total, n)
    short = total - int(quota.sum())
    quota[np.argsort(-remainder, kind="stable")[:short]] += 1
    present = counts > 0
    if each and total >= int(present.sum()):
        for stratum in np.flatnonzero(present & (quota == 0)):
            quota[np.argmax(quota)] -= 1
            quota[stratum] = 1
    return quota


def draw(strata: Array, total: int, rng: np.random.Generator, *, each: bool = False) -> Array:
    """Positions of a random, proportional sample of ``total`` examples, in random order.

    Parameters
    ----------
    strata : ndarray of int, shape (n,)
        Stratum of each example, 0 <= stratum.
    total : int
        Size of the sample.
    rng : numpy.random.Generator
    each : bool
        As in :func:`quotas`.

    Returns
    -------
    ndarray of int64, shape (total,)
    """
    taken = quotas(np.bincount(strata), total, each=each)
    shuffled = rng.permutation(len(strata))
    # Rank of each shuffled example within its stratum.
    by_stratum = np.argsort(strata[shuffled], kind="stable")
    counts = np.bincount(strata)
    start = np.concatenate(([0], np.cumsum(counts)[:-1]))
    rank = np.empty(len(strata), dtype=np.int64)
    rank[by_stratum] = np.arange(len(strata)) - np.repeat(start, counts)
    return shuffled[rank < taken[strata[shuffled]]]
