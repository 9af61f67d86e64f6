"""another-output and state-carried-over: claims of the right file, run another way."""

from __future__ import annotations

from qinspect.causes.evaluation import (
    AGREEMENT_SHARE,
    EXPLAINED_SHARE,
    explained_by,
    run_correctly,
    try_mistakes,
)
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.rule import (
    EVALUATION,
    Finding,
    Measure,
    Remedy,
    Rule,
    Trial,
    does_not_apply,
    indicated,
    not_tried,
    ruled_out,
    together,
)
from qinspect.tflite.runner import state_of


def _check(evidence: Evidence, kind: str) -> Finding:
    """Whether claims are what a mistake of a kind gives, in files that allow it."""
    measures: list[Measure] = []
    words, hurt = [], []
    facts: dict[str, object] = {}
    for role in evidence.case.roles:
        if not evidence.claim_pairs(role):
            continue
        found = try_mistakes(evidence, role)
        explained = explained_by(found, role, kind)
        measures += together(AGREEMENT_SHARE.of(found.agreement, role), explained)
        if found.kind == kind:
            facts[f"{role}_mistake"] = found.mistake
            words.append(f"the predictions claimed for {role.upper()} {found.words} "
                         f"({100 * found.reproduced:.1f} % reproduced, "
                         f"{100 * found.agreement:.1f} % by running it correctly)")
            hurt.append(role)
    if words:
        return indicated("; ".join(words) + ".", measures, facts, tuple(hurt), strength=1.0)
    if not measures:
        return not_tried("cannot tell: claimed predictions are classes, one an example.")
    return ruled_out("claimed predictions are not to be had that way.", measures)


def _check_output(evidence: Evidence) -> Finding:
    outputs = {role: len(evidence.graph(role).main.outputs) for role in evidence.case.roles}
    if max(outputs.values()) < 2:
        return does_not_apply("the files have one output each.")
    return _check(evidence, "output")


def _check_state(evidence: Evidence) -> Finding:
    if not any(state_of(evidence.graph(role)) for role in evidence.case.roles):
        return does_not_apply("no file keeps a state between runs.")
    return _check(evidence, "state")


def _right_output(evidence: Evidence, finding: Finding) -> Trial | None:
    return run_correctly(evidence, finding, "taking the same output of every file")


def _reset(evidence: Evidence, finding: Finding) -> Trial | None:
    return run_correctly(evidence, finding, "resetting the state before each example")


RULES = (
    Rule(
        id="another-output",
        title="another output of the file was compared",
        question="Are claimed predictions those of the output that is scored?",
        requires=("data", "claims"),
        check=_check_output,
        rank=EVALUATION,
        symptom="One of several files with two heads or more is at chance.",
        cause=(
            "The converter orders outputs by name or by graph, and QAT may order them otherwise: "
            "output 0 is not the same head in every file."
        ),
        remedy="Choose outputs by name or shape, never by number.",
        code=(
            "import qinspect as qi\n"
            "# found in every file by name, shape and values\n"
            "print(qi.evaluate(files, data, output=output).frame)"
        ),
        makes="evaluation",
        met=(
            "Outputs come in another order after conversion: reported with 2.0, asked about again "
            "with 2.8 (https://github.com/tensorflow/tensorflow/issues/33303)",
            "TensorFlow 2.7.1 changed the order of a Keras model's outputs again "
            "(https://github.com/tensorflow/tensorflow/issues/55242)",
        ),
        source="TensorFlow Lite documentation, signatures (outputs by name)",
        measures=(AGREEMENT_SHARE, EXPLAINED_SHARE),
        remedies=(Remedy("the same output of all", ("data", "claims"), _right_output),),
        note="Both together. Where the kit runs the files it finds the output by itself.",
    ),
    Rule(
        id="state-carried-over",
        title="the state of one example was carried over to the next",
        question="Are claimed predictions those of a file that was never reset?",
        requires=("data", "claims"),
        check=_check_state,
        rank=EVALUATION,
        symptom="A recurrent file scores near chance, or otherwise in another order of examples.",
        cause=(
            "Files with an LSTM or a streaming layer keep their state in variable tensors from "
            "one run to the next, until somebody resets them."
        ),
        remedy="Reset the interpreter's variables before each sequence.",
        code=(
            "from qinspect.tflite import evaluate\n"
            "# resets before each example; by hand: interpreter.reset_all_variables()\n"
            "prediction = {file: evaluate(file, x).prediction for file in files}"
        ),
        makes="evaluation",
        met=(
            "A bidirectional LSTM gives other outputs from run to run unless its variables are "
            "reset (https://github.com/tensorflow/tensorflow/issues/47813)",
            "Android without a reset of variables: every batch after the first one is wrong with "
            "a recurrent network (https://github.com/tensorflow/tensorflow/issues/26786)",
        ),
        source="TensorFlow Lite documentation, Interpreter.reset_all_variables",
        measures=(AGREEMENT_SHARE, EXPLAINED_SHARE),
        remedies=(Remedy("a reset before each example", ("data", "claims"), _reset),),
        note="Both together. The kit itself resets before each example unless it is told that the "
        "examples are one sequence.",
    ),
)
