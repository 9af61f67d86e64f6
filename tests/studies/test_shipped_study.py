"""The study that ships as results without its models: complete, small, and honest about it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from parts import ROOT

from qinspect import load
from qinspect.errors import StoreError
from qinspect.studies.stored import Study
from qinspect_bench.forum_study import KEPT, SEED

FOLDER = ROOT / "data" / "forum_puzzle"


@pytest.fixture(scope="module")
def study() -> Study:
    found = load("forum_puzzle")
    assert isinstance(found, Study)
    return found


def test_it_is_small_and_holds_results_alone() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert {path.relative_to(FOLDER).as_posix() for path in files} == set(KEPT)
    assert sum(path.stat().st_size for path in files) < 500_000


def test_it_is_the_puzzle(study: Study) -> None:
    assert (study.spec.seed, study.spec.dataset) == (SEED, "digits")
    gap = study.results.comparison("ptq_int8", "qat")
    assert gap.verdict == "a_better"
    assert gap.gap < -20


def test_its_tables_follow_from_its_predictions(study: Study) -> None:
    y = study.arrays["y"]
    for arm, accuracy in zip(study.runs["arm"], study.runs["accuracy"], strict=True):
        assert np.mean(study.prediction(arm) == y) == pytest.approx(accuracy)


def test_what_needs_a_file_says_how_to_get_one(study: Study, tmp_path: Path) -> None:
    for ask in (lambda: study.file("qat"), study.layers):
        with pytest.raises(StoreError, match=r"without the file of .*qi\.study .* trains"):
            ask()
    page = study.report(tmp_path / "study.html").read_text()
    assert "without the file of" in page


def test_it_names_no_place_of_the_machine_that_made_it() -> None:
    text = " ".join((FOLDER / name).read_text() for name in KEPT if not name.endswith(".npz"))
    assert not [place for place in ("/tmp", "/home", "/root", "/work") if place in text]


def test_it_opens_without_tensorflow_and_in_seconds() -> None:
    code = ("import json, sys, time; import qinspect as qi; "
            "qi.load('forum_puzzle')._repr_mimebundle_(); "
            "print(json.dumps([time.process_time(), 'tensorflow' in sys.modules]))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          timeout=120, check=True)
    seconds, heavy = json.loads(done.stdout)
    assert not heavy
    assert seconds < 15  # of the processor
