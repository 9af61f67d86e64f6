"""Remedies for a quantized model, each of one cause and usable alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qinspect.data.streams import stream
from qinspect.errors import SpecError
from qinspect.schema import Array
from qinspect.train.batchnorm import reestimate_batchnorm
from qinspect.train.check import check_is_keras2
from qinspect.train.conversion import convert, keep_in_float
from qinspect.train.observers import warm_start_observers
from qinspect.train.qat import convert_qat, quantize_aware
from qinspect.train.robust import RobustQat, RobustRecord, robust_qat

__all__ = [
    "RobustQat",
    "RobustRecord",
    "keep_in_float",
    "per_channel_dense_qat",
    "recalibrate",
    "reestimate_batchnorm",
    "robust_qat",
    "warm_start_observers",
]


def recalibrate(
    model: Any,
    x: Array,
    *,
    size: int | None = None,
    percentile: float = 100.0,
    preprocess: Callable[[Array], Array] | None = None,
    seed: int = 0,
) -> bytes:
    """Quantize a float model to int8 after training, with ranges from these examples.

    Parameters
    ----------
    model : tf_keras.Model
        Float model; it is not changed.
    x : ndarray, shape (n, ...)
        Calibration examples.
    size : int or None
        Examples to draw from ``x`` at random; None takes all.
    percentile : float
        As in :func:`qinspect.train.warm_start_observers`: 100 takes the extremes, as the
        converter does, 99 lets one example in a hundred be clipped at each end of each tensor.
    preprocess : callable or None
        Applied to the chosen examples, where they are not yet in the units of the model's input.
    seed : int
        Of the choice under ``size``.

    Returns
    -------
    bytes
        The content of an int8 ``.tflite`` file with float input and output.

    Raises
    ------
    SpecError
        If the size or the percentile is out of range.
    DataError
        If the examples do not fit the model.
    TrainError
        If the model cannot be converted.

    Notes
    -----
    The converter can only take extremes.  Below 100 the ranges are therefore set in tfmot's
    wrappers, with no training, and converted from there; tfmot must support the layers, and
    gives the kernel of a depthwise convolution one range in all.
    """
    if size is not None:
        if isinstance(size, bool) or not 1 <= size <= len(x):
            raise SpecError(
                f"the calibration size is {size}; it must be between 1 and {len(x)}, the examples "
                "given."
            )
        x = x[np.sort(stream(seed, "recalibrate").permutation(len(x))[:size])]
    if preprocess is not None:
        x = preprocess(x)
    if percentile == 100:
        check_is_keras2(model)
        return convert(model, "int8", x)
    qat_model = quantize_aware(model, per_channel_dense=True)
    warm_start_observers(qat_model, x, percentile=percentile)
    return convert_qat(qat_model)


def per_channel_dense_qat(model: Any, *, skip_layers: Sequence[str] = ()) -> Any:
    """A QAT copy of a float model whose dense kernels have one range for each output.

    Parameters
    ----------
    model : tf_keras.Model
        Float model; it is not changed.
    skip_layers : sequence of str
        As in :func:`qinspect.train.quantize_aware`.

    Returns
    -------
    tf_keras.Model
        For :func:`qinspect.train.fit_qat` and :func:`qinspect.train.convert_qat`, which writes
        the ranges into the file.

    Raises
    ------
    TrainError, SpecError
        As :func:`qinspect.train.quantize_aware`.

    Notes
    -----
    tfmot's default is one range in all, which is coarser than what the converter's own
    quantization does.  A dense layer with batch norm right behind it stays as tfmot makes it, which
    the converter of TensorFlow 2.21 leaves in float.
    """
    return quantize_aware(model, skip_layers=skip_layers, per_channel_dense=True)
