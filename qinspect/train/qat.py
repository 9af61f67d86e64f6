"""Quantization-aware training with the TensorFlow Model Optimization Toolkit (tfmot)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from qinspect.data.dataset import Dataset
from qinspect.errors import TrainError, unknown_name
from qinspect.progress import Progress
from qinspect.quiet import quiet
from qinspect.schema import Array
from qinspect.train.check import check_model
from qinspect.train.keras import is_quantized, sources, tf_keras, tfmot
from qinspect.train.observers import warm_start_observers
from qinspect.train.per_channel import make_scheme
from qinspect.train.training import fit

if TYPE_CHECKING:
    from qinspect.train.monitor import QATMonitor


def quantize_aware(
    model: Any, *, skip_layers: Sequence[str] = (), per_channel_dense: bool = False
) -> Any:
    """A copy of a float model with tfmot's fake quantization in it.

    Parameters
    ----------
    model : tf_keras.Model
        Sequential or Functional; it is not changed.
    skip_layers : sequence of str
        Names of layers to leave without fake quantization, recurrent ones for example.  That is
        not float: the converter quantizes the weights of such a layer all the same where they are
        large enough, and its activations where its input and output are quantized; to keep a layer
        in float, see :func:`qinspect.train.keep_in_float`.  Batch norm and activation layers right
        behind a skipped layer are skipped with it, since tfmot takes them only together; it still
        quantizes the output of the last of them where a quantized layer follows.
    per_channel_dense : bool
        Give the kernels of dense layers one range for each output, as
        :func:`qinspect.train.per_channel_dense_qat` says, instead of tfmot's one range in all.

    Returns
    -------
    tf_keras.Model
        With the same weights.  Its ranges are [-6, 6], the input's [0, 0], until it is trained or
        :func:`qinspect.train.warm_start_observers` sets them, so it is of no use before.

    Raises
    ------
    TrainError
        If tfmot cannot quantize the model; the message names the layer and the way out.
    SpecError
        If a name in ``skip_layers`` is not a layer.
    """
    if isinstance(skip_layers, str):
        skip_layers = (skip_layers,)
    skipped = _with_followers(model, skip_layers)
    check_model(model, skip_layers=tuple(skipped))
    keras, api = tf_keras(), tfmot().quantization.keras

    def annotate(layer: Any) -> Any:
        if layer.name in skipped:
            return layer.__class__.from_config(layer.get_config())
        return api.quantize_annotate_layer(layer)

    # tfmot leaves its input layer unnamed; Keras would number it by what ran before.
    keras.backend.reset_uids()
    try:
        with quiet():
            annotated = keras.models.clone_model(model, clone_function=annotate)
            annotated.set_weights(model.get_weights())
            qat_model = api.quantize_apply(annotated, scheme=make_scheme(model, per_channel_dense))
    except (ValueError, RuntimeError, TypeError, AttributeError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise TrainError(f"tfmot cannot quantize model {model.name!r}: {reason}") from error
    return qat_model


def fit_qat(
    qat_model: Any,
    train: Dataset,
    validation: Dataset | None,
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int = 32,
    seed: int,
    loss: str = "crossentropy",
    phase: str = "qat",
    progress: Progress | None = None,
    warm_start_x: Array | None = None,
    freeze_batchnorm: bool = False,
    warm_up: float = 0.0,
    decay_from: float = 1.0,
    monitor: QATMonitor | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train a QAT model in place, and log the ranges it uses.

    Parameters
    ----------
    qat_model : tf_keras.Model
        From :func:`quantize_aware`.
    train, validation, epochs, learning_rate, batch_size, seed, loss, phase, progress
        As in :func:`qinspect.train.fit`; with the same seed both see the same batches.
    freeze_batchnorm, warm_up, decay_from
        As in :func:`qinspect.train.fit`.
    warm_start_x : ndarray or None, shape (n, ...)
        Calibration examples that set the ranges before the first step; None keeps tfmot's
        default, [-6, 6] everywhere.
    monitor : QATMonitor, optional
        What watches the run; by default one that logs the ranges and asks nothing more.

    Returns
    -------
    history : DataFrame
        ``schema.HISTORY``.
    observers : DataFrame
        ``schema.OBSERVERS``: ranges at step 0 (after the warm start, if any), at some early steps
        and after each epoch.  Of weights with one range for each channel, the widest.

    Raises
    ------
    TrainError
        If the model is not a QAT model, or the loss stopped being a number.
    DataError, SpecError
        As :func:`qinspect.train.fit`.
    """
    if not is_quantized(qat_model):
        raise TrainError(
            f"model {qat_model.name!r} has no quantized layers; call quantize_aware on it first."
        )
    if warm_start_x is not None:
        warm_start_observers(qat_model, warm_start_x)
    from qinspect.train.monitor import QATMonitor

    monitor = monitor or QATMonitor()
    monitor.watch(qat_model)
    history = fit(
        qat_model, train, validation, epochs=epochs, learning_rate=learning_rate,
        batch_size=batch_size, seed=seed, loss=loss, phase=phase, progress=progress,
        callbacks=[monitor], freeze_batchnorm=freeze_batchnorm, warm_up=warm_up,
        decay_from=decay_from,
    )
    return history, monitor.observers


def _with_followers(model: Any, skip_layers: Sequence[str]) -> set[str]:
    """Skipped layers and the batch norm and activation layers behind them."""
    names = [layer.name for layer in model.layers]
    for name in skip_layers:
        if name not in names:
            raise unknown_name("layer", name, names)
    keras = tf_keras().layers
    followers = (keras.BatchNormalization, keras.ReLU, keras.Activation)
    skipped = set(skip_layers)
    for layer in model.layers:
        if isinstance(layer, followers) and any(
            source.name in skipped for source in sources(layer)
        ):
            skipped.add(layer.name)
    return skipped
