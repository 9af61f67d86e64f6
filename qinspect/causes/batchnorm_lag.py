"""batchnorm-lag: batch-norm statistics do not describe the weights they stand beside."""

from __future__ import annotations

import math

from qinspect.diagnosis import retrain
from qinspect.diagnosis import thresholds as t
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.rule import (
    BATCHNORM,
    Finding,
    Remedy,
    Rule,
    Trial,
    cannot_tell,
    refuted,
    supported,
)
from qinspect.tflite import read_keras


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
        return refuted("the network has no batch norm.", {"batchnorm_layers": 0})
    numbers: dict[str, float] = {"batchnorm_layers": len(momenta), "momentum": max(momenta)}
    if case.history is not None and "float" in set(case.history["phase"]):
        steps = int(case.history.loc[case.history["phase"] == "float", "steps"].max())
        numbers |= {"float_steps": steps, "start_value_left_share": max(momenta) ** steps}
    settled = case.arm_models.get("float_bn")
    if settled is None:
        return cannot_tell(
            "cannot tell without re-estimating the statistics, which needs the training data.",
            numbers,
        )
    shift, ratio = retrain.batchnorm_distance(case.keras_float, settled)
    numbers |= {"mean_shift_sd": shift, "sd_ratio": ratio}
    if math.isnan(shift):
        return cannot_tell("the re-estimated model has other layers.", numbers)
    words = (
        f"the moving means of the float model are {shift:.2f} standard deviations from those of "
        f"the training data (median over channels), the standard deviations differ by a factor "
        f"of {ratio:.2f}"
    )
    if shift < t.BN_SHIFT and ratio < t.BN_RATIO:
        if "qat" in case.roles and _qat_lost(evidence):
            return cannot_tell(
                f"{words}: they are settled; those of the QAT model, which lost, can only be "
                "judged by re-estimating them.", numbers,
            )
        return refuted(f"{words}: they are settled.", numbers)
    return supported(f"{words}: they are not settled.", numbers,
                     strength=min(1.0, 0.5 + shift / 4 + abs(math.log2(ratio)) / 4))


def _qat_lost(evidence: Evidence) -> bool:
    return evidence.comparison(evidence.case.roles[0], "qat").verdict == "a_better"


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
    swaps = {"ptq": retrain.ptq_settled(evidence)}
    if evidence.case.has("keras_qat") and evidence.case.has("qat"):
        swaps["qat"] = retrain.qat_settled(evidence)
    # The QAT file's own conversion has no settings to guess.
    return Trial("re-estimating batch norm on the training data", swaps,
                 controls=retrain.controls(evidence, "ptq"))


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
    remedies=(
        Remedy("the study's arms with re-estimated batch norm", (), _arms),
        Remedy("re-estimating batch norm", ("ptq", "keras_float", "train"), _reestimate,
               trains=True),
    ),
)
