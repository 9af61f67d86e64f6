"""Causes that lie in the files: which is which, constants, branches, layers left in float."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as fb
from diagnose_cases import (
    calibration,
    case,
    data,
    finding,
    float_graph,
    graph_of,
    int8,
    moved,
    ranges,
    trained,
    with_weight,
)
from small_net import half
from swish_net import swish_net
from tiny_graphs import one_operator

import qinspect as qi
from qinspect.causes.negative_tail import curved_outputs
from qinspect.diagnosis.cases import Case
from qinspect.diagnosis.engine import diagnose
from qinspect.diagnosis.rule import Finding
from qinspect.errors import DataError
from qinspect.measure.activations import observe_ranges
from qinspect.tflite import evaluate
from qinspect.tflite.constants import all_weights, constant, non_finite
from qinspect.tflite.graph import Graph
from qinspect.tflite.inputs import load_examples
from qinspect.tflite.requantize import Ranges, quantize_file, replace_constants
from qinspect.tflite.runner import Session
from qinspect_bench import faults
from qinspect_bench.base import Base, Cell, base_spec
from qinspect_bench.rewired import in_dynamic_range, in_two_branches


def base(given: Case, folder: Path) -> Base:
    cell = Cell("plain_cnn", 0)
    return Base(cell, folder, base_spec(cell, folder / "m.h5", "digits"), given)


# --- swapped-roles ----------------------------------------------------------------------------


def test_exchanged_files_without_a_record_are_told_by_their_weights() -> None:
    """No metadata: PTQ was fine-tuned, and QAT holds the float file's weights."""
    ptq, qat = int8(ranges(calibration())), moved(0.1, relu_below_zero=True)
    assert finding("swapped-roles", case(ptq, qat_graph=qat)).verdict == "ruled_out"
    found = diagnose(case(qat, qat_graph=ptq))
    assert (found.primary, found.proved) == ("swapped-roles", True)
    assert found.cause("swapped-roles").finding.facts["ptq_origin"] == "unknown"
    # Without the float file there is nothing left that tells.
    alone = case(qat, qat_graph=ptq, float_graph=None)
    assert finding("swapped-roles", alone).verdict == "ruled_out"


def test_an_earlier_checkpoint_is_another_network_and_not_exchanged() -> None:
    """It descends from the float file, and was quantized after training all the same."""
    found = diagnose(case(moved(0.5), qat_graph=int8(ranges(calibration()))))
    numbers = found.cause("different-network").finding.numbers
    assert numbers["float_ptq_lineage"] == "fine-tuned from"
    assert (found.primary, found.proved) == ("different-network", True)
    assert found.cause("swapped-roles").finding.verdict == "ruled_out"


# --- non-finite-weights -----------------------------------------------------------------------


def large(graph: Graph, factor: float) -> Graph:
    """The same function: a channel of the convolution grows, and what reads it shrinks as much.

    ReLU lets a factor through, so the outputs stay what they are but for the rounding of floats.
    """
    conv, depthwise = all_weights(graph)[:2]
    assert conv.bias is not None
    kernel, bias, next_one = (np.array(constant(graph, one))
                              for one in (conv.tensor, conv.bias, depthwise.tensor))
    kernel[0] *= factor
    bias[0] *= factor
    next_one[..., 0] /= factor
    return graph_of(replace_constants(graph, {
        conv.tensor.index: kernel, conv.bias.index: bias, depthwise.tensor.index: next_one}))


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_weight_beyond_float16_is_infinite_and_proved() -> None:
    """Its remedy gives the float file's classes, whose weights are the same but for rounding."""
    graph = large(float_graph(), 2.0**18)
    ptq = graph_of(half(graph.content), "half.tflite")
    found = diagnose(case(ptq, float_graph=graph))
    assert (found.primary, found.proved) == ("non-finite-weights", True)
    cause = found.cause("non-finite-weights")
    # Counted once more: what float16 cannot hold of the float file.
    conv = all_weights(graph)[0]
    stored = np.concatenate([constant(graph, one).ravel() for one in (conv.tensor, conv.bias)])
    assert cause.finding.numbers["ptq_non_finite"] == np.sum(np.abs(stored) > 65_519)
    assert cause.effect is not None
    assert cause.effect.closed_share > 0.95
    healthy = graph_of(half(float_graph().content))
    assert finding("non-finite-weights", case(healthy)).verdict == "ruled_out"


