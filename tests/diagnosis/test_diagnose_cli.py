"""``qinspect diagnose`` from files: with whatever is there, without TensorFlow, quickly."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from diagnose_cases import calibration, case, data, float_graph, int8, ranges
from parts import Here, other_process

from qinspect.diagnosis.engine import diagnose
from qinspect.tflite import evaluate


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diagnose")
    (folder / "float.tflite").write_bytes(float_graph().content)
    (folder / "ptq.tflite").write_bytes(int8(ranges(calibration() * np.float32(0.1))).content)
    (folder / "good.tflite").write_bytes(int8(ranges(calibration())).content)
    np.savez(folder / "eval.npz", x=data().x, y=data().y)
    np.savez(folder / "cal.npz", x=calibration())
    good = evaluate(folder / "good.tflite", data().x).prediction
    np.savez(folder / "claim.npz", prediction=good[::-1])
    return folder


def test_two_files_and_data(files: Path) -> None:
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "qinspect", "diagnose", "--float", "float.tflite", "--ptq",
         "ptq.tflite", "--data", "eval.npz", "--json"],
        cwd=files, capture_output=True, text=True, timeout=300, env=other_process(),
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["primary"] == "calibration-shift"
    assert answer["causes"][0]["confirmed_by_intervention"] is True
    assert {row["id"] for row in answer["not_testable"]} >= {"stale-observers", "batchnorm-lag"}
    # Three times the limit for a quiet machine: 10 s.
    assert time.perf_counter() - started < 30


@pytest.mark.slow
def test_no_tensorflow_without_keras_models(files: Path) -> None:
    code = (
        "import sys\n"
        "sys.argv = ['qinspect', 'diagnose', '--float', 'float.tflite', '--ptq', 'ptq.tflite',\n"
        "            '--data', 'eval.npz', '--calibration', 'cal.npz', '--report', 'r.html']\n"
        "from qinspect.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "print([m for m in ('tensorflow', 'tf_keras') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=files, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert "calibration-shift" in (files / "r.html").read_text()


def test_claimed_predictions(files: Path, here: Here) -> None:
    done = here("diagnose", "--float", "float.tflite", "--ptq", "good.tflite", "--data", "eval.npz",
                "--ptq-eval-predictions", "claim.npz", "--json", cwd=files)
    answer = json.loads(done.stdout)
    assert answer["primary"] == "evaluation-mismatch"
    assert answer["gap_ptq_float_pp"] < -30


def test_for_people(files: Path, here: Here) -> None:
    done = here("diagnose", "--float", "float.tflite", "--ptq", "ptq.tflite", "--data", "eval.npz",
                "--no-interventions", cwd=files)
    assert done.returncode == 0, done.stderr
    assert "(calibration-shift)" in done.stdout
    assert "not proved" in " ".join(done.stdout.split())
    assert "needs the float Keras model" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--data"),
        (("--float", "float.tflite", "--data", "eval.npz"), "at least two"),
        (("--float", "float.tflite", "--ptq", "none.tflite", "--data", "eval.npz"), "none.tflite"),
        (("folder", "--data", "eval.npz"), "not both"),
        (("nowhere",), "does not exist"),
        (("--ptq", "ptq.tflite", "--qat", "ptq.tflite", "--data", "cal.npz"), "without labels"),
        (
            ("--float", "float.tflite", "--ptq", "ptq.tflite", "--data", "eval.npz",
             "--ptq-eval-predictions", "cal.npz"),
            "prediction",
        ),
    ],
)
def test_errors_are_one_line(
    files: Path, arguments: tuple[str, ...], words: str, here: Here
) -> None:
    done = here("diagnose", *arguments, cwd=files)
    assert done.returncode == 2
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("qinspect: ")
    assert words in line


def test_report_escapes_what_files_say(tmp_path: Path) -> None:
    found = diagnose(case(int8(ranges(calibration()))))
    evil = "<img src=x onerror=alert(1)>"
    first = found.causes[0]
    told = replace(first, finding=replace(first.finding, sentence=evil, facts={evil: [evil]}))
    found = replace(found, case=replace(found.case, name=evil), causes=(told, *found.causes[1:]))
    page = found.report(tmp_path / "r.html").read_text()
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page
