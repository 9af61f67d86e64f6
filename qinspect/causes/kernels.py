"""kernel-difference and argmax-ties: what running the file adds to what is in it."""

from __future__ import annotations

import numpy as np

from qinspect.diagnosis import thresholds as t
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.requantized import some_examples
from qinspect.diagnosis.rule import EVALUATION, Finding, Remedy, Rule, Trial, refuted, supported
from qinspect.measure.probe import batches, network_feed, network_probe
from qinspect.schema import Array
from qinspect.tflite import evaluate
from qinspect.tflite.graph import Graph
from qinspect.tflite.run import real_values


def _reference(evidence: Evidence, role: str, index: Array) -> Array:
    return evidence.once(
        ("reference", role, len(index)),
        lambda: evaluate(
            evidence.graph(role).content, evidence.data.x[index], kernels="reference",
            num_threads=evidence.num_threads,
        ).prediction,
    )


def _index(evidence: Evidence) -> Array:
    index = some_examples(evidence, t.KERNEL_EXAMPLES)
    return np.arange(len(evidence.data)) if index is None else index


def _check_kernels(evidence: Evidence) -> Finding:
    index = _index(evidence)
    numbers: dict[str, object] = {"examples": len(index)}
    words, hurt = [], []
    for role in evidence.case.roles:
        usual = evidence.evaluation(role).prediction[index]
        other = _reference(evidence, role, index)
        flips = int(np.count_nonzero(usual != other))
        delta = 100 * float(evidence.right(other, index).mean()
                            - evidence.right(usual, index).mean())
        numbers |= {f"{role}_flips": flips, f"{role}_reference_minus_default_pp": delta}
        if flips > max(1, t.KERNEL_FLIPS * len(index)):
            words.append(f"{flips} of {len(index)} predictions of the {role.upper()} file")
            hurt.append(role)
    if not words:
        return refuted("optimised and reference kernels agree.", numbers)
    return supported(
        f"{' and '.join(words)} change between optimised and reference kernels.", numbers,
        tuple(hurt), strength=0.4,
    )


def _use_reference(evidence: Evidence, finding: Finding) -> Trial | None:
    index = _index(evidence)
    swaps = {role: _reference(evidence, role, index) for role in finding.harms}
    return Trial("running the reference kernels", swaps, index) if swaps else None


def _check_ties(evidence: Evidence) -> Finding:
    numbers: dict[str, object] = {}
    words, hurt = [], []
    y = evidence.data.y
    for role in evidence.case.roles:
        found = evidence.evaluation(role)
        raw = found.raw.reshape(len(y), -1)
        inside = y < raw.shape[1]
        reached = inside & (raw[np.arange(len(y)), np.where(inside, y, 0)] == raw.max(axis=1))
        share = float(found.tied.mean())
        worst = float((evidence.own_correct(role) & ~found.tied).mean())
        best = float((evidence.own_correct(role) | (found.tied & reached)).mean())
        numbers |= {f"{role}_tied_share": share, f"{role}_worst_pp": 100 * worst,
                    f"{role}_best_pp": 100 * best}
        if share > t.TIE_SHARE:
            words.append(
                f"{100 * share:.1f} % of the {role.upper()} file's outputs tie at the top "
                f"(accuracy {100 * worst:.2f} to {100 * best:.2f} % depending on who wins)"
            )
            hurt.append(role)
    if not words:
        return refuted("hardly any output has two classes at the top.", numbers)
    return supported("; ".join(words) + ".", numbers, tuple(hurt), strength=0.5)


def _before_softmax(graph: Graph) -> int | None:
    """Tensor that the last softmax or logistic takes, which has finer steps at the top."""
    output = graph.main.outputs[0]
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
    x = evidence.data.x if index is None else evidence.data.x[index]
    swaps = {}
    for role in finding.harms:
        graph = evidence.graph(role)
        tensor = _before_softmax(graph)
        if tensor is None:
            continue
        probe = network_probe(graph, [tensor], num_threads=evidence.num_threads)
        classes = []
        for batch in batches(x, 64):
            found = probe.run({graph.main.inputs[0]: network_feed(graph, batch)})[tensor]
            real = real_values(graph.main.tensors[tensor], found)
            classes.append(real.reshape(len(batch), -1).argmax(axis=1))
        swaps[role] = np.concatenate(classes)
    if not swaps:
        return None
    return Trial("taking the class from the values before the final softmax", swaps, index)


RULES = (
    Rule(
        id="kernel-difference",
        title="kernels disagree",
        question="Do optimised and reference kernels give the same classes?",
        requires=("data",),
        check=_check_kernels,
        rank=EVALUATION,
        symptom="Accuracy of one file differs between machines, delegates or versions.",
        cause="Kernels round and order sums differently; a delegate may compute parts in float.",
        remedy="Pin the kernels for the comparison, and evaluate on the device that matters.",
        code=(
            "from qinspect.tflite import evaluate\n"
            'prediction = evaluate("qat.tflite", x, kernels="reference").prediction'
        ),
        source="LiteRT documentation, Interpreter (op resolver types) and XNNPACK delegate",
        remedies=(Remedy("reference kernels", ("data",), _use_reference),),
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
            "from qinspect.train import load_keras, convert\n"
            "# the recipe int8 has float output; leave the softmax out of the model to go further\n"
            'content = convert(load_keras("float.h5"), "int8", calibration_x)'
        ),
        source="TensorFlow Lite 8-bit quantization specification (softmax output 1/256)",
        remedies=(Remedy("classes before the softmax", ("data",), _logits),),
    ),
)
