"""Remedies for a quantized model, each of one cause and usable alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qinspect.data.streams import stream
from qinspect.errors import SpecError, TrainError
from qinspect.schema import Array
from qinspect.train.check import check_is_keras2
from qinspect.train.conversion import convert, convert_qat
from qinspect.train.keras import batchnorm_layers, inner, tf_keras
from qinspect.train.observers import warm_start_observers
from qinspect.train.qat import quantize_aware
from qinspect.train.training import check_examples


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


def reestimate_batchnorm(model: Any, x: Array, batch_size: int = 256) -> Any:
    """Recompute every batch-norm layer's mean and variance from data, in place.

    Parameters
    ----------
    model : tf_keras.Model
        A float model or a QAT model; one without batch norm is left as it is.
    x : ndarray, shape (n, ...)
        Training examples in the units of the model's input.
    batch_size : int
        Examples run at once; the result does not depend on it beyond float rounding.

    Returns
    -------
    tf_keras.Model
        The same object.  No weight, scale, offset or quantization range is changed.

    Raises
    ------
    TrainError
        If a batch-norm layer is used more than once in the model.
    DataError
        If the examples do not fit the model.

    Notes
    -----
    Layer by layer, in the order they are computed: the mean and variance of the layer's input over
    all examples, with the network in inference mode and the layers before it already settled.  So
    the statistics are those that inference meets, exactly, and independent of batches and their
    order; the price is one pass through a part of the network for each layer.  Means and variances
    of batches are pooled in float64 (Chan, Golub & LeVeque 1983,
    doi:10.1080/00031305.1983.10483115).
    In a QAT model whose ranges are still at their start values, set these first
    (:func:`qinspect.train.warm_start_observers`): the statistics are taken behind them.
    """
    check_examples(model, x, "the data for batch norm")
    _refuse_shared(model)
    for layer in batchnorm_layers(model):
        mean, variance = _moments(_until(model, layer), inner(layer), x, batch_size)
        inner(layer).moving_mean.assign(mean)
        inner(layer).moving_variance.assign(variance)
    return model


def batchnorm_shift(model: Any, x: Array, batch_size: int = 256) -> float:
    """Standard deviations from the moving means to those of examples, median over all channels.

    NaN without batch norm.
    """
    shifts = []
    for layer in batchnorm_layers(model):
        mean, variance = _moments(_until(model, layer), inner(layer), x, batch_size)
        sd = np.sqrt(np.maximum(variance, 1e-12))
        shifts.append(np.abs(np.asarray(inner(layer).moving_mean) - mean) / sd)
    return float(np.median(np.concatenate(shifts))) if shifts else float("nan")


def _until(model: Any, layer: Any) -> Any:
    """The part of the model that computes the layer's input."""
    return tf_keras().Model(model.inputs, layer.input)


def _refuse_shared(model: Any) -> None:
    """A layer used twice sees two distributions, which one set of statistics cannot describe."""
    uses = {
        layer["config"]["name"]: len(layer.get("inbound_nodes", ()))
        for layer in model.get_config()["layers"]
    }
    for layer in batchnorm_layers(model):
        if uses[layer.name] > 1:
            raise TrainError(
                f"batch-norm layer {layer.name!r} is used more than once, so it has no one set of "
                "statistics; give each use a layer of its own."
            )


def _moments(before: Any, layer: Any, x: Array, batch_size: int) -> tuple[Array, Array]:
    """Mean and variance (not Bessel-corrected) for each channel, pooled over all batches."""
    count, mean, squares = 0, np.zeros(1), np.zeros(1)
    for start in range(0, len(x), batch_size):
        batch = np.asarray(x[start : start + batch_size], dtype=np.float32)
        values = np.asarray(before(batch, training=False), dtype=np.float64)
        others = tuple(axis for axis in range(values.ndim) if axis not in _axes(layer))
        added = int(np.prod([values.shape[axis] for axis in others]))
        batch_mean = values.mean(axis=others)
        total, shift = count + added, batch_mean - mean
        squares = squares + values.var(axis=others) * added + shift**2 * count * added / total
        mean = mean + shift * added / total
        count = total
    return mean.astype(np.float32), (squares / count).astype(np.float32)


def _axes(layer: Any) -> tuple[int, ...]:
    """Axes that batch norm keeps; Keras has resolved negative ones when the layer was built."""
    axis = layer.axis
    return tuple(axis) if isinstance(axis, (list, tuple)) else (int(axis),)
