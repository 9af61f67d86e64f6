"""Copies of the notebooks for learners, and what an installation carries beside the code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from parts import ROOT, missing, need_package, other_process
from show_study import write_study

import qinspect
from qinspect import load
from qinspect.data.shipped import shipped_table
from qinspect.errors import SpecError, StoreError
from qinspect.lab import (
    copy_notebooks,
    notebook_sources,
    solution_sheet,
    with_links,
    without_solutions,
)
from qinspect.workshop import build_wheel

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


def test_copies_are_the_notebooks(tmp_path: Path) -> None:
    lines = copy_notebooks(tmp_path / "lab")
    pages = sorted((ROOT / "notebooks").glob("*.md"))
    assert len(lines) == len(NOTEBOOKS) + len(pages)
    for path in (*NOTEBOOKS, *pages):
        assert (tmp_path / "lab" / path.name).read_bytes() == path.read_bytes()
    assert copy_notebooks(tmp_path / "lab") == []


def test_exercises_come_without_the_notes_that_hold_the_answers(tmp_path: Path) -> None:
    copy_notebooks(tmp_path / "exercises", exercises=True)
    assert not (tmp_path / "exercises" / "README.md").exists()


def test_edits_are_never_overwritten(tmp_path: Path) -> None:
    copy_notebooks(tmp_path)
    edited = tmp_path / NOTEBOOKS[0].name
    edited.write_bytes(edited.read_bytes() + b" ")
    mine = edited.read_bytes()
    for exercises in (False, True, False):
        lines = copy_notebooks(tmp_path, exercises=exercises)
        assert edited.read_bytes() == mine
        assert f"kept your edited {edited}" in lines


def test_edits_survive_a_lost_or_damaged_manifest(tmp_path: Path) -> None:
    copy_notebooks(tmp_path)
    edited = tmp_path / NOTEBOOKS[0].name
    edited.write_text("mine")
    (manifest,) = tmp_path.glob(".*.json")
    for content in ("no json", None):
        manifest.write_text(content) if content else manifest.unlink()
        copy_notebooks(tmp_path)
        assert edited.read_text() == "mine"


def test_an_untouched_copy_of_an_older_version_is_updated(tmp_path: Path, monkeypatch) -> None:
    name = NOTEBOOKS[0].name
    with monkeypatch.context() as patch:
        patch.setattr("qinspect.lab.notebook_sources", lambda *, exercises: {name: b"old"})
        copy_notebooks(tmp_path)
    assert f"updated {tmp_path / name}" in copy_notebooks(tmp_path)
    assert (tmp_path / name).read_bytes() == NOTEBOOKS[0].read_bytes()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="choose another"):
        copy_notebooks(tmp_path / "file")


def test_exercises_have_no_solutions_and_all_the_rest() -> None:
    sheet, full = solution_sheet(), notebook_sources()
    for name, content in notebook_sources(exercises=True).items():
        before = json.loads(full[name])["cells"]
        after = json.loads(content)["cells"]
        solutions = [cell for cell in before if "solution" in tags(cell)]
        assert solutions
        assert after == [cell for cell in before if "solution" not in tags(cell)]
        text = content.decode()
        for cell in solutions:
            assert json.dumps("".join(cell["source"])) not in text
            assert "".join(cell["source"]) in sheet
    assert sheet.count("# Solution\n") >= 36


def test_the_solutions_lie_beside_the_folder_of_the_exercises(tmp_path: Path) -> None:
    lines = copy_notebooks(tmp_path / "class", exercises=True)
    assert len(lines) == len(NOTEBOOKS) + 1
    assert (tmp_path / "class-solutions.md").read_text() == solution_sheet()
    for path in (tmp_path / "class").glob("*"):
        assert "# Solution\\n" not in path.read_text()
    copy_notebooks(tmp_path / "whole")
    assert not (tmp_path / "whole-solutions.md").exists()


def test_dropping_solutions_keeps_the_rest_of_the_notebook() -> None:
    def cell(name: str, *tagged: str) -> dict:
        return {"cell_type": "code", "id": name, "metadata": {"tags": list(tagged)},
                "source": [name], "outputs": [], "execution_count": None}

    notebook = {"cells": [cell("a"), cell("b", "solution"), cell("c", "solution"), cell("d"),
                          cell("e", "solution")], "nbformat": 4}
    made = json.loads(without_solutions(json.dumps(notebook).encode()))
    assert [c["id"] for c in made["cells"]] == ["a", "d"]
    assert made["nbformat"] == 4


def test_exercises_are_valid_notebooks() -> None:
    nbformat = pytest.importorskip("nbformat")
    for content in notebook_sources(exercises=True).values():
        nbformat.validate(nbformat.reads(content.decode(), as_version=4))


def test_the_command_copies_without_starting_anything(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    done = subprocess.run(
        [sys.executable, "-m", "qinspect", "lab", str(folder), "--exercises", "--no-start"],
        capture_output=True, text=True, timeout=120, check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(NOTEBOOKS) + 1
    assert '"solution"' not in (folder / "03_ptq.ipynb").read_text()


def test_what_is_passed_on_reaches_jupyter(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qinspect", "lab", "--no-browser", "--", "--version"],
        cwd=tmp_path, env=other_process(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("4."), done.stdout
    assert (tmp_path / "qinspect-notebooks" / "README.md").exists()


def test_links_come_and_go_and_leave_the_notebook_as_it_was() -> None:
    nbformat = pytest.importorskip("nbformat")
    for path in NOTEBOOKS:
        before = path.read_bytes()
        after = with_links(before, path.name, "https://github.com/some/where")
        nbformat.validate(nbformat.reads(after.decode(), as_version=4))
        assert f"github/some/where/blob/HEAD/notebooks/{path.name}" in after.decode()
        assert with_links(after, path.name, "https://github.com/some/where.git/") == after
        assert with_links(after, path.name, "") == before
        assert b"colab.research" not in before, "no address is set in the repository"
    with pytest.raises(SpecError, match="OWNER/NAME"):
        with_links(before, path.name, "https://example.org/x")


def test_shipped_table_is_that_of_the_checkout() -> None:
    expected = pd.read_csv(ROOT / "data" / "one_epoch_sweep.csv")
    pd.testing.assert_frame_equal(shipped_table("one_epoch_sweep"), expected)


def test_shipped_results_are_loaded_by_name() -> None:
    sweep = load("one_epoch_sweep")
    digits = sweep.where(dataset="digits")
    assert (len(sweep.frame), len(digits.frame)) == (40, 20)
    assert set(digits.figures) == {"digits, bn_cnn"}
    mean = digits.frame["qat_minus_ptq_pp"].mean()
    assert f"in the mean PTQ is better by {-mean:.2f} points" in digits.figure().sentence
    with pytest.raises(SpecError, match="did you mean dataset"):
        sweep.where(datset="digits")
    torch = load("torch_baseline")
    assert torch.n == 449
    assert torch.models[0] == "torch_float"


def test_unknown_table_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(SpecError, match="one_epoch_sweep"):
        shipped_table("one_epoch_swep")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the sources, so that the checkout stays as it is."""
    try:
        return build_wheel(tmp_path_factory.mktemp("wheel"))
    except StoreError as error:
        if "No matching distribution found for setuptools" in str(error):
            missing("the build backend cannot be downloaded")
        raise


