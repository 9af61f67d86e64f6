"""output-saturated and output-below-one-step: a file's last scale is too narrow or too wide."""

from __future__ import annotations

from collections.abc import Mapping

from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.requantized import remade, requantized, some_examples, with_stored_ranges
from qinspect.diagnosis.rule import (
    CALIBRATION,
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
)
from qinspect.tflite.constants import producers_of
from qinspect.tflite.graph import MOST_HANDING_ON, RESHAPING, Graph
from qinspect.tflite.remarks import Remark
from qinspect.tflite.requantize import Precision, Ranges

_STUCK = Measure(
    "{role}_stuck_share", "share of output values cut off at an end", threshold=0.02, side="above",
    basis="chosen; where the float file's values go on beyond the end by a step and more",
)
_LOST = Measure(
    "{role}_lost_parts", "parts of the output that vary by less than a step", threshold=1,
    side="above", basis="entries of one axis, or what is put together; in the float file",
)


def _told(evidence: Evidence, role: str, name: str) -> list[Remark]:
    """What is said of the output that is scored."""
    at = evidence.output_number(role)
    return [one for one in evidence.output_remarks(role)
            if one.id == name and one.numbers.get("output", at) == at]


def _roles(evidence: Evidence) -> list[str]:
    return [role for role in evidence.case.roles if role != "float"]


# --- output-saturated -------------------------------------------------------------------------


def _check_saturated(evidence: Evidence) -> Finding:
    facts: dict[str, object] = {}
    measures, words, hurt = [], [], []
    for role in _roles(evidence):
        if role == "qat" and not evidence.of_classes:
            continue  # its observers are asked by stale-observers
        told = _told(evidence, role, "stuck-output")
        measures.append(_STUCK.of(told[0].numbers["share"] if told else 0.0, role))
        if not measures[-1].speaks:
            continue
        numbers = told[0].numbers
        facts |= {f"{role}_output_{key}": numbers[key]
                  for key in ("low", "high", "reference_low", "reference_high")}
        words.append(f"of the {role.upper()} file {told[0].sentence.rstrip('.')}")
        hurt.append(role)
    if not words:
        return ruled_out("hardly any output value is stuck at an end of the stored range.",
                         measures, facts)
    return indicated("; ".join(words) + ".", measures, facts, tuple(hurt), strength=0.75)


def _wider(evidence: Evidence, finding: Finding) -> Trial | None:
    index = some_examples(evidence)
    names = _last(evidence.graph("float"), evidence.output_number("float"))[1]
    swaps, controls = {}, {}
    for role in finding.hurts:
        stored = with_stored_ranges(evidence, role)
        seen = evidence.observed("evaluation", role).over()
        wide = {name: _joined(seen.bounds[name], stored.bounds[name]) for name in names}
        controls[role] = remade(evidence, index, role)
        swaps[role] = requantized(
            evidence, Ranges({**stored.bounds, **wide}, stored.per_tensor), index=index, role=role)
    return Trial("widening the range of the output alone to what the float file puts out", swaps,
                 index, controls=controls)


