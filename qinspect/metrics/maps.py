"""Metrics of segmentations: one class for each pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

from qinspect.errors import DataError
from qinspect.schema import Array


def pixel_accuracy(y: Array, output: Any) -> Array:
    """Share of each image's pixels that are classified right."""
    wanted, found = _maps(y, output)
    return np.asarray((wanted == found).mean(axis=1))


def mean_iou(y: Array, output: Any) -> Array:
    """Mean intersection over union of each image, over classes that it has or is said to have."""
    wanted, found = _maps(y, output)
    total, number = np.zeros(len(wanted)), np.zeros(len(wanted))
    for one in np.union1d(wanted, found):
        real, said = wanted == one, found == one
        either = (real | said).sum(axis=1)
        total += np.divide((real & said).sum(axis=1), either, out=np.zeros(len(wanted)),
                           where=either > 0)
        number += either > 0
    return np.asarray(total / number)


def _maps(y: Array, output: Any) -> tuple[Array, Array]:
    """Classes wanted and found, whole numbers (n, pixels)."""
    wanted, found = np.asarray(y), np.asarray(output)
    if wanted.ndim == found.ndim and wanted.shape[-1] == 1:
        wanted = wanted[..., 0]
    if found.ndim == wanted.ndim + 1:
        # One channel is the probability of class 1.
        found = (found[..., 0] > 0.5).astype(int) if found.shape[-1] == 1 else found.argmax(axis=-1)
    if wanted.shape != found.shape or wanted.ndim < 2:
        raise DataError(f"outputs have shape {np.shape(output)}, labels {np.shape(y)}; a "
                        "segmentation needs one class for each pixel (n, height, width).")
    whole = wanted.astype(np.int64)
    if (whole != wanted).any():
        raise DataError("labels of pixels are not whole numbers; give one class for each pixel.")
    return whole.reshape(len(whole), -1), found.reshape(len(found), -1)
