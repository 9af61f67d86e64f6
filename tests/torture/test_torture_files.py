"""Files that are damaged, hostile or of another kind end in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from qinspect.data.npz import load_npz
from qinspect.data.tables import read_columns
from qinspect.errors import DataError, ModelFileError, QinspectError, SpecError, StoreError
from qinspect.predictions import Results
from qinspect.store import locked, prepare_folder, read_arrays, read_json
from qinspect.studies.spec import StudySpec
from qinspect.studies.stored import read_spec
from qinspect.tflite import evaluate, read_keras
from qinspect.tflite.sandbox import open_model

LONG = "a" * 300


def test_a_file_that_kills_its_process_leaves_the_caller_alive_without_being_tried(cases):
    with pytest.raises(ModelFileError, match="crasher"):
        evaluate(cases / "torture/crasher.tflite", np.zeros((2, 8, 8, 1), np.float32))


@pytest.mark.parametrize("name", [
    "compare_5034", "diagnose_6037", "diagnose_6045", "diagnose_6058"])
def test_values_that_nothing_writes_are_refused(cases, name):
    with pytest.raises(ModelFileError, match="which nothing writes before"):
        open_model(cases / f"torture/{name}_traceback.tflite")


@pytest.mark.parametrize("name", ["not_npy", "lzma_bad", "huge_shape"])
@pytest.mark.parametrize("reader", [load_npz, read_columns])
def test_damaged_archives_have_one_reader(cases, name, reader):
    with pytest.raises(DataError, match=r"cannot be read|not a readable") as caught:
        reader(cases / f"torture/{name}.npz")
    assert "\n" not in str(caught.value)


def test_names_that_no_file_can_have_are_of_none():
    for reader, suffix in ((load_npz, ".npz"), (read_columns, ".csv")):
        with pytest.raises(DataError, match="no"):
            reader(Path(LONG + suffix))


@pytest.mark.parametrize("text", ["[]", "{}", "[" * 100_000, "{", "", '{"dataset": "digits"}'])
def test_settings_are_never_the_defaults_by_accident(tmp_path, text):
    (tmp_path / "spec.json").write_text(text)
    with pytest.raises(StoreError):
        read_spec(tmp_path)


@pytest.mark.parametrize("setting", [
    {"dataset": ["digits"]}, {"model": 3}, {"skip_layers": "x"}, {"skip_layers": None},
    {"recipes": [1]},
    {"warm_start": "yes"}, {"output": {}}, {"seed": "0"}])
def test_settings_of_another_kind_are_refused(setting):
    with pytest.raises(SpecError):
        StudySpec.from_dict({**StudySpec().to_dict(), **setting})


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"x" * 99])
def test_predictions_that_are_cut_are_no_interruption(tmp_path, content):
    path = tmp_path / "predictions.npz"
    path.write_bytes(content)
    with pytest.raises(StoreError):
        read_arrays(path)


def test_what_killed_runs_left_is_removed(tmp_path):
    folder = prepare_folder(tmp_path)
    left = folder / "models" / ".float.h5.abc.unfinished"
    left.write_bytes(b"half")
    with locked(folder, print):
        assert not left.exists()
    with pytest.raises(StoreError, match="does not exist"):
        read_json(folder / "spec.json")


def test_a_lock_that_is_a_folder_is_told(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(StoreError, match="lock"), locked(tmp_path, print):
        pass


def test_many_models_are_refused_with_a_way_out():
    models = {f"m{i}": np.zeros(9, int) for i in range(60)}
    with pytest.raises(SpecError, match="--reference"):
        Results(models, np.zeros(9, int)).compare()
    assert len(list(Results(models, np.zeros(9, int)).compare(reference="m0"))) == 59


def test_a_negative_seed_is_refused():
    with pytest.raises(SpecError, match="at least 0"):
        Results({"a": np.zeros(3, int)}, np.zeros(3, int), seed=-1)


def test_keras_files_read_no_other_file(tmp_path):
    train = pytest.importorskip("qinspect.train")
    pytest.importorskip("tensorflow")
    secret, other = tmp_path / "secret.bin", tmp_path / "other.h5"
    secret.write_bytes(b"secret..")
    good = train.build_model("mlp", (8, 8, 1), 10, seed=0)
    train.save_keras(good, other)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []

    def elsewhere(group, name):
        group.create_dataset(name, (8,), dtype="u1", external=[(str(secret), 0, 8)])

    def linked(group, name):
        group[name] = h5py.ExternalLink(str(other), "/model_weights")

    for put in (elsewhere, linked):
        path = tmp_path / "hostile.h5"
        path.write_bytes(other.read_bytes())
        with h5py.File(path, "r+") as file:
            weights: list[str] = []
            file["model_weights"].visititems(
                lambda name, one, found=weights: found.append(name)
                if isinstance(one, h5py.Dataset) else None)
            del file["model_weights"][weights[0]]
            put(file["model_weights"], weights[0])
        for reader in (train.load_keras, read_keras):
            with pytest.raises(ModelFileError):
                reader(path)


@pytest.mark.parametrize("name", [
    "badmeta.keras", "deflate_corrupt.keras", "cfg_int_attr.h5", "w_bomb.h5"])
def test_damaged_keras_files_are_refused(cases, name):
    pytest.importorskip("tensorflow")
    from qinspect.train import load_keras

    with pytest.raises(QinspectError) as caught:
        load_keras(cases / "torture" / name)
    assert "\n" not in str(caught.value)


def command(*arguments: str, redirect: str = "") -> subprocess.CompletedProcess[str]:
    line = " ".join([sys.executable, "-m", "qinspect", *arguments, redirect])
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120,
                          env=dict(os.environ), check=False)


@pytest.mark.slow
def test_closed_and_full_outputs_long_names_and_devices(cases):
    file = str(cases / "01-lstm-state/seq_float.tflite")
    file = file if Path(file).exists() else str(next(cases.glob("09*/*.tflite")))
    for redirect, code in ((">&-", 0), ("> /dev/full", 2)):
        done = command("inspect", file, redirect=redirect)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    for arguments in (("diagnose", LONG), ("significance", LONG + ".csv"),
                      ("inspect", "/dev/zero"), ("inspect", LONG),
                      ("significance", "x.csv", "--seed", "-1")):
        done = command(*arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
