"""different-format and qat-not-applied: the files are of different scheme classes."""

from __future__ import annotations

from qinspect.diagnosis import retrain
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.requantized import calibration_source, requantized
from qinspect.diagnosis.rule import FORMAT, Finding, Remedy, Rule, Trial, refuted, supported
from qinspect.tflite import read_keras

# Weights and activations of 8 bits, whatever the type of input and output.
_EIGHT_BITS = frozenset({"int8", "uint8"})
_WORDS = {
    "float32": "float32, not quantized at all",
    "float16": "float16 weights, computed in float",
    "dynamic_range": "dynamic range: int8 weights, float activations",
    "weight_only": "int8 weights, computed in float",
    "int8": "full int8",
    "uint8": "full uint8",
    "int16x8": "int8 weights, int16 activations",
    "mixed": "partly int8, partly float",
}
_NOT_QAT = frozenset({"float32", "float16", "dynamic_range", "weight_only"})


def _check_format(evidence: Evidence) -> Finding:
    numbers: dict[str, object] = {}
    odd = []
    for role in ("ptq", "qat"):
        if role not in evidence.case.roles:
            continue
        found = evidence.identification(role)
        numbers |= {
            f"{role}_scheme": found.scheme,
            f"{role}_float_ops": sum(found.float_ops.values()),
            f"{role}_weight_bits": found.weights["bits"],
        }
        # A QAT file without quantization has a cause of its own.
        if found.scheme not in _EIGHT_BITS and not (role == "qat" and found.scheme in _NOT_QAT):
            odd.append((role, found.scheme))
    if len(numbers) == 6 and numbers["ptq_scheme"] == numbers["qat_scheme"]:
        return refuted(f"both files are {_WORDS[str(numbers['ptq_scheme'])]}.", numbers)
    if not odd:
        return refuted("no file is of another format than full int8.", numbers)
    listed = " and ".join(f"the {role.upper()} file is {_WORDS[scheme]}" for role, scheme in odd)
    # Fewer bits hurt the 8-bit side: the file of the other format is the better one, if any.
    hurt = tuple(role for role in ("ptq", "qat") if role not in dict(odd))
    return supported(f"{listed}; it is not the same kind of quantization.", numbers, hurt, 0.9)


def _same_format(evidence: Evidence, finding: Finding) -> Trial | None:
    if finding.numbers.get("ptq_scheme") in _EIGHT_BITS:
        return None
    source, words = calibration_source(evidence)
    ranges = evidence.observed(source).over()
    return Trial(f"quantizing the float file to full int8 (calibrated with {words})",
                 {"ptq": requantized(evidence, ranges)})


def _check_applied(evidence: Evidence) -> Finding:
    found = evidence.identification("qat")
    numbers: dict[str, object] = {"qat_scheme": found.scheme, "origin": found.origin.value}
    wrapped = None
    if evidence.case.keras_qat is not None:
        layers = read_keras(evidence.case.keras_qat).layers
        wrapped = sum(layer.wrapped for layer in layers)
        numbers["wrapped_layers"] = wrapped
    if found.scheme in _NOT_QAT:
        why = "" if wrapped is None else (
            "; its Keras model has no quantization wrappers: quantize_annotate without "
            "quantize_apply, or wrappers were stripped" if wrapped == 0
            else f"; its Keras model has {wrapped} wrapped layers, which the conversion did not use"
        )
        return supported(
            f"the file called QAT is {_WORDS[found.scheme]}{why}.", numbers, strength=1.0
        )
    if "float" in evidence.case.roles and found.origin.value != "qat":
        same = evidence.lineage("float", "qat").verdict
        numbers["lineage"] = same
        if same == "same weights":
            return supported(
                "the file called QAT holds the float model's weights and nothing learned: it was "
                "quantized after training.", numbers, strength=0.9,
            )
    return refuted(f"the QAT file is {_WORDS[found.scheme]}.", numbers)


def _convert(evidence: Evidence, finding: Finding) -> Trial | None:
    if not finding.numbers.get("wrapped_layers"):
        return None
    return Trial("converting the QAT model with its own quantization",
                 {"qat": retrain.qat_converted(evidence)})


def _train(evidence: Evidence, finding: Finding) -> Trial | None:
    return Trial("applying QAT to the float model", {"qat": retrain.qat_again(evidence)})


RULES = (
    Rule(
        id="different-format",
        title="the files are quantized in different formats",
        question="Are the two files quantized in the same way at all?",
        requires=("ptq|qat",),
        check=_check_format,
        rank=FORMAT,
        symptom="PTQ is as good as float while QAT is not, or the sizes of the files differ a lot.",
        cause=(
            "One file computes in int8 throughout, the other keeps activations, or some layers, "
            "in float or int16, which costs hardly any accuracy."
        ),
        remedy="Quantize both files to the same format before comparing.",
        code=(
            "from qinspect.train import load_keras, convert\n"
            'content = convert(load_keras("float.h5"), "int8", calibration_x)'
        ),
        source="TensorFlow Lite documentation, Post-training quantization (table of formats)",
        remedies=(
            Remedy("the same format for both", ("ptq", "float", "data"), _same_format),
        ),
    ),
    Rule(
        id="qat-not-applied",
        title="the QAT file was not quantized by QAT",
        question="Is the file called QAT the product of quantization-aware training?",
        requires=("qat",),
        check=_check_applied,
        rank=FORMAT,
        symptom="The QAT file is as large as the float file, or as accurate to the last digit.",
        cause=(
            "quantize_annotate was not followed by quantize_apply, the wrappers were stripped, or "
            "the converter was run without quantization."
        ),
        remedy="Apply the wrappers, train, and convert the wrapped model with Optimize.DEFAULT.",
        code=(
            "from qinspect.train import load_keras, quantize_aware, fit_qat, convert_qat\n"
            'qat = quantize_aware(load_keras("float.h5"))\n'
            "fit_qat(qat, train, None, epochs=qat_epochs, learning_rate=qat_lr, seed=0)\n"
            "content = convert_qat(qat)"
        ),
        source="TensorFlow Model Optimization, Quantization aware training comprehensive guide",
        remedies=(
            Remedy("converting the QAT model again", ("qat", "keras_qat"), _convert, trains=True),
            Remedy("applying QAT", ("qat", "keras_float", "train", "recipe"), _train, trains=True),
        ),
    ),
)
