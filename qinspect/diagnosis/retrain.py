"""Remedies that need TensorFlow: retrain, re-estimate, convert, and give the new predictions.

TensorFlow is imported through ``qinspect.train`` inside the functions, and every result is kept
in the evidence, so that two causes with the same remedy pay once.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qinspect.data.dataset import Dataset
from qinspect.diagnosis.cases import TrainingFacts
from qinspect.diagnosis.evidence import Evidence
from qinspect.schema import Array
from qinspect.tflite import read_keras

# Of the converter's calibration when no calibration set was given.
_CALIBRATION_EXAMPLES = 200


def qat_again(
    evidence: Evidence,
    *,
    warm_start: bool | None = None,
    rate_factor: float = 1.0,
    extra_epochs: int = 0,
    seed_shift: int = 0,
    per_channel_dense: bool = False,
) -> Array:
    """Predictions of QAT trained anew from the float model, with one thing changed.

    Parameters
    ----------
    evidence : Evidence
        Its case needs ``keras_float``, ``train`` and ``recipe``.
    warm_start : bool, optional
        Set the ranges from calibration examples first; as before when not given.
    rate_factor : float
        Of the learning rate.
    extra_epochs : int
        Added to QAT's epochs.
    seed_shift : int
        Added to the seed of the batch order.
    per_channel_dense : bool
        Give each output of a dense layer its own weight range.

    Returns
    -------
    ndarray of int64, shape (n,)

    Raises
    ------
    TrainError
        If the model cannot be trained or converted.
    """
    facts = _facts(evidence)
    warm = facts.warm_start if warm_start is None else warm_start
    key = ("qat again", warm, rate_factor, extra_epochs, seed_shift, per_channel_dense)

    def make() -> Array:
        from qinspect.train import convert_qat, fit_qat, quantize_aware

        model = quantize_aware(
            _load(evidence, "keras_float"), skip_layers=facts.skip_layers,
            per_channel_dense=per_channel_dense,
        )
        fit_qat(
            model, _train(evidence), None, epochs=facts.qat_epochs + extra_epochs,
            learning_rate=facts.qat_lr * rate_factor, batch_size=facts.batch_size,
            seed=facts.seed + seed_shift,
            warm_start_x=calibration_x(evidence) if warm else None,
            freeze_batchnorm=facts.freeze_batchnorm,
        )
        return evidence.run(convert_qat(model), evidence.data.x).prediction

    return evidence.once(key, make)


def controls(evidence: Evidence, *roles: str) -> dict[str, Array]:
    """What a remade file is compared with: itself made anew, where its settings are guessed.

    Parameters
    ----------
    evidence : Evidence
    *roles : str
        ``ptq``, converted anew; ``qat``, trained anew.
    """
    facts = evidence.case.facts
    if facts is not None and facts.exact:
        return {}
    made = {"ptq": ptq_again, "qat": qat_again}
    return {role: made[role](evidence) for role in roles}


def ptq_trained_on(evidence: Evidence, *, extra_epochs: int = 0) -> Array:
    """Predictions of PTQ of the float model trained on for as long as QAT was."""
    facts = _facts(evidence)

    def make() -> Array:
        from qinspect.train import fit

        model = _load(evidence, "keras_float")
        fit(
            model, _train(evidence), None, epochs=facts.qat_epochs + extra_epochs,
            learning_rate=facts.qat_lr, batch_size=facts.batch_size, seed=facts.seed,
            freeze_batchnorm=facts.freeze_batchnorm,
        )
        return _ptq(evidence, model)

    return evidence.once(("ptq trained on", extra_epochs), make)


def ptq_again(evidence: Evidence) -> Array:
    """Predictions of PTQ of the float Keras model, converted anew."""
    return evidence.once(
        ("ptq again",), lambda: _ptq(evidence, _load(evidence, "keras_float"))
    )


def ptq_settled(evidence: Evidence) -> Array:
    """Predictions of PTQ of the float model with re-estimated batch norm."""

    def make() -> Array:
        from qinspect.train import reestimate_batchnorm

        model = _load(evidence, "keras_float")
        return _ptq(evidence, reestimate_batchnorm(model, evidence.examples("train")))

    return evidence.once(("ptq settled",), make)


def qat_settled(evidence: Evidence) -> Array:
    """Predictions of the QAT model with re-estimated batch norm, nothing else changed."""

    def make() -> Array:
        from qinspect.train import convert_qat, reestimate_batchnorm

        model = _load(evidence, "keras_qat")
        reestimate_batchnorm(model, evidence.examples("train"))
        return evidence.run(convert_qat(model), evidence.data.x).prediction

    return evidence.once(("qat settled",), make)


def qat_converted(evidence: Evidence) -> Array:
    """Predictions of the QAT Keras model, converted as it should be."""

    def make() -> Array:
        from qinspect.train import convert_qat

        content = convert_qat(_load(evidence, "keras_qat"))
        return evidence.run(content, evidence.data.x).prediction

    return evidence.once(("qat converted",), make)


def calibration_x(evidence: Evidence) -> Array:
    """The calibration set, or a part of the training data."""
    if evidence.case.calibration_x is not None:
        return evidence.case.calibration_x
    return evidence.examples("train")[:_CALIBRATION_EXAMPLES]


def batchnorm_channels(model: Path, settled: Path) -> pd.DataFrame:
    """Stored batch-norm statistics against re-estimated ones, without TensorFlow.

    Parameters
    ----------
    model, settled : Path
        Keras files of one network, before and after the statistics were estimated again.

    Returns
    -------
    DataFrame
        ``layer``, ``channel``; ``shift_sd``: difference of the means in settled standard
        deviations; ``sd_ratio``: the larger over the smaller standard deviation.
    """
    after = {layer.name: layer.weights for layer in read_keras(settled).layers}
    rows = []
    for layer in read_keras(model).layers:
        mine, other = layer.weights, after.get(layer.name, {})
        if "moving_mean" not in mine or "moving_mean" not in other:
            continue
        deviation = np.sqrt(other["moving_variance"] + 1e-12)
        ratio = np.sqrt(mine["moving_variance"] + 1e-12) / deviation
        shift = (mine["moving_mean"] - other["moving_mean"]) / deviation
        rows += [
            (layer.name, channel, *map(float, values))
            for channel, values in enumerate(
                zip(shift, np.maximum(ratio, 1 / ratio), strict=True)
            )
        ]
    return pd.DataFrame(rows, columns=["layer", "channel", "shift_sd", "sd_ratio"])


def batchnorm_distance(model: Path, settled: Path) -> tuple[float, float]:
    """How far batch-norm statistics are from settled ones.

    Returns
    -------
    shift, ratio : float
        Medians over all channels of |``shift_sd``| and ``sd_ratio`` of
        :func:`batchnorm_channels`; NaN without batch norm.
    """
    channels = batchnorm_channels(model, settled)
    if channels.empty:
        return math.nan, math.nan
    shift, ratio = channels["shift_sd"].to_numpy(), channels["sd_ratio"].to_numpy()
    return float(np.median(np.abs(shift))), float(np.median(ratio))


def _ptq(evidence: Evidence, model: Any) -> Array:
    from qinspect.train import convert

    content = convert(model, "int8", calibration_x(evidence))
    return evidence.run(content, evidence.data.x).prediction


def _load(evidence: Evidence, which: str) -> Any:
    from qinspect.train import load_keras, reset

    path = evidence.case.keras_float if which == "keras_float" else evidence.case.keras_qat
    assert path is not None
    reset(evidence.case.seed)
    return load_keras(path)


def _facts(evidence: Evidence) -> TrainingFacts:
    assert evidence.case.facts is not None
    return evidence.case.facts


def _train(evidence: Evidence) -> Dataset:
    assert evidence.case.train is not None
    return evidence.case.train
