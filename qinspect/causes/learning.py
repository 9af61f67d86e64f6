"""qat-learning-rate and undertrained: what the learning curves and the weights say."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.retrain import Training, answers
from qinspect.diagnosis.rule import (
    RATE,
    TRAIN_ON,
    Finding,
    Measure,
    Remedy,
    Rule,
    Trial,
    indicated,
    not_shown,
    not_tried,
    qat_code,
    ruled_out,
    speaking,
    together,
)

# Epochs and steps, the more of both: enough to leave the steep part, little enough to wait for.
_MORE_EPOCHS, _MORE_STEPS = 2, 600
_TRAINED = ("qat", "keras_float", "train", "recipe")
# Fall of the loss in the last epoch from which it is still falling; chosen.
_STILL_FALLING = 0.1
# Share of the loss of guessing (the logarithm of the number of classes) above which a network has
# learned little, and the fall from which it is still learning; chosen after a case of the
# calibration half of the fault benchmark (0.92, falling by 0.06 in 22 steps).
_UNLEARNED, _STILL_MOVING = 0.5, 0.02

_RISE = Measure(
    "loss_ratio", "loss after QAT / loss of the float model", threshold=1.5, side="above",
    basis="chosen",
)
_COSINE = Measure(
    "weight_cosine_median", "cosine of QAT's weights to float's, median of layers",
    threshold=0.95, side="below", basis="measured: 0.978 and more at sane learning rates",
)
_UNMOVED = Measure(
    "weights_unmoved", "no weight moved beyond the rounding of int8", threshold=True, side="above",
)
_SPOILS = Measure(
    "rate_spoils_float", "the float model is worse once trained on at QAT's rate", threshold=True,
    side="above", basis="paired interval of PTQ before and after; asked where nothing else tells",
)
_FALL = Measure(
    "{role}_last_fall_share", "fall of the loss in the last epoch", side="above",
    basis=f"from {_STILL_FALLING:g}, or {_STILL_MOVING:g} where the loss is above {_UNLEARNED:g} "
    "of that of guessing (chosen)",
)
_LOSS = Measure(
    "{role}_last_loss", "training loss at the end, nats", threshold=0.05, side="above",
    basis="below it the slope says nothing; chosen",
)


def _phase(evidence: Evidence, name: str) -> pd.DataFrame | None:
    history = evidence.case.history
    if history is None or name not in set(history["phase"]):
        return None
    return history[history["phase"] == name].sort_values("epoch")


def _end_loss(rows: pd.DataFrame) -> float:
    """Loss at the end of training: on validation examples where there were any."""
    if "val_loss" in rows.columns and np.isfinite(rows["val_loss"].iloc[-1]):
        return float(rows["val_loss"].iloc[-1])
    return float(rows["loss"].iloc[-1])


def _check_rate(evidence: Evidence) -> Finding:
    facts: dict[str, object] = {}
    measures = []
    rise = _RISE
    before, during = _phase(evidence, "float"), _phase(evidence, "qat")
    if before is not None and during is not None:
        facts |= {"float_loss": _end_loss(before), "qat_loss": _end_loss(during)}
        ratio = _end_loss(during) / max(_end_loss(before), 1e-12)
        rise = _RISE.of(ratio)
        measures.append(rise)
        if "learning_rate" in during and during["learning_rate"].notna().iloc[-1]:
            facts["qat_learning_rate"] = float(during["learning_rate"].iloc[-1])
    # The first of the files that there are holds the float model's weights.
    found = evidence.lineage(evidence.case.roles[0], "qat")
    rows = () if found.verdict == "unrelated" else found.layers
    known = [row.cosine for row in rows if np.isfinite(row.cosine)]
    angle = float(np.median(known)) if known else math.nan
    cosine = _COSINE.of(angle)
    still = _UNMOVED.of(bool(rows) and all(row.state == "identical" for row in rows))
    measures += [cosine, still]
    if rise.speaks:
        # Ranges that do not fit raise the loss as well; the strength leaves room for them.
        return indicated(
            f"the loss after QAT is {ratio:.1f} times that of the float model before it: the steps "
            "were too large for a trained network.", measures, facts, ("qat",), strength=0.5,
        )
    if cosine.speaks:
        return indicated(
            f"QAT turned the weights far away from the float model's (median cosine {angle:.3f}, "
            "after careful fine-tuning at least 0.98).", measures, facts, ("qat",), strength=0.5,
        )
    if still.speaks:
        return indicated("QAT moved no weight beyond the rounding of int8: the steps were too "
                         "small to learn anything.", measures, facts, ("qat",), strength=0.45)
    moderate = "weights moved moderately and the loss did not rise"
    if evidence.comparison(evidence.case.roles[-2], "qat").verdict == "a_better":
        # Seen with steps of 0.01, hundreds of times too large for a trained network.
        return not_tried(
            f"cannot tell: {moderate}, but QAT is the worse file; only a training at another rate "
            "shows whether it is the rate.", measures, facts, ("qat",),
        )
    return ruled_out(f"{moderate}.", measures, facts)


def _spoils_float(evidence: Evidence) -> tuple[Measure, ...]:
    """Whether the float model, trained on at QAT's rate, gives a PTQ file that is worse."""
    if "ptq" not in evidence.case.roles:
        return ()
    found = answers(evidence, Training("ptq trained on"))
    results = evidence.results().with_outputs(**{"trained on": evidence.scorable(found)})
    better = results.metric.better
    *_, high = results.contrast({"trained on": better, "ptq": -better})
    return (_SPOILS.of(high < 0),)


