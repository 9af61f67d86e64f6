"""Size against the metric: the front by enumeration, two halves, and the quantizer's recipe."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_net import examples, small_net
from typer.testing import CliRunner

from qinspect.cli import app
from qinspect.data.dataset import Dataset
from qinspect.measure.activations import observe_ranges
from qinspect.measure.layer_cost import Sensitivity, sensitivity
from qinspect.measure.size_curve import Candidate, size_curve, two_halves
from qinspect.predictions import Results
from qinspect.tflite.read import read_graph
from qinspect.tflite.requantize import Ranges, _observations, _quantizer
from qinspect.tflite.run import evaluate

GRAPH = read_graph(small_net())
X = examples(400, seed=8)
CALIBRATION = examples(60, seed=4)


def damaged() -> Ranges:
    """Ranges in which one layer lost five bits."""
    good = observe_ranges(GRAPH, CALIBRATION).over().bounds
    low, high = good["depthwise/Relu"]
    return Ranges({**good, "depthwise/Relu": (32 * low, 32 * high)})


@pytest.fixture(scope="module")
def found() -> Sensitivity:
    y = evaluate(GRAPH, X).prediction
    group = np.arange(400) // 4
    return sensitivity(GRAPH, Dataset("d", X, y, np.arange(400).astype(str), 4, group),
                       calibration=CALIBRATION)


def test_halves_keep_groups_together_and_are_disjoint() -> None:
    group = np.random.default_rng(0).integers(0, 20, 100)
    a, b = two_halves(100, group, seed=3)
    assert sorted([*a, *b]) == list(range(100))
    assert not set(group[a]) & set(group[b])
    assert [len(part) for part in two_halves(7, None, seed=0)] == [4, 3]
    assert (two_halves(7, None, seed=0)[0] == two_halves(7, None, seed=0)[0]).all()


def test_the_front_is_what_an_enumeration_gives() -> None:
    rng = np.random.default_rng(1)
    y = np.ones(300, dtype=int)
    files = [Candidate(k, f"l{k}", int(rng.integers(10, 30)), rng.random(300) < 0.5 + k / 20)
             for k in range(8)]
    half = two_halves(300, None, seed=0)
    results = Results({"float": np.ones(300, dtype=bool)}, y)
    table = size_curve(results, files, 99, half).points.set_index("kept")
    for one in files:
        rivals = [o for o in files if (o.bytes, o.kept) < (one.bytes, one.kept)]
        wanted = all(o.scored[half[0]].mean() < one.scored[half[0]].mean() for o in rivals)
        assert table.loc[one.kept, "front"] == wanted
        if wanted:
            assert table.loc[one.kept, "value"] == one.scored[half[1]].mean()
        else:
            assert np.isnan(table.loc[one.kept, "value"])


def test_luck_on_the_half_that_chooses_is_not_confirmed() -> None:
    a, b = half = two_halves(200, None, seed=0)
    lucky = np.zeros(200, dtype=bool)
    lucky[a] = True
    results = Results({"float": np.ones(200, dtype=bool)}, np.ones(200, dtype=int))
    found = size_curve(results, [Candidate(0, "", 10, lucky)], 20, half)
    assert found.choice == 0
    assert not found.confirmed
    assert found.sentence.endswith("not confirmed.")
    assert found.n == (len(a), len(b))


def test_sizes_are_those_of_the_files(found: Sensitivity) -> None:
    assert found.sizes is not None
    for row in found.sizes.points.to_dict("records"):
        assert len(found.mixed_file(int(row["kept"]))) == row["bytes"]
    assert found.sizes.float_bytes == GRAPH.size
    assert sum(found.sizes.n) == 400
    shown = found._repr_mimebundle_()["text/html"]
    assert "Size against the metric" in shown


@pytest.mark.parametrize("keep", ["float32", "int16x8"])
def test_the_quantizer_makes_our_file_from_the_recipe(keep: str, tmp_path: Path) -> None:
    y = evaluate(GRAPH, X).prediction
    mixed = sensitivity(GRAPH, (X, y), calibration=CALIBRATION, keep=keep)  # type: ignore[arg-type]
    assert mixed.write_recipe(tmp_path / "recipe.json", 2) == 2
    quantizer = _quantizer("quantizer").Quantizer(GRAPH.content, str(tmp_path / "recipe.json"))
    given = quantizer.quantize(_observations(GRAPH, mixed.ranges))
    assert bytes(given.quantized_model) == mixed.mixed_file(2)
    # Its own calibration, told to take the extremes and not a moving average, gives the same.
    utils = _quantizer("utils.qsv_utils")
    theirs = _quantizer("calibrator").Calibrator(GRAPH.content, num_threads=1,
                                                 qsv_update_func=utils.min_max_update)
    manager = _quantizer("recipe_manager").RecipeManager()
    manager.load_quantization_recipe(json.loads((tmp_path / "recipe.json").read_text()))
    theirs.calibrate({"serving_default": [{"x": x[None]} for x in CALIBRATION]}, manager)
    own = bytes(quantizer.quantize(theirs.get_model_qsvs()).quantized_model)
    ours = evaluate(mixed.mixed_file(2), X).outputs
    assert np.mean(np.abs(evaluate(own, X).outputs - ours) > 1.01 / 256) == 0


def test_a_loaded_recipe_keeps_its_layers_in_float_and_quantizes_the_others(tmp_path: Path) -> None:
    mixed = sensitivity(GRAPH, X, calibration=CALIBRATION)
    mixed.write_recipe(tmp_path / "recipe.json", 2)
    quantizer = _quantizer("quantizer").Quantizer(GRAPH.content)
    quantizer.load_quantization_recipe(str(tmp_path / "recipe.json"))
    made = read_graph(bytes(
        quantizer.quantize(_observations(GRAPH, mixed.ranges)).quantized_model))
    layers = [op for op in made.main.operators if op.code not in ("QUANTIZE", "DEQUANTIZE")]
    assert [op.code for op in layers] == [op.code for op in GRAPH.main.operators]
    kept = {layer.index for layer in mixed.order[:2]}
    for index, op in enumerate(layers):
        types = {made.main.tensors[i].dtype for i in (*op.inputs, *op.outputs)}
        assert types == {"float32"} if index in kept else types <= {"int8", "int32"}, op.code


def test_the_layer_that_lost_its_bits_is_kept() -> None:
    from qinspect.tflite.requantize import quantize_file

    like = read_graph(quantize_file(GRAPH, damaged()))
    found = sensitivity(GRAPH, (X, evaluate(GRAPH, X).prediction), like=like, margin=5)
    assert found.sizes is not None
    assert found.sizes.choice is not None
    assert found.sizes.choice > 0
    kept = {layer.op for layer in found.order[:found.sizes.choice]}
    assert kept & {"DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D"}


def test_command_writes_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "float.tflite").write_bytes(GRAPH.content)
    np.savez(tmp_path / "e.npz", x=X[:60], y=evaluate(GRAPH, X[:60]).prediction)
    command = ["sensitivity", tmp_path / "float.tflite", "--data", tmp_path / "e.npz",
               "--calibration", tmp_path / "e.npz", "--recipe", tmp_path / "r.json", "--keep", "1",
               "--json"]
    done = CliRunner().invoke(app, [str(word) for word in command])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["sizes"]["chosen_on"] == 30
    (_, kept) = json.loads((tmp_path / "r.json").read_text())
    assert kept["algorithm_key"] == "no_quantize"
