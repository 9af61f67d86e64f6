"""How many calibration examples, and which: asked where calibration explains the gap."""

from __future__ import annotations

import numpy as np

from qinspect.data.dataset import count, take
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.requantized import alike, requantized, some_examples
from qinspect.errors import QinspectError
from qinspect.measure.calibration_sets import CalibrationAdvice, calibration_advice
from qinspect.schema import Array
from qinspect.tflite.requantize import Ranges


def advised(evidence: Evidence) -> CalibrationAdvice | None:
    """Files calibrated with parts of the calibration set; None where that cannot be tried."""
    if evidence.case.missing(("float", "ptq", "calibration")):
        return None
    index = some_examples(evidence)
    whole = evidence.results(own=True)
    own = whole if index is None else whole.take(index)
    x = evidence.examples("calibration")
    observed = evidence.observed("calibration", "ptq")

    def scored(ranges: Ranges) -> Array:
        made = requantized(evidence, alike(evidence, "ptq", ranges), index=index)
        return evidence.scorable(made, index)

    try:
        results = own.with_outputs(full=scored(observed.over()))
        evaluated = evidence.data.x if index is None else take(evidence.data.x, index)
        ids = np.array([f"number {at}" for at in range(count(x))])
        return calibration_advice(observed, x, ids, evaluated, results, scored,
                                  seed=evidence.case.seed)
    except QinspectError:  # too few examples for subsets
        return None
