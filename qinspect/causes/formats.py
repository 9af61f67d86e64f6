"""different-format, qat-not-applied, qat-requantized, layers-left-out-of-qat: kinds of files."""

from __future__ import annotations

from dataclasses import replace

from qinspect.diagnosis import retrain
from qinspect.diagnosis.evidence import SAME_WEIGHTS, WITH_RANGES, Evidence
from qinspect.diagnosis.requantized import (
    OTHER_RANGES,
    best_source,
    calibration_source,
    kept_in_float,
    requantized,
    with_weights_of,
)
from qinspect.diagnosis.retrain import Training
from qinspect.diagnosis.rule import (
    FORMAT,
    PTQ_CODE,
    PTQ_OF_FILES,
    Finding,
    Measure,
    Remedy,
    Rule,
    Trial,
    does_not_apply,
    indicated,
    qat_code,
    ruled_out,
    together,
)
from qinspect.tflite import read_keras
from qinspect.tflite.constants import INTEGER_KINDS, weights_of
from qinspect.tflite.graph import Graph
from qinspect.tflite.keras_file import KerasLayer
from qinspect.tflite.network import layer_names
from qinspect.tflite.origin import Origin

# Weights and activations of 8 bits, whatever the type of input and output.
_EIGHT_BITS = frozenset({"int8", "uint8"})
_MOST_NAMES = 4
# Keras layers with a kernel, which tfmot would wrap.
_TAKES_WEIGHTS = frozenset({"Conv2D", "DepthwiseConv2D", "Dense"})
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

_ODD = Measure(
    "files_of_another_format", "files of another format than full int8", threshold=1, side="above",
)
_FLOAT = Measure(
    "qat_computes_in_float", "the QAT file stores no activation ranges", threshold=True,
    side="above",
)
_UNTRAINED = Measure(
    "qat_holds_float_weights", "QAT holds the float model's weights, no sign of training",
    threshold=True, side="above",
)
_AFTERWARDS = Measure(
    "quantized_after_training", "the QAT file was quantized after training", threshold=True,
    side="above", basis="what the file's own numbers say of its origin, unless with low confidence",
)
_TRAINED = Measure(
    "weights_trained", "the QAT file holds other weights than the float model", threshold=True,
    side="above", basis="or its Keras model has quantization wrappers",
)


_IN_FLOAT = Measure(
    "qat_layers_in_float", "QAT layers that compute in float and do not in PTQ",
    threshold=1, side="above", basis="layers with weights; where something else is in integers",
)
_NOT_LEARNED = Measure(
    "qat_layers_not_wrapped", "integer layers of QAT without a learned range",
    threshold=1, side="above", basis="layers with weights that the QAT Keras model does not wrap",
)


def _check_format(evidence: Evidence) -> Finding:
    facts: dict[str, object] = {}
    odd = []
    for role in ("ptq", "qat"):
        if role not in evidence.case.roles:
            continue
        found = evidence.identification(role)
        facts |= {
            f"{role}_scheme": found.scheme,
            f"{role}_float_ops": sum(found.float_ops.values()),
            f"{role}_weight_bits": found.weights["bits"],
        }
        # A QAT file without quantization, or with a part of it, has a cause of its own.
        if found.scheme not in _EIGHT_BITS and not (
            role == "qat" and (found.scheme == "mixed" or found.scheme not in WITH_RANGES)
        ):
            odd.append((role, found.scheme))
    if len(facts) == 6 and facts["ptq_scheme"] == facts["qat_scheme"]:
        return ruled_out(f"both files are {_WORDS[str(facts['ptq_scheme'])]}.", [_ODD.of(0)], facts)
    measures = [_ODD.of(len(odd))]
    if not odd:
        return ruled_out("no file is of another format than full int8.", measures, facts)
    listed = " and ".join(f"the {role.upper()} file is {_WORDS[scheme]}" for role, scheme in odd)
    # Fewer bits hurt the 8-bit side: the file of the other format is the better one, if any.
    hurt = tuple(role for role in ("ptq", "qat") if role not in dict(odd))
    return indicated(f"{listed}; it is not the same kind of quantization.", measures, facts, hurt,
                     strength=0.9, of=tuple(dict(odd)))


def _same_format(evidence: Evidence, finding: Finding) -> Trial | None:
    if finding.numbers.get("ptq_scheme") in _EIGHT_BITS:
        return None
    if evidence.lineage("float", "ptq").verdict not in SAME_WEIGHTS:
        return None  # other weights would be exchanged as well
    source, words = calibration_source(evidence)
    ranges = evidence.observed(source).over()
    return Trial(f"quantizing the float file to full int8 (calibrated with {words})",
                 {"ptq": requantized(evidence, ranges, precision="int8")})


