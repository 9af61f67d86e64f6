"""What every command prints with ``--json`` is what the shipped schema promises."""

from __future__ import annotations

import dataclasses
import inspect
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from parts import need_package
from show_study import write_study
from small_net import examples, small_net
from typer.testing import CliRunner

from qinspect.cli import app
from qinspect.measure.activations import observe_ranges
from qinspect.studies.stored import Study, Sweep, failed_record, finished_record, sweep_frame
from qinspect.tflite import evaluate, read_graph, scheme_of
from qinspect.tflite.requantize import quantize_file
from qinspect.verdicts import CAUSES, DIFFERENCES, GATE

SCHEMA = json.loads(files("qinspect").joinpath("schema.json").read_text(encoding="utf-8"))
# Keys that 56cdcdf printed for a comparison: their names and meanings stay.
OLD_KEYS = {
    "a", "b", "n", "accuracy_a", "accuracy_b", "accuracy_a_ci", "accuracy_b_ci", "diff_pp", "ci_pp",
    "ci_method", "confidence", "intervals_pp", "mcnemar_p", "mcnemar_midp", "p_adjusted", "groups",
    "group_p", "a_only", "b_only", "mde_pp", "margin_pp", "equivalence_p", "verdict", "sentence",
}


def valid(command: str, answer: Any) -> None:
    jsonschema.validate(answer, {"$ref": f"#/$defs/{command}", "$defs": SCHEMA["$defs"]},
                        jsonschema.Draft202012Validator)


def ask(*arguments: object) -> Any:
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("contract")
    graph = read_graph(small_net())
    (path / "float.tflite").write_bytes(graph.content)
    bounds = observe_ranges(graph, examples(100)).over()
    (path / "ptq.tflite").write_bytes(quantize_file(graph, bounds))
    stale = observe_ranges(graph, 9 * examples(100)).over()
    (path / "qat.tflite").write_bytes(quantize_file(graph, stale))
    x = examples(160, seed=6)
    y = evaluate(graph.content, x).prediction
    group = np.arange(160) // 4
    np.savez(path / "data.npz", x=x, y=y)
    np.savez(path / "grouped.npz", x=x, y=y, group=group)
    np.savez(path / "unlabelled.npz", x=x)
    np.savez(path / "calibration.npz", x=examples(40, seed=11))
    found = {name: evaluate(path / f"{name}.tflite", x).prediction
             for name in ("float", "ptq", "qat")}
    np.savez(path / "predictions.npz", y=y, **found)
    np.savez(path / "two.npz", y=y, group=group, a=found["float"], correct_b=found["qat"] == y)
    return path


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return write_study(tmp_path_factory.mktemp("study"), n=400)


def test_the_schema_is_one_and_names_the_verdicts() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    found = SCHEMA["$defs"]
    assert found["difference_verdict"]["enum"] == list(DIFFERENCES)
    assert found["cause_verdict"]["enum"] == list(CAUSES)
    assert set(found["comparison"]["required"]) >= OLD_KEYS
    with_json = {command.name or command.callback.__name__.replace("_", "-")
                 for command in app.registered_commands
                 if "as_json" in inspect.signature(command.callback).parameters}
    assert set(found) >= with_json > {"inspect", "compare", "robust-qat"}


def test_overlay_and_runs(folder: Path, study: Study, tmp_path: Path) -> None:
    valid("overlay", ask("overlay", folder / "float.tflite", folder / "qat.tflite", "--data",
                         folder / "data.npz", "--costs", "--out", tmp_path / "overlays.json"))
    answer = ask("runs", study.folder)
    valid("runs", answer)
    assert {row["b"] for row in answer["runs"]} == {"qat", "ptq_int8"}


def test_the_schema_refuses_what_it_should(folder: Path) -> None:
    answer = ask("significance", folder / "predictions.npz")
    broken = json.loads(json.dumps(answer))
    del broken["comparisons"][0]["mcnemar_p"]
    with pytest.raises(jsonschema.ValidationError, match="mcnemar_p"):
        valid("significance", broken)
    broken = json.loads(json.dumps(answer))
    broken["comparisons"][0]["verdict"] = "same"
    with pytest.raises(jsonschema.ValidationError, match="same"):
        valid("significance", broken)


