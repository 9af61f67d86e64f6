"""stale-observers: QAT stored activation ranges that its observers had not yet learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.requantized import OTHER_RANGES
from qinspect.diagnosis.retrain import Training
from qinspect.diagnosis.rule import (
    OBSERVERS,
    Finding,
    Measure,
    Remedy,
    Rule,
    Trial,
    does_not_apply,
    indicated,
    qat_code,
    ruled_out,
)
from qinspect.errors import ModelFileError
from qinspect.measure.ranges import LAYER_SHARE, NARROW, STALE_BITS, bits_unused
from qinspect.schema import Array
from qinspect.tflite.origin import OBSERVER_DECAY, near_start

_EXCESS = Measure(
    "bits_lost_excess", "bits unused, median of layers, beyond what PTQ leaves unused",
    threshold=STALE_BITS, side="above",
    basis="measured: PTQ 0 to 0.3, QAT from default observers after 113 to 375 steps 1 and more",
)
_CLIPPING = Measure(
    "clipping_layers_share", "share of layers whose range is less than half of what flows",
    threshold=LAYER_SHARE, side="above", basis="chosen",
)
# Of classes the greatest score counts, which survives much cutting off; of values each one.
_OUTPUT_CUT = Measure(
    "output_cut_share", "share of examples whose output value is cut off", threshold=0.1,
    side="above",
    basis="chosen: PTQ 0 to 0.01, a regression whose QAT lost a sixth to clipping 0.36",
)


def _check(evidence: Evidence) -> Finding:
    own = evidence.own_activations("qat")
    if own.empty:
        return does_not_apply("the QAT file stores no activation ranges.")
    origin = evidence.identification("qat").origin
    if (origin.value, origin.confidence) == ("ptq", "certain"):
        return does_not_apply("the QAT file's ranges are not those of observers: it was quantized "
                              f"after training ({origin.reasons[0]}).")
    lost = _unused(own)
    unused = float(np.median(lost))
    facts: dict[str, Any] = {
        "bits_lost_median": unused,
        "bits_lost_worst": float(lost.max()),
        "near_start_share": float(np.mean([near_start(scale) for scale in own["scale"]])),
        "layers": len(own),
    }
    usual = 0.0
    if evidence.case.has("ptq"):
        other = evidence.own_activations("ptq")
        if not other.empty:
            usual = facts["ptq_bits_lost_median"] = float(np.median(_unused(other)))
    # What PTQ leaves unused is what these layers leave unused, unless its own ranges are wrong.
    usual = usual if 0 < usual < STALE_BITS else 0.0
    measures = [_EXCESS.of(unused - usual)]
    if (seen := _against_own_weights(evidence)) is not None:
        measures.append(_CLIPPING.of(float((seen["ratio"] < NARROW).mean()) if len(seen) else 0.0))
        if not evidence.of_classes and len(seen):
            measures.append(_OUTPUT_CUT.of(float(seen["beyond_share"].iloc[-1])))
    tail, known = _left_of_start(evidence)
    facts |= known | _logged(evidence)
    cut = next((one for one in measures if one.id == _OUTPUT_CUT.id and one.speaks), None)
    if cut is not None:
        share = float(cut.value or 0)
        also = (f"; its other ranges are {2 ** unused:.1f} times as wide as what flows through them"
                if measures[0].speaks else "")
        return indicated(
            f"the range of the QAT file's output cuts off what its weights give in float on "
            f"{100 * share:.0f} % of the examples{also}{tail}.", measures, facts, ("qat",),
            strength=min(0.75, 0.45 + share),
        )
    if measures[0].speaks:
        return indicated(
            f"the QAT file's activation ranges are {2 ** unused:.1f} times as wide as what flows "
            f"through them, {unused:.1f} of 8 bits unused (median over {len(own)} layers){tail}.",
            measures, facts, ("qat",), strength=min(0.75, 0.45 + (unused - usual) / 6),
        )
    if len(measures) > 1 and measures[1].speaks:
        clipped = float(measures[1].value or 0)
        return indicated(
            f"{100 * clipped:.0f} % of the QAT file's activation ranges are less than half as wide "
            f"as what flows through them in float, which is clipped{tail}.", measures, facts,
            ("qat",), strength=min(0.75, 0.45 + clipped / 2),
        )
    return ruled_out(
        f"the QAT file's ranges fit: {unused:.1f} bits unused in the median layer{tail}.",
        measures, facts,
    )


def _against_own_weights(evidence: Evidence) -> pd.DataFrame | None:
    """QAT's ranges against what flows in float with its own weights; None where that is unknown.

    What flows with those of another network, or before they were moved, says nothing of them.
    """
    if not evidence.case.has("float"):
        return None
    try:
        seen = evidence.ranges("qat", "evaluation")
    except ModelFileError:  # a layer has no counterpart in the float file
        return None
    return seen[seen["kind"] == "activation"]


def _left_of_start(evidence: Evidence) -> tuple[str, dict[str, float]]:
    """How much of the observers' start value is left after the steps of the history, in words."""
    steps = evidence.case.steps("qat")
    if steps is None:
        return "", {}
    left = OBSERVER_DECAY**steps
    return (f"; after {steps:,} steps {100 * left:.0f} % of the start value is left",
            {"qat_steps": steps, "start_value_left_share": left})


