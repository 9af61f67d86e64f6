"""Quantizing layer by layer: ranges, files, sensitivity and the keep curve."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as fb
from parts import ROOT, need_package
from small_net import examples, small_net

from qinspect.errors import DataError, ModelFileError, SpecError
from qinspect.measure.activations import observe_ranges, stored_ranges
from qinspect.measure.error_metrics import error_metrics
from qinspect.measure.layer_cost import MixedFiles, sensitivity, sensitivity_order
from qinspect.tflite.constants import dequantized, weights_of
from qinspect.tflite.graph import Graph
from qinspect.tflite.match import match_graphs
from qinspect.tflite.read import read_graph
from qinspect.tflite.requantize import Ranges, quantizable_operators, quantize_file
from qinspect.tflite.run import evaluate


@pytest.fixture(scope="module")
def graph() -> Graph:
    return read_graph(small_net())


@pytest.fixture(scope="module")
def ranges(graph: Graph) -> Ranges:
    return observe_ranges(graph, examples(200)).over()


def output_sqnr(reference: bytes, other: bytes, x: np.ndarray) -> float:
    a, b = evaluate(reference, x).outputs, evaluate(other, x).outputs
    return error_metrics(a, b)["sqnr_db"]


def test_ranges_equal_those_of_the_quantizers_own_calibrator(graph: Graph, ranges: Ranges) -> None:
    from litert_quantizer.calibrator import Calibrator
    from litert_quantizer.qtyping import TFLOperationName
    from litert_quantizer.recipe_manager import RecipeManager
    from litert_quantizer.utils import qsv_utils

    manager = RecipeManager()
    manager.add_static_config(".*", TFLOperationName.ALL_SUPPORTED, 8, 8)
    theirs = Calibrator(graph.content, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    feed = [{"x": x[None]} for x in examples(200)]
    theirs.calibrate({"serving_default": feed}, manager)
    found = theirs.get_model_qsvs()
    assert set(ranges.bounds) <= set(found)
    for name, (low, high) in ranges.bounds.items():
        assert low == pytest.approx(float(found[name]["min"].item()), rel=1e-5, abs=1e-6)
        assert high == pytest.approx(float(found[name]["max"].item()), rel=1e-5, abs=1e-6)


def test_a_file_of_an_old_converter_is_quantized_as_one_of_a_new(
    graph: Graph, ranges: Ranges
) -> None:
    model = fb.ModelT.InitFromPackedBuf(graph.content, 0)
    for code in model.operatorCodes:
        code.builtinCode = 0
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    old = read_graph(bytes(builder.Output()))
    assert [op.code for op in old.main.operators] == [op.code for op in graph.main.operators]
    new, found = (read_graph(quantize_file(one, ranges)) for one in (graph, old))
    x = examples(20)
    assert np.array_equal(evaluate(found, x).raw, evaluate(new, x).raw)
    for weight in weights_of(found.main):
        assert weight.tensor.quantization is not None
        assert not weight.tensor.quantization.zero_point.any()


def test_ranges_of_a_subset_are_those_of_calibrating_on_it(graph: Graph) -> None:
    x, chosen = examples(60), np.array([3, 41, 17])
    whole, part = observe_ranges(graph, x, batch_size=16), observe_ranges(graph, x[chosen])
    for name, bounds in part.over().bounds.items():
        assert whole.over(chosen).bounds[name] == pytest.approx(bounds, rel=1e-5, abs=1e-6)
    with pytest.raises(DataError, match="at least one"):
        whole.over(np.array([], dtype=int))


def test_ranges_refuse_what_is_not_finite(graph: Graph) -> None:
    with pytest.raises(DataError, match="NaN or infinite"):
        observe_ranges(graph, np.full((2, *examples(1).shape[1:]), 3e38, np.float32))


def test_stored_ranges_reproduce_the_file_they_were_read_from(graph: Graph, ranges: Ranges) -> None:
    content = quantize_file(graph, ranges)
    file = read_graph(content)
    stored, borrowed = stored_ranges(graph, file, match_graphs(graph, file))
    again = quantize_file(graph, stored)
    assert borrowed == ()
    x = examples(100, seed=5)
    assert np.array_equal(evaluate(content, x).raw, evaluate(again, x).raw)


def test_stored_ranges_need_a_fallback_where_the_file_has_none(
    graph: Graph, ranges: Ranges
) -> None:
    partly = read_graph(quantize_file(graph, ranges, layers={4: "float32"}))
    matched = match_graphs(graph, partly)
    with pytest.raises(ModelFileError, match="give calibration examples"):
        stored_ranges(graph, partly, matched)
    found, borrowed = stored_ranges(graph, partly, matched, ranges)
    assert borrowed == ("probabilities",)
    assert found.bounds["probabilities"] == ranges.bounds["probabilities"]


def test_weights_are_rounded_to_the_grid_of_their_granularity(graph: Graph, ranges: Ranges) -> None:
    original = dequantized(graph, next(t for t in graph.main.tensors if t.name == "conv/weights"))
    for per_tensor, scales in ((frozenset({0}), 1), (frozenset[int](), 6)):
        file = read_graph(quantize_file(graph, Ranges(ranges.bounds, per_tensor)))
        stored = file.main.tensors[file.main.operators[0].inputs[1]]
        assert stored.quantization is not None
        assert stored.quantization.scale.size == scales
        error = np.abs(dequantized(file, stored) - original).reshape(6, -1).max(axis=1)
        assert (error <= stored.quantization.scale / 2 * (1 + 1e-5)).all()


def test_only_the_chosen_layer_is_quantized(graph: Graph, ranges: Ranges) -> None:
    for layer in quantizable_operators(graph):
        alone = read_graph(quantize_file(graph, ranges, "float32", {layer.index: "int8"}))
        kept = read_graph(quantize_file(graph, ranges, "int8", {layer.index: "float32"}))
        for file, quantized_here in ((alone, True), (kept, False)):
            for op in file.main.operators:
                if op.code in ("QUANTIZE", "DEQUANTIZE"):
                    continue
                integer = file.main.tensors[op.inputs[0]].dtype == "int8"
                assert integer == ((op.code == layer.op) == quantized_here), (layer, op)


def test_int16_activations(graph: Graph, ranges: Ranges) -> None:
    x = examples(200, seed=2)
    int8 = output_sqnr(graph.content, quantize_file(graph, ranges), x)
    int16 = output_sqnr(graph.content, quantize_file(graph, ranges, "int16x8"), x)
    assert int16 > int8
    mixed = read_graph(quantize_file(graph, ranges, "int8", {0: "int16x8"}))
    conv = next(op for op in mixed.main.operators if op.code == "CONV_2D")
    assert mixed.main.tensors[conv.inputs[0]].dtype == "int16"


def test_quantizing_prints_nothing(graph: Graph) -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests/support')\n"
        "from small_net import small_net, examples\n"
        "from qinspect.tflite.read import read_graph\n"
        "from qinspect.tflite.requantize import quantize_file\n"
        "from qinspect.measure.activations import observe_ranges\n"
        "graph = read_graph(small_net())\n"
        "quantize_file(graph, observe_ranges(graph, examples(3)).over())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          cwd=ROOT, timeout=60, check=True)
    assert done.stdout == ""
    assert "Warning" not in done.stderr


def test_errors_say_what_is_wrong(graph: Graph, ranges: Ranges) -> None:
    quantized = read_graph(quantize_file(graph, ranges))
    with pytest.raises(ModelFileError, match="not a float model"):
        quantize_file(quantized, ranges)
    with pytest.raises(ModelFileError, match="have no range"):
        quantize_file(graph, Ranges({}))
    with pytest.raises(SpecError, match="no operator 99"):
        quantize_file(graph, ranges, "int8", {99: "float32"})
    with pytest.raises(SpecError, match="precision is 'int3'"):
        quantize_file(graph, ranges, "int3")  # type: ignore[arg-type]
    bad = Ranges({**ranges.bounds, "dense": (1.0, float("nan"))})
    with pytest.raises(ModelFileError, match="finite and ascending"):
        quantize_file(graph, bad)
    with pytest.raises(SpecError, match="one of them"):
        sensitivity(graph, examples(3))
    other = read_graph(small_net(seed=9))
    with pytest.raises(ModelFileError, match="unrelated networks"):
        sensitivity(graph, examples(3), like=other)
    with pytest.raises(DataError, match="'y' has shape"):
        sensitivity(graph, (examples(3), np.zeros(2, int)), calibration=examples(3))


def test_the_layer_with_the_wrong_range_is_found() -> None:
    graph = read_graph(small_net(seed=3))
    x = examples(300)
    good = observe_ranges(graph, x).over()
    # Sixteen times too wide: four bits of the depthwise layer's output are lost.
    low, high = good.bounds["depthwise/Relu"]
    files = MixedFiles(graph, Ranges({**good.bounds, "depthwise/Relu": (16 * low, 16 * high)}), x)
    order = sensitivity_order(files.one_at_a_time())
    assert {layer.op for layer in order[:2]} == {"DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D"}
    curve = files.keep_curve(order)
    assert curve[1].sqnr_db > files.full.sqnr_db + 3


def test_frame_and_curve(graph: Graph, tmp_path: Path) -> None:
    x = examples(400, seed=8)
    y = evaluate(graph.content, x).prediction
    result = sensitivity(graph, (x, y), calibration=examples(100))
    layers = result.layers.set_index(["variant", "layer"])
    assert len(result.layers) == 2 + 2 * len(graph.main.operators)
    float_row = layers.loc[("float", "")]
    assert float_row["score"] == 1
    assert float_row["sqnr_db"] == np.inf
    assert float_row["to_float"] == 0
    assert float_row["to_float_high"] > 0
    # Accuracy against the float file's own predictions is agreement with it.
    assert np.allclose(result.layers["score"], result.layers["agreement"])
    assert (result.layers["to_float_low"] <= result.layers["to_float"]).all()
    last = result.curve.iloc[-1]
    assert last["kept"] == len(graph.main.operators)
    # All layers in float, but the file still takes and gives int8.
    assert result.curve["sqnr_db"].iloc[0] < last["sqnr_db"] < np.inf
    for kept in (0, 2):
        row = result.curve[result.curve["kept"] == kept].iloc[0]
        content = result.mixed_file(kept)
        assert len(content) == row["bytes"]
        assert np.mean(evaluate(content, x).prediction == y) == row["score"]
    assert result.proposal(50.0) == 0
    with pytest.raises(SpecError, match="0 to 5"):
        result.mixed_file(6)


def test_without_labels_only_outputs_are_compared(graph: Graph) -> None:
    result = sensitivity(graph, examples(50), calibration=examples(50))
    assert result.layers["score"].isna().all()
    assert result.cut is not None
    assert result.cut.loss.metric.id == "agreement"
    assert result.layers["agreement"].notna().all()
    assert result.proposal() is None


def test_command(graph: Graph, tmp_path: Path) -> None:
    model, mixed = tmp_path / "float.tflite", tmp_path / "mixed.tflite"
    model.write_bytes(graph.content)
    x = examples(60)
    np.savez(tmp_path / "e.npz", x=x, y=evaluate(graph.content, x).prediction)
    np.savez(tmp_path / "c.npz", x=examples(40, seed=4))
    command = [sys.executable, "-m", "qinspect", "sensitivity", str(model), "--data",
               str(tmp_path / "e.npz"), "--json"]
    done = subprocess.run([*command, "--calibration", str(tmp_path / "c.npz"), "--write",
                           str(mixed), "--keep", "1"], capture_output=True, text=True,
                          timeout=120, check=True)
    found = json.loads(done.stdout)
    assert len(found["curve"]) == 6
    kept = read_graph(mixed)
    assert sum(op.code == "DEQUANTIZE" for op in kept.main.operators) >= 1
    failed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert failed.returncode == 2
    assert failed.stderr.strip().splitlines()[-1].startswith("qinspect: ranges come from")


def test_full_int8_is_as_good_as_the_converters(data_dir: Path) -> None:
    folder = data_dir / "tflite" / "resnet8"
    graph, converted = (read_graph(folder / f"{n}.tflite") for n in ("float32", "int8"))
    with np.load(folder / "cifar_eval.npz", allow_pickle=False) as arrays:
        x = arrays["x"].astype(np.float32)
    wanted = output_sqnr(graph.content, converted.content, x[:1000])
    observed = observe_ranges(graph, x[1000:1500]).over()
    assert abs(output_sqnr(graph.content, quantize_file(graph, observed), x[:1000]) - wanted) < 1
    stored, _ = stored_ranges(graph, converted, match_graphs(graph, converted))
    assert abs(output_sqnr(graph.content, quantize_file(graph, stored), x[:1000]) - wanted) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["depthwise_cnn", "resnet_tiny"])
def test_full_int8_equals_the_converters_given_the_same_calibration(name: str) -> None:
    need_package("tensorflow")
    from qinspect.data import load_dataset
    from qinspect.train import build_model, convert, fit

    digits = load_dataset("digits")
    model = build_model(name, digits.x.shape[1:], 10, seed=0)
    fit(model, digits.take(np.arange(1000)), None, epochs=2, learning_rate=1e-3, seed=0)
    calibration, x = digits.x[1000:1200], digits.x[1200:]
    graph = read_graph(convert(model, "float32"))
    # Float input and output: the ranges of both stand behind QUANTIZE and before DEQUANTIZE.
    converted = read_graph(convert(model, "int8", calibration))
    wanted = output_sqnr(graph.content, converted.content, x)
    observed = observe_ranges(graph, calibration).over()
    found = output_sqnr(graph.content, quantize_file(graph, observed), x)
    assert found == pytest.approx(wanted, abs=1)
    stored, borrowed = stored_ranges(graph, converted, match_graphs(graph, converted))
    assert borrowed == ()
    found = output_sqnr(graph.content, quantize_file(graph, stored), x)
    assert found == pytest.approx(wanted, abs=1)
