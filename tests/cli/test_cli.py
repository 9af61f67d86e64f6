"""The command line as a user meets it: one clear line, exit code 2, no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


def qinspect(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "qinspect", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, timeout=300, check=False,
    )


def assert_one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    for word in words:
        assert word in lines[0], lines[0]


def npz(path: Path, **arrays) -> Path:
    np.savez(path, **arrays)
    return path


GOOD_X, GOOD_Y = np.zeros((40, 4, 4, 1), np.float32), np.arange(40) % 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--dataset", "digit"], ["digits"]),
        (["--dataset", "nothing.npz"], ["nothing.npz"]),
        (["--model", "bn_cn"], ["bn_cnn"]),
        (["--model", "nothing.h5"], ["nothing.h5"]),
        (["--preset", "one_epoch"], ["one-epoch"]),
        (["--input-range", "0-2"], ["0-1"]),
        (["--qat-epochs", "0"], ["qat_epochs", "0"]),
        (["--qat-epochs", "many"], ["--qat-epochs", "integer"]),
        (["--float-lr", "-1"], ["float_lr", "-1"]),
        (["--float-lr", "nan"], ["float_lr"]),
        (["--seed", "-1"], ["seed"]),
        (["--nonsense"], ["--nonsense"]),
    ],
)
def test_bad_options(tmp_path, here, options, words) -> None:
    assert_one_line(here("study", *options, "--out", "out", cwd=tmp_path), *words)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": GOOD_X, "labels": GOOD_Y}, ["x", "y", "images"]),
        ({"x": GOOD_X, "y": GOOD_Y[:-1]}, ["40", "39"]),
        ({"x": np.full_like(GOOD_X, np.nan), "y": GOOD_Y}, ["NaN"]),
        ({"x": GOOD_X[:0], "y": GOOD_Y[:0]}, ["empty"]),
        ({"x": np.array([{}] * 40, dtype=object), "y": GOOD_Y}, ["object"]),
    ],
)
def test_bad_data_files(here, tmp_path, arrays, words) -> None:
    file = npz(tmp_path / "bad.npz", **arrays)
    assert_one_line(here("study", "--dataset", file, "--out", "out", cwd=tmp_path), *words)


def test_not_an_npz(tmp_path, here) -> None:
    (tmp_path / "text.npz").write_text("hello")
    done = here("study", "--dataset", "text.npz", "--out", "out", cwd=tmp_path)
    assert_one_line(done, "text.npz")


def test_unwritable_folder(tmp_path) -> None:
    (tmp_path / "taken").write_text("a file")
    assert_one_line(qinspect("study", "--out", "taken/deeper", cwd=tmp_path), "taken")
    assert (tmp_path / "taken").read_text() == "a file"


def test_folder_of_another_study_is_left_alone(tmp_path, here) -> None:
    from qinspect.studies.spec import make_spec

    spec = {**make_spec(seed=5).to_dict(), "digests": {}}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "spec.json").write_text(json.dumps(spec))
    before = (tmp_path / "out" / "spec.json").read_text()
    assert_one_line(here("study", "--out", "out", cwd=tmp_path), "other settings", "seed")
    assert (tmp_path / "out" / "spec.json").read_text() == before


def test_version_and_help(tmp_path) -> None:
    assert qinspect("--version", cwd=tmp_path).stdout.strip() == "0.1.0"
    helped = qinspect("study", "--help", cwd=tmp_path)
    assert helped.returncode == 0
    assert "--preset" in helped.stdout


@pytest.mark.parametrize(("verb", "said"), [
    ("study", "run the same command again: finished parts are kept"),
    ("compare", "the same command begins anew"),
])
def test_ctrl_c_says_how_to_go_on(verb: str, said: str) -> None:
    """In a process of its own, where the command is interrupted as soon as it starts."""
    code = (f"import sys; sys.argv[1:] = [{verb!r}]\n"
            "from qinspect.cli import app, main\n"
            f"@app.command({verb!r})\n"
            "def interrupted() -> None:\n"
            "    raise KeyboardInterrupt\n"
            "main()\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stdout == ""
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