def _joined(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return min(a[0], b[0]), max(a[1], b[1])


# --- output-below-one-step --------------------------------------------------------------------


def _check_coarse(evidence: Evidence) -> Finding:
    if evidence.of_classes:
        return does_not_apply("of classes the greatest output counts; how often two share it is "
                              "asked by argmax-ties.")
    facts: dict[str, object] = {}
    measures, words, hurt = [], [], []
    for role in _roles(evidence):
        told = _told(evidence, role, "below-step")
        measures.append(_LOST.of(sum(map(_parts, told)), role))
        if not measures[-1].speaks:
            continue
        facts |= {f"{role}_output_step": told[0].numbers["step"],
                  f"{role}_part_low": told[0].numbers["low"],
                  f"{role}_part_high": told[0].numbers["high"]}
        words += [f"of the {role.upper()} file {one.sentence.rstrip('.')}" for one in told]
        hurt.append(role)
    if not words:
        return ruled_out("every part of the output varies by more than one step.", measures, facts)
    return indicated("; ".join(words) + ".", measures, facts, tuple(hurt), strength=0.75)


def _parts(remark: Remark) -> int:
    return len(remark.numbers.get("entries") or (1,))


def _float_output(evidence: Evidence, finding: Finding) -> Trial | None:
    index = some_examples(evidence)
    operators, _ = _last(evidence.graph("float"), evidence.output_number("float"))
    layers: Mapping[int, Precision] = dict.fromkeys(operators, "float32")
    swaps, controls = {}, {}
    for role in finding.hurts:
        stored = with_stored_ranges(evidence, role)
        controls[role] = remade(evidence, index, role)
        swaps[role] = requantized(evidence, stored, layers, index, role)
    return Trial("leaving the last layer in float", swaps, index, controls=controls)


def _last(graph: Graph, output: int) -> tuple[list[int], list[str]]:
    """Operators that make an output, and those that only shape it; names of what they put out."""
    producers, index = producers_of(graph.main), graph.main.outputs[output]
    operators, names = [], []
    for _ in range(MOST_HANDING_ON):
        names.append(graph.main.tensors[index].name)
        made = producers.get(index)
        if made is None:
            break
        operators.append(made.index)
        if made.code not in RESHAPING:
            break
        index = made.inputs[0]
    return operators, names


RULES = (
    Rule(
        id="output-saturated",
        title="the output range is too narrow",
        question="Do outputs pile up at an end of their stored range?",
        requires=("float", "ptq|qat", "data"),
        check=_check_saturated,
        rank=CALIBRATION,
        symptom="Large values are never predicted, or many classes tie at the greatest output.",
        cause=(
            "The range of the output was set on examples of smaller outputs; beyond its end "
            "everything is the same number."
        ),
        remedy="Calibrate with examples of the largest outputs (QAT: set its ranges from such "
        "examples before the first step), or give the file float output.",
        code=PTQ_CODE.replace("calibration_x", "fresh_x"),
        code_of_files=PTQ_OF_FILES.replace("calibration_x", "fresh_x"),
        code_of_qat=qat_code(warm=True),
        makes="ptq",
        met=(
            "A regression by QAT never leaves 0 to 6 where labels reach 95; PTQ of it does not do "
            "so (https://github.com/tensorflow/tensorflow/issues/44007)",
        ),
        source="TensorFlow Lite 8-bit quantization specification",
        measures=(_STUCK,),
        remedies=(Remedy("the float file made anew, with a wider output range",
                         ("float", "data"), _wider),),
        note="Of a QAT file whose values are scored (not classes) `stale-observers` asks the same.",
    ),
    Rule(
        id="output-below-one-step",
        title="a part of the output is smaller than one step of its scale",
        question="Does every part of the output vary by more than one quantization step?",
        requires=("ptq|qat", "data"),
        check=_check_coarse,
        rank=CALIBRATION,
        symptom="One of several predicted values is constant, or takes two values only.",
        cause=(
            "Boxes and scores, or targets of unequal size, share one scale; its step is as large "
            "as all that the smaller ones do."
        ),
        remedy="Leave the last layer in float, or give every part an output of its own.",
        code=(
            "from qinspect.measure.activations import observe_ranges\n"
            "from qinspect.tflite import read_graph\n"
            "from qinspect.tflite.requantize import quantize_file\n"
            "graph = read_graph(float_file)\n"
            'last = {graph.main.operators[-1].index: "float32"}\n'
            "ranges = observe_ranges(graph, calibration_x).over()\n"
            'content = quantize_file(graph, ranges, "int8", last)'
        ),
        makes="ptq",
        met=(
            "Confidences of an int8 YOLOv8 are -128 or -127 only: 0 or 1.13 after scaling; its "
            "boxes are right (https://github.com/ultralytics/ultralytics/issues/1683)",
            "Scores of 0.0 where boxes and scores are one int8 output, normal ones where they are "
            "two (https://github.com/ultralytics/ultralytics/issues/13566)",
        ),
        source="TensorFlow Lite 8-bit quantization specification (one scale for an activation)",
        measures=(_LOST,),
        remedies=(Remedy("the float file made anew, with its last layer in float",
                         ("float", "data"), _float_output),),
        note="Of classes `argmax-ties` asks the same. Without the float file only parts that are "
        "put together by a CONCATENATION are seen.",
    ),
)
