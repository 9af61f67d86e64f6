"""Quantization-aware training that does not start, or end, with wrong ranges and statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from qinspect.data.dataset import Dataset
from qinspect.data.streams import stream
from qinspect.errors import TrainError
from qinspect.metrics.classes import class_of
from qinspect.progress import Progress, late_progress
from qinspect.shown import Shown
from qinspect.tflite.inputs import Examples, load_examples
from qinspect.train.check import check_is_keras2, check_model
from qinspect.train.conversion import convert_qat
from qinspect.train.files import model_of
from qinspect.train.keras import has_batchnorm, is_quantized, tf_keras
from qinspect.train.observers import warm_start_observers
from qinspect.train.qat import fit_qat, quantize_aware
from qinspect.train.remedies import reestimate_batchnorm
from qinspect.train.training import check_examples, check_numbers, predict

# Training examples that set the ranges, where no calibration set is given, and that batch norm is
# re-estimated on, which takes a pass for each of its layers.
_CALIBRATION = 500
_STATISTICS = 2000
# The learning rate falls over the last fifth of a run.
_DECAY_FROM = 0.8
# In a run of fewer steps it rises first and falls sooner, to and from a peak that keeps the mean:
# what only falls would learn too little (measured, docs/robust_qat.md; Smith & Topin 2018,
# arXiv:1708.07120).
_SHORT_RUN = 100
_SHORT_WARM_UP, _SHORT_DECAY_FROM = 0.2, 0.6


@dataclass(frozen=True)
class RobustRecord:
    """What :func:`robust_qat` did."""

    epochs: int
    steps: int
    batch_size: int
    # The learning rate of Adam rose over the first share of all steps and fell from the second on.
    peak_rate: float
    warm_up: float
    decay_from: float
    seed: int
    # Examples that set the ranges, and those that batch norm was re-estimated on.
    calibration_size: int
    statistics_size: int
    batchnorm: str  # ``none``; ``re-estimated`` before and after training; ``frozen`` in between
    skip_layers: tuple[str, ...]
    # Accuracy on the validation examples; NaN without any.
    validation_before: float
    validation_after: float
    kept: str  # ``untrained`` where training had lowered that accuracy, else ``trained``


@dataclass(frozen=True, eq=False)
class RobustQat(Shown):
    """Result of :func:`robust_qat`.

    Attributes
    ----------
    model : tf_keras.Model
        The QAT model.
    content : bytes
        Its int8 ``.tflite`` file, with float input and output.
    record : RobustRecord
        What was done.
    history, observers : DataFrame
        ``schema.HISTORY`` and ``schema.OBSERVERS`` of the training, whichever model was kept.
    """

    model: Any
    content: bytes
    record: RobustRecord
    history: pd.DataFrame
    observers: pd.DataFrame

    @property
    def frame(self) -> pd.DataFrame:
        """One row an epoch."""
        return self.history

    @property
    def sentence(self) -> str:
        """What was done and what came of it."""
        record = self.record
        epochs = f"{record.epochs} epoch" + ("" if record.epochs == 1 else "s")
        said = (f"QAT of {epochs} ({record.steps} steps, learning rate up to "
                f"{record.peak_rate:.2g})")
        if math.isnan(record.validation_before):
            return f"{said}; without validation examples nothing says whether it helped."
        return (f"{said}: accuracy on the validation examples went from "
                f"{100 * record.validation_before:.2f} % to {100 * record.validation_after:.2f} %; "
                f"the {record.kept} model is kept.")

    def to_json(self) -> dict[str, Any]:
        """What was done, as numbers, strings and lists; None for what was not measured."""
        found = asdict(self.record) | {"bytes": len(self.content)}
        return {name: None if isinstance(value, float) and math.isnan(value) else value
                for name, value in found.items()}


def robust_qat(
    model: Any,
    train: Examples,
    validation: Examples | None = None,
    *,
    epochs: int = 1,
    learning_rate: float = 1e-3,
    decay_from: float | None = None,
    batch_size: int = 32,
    seed: int = 0,
    calibration: Examples | None = None,
    skip_layers: Sequence[str] = (),
    freeze_batchnorm: bool = False,
    progress: Progress | None = None,
) -> RobustQat:
    """Quantization-aware training with every known pitfall of tfmot's default removed.

    Parameters
    ----------
    model : tf_keras.Model or path
        Trained float model, or its Keras file; it is not changed.
    train : path of an .npz, Dataset, or (x, y)
        Training examples in the units of the model's input.
    validation : as train, optional
        Where given, training is undone if it lowered the accuracy on these examples.  They must
        not be the test examples.
    epochs : int
        Passes over ``train``; with 0 the result is a post-training quantization.
    learning_rate, decay_from
        As in :func:`qinspect.train.fit`.  Where ``decay_from`` is None it is 0.8; in runs of fewer
        than 100 steps the rate then rises over the first fifth and falls from 0.6 on, with a peak
        so much higher that the mean is ``learning_rate``.
    batch_size : int
        Examples a step.
    seed : int
        Of the batch order and of the examples drawn from ``train``.
    calibration : path of an .npz, Dataset or ndarray of shape (n, ...), optional
        Examples that set the ranges; 500 of the training examples where not given.
    skip_layers : sequence of str
        As in :func:`qinspect.train.quantize_aware`.
    freeze_batchnorm : bool
        Re-estimate batch norm once and keep it, instead of training it and re-estimating it
        again at the end: for small batches or few steps.
    progress : callable, optional
        See :func:`qinspect.progress.make_progress`; a terminal or notebook shows it unless given.

    Returns
    -------
    RobustQat

    Raises
    ------
    TrainError
        If tfmot cannot quantize the model, or the loss stopped being a number.
    DataError
        If examples do not fit the model.
    SpecError
        If a number or a layer's name is not allowed.

    Examples
    --------
    >>> from qinspect.train import build_model
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.random((64, 8, 8, 1), dtype=np.float32), np.arange(64) % 4
    >>> found = robust_qat(build_model("mlp", (8, 8, 1), 4), (x, y), calibration=x)
    >>> found.sentence
    'QAT of 1 epoch (2 steps, learning rate up to 0.0014); without validation examples nothing says
    whether it helped.'

    Notes
    -----
    In this order: batch-norm statistics are re-estimated, since training and quantization should
    not start from a moving average that lags; the model is wrapped, its dense kernels per
    channel; ranges are set by a calibration pass; it is trained, with a learning rate that falls
    to 0 at the end; statistics are re-estimated and ranges calibrated anew, since both moved more
    slowly than the weights.
    """
    model, data = model_of(model), load_examples(train)
    held_out = None if validation is None else load_examples(validation)
    show = progress or late_progress()
    check_is_keras2(model)
    if is_quantized(model):
        raise TrainError(
            f"model {model.name!r} is a QAT model already; give the float model it was made from."
        )
    check_model(model, skip_layers=tuple(skip_layers))
    check_examples(model, data.array, data.name)
    check_numbers(epochs, learning_rate, batch_size, 0.0, 1.0 if decay_from is None else decay_from)
    steps = epochs * math.ceil(len(data) / batch_size)
    peak_rate, warm_up = learning_rate, 0.0
    if decay_from is None and steps < _SHORT_RUN:
        warm_up, decay_from = _SHORT_WARM_UP, _SHORT_DECAY_FROM
        peak_rate = learning_rate / (1 - warm_up / 2 - (1 - decay_from) / 2)
    elif decay_from is None:
        decay_from = _DECAY_FROM
    drawn = stream(seed, "robust qat").permutation(len(data))
    statistics_x = data.array[np.sort(drawn[:_STATISTICS])]
    calibration_x = (data.array[np.sort(drawn[:_CALIBRATION])] if calibration is None
                     else load_examples(calibration).array)
    check_examples(model, calibration_x, "the calibration set")
    with_batchnorm = has_batchnorm(model)
    qat_model = quantize_aware(
        reestimate_batchnorm(_copy(model), statistics_x),
        skip_layers=skip_layers, per_channel_dense=True,
    )
    show("robust qat", 0, max(steps, 1), "ranges of the observers")
    warm_start_observers(qat_model, calibration_x)
    untrained = qat_model.get_weights()
    before = _accuracy(qat_model, held_out)
    history, observers = fit_qat(
        qat_model, data, held_out, epochs=epochs, learning_rate=peak_rate,
        batch_size=batch_size, seed=seed, phase="robust qat", progress=show,
        freeze_batchnorm=freeze_batchnorm, warm_up=warm_up, decay_from=decay_from,
    )
    if epochs and with_batchnorm and not freeze_batchnorm:
        warm_start_observers(qat_model, calibration_x)
        reestimate_batchnorm(qat_model, statistics_x)
    warm_start_observers(qat_model, calibration_x)
    after = _accuracy(qat_model, held_out)
    kept = "trained"
    if after < before:
        kept = "untrained"
        qat_model.set_weights(untrained)
    record = RobustRecord(
        epochs=epochs, steps=steps, batch_size=batch_size,
        peak_rate=peak_rate, warm_up=warm_up, decay_from=decay_from,
        seed=seed, calibration_size=len(calibration_x),
        statistics_size=len(statistics_x) if with_batchnorm else 0,
        batchnorm=("none" if not with_batchnorm
                   else "frozen" if freeze_batchnorm else "re-estimated"),
        skip_layers=tuple(skip_layers), validation_before=before, validation_after=after,
        kept=kept,
    )
    return RobustQat(qat_model, convert_qat(qat_model), record, history, observers)


def _copy(model: Any) -> Any:
    copy = tf_keras().models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def _accuracy(model: Any, data: Dataset | None) -> float:
    if data is None or len(data) == 0:
        return float("nan")
    return float((class_of(predict(model, data.array)) == data.labels).mean())
