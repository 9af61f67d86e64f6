"""Activations, local and accumulated errors, weights and recipes on published files."""

from __future__ import annotations

import platform
from dataclasses import replace

import flatbuffers
import numpy as np
import pandas as pd
import pytest
from ai_edge_litert import schema_py_generated as flat
from small_net import examples, half, small_net
from tiny_graphs import floor_mod

from qinspect.errors import DataError, ModelFileError, SpecError
from qinspect.measure.activations import (
    activation_statistics,
    activation_tensors,
    observe_ranges,
)
from qinspect.measure.cut import CutOperators, cut_operators
from qinspect.measure.error_metrics import ERRORS
from qinspect.measure.layer_tables import layer_tables, layers
from qinspect.measure.local import layer_errors
from qinspect.measure.probe import Pair
from qinspect.measure.scales import scale_table
from qinspect.measure.weights import channel_summary, weight_errors
from qinspect.schema import TENSORS
from qinspect.tflite import evaluate, match_graphs, read_graph
from qinspect.tflite.constants import constant
from qinspect.tflite.ports import real_values
from qinspect.tflite.requantize import quantize_file, replace_constants
from qinspect.tflite.runner import Session

OPS = 16


@pytest.fixture(scope="module")
def net(data_dir):
    folder = data_dir / "tflite" / "resnet8"
    x = np.load(folder / "cifar_eval.npz", allow_pickle=False)["x"][:40].astype(np.float32)
    return read_graph(folder / "float32.tflite"), read_graph(folder / "int8.tflite"), x


@pytest.fixture(scope="module")
def pairs():
    return [Pair(i, i, f"layer{i}") for i in range(OPS)]


def by_layer(frame, reference):
    return frame[frame["reference"] == reference].set_index("layer")


def test_the_last_accumulated_error_is_that_of_the_whole_network(net, pairs):
    a, b, x = net
    result = layer_errors(a, b, pairs, x)
    gap = evaluate(b.content, x).outputs.astype(float) - evaluate(a.content, x).outputs
    last = by_layer(result.errors, "accumulated").loc[f"layer{OPS - 1}"]
    assert last["mse"] == pytest.approx(np.mean(gap**2), rel=1e-4)
    assert last["bias"] == pytest.approx(gap.mean(), abs=1e-7)
    assert result.examples == len(x)
    assert tuple(result.errors.columns) == ERRORS
    assert len(result.errors) == 2 * OPS


def test_a_float16_file_is_a_reference_like_the_float32_one_of_its_rounded_weights():
    graph, x = read_graph(small_net()), examples(30)
    rounded = {t.index: constant(graph, t).astype(np.float16)
               for t in graph.main.tensors if t.constant and t.dtype == "float32"}
    ours, theirs = read_graph(half(graph.content)), read_graph(replace_constants(graph, rounded))
    int8 = read_graph(quantize_file(graph, observe_ranges(graph, x).over()))
    found = layer_tables({"half": ours, "int8": int8}, x)
    expected = layer_tables({"float": theirs, "int8": int8}, x)
    pd.testing.assert_frame_equal(found.frame, expected.frame)
    assert len(found.frame)
    assert found.notes == expected.notes


def test_local_error_of_a_convolution_against_numpy(net, pairs):
    """A 1x1 convolution of stride 2 is a matrix product: the second implementation."""
    from qinspect.tflite import dequantized

    a, b, x = net
    op = 6
    assert a.main.operators[op].options.get("stride_w", 2) == 2
    source, _, _ = b.main.operators[op].inputs
    out = b.main.operators[op].outputs[0]
    stored = Session(b, tensors=[source, out]).run(x)
    given = real_values(b.main.tensors[source], stored[source])[:, ::2, ::2]
    _, w, bias = (a.main.tensors[i] for i in a.main.operators[op].inputs)
    kernel = dequantized(a, w)
    assert kernel.shape[1:3] == (1, 1)
    true = np.einsum("nhwi,oi->nhwo", given, kernel[:, 0, 0]) + dequantized(a, bias)
    error = real_values(b.main.tensors[out], stored[out]).astype(float) - true
    row = by_layer(layer_errors(a, b, pairs, x).errors, "local").loc[f"layer{op}"]
    assert row["mse"] == pytest.approx(np.mean(error**2), rel=1e-4)
    scale = b.main.tensors[out].quantization.scale[0]
    assert row["rmse_over_scale"] == pytest.approx(np.sqrt(np.mean(error**2)) / scale, rel=1e-4)


