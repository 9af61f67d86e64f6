"""different-network: the files do not hold the weights of one network."""

from __future__ import annotations

from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.requantized import calibration_source, requantized
from qinspect.diagnosis.rule import (
    FORMAT,
    Finding,
    Remedy,
    Rule,
    Trial,
    cannot_tell,
    refuted,
    supported,
)

# Clipped or corrected biases make no other network.
_SAME = frozenset({"same weights", "same weights, different biases"})


def _check(evidence: Evidence) -> Finding:
    roles = evidence.case.roles
    if "float" not in roles:
        found = evidence.lineage("ptq", "qat")
        seen = {"ptq_qat_lineage": found.verdict}
        if found.verdict == "unrelated":
            return supported("PTQ and QAT hold the weights of unrelated networks.", seen,
                             strength=0.9)
        if found.verdict in _SAME:
            return refuted("PTQ and QAT hold the same weights.", seen)
        return cannot_tell(
            f"the QAT weights are {found.verdict} those of PTQ; that PTQ has the right parent "
            "needs the float .tflite file.", {**seen, "missing": ["the float .tflite file"]},
        )
    numbers: dict[str, object] = {}
    wrong = []
    for role in roles[1:]:
        found = evidence.lineage("float", role)
        numbers[f"float_{role}_lineage"] = found.verdict
        cosines = sorted(row.cosine for row in found.layers if row.cosine == row.cosine)
        if cosines:
            numbers[f"float_{role}_cosine_median"] = cosines[len(cosines) // 2]
        # PTQ must hold the float weights; QAT may have moved them, but not replaced them.
        if found.verdict == "unrelated" or (role == "ptq" and found.verdict not in _SAME):
            wrong.append((role, found))
    if not wrong:
        words = "PTQ holds the float model's weights and QAT descends from them."
        if len(roles) < 3:
            words = "the files descend from one network."
        return refuted(words, numbers)
    listed = "; ".join(
        f"the {role.upper()} file against the float file: {found.verdict} ({found.reasons[0]})"
        for role, found in wrong
    )
    return supported(f"{listed}.", numbers, strength=0.9)


def _right_parent(evidence: Evidence, finding: Finding) -> Trial | None:
    if finding.numbers.get("float_ptq_lineage", "same weights") in _SAME:
        return None
    source, words = calibration_source(evidence)
    prediction = requantized(evidence, evidence.observed(source).over())
    return Trial(f"quantizing the float file at hand (calibrated with {words})",
                 {"ptq": prediction})


RULE = Rule(
    id="different-network",
    title="the files are not one network",
    question="Do the files share their weights?",
    requires=("ptq|float", "qat|ptq"),
    check=_check,
    rank=FORMAT,
    symptom="The difference is large, or changes sign from one run of the script to the next.",
    cause="A file was made from another run, another checkpoint or another architecture.",
    remedy="Make every file from the same float checkpoint, and keep them together.",
    code=(
        "from qinspect.tflite.ancestry import lineage\n"
        'print(lineage("float.tflite", "ptq.tflite").verdict)'
    ),
    source="docs/lineage.md (measured distribution of weight similarities)",
    remedies=(
        Remedy("PTQ of the float file at hand", ("ptq", "float", "data"), _right_parent),
    ),
)
