"""Matching operators and layers across formats, order, fusion and folding."""

from __future__ import annotations

import itertools
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as fb
from hypothesis import given, settings
from hypothesis import strategies as st
from small_net import small_net

from qinspect.tflite import match_graphs, read_graph, read_keras
from qinspect.tflite.align import align_in_order, channel_cosines, layer_matches
from qinspect.tflite.network import graph_layers, keras_layers

PUBLISHED = {
    "resnet8": ("keras.h5", "float32.tflite", "int8.tflite", 10, 16),
    "vww": ("vww_96.h5", "vww_96_float.tflite", "vww_96_int8.tflite", 28, 31),
}


def edited(content: bytes, change) -> bytes:
    model = fb.ModelT.InitFromPackedBuf(content, 0)
    change(model, model.subgraphs[0])
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize("name", PUBLISHED)
def test_keras_float_and_int8_of_the_published_networks(data_dir: Path, name: str) -> None:
    keras, real, integer, layers, operators = PUBLISHED[name]
    folder = data_dir / "tflite" / name
    table = keras_layers(read_keras(folder / keras))
    graphs = [read_graph(folder / file) for file in (real, integer)]
    for graph in graphs:
        rows = layer_matches(table, graph_layers(graph)[0])
        assert len(rows) == layers
        # The converter named its tensors after the same layers: a second opinion.
        assert all(row.a == row.b and row.cosine > 0.99 for row in rows)
    match = match_graphs(*graphs)
    assert len(match.pairs) == operators
    assert match.only_a == match.only_b == ()
    assert all(pair.a == pair.b for pair in match.pairs)
    for pair in match.pairs:
        shapes = [g.main.tensors[o].shape for g, o in zip(
            graphs, (pair.output_a, pair.output_b), strict=True)]
        assert shapes[0] == shapes[1]
    assert len({pair.layer for pair in match.pairs}) == operators
    assert list(match.frame["layer"]) == [pair.layer for pair in match.pairs]
    assert match.unmatched.empty


def test_folded_kernels_equal_those_of_the_converter(data_dir: Path) -> None:
    for name in PUBLISHED:
        folder = data_dir / "tflite" / name
        keras = keras_layers(read_keras(folder / PUBLISHED[name][0]))
        graph, unreadable = graph_layers(read_graph(folder / PUBLISHED[name][1]))
        assert unreadable == {}
        for a, b in zip(keras, graph, strict=True):
            scale = np.abs(b.kernel).max()
            np.testing.assert_allclose(a.kernel, b.kernel, atol=1e-5 * scale)
            np.testing.assert_allclose(
                np.zeros_like(b.bias) if a.bias is None else a.bias, b.bias, atol=1e-5
            )


def test_reordered_tensors_and_renamed_layers_match() -> None:
    rng = np.random.default_rng(0)

    def shuffle(model, graph):
        order = rng.permutation(len(graph.tensors))
        place = {int(old): new for new, old in enumerate(order)}
        graph.tensors = [graph.tensors[int(old)] for old in order]
        for number, tensor in enumerate(graph.tensors):
            tensor.name = f"t{number}".encode()
        for op in graph.operators:
            op.inputs = [place.get(int(i), -1) for i in op.inputs]
            op.outputs = [place[int(i)] for i in op.outputs]
        graph.inputs = [place[int(i)] for i in graph.inputs]
        graph.outputs = [place[int(i)] for i in graph.outputs]
        for signature in model.signatureDefs or []:
            for entry in (*signature.inputs, *signature.outputs):
                entry.tensorIndex = place[entry.tensorIndex]

    a, b = read_graph(small_net()), read_graph(edited(small_net(), shuffle))
    match = match_graphs(a, b)
    assert [(pair.a, pair.b) for pair in match.pairs] == [
        (op.index, op.index) for op in a.main.operators
    ]
    assert match.only_a == match.only_b == ()


def test_a_separate_activation_is_absorbed() -> None:
    def unfuse(model, graph):
        conv = graph.operators[0]
        conv.builtinOptions.fusedActivationFunction = fb.ActivationFunctionType.NONE
        model.operatorCodes.append(fb.OperatorCodeT())
        code = model.operatorCodes[-1]
        code.builtinCode = code.deprecatedBuiltinCode = fb.BuiltinOperator.RELU
        old = int(conv.outputs[0])
        before = fb.TensorT()
        before.name, before.shape = b"before", graph.tensors[old].shape
        graph.tensors.append(before)
        conv.outputs = [len(graph.tensors) - 1]
        relu = fb.OperatorT()
        relu.opcodeIndex = len(model.operatorCodes) - 1
        relu.inputs, relu.outputs = conv.outputs, [old]
        graph.operators = [conv, relu, *graph.operators[1:]]

    fused, separate = read_graph(small_net()), read_graph(edited(small_net(), unfuse))
    match = match_graphs(fused, separate)
    first = match.pairs[0]
    assert (first.absorbed_a, first.absorbed_b) == ((), (1,))
    assert first.output_b == separate.main.operators[1].outputs[0]
    assert first.output_a == fused.main.operators[0].outputs[0]
    assert [u.operator for u in match.only_b] == [1]
    assert "activation" in match.only_b[0].reason
    assert match.unmatched[["only in", "reason"]].values.tolist() == [
        ["b", match.only_b[0].reason]]
    assert len(match.pairs) == len(fused.main.operators)


