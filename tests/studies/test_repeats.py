"""A study repeated with other seeds tells of the ways of training, beside the files of one run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import qinspect as qi
from qinspect.errors import SpecError
from qinspect.stats import compare_seeds

SMALL = {"model": "mlp", "train_size": 120, "test_size": 120, "float_epochs": 1, "qat_epochs": 1,
         "recipes": ()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("repeats") / "study"
    said: list[str] = []
    qi.study("digits", out=out, repeats=2, notify=said.append, **SMALL)
    # The answer of the first run is told before the others are trained.
    assert any(text.startswith("first of 2 trainings:") for text in said)
    return out


def test_runs_are_paired_by_seed_and_example(folder: Path) -> None:
    found = qi.load(folder)
    runs = found.repeats
    assert runs is not None
    assert runs.runs == ("0", "1")
    assert runs.n == 120
    own = found.results.take(np.argsort(found.arrays["id"]))
    assert np.array_equal(runs.scores("qat")[0], own.scores("qat"))
    again = compare_seeds(runs.scores("ptq_int8"), runs.scores("qat"), a="ptq_int8", b="qat")
    assert found.training is not None
    assert found.training.gap == again.gap
    assert found.training.interval == again.interval


def test_the_answer_says_which_question_it_answers(folder: Path) -> None:
    found = qi.load(folder)
    assert "Of the ways of training" in found.sentence
    assert found.to_json()["training"]["about"] == "training"
    assert found.to_json()["training"]["verdict"] in ("a_better", "b_better", "no_gap_seen")
    alone = next((folder / "repeats" / "runs").glob("*/summary.json")).parent
    once = qi.load(alone)
    assert once.training is None
    assert "--repeats 5" in once.sentence
    assert once.to_json()["training"] is None


def test_nothing_is_trained_twice(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
    qi.study("digits", out=folder, repeats=2, notify=lambda text: None, **SMALL)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}


def test_no_repeats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="at least 1"):
        qi.study("digits", out=tmp_path / "x", repeats=0, **SMALL)
