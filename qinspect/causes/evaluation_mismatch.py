"""evaluation-mismatch: the models were scored on other examples, in another order or numbering."""

from __future__ import annotations

import numpy as np

from qinspect.diagnosis import thresholds as t
from qinspect.diagnosis.cases import Claim
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.feeding import reproduce
from qinspect.diagnosis.rule import EVALUATION, Finding, Remedy, Rule, Trial, refuted, supported
from qinspect.schema import Array


def _check(evidence: Evidence) -> Finding:
    numbers: dict[str, object] = {}
    words, hurt = [], []
    for role, claim in evidence.case.claims.items():
        if role not in evidence.case.roles:
            continue
        own = evidence.evaluation(role).prediction
        problem = _problem(claim, own, evidence.data.ids, evidence.data.y)
        if len(claim.prediction) == len(own):
            found = reproduce(evidence, role)
            numbers[f"{role}_agreement_share"] = found.agreement
            if not problem and not found.mistake and found.agreement < t.SAME_PREDICTIONS:
                problem = (
                    f"are those of the file for {100 * found.agreement:.1f} % of examples only, "
                    "and no known mistake of feeding it explains the rest: another file, other "
                    "examples or another preprocessing"
                )
        if problem:
            words.append(f"the predictions claimed for {role.upper()} {problem}")
            hurt.append(role)
    if not words:
        return refuted("claimed and repeated predictions are of the same examples in the same "
                       "order.", numbers)
    return supported("; ".join(words) + ".", numbers, tuple(hurt), strength=1.0)


def _problem(claim: Claim, own: Array, ids: Array, y: Array) -> str | None:
    """What is wrong with which examples a claim is of, or None."""
    m, n = len(claim.prediction), len(own)
    if claim.ids is not None and not np.array_equal(claim.ids, ids):
        common = len(set(claim.ids.tolist()) & set(ids.tolist()))
        if common < max(m, n):
            return f"are of {m:,} examples, of which {common:,} are among the {n:,} evaluated here"
        if claim.y is None:
            return "are in another order than the labels they were scored against"
    if m != n:
        return f"are {m:,} in number, the evaluation has {n:,} examples"
    same = float(np.mean(claim.prediction == own))
    if claim.y is not None and claim.ids is None and not np.array_equal(claim.y, y):
        differ = float(np.mean(claim.y != y))
        return f"were scored against labels that differ in {100 * differ:.1f} % of examples"
    if same >= t.SAME_PREDICTIONS:
        return None
    if np.mean(claim.prediction[::-1] == own) >= t.RELABELLED:
        return "are in reversed order"
    shift = _relabelling(claim.prediction, own)
    if shift:
        return shift
    if _shuffled(claim.prediction, own):
        return "have the right number of each class but at other examples: the order was lost"
    return None


def _relabelling(claimed: Array, own: Array) -> str | None:
    """A one-to-one renumbering of classes that turns one into the other."""
    top = int(max(claimed.max(), own.max())) + 1
    if top > 10_000 or claimed.min() < 0:
        return None
    offset = int(np.median(claimed - own))
    if offset and np.mean(claimed == own + offset) >= t.RELABELLED:
        return f"number the classes {offset:+d} against the labels"
    table = np.zeros((top, top), dtype=np.int64)
    np.add.at(table, (own, claimed), 1)
    best = table.argmax(axis=1)
    seen = table.sum(axis=1) > 0
    one_to_one = len(set(best[seen].tolist())) == int(seen.sum())
    explained = table.max(axis=1).sum() / len(own)
    if one_to_one and explained >= t.RELABELLED and np.any(best[seen] != np.flatnonzero(seen)):
        return "number the classes differently from the labels"
    return None


def _shuffled(claimed: Array, own: Array) -> bool:
    """The same number of each class, which another model would not give, at other examples."""
    top = int(max(claimed.max(), own.max())) + 1
    if claimed.min() < 0 or top > 10_000:
        return False
    a, b = np.bincount(claimed, minlength=top), np.bincount(own, minlength=top)
    few = 2 * (1 - t.SAME_PREDICTIONS) * len(own) / 5
    return bool(np.abs(a - b).sum() <= few and np.mean(claimed == own) < t.REORDERED)


def _same_examples(evidence: Evidence, finding: Finding) -> Trial | None:
    swaps = {role: evidence.evaluation(role).prediction for role in finding.harms}
    return Trial("scoring all files on the same examples in the same order", swaps)


RULE = Rule(
    id="evaluation-mismatch",
    title="the models were not scored on the same examples",
    question="Do claimed predictions belong to these examples, in this order?",
    requires=("data", "claims"),
    check=_check,
    rank=EVALUATION,
    symptom="One model falls to chance or differs by many points, without a reason in its file.",
    cause=(
        "Predictions and labels were paired wrongly: a shuffled data set read twice, another "
        "split, classes numbered from 1."
    ),
    remedy="Evaluate every file on one array of examples, and keep ids beside predictions.",
    code=(
        "from qinspect.tflite import evaluate\n"
        "correct = {name: evaluate(name, x).prediction == y\n"
        '           for name in ("float.tflite", "ptq.tflite", "qat.tflite")}'
    ),
    source="Dietterich 1998, doi:10.1162/089976698300017197 (paired tests on one test set)",
    remedies=(Remedy("the same examples for all", ("data", "claims"), _same_examples),),
)
