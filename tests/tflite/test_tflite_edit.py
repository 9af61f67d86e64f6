"""Constants replaced in place: only they change, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_net import examples, small_net

from qinspect.errors import ModelFileError, SpecError
from qinspect.measure.activations import observe_ranges
from qinspect.tflite.constants import constant
from qinspect.tflite.graph import Graph, Tensor
from qinspect.tflite.read import read_graph
from qinspect.tflite.requantize import quantize_file, replace_constants
from qinspect.tflite.run import evaluate


def tensor(graph: Graph, name: str) -> Tensor:
    return next(t for t in graph.main.tensors if t.name == name)


def test_the_values_change_and_nothing_else_does() -> None:
    graph = read_graph(small_net())
    weights = tensor(graph, "conv/weights")
    new = np.random.default_rng(0).normal(size=weights.shape)
    edited = read_graph(replace_constants(graph, {weights.index: new}))
    assert np.array_equal(constant(edited, weights), new.astype(np.float32))
    for other in graph.main.tensors:
        if other.constant and other.index != weights.index:
            assert np.array_equal(constant(edited, other), constant(graph, other))
    # Every byte outside of the constant is the same: put the old values back.
    old = constant(graph, weights)
    assert replace_constants(edited, {weights.index: old}) == graph.content


def test_the_network_computes_with_the_new_values() -> None:
    first, second = read_graph(small_net(0)), read_graph(small_net(7))
    values = {t.index: constant(second, t) for t in second.main.tensors if t.constant}
    x = examples(20)
    edited = evaluate(replace_constants(first, values), x).outputs
    assert np.array_equal(edited, evaluate(second.content, x).outputs)


def test_quantized_constants_take_integers_only() -> None:
    graph = read_graph(small_net())
    file = read_graph(quantize_file(graph, observe_ranges(graph, examples(20)).over()))
    stored = file.main.tensors[file.main.operators[0].inputs[1]]
    new = -np.maximum(constant(file, stored), -127)
    edited = read_graph(replace_constants(file, {stored.index: new}))
    assert np.array_equal(constant(edited, stored), new)
    with pytest.raises(SpecError, match="float64 do not fit"):
        replace_constants(file, {stored.index: new.astype(float)})
    with pytest.raises(SpecError, match="from -200 to"):
        replace_constants(file, {stored.index: np.minimum(new.astype(int), -200)})


def test_what_does_not_fit_is_refused() -> None:
    graph = read_graph(small_net())
    weights = tensor(graph, "conv/weights")
    with pytest.raises(SpecError, match="do not fit"):
        replace_constants(graph, {weights.index: np.zeros(3)})
    with pytest.raises(SpecError, match="no tensor 99"):
        replace_constants(graph, {99: np.zeros(3)})
    with pytest.raises(ModelFileError, match="not a constant"):
        replace_constants(graph, {graph.main.inputs[0]: np.zeros((1, 8, 8, 2))})


def test_packed_constants_are_refused(odd_dir: Path) -> None:
    graph = read_graph(odd_dir / "qwen_fc_blockwise_quantized.tflite")
    packed = next(t for t in graph.main.tensors if t.dtype == "int4")
    with pytest.raises(ModelFileError, match="stored as int4"):
        replace_constants(graph, {packed.index: constant(graph, packed)})


def test_half_precision(odd_dir: Path) -> None:
    graph = read_graph(odd_dir / "test_model_redux_precision.tflite")
    half = next(t for t in graph.main.tensors if t.constant and t.dtype == "float16")
    new = np.full(half.shape, 1 / 3)
    edited = read_graph(replace_constants(graph, {half.index: new}))
    assert np.array_equal(constant(edited, half), new.astype(np.float16))
