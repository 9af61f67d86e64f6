"""Run notebooks in fresh kernels and keep the executed copies, which are never committed."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat

from qinspect_bench.running import run_notebook

ROOT = Path(__file__).resolve().parent.parent


def notebook_paths() -> list[Path]:
    """The notebooks of the repository, those of the gallery last."""
    folder = ROOT / "notebooks"
    return [*sorted(folder.glob("*.ipynb")), *sorted((folder / "gallery").glob("*.ipynb"))]


def sources(notebook: Any) -> list[tuple[str, str]]:
    """What a notebook says and does, without its outputs."""
    return [(cell["cell_type"], cell["source"]) for cell in notebook["cells"]]


def execute(path: Path, target: Path) -> float:
    """Run a notebook in an empty folder, write the executed copy, and return the seconds."""
    notebook = nbformat.read(path, as_version=4)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="qinspect-site-", ignore_cleanup_errors=True) as folder:
        run_notebook(notebook, Path(folder))
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)
    return time.perf_counter() - started


def executed(given: Path | None, folder: Path) -> dict[Path, Path]:
    """Each notebook and its executed copy, from ``given`` where its cells are the same."""
    found = {}
    began = time.perf_counter()
    for path in notebook_paths():
        name = path.relative_to(ROOT / "notebooks")
        target = folder / name
        old = given / name if given else None
        if old and old.exists() and sources(nbformat.read(old, as_version=4)) == sources(
            nbformat.read(path, as_version=4)
        ):
            if old.resolve() != target.resolve():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(old, target)
            print(f"{name}: taken from {old}", file=sys.stderr)
        else:
            print(f"{name}: {execute(path, target):.0f} s", file=sys.stderr)
        found[path] = target
    print(f"notebooks: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return found
