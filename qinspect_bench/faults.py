"""The faults: how each cause is put into a healthy case, at two strengths.

The function that injects a cause bears its name.  Faults of evaluation feed wrongly, mix up or
choose; faults of files make another calibration set, format, constant or network; faults of
training train again, or edit what training would have left behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from qinspect.causes import all_rules
from qinspect.data.dataset import one_array
from qinspect.diagnosis import cases
from qinspect.diagnosis.cases import Case, Claim
from qinspect.measure.activations import observe_ranges
from qinspect.schema import Array
from qinspect.studies.build import finetune_seed
from qinspect.tflite import constant, read_graph
from qinspect.tflite.constants import INTEGER_KINDS, all_weights
from qinspect.tflite.graph import Graph
from qinspect.tflite.inputs import Preprocessing
from qinspect.tflite.requantize import Ranges, quantize_file, replace_constants
from qinspect.tflite.runner import Session
from qinspect_bench.architectures import BATCHNORM, CLASSES, IMAGES, SCALABLE
from qinspect_bench.base import (
    Base,
    Inject,
    Injected,
    converted,
    faintest,
    files_only,
    of_classes,
    predictions,
    recalibrated,
    remade,
    retrained_qat,
    trained_float,
    with_float,
    with_ptq,
    with_qat,
)
from qinspect_bench.networks import (
    edited,
    exported,
    first_layers,
    save_stranger,
    small_activations,
    unsettled,
    wide_activation,
    wide_weights,
)
from qinspect_bench.rewired import in_dynamic_range, in_two_branches

# Causes that cannot be put into a study, and why.
NOT_INJECTED: dict[str, str] = {
    "kernel-difference": (
        "which kernels run is decided by the installed runtime, and on this one the optimised and "
        "the reference kernels agree on every file that the converter makes"
    ),
    "another-output": "every network of the benchmark has one output",
    "negative-tail": "one network of the benchmark has swish, and a cause is put into two",
    "state-carried-over": "one network of the benchmark keeps a state, and a cause is put into two",
    "output-below-one-step": (
        "it needs an output with parts of unequal size, which no network of the benchmark has; "
        "coarse outputs of classifiers are argmax-ties"
    ),
}
_SHUFFLED = {"mild": 0.1, "strong": 1.0}
_EXAMPLES = {"mild": 300, "strong": 100}
_COPIES = {"mild": 10, "strong": 40}
# Share of evaluation examples that was trained on, beside those that show it.
_KNOWN = {"mild": 0.05, "strong": 0.3}
# What somebody's script makes of images of 0 to 1.
_PREPARED: dict[str, tuple[Callable[[Array], Array], ...]] = {
    "mild": (
        lambda x: 2 * x - 1,
        lambda x: x - x.mean(),
        lambda x: (x + 1) / 2,
    ),
    "strong": (
        lambda x: x.transpose(0, 2, 1, 3),
        lambda x: 1 - x,
        lambda x: x.transpose(0, 2, 1, 3),
    ),
}
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
_CALIBRATION_SIZE = {"mild": 4, "strong": 1}
_OUTLIER = {"mild": 50.0, "strong": 200.0}
# Calibration inputs, by what somebody's preprocessing did to them.
_UNITS: dict[str, tuple[tuple[float, float], ...]] = {
    "mild": ((0.5, 0.0), (2.0, -1.0), (0.3, 0.0)),
    "strong": ((1 / 255, 0.0), (255.0, 0.0), (0.1, 0.0)),
}
# What the second of two branches is divided by.
_SMALLER = {"mild": 200.0, "strong": 600.0}
_WIDE_WEIGHTS = {"mild": 120.0, "strong": 300.0}
_WIDE_ACTIVATION = {"mild": 200.0, "strong": 400.0}
_STRANGER_EPOCHS = {"mild": 4, "strong": 1}
# Softmax multiplies its inputs by this: 256 levels hold the difference of two classes no more.
_FLATTER = {"mild": 0.01, "strong": 0.002}
# What is left of the range of the scores.
_NARROWED = {"mild": 0.4, "strong": 0.1}
_INT32 = np.iinfo(np.int32)
# Share of the start value left in batch norm's moving statistics: 0.99^n after 190 to 250 steps,
# and after 50 to 120.
_UNSETTLED = {"mild": (0.08, 0.1, 0.12, 0.15), "strong": (0.3, 0.4, 0.5, 0.6)}
# Hidden activations against those of the healthy network, under observers that start at +-6.
_ACTIVATIONS = {"mild": 1 / 4, "strong": 1 / 32}
_RATES = {"mild": 1e-2, "strong": 5e-2}
_FEW_EPOCHS = {"mild": 2, "strong": 1}
_SHORT_RATE = 1e-3


def _right(x: Array, scale: float, zero: int) -> Array:
    return np.clip(np.rint(x / scale) + zero, -128, 127).astype(np.int8)


def input_quantization(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """Predictions of a PTQ file with int8 input, as a script with a mistake gets them."""
    assert case.keras_float is not None
    assert case.data is not None
    graph = converted(case.keras_float, "int8_io", case.calibration_x)
    before = with_ptq(case, graph)
    claimed = fed_by(graph, case.data.array, _SCRIPTS[strength][variant % 3])
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


def swapped_roles(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """PTQ and QAT under each other's name; strongly: PTQ of one calibration example."""
    strong = strength == "strong"
    files = files_only(
        recalibrated(case, faintest(_calibration(case), 1)) if strong else case)
    made = replace(files, ptq_graph=files.qat_graph, qat_graph=files.ptq_graph)
    return Injected(made, files)


