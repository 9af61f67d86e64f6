"""batchnorm-lag: batch-norm statistics do not describe the weights they stand beside."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qinspect.data.dataset import one_array
from qinspect.diagnosis import retrain
from qinspect.diagnosis.cases import Case
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.rule import (
    BATCHNORM,
    Finding,
    Measure,
    Remedy,
    Rule,
    Trial,
    does_not_apply,
    indicated,
    not_shown,
    not_tried,
    ruled_out,
    speaking,
)
from qinspect.schema import Array
from qinspect.tflite import read_keras

# Mean and variance of each batch norm by its layer's name.
Statistics = dict[str, tuple[Array, Array]]
_BASIS = (
    "measured: 0.01 and 1.00 after 12 epochs on digits, 0.09 to 0.11 and 1.05 after one epoch on "
    "Fashion-MNIST, where they cost 3 to 6 points"
)
_SHIFT = Measure(
    "mean_shift_sd", "shift of the means, standard deviations, median of channels", threshold=0.04,
    side="above", basis=_BASIS,
)
_RATIO = Measure(
    "sd_ratio", "ratio of the standard deviations, median of channels", threshold=1.03,
    side="above", basis=_BASIS,
)


def _check(evidence: Evidence) -> Finding:
    case = evidence.case
    assert case.keras_float is not None
    layers = read_keras(case.keras_float).layers
    momenta = [
        float(layer.config.get("momentum") or 0.99)
        for layer in layers
        if "moving_mean" in layer.weights
    ]
    if not momenta:
        return does_not_apply("the network has no batch norm.", (), {"batchnorm_layers": 0})
    facts: dict[str, float] = {"batchnorm_layers": len(momenta), "momentum": max(momenta)}
    if (steps := case.steps("float")) is not None:
        facts |= {"float_steps": steps, "start_value_left_share": max(momenta) ** steps}
    channels = _channels(case)
    if channels is None:
        return not_tried(
            "cannot tell without re-estimating the statistics, which needs the training data.",
            (), facts,
        )
    measures = _measures(channels)
    shift, ratio = (float(measure.value or 0) for measure in measures)
    if math.isnan(shift):
        return not_shown("the re-estimated model has other layers.", measures, facts)
    words = (
        f"the moving means of the float model are {shift:.2f} standard deviations from those of "
        f"the training data (median over channels), the standard deviations differ by a factor "
        f"of {ratio:.2f}"
    )
    if speaking(measures):
        return indicated(f"{words}: they are not settled.", measures, facts,
                         strength=min(1.0, 0.5 + shift / 4 + abs(math.log2(ratio)) / 4))
    if "qat" in case.roles and evidence.comparison(case.roles[0], "qat").verdict == "a_better":
        return not_tried(
            f"{words}: they are settled; those of the QAT model, which lost, can only be judged by "
            "re-estimating them.", measures, facts,
        )
    return ruled_out(f"{words}: they are settled.", measures, facts)


def _channels(case: Case) -> pd.DataFrame | None:
    """The float model's statistics against re-estimated ones, where the case has such a model."""
    settled = case.arm_models.get("float_bn")
    if case.keras_float is None or settled is None:
        return None
    return batchnorm_channels(case.keras_float, settled)


def batchnorm_channels(model: Path, settled: Path) -> pd.DataFrame:
    """Stored statistics of a Keras file against those of another one, without TensorFlow.

    ``layer``, ``channel``; ``shift_sd``: difference of the means in settled standard deviations;
    ``sd_ratio``: the larger over the smaller standard deviation.
    """
    def statistics(path: Path) -> Statistics:
        return {layer.name: (layer.weights["moving_mean"], layer.weights["moving_variance"])
                for layer in read_keras(path).layers if "moving_mean" in layer.weights}

    return _moved(statistics(model), statistics(settled))


