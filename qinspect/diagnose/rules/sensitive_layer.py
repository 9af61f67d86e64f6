"""sensitive-layer: a few layers carry the loss."""

from __future__ import annotations

import numpy as np

from qinspect.diagnose import thresholds as t
from qinspect.diagnose.evidence import Evidence
from qinspect.diagnose.requantize import requantized, some_examples, with_stored_ranges
from qinspect.diagnose.rule import (
    LAYERS,
    Finding,
    Remedy,
    Rule,
    Trial,
    cannot_tell,
    refuted,
    supported,
)
from qinspect.measure import layer_errors
from qinspect.tflite.quantize import quantizable_layers

# Kept in float by the intervention: a remedy for more than these is not one for single layers.
_MOST_KEPT = 3


def _check(evidence: Evidence) -> Finding:
    numbers: dict[str, object] = {}
    best = None
    for role in evidence.case.roles[1:]:
        found = layer_errors(
            evidence.graph("float"), evidence.graph(role), evidence.match("float", role),
            evidence.data.x[: t.OWN_EXAMPLES], accumulated=False, histograms=False,
            num_threads=evidence.num_threads,
        ).errors  # fmt: skip
        found = found[np.isfinite(found["sqnr_db"]) & ~found["op"].isin(["SOFTMAX"])]
        if len(found) < 3:
            continue
        median = float(found["sqnr_db"].median())
        bad = found[
            found["sqnr_db"] < min(median - t.SENSITIVE_DB, t.SENSITIVE_LEVEL_DB)
        ].sort_values("sqnr_db")
        numbers |= {f"{role}_median_sqnr_db": median, f"{role}_sensitive_layers":
                    bad["layer"].tolist()[:_MOST_KEPT],
                    f"{role}_lowest_sqnr_db": float(found["sqnr_db"].min())}  # fmt: skip
        if len(bad) and role == "ptq":
            best = (role, bad.iloc[0], median)
    if not numbers:
        return cannot_tell("cannot tell: fewer than three layers can be compared.")
    if best is None:
        return refuted("no layer of the PTQ file is much worse than the others." if "ptq" in
                       evidence.case.roles else "no PTQ file to look at.", numbers)  # fmt: skip
    role, row, median = best
    return supported(
        f"layer {row['layer']} ({row['op']}) of the {role.upper()} file keeps {row['sqnr_db']:.1f} "
        f"dB of its own signal, the median layer {median:.1f} dB.", numbers, (role,),
        strength=min(0.6, 0.2 + (median - float(row["sqnr_db"])) / 40),
    )  # fmt: skip


def _keep(evidence: Evidence, finding: Finding) -> Trial | None:
    named = finding.numbers.get("ptq_sensitive_layers")
    if not named:
        return None
    graph = evidence.graph("float")
    pairs = {pair.layer: pair.a for pair in evidence.match("float", "ptq").pairs}
    allowed = {layer.index: layer for layer in quantizable_layers(graph)}
    kept = [pairs[name] for name in named if pairs.get(name) in allowed]
    if not kept:
        return None
    index = some_examples(evidence)
    ranges = with_stored_ranges(evidence, "ptq")
    prediction = requantized(evidence, ranges, dict.fromkeys(kept, "float32"), index)
    names = ", ".join(allowed[i].name for i in kept)
    return Trial(f"keeping {names} in float in the PTQ file", {"ptq": prediction}, index,
                 {"layers_kept": [allowed[i].name for i in kept]})  # fmt: skip


RULE = Rule(
    id="sensitive-layer",
    title="a few layers carry the loss",
    question="Is the error spread evenly, or do single layers make it?",
    requires=("float", "ptq|qat", "data"),
    check=_check,
    rank=LAYERS,
    symptom="PTQ loses points that no calibration brings back.",
    cause="Some layers (depthwise, first, last, sums of branches) lose far more than the others.",
    remedy="Keep these layers in float or in int16.",
    code=(
        "from qinspect.diagnose.sensitivity import sensitivity\n"
        "from qinspect.tflite import read_graph\n"
        'graph, ptq = read_graph("float.tflite"), read_graph("ptq.tflite")\n'
        "found = sensitivity(graph, x, y, quantized=ptq)\n"
        "content = found.mixed_file(found.proposal(1.0) or 0)"
    ),
    source="TensorFlow Lite documentation, Quantization debugger; Wu et al. 2020, "
    "arXiv:2004.09602, section 5.1 (partial quantization)",
    remedies=(
        Remedy("keeping layers in float", ("ptq", "float", "data"), _keep),
    ),
)  # fmt: skip
