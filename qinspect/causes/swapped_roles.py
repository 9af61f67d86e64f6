"""swapped-roles: the file given as PTQ is the QAT file, and the other way round."""

from __future__ import annotations

from collections.abc import Mapping

from qinspect.diagnosis.evidence import SAME_WEIGHTS, Evidence
from qinspect.diagnosis.rule import (
    EVALUATION,
    Finding,
    Measure,
    Remedy,
    Rule,
    Trial,
    indicated,
    ruled_out,
    speaking,
    together,
)

_TRAINED = Measure(
    "ptq_quantized_in_training", "the file given as PTQ comes from quantization-aware training",
    threshold=True, side="above",
    basis="what its own numbers say of its origin, unless with low confidence; where they say "
    "nothing, that it was fine-tuned from the float file whose weights QAT holds",
)
_AFTERWARDS = Measure(
    "qat_quantized_after_training", "the file given as QAT was quantized after training",
    threshold=True, side="above",
    basis="what its own numbers say of its origin, unless with low confidence",
)
_MOVED = Measure(
    "ptq_weights_moved", "the PTQ file holds other weights than the float file",
    threshold=True, side="above",
    basis="asked where the converter did not record the origin of both files",
)
_STRENGTH = {"certain": 0.95, "high": 0.9, "medium": 0.7, "low": 0.6}


def _check(evidence: Evidence) -> Finding:
    ptq, qat = (evidence.identification(role).origin for role in ("ptq", "qat"))
    facts: dict[str, object] = {
        "ptq_origin": ptq.value, "ptq_origin_confidence": ptq.confidence,
        "qat_origin": qat.value, "qat_origin_confidence": qat.confidence,
    }
    recorded = {ptq.confidence, qat.confidence} == {"certain"}
    known = ptq.value if ptq.confidence != "low" else "unknown"
    after = _AFTERWARDS.of(qat.value == "ptq" and qat.confidence != "low")
    measures: tuple[Measure, ...] = (_TRAINED.of(known == "qat"), after)
    if "float" in evidence.case.roles and not recorded:
        facts |= {f"float_{role}_lineage": evidence.lineage("float", role).verdict
                  for role in ("ptq", "qat")}
        tuned = known == "unknown" and _weights_agree(facts)
        measures = (_TRAINED.of(known == "qat" or tuned), after,
                    _MOVED.of(facts["float_ptq_lineage"] not in SAME_WEIGHTS))
    measures = together(*measures)
    if not speaking(measures):
        return ruled_out("nothing says that the PTQ and the QAT file stand in each other's place.",
                         measures, facts)
    why = (ptq.reasons[0] if known == "qat" else
           "it was fine-tuned from the float file, whose own weights the QAT file holds")
    return indicated(
        f"the file given as PTQ comes from quantization-aware training ({why}), and the one given "
        f"as QAT was quantized after training ({qat.reasons[0]}).", measures, facts,
        strength=min(_STRENGTH[ptq.confidence], _STRENGTH[qat.confidence]),
    )


def _weights_agree(facts: Mapping[str, object]) -> bool:
    """Whether the float file's own weights are in the QAT file, and trained ones in PTQ."""
    return (facts.get("float_ptq_lineage") == "fine-tuned from"
            and facts.get("float_qat_lineage") in SAME_WEIGHTS)


def _exchange(evidence: Evidence, finding: Finding) -> Trial | None:
    """The other file's answers; origins beyond doubt, or the weights, have shown the cause."""
    facts = finding.facts
    origins = {facts["ptq_origin_confidence"], facts["qat_origin_confidence"]}
    if not origins <= {"certain", "high"} and not _weights_agree(facts):
        return None
    gap = evidence.results(own=True).contrast({"ptq": 1.0, "qat": -1.0})[0]
    better = "QAT" if evidence.metric.better * gap > 0 else "PTQ"
    return Trial(f"exchanging the two names, with which {better} is better by "
                 f"{evidence.metric.size(gap)}",
                 {"ptq": evidence.own_answers("qat"), "qat": evidence.own_answers("ptq")},
                 shown=True)


RULE = Rule(
    id="swapped-roles",
    title="the PTQ and the QAT file are exchanged",
    question="Is the file given as PTQ the one that was quantized after training?",
    requires=("ptq", "qat"),
    check=_check,
    rank=EVALUATION,
    symptom="QAT loses to PTQ by as much as it was expected to win, or the other way round.",
    cause="The names of the two files were mixed up, so that the gap has the wrong sign.",
    remedy="Exchange the two names.",
    code=(
        "import qinspect as qi\n"
        "found = qi.inspect(*files)\n"
        'print(found.frame[["file", "origin", "confidence"]])'
    ),
    makes="evaluation",
    source="docs/lineage.md (measured distribution of weight similarities)",
    measures=(_TRAINED, _AFTERWARDS, _MOVED),
    remedies=(Remedy("exchanging the names", ("ptq", "qat", "data"), _exchange),),
    note="All must hold. It is asked with or without a gap, because every other answer would be "
    "about the wrong file. Proved where the origin of both files is beyond doubt, or "
    "the float file's weights agree.",
    every_file=True,
)
