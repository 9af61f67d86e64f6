"""The six mysteries: nothing told too early, the true cause accepted and found by diagnosis."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from parts import ROOT, need_package

from qinspect.causes import all_rules
from qinspect.diagnosis.cases import Case
from qinspect.diagnosis.engine import diagnose
from qinspect.errors import SpecError
from qinspect.tflite import evaluate
from qinspect_bench import mystery as module
from qinspect_bench.mystery import (
    RECIPES,
    Mystery,
    Recipe,
    decoded,
    encoded,
    open_mystery,
    suspects,
)

TRUTH = {number: decoded(text).cause for number, text in RECIPES.items()}


def bare(number: int) -> Mystery:
    """A mystery without its files: checking an answer needs none."""
    return Mystery(number, Path("none"), Case.__new__(Case))


def test_six_different_causes() -> None:
    assert list(RECIPES) == [1, 2, 3, 4, 5, 6]
    assert len(set(TRUTH.values())) == 6
    assert set(TRUTH.values()) <= set(all_rules())


def test_a_recipe_survives_its_encoding() -> None:
    recipe = Recipe("noise", "mild", 2, "none")
    assert decoded(encoded(recipe)) == recipe


@pytest.mark.parametrize("number", RECIPES)
def test_only_the_true_cause_is_accepted(number: int) -> None:
    puzzle = bare(number)
    accepted = [cause for cause in all_rules() if ": right," in puzzle.check(cause)]
    assert accepted == [TRUTH[number]]
    assert ": right," in puzzle.check(f" {TRUTH[number].upper()} ")
    assert "no answer yet" in puzzle.check("")
    with pytest.raises(SpecError, match="did you mean"):
        puzzle.check(TRUTH[number][:-1])


@pytest.mark.parametrize("number", RECIPES)
def test_a_wrong_answer_gets_a_hint_that_does_not_name_the_cause(number: int) -> None:
    wrong = next(cause for cause in all_rules() if cause != TRUTH[number])
    said = bare(number).check(wrong)
    hint = said.split("Hint: ")[1]
    assert len(hint) > 20
    assert TRUTH[number] not in said
    assert all_rules()[TRUTH[number]].title.lower() not in hint.lower()


def test_no_cause_stands_in_plain_text() -> None:
    source = Path(module.__file__).read_text()
    notebook = json.loads((ROOT / "notebooks" / "12_mysteries.ipynb").read_text())
    cells = "\n".join("".join(cell["source"]) for cell in notebook["cells"])
    for cause in TRUTH.values():
        assert cause not in source
        assert cause not in cells
    # Nor in the tables that ship.
    for path in (ROOT / "data").glob("*myster*"):
        raise AssertionError(f"{path} may tell")


def test_an_unknown_number_is_refused() -> None:
    with pytest.raises(SpecError, match="choose 1 to 6"):
        open_mystery(7)


@pytest.fixture(scope="module")
def puzzles(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Mystery]:
    need_package("tensorflow")
    folder = tmp_path_factory.mktemp("mysteries")
    return {number: open_mystery(number, folder) for number in RECIPES}


@pytest.mark.slow
def test_the_diagnosis_finds_at_least_five_of_six(puzzles: dict[int, Mystery]) -> None:
    # One thread trains here; more would start processes with a TensorFlow each, for each puzzle.
    named = {number: diagnose(puzzle.case, num_threads=1, budget=600).primary
             for number, puzzle in puzzles.items()}
    right = [number for number, cause in named.items() if cause == TRUTH[number]]
    print(f"named {len(right)} of {len(named)}: {named}")
    assert len(right) >= 5


@pytest.mark.slow
def test_every_puzzle_is_one(puzzles: dict[int, Mystery]) -> None:
    for puzzle in puzzles.values():
        report = puzzle.report()
        assert list(report.index) == list(puzzle.files)
        # Something to be explained in what the owner reports, and enough examples to see it.
        assert report["reported"].max() - report["reported"].min() > 2
        assert len(puzzle.data) >= 500
        results = puzzle.results
        for role, file in puzzle.files.items():
            right = evaluate(file, puzzle.data.x).prediction == puzzle.data.y
            assert np.array_equal(results.scores(role), right)
            assert np.isclose(report.loc[role, "measured"], 100 * right.mean())


def test_every_cause_is_a_suspect() -> None:
    assert list(suspects().index) == list(all_rules())


@pytest.mark.slow
def test_names_on_disk_tell_nothing(puzzles: dict[int, Mystery]) -> None:
    plain = {"float.tflite", "ptq.tflite", "qat.tflite", "data.npz", "calibration.npz",
             "keras_float.h5", "keras_qat.h5"}
    for puzzle in puzzles.values():
        assert {path.name for path in puzzle.folder.iterdir()} <= plain
    # What every puzzle starts from was there before a fault was made.
    made = next(iter(puzzles.values())).folder.parent / "healthy" / "plain_cnn-0" / "made"
    assert {path.name for path in made.iterdir()} <= {"untrained.h5", "trained.h5"}
