"""batchnorm-lag: batch-norm statistics do not describe the weights they stand beside."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qinspect.data.dataset import one_array
from qinspect.diagnosis import retrain
from qinspect.diagnosis.cases import Case
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.requantized import (
    alike,
    calibrated,
    calibration_source,
    requantized,
)
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
from qinspect.measure.first_cut import like
from qinspect.measure.ranges import MEAN_SHIFT
from qinspect.measure.weights import CHANNEL_AXIS
from qinspect.schema import Array
from qinspect.tflite import constant, read_keras
from qinspect.tflite.constants import Weight, weights_of
from qinspect.tflite.graph import Graph
from qinspect.tflite.requantize import replace_constants

# Sum of squares below which a channel is nothing; far below what any float32 kernel holds.
_NOTHING = 1e-12
# Mean and variance of each batch norm by its layer's name.
Statistics = dict[str, tuple[Array, Array]]
_BASIS = (
    "measured: 0.01 and 1.00 after 12 epochs on digits, 0.09 to 0.11 and 1.05 after one epoch on "
    "Fashion-MNIST, where they cost 3 to 6 points"
)
_SHIFT = Measure(
    "mean_shift_sd", "shift of the means, standard deviations, median of channels",
    threshold=MEAN_SHIFT, side="above", basis=_BASIS,
)
_RATIO = Measure(
    "sd_ratio", "ratio of the standard deviations, median of channels", threshold=1.03,
    side="above", basis=_BASIS,
)


_FOLDED = Measure(
    "folded_size_ratio", "size of QAT's channels against float's, most changed layer",
    threshold=1.05, side="above",
    basis="measured: 1.12 to 1.17 after one epoch on digits, where weights that were trained on "
    "without batch norm have 1.02, and 1.01 in healthy networks; directions stay (cosine 0.99)",
)


def _check(evidence: Evidence) -> Finding:
    case = evidence.case
    if case.keras_float is None:
        return _check_files(evidence)
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


@dataclass(frozen=True)
class _Folded:
    """One layer of the float file beside QAT's: index of its tensors, factor of each channel."""

    named: bool  # after a batch norm: what one is folded into keeps its name
    kernel: int
    bias: int | None
    factors: Array  # float64 (channels,)
    axis: int
    held: Array | None  # QAT's bias

    @property
    def ratio(self) -> float:
        """Of the sizes of a channel, the larger over the smaller, median."""
        return float(np.median(np.maximum(self.factors, 1 / self.factors)))


def _folded(evidence: Evidence) -> list[_Folded]:
    """What batch norm has left in the weights that it was folded into, float against QAT."""
    graph = evidence.graph("float")
    other = evidence.holding("qat")
    theirs = {weight.tensor.index: weight for weight in weights_of(other.main)}
    found = []
    for weight in weights_of(graph.main):
        axis = CHANNEL_AXIS.get(weight.operator.code)
        if axis is None or weight.tensor.index not in theirs:
            continue
        pair = [np.moveaxis(np.asarray(constant(one, weight.tensor), dtype=np.float64), axis, 0)
                for one in (graph, other)]
        mine, held = (one.reshape(len(one), -1) for one in pair)
        size, along = (mine**2).sum(axis=1), (mine * held).sum(axis=1)
        # A channel that is nothing, or turned round, has no factor.
        factors = np.where((size > _NOTHING) & (along > 0), along / np.maximum(size, _NOTHING), 1.0)
        bias = weight.bias if weight.bias is not None and weight.bias.constant else None
        found.append(_Folded(
            _after_batchnorm(graph, weight), weight.tensor.index,
            None if bias is None else bias.index, factors, axis,
            None if bias is None else np.asarray(constant(other, bias), dtype=np.float64)))
    return found


def _after_batchnorm(graph: Graph, weight: Weight) -> bool:
    """Whether the weights, their bias or what they put out is named after a batch norm."""
    named = [weight.tensor, *([] if weight.bias is None else [weight.bias]),
             *(graph.main.tensors[index] for index in weight.operator.outputs)]
    return any("batchnorm" in tensor.name.lower().replace("_", "") for tensor in named)


