"""sensitive-layer: a few layers carry the loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from qinspect.data.dataset import take
from qinspect.diagnosis.evidence import OWN_EXAMPLES, WITH_RANGES, Evidence
from qinspect.diagnosis.requantized import kept_in_float
from qinspect.diagnosis.rule import (
    LAYERS,
    Finding,
    Measure,
    Remedy,
    Rule,
    Trial,
    does_not_apply,
    indicated,
    not_shown,
    ruled_out,
)
from qinspect.measure.activations import activation_statistics
from qinspect.measure.local import layer_errors
from qinspect.tflite.constants import weights_of
from qinspect.tflite.graph import Graph

# Kept in float by the intervention: a remedy for more than these is not one for single layers.
_MOST_KEPT = 3
# Of fewer channels the typical one is not a figure to go by.
_FEWEST_CHANNELS = 4
_BELOW_MEDIAN_DB = 6.0
_LEVEL_DB = 25.0

_LOWEST = Measure(
    "{role}_lowest_sqnr_db", "lowest SQNR of a layer's own error", side="below", unit="dB",
    basis=f"below {_LEVEL_DB:g} dB, at which classes change, or {_BELOW_MEDIAN_DB:g} dB under the "
    "median layer where that is lower (chosen; measured in healthy int8 files: 29 dB and more)",
)
_LEVELS = Measure(
    "ptq_fewest_levels", "levels that the typical channel of an activation gets",
    threshold=16.0, side="below",
    basis="measured on the calibration half of the fault benchmark: 107 and more in healthy "
    "networks, 4 and less where one channel was made to set the range",
)


def _check(evidence: Evidence) -> Finding:
    facts: dict[str, Any] = {}
    measures, worst = [], None
    for role in evidence.case.roles[1:]:
        found = layer_errors(
            evidence.graph("float"), evidence.graph(role), evidence.match("float", role),
            take(evidence.data.x, slice(OWN_EXAMPLES)), accumulated=False, histograms=False,
            num_threads=evidence.num_threads,
        ).errors
        found = found[np.isfinite(found["sqnr_db"]) & ~found["op"].isin(["SOFTMAX"])]
        if len(found) < 3:
            continue
        median = float(found["sqnr_db"].median())
        limit = min(median - _BELOW_MEDIAN_DB, _LEVEL_DB)
        bad = found[found["sqnr_db"] < limit].sort_values("sqnr_db")
        facts |= {f"{role}_median_sqnr_db": median,
                  f"{role}_lowest_sqnr_db": float(found["sqnr_db"].min()),
                  f"{role}_sensitive_layers": bad["layer"].tolist()[:_MOST_KEPT]}
        # The remedy is one for PTQ: what QAT's layers lose does not decide.
        if role == "ptq":
            measures.append(_LOWEST.of(facts["ptq_lowest_sqnr_db"], role, threshold=limit))
            worst = (bad.iloc[0], median) if measures[0].speaks else None
    if not facts:
        return does_not_apply("fewer than three layers can be compared.")
    if "ptq" not in evidence.case.roles:
        return does_not_apply("no PTQ file to look at.", (), facts | {
            "ptq_starved_activations": [], "ptq_levels_of_typical_channel": None})
    # Of 16 bits every channel gets enough.
    levels = {} if evidence.identification("ptq").scheme == "int16x8" else _levels(evidence)
    starved = {name: few for name, few in levels.items() if _LEVELS.of(few).speaks}
    if levels:
        measures.append(_LEVELS.of(min(levels.values())))
    facts |= {"ptq_starved_activations": list(starved),
              "ptq_levels_of_typical_channel": min(starved.values(), default=None)}
    if worst is not None:
        row, median = worst
        said = (f"layer {row['layer']} ({row['op']}) of the PTQ file keeps {row['sqnr_db']:.1f} "
                f"dB of its own signal, the median layer {median:.1f} dB")
        if evidence.identification("ptq").scheme not in WITH_RANGES:
            # Made anew with ranges, a file would lose, or not, what the one at hand does not.
            return not_shown(f"{said}; the file stores no ranges, so none that is made anew here "
                             "tells what the layer costs.", measures, facts)
        return indicated(
            f"{said}.", measures, facts, ("ptq",),
            strength=min(0.6, 0.2 + (median - float(row["sqnr_db"])) / 40),
        )
    if starved:
        name = min(starved, key=lambda tensor: starved[tensor])
        return indicated(
            f"in the PTQ file a few channels set the range of {name}: the typical other channel "
            f"has {starved[name]:.0f} of its 256 levels.", measures, facts, ("ptq",),
            strength=min(0.6, 0.3 + 1 / (1 + starved[name])),
        )
    return ruled_out("no layer of the PTQ file is much worse than the others.", measures, facts)


def _levels(evidence: Evidence) -> dict[str, float]:
    """Of the 256 levels of each activation of PTQ, how many its typical channel gets.

    The error of a layer as a whole hides this: it is small against the channels that set the range.
    """
    stored = evidence.calibrated_tensors("ptq")
    table = activation_statistics(
        evidence.graph("float"), take(evidence.data.x, slice(OWN_EXAMPLES)), per_channel=True,
        num_threads=evidence.num_threads,
    ).tensors
    # What never leaves one value needs no levels.
    table = table[(table["channel"] >= 0) & (table["max"] > table["min"])]
    found = {}
    for name, channels in table.groupby("tensor", sort=False):
        if name not in stored or len(channels) < _FEWEST_CHANNELS:
            continue
        low, high = stored[str(name)]
        # A damaged scale of zero leaves no levels to share.
        if high > low:
            width = float((channels["max"] - channels["min"]).median())
            found[str(name)] = 255 * width / (high - low)
    return found


def _around(graph: Graph, tensors: list[str]) -> set[int]:
    """Operators that write a tensor, and those on the way to the next weights.

    A range is stored once; it is gone only if both sides of it compute in float.
    """
    main = graph.main
    weighted = {weight.operator.index for weight in weights_of(main)}
    open_ends = [tensor.index for tensor in main.tensors if tensor.name in tensors]
    found = {op.index for op in main.operators if set(op.outputs) & set(open_ends)}
    while open_ends:
        tensor = open_ends.pop()
        for op in main.operators:
            if tensor in op.inputs and op.index not in found:
                found.add(op.index)
                open_ends += [] if op.index in weighted else list(op.outputs)
    return found


def _keep(evidence: Evidence, finding: Finding) -> Trial | None:
    if finding.verdict != "indicated":
        return None
    named = finding.numbers.get("ptq_sensitive_layers") or []
    starved = finding.numbers.get("ptq_starved_activations") or []
    pairs = {pair.layer: pair.a for pair in evidence.match("float", "ptq").pairs}
    wanted = {pairs[name] for name in named if name in pairs}
    return kept_in_float(evidence, wanted | _around(evidence.graph("float"), starved))


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
        "from qinspect.measure.layer_cost import sensitivity\n"
        "from qinspect.tflite import read_graph\n"
        "found = sensitivity(read_graph(float_file), data, like=read_graph(ptq_file))\n"
        "# as many layers as bring the loss below the margin; half of them where none does\n"
        "many = found.proposal()\n"
        "content = found.mixed_file(len(found.order) // 2 if many is None else max(many, 1))"
    ),
    makes="ptq",
    met=(
        "Vision transformer: 0 % in int8, 78.49 % with residual sums in float, 80.94 % with two "
        "dense layers more (https://github.com/alibaba/TinyNeuralNetwork/pull/204)",
    ),
    source="TensorFlow Lite documentation, Quantization debugger; Wu et al. 2020, "
    "arXiv:2004.09602, section 5.1 (partial quantization)",
    measures=(_LOWEST, _LEVELS),
    remedies=(Remedy("keeping layers in float", ("ptq", "float", "data"), _keep,
                     mends=("unbalanced-branches",)),),
    figure="layer errors",
)
