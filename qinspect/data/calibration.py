"""Calibration subsets: which examples a converter sees, and in which order."""

from __future__ import annotations

import numpy as np

from qinspect.data.streams import stream
from qinspect.errors import SpecError, unknown_name
from qinspect.schema import Dataset

ORDERS: tuple[str, ...] = ("random", "first", "sorted_by_class")


def calibration_subset(
    dataset: Dataset, size: int, order: str = "random", *, seed: int = 0
) -> Dataset:
    """Choose ``size`` examples to calibrate with.

    Parameters
    ----------
    dataset : Dataset
        Usually the calibration part of :func:`qinspect.data.split`.
    size : int
        Examples to take, 1 <= size <= len(dataset).
    order : {"random", "first", "sorted_by_class"}
        "random": a random subset in random order.  "first": the leading examples as they come.
        "sorted_by_class": the leading examples of the set sorted by class, which is what a
        folder of one directory a class gives when it is read in order; a small size then sees
        only the first classes.
    seed : int
        For "random"; same seed: the smaller subset is the beginning of the larger one.

    Returns
    -------
    Dataset

    Raises
    ------
    SpecError
        If ``size`` or ``order`` is not allowed.
    """
    if order not in ORDERS:
        raise unknown_name("calibration order", order, ORDERS)
    if not 1 <= size <= len(dataset):
        raise SpecError(f"the calibration size is {size}; it must be between 1 and "
                        f"{len(dataset)}, the examples at hand.")  # fmt: skip
    if order == "random":
        index = stream(seed, "calibration").permutation(len(dataset))
    elif order == "sorted_by_class":
        index = np.argsort(dataset.y, kind="stable")
    else:
        index = np.arange(len(dataset))
    return dataset.take(index[:size])