def test_shared_weights_are_one_layer_with_two_operators() -> None:
    def twice(model, graph):
        dense = next(
            op for op in graph.operators
            if model.operatorCodes[op.opcodeIndex].builtinCode == fb.BuiltinOperator.FULLY_CONNECTED
        )
        again = fb.TensorT()
        again.name, again.shape = b"again", graph.tensors[dense.outputs[0]].shape
        graph.tensors.append(again)
        second = fb.OperatorT()
        second.opcodeIndex, second.inputs = dense.opcodeIndex, dense.inputs
        second.outputs = [len(graph.tensors) - 1]
        second.builtinOptions = dense.builtinOptions
        second.builtinOptionsType = dense.builtinOptionsType
        graph.operators.append(second)
        graph.outputs = [*graph.outputs, len(graph.tensors) - 1]

    graph = read_graph(edited(small_net(), twice))
    layers, _ = graph_layers(graph)
    dense = next(layer for layer in layers if layer.kind == "dense")
    assert len(dense.operators) == 2
    match = match_graphs(graph, graph)
    assert all(pair.a == pair.b for pair in match.pairs)
    assert len(match.pairs) == len(graph.main.operators)


def test_what_does_not_match_has_a_reason(data_dir: Path) -> None:
    a = read_graph(data_dir / "tflite/resnet8/float32.tflite")
    b = read_graph(data_dir / "tflite/vww/vww_96_float.tflite")
    match = match_graphs(a, b)
    listed = {pair.a for pair in match.pairs} | {u.operator for u in match.only_a}
    assert listed == {op.index for op in a.main.operators}
    assert all(u.reason for u in (*match.only_a, *match.only_b))
    rows = layer_matches(graph_layers(a)[0], graph_layers(b)[0])
    assert any(row.a is None for row in rows)
    assert any(row.b is None for row in rows)
    assert all(row.reason for row in rows)


def _best_by_enumeration(score: np.ndarray) -> float:
    n, m = score.shape
    best = 0.0
    for size in range(1, min(n, m) + 1):
        for rows in itertools.combinations(range(n), size):
            for columns in itertools.combinations(range(m), size):
                best = max(best, float(score[list(rows), list(columns)].sum()))
    return best


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_alignment_is_the_best_of_all(n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    score = np.where(rng.random((n, m)) < 0.3, -np.inf, rng.random((n, m)) + 0.1)
    pairs = align_in_order(score)
    assert pairs == sorted(pairs)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    total = sum(score[i, j] for i, j in pairs)
    np.testing.assert_allclose(total, _best_by_enumeration(score), rtol=1e-12)


def test_cosines_by_hand() -> None:
    a = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]])
    b = np.array([[6.0, 8.0], [0.0, 2.0], [1.0, 1.0]])
    np.testing.assert_allclose(channel_cosines(a, b), [1.0, 0.0, np.nan])
    # A channel of one value says nothing, so the kernel counts as one vector.
    np.testing.assert_allclose(
        channel_cosines(a[:, :1], a[:, :1] * [[1], [-3], [1]]), [6 / 180**0.5]
    )


# --- against real conversions ----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "other", ["float16", "dynamic_range", "int8", "int16x8", "int8_per_tensor", "qat", "qat_float",
              "qat_part", "stranger_int8"],
)
def test_every_conversion_matches_completely(converted_files: Path, other: str) -> None:
    a = read_graph(converted_files / "float32.tflite")
    b = read_graph(converted_files / f"{other}.tflite")
    match = match_graphs(a, b)
    assert [pair.a for pair in match.pairs] == [op.index for op in a.main.operators]
    for pair in match.pairs:
        assert b.main.operators[pair.b].code == pair.code
        assert b.main.tensors[pair.output_b].shape == a.main.tensors[pair.output_a].shape
    assert {u.code for u in match.only_b} <= {"QUANTIZE", "DEQUANTIZE"}
    assert [pair.layer for pair in match.pairs][:4] == ["stem", "dw", "pw", "add"]


@pytest.mark.slow
def test_keras_files_match_their_conversions(converted_files: Path) -> None:
    for keras, file in (("net.h5", "int8"), ("net.keras", "float32"), ("qat.h5", "qat")):
        table = read_keras(converted_files / keras)
        graph = read_graph(converted_files / f"{file}.tflite")
        rows = layer_matches(keras_layers(table), graph_layers(graph)[0])
        assert [(row.a, row.b) for row in rows] == [
            (name, name) for name in ("stem", "dw", "pw", "conv3", "fc1", "fc2")
        ]
        assert min(row.cosine for row in rows) > 0.99
