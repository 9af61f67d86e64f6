"""Weights against activations: theory, and the quantizer's own files."""

from __future__ import annotations

import numpy as np
import pytest
from small_net import examples, half, small_net

from qinspect.affine import dequantize, quantize
from qinspect.errors import ModelFileError
from qinspect.measure.activations import observe_ranges
from qinspect.measure.error_metrics import error_metrics
from qinspect.measure.first_cut import PARTS, Halves, enough, first_cut, halves
from qinspect.predictions import Results
from qinspect.tflite.constants import weights_of
from qinspect.tflite.graph import Graph
from qinspect.tflite.match import match_graphs
from qinspect.tflite.read import read_graph
from qinspect.tflite.requantize import (
    Ranges,
    _quantizer,
    quantize_file,
    replace_constants,
    round_activations,
)
from qinspect.tflite.run import evaluate


def parts_of(graph: Graph, quantized: Graph) -> Halves:
    return halves(graph, quantized, match_graphs(graph, quantized))


def on_a_grid(graph: Graph) -> Graph:
    """The network with weights of 8 bits a channel to begin with, which rounding leaves alone."""
    rng, values = np.random.default_rng(0), {}
    for weight in weights_of(graph.main):
        axis = 3 if weight.operator.code == "DEPTHWISE_CONV_2D" else 0
        whole = np.moveaxis(rng.integers(-126, 127, weight.tensor.shape), axis, 0)
        whole.reshape(len(whole), -1)[:, 0] = 127
        values[weight.tensor.index] = np.moveaxis(whole, 0, axis).astype(np.float32) / 512
        assert weight.bias is not None
        values[weight.bias.index] = np.zeros(weight.bias.shape, np.float32)
    return read_graph(replace_constants(graph, values))


@pytest.fixture(scope="module")
def graph() -> Graph:
    return read_graph(small_net())


@pytest.fixture(scope="module")
def ranges(graph: Graph) -> Ranges:
    return observe_ranges(graph, examples(200)).over()


def test_weights_alone_are_those_of_the_quantizers_weight_only_file(
    graph: Graph, ranges: Ranges
) -> None:
    qtyping = _quantizer("qtyping")
    manager = _quantizer("recipe_manager").RecipeManager()
    manager.add_weight_only_config(".*", qtyping.TFLOperationName.ALL_SUPPORTED, 8,
                                   qtyping.QuantGranularity.CHANNELWISE)
    quantizer = _quantizer("quantizer").Quantizer(graph.content, manager.get_quantization_recipe())
    written = read_graph(bytes(quantizer.quantize(None).quantized_model))
    assert {weight.kind for weight in weights_of(written.main)} == {"weight_only"}
    found = parts_of(graph, read_graph(quantize_file(graph, ranges)))
    x = examples(100, seed=3)
    exact, ours, theirs = (evaluate(one, x).outputs
                           for one in (graph, found.graphs["weights"], written))
    # Biases of the static file are 32-bit integers, those of the other are float.
    apart = error_metrics(theirs, ours)["sqnr_db"]
    assert apart > error_metrics(exact, theirs)["sqnr_db"] + 20


def test_a_rounded_activation_is_what_the_formula_says(graph: Graph, ranges: Ranges) -> None:
    x = examples(50, seed=4)
    file = read_graph(quantize_file(graph, ranges))
    for name in ("int8", "int16x8"):
        file = read_graph(quantize_file(graph, ranges, name))  # type: ignore[arg-type]
        output = file.main.tensors[file.main.outputs[0]]
        assert output.affine is not None
        made = read_graph(round_activations(graph, {graph.main.outputs[0]: output}))
        exact = evaluate(graph, x).outputs
        wanted = dequantize(quantize(exact, output.affine), output.affine)
        step = float(output.affine.scale[0])
        found = evaluate(made, x).outputs
        assert np.abs(found - wanted).max() < 1.001 * step  # a tie may fall to either side
        assert np.mean(found != wanted.astype(np.float32)) < 0.01
        assert [t.name for t in made.main.tensors if t.index in made.main.outputs] == [
            graph.main.tensors[graph.main.outputs[0]].name]