def test_cut_operators_on_the_networks_own_tensors_give_the_network(net):
    """Operators cut out and fed what they get in the network must compute what it computes."""
    a, _, x = net
    constants = {t.index for t in a.main.tensors if t.constant}
    layers = {
        op.index: CutOperators((op.index,), {i: i for i in op.inputs if i not in constants},
                               op.outputs[0])
        for op in a.main.operators
    }
    cut = cut_operators(a, layers)
    everything = Session(a, tensors=list(activation_tensors(a))).run(x)
    alone = Session(cut.content)
    found = alone.run({index: everything[source] for source, index in cut.inputs.items()})
    assert not alone.notes
    for op, index in cut.outputs.items():
        expected = everything[a.main.operators[op].outputs[0]]
        np.testing.assert_allclose(found[index], expected, rtol=1e-4, atol=1e-4)


def test_integers_are_dequantized_in_the_cut_model_to_the_last_bit(net):
    a, b, x = net
    layers = {}
    for op, other in zip(a.main.operators[1:], b.main.operators[1:], strict=True):
        sources = {i: j for i, j in zip(op.inputs, other.inputs, strict=True)
                   if not a.main.tensors[i].constant}
        layers[op.index] = CutOperators((op.index,), sources, op.outputs[0])
    integers = cut_operators(a, layers, {t.index: t for t in b.main.tensors})
    plain = cut_operators(a, layers)
    stored = Session(b, tensors=list(plain.inputs)).run(x)
    real = {i: real_values(b.main.tensors[i], values) for i, values in stored.items()}
    assert {stored[i].dtype for i in integers.stored} == {np.dtype("int8")}
    found, expected = (
        Session(cut.content, how=None).run({at: given[i] for i, at in cut.inputs.items()})
        for cut, given in ((integers, stored), (plain, real))
    )
    for layer, index in integers.outputs.items():
        np.testing.assert_array_equal(found[index], expected[plain.outputs[layer]])


def test_matched_layers_and_operators_that_belong_together(net, pairs):
    a, b, x = net
    plain = layer_errors(a, b, pairs, x).errors
    matched = layer_errors(a, b, match_graphs(a, b), x).errors
    assert matched["layer"].nunique() == OPS
    pd.testing.assert_frame_equal(matched.drop(columns="layer"), plain.drop(columns="layer"))
    # The first two convolutions taken as one layer: its inputs are the network's own, so what
    # it costs by itself is all that has accumulated.
    joint = Pair(1, 1, "both", absorbed_a=(0,), absorbed_b=(0,))
    local = by_layer(layer_errors(a, b, [joint], x).errors, "local").loc["both"]
    accumulated = by_layer(plain, "accumulated").loc["layer1"]
    for name in ("sqnr_db", "rmse_over_scale", "bias"):
        assert local[name] == pytest.approx(accumulated[name], rel=1e-4, abs=1e-7)


def test_a_network_against_itself_has_no_error(net, pairs):
    a, _, x = net
    result = layer_errors(a, a, pairs, x[:4])
    accumulated = by_layer(result.errors, "accumulated")
    assert (accumulated["sqnr_db"] == np.inf).all()
    assert (by_layer(result.errors, "local")["sqnr_db"] > 100).all()
    assert result.errors["rmse_over_scale"].isna().all()  # floats have no scale
    assert set(result.histograms["unit"]) == {"real"}


def test_results_do_not_depend_on_batches_threads_or_the_generator(net, pairs):
    a, b, x = net
    whole = layer_errors(a, b, pairs, x, batch_size=40, num_threads=1)
    for other in (
        layer_errors(a, b, pairs, x, batch_size=7, num_threads=3),
        layer_errors(a, b, pairs, (x[i : i + 9] for i in range(0, 40, 9)), batch_size=4),
    ):
        assert other.examples == 40
        numbers = whole.errors.select_dtypes("number").columns
        np.testing.assert_allclose(
            other.errors[numbers], whole.errors[numbers], rtol=2e-3, atol=1e-5
        )
        # Summation order in the float kernels may move single values across an edge.
        for part in ("rounded", "clipped"):
            first, second = (
                r.histograms.loc[r.histograms["part"] == part, "count"].sum()
                for r in (whole, other)
            )
            assert abs(first - second) <= 5


