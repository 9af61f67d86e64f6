"""Batch-norm statistics measured over the training data, instead of a moving average."""

from __future__ import annotations

from typing import Any

import numpy as np

from qinspect.errors import TrainError
from qinspect.schema import Array
from qinspect.train.keras import tf_keras
from qinspect.train.training import check_examples
from qinspect.train.wrapped import batchnorm_layers, inner


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