def test_weights_that_lie_on_the_grid_cost_nothing(graph: Graph) -> None:
    graph = on_a_grid(graph)
    x = examples(100, seed=5)
    file = read_graph(quantize_file(graph, observe_ranges(graph, x).over()))
    made = {part: evaluate(one, x).outputs for part, one in parts_of(graph, file).graphs.items()}
    assert set(made) == set(PARTS)
    assert np.allclose(made["weights"], evaluate(graph, x).outputs, atol=1e-6)
    sqnr = error_metrics(made["activations"], made["together"])["sqnr_db"]
    assert sqnr > error_metrics(evaluate(graph, x).outputs, made["activations"])["sqnr_db"] + 10


def test_activations_of_16_bits_leave_only_the_weights(graph: Graph, ranges: Ranges) -> None:
    x = examples(100, seed=5)
    found = parts_of(graph, read_graph(quantize_file(graph, ranges, "int16x8")))
    exact = evaluate(graph, x).outputs
    weights, activations = (error_metrics(exact, evaluate(found.graphs[part], x).outputs)["sqnr_db"]
                            for part in ("weights", "activations"))
    assert activations > 60 > weights + 15


def cut_of(graph: Graph, file: Graph, x: np.ndarray) -> tuple[str, dict[str, float]]:
    y = evaluate(graph, x).prediction
    found = parts_of(graph, file)

    def scored(one: Graph) -> np.ndarray:
        return evaluate(one, x).prediction == y

    results = Results({"float": scored(graph), "ptq": scored(file)}, y)
    cut = first_cut(results, "ptq", found, len(x), scored)
    assert cut.loss.significant
    assert cut.rest is not None
    assert abs(cut.rest.gap) < 3, "both together are nearly the file"
    return cut.sentence, cut.frame.set_index("part")["share"].to_dict()


def test_the_half_that_was_spoiled_is_the_one_that_costs() -> None:
    x = examples(1_000, seed=7)
    graph = read_graph(small_net())
    said, narrow = cut_of(graph, read_graph(quantize_file(
        graph, observe_ranges(graph, np.float32(0.1) * x[:200]).over())), x)
    assert narrow["activations"] > 0.8 > 0.2 > narrow["weights"]
    assert "the activations matter more" in said
    # One channel with weights a thousand times the others': a scale for all of them loses these.
    graph = read_graph(small_net(spread=1000.0))
    wide = observe_ranges(graph, x[:200]).over()
    one_scale = frozenset(op.index for op in graph.main.operators)
    said, spoiled = cut_of(graph, read_graph(quantize_file(graph, Ranges(wide.bounds, one_scale),
                                                     "int16x8")), x)
    assert spoiled["weights"] > 0.8 > 0.2 > spoiled["activations"]
    assert "the weights matter more" in said


def test_what_cannot_be_taken_apart_says_why(graph: Graph, ranges: Ranges) -> None:
    file = read_graph(quantize_file(graph, ranges))
    other = parts_of(read_graph(small_net(seed=9)), file)
    assert not other.graphs
    assert "another network" in other.notes[0]
    halved = parts_of(read_graph(half(graph.content)), file)
    assert not halved.graphs
    assert "float16" in halved.notes[0]
    stored = parts_of(graph, read_graph(half(graph.content)))
    assert set(stored.graphs) == {"weights"}
    assert "no activations as integers" in stored.notes[0]


def test_what_cannot_be_run_is_a_note(graph: Graph, ranges: Ranges) -> None:
    found = parts_of(graph, read_graph(quantize_file(graph, ranges)))
    right = np.ones(50, dtype=bool)

    def refuses(one: Graph) -> np.ndarray:
        if one is found.graphs["activations"]:
            raise ModelFileError("it does not run.")
        return right

    cut = first_cut(Results({"float": right, "ptq": right}, right.astype(int)), "ptq", found, 50,
                    refuses)
    assert cut.frame["part"].tolist() == ["weights", "together", "ptq"]
    assert cut.between is None
    assert any("it does not run" in note for note in cut.notes)
    assert "its weights alone" in cut.sentence


def test_fewer_examples_the_more_a_network_computes(graph: Graph) -> None:
    assert enough(graph) == 2_000
    work = 36 * 6 * 18 + 16 * 6 * 9 + 24 * 4  # what is computed is more, with padding: an order
    assert 200 <= enough(graph) <= 1e10 / work