def _qat_layers(evidence: Evidence) -> tuple[KerasLayer, ...] | None:
    """Layers of the QAT Keras model, read once; None without that model."""
    path = evidence.case.keras_qat
    if path is None:
        return None
    return evidence.once(("qat layers",), lambda: read_keras(path).layers)


def _wrapped_layers(evidence: Evidence) -> int | None:
    """How many of them have a wrapper."""
    layers = _qat_layers(evidence)
    return None if layers is None else sum(layer.wrapped for layer in layers)


def _after_training(origin: Origin) -> bool:
    return origin.value == "ptq" and origin.confidence != "low"


def _check_applied(evidence: Evidence) -> Finding:
    found = evidence.identification("qat")
    facts: dict[str, object] = {"qat_scheme": found.scheme, "origin": found.origin.value}
    wrapped = _wrapped_layers(evidence)
    if wrapped is not None:
        facts["wrapped_layers"] = wrapped
    measures = [_FLOAT.of(found.scheme not in WITH_RANGES)]
    if measures[0].speaks:
        why = "" if wrapped is None else (
            "; its Keras model has no quantization wrappers: quantize_annotate without "
            "quantize_apply, or wrappers were stripped" if wrapped == 0
            else f"; its Keras model has {wrapped} wrapped layers, which the conversion did not use"
        )
        return indicated(f"the file called QAT is {_WORDS[found.scheme]}{why}.", measures, facts,
                         strength=1.0)
    again = wrapped and _after_training(found.origin)  # that is qat-requantized
    if "float" in evidence.case.roles and found.origin.value != "qat" and not again:
        facts["lineage"] = evidence.lineage("float", "qat").verdict
        measures.append(_UNTRAINED.of(facts["lineage"] == "same weights"))
        if measures[1].speaks:
            return indicated(
                "the file called QAT holds the float model's weights and nothing learned: it was "
                "quantized after training.", measures, facts, strength=0.9,
            )
    return ruled_out(f"the QAT file is {_WORDS[found.scheme]}.", measures, facts)


def _quantized_as_ptq(evidence: Evidence, finding: Finding) -> Trial | None:
    if finding.numbers["qat_scheme"] in WITH_RANGES or (
        evidence.identification("ptq").scheme not in _EIGHT_BITS
    ):
        return None
    source, words = best_source(evidence)
    return Trial(f"quantizing the file called QAT to full int8 as well (calibrated with {words})",
                 {"qat": with_weights_of(evidence, "qat", source)},
                 doubt="what QAT would have kept of it only training tells.")


def _convert(evidence: Evidence, finding: Finding) -> Trial | None:
    if not finding.numbers.get("wrapped_layers"):
        return None
    return Trial("converting the QAT model with its own quantization",
                 {"qat": retrain.qat_converted(evidence)})


def _train(evidence: Evidence, finding: Finding) -> Trial | None:
    return Trial("applying QAT to the float model", again={"qat": Training("qat")})


def _check_requantized(evidence: Evidence) -> Finding:
    found = evidence.identification("qat")
    facts: dict[str, object] = {
        "qat_scheme": found.scheme,
        "origin": found.origin.value,
        "origin_confidence": found.origin.confidence,
    }
    if found.scheme not in WITH_RANGES:
        return does_not_apply("the QAT file stores no activation ranges at all.", (), facts)
    after = _AFTERWARDS.of(_after_training(found.origin))
    if not after.speaks:
        return ruled_out("nothing in the QAT file says that it was quantized after training.",
                         [after], facts)
    measures: tuple[Measure, ...] = (after,)
    wrapped = _wrapped_layers(evidence)
    if wrapped is not None:
        facts["wrapped_layers"] = wrapped
    said = "the QAT file's"
    if "float" in evidence.case.roles:
        facts["lineage"] = evidence.lineage("float", "qat").verdict
        other = facts["lineage"] != "same weights"
        # A careful QAT moves weights by less than their rounding.
        trained = _TRAINED.of(other or bool(wrapped))
        measures = together(after, trained)
        if not trained.speaks:
            return ruled_out("the QAT file holds the float model's weights, so nothing was "
                             "trained.", measures, facts)
        said = ("the QAT file holds other weights than the float model, but its" if other else
                f"the QAT Keras model has {wrapped} wrapped layers, but the file's")
    strength = {"certain": 0.95, "high": 0.8, "medium": 0.6}[found.origin.confidence]
    return indicated(
        f"{said} quantization was made after training ({found.origin.reasons[0]}): the ranges "
        "that QAT learned are not used.", measures, facts, ("qat",), strength=strength,
    )


