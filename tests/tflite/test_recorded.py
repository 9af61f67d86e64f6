"""Outputs recorded elsewhere: every form gives what was recorded; what is wrong is a sentence."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_net import CLASSES, examples, small_net
from typer.testing import CliRunner

import qinspect as qi
from qinspect.cli import app
from qinspect.data.dataset import Dataset
from qinspect.errors import DataError, QinspectError, SpecError
from qinspect.measure.activations import observe_ranges
from qinspect.tflite import evaluate, read_graph
from qinspect.tflite.beside import beside
from qinspect.tflite.ports import ports_of
from qinspect.tflite.recorded import Recording, by_model, places
from qinspect.tflite.requantize import quantize_file
from qinspect.tflite.run import evaluation_of

N = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float file, int8 files with int8, and with float outputs, and examples with labels."""
    path = tmp_path_factory.mktemp("recorded")
    graph = read_graph(small_net())
    (path / "float.tflite").write_bytes(graph.content)
    bounds = observe_ranges(graph, examples(100)).over()
    (path / "qat.tflite").write_bytes(quantize_file(graph, bounds))
    x = examples(N, seed=6)
    np.savez(path / "data.npz", x=x, y=evaluate(graph, x).prediction,
             id=np.array([f"e{i}" for i in range(N)]))
    return path


@pytest.fixture(scope="module")
def own(folder: Path):
    return evaluate(folder / "qat.tflite", np.load(folder / "data.npz")["x"])


def recorded(folder: Path, place, **options):
    found = qi.evaluate([folder / "float.tflite", folder / "qat.tflite"], folder / "data.npz",
                        recorded={"qat": place}, **options)
    assert found.models == ("float.tflite", "qat.tflite", "qat.tflite, recorded")
    return found


def raw_files(folder: Path, values) -> Path:
    folder.mkdir()
    for at, one in enumerate(values):
        (folder / f"out_{at}.bin").write_bytes(one.tobytes())
    return folder


def forms(folder: Path, own, raw):
    """The same recording in every form."""
    np.savez(folder / "a.npz", outputs=raw)
    order = np.random.default_rng(0).permutation(N)
    np.savez(folder / "b.npz", y=raw[order], ids=np.array([f"e{i}" for i in order]))
    np.save(folder / "c.npy", raw)
    (folder / "d.raw").write_bytes(raw.tobytes())
    named = folder / "named"
    named.mkdir()
    for at, one in enumerate(raw):
        (named / f"e{at}.raw").write_bytes(one.tobytes())
    return [folder / "a.npz", folder / "b.npz", folder / "c.npy", folder / "d.raw",
            raw_files(folder / "e", raw), named, raw, {"output": raw}]


@pytest.mark.parametrize("kind", ["stored", "real"])
def test_every_form_gives_what_was_recorded(folder: Path, own, tmp_path: Path, kind: str) -> None:
    raw = own.raw if kind == "stored" else own.outputs
    assert raw.dtype == ("float32" if kind == "real" else raw.dtype)
    for place in forms(tmp_path, own, raw):
        found = recorded(folder, place)
        assert np.array_equal(found.outputs["qat.tflite, recorded"], own.outputs)
        assert found.value("qat.tflite, recorded") == found.value("qat.tflite")
        how = "joined by id" if str(place).endswith(("b.npz", "named")) else "in the order"
        assert sum(how in note for note in found.notes) == 1
        assert any("0 of 120 predictions differ" in note for note in found.notes)


