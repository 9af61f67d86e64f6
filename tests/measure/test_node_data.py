"""Overlays for Model Explorer: the numbers are those of the layers, the nodes are the viewer's."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from parts import need_package

import qinspect as qi
from qinspect.errors import DataError, QinspectError
from qinspect.measure.node_data import QUANTITIES, graph_id, overlay
from qinspect.tflite import read_graph


@pytest.fixture(scope="module")
def files(data_dir: Path) -> list[Path]:
    return [data_dir / "tflite/resnet8" / name for name in ("float32.tflite", "int8.tflite")]


@pytest.fixture(scope="module")
def regression(cases: Path) -> tuple[list[Path], Path]:
    folder = cases / "06-regression"
    return [folder / "reg_float.tflite", folder / "reg_qat.tflite"], folder / "reg_eval.npz"


def viewed(file: Path) -> dict[str, set[str]]:
    """Names of tensors and ids of nodes by graph, as the viewer's own adapter gives them."""
    need_package("ai_edge_model_explorer_adapter")
    import ai_edge_model_explorer_adapter as adapter

    made = json.loads(adapter.ConvertFlatbufferDirectlyToJson(adapter.VisualizeConfig(), str(file)))
    return {graph["id"]: {pair["value"] for node in graph["nodes"]
                          for out in node["outputsMetadata"] for pair in out["attrs"]
                          if pair["key"] == "tensor_name"}
            for one in made for graph in one["subgraphs"]}


def test_the_viewer_knows_all_outputs_of_operators_of_many_files(data_dir, cases) -> None:
    known = 0
    found = sorted([*data_dir.glob("tflite/*/*.tflite"), *cases.glob("[01]*/*.tflite")])
    for file in found:
        try:
            graph = read_graph(file)
        except QinspectError:
            continue
        if not graph.main.operators:
            continue
        nodes = viewed(file)[graph_id(graph)]
        outputs = [graph.main.tensors[op.outputs[0]].name for op in graph.main.operators
                   if op.outputs]
        assert set(outputs) <= nodes, file
        known += 1
    assert known >= 10, known


def test_numbers_are_those_of_the_layers(files, data_dir) -> None:
    data = data_dir / "tflite/resnet8/cifar_eval.npz"
    found, layers = overlay(files, data), qi.layers(files, data)
    errors = layers.frame.set_index(["reference", "layer"])["sqnr_db"]
    by = found.frame.set_index(["quantity", "layer"])["value"]
    for quantity, reference in (("own-error", "local"), ("accumulated-error", "accumulated")):
        for layer, value in by[quantity].items():
            assert value == pytest.approx(100 * 10 ** (-errors[reference, layer] / 20))
    stored = layers.of("activation", "int8.tflite")
    stored = stored[stored["channel"] == -1].set_index("layer")
    seen = layers.of("activation", "float32.tflite")
    seen = seen[seen["channel"] == -1].set_index("layer")
    for layer, value in by["range-use"].items():
        low, high = stored.loc[layer, ["stored_min", "stored_max"]]
        inside = np.clip(seen.loc[layer, ["min", "max"]].astype(float), low, high)
        assert value == pytest.approx(100 * (inside["max"] - inside["min"]) / (high - low))


def test_a_layer_that_clips_everything_costs_most_and_keeping_it_brings_back(regression) -> None:
    files, data = regression
    found = overlay(files, data, costs=True)
    by = found.frame.set_index(["quantity", "layer"])["value"]
    assert set(found.frame["quantity"]) == set(QUANTITIES)
    assert found.unit  # of a mean absolute error, where lower is better
    assert by["clipped"].idxmax() == by["cost"].idxmax() == by["recovered"].idxmax()
    cost = qi.sensitivity(files[0], data, like=files[1]).layers
    alone = cost[(cost["variant"] == "only") & (cost["layer"] == by["cost"].idxmax())]
    assert by["cost"].max() == pytest.approx(float(alone["to_float"].iloc[0]))  # more error


def test_each_quantity_is_a_file_that_the_viewer_loads(regression, tmp_path) -> None:
    need_package("model_explorer")
    from model_explorer.node_data_builder import GraphNodeData

    files, data = regression
    written = overlay(files, data).save(tmp_path / "overlays.json")
    assert [path.name for path in written] == [
        f"overlays-reg_qat-{quantity}.json" for quantity in islice(QUANTITIES, 4)]
    nodes = viewed(files[1])
    for path in written:
        for graph, numbers in json.loads(path.read_text()).items():
            assert set(numbers["results"]) <= nodes[graph]
            GraphNodeData(**numbers)
            assert [stop["stop"] for stop in numbers["gradient"]] == [0, 1]


def test_the_extension_gives_every_quantity_or_says_why_not(regression) -> None:
    need_package("model_explorer")
    from qinspect.viewer.main import LayersOfQuantizedFile

    extension = LayersOfQuantizedFile()
    files, data = regression
    given = {"float": str(files[0]), "data": str(data)}
    found = extension.run("qinspect", str(files[1]), "main", given)
    assert [one.name for one in found.result] == [
        title for title, _ in islice(QUANTITIES.values(), 4)]
    assert found.error == ""
    assert {one.id for one in extension.get_config_editors("qinspect").configEditors} > set(given)
    wrong = extension.run("qinspect", str(files[1]), "main", {**given, "data": "nowhere.npz"})
    assert "nowhere.npz" in wrong.error
    assert "data" in extension.run("qinspect", str(files[1]), "main", {"float": "f"}).error


def test_one_file_alone_is_refused(files) -> None:
    with pytest.raises(DataError, match="float file and then"):
        overlay(files[:1], np.zeros((2, 32, 32, 3), np.float32))


def test_the_command_names_what_it_wrote(regression, tmp_path) -> None:
    files, data = regression
    done = subprocess.run(
        [sys.executable, "-m", "qinspect", "overlay", *map(str, files), "--data", str(data),
         "--out", str(tmp_path / "new" / "folder" / "overlays.json")],
        capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = list((tmp_path / "new" / "folder").glob("*.json"))
    assert written
    assert all(str(path) in done.stdout for path in written)
    assert "model-explorer" in done.stdout