def _convert_itself(evidence: Evidence, finding: Finding) -> Trial | None:
    if not finding.numbers.get("wrapped_layers"):
        return None
    return Trial("converting the QAT model itself", {"qat": retrain.qat_converted(evidence)})


def _bare_layers(evidence: Evidence) -> list[str] | None:
    """Those that tfmot takes and that have no wrapper."""
    layers = _qat_layers(evidence)
    return None if layers is None else [
        layer.name for layer in layers
        if layer.weights and not layer.wrapped and layer.kind in _TAKES_WEIGHTS]


def _check_parts(evidence: Evidence) -> Finding:
    scheme = evidence.identification("qat").scheme
    facts: dict[str, object] = {"qat_scheme": scheme}
    if scheme not in WITH_RANGES:
        return does_not_apply(f"the QAT file is {_WORDS[scheme]}; that is qat-not-applied.", (),
                              facts)
    main = evidence.graph("qat").main
    names, left = layer_names(main), _float_layers(evidence.graph("qat"))
    if "ptq" in evidence.case.roles:
        there = _float_layers(evidence.graph("ptq"))
        left -= {pair.b for pair in evidence.match("ptq", "qat").pairs if pair.a in there}
    in_float = _IN_FLOAT.of(len(left))
    facts["layers_in_float"] = [names[index] for index in sorted(left)]
    if in_float.speaks:
        total = len({weight.operator.index for weight in weights_of(main)})
        listed = ", ".join(names[index] for index in sorted(left)[:_MOST_NAMES])
        return indicated(
            f"{len(left)} of {total} layers of the QAT file compute in float ({listed}), where PTQ "
            "pays for integers: they were left out of quantization-aware training.", (in_float,),
            facts, ("ptq",), strength=1.0)
    bare = _bare_layers(evidence)
    if bare is None or not _wrapped_layers(evidence):
        return ruled_out("every layer of the QAT file is quantized as in PTQ.", (in_float,), facts)
    not_learned = _NOT_LEARNED.of(len(bare))
    facts["layers_not_wrapped"] = bare
    if not not_learned.speaks:
        return ruled_out("every layer of the QAT model is wrapped and quantized.",
                         (in_float, not_learned), facts)
    return indicated(
        f"the QAT file has {len(bare)} layers in integers that its Keras model does not wrap "
        f"({', '.join(bare[:_MOST_NAMES])}): their ranges were not learned.",
        (in_float, not_learned), facts, ("qat",), strength=0.3)


def _float_layers(graph: Graph) -> set[int]:
    """Operators with weights that compute in float."""
    return {weight.operator.index for weight in weights_of(graph.main)
            if weight.kind not in (*INTEGER_KINDS, "other")}


def _the_same_in_float(evidence: Evidence, finding: Finding) -> Trial | None:
    """PTQ with everything in float that QAT has in float."""
    if not finding.numbers["layers_in_float"] or (
        evidence.identification("ptq").scheme not in _EIGHT_BITS
    ):
        return None
    main = evidence.graph("qat").main
    spared = {op.index for op in main.operators if all(
        main.tensors[at].dtype == "float32" for at in (*op.inputs[:1], *op.outputs) if at >= 0)}
    pairs = evidence.match("float", "qat").pairs
    trial = kept_in_float(evidence, (pair.a for pair in pairs if pair.b in spared),
                          "leaving in float in the PTQ file, too, what QAT has in float")
    if trial is None or _bare_layers(evidence) == []:
        return trial  # there is no QAT of layers that tfmot does not take
    return replace(trial, doubt="what QAT of these layers would have kept only training tells.")


