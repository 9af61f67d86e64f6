"""kernel-difference and argmax-ties: what running the file adds to what is in it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import bdtrik

from qinspect.causes.evaluation import try_mistakes, unlike
from qinspect.data.dataset import take
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.requantized import some_examples
from qinspect.diagnosis.rule import (
    EVALUATION,
    MODELS,
    Finding,
    Measure,
    Remedy,
    Rule,
    Trial,
    does_not_apply,
    indicated,
    not_shown,
    ruled_out,
)
from qinspect.measure.debugger import culprit, debugger_sentence
from qinspect.measure.kernels import MOST, ReferenceRun, reference_run, seconds_for
from qinspect.measure.probe import batches
from qinspect.metrics.classes import class_of
from qinspect.schema import Array
from qinspect.tflite.beside import STEPS
from qinspect.tflite.graph import Graph
from qinspect.tflite.ports import real_values
from qinspect.tflite.runner import Session

# Share of examples whose class kernels change in a healthy file; 1 of 100 draws has more.
_FLIP_SHARE, _CHANCE = 0.005, 0.01
_FLIPS = Measure(
    "{role}_flips", "examples whose class changes between kernels", side="above",
    basis="more than 0.5 % of the examples (the most measured on healthy files) make in 99 of 100 "
    "draws, at least 2",
)
_MOVED = Measure(
    "{role}_moved_margins", "change of the metric with the kernels, in margins", threshold=1.0,
    side="above", basis="where files are not scored by classes; the difference that would matter",
)
_TIED = Measure(
    "{role}_tied_share", "share of tied outputs", threshold=math.nextafter(0.03, 1), side="above",
    basis="more than that; measured: up to 1.1 % on healthy files with softmax",
)


def _reference(evidence: Evidence, role: str) -> ReferenceRun:
    """The file of a role by reference kernels, on random examples."""
    return evidence.once(("reference", role), lambda: reference_run(
        evidence.task, role, evidence.graph(role), evidence.data.x, evidence.evaluation(role),
        evidence.rng(3).permutation(len(evidence.data))[:MOST],
        seconds_for(evidence.evaluation(one) for one in evidence.case.roles),
        workers=evidence.num_threads))


def _answers(evidence: Evidence, run: ReferenceRun) -> Any:
    return run.result.prediction if evidence.of_classes else run.scored


@dataclass(frozen=True)
class _Held:
    """A file's answers by other kernels, held against its own: what decides, and in words.

    ``not_kernels``: what was seen of recorded outputs that are not this file's.
    """

    measure: Measure
    facts: dict[str, object]
    said: str
    not_kernels: str = ""


def _held(evidence: Evidence, role: str) -> _Held:
    """By the kernels that outputs were recorded with, else by the reference kernels."""
    return evidence.once(("held", role), lambda: (
        _recorded if role in evidence.case.recorded else _by_reference)(evidence, role))


def _by_reference(evidence: Evidence, role: str) -> _Held:
    ran = _reference(evidence, role)
    measure, moved, by = _moved(evidence, role, _answers(evidence, ran), ran.index)
    return _Held(measure, {f"{role}_examples": len(ran.index),
                           f"{role}_reference_minus_default{evidence.suffix}": moved}, by)


def _recorded(evidence: Evidence, role: str) -> _Held:
    seen = evidence.beside(role)
    measure, moved, by = _moved(evidence, role, evidence.recorded_answers(role),
                                np.arange(len(evidence.data)))
    facts: dict[str, object] = {
        f"{role}_examples": seen.n, f"{role}_recorded_minus_own{evidence.suffix}": moved,
        f"{role}_outputs_differ": seen.differ,
        f"{role}_largest_{'steps' if seen.unit == STEPS else 'difference'}": seen.largest}
    if evidence.of_classes and (mistake := try_mistakes(evidence, role)).mistake:
        return _Held(measure.plain(), facts, by, f"{_what(role)} {mistake.words}")
    why = unlike(evidence, role) or ("" if _operator_named(evidence, role) else seen.unrelated)
    if why:
        return _Held(measure.plain(), facts, by, f"{_what(role)} {why}")
    if seen.largest:
        by += f", outputs by up to {seen.most},"
    return _Held(measure, facts, by)


def _what(role: str) -> str:
    return f"the outputs recorded of the {role.upper()} file"


def _moved(evidence: Evidence, role: str, other: Any, index: Array) -> tuple[Measure, float, str]:
    """What decides, by how much the metric moves, and what changes, in words."""
    both = evidence.results(own=True).take(index).with_outputs(
        other=evidence.scorable(other, index))
    moved = evidence.metric.scale * (both.value("other") - both.value(role))
    if evidence.of_classes:
        flips = int(np.count_nonzero(evidence.own_answers(role)[index] != other))
        # One flip more than what is let pass.
        limit = max(1, math.ceil(bdtrik(1 - _CHANCE, len(index), _FLIP_SHARE))) + 1
        return (_FLIPS.of(flips, role, threshold=limit), moved,
                f"{flips} of {len(index)} predictions of the {role.upper()} file")
    return (_MOVED.of(abs(moved) / evidence.results().limit, role), moved,
            f"the {evidence.metric.title} of the {role.upper()} file (by "
            f"{evidence.metric.size(moved)})")


def _check_kernels(evidence: Evidence) -> Finding:
    found = _by_outputs(evidence)
    for role in evidence.case.debugger:
        table = evidence.debugger(role)
        worst = culprit(table)
        facts = {} if worst is None else {f"{role}_operator": worst["operator"],
                                          f"{role}_operator_code": worst["op"],
                                          f"{role}_operator_difference": worst["steps"]}
        # Outputs that were not recorded may differ there.
        open_ = (worst is not None and found.verdict == "ruled_out"
                 and role not in evidence.case.recorded)
        found = replace(
            found, verdict="not_shown" if open_ else found.verdict, facts=found.facts | facts,
            sentence=f"{found.sentence} {MODELS[role]}: {debugger_sentence(table)}" + (
                " Whether that makes the gap is told by its outputs (--recorded)." if open_
                else ""))
    return found


def _by_outputs(evidence: Evidence) -> Finding:
    held = {role: _held(evidence, role) for role in evidence.case.roles}
    recorded = [role for role in held if role in evidence.case.recorded]
    measures = [one.measure for one in held.values()]
    facts = {key: value for one in held.values() for key, value in one.facts.items()}
    hurt = tuple(role for role, one in held.items() if one.measure.speaks)
    other = [one.not_kernels for one in held.values() if one.not_kernels]
    if hurt:
        there = [held[role].said for role in hurt if role in recorded]
        here = [held[role].said for role in hurt if role not in recorded]
        known = all(evidence.recording(role).same_file for role in hurt if role in recorded)
        sure = ("the device ran this very file, by its checksum, so its kernels differ" if known
                else "if the device ran this very file (compare checksums), its kernels differ")
        words = [*([f"{' and '.join(there)} change between the recording and the kernels here; "
                    f"{sure}"] if there else []),
                 *([f"{' and '.join(here)} change between optimised and reference kernels"]
                   if here else []), *other]
        return indicated(f"{'; '.join(words)}.", measures, facts, hurt, strength=0.4)
    if other:
        return not_shown(f"{'; '.join(other)}; that shows no difference of kernels.", measures,
                         facts)
    agree = []
    for role in recorded:
        seen = evidence.beside(role)
        how = ("differ too little from its own to matter" if seen.differ or seen.flips else
               "are its own")
        agree.append(f"{_what(role)} {how} ({seen.sentence.rstrip('.')})")
    if len(recorded) < len(held):
        fewest = min(len(_reference(evidence, role).index) for role in held
                     if role not in recorded)
        which = (f"on the {fewest:,} of {len(evidence.data):,} examples, drawn at random, that "
                 "were run by both" if fewest < len(evidence.data) else "on all examples")
        agree.append(f"optimised and reference kernels agree {which}")
    return ruled_out(f"{'; '.join(agree)}.", measures, facts)


def _use_own(evidence: Evidence, finding: Finding) -> Trial | None:
    swaps = {role: evidence.own_answers(role) for role in finding.hurts
             if role in evidence.case.recorded}
    if not swaps:
        return None
    unknown = [role for role in swaps if not _ran_there(evidence, role)]
    doubt = "" if not unknown else (
        f"whether the device ran this very file is not known of {' and '.join(unknown).upper()}; "
        "record its checksum (model_sha256) with the outputs.")
    return Trial("running the file with the kernels here", swaps, claim=True, doubt=doubt)


def _ran_there(evidence: Evidence, role: str) -> bool:
    """Whether the device is known to have run this very file: by its checksum, or by operators."""
    return evidence.recording(role).same_file is True or _operator_named(evidence, role)


def _operator_named(evidence: Evidence, role: str) -> bool:
    """Whether the accuracy debugger, which reads the file itself, names an operator of it."""
    return role in evidence.case.debugger and culprit(evidence.debugger(role)) is not None


def _use_reference(evidence: Evidence, finding: Finding) -> Trial | None:
    if not finding.hurts or set(finding.hurts) & evidence.case.recorded.keys():
        return None  # what was recorded is held against the kernels here
    ran = {role: _reference(evidence, role) for role in finding.hurts}
    # Each was run on the first of one random order, so the fewest are among those of all.
    index = min((run.index for run in ran.values()), key=len)
    swaps = {role: _answers(evidence, run)[np.isin(run.index, index)]
             for role, run in ran.items()}
    return Trial("running the reference kernels", swaps, index)


def _check_ties(evidence: Evidence) -> Finding:
    facts: dict[str, object] = {}
    measures, words, hurt = [], [], []
    most = {}
    if not evidence.of_classes:
        return does_not_apply(f"files are scored by {evidence.metric.title}, for which ties of "
                              "classes do not matter.")
    y = evidence.data.labels
    for role in evidence.case.roles:
        found = evidence.evaluation(role)
        own = evidence.scorable(found.prediction)
        raw = found.raw.reshape(len(y), -1)
        inside = y < raw.shape[1]
        reached = inside & (raw[np.arange(len(y)), np.where(inside, y, 0)] == raw.max(axis=1))
        share = float(found.tied.mean())
        worst = float((own & ~found.tied).mean())
        best = float((own | (found.tied & reached)).mean())
        facts |= {f"{role}_worst_pp": 100 * worst, f"{role}_best_pp": 100 * best}
        measures.append(_TIED.of(share, role))
        if measures[-1].speaks:
            words.append(
                f"{100 * share:.1f} % of the {role.upper()} file's outputs tie at the top "
                f"(accuracy {100 * worst:.2f} to {100 * best:.2f} % depending on who wins)"
            )
            hurt.append(role)
            # However the ties went, no more than these can be put right.
            most[role] = 100 * (best - float(own.mean()))
    if not words:
        return ruled_out("hardly any output has two classes at the top.", measures, facts)
    return indicated("; ".join(words) + ".", measures, facts, tuple(hurt), strength=0.5, most=most)


def _before_softmax(graph: Graph, number: int) -> int | None:
    """Tensor that an output's softmax or logistic takes, which has finer steps at the top."""
    output = graph.main.outputs[number]
    for op in reversed(graph.main.operators):
        if output not in op.outputs:
            continue
        if op.code in ("SOFTMAX", "LOGISTIC"):
            return op.inputs[0]
        if op.code not in ("QUANTIZE", "DEQUANTIZE"):
            return None
        output = op.inputs[0]
    return None


