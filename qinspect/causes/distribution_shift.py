"""distribution-shift: the evaluation examples are not like the training examples."""

from __future__ import annotations

import numpy as np
from scipy.stats import ks_2samp

from qinspect.diagnosis import thresholds as t
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.rule import TRAIN_ON, Finding, Rule, refuted, supported
from qinspect.schema import Array
from qinspect.tflite.graph import Graph


def _check(evidence: Evidence) -> Finding:
    here, there = evidence.observed("evaluation"), evidence.observed("train")
    distances = {}
    scores = _scores(evidence.graph("float"))
    for at, name in enumerate(here.names):
        if name in scores:
            continue
        both = ((here.low[:, at], there.low[:, at]), (here.high[:, at], there.high[:, at]))
        distances[name] = max(float(ks_2samp(a, b, method="asymp").statistic) for a, b in both)
    worst = max(distances, key=lambda name: distances[name])
    numbers: dict[str, object] = {
        "largest_distance": distances[worst],
        "tensor": worst,
        "median_distance": float(np.median(list(distances.values()))),
    }
    if distances[worst] < t.SHIFT_DISTANCE:
        return refuted(
            "activations on evaluation and training examples are alike (largest "
            f"Kolmogorov-Smirnov distance {distances[worst]:.2f}).", numbers,
        )
    typical = _typical(here.high, there.high)
    a, b = _pair(evidence)
    if len(typical) == len(evidence.data):
        for name, part in (("typical", typical), ("unusual", ~typical)):
            gap = evidence.correct(b)[part].mean() - evidence.correct(a)[part].mean()
            numbers[f"gap_on_{name}_half_pp"] = 100 * float(gap)
    return supported(
        f"the float model's activations on evaluation examples are not those on training examples "
        f"(Kolmogorov-Smirnov distance {distances[worst]:.2f} at {worst}).", numbers,
        strength=min(0.7, 0.3 + distances[worst] / 2),
    )


def _scores(graph: Graph) -> set[str]:
    """Names of the network's outputs and of what a final softmax takes.

    They are larger on the examples that they were fitted to, whatever examples come later.
    """
    main = graph.main
    found = set(main.outputs)
    for op in main.operators:
        if op.code in ("SOFTMAX", "LOGISTIC") and found & set(op.outputs):
            found |= set(op.inputs)
    return {main.tensors[index].name for index in found}


def _typical(here: Array, there: Array) -> Array:
    """The half of the evaluation examples whose activations are nearest to the training medians."""
    centre = np.median(there, axis=0)
    spread = np.median(np.abs(there - centre), axis=0) + 1e-12
    away = np.median(np.abs(here - centre) / spread, axis=1)
    return np.asarray(away <= np.median(away))


def _pair(evidence: Evidence) -> tuple[str, str]:
    roles = evidence.case.roles
    return ("ptq", "qat") if {"ptq", "qat"} <= set(roles) else (roles[0], roles[1])


RULE = Rule(
    id="distribution-shift",
    title="evaluation examples differ from training examples",
    question="Do the layers see on evaluation examples what they saw in training?",
    requires=("float", "data", "train"),
    check=_check,
    rank=TRAIN_ON,
    symptom="Rankings on these examples do not hold on others.",
    cause=(
        "Ranges and weights were fitted to other data; which of two files suffers less is decided "
        "by how its ranges happen to lie."
    ),
    remedy="Compare on examples like those of the use, and calibrate with such examples.",
    code=(
        "from qinspect.measure.activations import activation_statistics\n"
        "from qinspect.tflite import read_graph\n"
        'graph = read_graph("float.tflite")\n'
        'print(activation_statistics(graph, x).tensors[["layer", "min", "max", "mean", "std"]])'
    ),
    source="Hendrycks & Dietterich 2019, arXiv:1903.12261 (accuracy under shifted test data)",
)