@pytest.mark.parametrize("scale", [0.0, -1.0, np.inf, np.nan])
@pytest.mark.parametrize("name", ["conv/weights", "pool", "probabilities"])
def test_scales_that_are_none_are_named(name: str, scale: float) -> None:
    model = fb.ModelT.InitFromPackedBuf(int8(ranges(calibration())).content, 0)
    (tensor,) = (one for one in model.subgraphs[0].tensors if one.name == name.encode())
    stored = np.array(tensor.quantization.scale, np.float32)
    stored[0] = scale
    tensor.quantization.scale = stored
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    told = finding("non-finite-weights", case(graph_of(bytes(builder.Output()))))
    # A channel of zeros may have a scale of zero.
    expected = "ruled_out" if (name, scale) == ("conv/weights", 0.0) else "indicated"
    assert told.verdict == expected
    assert (f"in {name!r}" in told.sentence) is (expected == "indicated")
    if name == "pool":
        assert diagnose(case(graph_of(bytes(builder.Output()))),
                        interventions=False).primary == "non-finite-weights"


@pytest.mark.parametrize("layer", [0, 2])
def test_weights_that_are_no_numbers_are_named_in_every_file_and_nothing_else(layer: int) -> None:
    broken = with_weight(float_graph(), np.nan, layer)
    for puzzle in (case(broken, float_graph=broken), case(int8(ranges(calibration())),
                                                          float_graph=broken), case(broken)):
        found = diagnose(puzzle)
        assert found.primary == "non-finite-weights"
        assert not any(cause.confirmed for cause in found.causes)
        named = found.cause("non-finite-weights").finding.sentence
        for role in puzzle.roles:
            graph = puzzle.graph(role)
            assert graph is not None
            assert (("PTQ" if role == "ptq" else role) in named) is bool(non_finite(graph))


def test_a_regression_of_no_numbers_is_refused_by_the_name_of_the_weight() -> None:
    told = dataclasses.replace(
        data(), y=evaluate(float_graph(), data().x).outputs, num_classes=0)
    broken = with_weight(float_graph(), np.nan)
    with pytest.raises(DataError, match="PTQ file holds 1 NaN value in 'conv/weights'"):
        diagnose(case(broken, data=told, metric="mae"))


def test_an_infinite_mask_is_no_weight() -> None:
    kind, shape = fb.TensorType.FLOAT32, (1, 3)

    def added(values: list[float]) -> Graph:
        return graph_of(one_operator(
            fb.BuiltinOperator.ADD, [("x", shape, kind)], [("y", shape, kind)],
            options=(fb.BuiltinOptions.AddOptions, fb.AddOptionsT()),
            constant=np.array([values], np.float32)))

    assert not non_finite(added([0.0, -np.inf, 0.0]))
    assert [one.nan for one in non_finite(added([0.0, -np.inf, np.nan]))] == [1]
    assert [one.infinite for one in non_finite(with_weight(float_graph(), np.inf))] == [1]


# --- unbalanced-branches ----------------------------------------------------------------------


@pytest.mark.parametrize("strength", ["mild", "strong"])
def test_a_branch_without_levels_is_named_before_its_layers(tmp_path: Path, strength: str) -> None:
    good = case(int8(ranges(calibration())), calibration_x=calibration())
    made = faults.unbalanced_branches(base(good, tmp_path), good, strength, 0)
    found = diagnose(made.case)
    assert (found.primary, found.proved) == ("unbalanced-branches", True)
    effect = found.cause("unbalanced-branches").effect
    assert effect is not None
    assert effect.closed_share > 0.9
    assert made.before is not None
    assert finding("unbalanced-branches", made.before).verdict == "ruled_out"
    assert diagnose(made.before).primary in ("none", "undecided", "noise")


