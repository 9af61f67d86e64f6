"""How many calibration examples, and which: by enumeration, by hand, and with real files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from small_net import examples, small_net
from typer.testing import CliRunner

from qinspect.cli import app
from qinspect.errors import DataError
from qinspect.measure.activations import ObservedRanges, observe_ranges
from qinspect.measure.calibration_sets import CalibrationAdvice, extremes, subset_sizes
from qinspect.measure.layer_cost import sensitivity
from qinspect.tflite.read import read_graph
from qinspect.tflite.requantize import quantize_file
from qinspect.tflite.run import evaluate

GRAPH = read_graph(small_net())


def advice_of(calibration: np.ndarray, x: np.ndarray, margin: float = 1) -> CalibrationAdvice:
    y = evaluate(GRAPH, x).prediction
    found = sensitivity(GRAPH, (x, y), calibration=calibration, advise=True,
                        margin=margin)
    assert found.advice is not None
    return found.advice


@pytest.fixture(scope="module")
def found() -> CalibrationAdvice:
    return advice_of(examples(60, seed=4), examples(200, seed=6), margin=10)


def test_extremes_are_those_of_an_enumeration() -> None:
    seen = observe_ranges(GRAPH, examples(40, seed=4))
    ids = np.array([f"e{i}" for i in range(40)])
    table = extremes(seen, ids)
    whole = seen.over().bounds
    setting = {}
    for i in range(40):
        kept = np.delete(np.arange(40), i)
        factors = []
        for name, (low, high) in seen.over(kept).bounds.items():
            wide = max(whole[name][1], 0) - min(whole[name][0], 0)
            factors.append(wide / (max(high, 0) - min(low, 0)))
        if max(factors) > 1:
            setting[f"e{i}"] = max(factors)
    assert dict(zip(table["id"], table["stretch"], strict=True)) == pytest.approx(setting)
    # They alone give the ranges of all, where a range holds zero.
    few = seen.over(np.array([int(name[1:]) for name in table["id"]])).bounds
    for name, (low, high) in whole.items():
        assert min(few[name][0], 0) == min(low, 0)
        assert max(few[name][1], 0) == max(high, 0)


def test_an_example_a_hundred_times_as_large_is_named() -> None:
    x = examples(40, seed=4)
    x[17] *= 100
    table = extremes(observe_ranges(GRAPH, x), np.arange(40).astype(str))
    assert table["id"].iloc[0] == "17"
    assert table["stretch"].iloc[0] > 10
    ends = ObservedRanges(("a",), np.zeros((3, 1)), np.array([[1.0], [4.0], [2.0]]))
    assert extremes(ends, np.array(["p", "q", "r"])).to_numpy().tolist() == [
        ["q", 1, 2.0, "a"]]


def test_subsets_are_disjoint_and_their_files_are_the_quantizers(found: CalibrationAdvice) -> None:
    assert subset_sizes(60) == [1, 2, 4, 8]
    assert found.sizes["size"].tolist() == [1, 2, 4, 8, 60]
    assert (found.sizes["sets"] * found.sizes["size"] <= 60).all()
    assert found.sizes["width"].is_monotonic_increasing
    x = examples(200, seed=6)
    all_of_them = quantize_file(GRAPH, observe_ranges(GRAPH, examples(60, seed=4)).over())
    right = evaluate(all_of_them, x).prediction == evaluate(GRAPH, x).prediction
    assert found.sizes["value"].iloc[-1] == right.mean()


def test_enough_is_shown_and_what_is_larger_does_not_lose(found: CalibrationAdvice) -> None:
    assert found.enough is not None
    fewer, later = (found.sizes[mask & (found.sizes["sets"] > 1)] for mask in (
        found.sizes["size"] < found.enough, found.sizes["size"] >= found.enough))
    assert (later["low"] > -found.margin).all()
    assert (fewer["low"].iloc[-1:] <= -found.margin).all()
    assert f"{found.enough} drawn at random are enough" in found.sentence
    assert (found.shared, found.repeated) == (0, 0)


def test_outliers_make_small_sets_better_than_all() -> None:
    x = examples(64, seed=4)
    x[5] *= 300
    found = advice_of(x, examples(300, seed=6))
    assert "extreme examples stretch the ranges" in found.sentence
    assert found.extremes["id"].iloc[0].endswith("5")


def test_overlap_is_counted_by_content() -> None:
    x = examples(60, seed=6)
    found = advice_of(np.concatenate([x[:3], examples(10, seed=4), x[:1]]), x)
    assert (found.shared, found.repeated) == (4, 1)
    assert "4 of the 14 calibration examples are among those evaluated" in found.sentence


def test_too_few_are_refused() -> None:
    with pytest.raises(DataError, match="3 calibration examples"):
        advice_of(examples(3), examples(50))


def test_command_writes_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "float.tflite").write_bytes(GRAPH.content)
    x = examples(48, seed=6)
    np.savez(tmp_path / "e.npz", x=x, y=evaluate(GRAPH, x).prediction)
    command = ["sensitivity", tmp_path / "float.tflite", "--data", tmp_path / "e.npz",
               "--calibration", tmp_path / "e.npz", "--manifest", tmp_path / "m.json", "--json"]
    done = CliRunner().invoke(app, [str(word) for word in command])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["calibration"]["shared"] == 48
    manifest = json.loads((tmp_path / "m.json").read_text())
    assert manifest["count"] == len(manifest["ids"]) == 48
    (told,) = manifest["inputs"].values()
    assert told == {"dtype": "float32", "shape": [48, 8, 8, 2],
                    "sha256": hashlib.sha256(x.tobytes()).hexdigest()}


def test_without_calibration_examples_half_of_the_others_takes_their_place() -> None:
    like = read_graph(quantize_file(GRAPH, observe_ranges(GRAPH, examples(60)).over()))
    found = sensitivity(GRAPH, examples(40, seed=6), like=like, advise=True).advice
    assert found is not None
    assert (found.n, found.evaluated, found.shared) == (20, 20, 0)
    assert found.metric.id == "agreement"