def _moved(before: Statistics, after: Statistics) -> pd.DataFrame:
    rows = []
    for name in (one for one in before if one in after):
        (mean, variance), (settled_mean, settled_variance) = before[name], after[name]
        deviation = np.sqrt(settled_variance + 1e-12)
        ratio = np.sqrt(variance + 1e-12) / deviation
        shift = (mean - settled_mean) / deviation
        values = zip(shift, np.maximum(ratio, 1 / ratio), strict=True)
        rows += [(name, at, *map(float, pair)) for at, pair in enumerate(values)]
    return pd.DataFrame(rows, columns=["layer", "channel", "shift_sd", "sd_ratio"])


def _measures(channels: pd.DataFrame) -> tuple[Measure, Measure]:
    """Medians over channels; NaN without any."""
    return (_SHIFT.of(float(channels["shift_sd"].abs().median())),
            _RATIO.of(float(channels["sd_ratio"].median())))


def _arms(evidence: Evidence, finding: Finding) -> Trial | None:
    arms = evidence.case.arms
    swaps = {
        role: arms[name]
        for role, name in (("float", "float_bn"), ("ptq", "ptq_int8_bn"), ("qat", "qat_bn"))
        if name in arms
    }
    return Trial("re-estimating batch norm on both sides", swaps) if swaps else None


def _reestimate(evidence: Evidence, finding: Finding) -> Trial | None:
    if finding.numbers.get("batchnorm_layers") == 0:
        return None
    settled, channels = evidence.once(("settled",), lambda: _ptq_settled(evidence))
    swaps = {"ptq": settled}
    if evidence.case.has("keras_qat") and evidence.case.has("qat"):
        swaps["qat"] = _qat_settled(evidence)
    # The QAT file's own conversion has no settings to guess.
    return Trial("re-estimating batch norm on the training data", swaps,
                 controls=retrain.controls(evidence, "ptq"), seen=_measures(channels))


def _ptq_settled(evidence: Evidence) -> tuple[Array, pd.DataFrame]:
    """Answers of PTQ with re-estimated statistics, and by how much these moved."""
    from qinspect.train import reestimate_batchnorm

    def statistics(model: Any) -> Statistics:
        return {layer.name: (layer.moving_mean.numpy(), layer.moving_variance.numpy())
                for layer in model.layers if hasattr(layer, "moving_mean")}

    model = retrain.loaded(evidence, "keras_float")
    before = statistics(model)
    reestimate_batchnorm(model, _training_x(evidence))
    return retrain.ptq_of(evidence, model), _moved(before, statistics(model))


def _qat_settled(evidence: Evidence) -> Array:
    from qinspect.train import convert_qat, reestimate_batchnorm

    model = retrain.loaded(evidence, "keras_qat")
    reestimate_batchnorm(model, _training_x(evidence))
    return evidence.answers(convert_qat(model))


def _training_x(evidence: Evidence) -> Array:
    return one_array(evidence.examples("train"), "the training data")


RULE = Rule(
    id="batchnorm-lag",
    title="batch-norm statistics lag behind the weights",
    question="Do the stored batch-norm statistics describe what the layers really put out?",
    requires=("keras_float", "data"),
    check=_check,
    rank=BATCHNORM,
    symptom=(
        "The float model scores far lower in evaluation than it did on its last training batches; "
        "float and PTQ jump by many points after a little more training, QAT or not."
    ),
    cause=(
        "Batch norm evaluates with a moving average of past batches; after a short training it "
        "still holds batches from when the weights were others."
    ),
    remedy="Measure mean and variance over the training data once more, and store those.",
    code=(
        "from qinspect.train import load_keras, reestimate_batchnorm, convert\n"
        'model = load_keras("float.h5")\n'
        "reestimate_batchnorm(model, train_x)\n"
        'content = convert(model, "int8", calibration_x)'
    ),
    source=(
        "Ioffe & Szegedy 2015, arXiv:1502.03167; Wu & Johnson 2021, Rethinking batch in "
        "BatchNorm, arXiv:2105.07576 (precise statistics)"
    ),
    measures=(_SHIFT, _RATIO),
    remedies=(
        Remedy("the study's arms with re-estimated batch norm", (), _arms),
        Remedy("re-estimating batch norm", ("ptq", "keras_float", "train"), _reestimate,
               trains=True),
    ),
    note="Without re-estimated statistics, which a study makes, only the intervention tells.",
    figure="statistics",
    frame=_channels,
)