def test_batches_that_grow_leave_what_is_still_being_summed_alone(net, pairs):
    """Room for more examples moves what the files gave before."""
    a, b, x = net
    parts = np.split(x, np.cumsum([1, 2, 1, 5, 12]))
    here = [replace(graph, guarded=False) for graph in (a, b)]
    for threads in (1, 3):
        found = layer_errors(a, b, pairs, iter(parts), batch_size=16, num_threads=threads)
        expected = layer_errors(*here, pairs, iter(parts), batch_size=16, num_threads=threads)
        pd.testing.assert_frame_equal(found.errors, expected.errors)
        pd.testing.assert_frame_equal(found.histograms, expected.histograms)


def test_a_file_that_fixes_the_batch_is_run_one_by_one(net, pairs):
    """The same network with the 1 written into its RESHAPE instead of a -1."""
    a, b, x = net
    fixed = []
    for graph in (a, b):
        model = flat.ModelT.InitFromPackedBuf(graph.content, 0)
        subgraph = model.subgraphs[0]
        shape = subgraph.tensors[subgraph.operators[13].inputs[1]]
        model.buffers[shape.buffer].data = np.array([1, 64], np.int32).view(np.uint8)
        packer = flatbuffers.Builder(0)
        packer.Finish(model.Pack(packer), b"TFL3")
        fixed.append(read_graph(bytes(packer.Output())))
    found = layer_errors(*fixed, pairs, x[:5])
    assert sum("one example at a time" in note for note in found.notes) == 1
    expected = layer_errors(a, b, pairs, x[:5])
    assert not expected.notes
    numbers = ["mse", "bias", "max_abs", "cosine"]
    np.testing.assert_allclose(
        found.errors[numbers], expected.errors[numbers], rtol=2e-3, atol=1e-5
    )


def test_histograms_count_every_element_and_show_the_same_error(net, pairs):
    a, b, x = net
    result = layer_errors(a, b, pairs, x)
    for (layer, reference), part in result.histograms.groupby(["layer", "reference"]):
        row = by_layer(result.errors, reference).loc[layer]
        assert part["count"].sum() == row["count"]
        clipped = part[part["part"] == "clipped"]["count"].sum()
        assert clipped == pytest.approx(row["clipped_share"] * row["count"])
        middle = (part["low"] + part["high"]) / 2
        width = (part["high"] - part["low"]).max()
        mean2 = np.average(middle**2, weights=part["count"])
        assert np.sqrt(mean2) == pytest.approx(row["rmse_over_scale"], abs=width)


def test_what_cannot_be_measured_is_said(net):
    a, b, x = net
    crossed = [Pair(0, 0, "first"), Pair(4, 3, "crossed")]
    result = layer_errors(a, b, crossed, x[:2])
    assert list(by_layer(result.errors, "local").index) == ["first"]
    assert any("crossed" in note for note in result.notes)
    # A quantized file as the reference has no float operators to run.
    result = layer_errors(b, b, [Pair(0, 0, "first")], x[:2])
    assert list(result.errors["reference"]) == ["accumulated"]
    assert any("int8, not float32" in note for note in result.notes)
    with pytest.raises(SpecError, match="no operator 99"):
        layer_errors(a, b, [(99, 0)], x)
    with pytest.raises(DataError, match="shape"):
        layer_errors(a, b, [(0, 0)], x[:, :5])
    with pytest.raises(DataError, match="1 of 2"):
        layer_errors(a, b, [(0, 0)], np.stack([x[0], np.full_like(x[0], np.nan)]))
    with pytest.raises(DataError, match="empty"):
        layer_errors(a, b, [(0, 0)], x[:0])


