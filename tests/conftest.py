"""Shared fixtures: real data and converted files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings
from parts import ROOT, SUPPORT, Here, missing, need_package

# A busy machine is no fault.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: one that begins last leaves the other cores idle."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


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


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Here:
    """The command line in this process, where the package is loaded already."""
    from qinspect.cli import main

    def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["qinspect", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return subprocess.CompletedProcess(sys.argv, ended.value.code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def odd_dir(data_dir: Path) -> Path:
    """The folder with odd and malformed ``.tflite`` files."""
    return data_dir / "tflite" / "odd"


@pytest.fixture(scope="session")
def cases(data_dir: Path) -> Path:
    """Small inputs with the right values for each, beside the data."""
    folder = data_dir.parent / "cases"
    if not folder.exists():
        missing(f"no folder {folder} with cases")
    return folder


@pytest.fixture(scope="session")
def converted_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small network in every format, see ``converted.py`` (some 40 seconds)."""
    for package in ("tensorflow", "tf_keras", "tensorflow_model_optimization"):
        need_package(package)
    base = tmp_path_factory.getbasetemp()
    # Made once for all processes that share the tests: their folders lie in one.
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = base / "converted"
    with FileLock(base / "converted.lock"):
        if not folder.exists():
            made = folder.with_name("converted-unfinished")
            made.mkdir(exist_ok=True)
            script = SUPPORT / "converted.py"
            done = subprocess.run(
                [sys.executable, str(script), str(made)], capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr[-2000:]
            made.rename(folder)
    return folder