def _check_files(evidence: Evidence) -> Finding:
    """Without the Keras model: what was folded into the float file against QAT's, which trained."""
    if not {"float", "qat"} <= set(evidence.case.roles):
        return not_tried("cannot tell: needs the float Keras model, or the float and the QAT file.")
    if evidence.lineage("float", "qat").verdict == "unrelated":
        return not_tried("cannot tell: float and QAT are not one network.")
    layers = evidence.once(("folded",), lambda: _folded(evidence))
    named = [layer for layer in layers if layer.named]
    ratio = _FOLDED.of(max((layer.ratio for layer in named or layers), default=1.0))
    said = (f"QAT's channels differ in size from those of the float file by a factor of up to "
            f"{ratio.value:.2f} (median of a layer)")
    if not ratio.speaks:
        return ruled_out(f"{said}: what batch norm left in the weights is the same.", [ratio])
    if not named:
        return not_shown(f"{said}; no layer of the float file is named after a batch norm, and "
                         "training changes sizes, too.", [ratio], strength=0.1)
    if evidence.comparison("float", "qat", own=True).improvement <= 0:
        return not_shown(f"{said}, and QAT is not the better for it.", [ratio], strength=0.1)
    return indicated(
        f"{said} while they point the same way: batch norm, which is folded into them, had other "
        "statistics before QAT.", [ratio], hurts=("float", "ptq"), strength=0.6)


def _as_qat_has_it(evidence: Evidence, finding: Finding) -> Trial | None:
    """The float file's weights with the sizes and biases that QAT has where batch norm moved."""
    if evidence.case.keras_float is not None or finding.verdict != "indicated":
        return None
    graph, values = evidence.graph("float"), {}
    for layer in evidence.once(("folded",), lambda: _folded(evidence)):
        if not (layer.named and _FOLDED.of(layer.ratio).speaks):
            continue
        stored = np.asarray(constant(graph, graph.main.tensors[layer.kernel]), dtype=np.float64)
        shape = [1] * stored.ndim
        shape[layer.axis] = -1
        values[layer.kernel] = stored * layer.factors.reshape(shape)
        if layer.bias is not None and layer.held is not None:
            values[layer.bias] = layer.held
    other = like(graph, replace_constants(graph, values))
    swaps = {"float": evidence.answers(other)}
    controls = {}
    if evidence.case.has("ptq"):
        source, _ = calibration_source(evidence)
        swaps["ptq"] = calibrated(evidence, "ptq", other, source)
        controls["ptq"] = requantized(
            evidence, alike(evidence, "ptq", evidence.observed(source).over()), role="float")
    return Trial(
        "giving the float file's channels the size and bias that they have in QAT, the weights "
        "otherwise as they were,", swaps, controls=controls)


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
    guessed = retrain.unchanged(evidence, "ptq")
    # The QAT file's own conversion has no settings to guess.
    return Trial("re-estimating batch norm on the training data", swaps,
                 controls={"ptq": retrain.answers(evidence, guessed)} if guessed else {},
                 seen=_measures(channels))


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
    requires=("keras_float|float", "data"),
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
        "model = load_keras(float_h5)\n"
        "reestimate_batchnorm(model, train_x)\n"
        'content = convert(model, "int8", calibration_x)'
    ),
    makes="ptq",
    code_of_qat=(
        "from qinspect.train import load_keras, reestimate_batchnorm, convert_qat\n"
        "qat = load_keras(qat_h5)\n"
        "reestimate_batchnorm(qat, train_x)\n"
        "content = convert_qat(qat)"
    ),
    met=(
        "Momentum 0.99 and 5 iterations: the statistics have not arrived, and accuracy collapses "
        "at inference (https://github.com/keras-team/keras/issues/7177)",
        "Statistics hold too much of old weights; asked for: one pass over the data that only "
        "counts them anew (https://github.com/keras-team/keras/issues/3949)",
    ),
    source=(
        "Ioffe & Szegedy 2015, arXiv:1502.03167; Wu & Johnson 2021, Rethinking batch in "
        "BatchNorm, arXiv:2105.07576 (precise statistics)"
    ),
    measures=(_SHIFT, _RATIO, _FOLDED),
    remedies=(
        Remedy("the study's arms with re-estimated batch norm", (), _arms),
        Remedy("re-estimating batch norm", ("ptq", "keras_float", "train"), _reestimate,
               trains=True),
        Remedy("the sizes of channels that QAT has", ("float", "qat"), _as_qat_has_it),
    ),
    note="Without re-estimated statistics, which a study makes, applying the remedy tells. Of "
    "files alone, what batch norm left in the weights that it was folded into is compared with "
    "QAT's, in layers whose tensors are named after one: the converter keeps the name.",
    figure="statistics",
    frame=_channels,
)
