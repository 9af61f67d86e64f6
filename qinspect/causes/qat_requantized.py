"""qat-requantized: weights learned by QAT were exported and quantized again after training."""

from __future__ import annotations

from qinspect.diagnosis import retrain
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.rule import FORMAT, Finding, Remedy, Rule, Trial, refuted, supported
from qinspect.tflite import read_keras

_INTEGER = frozenset({"int8", "uint8", "int16x8", "mixed"})


def _check(evidence: Evidence) -> Finding:
    found = evidence.identification("qat")
    numbers: dict[str, object] = {
        "qat_scheme": found.scheme,
        "origin": found.origin.value,
        "origin_confidence": found.origin.confidence,
    }
    if found.scheme not in _INTEGER:
        return refuted("the QAT file stores no activation ranges at all.", numbers)
    if found.origin.value != "ptq" or found.origin.confidence == "low":
        return refuted("nothing in the QAT file says that it was quantized after training.",
                       numbers)
    if "float" in evidence.case.roles:
        verdict = evidence.lineage("float", "qat").verdict
        numbers["lineage"] = verdict
        if verdict == "same weights":
            return refuted("the QAT file holds the float model's weights, so nothing was trained.",
                           numbers)
    if evidence.case.keras_qat is not None:
        layers = read_keras(evidence.case.keras_qat).layers
        numbers["wrapped_layers"] = sum(layer.wrapped for layer in layers)
    strength = {"certain": 0.95, "high": 0.8, "medium": 0.6}[found.origin.confidence]
    return supported(
        "the QAT file holds other weights than the float model, but its quantization was made "
        f"after training ({found.origin.reasons[0]}): the ranges that QAT learned are not used.",
        numbers, ("qat",), strength=strength,
    )


def _convert(evidence: Evidence, finding: Finding) -> Trial | None:
    if not finding.numbers.get("wrapped_layers"):
        return None
    return Trial("converting the QAT model itself", {"qat": retrain.qat_converted(evidence)})


RULE = Rule(
    id="qat-requantized",
    title="QAT's weights were quantized again after training",
    question="Does the QAT file use the ranges that were learned in training?",
    requires=("qat",),
    check=_check,
    rank=FORMAT,
    symptom="QAT is no better than PTQ of the same weights, or worse, whatever is trained.",
    cause=(
        "The wrappers were stripped and the float weights converted with a representative data "
        "set; the ranges that the network was trained for are lost."
    ),
    remedy="Convert the wrapped model itself, without a representative data set.",
    code=(
        "from qinspect.train import load_keras, convert_qat\n"
        'content = convert_qat(load_keras("qat.h5"))'
    ),
    source="TensorFlow Model Optimization, Quantization aware training example (conversion)",
    remedies=(
        Remedy("converting the QAT model itself", ("qat", "keras_qat"), _convert, trains=True),
    ),
)
