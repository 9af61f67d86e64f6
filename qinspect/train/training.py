"""Float training and its history; QAT trains through the same function."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pandas as pd

from qinspect.data.dataset import Dataset
from qinspect.data.streams import stream
from qinspect.errors import DataError, SpecError, TrainError
from qinspect.progress import Progress, no_progress
from qinspect.schema import HISTORY, Array
from qinspect.train.keras import batchnorm_layers, inner, is_wrapped, tensorflow, tf_keras
from qinspect.train.objective import keras_loss, keras_metrics, targets

_EVALUATION_BATCH = 256


class DivergedError(TrainError):
    """The loss stopped being a number; ``history`` holds the epochs up to there."""

    def __init__(self, message: str, history: pd.DataFrame) -> None:
        super().__init__(message)
        self.history = history


def fit(
    model: Any,
    train: Dataset,
    validation: Dataset | None,
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int = 32,
    seed: int,
    loss: str = "crossentropy",
    phase: str = "float",
    progress: Progress | None = None,
    callbacks: Sequence[Any] = (),
    freeze_batchnorm: bool = False,
    warm_up: float = 0.0,
    decay_from: float = 1.0,
) -> pd.DataFrame:
    """Train a network in place with Adam.

    Parameters
    ----------
    model : tf_keras.Model
        With one input and one output; a classifier's is of shape (n, classes), softmax or logits.
    train : Dataset
        Training examples; ``y`` is what the model should give, class numbers or values.
    validation : Dataset or None
        Examples that ``val_loss`` and ``val_accuracy`` are measured on after each epoch.
    epochs : int
        Passes over ``train``; 0 changes nothing.
    learning_rate : float
        Of Adam (Kingma & Ba 2015, arXiv:1412.6980), constant between ``warm_up`` and
        ``decay_from``.
    batch_size : int
        Examples a step; the last batch of an epoch may be smaller.
    seed : int
        Decides the order: epoch k (from 0) visits the examples in the order of
        :func:`batch_order`, whatever model is trained, so a float model and a QAT model with the
        same seed see the same batches.
    loss : str
        One of ``qinspect.train.LOSSES``: ``crossentropy`` of class numbers, ``binary-crossentropy``
        of 0 and 1, or ``mae``, ``mse``, ``huber`` of values.
    phase : str
        Name in the history and in the progress line.
    progress : callable, optional
        See :func:`qinspect.progress.make_progress`; nothing is shown when not given.
    callbacks : sequence of tf_keras.callbacks.Callback
        Called by Keras as usual.
    freeze_batchnorm : bool
        Keep batch norm as it is: it runs in inference mode, and neither its statistics nor its
        scale and offset change.
    warm_up : float
        Share of all steps, 0 to 1, over which the learning rate rises in a straight line.
    decay_from : float
        Share of all steps, ``warm_up`` to 1, after which it falls in a straight line to 0, which it
        would reach one step after the last; with 1 it never falls.

    Returns
    -------
    DataFrame
        ``schema.HISTORY``: one row an epoch; ``epoch`` from 1, ``steps`` counted over all
        epochs, ``seconds`` of the epoch; ``loss`` and ``accuracy`` are means over the epoch's
        batches while the weights change; ``val_*`` is NaN without validation examples, and
        accuracies are NaN for a loss of values.

    Raises
    ------
    SpecError
        If a number is out of range, or the loss unknown.
    DataError
        If the examples do not fit the model, or the labels the loss.
    TrainError
        If a classifier ends in an activation other than softmax (sigmoid) or none.
    DivergedError
        If the loss became NaN or infinite; training stops at that step.

    Notes
    -----
    Nothing here depends on the global random generators, except layers that draw random numbers
    themselves (dropout); call :func:`qinspect.train.reset` before for these.
    """
    check_numbers(epochs, learning_rate, batch_size, warm_up, decay_from)
    check_examples(model, train.array, train.name)
    y = targets(model, train, loss)
    if epochs == 0:
        return pd.DataFrame(columns=list(HISTORY))
    if validation is not None and len(validation) == 0:
        validation = None
    steps = math.ceil(len(train) / batch_size)
    rate = learning_rate
    if warm_up > 0 or decay_from < 1:
        rate = _schedule(learning_rate, epochs * steps, warm_up, decay_from)
    recorder = _recorder(phase, epochs, steps, learning_rate, progress or no_progress)
    with _frozen(batchnorm_layers(model) if freeze_batchnorm else []):
        model.compile(
            optimizer=tf_keras().optimizers.Adam(rate),
            loss=keras_loss(model, loss),
            metrics=keras_metrics(model, loss),
        )
        model.fit(
            _batches(train.array, y, epochs, batch_size, seed),
            epochs=epochs,
            steps_per_epoch=steps,
            validation_data=None if validation is None else _evaluation_batches(
                validation.array, targets(model, validation, loss)),
            callbacks=[recorder, *callbacks],
            verbose=0,
        )
    history = pd.DataFrame(recorder.rows, columns=list(HISTORY))
    if recorder.diverged_at is not None:
        raise DivergedError(
            f"the loss of {phase!r} became {recorder.diverged_loss} at step "
            f"{recorder.diverged_at} with learning rate {learning_rate:g}; lower the learning "
            "rate, or scale the inputs.",
            history,
        )
    return history


def batch_order(n: int, seed: int, epoch: int) -> Array:
    """Order in which epoch ``epoch`` (from 0) visits ``n`` examples, int64, shape (n,)."""
    return stream(seed, "batch order", epoch).permutation(n)


def predict(model: Any, x: Array) -> Array:
    """Outputs of a Keras model.

    Parameters
    ----------
    model : tf_keras.Model
    x : ndarray, shape (n, ...)
        Examples in the units of the model's input.

    Returns
    -------
    ndarray of float32, shape (n, classes)

    Raises
    ------
    DataError
        If the examples do not fit the model.
    """
    check_examples(model, x, "x")
    outputs = model.predict(
        np.asarray(x, dtype=np.float32), batch_size=_EVALUATION_BATCH, verbose=0
    )
    return np.asarray(outputs, dtype=np.float32)


def check_examples(model: Any, x: Array, name: str) -> None:
    """Refuse examples that are none, of the wrong shape, or not finite."""
    if len(x) == 0:
        raise DataError(f"{name} has no examples; at least one is needed.")
    wanted = model.input_shape
    if isinstance(wanted, list):
        raise DataError(
            f"model {model.name!r} has {len(wanted)} inputs ({', '.join(model.input_names)}); only "
            "networks of one input are trained here: train and convert it elsewhere, and give the "
            "files to 'qinspect compare' or 'qinspect diagnose'."
        )
    if len(wanted) != x.ndim or any(
        size not in (None, given) for size, given in zip(wanted[1:], x.shape[1:], strict=True)
    ):
        raise DataError(
            f"{name} has examples of shape {x.shape[1:]}, but model {model.name!r} takes {wanted}."
        )
    if not np.isfinite(x).all():
        raise DataError(f"{name} holds NaN or infinite values; remove or replace them.")


@contextmanager
def _frozen(layers: Sequence[Any]) -> Iterator[None]:
    """Keep all weights of these layers, or of those inside tfmot's wrappers, as they are."""
    with ExitStack() as stack:
        for layer in layers:
            stack.callback(setattr, inner(layer), "trainable", inner(layer).trainable)
            if is_wrapped(layer):
                # The wrapper lists them as its own, too, which would go on being trained.
                stack.callback(setattr, layer, "_trainable_weights", layer._trainable_weights)
                layer._trainable_weights = []
            inner(layer).trainable = False
        yield


