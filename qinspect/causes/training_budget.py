"""training-budget: QAT was trained on, the float model behind PTQ was not."""

from __future__ import annotations

from qinspect.diagnosis.cases import Case
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.retrain import Training
from qinspect.diagnosis.rule import (
    BUDGET,
    Finding,
    Measure,
    Remedy,
    Rule,
    Trial,
    indicated,
    not_shown,
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
    spent = _spent(case)
    if spent is not None:
        unit, before, more = spent
        budget = (_STEPS if unit == "steps" else _EPOCHS).of(more)
        facts: dict[str, float] = {f"float_{unit}": before, "share": more / max(before, 1)}
        if not budget.speaks:
            return ruled_out("QAT made no training step, so budgets are equal.", [budget], facts)
        said = "training steps" if unit == "steps" else "epochs"
        words = (f"QAT had {more:,} {said} on top of the {before:,} of the float model, which "
                 "is what PTQ was made from")
        return _trained_on(evidence, words, budget, facts,
                           min(0.9, 0.3 + more / max(before, 1)))
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
        words = (f"QAT moved the weights of {moved} of {len(found.layers)} layers: it trained on, "
                 "PTQ did not")
        return _trained_on(evidence, words, _MOVED.of(True), facts, 0.3)
    return not_tried(f"the files are {found.verdict}; needs the training history.", (), facts)


def _spent(case: Case) -> tuple[str, int, int] | None:
    """Steps, or epochs where steps are not known, of the float training and of QAT after it."""
    steps = case.steps("float"), case.steps("qat")
    if steps[0] is not None and steps[1] is not None:
        return "steps", steps[0], steps[1]
    if case.history is not None and {"float", "qat"} <= set(case.history["phase"]):
        ends = case.history.groupby("phase")["epoch"].max()
        return "epochs", int(ends["float"]), int(ends["qat"])
    if case.facts is not None and case.facts.float_epochs is not None:
        return "epochs", case.facts.float_epochs, case.facts.qat_epochs
    return None


def _trained_on(
    evidence: Evidence, words: str, measure: Measure, facts: dict[str, float], strength: float
) -> Finding:
    """Every QAT trains on, which mostly helps: where it is worse, only the remedy tells."""
    roles = evidence.case.roles
    if "qat" in roles and evidence.comparison(roles[-2], "qat").improvement < 0:
        return not_shown(f"{words}; but QAT is the worse file, and whether that training made it "
                         "so is told by the same training before PTQ alone.", [measure], facts, 0.2)
    return indicated(f"{words}.", [measure], facts, strength=strength)


def _arm(evidence: Evidence, finding: Finding) -> Trial | None:
    if "ptq_int8_ft" not in evidence.case.arms:
        return None
    return Trial("training the float model on for as long as QAT before PTQ",
                 {"ptq": evidence.case.arms["ptq_int8_ft"]}, once=True, seen=finding.measures)


def _train(evidence: Evidence, finding: Finding) -> Trial | None:
    return Trial(
        "training the float model on for as long as QAT before PTQ",
        again={"ptq": Training("ptq trained on")}, seen=finding.measures,
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
        "model = load_keras(float_h5)\n"
        "fit(model, train, None, epochs=qat_epochs, learning_rate=qat_lr,\n"
        "    batch_size=batch_size, loss=loss, seed=0)\n"
        'content = convert(model, "int8", calibration_x)'
    ),
    makes="ptq",
    met=(
        "PTQ after 100 epochs, QAT after some 50 more: mean absolute error 5.681 and 6.712 "
        "(https://discuss.tensorflow.org/t/why-pqt-is-better-than-qat/23003)",
        "Within 600 s QAT makes some 2,000 steps fewer: 1.2052 bits a byte, 1.1925 without QAT "
        "(https://github.com/openai/parameter-golf/pull/145)",
    ),
    source="Li et al. 2021, MQBench, arXiv:2111.03759 (equal training settings before comparing)",
    measures=(_EQUAL, _STEPS, _EPOCHS, _MOVED),
    remedies=(
        Remedy("the budget-matched control", ("ptq", "keras_float", "train", "recipe"), _train,
               trains=True),
        Remedy("the budget-matched control of the study", ("ptq",), _arm),
    ),
    acts_on=("qat",),
    figure="learning curves",
)
