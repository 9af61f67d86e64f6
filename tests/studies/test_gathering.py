"""Many folders in one table: the numbers are those of the studies, what is broken is named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from show_study import write_study

import qinspect as qi
from qinspect.errors import DataError
from qinspect.gathering import GATHERED, runs


@pytest.fixture(scope="module")
def twenty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty folders of studies, one with a report of its diagnosis, and one that is broken."""
    top = tmp_path_factory.mktemp("many")
    write_study(top / "run00")
    for number in range(1, 20):
        shutil.copytree(top / "run00", top / "group" / f"run{number:02d}")
    found = qi.diagnose(qi.load(top / "run00"), interventions=False)
    (top / "told.json").write_text(json.dumps(found.to_json()))
    shutil.copytree(top / "run00", top / "broken")
    (top / "broken" / "summary.json").write_text("{}")
    (top / "other.json").write_text('{"a": 1}')
    return top


def test_every_study_and_diagnosis_has_its_rows(twenty) -> None:
    found = runs(twenty)
    assert list(found.frame.columns) == list(GATHERED)
    kinds = found.frame.drop_duplicates("path")["kind"].value_counts().to_dict()
    assert kinds == {"study": 20, "diagnosis": 1}
    study = qi.load(twenty / "run00")
    own = study.pair("ptq_int8", "qat")
    rows = found.frame[(found.frame["b"] == "qat") & (found.frame["kind"] == "study")]
    assert (rows["gap"] == own["gap"]).all()
    assert (rows["low"] == own["interval"][0]).all()
    assert (rows["verdict"] == own["verdict"]).all()
    told = json.loads((twenty / "told.json").read_text())
    diagnosis = found.frame[found.frame["kind"] == "diagnosis"].iloc[0]
    assert diagnosis["gap"] == told["focus"]["gap"]
    assert len(found.unread) == 1
    assert "broken" in found.unread[0]


def test_sweeps_are_studies_and_a_folder_given_twice_counts_once(twenty) -> None:
    once, twice = runs(twenty), runs([twenty, twenty / "group", twenty])
    pd.testing.assert_frame_equal(once.frame, twice.frame)


def test_it_shows_itself_and_writes_tables(twenty, tmp_path) -> None:
    found = runs(twenty)
    assert "20 studies and 1 diagnosis" in found.sentence
    assert found.figure().sentence
    page = found.report(tmp_path / "runs.html").read_text()
    assert "run07" in page
    back = pd.read_csv(found.save(tmp_path / "runs.csv"))
    assert back["gap"].tolist() == found.frame["gap"].tolist()
    pd.testing.assert_frame_equal(pd.read_parquet(found.save(tmp_path / "runs.parquet")),
                                  found.frame, check_dtype=False)


def test_a_metric_named_in_a_file_runs_no_code(twenty, tmp_path) -> None:
    told = json.loads((twenty / "told.json").read_text())
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')")
    told["focus"]["metric"] = told["metric"] = "evil:score"
    (tmp_path / "told.json").write_text(json.dumps(told))
    assert runs(tmp_path).frame["metric"].tolist() == ["evil:score"]


@pytest.mark.parametrize("content", [
    '{"focus": 1, "primary": "x", "causes": []}', '{"focus": {}, "primary": "x", "causes": []}'])
def test_damaged_reports_are_named(twenty, tmp_path, content) -> None:
    shutil.copytree(twenty / "run00", tmp_path / "run")
    (tmp_path / "bad.json").write_text(content)
    assert "bad.json" in runs(tmp_path).unread[0]


def test_nothing_found_is_said(tmp_path) -> None:
    with pytest.raises(DataError, match="no finished study"):
        runs(tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        runs(tmp_path / "nowhere")


def test_the_command(twenty, tmp_path) -> None:
    done = subprocess.run([sys.executable, "-m", "qinspect", "runs", str(twenty), "--out",
                           str(tmp_path / "runs.csv")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "run07" in done.stdout
    assert (tmp_path / "runs.csv").exists()