def non_finite_weights(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """A weight that overflows in PTQ's float16; strongly: NaN in the float file and in PTQ."""
    assert case.keras_float is not None
    before = with_ptq(files_only(case), converted(case.keras_float, "float16", None))
    value, roles = (np.inf, ("ptq",)) if strength == "mild" else (np.nan, ("float", "ptq"))
    graphs = {role: _with_weight(_graph(before, role), value) for role in roles}
    made = with_ptq(before, graphs["ptq"], float_graph=graphs.get("float"))
    return Injected(made, before)


def _with_weight(graph: Graph, value: float) -> Graph:
    """The file with another value in the place of the first weight of its first layer."""
    tensor = all_weights(graph)[0].tensor
    stored = np.array(constant(graph, tensor))
    stored.reshape(-1)[0] = value
    return read_graph(replace_constants(graph, {tensor.index: stored}))


def preprocessing_mismatch(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """Evaluation examples that were prepared otherwise than those of the training."""
    assert case.data is not None
    x = case.data.array
    made = _PREPARED[strength][variant % 3](x).astype(np.float32)
    data = replace(case.data, x=made)
    return Injected(replace(files_only(case), data=data, train=None), None)


def duplicate_examples(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """Up to three examples that one file alone has right come many times."""
    assert case.data is not None
    right = {r: predictions(_graph(case, r), case.data) == case.data.labels for r in ("ptq", "qat")}
    better = max(np.flatnonzero(right["qat"] > right["ptq"]),
                 np.flatnonzero(right["ptq"] > right["qat"]), key=len)
    index = np.append(np.arange(len(case.data)), np.repeat(better[:3], _COPIES[strength]))
    data = case.data.take(index)
    ids = np.array([f"{name}-{at}" for at, name in enumerate(data.ids)])
    return Injected(replace(files_only(case), data=replace(data, ids=ids)), None)


def train_in_evaluation(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """Examples that QAT knows by heart: it gives the labels that it saw, where PTQ differs.

    The labels are changed to QAT's answer; a part of the other examples was trained on as well.
    """
    assert case.data is not None
    assert case.train is not None
    found = {role: predictions(_graph(case, role), case.data) for role in ("ptq", "qat")}
    differ = found["ptq"] != found["qat"]
    y = np.where(differ, found["qat"], case.data.labels)
    data = replace(case.data, y=y)
    known = data.take(differ | (base.rng(9).random(len(y)) < _KNOWN[strength]))
    train = replace(case.train, x=np.concatenate([case.train.array, known.array]),
                    y=np.concatenate([case.train.labels, known.labels]),
                    ids=np.concatenate([case.train.ids, known.ids]), group=None, part=None)
    return Injected(replace(files_only(case), data=data, train=train), None)


def noise(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """Few examples, on which by chance QAT is a point or more ahead or behind."""
    assert case.data is not None
    right = {r: predictions(_graph(case, r), case.data) == case.data.labels for r in ("ptq", "qat")}
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
    best = int((table == case.data.labels).mean(axis=1).argmax())
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
    order = np.argsort((table == case.data.labels).mean(axis=1), kind="stable").tolist()
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
    y = case.data.labels.copy()
    y[chosen] = found["ptq"][chosen]
    return Injected(replace(two, data=replace(case.data, y=y)), None)


def distribution_shift(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """Noise on the pixels of the evaluation examples, within the range of the inputs."""
    assert case.data is not None
    x = case.data.array
    low, high = x.min(), x.max()
    noisy = x + (high - low) * base.rng(6).normal(0, _PIXEL_NOISE[strength], x.shape)
    data = replace(case.data, x=np.clip(noisy, low, high).astype(np.float32))
    made = replace(files_only(case), data=data, train=case.train)
    return Injected(made, None)


def calibration_small(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """One or four examples, those of least ink."""
    few = faintest(_calibration(case), _CALIBRATION_SIZE[strength])
    return Injected(recalibrated(case, few), case)


def calibration_shift(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """Calibration examples that were preprocessed otherwise."""
    factor, offset = _UNITS[strength][variant % 3]
    x = _calibration(case)
    x = (x * factor + offset * x.max()).astype(np.float32)
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


def dynamic_range_collapse(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """An activation of which one channel is large, quantized while running; only float and PTQ."""
    two = replace(files_only(case), qat_graph=None)
    graphs = [_graph(one, "float") for one in (case, hard_float(base, case, strength))]
    before, made = (with_ptq(two, read_graph(in_dynamic_range(graph)), float_graph=graph)
                    for graph in graphs)
    return Injected(made, before)


def sensitive_layer(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """One activation whose range is set by a channel that tells nothing; only files at hand."""
    hard = hard_case(base, case, strength)
    return Injected(files_only(hard), files_only(case))


def unbalanced_branches(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """The first layer in two halves, one of small values, put together; only float and PTQ."""
    two = replace(files_only(case), qat_graph=None)
    made, before = (
        with_ptq(two, read_graph(quantize_file(graph, _observed(graph, case))), float_graph=graph)
        for graph in (read_graph(in_two_branches(_graph(case, "float"), ratio))
                      for ratio in (_SMALLER[strength], 1.0)))
    return Injected(made, before)


def _observed(graph: Graph, case: Case) -> Ranges:
    return observe_ranges(graph, _calibration(case)).over()


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


def output_saturated(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """Files that end before the softmax, of which PTQ holds a part of the range."""
    graphs = {role: read_graph(without_softmax(_graph(case, role))) for role in case.roles}
    observed = observe_ranges(graphs["float"], _calibration(case)).over()
    name = graphs["float"].main.tensors[graphs["float"].main.outputs[0]].name
    low, high = observed.bounds[name]
    narrow = _NARROWED[strength]
    bounds = {**observed.bounds, name: (narrow * low, narrow * high)}
    before = replace(files_only(case), float_graph=graphs["float"], qat_graph=graphs.get("qat"))
    healthy, cut = (with_ptq(before, read_graph(quantize_file(graphs["float"], one)))
                    for one in (observed, Ranges(bounds)))
    return Injected(cut, healthy)


def without_softmax(graph: Graph) -> bytes:
    """The file without its final softmax: its outputs are what that takes."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as fb

    model = fb.ModelT.InitFromPackedBuf(graph.content, 0)
    main = model.subgraphs[0]
    softmax = next(op for op in graph.main.operators if op.code == "SOFTMAX")
    main.outputs = [softmax.inputs[0]]
    main.operators = [op for at, op in enumerate(main.operators) if at < softmax.index]
    for signature in model.signatureDefs or ():
        for output in signature.outputs:
            output.tensorIndex = softmax.inputs[0]
    used = {*main.inputs, *main.outputs}
    for op in main.operators:
        used |= {*op.inputs, *op.outputs}
    new = {old: at for at, old in enumerate(sorted(used - {-1}))} | {-1: -1}
    main.tensors = [main.tensors[old] for old in new if old >= 0]
    for holder in (main, *main.operators):
        holder.inputs, holder.outputs = ([new[old] for old in listed]
                                         for listed in (holder.inputs, holder.outputs))
    for signature in model.signatureDefs or ():
        for item in (*signature.inputs, *signature.outputs):
            item.tensorIndex = new[item.tensorIndex]
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


def batchnorm_lag(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """Float and PTQ with statistics that lag; QAT has settled its own while it trained."""
    assert case.keras_float is not None
    share = _UNSETTLED[strength][variant % 4]
    path = edited(
        case.keras_float, base.folder / "made", f"unsettled-{strength}-{variant % 4}",
        lambda model: unsettled(model, share),
    )
    made = with_float(replace(case, keras_float=path), path)
    return Injected(made, case)


def stale_observers(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """QAT for one epoch from tfmot's start ranges, in a network with small activations."""
    before = _small(base, case, strength)
    return Injected(retrained_qat(base, before, f"stale-{strength}", warm_start=False), case)


def _small(base: Base, case: Case, strength: str) -> Case:
    """The same function with small activations, float and PTQ made from it."""
    assert case.keras_float is not None
    path = edited(
        case.keras_float, base.folder / "made", f"small-{strength}",
        lambda model: small_activations(model, _ACTIVATIONS[strength]),
    )
    return remade(case, path)


def qat_learning_rate(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """QAT with steps some 300 or 1,700 times as large, and settled batch norm after them."""
    made = retrained_qat(base, case, f"steps-{strength}", settle=True, qat_lr=_RATES[strength])
    return Injected(made, case)


def training_budget(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """A float model of one or two epochs, and QAT for four more."""
    made = _short(base, case, strength)
    return Injected(
        retrained_qat(base, made, f"budget-{strength}", qat_epochs=4, qat_lr=_SHORT_RATE), case
    )


def undertrained(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """Float of one or two epochs; then as long again, as float before PTQ and as QAT."""
    short = _short(base, case, strength)
    assert short.keras_float is not None
    assert short.facts is not None
    epochs = _FEW_EPOCHS[strength]
    path, _ = trained_float(
        base, f"short-ft-{strength}", epochs, _SHORT_RATE, short.keras_float,
        finetune_seed(base.spec),
    )
    made = retrained_qat(
        base, short, f"undertrained-{strength}", qat_epochs=epochs, qat_lr=_SHORT_RATE
    )
    facts = made.facts
    assert facts is not None
    made = with_float(made, path)
    return Injected(replace(made, facts=replace(facts, equal_budget=True)), case)


def _short(base: Base, case: Case, strength: str) -> Case:
    """The case of a float model that was trained for few epochs."""
    assert case.facts is not None
    epochs = _FEW_EPOCHS[strength]
    path, history = trained_float(
        base, f"short-{strength}", epochs, _SHORT_RATE,
        base.folder / "made" / "untrained.h5", base.spec.seed,
    )
    return replace(
        remade(case, path), history=history.assign(phase="float"),
        facts=replace(case.facts, float_epochs=epochs, float_lr=_SHORT_RATE),
    )


def qat_requantized(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """QAT's weights in a float network, quantized after training; strongly: with one example."""
    assert case.keras_qat is not None
    assert case.keras_float is not None
    path = exported(case.keras_qat, case.keras_float, base.folder / "made" / "exported.h5")
    x = _calibration(case) if strength == "mild" else faintest(_calibration(case), 1)
    return Injected(with_qat(case, converted(path, "int8", x)), case)


def qat_not_applied(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """The float model converted under QAT's name, where int8 costs PTQ some accuracy."""
    before = hard_case(base, case, strength)
    assert before.keras_float is not None
    recipe = ("dynamic_range", "float32", "float16")[variant % 3]
    graph = converted(before.keras_float, recipe, None)
    # Its Keras model is the float one: annotated, never applied.
    return Injected(replace(with_qat(before, graph), keras_qat=before.keras_float), before)


def layers_left_out_of_qat(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """QAT of the last layers alone, in a network of which int8 hurts the first ones."""
    before = hard_case(base, case, strength)
    assert before.keras_float is not None
    names = first_layers(before.keras_float, whole=strength == "strong")
    # Beside these what tfmot does not take.
    left = tuple(dict.fromkeys((*names, *base.spec.skip_layers)))
    return Injected(retrained_qat(base, before, f"part-{strength}", skip_layers=left), before)


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
    if not of_classes(case):
        return loose
    claims = {role: Claim(predictions(_graph(loose, role), case.data)) for role in loose.roles}
    return replace(loose, claims=claims)


def _graph(case: Case, role: str) -> Graph:
    graph = case.graph(role)
    assert graph is not None
    return graph


def _calibration(case: Case) -> Array:
    assert case.calibration_x is not None
    return one_array(case.calibration_x, "the calibration set")


FAULTS: dict[str, Inject] = {
    cause: globals()[cause.replace("-", "_")]
    for cause in all_rules() if cause.replace("-", "_") in globals()
}
# What a cause asks of a network, of qinspect_bench.architectures; those not named fit any.
NEEDS: dict[str, frozenset[str]] = {
    "argmax-ties": frozenset({CLASSES}),
    "batchnorm-lag": frozenset({BATCHNORM}),
    "different-format": frozenset({SCALABLE}),
    "duplicate-examples": frozenset({CLASSES}),
    "dynamic-range-collapse": frozenset({SCALABLE}),
    "evaluation-mismatch": frozenset({CLASSES}),
    "input-quantization": frozenset({CLASSES}),
    "layers-left-out-of-qat": frozenset({SCALABLE}),
    "lucky-checkpoint": frozenset({CLASSES}),
    "noise": frozenset({CLASSES}),
    # Of numbers nothing can be compared, which is refused by the name of the weight.
    "non-finite-weights": frozenset({CLASSES}),
    "output-saturated": frozenset({CLASSES, SCALABLE}),
    "per-tensor-weights": frozenset({SCALABLE}),
    "preprocessing-mismatch": frozenset({IMAGES}),
    "qat-not-applied": frozenset({SCALABLE}),
    "regularisation": frozenset({CLASSES, SCALABLE}),
    "sensitive-layer": frozenset({SCALABLE}),
    "stale-observers": frozenset({SCALABLE}),
    "train-in-evaluation": frozenset({CLASSES}),
    "unbalanced-branches": frozenset({SCALABLE}),
}
# The first is injected first: what is made later is made from what the earlier one left.
PAIRS: tuple[tuple[str, str], ...] = (
    ("batchnorm-lag", "calibration-outliers"),
    ("stale-observers", "calibration-shift"),
    ("qat-learning-rate", "calibration-outliers"),
    ("calibration-shift", "evaluation-mismatch"),
    ("calibration-outliers", "bias-saturation"),
    ("different-network", "argmax-ties"),
)
