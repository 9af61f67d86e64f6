"""stale-observers: QAT stored activation ranges that its observers had not yet learned."""

from __future__ import annotations

import numpy as np
import pandas as pd

from qinspect.diagnosis import retrain
from qinspect.diagnosis import thresholds as t
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.rule import (
    OBSERVERS,
    Finding,
    Remedy,
    Rule,
    Trial,
    cannot_tell,
    refuted,
    supported,
)
from qinspect.schema import Array
from qinspect.tflite.origin import near_start

# tfmot's moving average of ranges.
_DECAY = 0.999


def _check(evidence: Evidence) -> Finding:
    own = evidence.own_activations("qat")
    if own.empty:
        return cannot_tell("the QAT file stores no activation ranges.")
    lost = _bits_lost(own["min"], own["max"], own["stored_min"], own["stored_max"])
    numbers = {
        "bits_lost_median": float(np.median(lost)),
        "bits_lost_worst": float(lost.max()),
        "near_start_share": float(np.mean([near_start(scale) for scale in own["scale"]])),
        "layers": len(own),
    }
    if evidence.case.has("ptq"):
        other = evidence.own_activations("ptq")
        if not other.empty:
            numbers["ptq_bits_lost_median"] = float(np.median(
                _bits_lost(other["min"], other["max"], other["stored_min"], other["stored_max"])
            ))
    clipped = 0.0
    if evidence.case.has("float"):
        seen = evidence.ranges("qat", "evaluation")
        seen = seen[seen["kind"] == "activation"]
        if len(seen):
            clipped = float((seen["ratio"] < 0.5).mean())
        numbers["clipping_layers_share"] = clipped
    history = evidence.case.history
    if history is not None and "qat" in set(history["phase"]):
        steps = int(history.loc[history["phase"] == "qat", "steps"].max())
        numbers |= {"qat_steps": steps, "start_value_left_share": _DECAY**steps}
    numbers |= _logged(evidence)
    left = numbers.get("start_value_left_share")
    tail = "" if left is None else (
        f"; after {numbers['qat_steps']:,} steps {100 * left:.0f} % of the start value is left"
    )
    usual = numbers.get("ptq_bits_lost_median", 0.0)
    # What PTQ leaves unused is what these layers leave unused, unless its own ranges are wrong.
    usual = usual if 0 < usual < t.STALE_BITS else 0.0
    excess = numbers["bits_lost_median"] - usual
    if excess >= t.STALE_BITS:
        return supported(
            f"the QAT file's activation ranges are {2 ** numbers['bits_lost_median']:.1f} times as "
            f"wide as what flows through them, {numbers['bits_lost_median']:.1f} of 8 bits unused "
            f"(median over {len(own)} layers){tail}.", numbers, ("qat",),
            strength=min(0.75, 0.45 + excess / 6),
        )
    if clipped >= t.LAYER_SHARE:
        return supported(
            f"{100 * clipped:.0f} % of the QAT file's activation ranges are less than half as wide "
            f"as the float model's activations, which are clipped{tail}.", numbers, ("qat",),
            strength=min(0.75, 0.45 + clipped / 2),
        )
    return refuted(
        f"the QAT file's ranges fit: {numbers['bits_lost_median']:.1f} bits unused in the median "
        f"layer{tail}.", numbers,
    )


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


def _bits_lost(least: pd.Series, most: pd.Series, first: pd.Series, last: pd.Series) -> Array:
    low, high = np.minimum(least, 0), np.maximum(most, 0)
    width = last - first
    used = np.maximum(high - low, width / 256)
    return np.asarray(np.log2(width / used), dtype=np.float64)


def _warm(evidence: Evidence, finding: Finding) -> Trial | None:
    return Trial(
        "training QAT again with ranges set from calibration examples first",
        {"qat": retrain.qat_again(evidence, warm_start=True)},
        controls=retrain.controls(evidence, "qat"),
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
    code=(
        "from qinspect.train import load_keras, quantize_aware, fit_qat, convert_qat\n"
        'qat = quantize_aware(load_keras("float.h5"))\n'
        "fit_qat(qat, train, None, epochs=qat_epochs, learning_rate=qat_lr, seed=0,\n"
        "        warm_start_x=calibration_x)\n"
        "content = convert_qat(qat)"
    ),
    source=(
        "TensorFlow Model Optimization 0.8, MovingAverageQuantizer; Jacob et al. 2018, "
        "arXiv:1712.05877, section 3.1 (ranges by moving averages, quantization switched on late)"
    ),
    remedies=(
        Remedy("QAT with warm-started ranges", ("qat", "keras_float", "train", "recipe"), _warm,
               trains=True),
    ),
)
