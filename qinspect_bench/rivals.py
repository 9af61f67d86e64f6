"""What others would answer: simple readings that the diagnosis is held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qinspect.diagnosis.cases import Case
from qinspect.errors import QinspectError
from qinspect.stats import Comparison

# Of the guide to TensorFlow's debugger, which suspects layers above it:
# https://www.tensorflow.org/lite/performance/quantization_debugger
_SUSPECT = 0.7
_EXAMPLES = 100

Gaps = tuple[Comparison, ...]


def debugger(case: Case, gaps: Gaps) -> str:
    """The usual reading of TensorFlow's ``QuantizationDebugger``: is there a suspected layer?

    Its error of a layer over the scale is our local error (see
    :func:`qinspect.measure.local.layer_errors`); that of the file is taken, because the debugger
    itself would convert the Keras model anew and so never see the file.
    """
    try:
        layers = case.layers(_EXAMPLES)
    except QinspectError:
        layers = None
    if layers is None or "ptq" not in layers.errors:
        return "none"
    errors = layers.errors["ptq"].errors
    local = errors.loc[errors["reference"] == "local", "rmse_over_scale"]
    return "sensitive-layer" if (local > _SUSPECT).any() else "none"


def forum(case: Case, gaps: Gaps) -> str:
    """Advice as threads give it, from the accuracies alone.

    PTQ worse than the float model: a better representative data set
    (https://github.com/tensorflow/tensorflow/issues/40935).  QAT worse than PTQ: train it longer
    (https://github.com/tensorflow/model-optimization/issues/439).  PTQ worse than QAT: that is what
    quantization-aware training is for, the layers are sensitive
    (https://www.tensorflow.org/model_optimization/guide/quantization/training).
    """
    worse = {(gap.a, gap.b): gap.worse for gap in gaps if gap.significant}
    if worse.get(("float", "ptq")) == "ptq":
        return "calibration-small"
    if "qat" in (worse.get(("ptq", "qat")), worse.get(("float", "qat"))):
        return "undertrained"
    if worse.get(("ptq", "qat")) == "ptq":
        return "sensitive-layer"
    return "none"


RIVALS: Mapping[str, Callable[[Case, Gaps], str]] = {"debugger": debugger, "forum": forum}
