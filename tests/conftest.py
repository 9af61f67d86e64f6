"""Shared fixtures: real data, and the rule that a missing part skips locally but fails in CI."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def missing(reason: str) -> None:
    """Skip on a developer's machine, fail in CI: a check that CI never runs is no check."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must have this: {reason}")
    pytest.skip(reason, allow_module_level=True)


def need_package(name: str) -> None:
    """Ask for an optional package of the test."""
    if importlib.util.find_spec(name) is None:
        missing(f"package {name} is not installed")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with the real data sets and model files, named by QINSPECT_DATA."""
    named = os.environ.get("QINSPECT_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not (folder / "fashion_mnist.npz").exists():
        missing(
            f"no real data in {folder}; set QINSPECT_DATA to a folder that has fashion_mnist.npz"
        )
    os.environ["QINSPECT_DATA"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def odd_dir(data_dir: Path) -> Path:
    """The folder with odd and malformed ``.tflite`` files."""
    return data_dir / "tflite" / "odd"


@pytest.fixture(scope="session")
def converted_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small network in every format, see ``converted.py`` (some 40 seconds)."""
    for package in ("tensorflow", "tf_keras", "tensorflow_model_optimization"):
        need_package(package)
    folder = tmp_path_factory.mktemp("converted")
    script = Path(__file__).with_name("converted.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder
