"""Faults of evaluation: wrong feeding, wrong order, few examples, chosen files, other examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from qinspect.diagnosis import cases
from qinspect.diagnosis.cases import Case, Claim
from qinspect.schema import Array
from qinspect.tflite import constant, read_graph
from qinspect.tflite.constants import all_weights
from qinspect.tflite.graph import Graph
from qinspect.tflite.inputs import Preprocessing
from qinspect.tflite.requantize import replace_constants
from qinspect.tflite.runner import Session
from qinspect_bench.faults_base import (
    Base,
    Injected,
    converted,
    files_only,
    predictions,
    recalibrated,
    with_ptq,
    with_qat,
)
from qinspect_bench.faults_files import hard_float

_SHUFFLED = {"mild": 0.1, "strong": 1.0}
_EXAMPLES = {"mild": 300, "strong": 100}
_DRAWS = 200
_CHECKPOINTS = {"mild": 10, "strong": 40}
# Standard deviation of the noise between checkpoints, in levels of an 8-bit weight.
_CHECKPOINT_NOISE = 8.0
# PTQ is a typical one of so many.
_TYPICAL_OF = 5
_RELABELLED = {"mild": 0.5, "strong": 1.0}
_PIXEL_NOISE = {"mild": 0.15, "strong": 0.4}

Script = Callable[[Array, float, int], Array]

# What scripts of others do with float pixels before they call set_tensor on an int8 input.
_SCRIPTS: dict[str, tuple[Script, ...]] = {
    "mild": (
        lambda x, scale, zero: (x / scale + zero).astype(np.int8),
        lambda x, scale, zero: _right(2 * x - 1, scale, zero),
        lambda x, scale, zero: _right((x - x.mean()) / x.std(), scale, zero),
    ),
    "strong": (
        lambda x, scale, zero: x.astype(np.int8),
        lambda x, scale, zero: np.rint(x / scale).astype(np.int64).astype(np.int8),
        lambda x, scale, zero: _right(x / 255, scale, zero),
    ),
}


def _right(x: Array, scale: float, zero: int) -> Array:
    return np.clip(np.rint(x / scale) + zero, -128, 127).astype(np.int8)


def input_quantization(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """Predictions of a PTQ file with int8 input, as a script with a mistake gets them."""
    assert case.keras_float is not None
    assert case.data is not None
    graph = converted(case.keras_float, "int8_io", case.calibration_x)
    before = with_ptq(case, graph)
    claimed = fed_by(graph, case.data.x, _SCRIPTS[strength][variant % 3])
    return Injected(replace(before, claims={**before.claims, "ptq": Claim(claimed)}), before)


def fed_by(graph: Graph, x: Array, script: Script) -> Array:
    """Predictions from stored integers that a script made."""
    affine = graph.main.tensors[graph.main.inputs[0]].affine
    assert affine is not None
    stored = script(np.asarray(x, dtype=np.float64), float(affine.scale[0]),
                    int(affine.zero_point[0]))
    with Session(graph, how=Preprocessing(raw=True), workers=1) as session:
        (output,) = session.run(stored).values()
    return output.reshape(len(output), -1).argmax(axis=1)


def evaluation_mismatch(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """QAT's predictions of a tenth of the examples, or of all, come in another order.

    Two of the strong variants reverse the order, or number the classes from 1.
    """
    right = predictions(_graph(case, "qat"), case.data)
    if strength == "strong" and variant % 3 == 1:
        claimed = right[::-1].copy()
    elif strength == "strong" and variant % 3 == 2:
        claimed = right + 1
    else:
        rng = base.rng(2)
        some = rng.choice(len(right), round(_SHUFFLED[strength] * len(right)), replace=False)
        claimed = right.copy()
        claimed[some] = right[rng.permutation(some)]
    return Injected(replace(case, claims={**case.claims, "qat": Claim(claimed)}), case)


def noise(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """Few examples, on which by chance QAT is a point or more ahead or behind."""
    assert case.data is not None
    right = {r: predictions(_graph(case, r), case.data) == case.data.y for r in ("ptq", "qat")}
    difference = right["qat"].astype(int) - right["ptq"].astype(int)
    rng = base.rng(3)
    size = min(_EXAMPLES[strength], len(difference) // 2)
    best: Array | None = None
    for _ in range(_DRAWS):
        index = np.sort(rng.choice(len(difference), size, replace=False))
        if abs(difference[index].sum()) >= 0.01 * size:
            best = index
            break
    if best is None:
        best = np.arange(size)
    return Injected(replace(files_only(case), data=case.data.take(best)), None)


def lucky_checkpoint(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """QAT is the best on the test examples of many equally good checkpoints, PTQ a typical one.

    Checkpoints are the files with noise on their weights; each was evaluated for real.  The float
    file is not at hand: PTQ does not hold its weights any more.
    """
    assert case.data is not None
    rng = base.rng(4)
    qat, table = _checkpoints(case, "qat", _CHECKPOINTS[strength], rng)
    ptq, _ = _checkpoints(case, "ptq", _TYPICAL_OF, rng)
    two = replace(with_ptq(files_only(case), ptq[-1]), float_graph=None)
    best = int((table == case.data.y).mean(axis=1).argmax())
    made = with_qat(two, qat[best], checkpoints={"qat": table})
    return Injected(made, with_qat(two, qat[-1]))


def _checkpoints(
    case: Case, role: str, count: int, rng: np.random.Generator
) -> tuple[list[Graph], Array]:
    """Files with noise on their weights and their predictions, the median one last.

    Their order means nothing, so a typical one may stand for the end of training.
    """
    assert case.data is not None
    files = [read_graph(with_weight_noise(_graph(case, role), rng)) for _ in range(count)]
    table = np.stack([predictions(one, case.data) for one in files])
    order = np.argsort((table == case.data.y).mean(axis=1), kind="stable").tolist()
    order.append(order.pop(count // 2))
    return [files[at] for at in order], table[order]


def with_weight_noise(graph: Graph, rng: np.random.Generator) -> bytes:
    """The file with rounded normal noise on its int8 weights."""
    values: dict[int, Array] = {}
    for weight in all_weights(graph):
        if weight.tensor.dtype != "int8":
            continue
        stored = np.asarray(constant(graph, weight.tensor), dtype=np.int64)
        moved = stored + np.rint(rng.normal(0, _CHECKPOINT_NOISE, stored.shape)).astype(np.int64)
        values[weight.tensor.index] = np.clip(moved, -127, 127).astype(np.int8)
    return replace_constants(graph, values)


def regularisation(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """Labels of examples on which float and PTQ differ are changed to PTQ's answer.

    No network is known that quantization is certain to help, so the examples are made to fit, on
    a network that int8 changes noticeably.  Only the two files are at hand.
    """
    assert case.data is not None
    two = replace(files_only(hard_float(base, case, "mild")), qat_graph=None)
    found = {role: predictions(_graph(two, role), case.data) for role in ("float", "ptq")}
    differ = np.flatnonzero(found["float"] != found["ptq"])
    chosen = differ[base.rng(5).random(len(differ)) < _RELABELLED[strength]]
    y = case.data.y.copy()
    y[chosen] = found["ptq"][chosen]
    return Injected(replace(two, data=replace(case.data, y=y)), None)


def distribution_shift(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """Noise on the pixels of the evaluation examples, within the range of the inputs."""
    assert case.data is not None
    x = case.data.x + base.rng(6).normal(0, _PIXEL_NOISE[strength], case.data.x.shape)
    data = replace(case.data, x=np.clip(x, 0, 1).astype(np.float32))
    made = replace(files_only(case), data=data, train=case.train)
    return Injected(made, None)


def control(base: Base, case: Case, form: str) -> Case:
    """A healthy case in one of the forms of what a person may have at hand."""
    assert case.data is not None
    assert case.train is not None
    assert case.keras_float is not None
    if form == "study":
        return case
    if form == "equal-budget":
        return cases.case(base.folder / "study", equal_budget=True)
    if form == "files-only":
        return replace(files_only(case), train=case.train)
    if form == "two-files":
        return replace(files_only(case), qat_graph=None)
    if form in ("half-of-examples", "other-half"):
        parts = np.array_split(base.rng(8).permutation(len(case.data)), 2)
        index = np.sort(parts[form == "other-half"])
        return replace(files_only(case), data=case.data.take(index))
    if form == "other-calibration":
        order = base.rng(7).permutation(len(case.train))[:300]
        return recalibrated(case, case.train.x[order])
    graph = converted(case.keras_float, "int8_io", case.calibration_x)
    loose = files_only(with_ptq(case, graph))
    claims = {role: Claim(predictions(_graph(loose, role), case.data)) for role in loose.roles}
    return replace(loose, claims=claims)


def _graph(case: Case, role: str) -> Graph:
    graph = case.graph(role)
    assert graph is not None
    return graph