def _logits(evidence: Evidence, finding: Finding) -> Trial | None:
    index = some_examples(evidence)
    x = evidence.data.x if index is None else take(evidence.data.x, index)
    swaps = {}
    for role in finding.hurts:
        graph = evidence.graph(role)
        tensor = _before_softmax(graph, evidence.output_number(role))
        if tensor is None:
            continue
        classes = []
        with Session(graph, tensors=[tensor], workers=evidence.num_threads) as session:
            for batch in batches(x, 64):
                found = session.view(batch)
                if tensor not in found:
                    break
                real = real_values(graph.main.tensors[tensor], found[tensor])
                classes.append(class_of(real))
            else:
                swaps[role] = np.concatenate(classes)
    if not swaps:
        return None
    return Trial("taking the class from the values before the final softmax", swaps, index)


RULES = (
    Rule(
        id="kernel-difference",
        title="kernels disagree",
        question="Do other kernels, reference ones or those of a device, give the same answers?",
        requires=("data",),
        check=_check_kernels,
        rank=EVALUATION,
        symptom="Accuracy of one file differs between machines, delegates or versions.",
        cause="Kernels round and order sums differently; a delegate may compute parts in float.",
        remedy="Pin the kernels for the comparison, evaluate on the device that matters, and give "
        "its maker the worst operator (qinspect layers --cut-worst).",
        code=(
            "from qinspect.tflite import evaluate\n"
            'prediction = evaluate(qat_file, x, kernels="reference").prediction'
        ),
        met=(
            "One int8 convolution: 80 of 51,200 values (0.156 %) differ by 1 between reference "
            "and optimised kernel (https://github.com/tensorflow/tensorflow/issues/99072)",
            "A model gives wrong classes in C++ with XNNPACK compiled in, the expected ones "
            "without it (https://github.com/tensorflow/tensorflow/issues/55448)",
        ),
        source="LiteRT documentation, Interpreter (op resolver types) and XNNPACK delegate",
        measures=(_FLIPS, _MOVED),
        remedies=(Remedy("our kernels", ("data",), _use_own),
                  Remedy("reference kernels", ("data",), _use_reference)),
        note="With outputs recorded on a device (`--recorded`, `docs/device.md`) these are held "
        "against the file run here, and the gap is theirs. The table of LiteRT's accuracy debugger "
        "(`--debugger`) says which operator.",
    ),
    Rule(
        id="argmax-ties",
        title="8-bit outputs tie at the top",
        question="How often do two classes share the highest output?",
        requires=("data",),
        check=_check_ties,
        rank=EVALUATION,
        symptom="A quantized file favours classes with low numbers.",
        cause=(
            "An int8 softmax has 256 levels; two good classes get the same one, and the lower "
            "class number wins."
        ),
        remedy="Give the file float output, or take the class before the softmax.",
        code=(
            "from qinspect.measure.activations import observe_ranges\n"
            "from qinspect.tflite import read_graph\n"
            "from qinspect.tflite.requantize import quantize_file\n"
            "graph = read_graph(float_file)\n"
            "ranges = observe_ranges(graph, calibration_x).over()\n"
            "# the last softmax in float: its classes are told apart by more than 256 levels\n"
            'last = ("SOFTMAX", "LOGISTIC")\n'
            "ends = [op.index for op in graph.main.operators if op.code in last]\n"
            'content = quantize_file(graph, ranges, "int8", dict.fromkeys(ends[-1:], "float32"))'
        ),
        makes="ptq",
        met=(
            "MLPerf: where classes 1, 3 and 10 share the top int8 value argmax takes 1, even if 3 "
            "is right (https://github.com/mlcommons/inference_policies/issues/268)",
            "Of outputs 0.999 and 1 the second is the larger one, after quantization the first is "
            "taken; seen rarely (https://github.com/boluoweifenda/WAGE/issues/8)",
        ),
        source="TensorFlow Lite 8-bit quantization specification (softmax output 1/256)",
        measures=(_TIED,),
        remedies=(Remedy("classes before the softmax", ("data",), _logits),),
        figure="ties",
    ),
)
