"""negative-tail: the stored range cuts off what swish, hard-swish or GELU give below zero."""

from __future__ import annotations

from dataclasses import dataclass

from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.requantized import remade, requantized, some_examples, with_stored_ranges
from qinspect.diagnosis.rule import (
    CALIBRATION,
    PTQ_CODE,
    PTQ_OF_FILES,
    Finding,
    Measure,
    Remedy,
    Rule,
    Trial,
    does_not_apply,
    indicated,
    ruled_out,
    speaking,
    together,
)
from qinspect.tflite.constants import producers_of
from qinspect.tflite.graph import Graph
from qinspect.tflite.requantize import Ranges

_OWN = frozenset({"HARD_SWISH", "GELU"})
_CUT = Measure(
    "tail_cut_share", "part of the tail below zero that the range leaves out", threshold=0.3,
    side="above", basis="of its depth in the float file; chosen",
)
_DEPTH = Measure(
    "tail_steps", "depth of the tail, in steps of the stored range", threshold=4.0, side="above",
    basis="a tail of fewer steps is lost in rounding anyway; chosen",
)


@dataclass(frozen=True)
class _Tail:
    """An activation's tail: tensor, least value seen, least value stored, step."""

    tensor: str
    low: float
    stored: float
    step: float

    @property
    def measures(self) -> tuple[Measure, ...]:
        """How much of the tail is cut, and how deep it is."""
        return together(_CUT.of(1 - min(self.stored / self.low, 1.0)),
                        _DEPTH.of(-self.low / self.step))


def curved_outputs(graph: Graph) -> list[str]:
    """Names of the outputs of swish (as x times its sigmoid), hard-swish and GELU."""
    main = graph.main
    producers = producers_of(main)
    found = []
    for op in main.operators:
        made = [producers.get(index) for index in op.inputs]
        gated = op.code == "MUL" and any(
            one is not None and one.code == "LOGISTIC" and set(one.inputs) & set(op.inputs)
            for one in made)
        if op.code in _OWN or gated:
            found.append(main.tensors[op.outputs[0]].name)
    return found


def _tails(evidence: Evidence) -> list[_Tail]:
    seen = evidence.observed("evaluation", "ptq").over().bounds
    stored = evidence.calibrated_tensors("ptq")
    return [_Tail(name, seen[name][0], min(stored[name][0], 0.0),
                  (stored[name][1] - stored[name][0]) / 255)
            for name in curved_outputs(evidence.graph("float"))
            if name in stored and seen[name][0] < 0 and stored[name][1] > stored[name][0]]


def _check(evidence: Evidence) -> Finding:
    tails = _tails(evidence)
    if not tails:
        return does_not_apply("no activation of the float file has a tail below zero of which PTQ "
                              "stores a range.")
    bad = [tail for tail in tails if speaking(tail.measures)]
    worst = min(bad or tails, key=lambda tail: tail.stored / tail.low)
    facts: dict[str, object] = {
        "tails": len(tails), "tails_cut": [tail.tensor for tail in bad],
        "tail_low": worst.low, "tail_stored_low": worst.stored,
    }
    if not bad:
        return ruled_out("the stored ranges hold the tails below zero.", worst.measures, facts)
    return indicated(
        f"{worst.tensor} reaches {worst.low:.3g} below zero, and its stored range ends at "
        f"{worst.stored:.3g}: {len(bad)} of {len(tails)} such tails are cut off in the PTQ file.",
        worst.measures, facts, ("ptq",), strength=0.7)


def _whole_tails(evidence: Evidence, finding: Finding) -> Trial | None:
    names = finding.numbers.get("tails_cut") or []
    if not names:
        return None
    index = some_examples(evidence)
    stored = with_stored_ranges(evidence, "ptq")
    seen = evidence.observed("evaluation", "ptq").over().bounds
    wide = {name: (min(seen[name][0], stored.bounds[name][0]), stored.bounds[name][1])
            for name in names}
    mended = Ranges({**stored.bounds, **wide}, stored.per_tensor)
    return Trial("widening the ranges of these activations below zero alone",
                 {"ptq": requantized(evidence, mended, index=index)}, index,
                 controls={"ptq": remade(evidence, index)})


RULE = Rule(
    id="negative-tail",
    title="the tail of swish or GELU below zero is cut off",
    question="Do the stored ranges hold what swish and GELU give below zero?",
    requires=("float", "ptq", "data"),
    check=_check,
    rank=CALIBRATION,
    symptom="PTQ of a network with swish, hard-swish or GELU loses points, of the same with ReLU "
    "it does not.",
    cause=(
        "These activations go a little below zero (swish to -0.28, GELU to -0.17); a range that "
        "was cut at zero, or taken as a percentile, loses the whole tail."
    ),
    remedy="Calibrate with the least and the greatest value, not with percentiles.",
    code=PTQ_CODE,
    code_of_files=PTQ_OF_FILES,
    makes="ptq",
    met=(
        "YOLOv5s in int8: mAP from 0.362 to 0.054; 0.316 where SiLU is one operator of its own "
        "(https://github.com/ultralytics/yolov5/issues/2509)",
        "After trials with 1,885 images SiLU is blamed for the loss of an int8 detector, ReLU "
        "keeps more (https://github.com/ultralytics/yolov5/issues/10164)",
    ),
    source="Ramachandran et al. 2017, arXiv:1710.05941 (swish); Hendrycks and Gimpel 2016, "
    "arXiv:1606.08415 (GELU)",
    measures=(_CUT, _DEPTH),
    remedies=(Remedy("whole tails", ("ptq", "float", "data"), _whole_tails),),
    acts_on=("ptq",),
    note="Both must hold, for one activation.",
)