def _train_every_layer(evidence: Evidence, finding: Finding) -> Trial | None:
    if not finding.numbers["layers_in_float"]:
        return None
    return Trial("training QAT again with every layer that tfmot takes",
                 again={"qat": Training("qat", every_layer=True)})


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
        code=PTQ_CODE,
        code_of_files=PTQ_OF_FILES,
        makes="ptq",
        met=(
            "Mean absolute error 5.681 of a dynamic-range PTQ file (38 KB), 6.712 of the QAT file "
            "(30 KB) (https://discuss.tensorflow.org/t/why-pqt-is-better-than-qat/23003)",
            "A detector on COCO: mAP 0.356 in dynamic range, 0.280 with integer activations "
            "(https://github.com/ultralytics/ultralytics/pull/1695)",
        ),
        source="TensorFlow Lite documentation, Post-training quantization (table of formats)",
        measures=(_ODD,),
        remedies=(Remedy("the same format for both", ("ptq", "float", "data"), _same_format),),
        note=(
            "Compares classes of schemes only; one weight scale for all channels is "
            "`per-tensor-weights`. A QAT file that is float or dynamic range is `qat-not-applied`; "
            "a PTQ file that is so is `different-format`."
        ),
        figure="sizes",
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
        code=qat_code(),
        makes="qat",
        met=(
            "A graph of 83.45 MB trained with fake quantization is still 83.15 MB as a .tflite "
            "file (https://github.com/tensorflow/tensorflow/issues/35147)",
        ),
        source="TensorFlow Model Optimization, Quantization aware training comprehensive guide",
        acts_on=("qat",),
        measures=(_FLOAT, _UNTRAINED),
        remedies=(
            Remedy("int8 for both", ("ptq", "qat", "float", "data"), _quantized_as_ptq),
            Remedy("converting the QAT model again", ("qat", "keras_qat"), _convert, trains=True),
            Remedy("applying QAT", ("qat", "keras_float", "train", "recipe"), _train, trains=True,
                   mends=("different-network",)),
        ),
        note="That int8 after training closes the gap is no proof: QAT may keep what PTQ loses. "
        "Proved where QAT was applied, or its model converted, and that closes the gap.",
        figure="QAT ranges",
    ),
    Rule(
        id="qat-requantized",
        title="QAT's weights were quantized again after training",
        question="Does the QAT file use the ranges that were learned in training?",
        requires=("qat",),
        check=_check_requantized,
        rank=FORMAT,
        symptom="QAT is no better than PTQ of the same weights, or worse, whatever is trained.",
        cause=(
            "The wrappers were stripped and the float weights converted with a representative data "
            "set; the ranges that the network was trained for are lost."
        ),
        remedy="Convert the wrapped model itself, without a representative data set.",
        code=(
            "from qinspect.train import load_keras, convert_qat\n"
            "content = convert_qat(load_keras(qat_h5))"
        ),
        makes="qat",
        met=(
            "Super resolution: 33.44 dB of QAT, 33.44 dB calibrated again after it, 33.31 dB of "
            "PTQ from float (https://github.com/mlcommons/mobile_open/pull/17)",
            "A maintainer: a QAT model is converted without a representative data set "
            "(https://github.com/tensorflow/tensorflow/issues/42082)",
        ),
        source="TensorFlow Model Optimization, Quantization aware training example (conversion)",
        acts_on=("qat",),
        measures=(_AFTERWARDS, _TRAINED),
        remedies=(
            Remedy("converting the QAT model itself", ("qat", "keras_qat"), _convert_itself,
                   trains=True),
            OTHER_RANGES,
        ),
        figure="QAT ranges",
    ),
    Rule(
        id="layers-left-out-of-qat",
        title="a part of the network was left out of QAT",
        question="Does quantization-aware training cover every layer?",
        requires=("qat",),
        check=_check_parts,
        rank=FORMAT,
        symptom="The QAT file is larger than PTQ, with float operators between QUANTIZE and "
        "DEQUANTIZE, and better than it; or its left-out layers lose as in PTQ.",
        cause=(
            "quantize_annotate_layer was called on some layers only, or tfmot does not know the "
            "others: they stay in float, or get ranges that nothing was trained for."
        ),
        remedy="Annotate the whole model; compare with a PTQ file that leaves the same layers in "
        "float where tfmot does not take them.",
        code=qat_code(layers=""),
        makes="qat",
        met=(
            "A layer behind one without QAT stays float too, as the range of its input was never "
            "recorded (https://github.com/tensorflow/tensorflow/issues/46073)",
            "Of a network whose Conv2D or Dense alone was annotated, the nodes after that layer "
            "are int8 instead (https://github.com/tensorflow/model-optimization/issues/523)",
        ),
        source="TensorFlow Model Optimization, Quantization aware training comprehensive guide "
        "(quantize some layers)",
        acts_on=("qat",),
        measures=(_IN_FLOAT, _NOT_LEARNED),
        remedies=(
            Remedy("PTQ with the same layers in float", ("ptq", "qat", "float", "data"),
                   _the_same_in_float),
            Remedy("QAT of every layer", ("qat", "keras_float", "train", "recipe"),
                   _train_every_layer, trains=True),
        ),
        note="A QAT file with nothing in integers is `qat-not-applied`; a PTQ file that is partly "
        "float is `different-format`. That PTQ with the same layers in float closes the gap is a "
        "proof where tfmot does not take them; else QAT of every layer has to close it.",
        figure="sizes",
    ),
)