def test_two_branches_compute_what_one_layer_did() -> None:
    for ratio in (1.0, 100.0):
        split = graph_of(in_two_branches(float_graph(), ratio))
        assert [op.code for op in split.main.operators].count("CONCATENATION") == 1
        np.testing.assert_allclose(evaluate(split, data().x[:50]).outputs,
                                   evaluate(float_graph(), data().x[:50]).outputs, atol=1e-5)


def test_levels_of_a_branch_are_its_part_of_the_common_range() -> None:
    graph = graph_of(in_two_branches(float_graph(), 50.0), "float.tflite")
    seen = observe_ranges(graph, data().x)
    wide = {name: (low, 4 * high) for name, (low, high) in seen.over().bounds.items()}
    ptq = graph_of(quantize_file(graph, Ranges(wide), "int8"))
    numbers = finding("unbalanced-branches", case(ptq, float_graph=graph)).numbers
    whole, small = (seen.high[:, seen.names.index(name)].max()
                    for name in ("conv/Relu", "small/output"))
    assert numbers["fewest_branch_levels"] == pytest.approx(255 * small / (4 * whole), rel=1e-2)


def test_sums_of_a_healthy_residual_network_are_balanced(data_dir: Path) -> None:
    folder = data_dir / "tflite" / "resnet8"
    examples = load_examples(folder / "cifar_eval.npz").take(np.arange(64))
    found = finding("unbalanced-branches", qi.case(
        float=folder / "float32.tflite", ptq=folder / "int8.tflite", data=examples))
    assert found.verdict == "ruled_out"
    assert found.numbers["joins"] == 3


# --- dynamic-range-collapse -------------------------------------------------------------------


@pytest.mark.parametrize("spread", [100.0, 1_000.0])
def test_one_large_channel_takes_the_levels_of_a_file_quantized_while_running(
    spread: float,
) -> None:
    ptq = graph_of(in_dynamic_range(float_graph(0, spread)), "dynamic.tflite")
    found = diagnose(case(ptq, spread))
    assert (found.primary, found.proved) == ("dynamic-range-collapse", True)
    cause = found.cause("dynamic-range-collapse")
    assert cause.finding.facts["ptq_layer_that_loses_most"] == "depthwise"
    # The same from the float file: its ReLU is zero or more, so its largest value is its width.
    graph = float_graph(0, spread)
    at = next(tensor.index for tensor in graph.main.tensors if tensor.name == "conv/Relu")
    with Session(graph, tensors=[at], workers=1) as session:
        values = session.run(data(spread).x[:256])[at]
    flat = values.reshape(len(values), -1)
    small = (flat > 0) & (flat < flat.max(axis=1, keepdims=True) / 510)
    assert cause.finding.numbers["ptq_lost_share"] == pytest.approx(
        small.sum() / np.count_nonzero(flat), abs=0.02)


def test_a_healthy_file_quantized_while_running_keeps_its_values() -> None:
    ptq = graph_of(in_dynamic_range(float_graph()), "dynamic.tflite")
    assert finding("dynamic-range-collapse", case(ptq)).verdict == "ruled_out"
    stored = case(int8(ranges(calibration())))
    assert finding("dynamic-range-collapse", stored).verdict == "does_not_apply"


# --- negative-tail ----------------------------------------------------------------------------


def swished(share: float, factor: float = 0.3) -> Case:
    """PTQ of the network with swish, of whose tail below zero a share of the depth is stored."""
    graph = graph_of(swish_net(factor=factor), "float.tflite")
    told = dataclasses.replace(data(), y=evaluate(graph, data().x).prediction)
    bounds = observe_ranges(graph, calibration()).over().bounds
    low, high = bounds["conv/Relu"]
    cut = Ranges({**bounds, "conv/Relu": (share * low, high)})
    return case(graph_of(quantize_file(graph, cut, "int8")), float_graph=graph, data=told)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_tail_of_swish_that_is_cut_off(share: float) -> None:
    found = diagnose(swished(share))
    assert (found.primary, found.proved) == ("negative-tail", True)
    numbers = found.cause("negative-tail").finding.numbers
    # The least value of swish is -0.2785, at -1.278.
    assert numbers["tail_low"] == pytest.approx(-0.2785, abs=1e-3)
    assert numbers["tail_cut_share"] == pytest.approx(1 - share, abs=0.05)


