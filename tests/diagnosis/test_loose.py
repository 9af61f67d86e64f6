"""A folder of loose files is understood by its names, or refused with the options named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from diagnose_cases import N, calibration, data, float_graph, int8, moved, ranges
from PIL import Image

from qinspect.diagnosis.cases import case
from qinspect.diagnosis.engine import diagnose
from qinspect.diagnosis.loose import loose_files
from qinspect.errors import SpecError
from qinspect.tflite import evaluate


def files(folder: Path, *names: str) -> Path:
    """Empty files of these names: only Keras models and tables are opened."""
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).touch()
    return folder


def taken(folder: Path, *names: str, given: tuple[str, ...] = ()) -> dict[str, str]:
    found = loose_files(files(folder, *names), dict.fromkeys(given)).files
    return {name: path.name for name, path in found.items()}


LOG = "epoch,accuracy,loss,val_accuracy,val_loss\n0,0.5,1.0,0.5,1.0\n1,0.6,0.9,0.6,0.9\n"


@pytest.mark.parametrize(("names", "expected"), [
    (("float.tflite", "ptq.tflite", "qat.tflite", "eval.npz"),
     {"float": "float.tflite", "ptq": "ptq.tflite", "qat": "qat.tflite", "data": "eval.npz"}),
    (("net_fp32.tflite", "net-int8.tflite", "netQAT.tflite", "X_test.npz", "README.md"),
     {"float": "net_fp32.tflite", "ptq": "net-int8.tflite", "qat": "netQAT.tflite",
      "data": "X_test.npz"}),
    # int8 alone says PTQ only where nothing else says so, and qat_int8 is QAT.
    (("m_float32.tflite", "m_ptq_int8.tflite", "m_int8.tflite", "m_qat_int8.tflite", "val.npz"),
     {"float": "m_float32.tflite", "ptq": "m_ptq_int8.tflite", "qat": "m_qat_int8.tflite",
      "data": "val.npz"}),
    (("float.tflite", "ptq.tflite", "test.npz", "val.npz", "train.npz", "calib_data.npz",
      "ptq_predictions.csv", "checkpoints.npz", "float_best.h5", "qat.keras", "w.weights.h5"),
     {"float": "float.tflite", "ptq": "ptq.tflite", "keras_float": "float_best.h5",
      "keras_qat": "qat.keras", "data": "test.npz", "train": "train.npz",
      "calibration": "calib_data.npz", "checkpoints": "checkpoints.npz",
      "claims ptq": "ptq_predictions.csv"}),
    # Outputs recorded elsewhere need a role; without one the word says nothing.
    (("float.tflite", "ptq.tflite", "qat.tflite", "test_recording.npz", "ptq_recorded.npz",
      "qatRecording.raw", "qat_recorded.csv", "recorded.npz"),
     {"float": "float.tflite", "ptq": "ptq.tflite", "qat": "qat.tflite",
      "data": "test_recording.npz", "recorded ptq": "ptq_recorded.npz",
      "recorded qat": "qatRecording.raw"}),
    (("float.tflite", "qat.tflite", "digits.npz", "labels.npy", ".hidden.npz"),
     {"float": "float.tflite", "qat": "qat.tflite", "data": "digits.npz"}),
    (("float.tflite", "quantized.tflite", "x_test.npy", "y_test.npy"),
     {"float": "float.tflite", "ptq": "quantized.tflite", "data": "x_test.npy"}),
])
def test_names_say_what_is_what(tmp_path, names, expected):
    assert taken(tmp_path, *names) == expected


def test_a_history_is_known_by_its_columns(tmp_path):
    for name in ("history.csv", "log_qat.csv", "float-training.log"):
        (tmp_path / name).write_text(LOG)
    found = taken(tmp_path, "float.tflite", "ptq.tflite", "eval.csv")
    assert (found["history"], found["history_qat"], found["history_float"], found["data"]) == (
        "history.csv", "log_qat.csv", "float-training.log", "eval.csv")
    (tmp_path / "float-training.log").unlink()
    found = taken(tmp_path, "float.tflite", "ptq.tflite", "eval.csv")
    assert (found["history_float"], found["history_qat"]) == ("history.csv", "log_qat.csv")
    assert "history" not in found


def test_folders_of_images_are_examples(tmp_path):
    for part in ("test", "train", "figures"):
        (tmp_path / part / "cat").mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / part / "cat" / "a.png")
    found = taken(tmp_path, "float.tflite", "ptq.tflite")
    assert (found["data"], found["train"]) == ("test", "train")


@pytest.mark.parametrize(("names", "words"), [
    (("float.tflite", "ptq.tflite", "ptq_dyn.tflite", "eval.npz"),
     "'ptq.tflite', 'ptq_dyn.tflite' may each be the PTQ .tflite file; .* with --ptq"),
    (("float.tflite", "ptq.tflite", "eval.npz", "test.npz"), "evaluation examples; .* --data"),
    (("float.tflite", "ptq.tflite", "a.npz", "b.npz"), "evaluation examples; .* --data"),
    (("float.tflite", "ptq.tflite", "eval.npz", "ptq_recorded.npz", "ptq_recorded.npy"),
     "recorded outputs of the PTQ file; .* with --recorded ptq=PATH"),
    (("float.tflite", "ptq.tflite"), "no evaluation examples by name .* --data"),
    (("float.tflite", "best.tflite", "eval.npz"), "'best.tflite', 'float.tflite' .* say of 1"),
    (("notes.txt",), "no study folder .* no .tflite files; .* --float, --ptq and --qat"),
    (("qat_ptq.tflite", "float.tflite", "eval.npz"), "--float, --ptq and --qat"),
])
def test_what_is_not_clear_is_refused_with_the_option(tmp_path, names, words):
    with pytest.raises(SpecError, match=words) as caught:
        taken(tmp_path, *names)
    assert "\n" not in str(caught.value)


def test_what_is_given_otherwise_is_not_asked_of_names(tmp_path):
    found = loose_files(files(tmp_path, "float.tflite", "ptq.tflite", "ptq_dyn.tflite", "a.npz",
                              "b.npz"), {"ptq": "p", "data": "d"})
    assert {name: path.name for name, path in found.files.items()} == {"float": "float.tflite"}
    assert found.unused == ("a.npz", "b.npz", "ptq.tflite", "ptq_dyn.tflite")


def test_the_cases_of_the_field_are_understood(cases):
    """Folders as people sent them, none of which knew these rules."""
    for folder, roles, taken_for_data in (
        ("02-reshape-traceback", ("float", "ptq", "qat"), "tut_eval.npz"),
        ("06-regression", ("float", "ptq", "qat"), None),
        ("05-sigmoid-diagnose", ("float", "ptq", "qat"), "bin_eval.npz"),
        ("10-uint8-units", ("float", "ptq", "qat"), "cls_u8.npz"),
    ):
        if taken_for_data is None:
            with pytest.raises(SpecError, match="--ptq"):
                loose_files(cases / folder)
            continue
        found = loose_files(cases / folder)
        assert [role for role in ("float", "ptq", "qat") if role in found.files] == [*roles]
        assert found.files["data"].name == taken_for_data


@pytest.mark.slow
def test_a_folder_gives_the_answer_that_its_files_give(tmp_path):
    (tmp_path / "float.tflite").write_bytes(float_graph().content)
    (tmp_path / "net_int8.tflite").write_bytes(
        int8(ranges(calibration() * np.float32(0.1))).content)
    (tmp_path / "other.tflite").write_bytes(b"")
    np.savez(tmp_path / "eval.npz", x=data().x, y=data().y)
    np.savez(tmp_path / "cal.npz", x=calibration() * np.float32(0.1))
    found = diagnose(tmp_path)
    one_by_one = diagnose(case(float=tmp_path / "float.tflite", ptq=tmp_path / "net_int8.tflite",
                               data=tmp_path / "eval.npz", calibration=tmp_path / "cal.npz"))
    assert found.primary == one_by_one.primary == "calibration-shift"
    assert found.focus.gap == one_by_one.focus.gap
    said = " ".join(found.data_notes)
    assert "'net_int8.tflite' is the PTQ .tflite file" in said
    assert "not used: 'other.tflite'" in said
    assert case(tmp_path, label_offset=0).told["calibration"] == tmp_path / "cal.npz"


def test_recordings_in_a_folder_are_those_given_one_by_one(tmp_path):
    (tmp_path / "float.tflite").write_bytes(float_graph().content)
    (tmp_path / "ptq.tflite").write_bytes(int8(ranges(calibration())).content)
    np.savez(tmp_path / "eval.npz", x=data().x, y=data().y)
    raw = evaluate(tmp_path / "ptq.tflite", data().x).raw
    np.save(tmp_path / "ptq_recorded.npy", np.where(np.arange(N)[:, None] < 300,
                                                    np.roll(raw, 1, axis=1), raw))
    given = case(tmp_path)
    assert given.recorded == {"ptq": tmp_path / "ptq_recorded.npy"}
    assert "'ptq_recorded.npy' is recorded outputs of the PTQ file" in " ".join(given.notes)
    assert case(tmp_path, recorded={"ptq": raw}).recorded["ptq"] is raw
    # Of two kinds of answers of one file the one to take is given beside the folder.
    np.savez(tmp_path / "ptq_pred.npz", prediction=raw.argmax(axis=1))
    with pytest.raises(SpecError, match="recorded outputs and predictions"):
        case(tmp_path)
    assert not case(tmp_path, recorded={"ptq": raw}).claims
    assert not case(tmp_path, claims={"ptq": tmp_path / "ptq_pred.npz"}).recorded


def test_what_is_given_beside_a_folder_counts_more(tmp_path):
    (tmp_path / "float.tflite").write_bytes(float_graph().content)
    (tmp_path / "ptq.tflite").write_bytes(int8(ranges(calibration())).content)
    (tmp_path / "qat.tflite").write_bytes(moved(0.1).content)
    np.savez(tmp_path / "eval.npz", x=data().x, y=data().y)
    own = evaluate(tmp_path / "ptq.tflite", data().x).prediction
    np.savez(tmp_path / "ptq_pred.npz", prediction=own)
    np.savez(tmp_path / "half.npz", x=data().x[: N // 2], y=data().y[: N // 2])
    found = case(tmp_path, data=tmp_path / "half.npz", claims={"ptq": own[: N // 2], "qat": None})
    assert len(found.data) == N // 2
    assert [*found.claims] == ["ptq"]
    assert case(tmp_path).claims["ptq"].prediction.shape == (N,)
