"""different-network: the files do not hold the weights of one network."""

from __future__ import annotations

from qinspect.diagnosis.evidence import SAME_WEIGHTS, Evidence
from qinspect.diagnosis.requantized import (
    alike,
    calibration_source,
    requantized,
    with_weights_of,
)
from qinspect.diagnosis.rule import (
    FORMAT,
    PTQ_CODE,
    PTQ_OF_FILES,
    Finding,
    Measure,
    Remedy,
    Rule,
    Trial,
    indicated,
    not_tried,
    ruled_out,
)

_OTHER = Measure(
    "{role}_other_network", "not of the network that it should come from", threshold=True,
    side="above",
    basis="PTQ must hold the weights of the float file, QAT may have moved them; how weights are "
    "told apart is measured in docs/lineage.md",
)


def _check(evidence: Evidence) -> Finding:
    roles = evidence.case.roles
    if "float" not in roles:
        found = evidence.lineage("ptq", "qat")
        seen: dict[str, object] = {"ptq_qat_lineage": found.verdict}
        if found.verdict == "unrelated":
            return indicated("PTQ and QAT hold the weights of unrelated networks.",
                             [_OTHER.of(True, "qat")], seen, strength=0.9)
        if found.verdict in SAME_WEIGHTS:
            return ruled_out("PTQ and QAT hold the same weights.", [_OTHER.of(False, "qat")], seen)
        return not_tried(
            f"the QAT weights are {found.verdict} those of PTQ; that PTQ has the right parent "
            "needs the float .tflite file.", (), {**seen, "missing": ["the float .tflite file"]},
        )
    facts: dict[str, object] = {}
    measures, wrong = [], []
    for role in roles[1:]:
        found = evidence.lineage("float", role)
        facts[f"float_{role}_lineage"] = found.verdict
        cosines = sorted(row.cosine for row in found.layers if row.cosine == row.cosine)
        if cosines:
            facts[f"float_{role}_cosine_median"] = cosines[len(cosines) // 2]
        # PTQ must hold the float weights; QAT may have moved them, but not replaced them.
        # Of weights that are no numbers non-finite-weights speaks, if all the others agree.
        known = {row.state for row in found.layers} - {"unreadable"}
        other = role == "ptq" and found.verdict not in SAME_WEIGHTS and known != {"identical"}
        measures.append(_OTHER.of(found.verdict == "unrelated" or other, role))
        if measures[-1].speaks:
            wrong.append((role, found))
    if not wrong:
        words = "PTQ holds the float model's weights and QAT descends from them."
        if len(roles) < 3:
            words = "the files descend from one network."
        return ruled_out(words, measures, facts)
    listed = "; ".join(
        f"the {role.upper()} file against the float file: {found.verdict} ({found.reasons[0]})"
        for role, found in wrong
    )
    return indicated(f"{listed}.", measures, facts, strength=0.9,
                     of=tuple(role for role, _ in wrong))


def _right_parent(evidence: Evidence, finding: Finding) -> Trial | None:
    if finding.numbers.get("float_ptq_lineage", "same weights") in SAME_WEIGHTS:
        return None
    source, words = calibration_source(evidence)
    ranges = alike(evidence, "ptq", evidence.observed(source).over())
    return Trial(f"quantizing the float file at hand (calibrated with {words}) instead of PTQ's "
                 "weights", {"ptq": requantized(evidence, ranges, role="float")},
                 controls={"ptq": with_weights_of(evidence, "ptq", source)})


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
    code=PTQ_CODE,
    code_of_files=PTQ_OF_FILES,
    makes="ptq",
    met=(
        "EfficientNet-B4 at 79.7 instead of 82.6 %: the last weights were read, not their moving "
        "averages (https://github.com/qubvel/efficientnet/issues/19)",
    ),
    source="docs/lineage.md (measured distribution of weight similarities)",
    measures=(_OTHER,),
    remedies=(Remedy("PTQ of the float file at hand", ("ptq", "float", "data"), _right_parent),),
    note="Both sets of weights are quantized in the same way, each with ranges of its own "
    "activations, so that the weights alone are exchanged.",
    figure="weights",
)