@pytest.mark.slow
def test_wheel_holds_every_module_notebook_and_table(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    kinds = {".py", ".pyi", ".js", ".html", ".json", ".typed"}
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in ("qinspect", "qinspect_bench") for path in (ROOT / package).rglob("*")
        if "__pycache__" not in path.parts and path.suffix in kinds
    }
    expected |= {f"qinspect/notebooks/{path.name}" for path in NOTEBOOKS}
    expected |= {"qinspect/notebooks/README.md", "qinspect/notebooks/TIMES.md"}
    expected |= {f"qinspect/tables/{path.relative_to(ROOT / 'data').as_posix()}"
                 for path in (ROOT / "data").rglob("*") if path.suffix in {".csv", ".npz", ".json"}}
    assert expected - names == set()


@pytest.mark.slow
def test_wheel_serves_notebooks_and_tables(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    # Folders of other packages with these names must not be taken for a checkout.
    for name in ("data", "notebooks"):
        (tmp_path / "site" / name).mkdir()
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "from pathlib import Path\n"
        "import qinspect\n"
        "from qinspect.lab import copy_notebooks\n"
        "from qinspect.data.shipped import shipped_table\n"
        "qinspect.load('forum_puzzle').sentence\n"
        "print(Path(qinspect.__file__).parents[1])\n"
        f"print(len(copy_notebooks(Path({str(tmp_path / 'lab')!r}))))\n"
        "print(len(shipped_table('one_epoch_sweep')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = len(shipped_table("one_epoch_sweep"))
    assert done.stdout.split() == [str(tmp_path / "site"), str(len(NOTEBOOKS) + 2), str(rows)]


@pytest.fixture(scope="module")
def loose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study and, beside it, the same files loose."""
    folder = tmp_path_factory.mktemp("explore")
    study = write_study(folder / "study", n=200)
    (folder / "loose").mkdir()
    for role, arm in (("float", "float"), ("ptq", "ptq_int8"), ("qat", "qat")):
        shutil.copy(study.file(arm), folder / "loose" / f"{role}.tflite")
    shutil.copy(folder / "study" / "data.npz", folder / "loose" / "eval.npz")
    return folder


@pytest.mark.slow
def test_a_dashboard_is_a_notebook_of_one_call_that_runs(loose: Path, tmp_path: Path) -> None:
    need_package("ipywidgets")
    files = [str(path) for path in (loose / "loose").iterdir()]
    named = [f"--{name}={loose / 'loose' / f'{name}.tflite'}" for name in ("float", "ptq")]
    for number, (given, tab) in enumerate((
        ([str(loose / "study")], "Observers"), ([str(loose / "loose")], "Errors"),
        (files, "Errors"), ([*named, f"--data={loose / 'loose' / 'eval.npz'}"], "Errors"),
    ), 1):
        said = explored(*given, "--out", str(tmp_path / "made"))
        name = "explore.ipynb" if number == 1 else f"explore-{number}.ipynb"
        assert said.stdout == f"notebook: {tmp_path / 'made' / name}\n", said.stderr
        notebook = json.loads((tmp_path / "made" / name).read_text())
        source = "".join(notebook["cells"][1]["source"])
        made = eval(source.removeprefix("import qinspect as qi\n\n"), {"qi": qinspect})
        assert tab in made.pages
    # The same again is the same notebook.
    assert "explore.ipynb" in explored(str(loose / "study"), "--out", str(tmp_path / "made")).stdout


@pytest.mark.parametrize(("given", "words"), [
    ((), "give a study's folder, or files"), (("nothing",), "'nothing' is not there"),
    (("study", "--data=eval.npz"), "study"),
])
def test_what_cannot_be_opened_is_said_before_a_notebook_is_made(
    loose: Path, given: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(loose)
    said = explored(*given, "--out", "made")
    assert said.returncode == 2
    assert words in said.stderr
    assert len(said.stderr.splitlines()) == 1
    assert not Path("made").exists()


def explored(*given: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "qinspect", "explore", *given, "--no-start"],
        capture_output=True, text=True, timeout=120, check=False, env=other_process(),
    )