@pytest.mark.parametrize("names", [("ptq",), ("float", "ptq", "qat")])
def test_inspect(folder: Path, names: tuple[str, ...]) -> None:
    valid("inspect", ask("inspect", *(folder / f"{name}.tflite" for name in names)))


def test_gate(folder: Path) -> None:
    done = CliRunner().invoke(app, [
        "gate", "float", "ptq", "--pair", "float,qat", "--predictions",
        str(folder / "predictions.npz"), "--json"], env={"GITHUB_ACTIONS": ""})
    answer = json.loads(done.stdout)
    valid("gate", answer)
    assert done.exit_code == answer["code"]
    found = SCHEMA["$defs"]["gate"]["properties"]["verdict"]["enum"]
    assert found == list(GATE)


def test_classes_of_files_and_of_predictions(folder: Path) -> None:
    files = [folder / f"{name}.tflite" for name in ("float", "qat")]
    answer = ask("compare", *files, "--data", folder / "data.npz", "--by-class")
    valid("compare", answer)
    assert sum(row["n"] for row in answer["classes"]) == answer["n"]
    assert {row["a"] for row in answer["classes"]} == {"float.tflite"}
    pair = answer["agreement"][0]
    assert pair["churn"] == pytest.approx(1 - pair["agreement"])
    assert pair["kappa"] <= 1
    told = ask("significance", folder / "predictions.npz", "--by-class")
    valid("significance", told)
    assert told["classes"]


def test_significance_of_runs(tmp_path: Path) -> None:
    y = np.tile(np.arange(40) % 4, 3)
    columns = {"seed": np.repeat([0, 1, 2], 40), "id": np.tile(np.arange(40), 3), "y": y,
               "ptq": y, "qat": np.where(np.arange(120) % 7, y, 0)}
    np.savez(tmp_path / "runs.npz", **columns)
    answer = ask("significance", tmp_path / "runs.npz")
    valid("significance", answer)
    assert answer["comparisons"][0]["about"] == "training"


def test_evaluate_writes_what_significance_reads(folder: Path, tmp_path: Path) -> None:
    paths = [folder / f"{name}.tflite" for name in ("float", "ptq", "qat")]
    out = tmp_path / "p.npz"
    answer = ask("evaluate", *paths, "--data", folder / "grouped.npz", "--out", out)
    valid("evaluate", answer)
    again = ask("significance", out)
    assert [(m["name"], m["score"]) for m in again["models"]] == [
        (m["name"], m["score"]) for m in answer["models"]]
    assert {row["groups"] for row in again["comparisons"]} == {40}


def test_layers(folder: Path) -> None:
    paths = [folder / f"{name}.tflite" for name in ("float", "ptq", "qat")]
    answer = ask("layers", *paths, "--data", folder / "unlabelled.npz", "--examples", 50)
    valid("layers", answer)
    assert answer["examples"] == 50
    assert {row["file"] for row in answer["errors"]} == {"ptq.tflite", "qat.tflite"}
    valid("layers", ask("layers", *paths))
    answer = ask("layers", *paths[:2], "--data", folder / "unlabelled.npz", "--cut-worst",
                 folder / "worst")
    valid("layers", answer)
    assert (folder / "worst" / answer["cut"]["files"][0]).exists()


@pytest.mark.parametrize("data", ["data", "unlabelled"])
def test_recorded_outputs(folder: Path, tmp_path: Path, data: str) -> None:
    x = np.load(folder / "data.npz")["x"]
    np.save(tmp_path / "phone.npy", evaluate(folder / "qat.tflite", x).raw)
    asked = ["--data", folder / f"{data}.npz", "--recorded", f"ptq={tmp_path / 'phone.npy'}"]
    answer = ask("compare", folder / "float.tflite", folder / "ptq.tflite", *asked)
    valid("compare", answer)
    assert answer["recorded"][0]["name"] == "ptq.tflite, recorded"
    answer = ask("diagnose", "--float", folder / "float.tflite", "--ptq", folder / "ptq.tflite",
                 "--no-interventions", *asked)
    valid("diagnose", answer)
    assert answer["remarks"][0]["id"] == "recorded-outputs"
    if data == "data":
        valid("evaluate", ask("evaluate", folder / "ptq.tflite", *asked))


