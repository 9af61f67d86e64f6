"""Damaged and odd files end in an answer or in one sentence, whatever is asked of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qinspect.cli import app
from qinspect.errors import ModelFileError, QinspectError

NAMES = ("compare_5034", "compare_5138", "diagnose_6012", "diagnose_6045", "diagnose_6122", "nan1",
         "nan_all", "crasher")


@pytest.fixture(scope="module")
def torture(cases: Path) -> Path:
    return cases / "torture"


@pytest.mark.parametrize("name", NAMES)
def test_no_traceback(torture: Path, name: str) -> None:
    (file,) = torture.glob(f"{name}*.tflite")
    data = ["--data", str(torture / "good.npz")]
    same = [f"--{role}={file}" for role in ("float", "ptq", "qat")]
    for arguments in (["inspect", str(file)], ["compare", str(file), str(file), *data],
                      ["diagnose", *same, *data, "--no-interventions"]):
        done = CliRunner().invoke(app, arguments)
        # The command line makes one line and exit code 2 of these.
        assert done.exception is None or isinstance(done.exception, QinspectError), arguments


def test_a_file_without_outputs_is_refused(odd_dir: Path, torture: Path) -> None:
    same = [f"--{role}={odd_dir / 'empty_model.tflite'}" for role in ("float", "ptq")]
    done = CliRunner().invoke(app, ["diagnose", *same, "--data", str(torture / "good.npz")])
    assert isinstance(done.exception, QinspectError)


@pytest.mark.parametrize(("given", "words"), [
    ({"float": "ptq", "ptq": "ptq", "qat": "qat"}, r"quantized \(int8\); .*or leave it out"),
    ({"float": "ptq", "ptq": "qat"}, "give the float32 file that the others were made from"),
    ({"float": "ptq", "qat": "qat"}, "or give this one as PTQ"),
    ({"float": "ptq", "ptq": "float", "qat": "qat"}, "exchange it with the one given as PTQ"),
    ({"float": "qat", "qat": "float", "ptq": "ptq"}, "exchange it with the one given as QAT"),
])
def test_a_quantized_file_is_no_float_file(cases: Path, given: dict[str, str], words: str) -> None:
    folder = cases / "10-uint8-units"
    files = [f"--{role}={folder / f'cls_{name}.tflite'}" for role, name in given.items()]
    done = CliRunner().invoke(app, ["diagnose", *files, "--data", str(cases / "torture/good.npz"),
                                    "--no-interventions"])
    assert isinstance(done.exception, ModelFileError)
    assert re.search(words, str(done.exception))


def test_labels_that_no_class_has_are_refused(cases: Path) -> None:
    folder = cases / "10-uint8-units"
    files = [f"--{role}={folder / f'cls_{role}.tflite'}" for role in ("float", "ptq", "qat")]
    done = CliRunner().invoke(app, ["diagnose", *files, "--data", str(cases / "torture/good.npz"),
                                    "--label-offset", "99", "--no-interventions"])
    assert isinstance(done.exception, QinspectError)
    assert "classes 0 to 9" in str(done.exception)
