"""distribution-shift: the evaluation examples are not like the training examples."""

from __future__ import annotations

import numpy as np

from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.rule import (
    TRAIN_ON,
    Finding,
    Measure,
    Rule,
    indicated,
    not_tried,
    ruled_out,
    together,
)
from qinspect.schema import Array
from qinspect.tflite.graph import Graph
from qinspect.verdicts import p_words

# Two samples of 500 from one distribution stay below 0.12 in all of 20 tensors with probability
# 0.98; in the scores, which are left out, healthy networks reach 0.30.
_DISTANCE = Measure(
    "largest_distance", "largest Kolmogorov-Smirnov distance of a layer's ranges", threshold=0.2,
    side="above",
    basis="chosen; measured on the calibration half of the fault benchmark: up to 0.12 in hidden "
    "layers of healthy networks, 0.11 to 0.84 with noise on the pixels",
)

_LUCK = Measure(
    "distance_p", "p of that distance, for all that were looked at", threshold=0.05, side="below",
    basis="convention; Bonferroni over both ends of all layers",
)


def _check(evidence: Evidence) -> Finding:
    from scipy.stats import ks_2samp  # slow to import

    here, there = evidence.observed("evaluation"), evidence.observed("train")
    distances, chances = {}, {}
    scores = _scores(evidence.graph("float"))
    for at, name in enumerate(here.names):
        if name in scores:
            continue
        both = ((here.low[:, at], there.low[:, at]), (here.high[:, at], there.high[:, at]))
        tests = [ks_2samp(a, b, method="asymp") for a, b in both]
        distances[name] = max(float(test.statistic) for test in tests)
        chances[name] = min(float(test.pvalue) for test in tests)
    worst = max(distances, key=lambda name: distances[name])
    largest = _DISTANCE.of(distances[worst])
    facts: dict[str, object] = {
        "tensor": worst, "median_distance": float(np.median(list(distances.values()))),
    }
    # Either end of each range is a try.
    luck = _LUCK.of(min(1.0, chances[worst] * 2 * len(chances)))
    measures = together(largest, luck)
    if not largest.speaks:
        return ruled_out(
            "activations on evaluation and training examples are alike (largest "
            f"Kolmogorov-Smirnov distance {distances[worst]:.2f}).", measures, facts,
        )
    if not luck.speaks:
        return not_tried(
            f"cannot tell: so few examples differ as much by chance (largest Kolmogorov-Smirnov "
            f"distance {distances[worst]:.2f}, {p_words(float(luck.value or 0))}).", measures,
            facts)
    typical = _typical(here.high, there.high)
    a, b = evidence.case.pair
    if len(typical) == len(evidence.data):
        for name, part in (("typical", typical), ("unusual", ~typical)):
            half = evidence.results().take(part)
            gap = evidence.metric.scale * (half.value(b) - half.value(a))
            facts[f"gap_on_{name}_half{evidence.suffix}"] = gap
    return indicated(
        f"the float model's activations on evaluation examples are not those on training examples "
        f"(Kolmogorov-Smirnov distance {distances[worst]:.2f} at {worst}).", measures, facts,
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
        "found = activation_statistics(read_graph(float_file), x)\n"
        'print(found.tensors[["layer", "min", "max", "mean", "std"]])'
    ),
    met=(
        "ResNet-50 on CIFAR-10: about 95 % on clean images, 81 % over all corruptions of "
        "CIFAR-10-C (https://github.com/google-research/augmix/issues/21)",
    ),
    source="Hendrycks & Dietterich 2019, arXiv:1903.12261 (accuracy under shifted test data)",
    measures=(_DISTANCE, _LUCK),
    note="Both must hold. No intervention is known.",
)
