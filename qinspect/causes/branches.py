"""unbalanced-branches: what is put together shares a scale that only the larger part fills."""

from __future__ import annotations

from dataclasses import dataclass

from qinspect.diagnosis.evidence import Evidence
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
    ruled_out,
    speaking,
    together,
)
from qinspect.tflite.constants import weights_of
from qinspect.tflite.graph import Graph, Operator
from qinspect.tflite.network import layer_names

# Of these all inputs end up in one tensor, and so in one scale.
_JOINS = frozenset({"CONCATENATION", "ADD"})
_EIGHT_BITS = frozenset({"int8", "uint8", "mixed"})

_LEVELS = Measure(
    "fewest_branch_levels", "levels that the smaller of two branches gets", threshold=16.0,
    side="below", basis="of 256; the limit of a typical channel in sensitive-layer",
)
_RATIO = Measure(
    "branch_ratio", "range of the larger branch / range of the smaller one", threshold=8.0,
    side="above", basis="3 of 8 bits; chosen",
)


@dataclass(frozen=True)
class _Join:
    """An operator that puts branches together: the smaller one, its levels, and the ratio."""

    operator: int
    layer: str
    tensor: str
    levels: float
    ratio: float


def _joins(evidence: Evidence) -> list[_Join]:
    """Every such operator of the float file whose output has a range in PTQ, the worst first."""
    main = evidence.graph("float").main
    names = layer_names(main)
    seen = evidence.observed("evaluation", "ptq")
    widths = dict(zip(seen.names, seen.high.max(axis=0) - seen.low.min(axis=0), strict=True))
    stored = evidence.calibrated_tensors("ptq")
    found = []
    for op in main.operators:
        fed = {main.tensors[i].name for i in op.inputs if i >= 0 and not main.tensors[i].constant}
        # What never leaves one value needs no levels.
        branches = {name: float(widths[name]) for name in fed if widths.get(name, 0.0) > 0}
        ends = stored.get(main.tensors[op.outputs[0]].name) if op.outputs else None
        if op.code not in _JOINS or len(branches) < 2 or ends is None or ends[1] <= ends[0]:
            continue
        least = min(branches, key=lambda name: (branches[name], name))
        found.append(_Join(op.index, names[op.index], least,
                           255 * branches[least] / (ends[1] - ends[0]),
                           max(branches.values()) / branches[least]))
    return sorted(found, key=lambda join: join.levels)


def _measured(join: _Join) -> tuple[Measure, ...]:
    return together(_LEVELS.of(join.levels), _RATIO.of(join.ratio))


def _check(evidence: Evidence) -> Finding:
    scheme = evidence.identification("ptq").scheme
    if scheme not in _EIGHT_BITS:
        return does_not_apply(f"the PTQ file is {scheme}: its activations do not have 256 levels.")
    joins = _joins(evidence)
    if not joins:
        return does_not_apply("nothing in the float file puts branches together.")
    bad = [join for join in joins if speaking(_measured(join))]
    worst = (bad or joins)[0]
    facts: dict[str, object] = {
        "joins": len(joins), "unbalanced_joins": [join.layer for join in bad],
        "unbalanced_operators": [join.operator for join in bad],
    }
    if not bad:
        return ruled_out(
            f"of what is put together the smallest branch has {worst.levels:.0f} levels.",
            _measured(worst), facts)
    return indicated(
        f"at {worst.layer} the branch {worst.tensor} has a range {worst.ratio:.0f} times as small "
        f"as another one, with which it shares a scale: {worst.levels:.1f} of 256 levels are left "
        "of it.", _measured(worst), facts, ("ptq",), strength=0.65,
    )


def around(graph: Graph, joins: list[int]) -> set[int]:
    """The joins, what feeds them up to the next weights, and what reads them up to the next."""
    main = graph.main
    weighted = {weight.operator.index for weight in weights_of(main)}
    found = set(joins)
    before = [index for at in joins for index in main.operators[at].inputs]
    after = [index for at in joins for index in main.operators[at].outputs]

    def reached(operators: list[Operator], ends: list[int], *, on: bool) -> None:
        for op in operators:
            if op.index not in found:
                found.add(op.index)
                if op.index not in weighted:
                    ends += op.outputs if on else op.inputs

    while before:
        index = before.pop()
        reached([op for op in main.operators if index in op.outputs], before, on=False)
    while after:
        index = after.pop()
        reached([op for op in main.operators if index in op.inputs], after, on=True)
    return found


def _keep(evidence: Evidence, finding: Finding) -> Trial | None:
    names = ", ".join(finding.numbers.get("unbalanced_joins") or [])
    operators = finding.numbers.get("unbalanced_operators") or []
    return kept_in_float(evidence, around(evidence.graph("float"), operators),
                         f"keeping {names} and the layers beside it in float in the PTQ file")


RULE = Rule(
    id="unbalanced-branches",
    title="branches of unequal size share one scale",
    question="Do branches that are put together have ranges of about the same size?",
    requires=("float", "ptq", "data"),
    check=_check,
    rank=LAYERS,
    symptom="PTQ of a network with Concatenate or Add loses points whatever it is calibrated with.",
    cause=(
        "The result of Concatenate or Add has one scale, as wide as the largest branch needs; of a "
        "much smaller branch only a few levels are left."
    ),
    remedy="Bring the branches to one size (batch norm at the end of each), or keep their join "
    "in float or 16 bits.",
    code=(
        "from qinspect.causes.branches import around\n"
        "from qinspect.measure.activations import observe_ranges\n"
        "from qinspect.tflite import read_graph\n"
        "from qinspect.tflite.requantize import quantizable_operators, quantize_file\n"
        "graph = read_graph(float_file)\n"
        'joins = [op.index for op in graph.main.operators if op.code in ("CONCATENATION", "ADD")]\n'
        "allowed = {layer.index for layer in quantizable_operators(graph)}\n"
        "kept = around(graph, joins) & allowed  # with the layers beside them\n"
        "ranges = observe_ranges(graph, calibration_x).over()\n"
        'content = quantize_file(graph, ranges, "int8", dict.fromkeys(kept, "float32"))'
    ),
    makes="ptq",
    met=(
        "Boxes in pixels (675) beside scores in one concatenation: 0 of 672,000 int8 scores are "
        "not zero (https://github.com/ultralytics/ultralytics/pull/25524)",
        "Scales of 0.0468 and 0.0039 meet in one concatenation, which takes but one "
        "(https://github.com/tensorflow/model-optimization/issues/1053)",
    ),
    source="TensorFlow Lite 8-bit quantization specification (CONCATENATION: all inputs and the "
    "output have the same scale)",
    measures=(_LEVELS, _RATIO),
    remedies=(Remedy("the float file made anew, with the branches in float",
                     ("float", "ptq", "data"), _keep),),
    acts_on=("ptq",),
    note="Both must hold, for one operator.",
)