def test_classes_alone(folder: Path, own, tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", predictions=own.prediction)
    np.save(tmp_path / "p.npy", own.prediction)
    for place in (tmp_path / "p.npz", tmp_path / "p.npy"):
        assert recorded(folder, place).value("qat.tflite, recorded") == np.mean(
            own.prediction == np.load(folder / "data.npz")["y"])
    with pytest.raises(DataError, match="classes alone"):
        recorded(folder, tmp_path / "p.npz", metric="log-loss")


@pytest.mark.parametrize("written", [lambda rows: rows, lambda rows: np.char.zfill(
    rows.astype(str), 4)])
def test_rows_are_numbered_where_the_data_have_no_ids(
    folder: Path, own, tmp_path: Path, written
) -> None:
    data = dict(np.load(folder / "data.npz"))
    np.savez(tmp_path / "bare.npz", x=data["x"], y=data["y"])
    order = np.random.default_rng(1).permutation(N)
    found = qi.evaluate(folder / "qat.tflite", tmp_path / "bare.npz",
                        recorded={"qat.tflite": {"outputs": own.raw[order],
                                                 "ids": written(order)}})
    assert np.array_equal(found.outputs["qat.tflite, recorded"], own.outputs)


@pytest.mark.parametrize(("change", "said"), [
    (lambda raw: raw[:-1], "holds 119 examples, and the data hold 120"),
    (lambda raw: raw[:, :-1], "has shape"),
    (lambda raw: raw.astype(np.int64), "holds int64"),
    (lambda raw: raw.view(np.uint8), "holds uint8"),
    (lambda raw: raw.astype(np.float32), "save what it stores as int8"),
    (lambda raw: raw.astype(str), "holds <U"),
    (lambda raw: {"logits": raw}, "has no array outputs"),
    (lambda raw: {"outputs": raw, "ids": np.arange(N)}, "only in the data"),
    (lambda raw: {"outputs": raw, "ids": np.array(["e1"] * N)}, "occurs 120 times"),
    (lambda raw: {"outputs": raw, "ids": np.arange(5)}, "ids have shape"),
    (lambda raw: {"predictions": np.full(N, CLASSES)}, "classes 0 to 3"),
    (lambda raw: {"predictions": raw}, "one whole number"),
    (lambda raw: "nowhere.npz", "no such file"),
    (lambda raw: "nowhere.txt", "is no recording"),
    (lambda raw: len, "which is neither a path nor an array"),
    (lambda raw: [[1, 2], [3]], "list, which is neither a path nor an array"),
    (lambda raw: np.float32(3), "has shape"),
    (lambda raw: np.ma.masked_array(raw, raw > 0), "masked"),
    (lambda raw: {"outputs": raw, "model_sha256": "abc"}, "64 digits"),
    (lambda raw: {"outputs": raw, "model_sha256": np.zeros((3, 2))}, r"model_sha256 is '\(3, 2\)'"),
])
def test_what_is_wrong_is_one_sentence(folder: Path, own, change, said: str) -> None:
    with pytest.raises(QinspectError, match=said) as told:
        recorded(folder, change(own.raw))
    assert str(told.value).endswith(".")
    assert "\n" not in str(told.value)


def test_raw_files_of_another_size(folder: Path, own, tmp_path: Path) -> None:
    place = raw_files(tmp_path / "raw", own.raw)
    (place / "out_7.bin").write_bytes(b"123")
    with pytest.raises(DataError, match=r"out_7.bin has 3 bytes; 1 example of .* are 4 as int8"):
        recorded(folder, place)
    with pytest.raises(DataError, match="holds no file"):
        recorded(folder, folder)


def test_what_is_no_file_is_not_read(folder: Path, own, tmp_path: Path) -> None:
    place = raw_files(tmp_path / "raw", own.raw)
    (place / ".DS_Store").write_bytes(b"1")
    (place / "folder.bin").mkdir()
    assert any("0 of 120 predictions differ" in note for note in recorded(folder, place).notes)
    with (tmp_path / "huge.bin").open("wb") as file:
        file.truncate(10**13)
    with pytest.raises(DataError, match=r"huge.bin has 10,000,000,000,000 bytes; 120 examples"):
        recorded(folder, tmp_path / "huge.bin")


def test_arrays_as_other_programs_hand_them_on(folder: Path, own) -> None:
    """Lists, the other order of bytes, ids as bytes, as Python objects or in a column."""
    ids = [f"e{i}" for i in range(N)]
    for place in (own.outputs.tolist(), own.outputs.astype(">f4"), own.outputs.astype("f2"),
                  {"outputs": own.raw, "ids": np.array(ids, object)},
                  {"outputs": own.raw, "ids": np.array(ids, "S")},
                  {"outputs": own.raw, "ids": np.array(ids)[:, None]}):
        assert any("0 of 120 predictions differ" in note
                   for note in recorded(folder, place).notes)


def test_the_array_that_was_taken_is_named(folder: Path, own) -> None:
    found = recorded(folder, {"predictions": own.prediction[::-1], "outputs": own.raw})
    assert any("('outputs'; not read: 'predictions')" in note for note in found.notes)


@pytest.mark.parametrize("form", ["{}", " SHA256:{} ", b"{}", ["{}"]])
def test_a_checksum_in_other_clothes_is_the_same(folder: Path, own, form) -> None:
    digest = hashlib.sha256((folder / "qat.tflite").read_bytes()).hexdigest()
    text = digest.encode() if isinstance(form, bytes) else (
        [digest] if isinstance(form, list) else form.format(digest.upper()))
    found = recorded(folder, {"outputs": own.raw, "model_sha256": np.array(text)})
    assert any("0 of 120 predictions differ" in note for note in found.notes)


def test_no_answer_is_reported(folder: Path, own) -> None:
    outputs = own.outputs.copy()
    outputs[3] = np.nan
    found = recorded(folder, outputs)
    assert any("1 of 120 examples have a NaN" in note for note in found.notes)
    assert any("1 of 120 predictions differ" in note for note in found.notes)


def test_names_of_files() -> None:
    names = ["a/float.tflite", "a/qat.tflite"]
    for key in ("qat", "qat.tflite", "a/qat.tflite", "elsewhere/qat.tflite"):
        assert by_model({key: "p"}, names) == {"a/qat.tflite": "p"}
    with pytest.raises(SpecError, match="none of the files"):
        by_model({"ptq": "p"}, names)
    for strange in ("p.npz", ["qat=p.npz"]):
        with pytest.raises(SpecError, match="by the name of the file"):
            by_model(strange, names)  # type: ignore[arg-type]
    assert by_model({"qat": None}, names) == {}
    with pytest.raises(SpecError, match="more than one recording"):
        by_model({"qat": "p", "qat.tflite": "q"}, names)
    assert places(["qat=a=b.npz"]) == {"qat": "a=b.npz"}
    for option in ("qat", "=a", "qat="):
        with pytest.raises(SpecError, match="--recorded"):
            places([option])


@settings(max_examples=20)
@given(st.integers(0, N), st.integers(1, 60))
def test_differences_are_counted_as_numpy_counts_them(folder: Path, own, count: int, by: int):
    """Of stored values that were moved on purpose: examples, steps, classes."""
    raw = own.raw.astype(int)
    raw[:count, 0] = np.clip(raw[:count, 0] + by, -128, 127)
    gap = np.abs(raw - own.raw)
    flips = int(np.count_nonzero(raw.argmax(axis=1) != own.raw.argmax(axis=1)))
    graph = read_graph(folder / "qat.tflite")
    port = ports_of(graph).outputs[0]
    found = evaluation_of(port, raw.astype(np.int8), True, ())
    seen = beside(Recording(found.prediction, found, ""), own, graph, port, classes=True)
    assert (seen.differ, seen.flips) == (int((gap > 0).any(axis=1).sum()), flips)
    assert seen.largest == pytest.approx(gap.max(), rel=1e-5)
    assert seen.unit == "steps"


def test_compare_pairs_them_in_one_family(folder: Path, own, tmp_path: Path) -> None:
    raw = own.raw.copy()
    raw[:40] = np.roll(raw[:40], 1, axis=1)
    np.savez(tmp_path / "phone.npz", outputs=raw)
    done = CliRunner().invoke(app, [
        "compare", str(folder / "float.tflite"), str(folder / "qat.tflite"), "--data",
        str(folder / "data.npz"), "--recorded", f"qat={tmp_path / 'phone.npz'}", "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["names"] == ["float.tflite", "qat.tflite"]
    pairs = {(row["a"], row["b"]): row for row in report["comparisons"]}
    assert len(pairs) == 3
    pair = pairs["qat.tflite", "qat.tflite, recorded"]
    y = np.load(folder / "data.npz")["y"]
    right, moved = own.prediction == y, raw.argmax(axis=1) == y
    assert (pair["a_only"], pair["b_only"]) == (int((right & ~moved).sum()),
                                                int((moved & ~right).sum()))
    assert {row["family"] for row in pairs.values()} == {3}
    assert pair["p_adjusted"] == pytest.approx(3 * pair["mcnemar_p"])
    assert report["recorded"][0]["score"] == pytest.approx(moved.mean())
    done = CliRunner().invoke(app, [
        "compare", str(folder / "float.tflite"), str(folder / "qat.tflite"), "--data",
        str(folder / "data.npz"), "--recorded", f"qat={tmp_path / 'phone.npz'}"])
    assert "Recorded elsewhere" in done.output


def test_a_gate_asks_whether_the_device_is_not_worse(folder: Path, own) -> None:
    found = qi.gate("qat.tflite", "qat.tflite, recorded", margin=5,
                    predictions=recorded(folder, own.raw))
    assert found.verdict == "not_worse"


def test_a_gate_runs_the_file_and_takes_the_recording(folder: Path, own, tmp_path: Path) -> None:
    file, data = folder / "qat.tflite", folder / "data.npz"
    alone = qi.gate(file, f"{file}, recorded", data, margin=5, recorded={"qat": own.raw})
    assert (alone.results.models, alone.verdict) == (
        ("qat.tflite", "qat.tflite, recorded"), "not_worse")
    np.save(tmp_path / "phone.npy", np.roll(own.raw, 1, axis=1))
    done = CliRunner().invoke(app, ["gate", str(folder / "float.tflite"), f"{file}, recorded",
                                    "--data", str(data), "--recorded",
                                    f"qat={tmp_path / 'phone.npy'}", "--json"])
    answer = json.loads(done.stdout)
    assert (done.exit_code, answer["pairs"][0]["new"]) == (1, "qat.tflite, recorded")
    assert any("phone.npy" in note for note in answer["notes"])
    with pytest.raises(SpecError, match="beside files that are run"):
        qi.gate("a", "b", predictions=alone.results, recorded={"qat": own.raw})


@pytest.mark.parametrize(("change", "said"), [
    (lambda raw: raw[np.random.default_rng(0).permutation(N)], "order was lost"),
    (lambda raw: np.repeat(raw[:1], N, axis=0), "same for every example"),
    (lambda raw: np.random.default_rng(0).permutation(raw.ravel()).reshape(raw.shape), "no more"),
    (lambda raw: raw ^ np.int8(-128), "int8 was taken for uint8"),
])
def test_what_is_not_this_files_output_is_said(folder: Path, own, change, said: str) -> None:
    found = recorded(folder, change(own.raw))
    assert any(said in note for note in found.notes)


def test_labels_are_not_taken_for_outputs(folder: Path, own, tmp_path: Path) -> None:
    """Of labels that the file misses at some examples, under any offset; a constant is none."""
    data = dict(np.load(folder / "data.npz"))
    data["y"] = np.where(np.arange(N) < 20, (own.prediction + 1) % CLASSES, own.prediction)
    np.savez(tmp_path / "data.npz", **data)
    one_hot = np.eye(CLASSES, dtype="f4")[data["y"]]
    for place in (data["y"], one_hot):
        found = qi.evaluate([folder / "qat.tflite"], tmp_path / "data.npz",
                            recorded={"qat": place})
        assert any("are the labels of the examples" in note for note in found.notes)
    data["y"][:] = 1
    np.savez(tmp_path / "one.npz", **data)
    found = qi.evaluate([folder / "qat.tflite"], tmp_path / "one.npz",
                        recorded={"qat": np.full(N, 2)})
    assert any("class 2 for every example" in note for note in found.notes)


def test_classes_that_are_numbered_otherwise_are_told(folder: Path, own) -> None:
    x, y = (np.load(folder / "data.npz")[name] for name in "xy")
    some = own.prediction > 0
    found = qi.evaluate([folder / "qat.tflite"], Dataset("some", x[some], y[some],
                        np.arange(some.sum()).astype(str), CLASSES),
                        recorded={"qat": own.prediction[some] - 1})
    assert any("class -1 for 100 % of the examples: classes are numbered" in note
               for note in found.notes)


def test_classes_of_one_number_are_refused_with_what_to_record(cases: Path) -> None:
    place = cases / "05-sigmoid-diagnose"
    outputs = qi.evaluate(place / "bin_qat.tflite", place / "bin_eval.npz")
    classes = (outputs.outputs["bin_qat.tflite"].ravel() > 0.5).astype(int)
    with pytest.raises(DataError, match=r"one number for each example, .* as outputs"):
        qi.evaluate(place / "bin_qat.tflite", place / "bin_eval.npz",
                    recorded={"bin_qat": {"predictions": classes}})


def test_logits_for_probabilities_are_said_to_be_of_the_same_classes(folder: Path, own) -> None:
    x = np.load(folder / "data.npz")["x"]
    logits = 20 * np.log(evaluate(folder / "float.tflite", x).outputs + 1e-6)
    found = qi.evaluate(folder / "float.tflite", folder / "data.npz", recorded={"float": logits})
    assert any("same class for 100 % of the examples" in note for note in found.notes)


def test_another_files_outputs_are_named(folder: Path) -> None:
    x = np.load(folder / "data.npz")["x"]
    found = recorded(folder, evaluate(folder / "float.tflite", x).outputs)
    assert any("are those of float.tflite" in note for note in found.notes)
