"""A study repeated with other seeds tells of the ways of training, beside the files of one run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from show_study import write_study

import qinspect as qi
from qinspect.errors import SpecError
from qinspect.show.terminal import as_text
from qinspect.show.view import view_of
from qinspect.stats import compare_seeds
from qinspect.studies.spec import make_spec
from qinspect.studies.sweeping import run_key

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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_nothing_is_trained_twice(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
    qi.study("digits", out=folder, repeats=2, notify=lambda text: None, **SMALL)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}


@pytest.mark.slow
def test_an_interrupted_repeat_is_done_again_to_the_same_answer(folder: Path) -> None:
    before = qi.load(folder).training
    assert before is not None
    record = next((folder / "repeats" / "runs").glob("*.json"))
    record.unlink()
    shutil.rmtree(record.with_suffix(""))
    assert qi.load(folder).training is None
    said: list[str] = []
    again = qi.study("digits", out=folder, repeats=2, notify=said.append, **SMALL).training
    assert again is not None
    assert again.per_seed == before.per_seed


@pytest.mark.slow
def test_a_failed_repeat_is_told_and_does_not_count(folder: Path) -> None:
    others = make_spec(dataset="digits", seed=2, split_seed=0, **SMALL)
    # A file where the folder of the run should be.
    blocked = folder / "repeats" / "runs" / run_key(others)
    blocked.write_text("")
    said: list[str] = []
    found = qi.study("digits", out=folder, repeats=3, notify=said.append, **SMALL)
    assert any("1 of 3 trainings failed and do not count: " in text for text in said)
    assert found.training is not None
    assert found.training.seeds == 2
    blocked.unlink()
    blocked.with_suffix(".json").unlink()


@pytest.mark.slow
def test_seeds_stand_beside_the_examples(folder: Path) -> None:
    found = qi.load(folder)
    assert found.figures[0] == "seeds"
    runs = found.repeats
    assert runs is not None
    gaps = 100 * (runs.run_values("qat") - runs.run_values("ptq_int8"))
    shown = " ".join(as_text(view_of(found)).split())
    assert "2 seeds: mean ± sd" in shown
    assert f"{gaps.mean():+.2f} ± {gaps.std(ddof=1):.2f}" in shown


@pytest.mark.slow
def test_another_metric_is_repeated_too(tmp_path: Path) -> None:
    out = tmp_path / "angles"
    found = qi.study(preset="regression", out=out, repeats=2, train_size=60, test_size=60,
                     float_epochs=1, qat_epochs=1, recipes=(), notify=lambda text: None)
    assert found.training is not None
    assert found.training.metric.id == "mae"
    runs = found.repeats
    assert runs is not None
    gaps = runs.run_values("qat") - runs.run_values("ptq_int8")
    assert found.training.per_seed == pytest.approx(tuple(gaps))
    sweep = qi.load(out / "repeats")
    row = sweep.frame.iloc[0]
    assert row["qat_minus_ptq"] == pytest.approx(gaps[1])
    assert row["mae_qat"] == pytest.approx(runs.run_values("qat")[1])
    ahead = "1 of 1 runs" if gaps[1] > 0 else "0 of 1 runs"
    assert f"PTQ was ahead of QAT in {ahead}" in sweep.sentence
    assert "in the median QAT was better by" in sweep.sentence or gaps[1] >= 0
    assert "units of y (from " in sweep.sentence


def test_five_by_default_and_one_of_your_own_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write_study(tmp_path / "made", n=60)
    monkeypatch.setattr("qinspect.studies.run.run_study", lambda *given, **more: made)
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr("qinspect.studies.run._repeated",
                        lambda first, repeats, workers, *told: asked.append((repeats, workers)))
    monkeypatch.setattr("qinspect.studies.run.cores", lambda: 3)
    qi.study("digits")
    qi.study("digits", workers=8)
    assert asked == [(5, 3), (5, 4)]
    said: list[str] = []
    assert qi.study("own.npz", notify=said.append) is made
    assert len(asked) == 2
    assert "--repeats 5 would train 4 times more, about" in said[0]


@pytest.mark.parametrize("name", ["repeats", "workers"])
def test_none_at_all_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=f"{name} is 0; it must be a whole number of at least 1"):
        qi.study("digits", out=tmp_path / "x", **{name: 0}, **SMALL)


@pytest.mark.slow
def test_a_script_without_a_guard_ends_and_says_what_it_lacks(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "study")
    script = tmp_path / "plain.py"
    script.write_text("import qinspect as qi\n"
                      f"qi.study('digits', out='study', repeats=3, workers=1, **{SMALL})\n"
                      "print('end')\n")
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True,
                          text=True, timeout=120, check=False)
    assert done.returncode == 0
    assert done.stdout.endswith("end\n")
    assert "under 'if __name__ == \"__main__\":'" in done.stderr
    assert "1 of 3 trainings failed and do not count" in done.stderr
