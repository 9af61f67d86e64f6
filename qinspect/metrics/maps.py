"""Metrics of segmentations: one class for each pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

from qinspect.errors import DataError
from qinspect.metrics.numbers import without_nan
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
    wanted, found = np.asarray(y), without_nan(output)
    if wanted.ndim == found.ndim and wanted.shape[-1] == 1:
        wanted = wanted[..., 0]
    if found.ndim == wanted.ndim + 1 > 2:
        classes = max(found.shape[-1], 2)
        if (other := wanted[(wanted < 0) | (wanted >= classes)]).size:
            raise DataError(f"labels of pixels hold {other[0]:g}, but the output has classes 0 to "
                            f"{classes - 1}; bring them to these, or leave pixels out by a metric "
                            "of your own, module:function.")
        if found.shape[-1] == 1 and (found.min() < 0 or found.max() > 1):
            raise DataError(f"one channel is the probability of class 1, but outputs run from "
                            f"{found.min():g} to {found.max():g}; give the file a sigmoid or write "
                            "a metric of your own, module:function.")
        found = (found[..., 0] > 0.5).astype(int) if found.shape[-1] == 1 else found.argmax(axis=-1)
    if wanted.shape != found.shape or wanted.ndim < 2:
        raise DataError(f"outputs have shape {np.shape(output)}, labels {np.shape(y)}; a "
                        "segmentation needs one class for each pixel (n, height, width).")
    whole = wanted.astype(np.int64)
    for what, values in (("labels", wanted), ("outputs", found)):
        if (values != np.round(values)).any():
            raise DataError(f"{what} of pixels are not whole numbers; a segmentation has one class "
                            "for each pixel.")
    return whole.reshape(len(whole), -1), found.reshape(len(found), -1)