def _recorder(phase: str, epochs: int, steps: int, learning_rate: float, progress: Progress) -> Any:
    """A Keras callback; made here because its base class comes with TensorFlow."""

    class Recorder(tf_keras().callbacks.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.rows: list[dict[str, Any]] = []
            self.step = 0
            self.started = 0.0
            self.diverged_at: int | None = None
            self.diverged_loss = math.nan

        def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            self.started = time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
            self.step += 1
            loss = float(logs["loss"])
            if not math.isfinite(loss):
                self.diverged_at, self.diverged_loss = self.step, loss
                self.model.stop_training = True
            epoch = (self.step - 1) // steps + 1
            if self.step % steps:
                progress(phase, self.step, epochs * steps,
                         f"epoch {epoch}/{epochs}  loss {loss:.4f}")

        def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
            self.rows.append({
                "phase": phase, "epoch": epoch + 1, "steps": self.step,
                "loss": float(logs["loss"]), "accuracy": float(logs.get("accuracy", math.nan)),
                "val_loss": float(logs.get("val_loss", math.nan)),
                "val_accuracy": float(logs.get("val_accuracy", math.nan)),
                "learning_rate": learning_rate,
                "seconds": time.perf_counter() - self.started,
            })
            row = self.rows[-1]
            message = f"epoch {epoch + 1}/{epochs}  loss {row['loss']:.4f}"
            if "accuracy" in logs:
                message += f"  accuracy {row['accuracy']:.4f}"
            shown = "val_accuracy" if "val_accuracy" in logs else "val_loss"
            if shown in logs:
                message += f"  validation {row[shown]:.4f}"
            progress(phase, self.step, epochs * steps, message)

    return Recorder()


def _schedule(peak: float, steps: int, warm_up: float, decay_from: float) -> Any:
    """A Keras learning rate: up in a straight line, constant, and down to 0 at step ``steps``."""
    tf = tensorflow()
    # Bounds of one step stand for no rise and no fall.
    rising, falling = max(1.0, steps * warm_up), max(1.0, steps * (1 - decay_from))

    class Trapezoid(tf_keras().optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
        def __call__(self, step: Any) -> Any:
            step = tf.cast(step, tf.float32)
            begun, left = (step + 1) / rising, (steps - step) / falling
            return peak * tf.clip_by_value(tf.minimum(begun, left), 0.0, 1.0)

        def get_config(self) -> dict[str, float]:
            return {"peak": peak, "steps": steps, "warm_up": warm_up, "decay_from": decay_from}

    return Trapezoid()


def _batches(x: Array, y: Array, epochs: int, batch_size: int, seed: int) -> Any:
    """All batches of all epochs as one data set, so that Keras traces its step only once."""
    tf = tensorflow()
    inputs, wanted = tf.constant(np.asarray(x, dtype=np.float32)), tf.constant(y)
    order = np.stack([batch_order(len(x), seed, epoch) for epoch in range(epochs)])
    orders = tf.data.Dataset.from_tensor_slices(order)
    index = orders.flat_map(lambda one: tf.data.Dataset.from_tensor_slices(one).batch(batch_size))
    return index.map(lambda i: (tf.gather(inputs, i), tf.gather(wanted, i))).prefetch(2)


def _evaluation_batches(x: Array, y: Array) -> Any:
    pairs = tensorflow().data.Dataset.from_tensor_slices((np.asarray(x, dtype=np.float32), y))
    return pairs.batch(_EVALUATION_BATCH).cache()


def check_numbers(
    epochs: int, learning_rate: float, batch_size: int, warm_up: float, decay_from: float
) -> None:
    """Refuse settings of :func:`fit` that are out of range."""
    if epochs < 0:
        raise SpecError(f"epochs is {epochs}; it must be at least 0.")
    if batch_size < 1:
        raise SpecError(f"batch_size is {batch_size}; it must be at least 1.")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise SpecError(f"learning_rate is {learning_rate}; it must be a positive number.")
    for name, share in (("warm_up", warm_up), ("decay_from", decay_from)):
        if not 0 <= share <= 1:
            raise SpecError(f"{name} is {share}; it must be a share from 0 to 1.")
    if warm_up > decay_from:
        raise SpecError(f"warm_up is {warm_up}; it must not be above decay_from, {decay_from}.")
