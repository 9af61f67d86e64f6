"""Damaged and odd files end in an answer or in one sentence, whatever is asked of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from qinspect.cli import app
from qinspect.errors import QinspectError

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