def test_doctor() -> None:
    valid("doctor", ask("doctor"))


@pytest.mark.slow
def test_keras_files_become_tflite_files(folder: Path, tmp_path: Path) -> None:
    need_package("tensorflow")
    from qinspect.train import build_model, save_keras

    save_keras(build_model("mlp", (8, 8, 1), 4), tmp_path / "model.h5")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "train.npz", x=rng.random((64, 8, 8, 1), dtype=np.float32),
             y=np.arange(64) % 4)
    trained = ask("robust-qat", tmp_path / "model.h5", "--train", tmp_path / "train.npz",
                  "--keras", tmp_path / "qat.h5", "--out", tmp_path / "qat.tflite")
    valid("robust-qat", trained)
    ptq = ask("convert", tmp_path / "model.h5", "--calibration", tmp_path / "train.npz")
    # A QAT model is converted by its own ranges.
    again = ask("convert", tmp_path / "qat.h5")
    for answer in (ptq, again):
        valid("convert", answer)
        assert scheme_of(read_graph(answer["file"])) == "int8"
    assert again["file"] == str(tmp_path / "qat-int8.tflite")
    assert (tmp_path / "qat-int8.tflite").read_bytes() == (tmp_path / "qat.tflite").read_bytes()
    assert again["bytes"] == trained["bytes"]


@pytest.mark.parametrize("data", ["data", "grouped", "unlabelled"])
def test_compare(folder: Path, data: str) -> None:
    paths = [folder / f"{name}.tflite" for name in ("float", "ptq", "qat")]
    valid("compare", ask("compare", *paths, "--data", folder / f"{data}.npz",
                         "--calibration", folder / "calibration.npz"))


@pytest.mark.parametrize("data", ["grouped", "unlabelled"])
def test_sensitivity(folder: Path, data: str) -> None:
    valid("sensitivity", ask("sensitivity", folder / "float.tflite", "--data",
                             folder / f"{data}.npz", "--calibration", folder / "calibration.npz"))


@pytest.mark.parametrize("name", ["predictions", "two"])
def test_significance(folder: Path, name: str) -> None:
    valid("significance", ask("significance", folder / f"{name}.npz"))


@pytest.mark.parametrize("data", ["data", "grouped"])
def test_diagnose(folder: Path, data: str) -> None:
    files = [word for role in ("float", "ptq", "qat")
             for word in (f"--{role}", folder / f"{role}.tflite")]
    answer = ask("diagnose", *files, "--data", folder / f"{data}.npz")
    valid("diagnose", answer)
    for row in answer["causes"]:
        told = {measure["id"]: measure["value"] for measure in row["measures"]}
        assert told.items() <= row["evidence"].items()


def test_study(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qinspect.studies.run.run_study", lambda *arguments, **more: study)
    valid("study", ask("study", "--repeats", "1", "--out", study.folder))


def test_sweep(study: Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    arrays = {**study.arrays, "prediction__qat": np.roll(study.arrays["prediction__qat"], 1)}
    again = dataclasses.replace(study, arrays=arrays)
    runs = {"one": study, "two": again}
    records = [finished_record(key, one, 1.0) for key, one in runs.items()]
    records.append(failed_record("three", study.spec, 1.0, "out of luck"))
    monkeypatch.setattr("qinspect.studies.sweeping.run_sweep",
                        lambda *arguments, **more: Sweep(sweep_frame(records), tmp_path))
    monkeypatch.setattr("qinspect.studies.stored.load_study",
                        lambda path: runs[Path(path).name])
    done = CliRunner().invoke(app, ["sweep", "--out", str(tmp_path), "--json"])
    assert done.exit_code == 1, "a failed run is told by the exit code"
    answer = json.loads(done.stdout)
    valid("sweep", answer)
    assert len(answer["seeds"]) == 1
