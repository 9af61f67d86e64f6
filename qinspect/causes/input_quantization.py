"""input-quantization: the evaluation fed the file wrongly."""

from __future__ import annotations

from qinspect.diagnosis import thresholds as t
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.feeding import reproduce
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


def _check(evidence: Evidence) -> Finding:
    numbers: dict[str, object] = {}
    words, hurt, unexplained = [], [], False
    for role in evidence.case.roles:
        if not evidence.claim_pairs(role):
            continue
        found = reproduce(evidence, role)
        numbers |= {f"{role}_agreement_share": found.agreement}
        if found.mistake:
            numbers |= {
                f"{role}_mistake": found.mistake,
                f"{role}_reproduced_share": found.reproduced,
            }
            words.append(
                f"the predictions claimed for {role.upper()} {found.words} "
                f"({100 * found.reproduced:.1f} % reproduced, {100 * found.agreement:.1f} % by "
                "feeding it correctly)"
            )
            hurt.append(role)
        unexplained |= not found.mistake and found.agreement < t.SAME_PREDICTIONS
    fits, misfit = _input_ranges(evidence)
    numbers |= fits
    if words:
        return supported("; ".join(words) + ".", numbers, tuple(hurt), strength=1.0)
    if misfit:
        return supported(f"{misfit}.", numbers, strength=0.6)
    if unexplained:
        return refuted("none of the known mistakes reproduces the claimed predictions.", numbers)
    if not evidence.case.claims and not fits:
        return cannot_tell("cannot tell: needs the predictions that were obtained elsewhere, or "
                           "files with a stored input range.", numbers)
    return refuted(
        "claimed predictions are those of feeding the files correctly."
        if evidence.case.claims else "the evaluation inputs fit the files' input ranges.", numbers,
    )


def _input_ranges(evidence: Evidence) -> tuple[dict[str, object], str | None]:
    """Whether the evaluation inputs fit the range that the quantized files' inputs store."""
    x = evidence.data.x
    low, high = float(x.min()), float(x.max())
    width = max(high, 0.0) - min(low, 0.0)
    numbers: dict[str, object] = {"x_low": low, "x_high": high}
    ratios = {}
    for role in evidence.case.roles:
        bounds = _stored_input(evidence, role)
        if bounds is not None and width > 0:
            ratios[role] = (bounds[1] - bounds[0]) / width
            numbers[f"{role}_input_ratio"] = ratios[role]
    if not ratios:
        return {}, None
    off = [r for r in ratios.values() if not 1 / t.WIDE_RATIO < r < t.WIDE_RATIO]
    # When only PTQ is off it is its calibration; when all are, it is what they are fed now.
    if len(off) == len(ratios) and len(ratios) > 1 and max(off) / min(off) < t.WIDE_RATIO:
        return numbers, (
            f"the evaluation inputs run from {low:g} to {high:g}, but all quantized files store an "
            f"input range {off[0]:.3g} times as wide"
        )
    return numbers, None


def _stored_input(evidence: Evidence, role: str) -> tuple[float, float] | None:
    """Real range of the first quantized tensor behind a file's input."""
    main = evidence.graph(role).main
    first = main.inputs[0]
    found = main.tensors[first].stored_range
    if found is not None:
        return found
    for op in main.operators:
        if op.code == "QUANTIZE" and op.inputs and op.inputs[0] == first:
            return main.tensors[op.outputs[0]].stored_range
    return None


def _correctly(evidence: Evidence, finding: Finding) -> Trial | None:
    if not finding.harms:
        return None
    swaps = {role: evidence.evaluation(role).prediction for role in finding.harms}
    return Trial("feeding round(x / scale) + zero point, clipped, to the file", swaps)


RULE = Rule(
    id="input-quantization",
    title="the evaluation fed the file wrongly",
    question="Were the inputs quantized and preprocessed as the file expects?",
    requires=("data",),
    check=_check,
    rank=EVALUATION,
    symptom="A quantized file loses many points or falls to chance, in one script only.",
    cause=(
        "An integer input takes round(x / scale) + zero point, clipped; casting, truncating, "
        "wrapping around or scaling twice feeds other numbers."
    ),
    remedy="Quantize inputs with the file's own scale and zero point, after one preprocessing.",
    code=(
        "from qinspect.tflite import evaluate\n"
        "# x in the units of the float model's input, whatever the file takes\n"
        'prediction = evaluate("ptq.tflite", x).prediction'
    ),
    source="TensorFlow Lite 8-bit quantization specification",
    remedies=(Remedy("a correct evaluation", ("data", "claims"), _correctly),),
)
