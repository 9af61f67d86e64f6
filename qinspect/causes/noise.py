"""noise: the gap may be chance."""

from __future__ import annotations

from qinspect.diagnosis import retrain
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.rule import (
    EVALUATION,
    Finding,
    Remedy,
    Rule,
    Trial,
    cannot_tell,
    refuted,
    supported,
)
from qinspect.verdicts import p_words


def _check(evidence: Evidence) -> Finding:
    roles = evidence.case.roles
    a, b = ("ptq", "qat") if {"ptq", "qat"} <= set(roles) else roles[:2]
    c = evidence.comparison(a, b)
    numbers = {
        "gap_pp": c.diff_pp, "low_pp": c.ci_pp[0], "high_pp": c.ci_pp[1], "p": c.p,
        "only_a_right": c.a_only, "only_b_right": c.b_only, "smallest_detectable_pp": c.mde_pp,
        "examples": c.n,
    }
    if c.verdict in ("a_better", "b_better"):
        return refuted(
            f"the difference is real on these {c.n:,} examples ({p_words(c.p)}); whether "
            "it comes back with another training seed only more seeds can tell.", numbers,
        )
    if c.verdict == "equivalent":
        return refuted(
            f"{a} and {b} are equal within {c.margin_pp:g} points; there is no gap.", numbers
        )
    if c.ci_pp[0] <= 0 <= c.ci_pp[1]:
        return supported(
            f"the interval of {b} minus {a} holds zero; with {c.n:,} examples of which "
            f"{c.a_only + c.b_only} decide, a gap under {c.mde_pp:.1f} points is likely to be "
            "missed or made up.", numbers, strength=1.0,
        )
    return cannot_tell("the interval leaves out zero but the exact test does not reject.", numbers)


def _other_order(evidence: Evidence, finding: Finding) -> Trial | None:
    return Trial(
        "training QAT again with its batches in another order",
        {"qat": retrain.qat_again(evidence, seed_shift=1)},
        controls=retrain.controls(evidence, "qat"),
    )


RULE = Rule(
    id="noise",
    title="the gap may be chance",
    question="Is the gap larger than sampling alone gives?",
    requires=("data",),
    check=_check,
    rank=EVALUATION,
    symptom="One model is a little ahead, and with other examples or another seed the other is.",
    cause="A few examples decide, and any two models that agree mostly differ on some by luck.",
    remedy="Evaluate on more examples, and repeat the training over several seeds.",
    code=(
        "from qinspect.stats import examples_needed\n"
        "# disagreement: share of examples that only one of the two models gets right\n"
        "print(examples_needed(0.01, 0.05))"
    ),
    source="McNemar 1947, doi:10.1007/BF02295996; Tango 1998, Statistics in Medicine 17, 891-908",
    remedies=(
        Remedy("QAT with another batch order", ("qat", "keras_float", "train", "recipe"),
               _other_order, trains=True),
    ),
)