def test_activation_statistics_against_numpy(net):
    _, b, x = net
    result = activation_statistics(b, x, per_channel=True, batch_size=9)
    assert tuple(result.tensors.columns) == TENSORS
    stored = Session(b, tensors=list(activation_tensors(b))).run(x)
    for index in activation_tensors(b):
        real = real_values(b.main.tensors[index], stored[index]).astype(np.float64)
        rows = result.tensors[result.tensors["index"] == index].set_index("channel")
        whole = rows.loc[-1]
        assert (whole["count"], whole["nan"], whole["inf"]) == (real.size, 0, 0)
        assert (whole["min"], whole["max"]) == (real.min(), real.max())
        assert whole["mean"] == pytest.approx(real.mean(), abs=1e-9)
        assert whole["std"] == pytest.approx(real.std(), rel=1e-9)
        half_bin = result.histograms[index].width / 2
        for name, q in (("p0_1", 0.1), ("p50", 50), ("p99_9", 99.9)):
            exact = np.percentile(real, q, method="inverted_cdf")
            assert abs(whole[name] - exact) <= half_bin
        channels = real.reshape(-1, real.shape[-1])
        np.testing.assert_array_equal(rows.drop(-1)["max"], channels.max(axis=0))
        np.testing.assert_allclose(rows.drop(-1)["mean"], channels.mean(axis=0), atol=1e-9)
        assert whole["stored_min"] - 1e-6 <= whole["min"] <= whole["max"]
        assert whole["max"] <= whole["stored_max"] + 1e-6


def test_depthwise_network_per_layer(data_dir):
    folder = data_dir / "tflite" / "vww"
    a, b = read_graph(folder / "vww_96_float.tflite"), read_graph(folder / "vww_96_int8.tflite")
    x = np.random.default_rng(0).random((4, 96, 96, 3)).astype(np.float32)
    result = layer_errors(a, b, [(i, i) for i in range(len(a.main.operators))], x)
    assert not result.notes
    local = by_layer(result.errors, "local")
    accumulated = by_layer(result.errors, "accumulated")
    assert (local["sqnr_db"] > 15).all()
    # What came before is included in one and not in the other.
    assert local["sqnr_db"].median() > accumulated["sqnr_db"].median() + 5
    weights = weight_errors(a, b, [(i, i) for i in range(len(a.main.operators))])
    depthwise = weights[weights["op"] == "DEPTHWISE_CONV_2D"]
    assert (depthwise.groupby("layer", sort=False)["channel"].max() >= 7).all()
    # A rounding error is at most half a step.
    assert (weights["max_abs"] <= 0.5001 * weights["scale"]).all()


@pytest.mark.parametrize(("a", "b", "data"), [
    ("01-lstm-state/lstm_float", "01-lstm-state/lstm_ptq", "01-lstm-state/seq_eval"),
    ("02-reshape-traceback/tut_float", "02-reshape-traceback/tut_qat",
     "02-reshape-traceback/tut_eval"),
    ("03-yolo-head-traceback/yolo_float", "03-yolo-head-traceback/yolo_ptq",
     "03-yolo-head-traceback/yolo_x"),
    ("08-stream-segfault/stream_float", "08-stream-segfault/stream2",
     "08-stream-segfault/stream_seq"),
    ("13-several-inputs/mi_float", "13-several-inputs/mi_ptq", "13-several-inputs/mi_eval2"),
])
def test_layers_of_any_graph(cases, a, b, data):
    """State, computed shapes, tensors without dimensions, resources, several inputs."""
    with np.load(cases / f"{data}.npz", allow_pickle=False) as archive:
        x = {name: archive[name][:40] for name in archive.files if name != "y"}
    x = x["x"] if list(x) == ["x"] else x
    graphs = [replace(read_graph(cases / f"{name}.tflite"), guarded=False) for name in (a, b)]
    plain = layer_errors(*graphs, match_graphs(*graphs), x)
    last = by_layer(plain.errors, "accumulated").iloc[-1]
    first, second = (evaluate(graph, x).outputs.astype(float) for graph in graphs)
    assert last["mse"] == pytest.approx(np.mean((second - first) ** 2), rel=1e-3, abs=1e-12)
    assert plain.examples == 40
    kept = activation_statistics(graphs[1], x)
    assert kept.tensors["count"].gt(0).all()
    # In a child process as here.
    graphs = [replace(graph, guarded=True) for graph in graphs]
    guarded = layer_errors(*graphs, match_graphs(*graphs), x)
    pd.testing.assert_frame_equal(guarded.errors, plain.errors)
    pd.testing.assert_frame_equal(activation_statistics(graphs[1], x).tensors, kept.tensors)


