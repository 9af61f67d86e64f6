"""non-finite-weights: a file holds weights that are NaN or infinite."""

from __future__ import annotations

import numpy as np

from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.rule import (
    EVALUATION,
    MODELS,
    Finding,
    Measure,
    Remedy,
    Rule,
    Trial,
    indicated,
    ruled_out,
    speaking,
)
from qinspect.schema import Array
from qinspect.tflite import constant
from qinspect.tflite.constants import NonFinite, non_finite, weights_of
from qinspect.tflite.graph import Graph
from qinspect.tflite.requantize import replace_constants

_COUNT = Measure(
    "{role}_non_finite",
    "numbers that are NaN or infinite, scales of zero",
    threshold=1, side="above",
    basis="one is enough: every output that it reaches is no number either",
)
_MOST_NAMES = 3


def told(graph: Graph) -> str:
    """Which constants of a file are no numbers, in words; empty where all are."""
    found = non_finite(graph)
    said = [f"{_counted(one)} in {one.tensor.name!r}" for one in found[:_MOST_NAMES]]
    more = f" and in {len(found) - _MOST_NAMES} more tensors" if len(found) > _MOST_NAMES else ""
    half = any(one.tensor.dtype == "float16" and one.infinite for one in found)
    why = f" (float16 ends at {np.finfo(np.float16).max:,.0f})" if half else ""
    return f"{', '.join(said)}{more}{why}"


def _counted(one: NonFinite) -> str:
    counts = ((one.nan, "NaN"), (one.infinite, "infinite"))
    said = " and ".join(f"{count:,} {what}" for count, what in counts if count)
    said += f" {'value' if one.nan + one.infinite == 1 else 'values'}" if said else ""
    scales = f"{one.not_positive:,} scale{'' if one.not_positive == 1 else 's'} not above zero"
    return " and ".join(part for part in (said, scales if one.not_positive else "") if part)


def _check(evidence: Evidence) -> Finding:
    measures, words = [], []
    for role in evidence.case.roles:
        found = non_finite(evidence.graph(role))
        count = sum(one.nan + one.infinite + one.not_positive for one in found)
        measures.append(_COUNT.of(count, role))
        if found:
            words.append(f"the {MODELS[role]} file holds {told(evidence.graph(role))}")
    if not speaking(measures):
        return ruled_out("all weights of all files are finite.", measures)
    return indicated(f"{'; '.join(words)}.", measures, strength=1.0)


def _kept(evidence: Evidence, role: str) -> bytes | None:
    """The float file with a float16 file's rounding, but for the values that it cannot hold.

    None where float16 is not the reason, or the files differ by more.
    """
    graph, half = evidence.graph("float"), evidence.graph(role)
    rows = evidence.lineage("float", role).layers
    if non_finite(graph) or {row.state for row in rows} - {"identical", "unreadable"}:
        return None
    if any(one.nan or one.tensor.dtype != "float16" for one in non_finite(half)):
        return None
    values: dict[int, Array] = {}
    for weight in weights_of(graph.main):
        for tensor in (weight.tensor, weight.bias):
            if tensor is None or tensor.dtype != "float32":
                continue
            exact = np.asarray(constant(graph, tensor))
            with np.errstate(over="ignore"):
                rounded = exact.astype(np.float16).astype(np.float32)
            values[tensor.index] = np.where(np.isfinite(rounded), rounded, exact)
    return replace_constants(graph, values)


def _keep(evidence: Evidence, finding: Finding) -> Trial | None:
    swaps: dict[str, object] = {}
    said = []
    for role in ("ptq", "qat"):
        if role not in evidence.case.roles or not finding.numbers.get(f"{role}_non_finite"):
            continue
        content = _kept(evidence, role)
        if content is None:
            continue
        swaps[role] = evidence.answers(content)
        results = evidence.results(own=True).with_outputs(kept=evidence.scorable(swaps[role]))
        words = results.metric.words
        said.append(f"of {MODELS[role]} from {words(results.value(role))} to "
                    f"{words(results.value('kept'))}")
    if not swaps:
        return None
    return Trial("keeping the weights that float16 cannot hold in float32 takes the "
                 f"{evidence.metric.title} {', '.join(said)}", swaps)


RULE = Rule(
    id="non-finite-weights",
    title="weights are NaN or infinite",
    question="Are all weights of all files numbers?",
    requires=(),
    check=_check,
    rank=EVALUATION,
    symptom="A file gives the same class for everything, NaN, or accuracy at chance.",
    cause=(
        "Training diverged and the checkpoint holds NaN, or a weight beyond 65,504 became infinite "
        "in float16."
    ),
    remedy="Go back to a checkpoint of finite weights; where float16 cannot hold them, scale them "
    "down or quantize to int8.",
    code=(
        "from qinspect.tflite import read_graph\n"
        "from qinspect.tflite.constants import non_finite\n"
        "print({file: non_finite(read_graph(file)) for file in files})"
    ),
    met=(
        "DistilBERT in float16: values of 1e30 become infinite, all outputs NaN, accuracy from 90 "
        "% to about 50 % (https://github.com/tensorflow/tensorflow/issues/43719)",
    ),
    source="IEEE 754 (float16: largest finite number 65,504); TensorFlow Lite documentation, "
    "Post-training float16 quantization",
    measures=(_COUNT,),
    remedies=(Remedy("float32 where float16 overflows", ("float", "ptq|qat", "data"), _keep),),
    note="It is asked with or without a gap and before all others: nothing that is computed from "
    "such a file says anything. Infinite constants that are no weights, such as masks, are let be.",
    every_file=True,
)
