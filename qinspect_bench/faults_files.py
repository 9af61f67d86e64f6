"""Faults of files: another calibration set, another format, other constants, another network."""

from __future__ import annotations

import numpy as np

from qinspect.diagnosis.cases import Case
from qinspect.schema import Array
from qinspect.tflite import constant, read_graph
from qinspect.tflite.constants import INTEGER_KINDS, all_weights
from qinspect.tflite.graph import Graph
from qinspect.tflite.requantize import replace_constants
from qinspect_bench.faults_base import (
    Base,
    Injected,
    converted,
    faintest,
    files_only,
    recalibrated,
    remade,
    retrained_qat,
    trained_float,
    with_ptq,
)
from qinspect_bench.faults_networks import edited, save_stranger, wide_activation, wide_weights

_CALIBRATION_SIZE = {"mild": 4, "strong": 1}
_OUTLIER = {"mild": 50.0, "strong": 200.0}
# Calibration inputs, by what somebody's preprocessing did to them.
_UNITS: dict[str, tuple[tuple[float, float], ...]] = {
    "mild": ((0.5, 0.0), (2.0, -1.0), (0.3, 0.0)),
    "strong": ((1 / 255, 0.0), (255.0, 0.0), (0.1, 0.0)),
}
_WIDE_WEIGHTS = {"mild": 120.0, "strong": 300.0}
_WIDE_ACTIVATION = {"mild": 200.0, "strong": 400.0}
_STRANGER_EPOCHS = {"mild": 4, "strong": 1}
# Softmax multiplies its inputs by this: 256 levels hold the difference of two classes no more.
_FLATTER = {"mild": 0.01, "strong": 0.002}
_INT32 = np.iinfo(np.int32)


def calibration_small(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """One or four examples, those of least ink."""
    few = faintest(_calibration(case), _CALIBRATION_SIZE[strength])
    return Injected(recalibrated(case, few), case)


def calibration_shift(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """Calibration examples that were preprocessed otherwise."""
    factor, offset = _UNITS[strength][variant % 3]
    x = (_calibration(case) * factor + offset).astype(np.float32)
    return Injected(recalibrated(case, x), case)


def calibration_outliers(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """One example of the calibration set many times as bright."""
    x = _calibration(case).copy()
    x[base.rng(1).integers(len(x))] *= np.float32(_OUTLIER[strength])
    return Injected(recalibrated(case, x), case)


def different_format(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """PTQ of a format that spares activations, where int8 costs QAT some accuracy."""
    before = hard_case(base, case, strength)
    assert before.keras_float is not None
    recipe = ("float16", "int16x8", "dynamic_range")[variant % 3]
    graph = converted(before.keras_float, recipe, before.calibration_x)
    return Injected(with_ptq(before, graph), before)


def sensitive_layer(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """One activation whose range is set by a channel that tells nothing; only files at hand."""
    hard = hard_case(base, case, strength)
    return Injected(files_only(hard), files_only(case))


def per_tensor_weights(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """One scale a tensor, where a channel that is never active has large weights."""
    assert case.keras_float is not None
    ratio = _WIDE_WEIGHTS[strength]
    path = edited(
        case.keras_float, base.folder / "made", f"wide-weights-{ratio:g}",
        lambda model: wide_weights(model, ratio, _calibration(case)),
    )
    fine = retrained_qat(base, remade(case, path), f"wide-weights-qat-{ratio:g}")
    coarse = with_ptq(fine, converted(path, "int8_per_tensor", case.calibration_x))
    return Injected(files_only(coarse), files_only(fine))


def different_network(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """PTQ of a network trained from other initial weights, for fewer epochs."""
    assert case.keras_float is not None
    folder, epochs = base.folder / "made", _STRANGER_EPOCHS[strength]
    start = save_stranger(case.keras_float, folder / "stranger-initial.h5", base.cell.seed + 500)
    path, _ = trained_float(
        base, f"stranger-{strength}", epochs, base.spec.float_lr, start, base.cell.seed + 500
    )
    made = with_ptq(case, converted(path, "int8", case.calibration_x))
    return Injected(files_only(made), files_only(case))


def bias_saturation(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """Biases of PTQ's first layer cut at the limit of 32 bits: the largest one, or a quarter."""
    graph = case.ptq_graph
    assert graph is not None
    weight = next(
        w for w in all_weights(graph)
        if w.bias is not None and w.bias.dtype == "int32" and w.kind in INTEGER_KINDS
    )
    assert weight.bias is not None
    stored = np.array(constant(graph, weight.bias))
    count = 1 if strength == "mild" else max(2, len(stored) // 4)
    at = np.argsort(-np.abs(stored.astype(np.int64)), kind="stable")[:count]
    stored[at] = np.where(stored[at] < 0, _INT32.min, _INT32.max)
    content = replace_constants(graph, {weight.bias.index: stored})
    return Injected(files_only(with_ptq(case, read_graph(content))), files_only(case))


def argmax_ties(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """A flatter softmax in the PTQ file, whose 256 levels then hold no difference."""
    graph = case.ptq_graph
    assert graph is not None
    made = with_ptq(case, read_graph(with_softmax_factor(graph, _FLATTER[strength])))
    return Injected(files_only(made), files_only(case))


def with_softmax_factor(graph: Graph, factor: float) -> bytes:
    """The file with ``factor`` as the number that its softmax multiplies its inputs by."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as fb

    model = fb.ModelT.InitFromPackedBuf(graph.content, 0)
    for op in graph.main.operators:
        if op.code == "SOFTMAX":
            model.subgraphs[0].operators[op.index].builtinOptions.beta = factor
    builder = flatbuffers.Builder(len(graph.content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def hard_case(base: Base, case: Case, strength: str) -> Case:
    """Float, PTQ and QAT of a network that loses accuracy in int8, all made alike."""
    return retrained_qat(base, hard_float(base, case, strength), f"hard-qat-{strength}")


def hard_float(base: Base, case: Case, strength: str) -> Case:
    """Float and PTQ of that network, beside the QAT file of the first one."""
    assert case.keras_float is not None
    ratio = _WIDE_ACTIVATION[strength]
    path = edited(
        case.keras_float, base.folder / "made", f"wide-activation-{ratio:g}",
        lambda model: wide_activation(model, ratio, _calibration(case)),
    )
    return remade(case, path)


def _calibration(case: Case) -> Array:
    assert case.calibration_x is not None
    return case.calibration_x
