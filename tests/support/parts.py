"""What a test needs from outside; a missing part skips locally but fails in CI."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = Path(__file__).resolve().parent
# What the fixture ``here`` of conftest.py gives.
Here = Callable[..., subprocess.CompletedProcess[str]]


def missing(reason: str) -> None:
    """Skip on a developer's machine, fail in CI: a check that CI never runs is no check."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must have this: {reason}")
    pytest.skip(reason, allow_module_level=True)


def need_package(name: str) -> None:
    """Ask for an optional package of the test."""
    if importlib.util.find_spec(name) is None:
        missing(f"package {name} is not installed")


def other_process(*folders: Path, **variables: str) -> dict[str, str]:
    """The environment of a Python process that finds this checkout and the tests' modules."""
    path = os.pathsep.join(str(folder) for folder in (ROOT, SUPPORT, *folders))
    return {**os.environ, "PYTHONPATH": path, **variables}


def is_alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie has ended, whether or not anybody has asked for its exit code.
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
