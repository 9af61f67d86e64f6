"""A file quantized again, without TensorFlow: remedies of format, ranges and layers.

What is quantized is the float network with the weights that the file holds (`Evidence.in_float`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.rule import Finding, Remedy, Trial
from qinspect.measure.activations import ObservedRanges, observe_ranges
from qinspect.schema import Array
from qinspect.tflite.constants import weights_of
from qinspect.tflite.graph import Graph
from qinspect.tflite.requantize import Precision, Ranges, quantizable_operators, quantize_file

_MOST_EXAMPLES = 1_000


def requantized(
    evidence: Evidence, ranges: Ranges, layers: Mapping[int, Precision] | None = None,
    index: Array | None = None, role: str = "ptq", precision: Precision | None = None,
) -> Array:
    """Predictions of a file with the weights of a role, some operators treated otherwise.

    In the format that the file of the role has, where its activations have 16 bits, else in int8.
    """
    own: Precision = "int16x8" if evidence.identification(role).scheme == "int16x8" else "int8"
    content = quantize_file(evidence.in_float(role), ranges, precision or own, layers)
    return evidence.answers(content, index)


def best_source(evidence: Evidence) -> tuple[str, str]:
    """Examples to calibrate with that are closest to the evaluation, and words for them."""
    if evidence.case.has("train"):
        return "train", "training examples"
    return "evaluation", "the evaluation inputs, without labels"


def calibration_source(evidence: Evidence) -> tuple[str, str]:
    """The calibration set where there is one, else what :func:`best_source` gives."""
    if evidence.case.has("calibration"):
        return "calibration", "the calibration set"
    return best_source(evidence)


def trimmed(observed: ObservedRanges, share: float = 0.01) -> Ranges:
    """Ranges that leave out the most extreme ``share`` of examples at either end."""
    low = np.quantile(observed.low, share, axis=0)
    high = np.quantile(observed.high, 1 - share, axis=0)
    return Ranges({
        name: (float(min(a, b)), float(max(a, b)))
        for name, a, b in zip(observed.names, low, high, strict=True)
    })


def with_stored_ranges(evidence: Evidence, role: str) -> Ranges:
    """Ranges of a quantized file, filled up with those of the evaluation examples."""
    seen = evidence.observed("evaluation", role).over()
    return alike(evidence, role, Ranges({**seen.bounds, **evidence.calibrated_tensors(role)}))


def alike(evidence: Evidence, role: str, ranges: Ranges) -> Ranges:
    """Other ranges, and one scale for the weights that have one in the file of a role."""
    return Ranges(ranges.bounds, evidence.one_scale(role))


def remade(evidence: Evidence, index: Array | None = None, role: str = "ptq") -> Array:
    """Answers of a file made anew with the ranges that it stores.

    What a remedy that makes it anew is compared with: whatever else is wrong with the file is gone
    from both, and only what the remedy changes is left.
    """
    key = None if index is None else index.tobytes()
    return evidence.once(("remade", role, key), lambda: requantized(
        evidence, with_stored_ranges(evidence, role), index=index, role=role))


def with_weights_of(evidence: Evidence, role: str, source: str) -> Array:
    """Answers of the float network with a quantized file's weights, quantized with its own ranges.

    An error where the two files do not have the same layers.
    """
    return calibrated(evidence, role, evidence.holding(role), source)


def calibrated(evidence: Evidence, role: str, other: Graph, source: str) -> Array:
    """Answers of a changed float network, quantized like the file of a role with its own ranges."""
    ranges = observe_ranges(other, evidence.examples(source), num_threads=evidence.num_threads)
    content = quantize_file(other, alike(evidence, role, ranges.over()), "int8")
    return evidence.answers(content)


def kept_in_float(
    evidence: Evidence, operators: Iterable[int], done: str | None = None
) -> Trial | None:
    """PTQ made anew with some operators in float, against the same with none.

    None without any; and where no weights would be left in integers, which tells of no layer.
    """
    graph = evidence.graph("float")
    allowed = {layer.index: layer.name for layer in quantizable_operators(graph)}
    kept = sorted(set(operators) & allowed.keys())
    if not kept or {weight.operator.index for weight in weights_of(graph.main)} <= set(kept):
        return None
    index, names = some_examples(evidence), [allowed[at] for at in kept]
    prediction = requantized(evidence, with_stored_ranges(evidence, "ptq"),
                             dict.fromkeys(kept, "float32"), index)
    return Trial(done or f"keeping {', '.join(names)} in float in the PTQ file",
                 {"ptq": prediction}, index, {"layers_kept": names},
                 controls={"ptq": remade(evidence, index)})


def some_examples(evidence: Evidence, most: int = _MOST_EXAMPLES) -> Array | None:
    """Index of a random part of the evaluation examples; None where there are few enough."""
    n = len(evidence.data)
    if n <= most:
        return None
    return np.sort(evidence.rng(2).choice(n, most, replace=False))


def _other_ranges(evidence: Evidence, finding: Finding) -> Trial:
    """QAT's own weights with calibrated ranges, against the same with the ranges that it stores."""
    source, words = calibration_source(evidence)
    ranges = alike(evidence, "qat", evidence.observed(source, "qat").over())
    return Trial(
        f"quantizing QAT's weights with ranges from {words}, instead of those that it stored,",
        {"qat": evidence.once(("other ranges", "qat"),
                              lambda: requantized(evidence, ranges, role="qat"))},
        controls={"qat": remade(evidence, role="qat")},
    )


# Of the causes whose ranges are at fault, whoever made them.
OTHER_RANGES = Remedy("other ranges for QAT's weights", ("float", "qat", "data"), _other_ranges)