def _other_rate(evidence: Evidence, finding: Finding) -> Trial | None:
    facts = evidence.case.facts
    assert facts is not None
    # A tenth of the float model's rate, or of its own where that is what QAT had.
    careful = 0.1 * min(1.0, (facts.float_lr or facts.qat_lr) / facts.qat_lr)
    factor = 10.0 if finding.numbers.get("weights_unmoved") else careful
    return Trial(
        f"training QAT again with learning rate {facts.qat_lr * factor:.2g} instead of "
        f"{facts.qat_lr:.2g}",
        again={"qat": Training("qat", rate_factor=factor)}, sham={"qat": Training("qat")},
        seen=() if speaking(finding.measures) else _spoils_float(evidence),
    )


def _guessing(evidence: Evidence) -> float:
    """Loss of guessing among classes; of other tasks it is not known from labels alone."""
    data = evidence.case.data
    classes = 0 if data is None else data.num_classes
    return float(np.log(classes)) if classes > 1 else np.inf


def _check_converged(evidence: Evidence) -> Finding:
    facts: dict[str, object] = {}
    measures: list[Measure] = []
    falling = []
    for name in ("float", "qat"):
        rows = _phase(evidence, name)
        if rows is None:
            continue
        losses = rows["loss"].to_numpy(dtype=np.float64)
        # Of a single epoch only the running mean is known; it ends far below where it began.
        fall = 1.0 if len(losses) < 2 else 1 - losses[-1] / max(losses[-2], 1e-12)
        guessing = _guessing(evidence)
        facts |= {f"{name}_epochs": len(losses),
                  f"{name}_loss_of_guessing_share": losses[-1] / guessing}
        # A training loss near zero may still fall by its tenth without any use; one that is near
        # guessing has hardly begun to fall.
        unlearned = losses[-1] > _UNLEARNED * guessing
        drop = _FALL.of(fall, name, threshold=_STILL_MOVING if unlearned else _STILL_FALLING)
        last = [drop] if unlearned else together(drop, _LOSS.of(losses[-1], name))
        measures += last
        if speaking(last):
            falling.append((name, len(losses), fall))
    if not facts:
        return not_tried("cannot tell: the history has no phase called float or qat.")
    if not falling:
        return ruled_out("the learning curves are flat at their end.", measures, facts)
    words = " and ".join(
        f"{name} stopped after one epoch" if count < 2
        else f"the loss of {name} still fell by {100 * fall:.0f} % in its last epoch"
        for name, count, fall in falling
    )
    equal = evidence.case.facts is not None and evidence.case.facts.equal_budget
    if not equal:
        # What more training did for one side only is another cause.
        return not_shown(f"{words}; but the files also differ in how long they were trained.",
                         measures, facts, strength=0.1)
    return indicated(f"{words}, in equally long trainings.", measures, facts, strength=0.5)