def _logged(evidence: Evidence) -> dict[str, float]:
    """How far the logged activation ranges went from where they started, median over layers."""
    log = evidence.case.observers
    if log is None or "qat" not in set(log.get("phase", ())):
        return {}
    log = log[(log["phase"] == "qat") & (log["kind"] == "activation")].sort_values("step")
    ends = log.assign(width=log["max"] - log["min"]).groupby(["layer", "tensor"])["width"]
    return {
        "logged_width_first": float(ends.first().median()),
        "logged_width_last": float(ends.last().median()),
    }


def _unused(tensors: pd.DataFrame) -> Array:
    """Bits of each stored range that the values seen leave unused."""
    return bits_unused(*(tensors[end].to_numpy() for end in
                         ("min", "max", "stored_min", "stored_max")))


def _warm(evidence: Evidence, finding: Finding) -> Trial | None:
    return Trial(
        "training QAT again with ranges set from calibration examples first",
        again={"qat": Training("qat", warm_start=True)}, sham={"qat": Training("qat")},
    )


RULE = Rule(
    id="stale-observers",
    title="QAT's activation ranges are still near their start value",
    question="Do the ranges that QAT stored fit the values that flow through the layers?",
    requires=("qat", "data"),
    check=_check,
    rank=OBSERVERS,
    symptom="QAT loses to PTQ after a short training, the more so with unscaled inputs.",
    cause=(
        "tfmot's observers start at -6 to 6 and move by a thousandth a step; until they arrive QAT "
        "trains and stores ranges that are too wide (few levels) or too narrow (clipping)."
    ),
    remedy="Set the ranges from a calibration pass before the first QAT step.",
    code=qat_code(warm=True),
    makes="qat",
    met=(
        "MobileNet: 97 % in Keras, 0.20 % as a file; at decay 0.999 a start value takes about "
        "1,000 steps to fade (https://github.com/tensorflow/model-optimization/issues/368)",
    ),
    source=(
        "TensorFlow Model Optimization 0.8, MovingAverageQuantizer; Jacob et al. 2018, "
        "arXiv:1712.05877, section 3.1 (ranges by moving averages, quantization switched on late)"
    ),
    measures=(_EXCESS, _CLIPPING, _OUTPUT_CUT),
    remedies=(
        Remedy("QAT with warm-started ranges", ("qat", "keras_float", "train", "recipe"), _warm,
               trains=True),
        OTHER_RANGES,
    ),
    note="Where QAT cannot be trained again, its weights are quantized twice, with the ranges that "
    "it stores and with calibrated ones: nothing but the ranges differs. What flows is measured in "
    "float with its own weights.",
    figure="QAT ranges",
)