def test_whole_tails_and_those_of_few_steps_are_no_cause() -> None:
    whole = finding("negative-tail", swished(1.0))
    assert whole.verdict == "ruled_out"
    flat = finding("negative-tail", swished(0.0, factor=4.0))
    assert flat.numbers["tail_steps"] < 4
    assert flat.verdict == "ruled_out"
    assert curved_outputs(float_graph()) == []
    none = finding("negative-tail", case(int8(ranges(calibration()))))
    assert none.verdict == "does_not_apply"


# --- layers-left-out-of-qat -------------------------------------------------------------------


def partly(graph: Graph, *operators: int) -> Graph:
    """An int8 file with some operators in float."""
    ranges_ = observe_ranges(graph, calibration()).over()
    return graph_of(quantize_file(graph, ranges_, "int8", dict.fromkeys(operators, "float32")))


def test_layers_that_only_ptq_pays_for() -> None:
    """PTQ loses at the convolution, which QAT has in float; of other weights, so it was trained."""
    bounds = dict(ranges(calibration()).bounds)
    bounds["conv/Relu"] = (0.0, 150 * bounds["conv/Relu"][1])
    ptq, qat = int8(Ranges(bounds)), partly(trained(0.02), 0, 1)
    found = diagnose(case(ptq, qat_graph=qat))
    # What closes the gap is PTQ's own way out, not QAT of these layers, which would have to train.
    assert (found.primary, found.proved) == ("layers-left-out-of-qat", False)
    assert "only training tells" in found.card.sure
    assert "--keras-float" in found.lacks
    effect = found.cause("layers-left-out-of-qat").effect
    assert effect is not None
    assert effect.closed_share > 0.9
    numbers = found.cause("layers-left-out-of-qat").finding.numbers
    assert numbers["qat_layers_in_float"] == 2
    assert found.cause("different-format").finding.verdict == "ruled_out"
    # Nothing left out, and what both have in float, is no difference.
    for other, of in ((moved(0.02), ptq), (qat, partly(float_graph(), 0, 1))):
        assert finding("layers-left-out-of-qat", case(of, qat_graph=other)).verdict == "ruled_out"


def test_a_file_that_is_float_all_through_is_another_cause() -> None:
    found = finding("layers-left-out-of-qat",
                    case(int8(ranges(calibration())), qat_graph=float_graph()))
    assert found.verdict == "does_not_apply"
    assert "qat-not-applied" in found.sentence


@pytest.mark.slow
def test_layers_that_tfmot_was_not_asked_to_annotate(converted_files: Path) -> None:
    """Of six, conv3 and fc1 were; the converter has fc1 alone in integers."""
    examples = load_examples((np.zeros((4, 8, 8, 1), np.float32), np.arange(4)))

    def of(name: str, **more: Path) -> Finding:
        return finding("layers-left-out-of-qat", qi.case(
            ptq=converted_files / "int8.tflite", qat=converted_files / f"{name}.tflite",
            data=examples, **more))

    assert of("qat_part").numbers["qat_layers_in_float"] == 5
    assert of("qat").verdict == "ruled_out"
    whole = of("qat", keras_qat=converted_files / "qat.h5")
    assert (whole.verdict, whole.numbers["qat_layers_not_wrapped"]) == ("ruled_out", 0)
    bare = of("qat", keras_qat=converted_files / "qat_part.h5")
    assert bare.verdict == "indicated"
    assert bare.facts["layers_not_wrapped"] == ["stem", "dw", "pw", "fc2"]
