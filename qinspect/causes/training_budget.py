"""training-budget: QAT was trained on, the float model behind PTQ was not."""

from __future__ import annotations

from qinspect.diagnosis import retrain
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.rule import (
    BUDGET,
    Finding,
    Measure,
    Remedy,
    Rule,
    Trial,
    indicated,
    not_tried,
    ruled_out,
)

_EQUAL = Measure(
    "equal_budget", "PTQ is of a float model trained for as long as QAT", threshold=True,
    side="below",
)
_STEPS = Measure(
    "qat_steps", "training steps of QAT that PTQ did not have", threshold=1, side="above",
)
_EPOCHS = Measure(
    "qat_epochs", "epochs of QAT that PTQ did not have", threshold=1, side="above",
)
_MOVED = Measure(
    "qat_trained_on", "QAT's weights moved on from those of the float model", threshold=True,
    side="above", basis="where no history tells",
)


def _check(evidence: Evidence) -> Finding:
    case = evidence.case
    if case.facts is not None and case.facts.equal_budget:
        return ruled_out("PTQ was made from a float model trained for as long as QAT in all.",
                         [_EQUAL.of(True)])
    if case.history is not None and {"float", "qat"} <= set(case.history["phase"]):
        steps = case.history.groupby("phase")["steps"].max()
        before, more = int(steps["float"]), int(steps["qat"])
        facts: dict[str, float] = {"float_steps": before, "share": more / max(before, 1)}
        budget = _STEPS.of(more)
        if not budget.speaks:
            return ruled_out("QAT made no training step, so budgets are equal.", [budget], facts)
        return indicated(
            f"QAT had {more:,} training steps on top of the {before:,} of the float model, which "
            "is what PTQ was made from.", [budget], facts,
            strength=_strength(evidence, more, before),
        )
    if case.facts is not None:
        before, more = case.facts.float_epochs, case.facts.qat_epochs
        budget, facts = _EPOCHS.of(more), {"float_epochs": before}
        if not budget.speaks:
            return ruled_out("QAT made no training step, so budgets are equal.", [budget], facts)
        return indicated(f"QAT had {more} epochs on top of {before}.", [budget], facts,
                         strength=_strength(evidence, more, before))
    if "qat" not in case.roles:
        return not_tried("cannot tell: needs the training history, or the QAT file.")
    # A PTQ file holds the float model's weights as well.
    found = evidence.lineage(case.roles[0], "qat")
    moved = sum(row.state == "moved" for row in found.layers)
    facts = {"layers": len(found.layers), "layers_moved": moved}
    if found.verdict == "same weights":
        return ruled_out("QAT holds the weights it started from: no extra training.",
                         [_MOVED.of(False)], facts)
    if found.verdict == "fine-tuned from":
        return indicated(
            f"QAT moved the weights of {moved} of {len(found.layers)} layers: it trained on, "
            "PTQ did not.", [_MOVED.of(True)], facts, strength=0.3,
        )
    return not_tried(f"the files are {found.verdict}; needs the training history.", (), facts)


def _strength(evidence: Evidence, more: float, before: float) -> float:
    """More training mostly helps; where QAT is the worse file it is a poor guess."""
    roles = evidence.case.roles
    if evidence.comparison(roles[-2], roles[-1]).gap < 0:
        return 0.2
    return min(0.9, 0.3 + more / max(before, 1))


def _arm(evidence: Evidence, finding: Finding) -> Trial | None:
    if "ptq_int8_ft" not in evidence.case.arms:
        return None
    return Trial("training the float model on for as long as QAT before PTQ",
                 {"ptq": evidence.case.arms["ptq_int8_ft"]})


def _train(evidence: Evidence, finding: Finding) -> Trial | None:
    return Trial(
        "training the float model on for as long as QAT before PTQ",
        {"ptq": retrain.ptq_trained_on(evidence)},
        controls=retrain.controls(evidence, "ptq"),
    )


RULE = Rule(
    id="training-budget",
    title="QAT had training that PTQ did not have",
    question="Would PTQ of an equally trained float model do as well (or as badly)?",
    requires=("data",),
    check=_check,
    rank=BUDGET,
    symptom="QAT beats both PTQ and the float model, or has fallen behind both.",
    cause=(
        "QAT goes on training, PTQ quantizes the float model as it was; the difference may be "
        "that training and not the way of quantizing."
    ),
    remedy="Train the float model on for the same steps at the same learning rate, then quantize.",
    code=(
        "from qinspect.train import load_keras, fit, convert\n"
        'model = load_keras("float.h5")\n'
        "fit(model, train, None, epochs=qat_epochs, learning_rate=qat_lr, seed=0)\n"
        'content = convert(model, "int8", calibration_x)'
    ),
    source="Li et al. 2021, MQBench, arXiv:2111.03759 (equal training settings before comparing)",
    measures=(_EQUAL, _STEPS, _EPOCHS, _MOVED),
    remedies=(
        Remedy("the budget-matched control of the study", ("ptq",), _arm),
        Remedy("the budget-matched control", ("ptq", "keras_float", "train", "recipe"), _train,
               trains=True),
    ),
    figure="learning curves",
)
