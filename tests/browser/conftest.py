"""Fixtures of the browser tests: JupyterLab and Chromium, and the dashboard of a small study."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from lab_browser import Page, chromium, expect, lab, open_cells  # noqa: F401
from show_study import write_study

CELL = """
from qinspect.diagnosis.cases import case
from qinspect.diagnosis.engine import diagnose
from qinspect.show.widgets import Dashboard
from qinspect.studies.stored import load_study
study = load_study({folder!r})
warm = study.observers.assign(phase="warm", min=0.0, max=2.0)
diagnosis = diagnose(case(study), interventions=False)
board = Dashboard(study, diagnosis=diagnosis, observers={{"warm start": warm}})
board.measured.wait()
board
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with its diagnosis; nothing is trained."""
    made = tmp_path_factory.mktemp("dashboard") / "study"
    write_study(made)
    done = subprocess.run(
        [sys.executable, "-m", "qinspect", "diagnose", str(made), "--no-interventions", "--json"],
        capture_output=True, text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout)
    assert answer["causes"]
    (made / "diagnosis.json").write_text(done.stdout)
    return made


@pytest.fixture(scope="module")
def page(folder: Path, open_cells: Callable[..., Page]) -> Page:  # noqa: F811
    made = open_cells("dashboard", CELL.format(folder=str(folder)))
    expect(made.locator(".qi-over-figure")).to_be_visible()
    return made
