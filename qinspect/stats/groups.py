"""Examples that come in groups: how much less they say than as many independent ones."""

from __future__ import annotations

import numpy as np

from qinspect.errors import DataError
from qinspect.schema import Array


def group_sums(values: Array, groups: Array) -> tuple[Array, Array]:
    """Sum of the values and number of examples of each group.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
        One value an example.
    groups : array_like, shape (n,)
        Label of each example's group.

    Returns
    -------
    sums : ndarray of float64, shape (groups,)
    sizes : ndarray of int64, shape (groups,)

    Raises
    ------
    DataError
        When the lengths differ or there are fewer than two groups.
    """
    labels = np.asarray(groups)
    if labels.shape != values.shape:
        raise DataError(
            f"groups have shape {labels.shape}; {len(values)} examples need one label each."
        )
    code = np.unique(labels, return_inverse=True)[1]
    sizes = np.bincount(code)
    if len(sizes) < 2:
        raise DataError("all examples are in one group; at least two groups are needed.")
    return np.bincount(code, values), sizes


def design_effect(values: Array, sums: Array, sizes: Array) -> float:
    """Variance of the mean of grouped examples over that of as many independent ones.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
        One value an example.
    sums, sizes : ndarray, shape (groups,)
        As from :func:`group_sums`.

    Returns
    -------
    float
        At least 1.  When all values are alike there is nothing to estimate it from, and each group
        counts as one example.

    References
    ----------
    Rao and Scott (1992), Biometrics 48, 577-585.
    """
    n, count = len(values), len(sums)
    mean = values.mean()
    alone = float(np.sum((values - mean) ** 2))
    if alone == 0:
        return n / count
    together = float(np.sum((sums - mean * sizes) ** 2)) * count / (count - 1)
    return max(1.0, together / alone)