@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="no trap elsewhere")
def test_a_layer_pass_survives_a_file_that_kills_its_process():
    graph = read_graph(floor_mod())
    feeds = {"a": np.full((400, 1), 9, np.int32), "b": np.full((400, 1), 4, np.int32)}
    feeds["a"][300], feeds["b"][300] = -(2**31), -1
    with pytest.raises(ModelFileError, match="SIGFPE"):
        activation_statistics(graph, feeds)


def test_weights_per_channel(net, pairs):
    a, b, _ = net
    weights = weight_errors(a, b, pairs)
    summary = channel_summary(weights).set_index("layer")
    assert len(summary) == 10  # nine convolutions and a dense layer
    assert summary.loc["layer14", "granularity"] == "per tensor"
    per_channel = weights[weights["granularity"] == "per channel"]
    living = ~per_channel["dead"].astype(bool)
    np.testing.assert_allclose(per_channel[living]["used_share"], 1, rtol=1e-4)
    dense = weights[weights["layer"] == "layer14"]
    size = np.maximum(dense["max"].abs(), dense["min"].abs())
    assert summary.loc["layer14", "disparity"] == pytest.approx(size.max() / size.min())
    assert dense["used_share"].max() == pytest.approx(1, rel=1e-4)
    assert dense["used_share"].min() < 0.9


def test_a_dead_channel_is_found_and_left_out_of_the_disparity(net, pairs):
    a, b, _ = net
    frame = weight_errors(a, b, pairs)
    frame.loc[0, ["min", "max", "dead"]] = [0.0, 0.0, True]
    row = channel_summary(frame).iloc[0]
    assert row["dead"] == 1
    assert np.isfinite(row["disparity"])


def test_recipe_of_a_file_with_ranges_that_never_left_their_start(net, pairs):
    """The same file with every output scale replaced by that of [-6, 6]."""
    a, b, x = net
    wide = np.array([12 / 255])
    outputs = {op.outputs[0] for op in b.main.operators}
    tensors = tuple(
        replace(t, quantization=replace(t.quantization, scale=wide, zero_point=np.array([0])))
        if t.index in outputs
        else t
        for t in b.main.tensors
    )
    stale = replace(b, subgraphs=(replace(b.main, tensors=tensors),))
    names = {a.main.operators[p.op_a].outputs[0]: p.layer for p in pairs}
    observed = activation_statistics(a, x, names).tensors
    table = scale_table(b, stale, pairs, observed)
    out = table[table["tensor"] == "output"].set_index("layer")
    np.testing.assert_allclose(out["low_b"], -128 * wide[0])
    np.testing.assert_allclose(out["bits_lost"], np.log2(wide[0] / out["scale_a"]))
    # Softmax gives 0..1: of the twelve units that can be stored one is used.
    softmax = out.loc[f"layer{OPS - 1}"]
    assert softmax["used_share_b"] == pytest.approx(1 / 12, rel=0.02)
    assert softmax["used_share_a"] > 0.95
    weights = table[table["tensor"] == "weights"]
    assert (weights["bits_lost"] == 0).all()
    assert scale_table(b, stale, pairs)["used_share_b"].isna().all()


def test_shapes_among_the_outputs_of_operators_cost_nothing(cases):
    """The network of TensorFlow's QAT tutorial computes the shape of a RESHAPE itself."""
    folder = cases / "02-reshape-traceback"
    found = layers([folder / f"tut_{name}.tflite" for name in ("float", "ptq", "qat")],
                   folder / "tut_eval.npz", examples=16)
    seen = found.of("activation")
    assert set(seen["file"]) == {"tut_float.tflite", "tut_ptq.tflite", "tut_qat.tflite"}
    assert set(found.errors) == {"tut_ptq.tflite", "tut_qat.tflite"}
    assert not [note for note in found.notes if "no activations" in note]