def _train_on(evidence: Evidence, finding: Finding) -> Trial | None:
    facts = evidence.case.facts
    if facts is None or not facts.equal_budget:
        return None
    assert evidence.case.train is not None
    steps = math.ceil(len(evidence.case.train) / facts.batch_size)
    more = max(_MORE_EPOCHS, math.ceil(_MORE_STEPS / steps))
    return Trial(
        f"training both on for {more} epochs",
        again={"qat": Training("qat", extra_epochs=more),
               "ptq": Training("ptq trained on", extra_epochs=more)},
        sham={"qat": Training("qat"), "ptq": Training("ptq trained on")},
    )


RULES = (
    Rule(
        id="qat-learning-rate",
        title="QAT's learning rate does not suit",
        question="Did QAT move the weights too far, or not at all?",
        requires=("qat", "data"),
        check=_check_rate,
        rank=RATE,
        symptom="QAT starts worse than the float model and does not come back.",
        cause=(
            "Steps as large as those of the first training undo it and jump over quantization "
            "levels; steps far below one level learn nothing."
        ),
        remedy="Train QAT at a tenth of the float model's learning rate.",
        code=qat_code("better_lr"),
        makes="qat",
        met=(
            "QAT at 0.1 stays near 2 % top-1 for 150 batches; at 0.0001 it begins with 96 % "
            "(https://github.com/openvinotoolkit/nncf/issues/780)",
        ),
        source="Krishnamoorthi 2018, arXiv:1806.08342, section 5 (training best practices)",
        measures=(_RISE, _COSINE, _UNMOVED, _SPOILS),
        remedies=(Remedy("QAT with another learning rate", _TRAINED, _other_rate, trains=True),),
        note=(
            "Where neither the loss nor the weights tell, and QAT is the worse file, only the "
            "intervention does: a tenth of the float model's rate, or of its own where QAT had "
            "that, or ten times its own where the weights had not moved. One rate, decided "
            "beforehand: the best of several on the evaluation examples would flatter the remedy. "
            "Notebook 04 sweeps the rate."
        ),
        acts_on=("qat",),
        figure="learning curves",
    ),
    Rule(
        id="undertrained",
        title="training stopped far from convergence",
        question="Were the learning curves still falling when training stopped?",
        requires=("history",),
        check=_check_converged,
        rank=TRAIN_ON,
        symptom="The sign of the difference changes from seed to seed.",
        cause="Halfway down the curve each step changes many predictions, and luck decides.",
        remedy="Train the float model until its validation loss is flat, then compare.",
        code=(
            "from qinspect.train import load_keras, fit, convert\n"
            "model = load_keras(float_h5)\n"
            "fit(model, train, None, epochs=10, learning_rate=float_lr,\n"
            "    batch_size=batch_size, loss=loss, seed=0)\n"
            'content = convert(model, "int8", calibration_x)'
        ),
        makes="ptq",
        met=(
            "One epoch of float training and one of QAT: PTQ 3 % above float, QAT 3 to 4 % below "
            "it (https://discuss.tensorflow.org/t/ptq-is-better-than-qat/22608)",
            "Loss 30 to 35 % higher by QAT, PTQ near float; a maintainer asks first how long QAT "
            "was trained (https://github.com/tensorflow/model-optimization/issues/439)",
        ),
        source="Krishnamoorthi 2018, arXiv:1806.08342, section 5 (start from a trained network)",
        measures=(_FALL, _LOSS),
        remedies=(Remedy("training both on", (*_TRAINED, "ptq"), _train_on, trains=True),),
        note="Explains a gap only between equally long trainings; otherwise the difference in "
        "training is `training-budget`.",
        acts_on=("qat",),
        figure="learning curves",
    ),
)
