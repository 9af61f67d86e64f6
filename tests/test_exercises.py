"""Checks of the notebooks' exercises: right, wrong, missing and odd answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from parts import ROOT

from qinspect import load, stats
from qinspect.errors import SpecError
from qinspect.exercises import _EXERCISES, check

RNG = np.random.default_rng(0)
RIGHT = {"qat": RNG.random((5, 400)) < np.array([[0.9], [0.91], [0.92], [0.93], [0.95]])}
IMAGES = RNG.random((20, 4, 4, 1)).astype(np.float32)
SCALE, ZERO = 1 / 255, -128
CUT = np.clip(np.trunc(IMAGES / SCALE + ZERO), -128, 127).astype(np.int8)
ROUNDED = np.clip(np.rint(IMAGES / SCALE + ZERO), -128, 127).astype(np.int8)
NUMBERS = [-1.2, -0.3, 0.0, 0.75, 2.0]

# Exercise, right answer, wrong answer, what is given. The truth by a second way where there is one.
CASES: list[tuple[str, Any, Any, dict[str, Any]]] = [
    ("00.2", 8, 11, {}),
    ("01.1", 101.2 / 3.2, 50, {"numbers": NUMBERS}),
    ("01.2", 2, 4, {}),
    ("01.3", 12 / 3.2, 1, {"numbers": NUMBERS}),
    ("02.2", 100 * (RIGHT["qat"].mean(1).max() - RIGHT["qat"].mean()), 0, {"right": RIGHT["qat"]}),
    ("02.3", "Cannot tell", "weights", {"weights": [92, 93, 91], "order": [92, 90, 91]}),
    ("02.3", "weights", "cannot tell",
     {"weights": [10, 50, 90], "order": [92.0, 92.1, 92.2]}),
    ("03.3", 8, 255, {}),
    ("04.2", next(n for n in range(9999) if 0.999**n < 0.01), 1000, {}),
    ("05.1", CUT, ROUNDED, {"x": IMAGES, "scale": SCALE, "zero_point": ZERO}),
    ("05.2", ["accuracy"], ["accuracy", "agreement"], {}),
    ("05.3", {2, 3}, {2}, {"x": IMAGES}),
    ("07.1", 100 * (RIGHT["qat"].mean(1).max() - RIGHT["qat"].mean()), 5, {"right": RIGHT}),
    ("07.2", (stats.examples_needed(0.2, 0.02), stats.examples_needed(0.2, 0.005)), (100, 50), {}),
    ("07.3", (64, "qi.stats.holm"), (50, "holm"), {}),
    ("08.2", "b", "a", {}),
    ("08.3", ("qat", 20), ("ptq", 20), {}),
    ("09.1", 1.5, 4, {"by_size": pd.DataFrame({"best of 40 calibrations": [1.4]}, index=[300])}),
    ("09.3", "bacdef", "fedcba", {}),
    ("10.1", "ptq better", "cannot tell", {"gaps": [-5.0, -5.5, -4.5]}),
    ("10.1", "cannot tell", "ptq better", {"gaps": [-5.0, 5.5, -4.5]}),
    ("10.2", {"a": "x", "b": "y", "control": "c", "refuted_if": "r", "points": 0.5,
              "disagreement": 0.02, "images": 10_000},
     {"a": "x", "b": "y", "control": "c", "refuted_if": "r", "points": 0.5,
      "disagreement": 0.02, "images": 10}, {}),
    ("13.2", 16 * 2.8**2, 3, {"differences": np.tile([-2.0, 2.0], 5000), "unit": 0.5}),
]


@pytest.mark.parametrize(("name", "right", "wrong", "given"), CASES)
def test_right_and_wrong(name: str, right: Any, wrong: Any, given: dict[str, Any]) -> None:
    assert check(name, right, **given).startswith("Right. ")
    said = check(name, wrong, **given)
    assert said.startswith("Not yet. ")
    assert len(said) > 30  # something to think about


@pytest.mark.parametrize(("name", "right", "wrong", "given"), CASES)
def test_odd_answers_are_no_error_and_never_right(
    name: str, right: Any, wrong: Any, given: dict[str, Any]
) -> None:
    for odd in (object(), "", [], {}, (1, 2, 3), math.nan, -1e300, b"x"):
        assert check(name, odd, **given).startswith("Not yet. ")


def test_no_answer_says_what_an_answer_is() -> None:
    given = {"study": None}
    for name, exercise in _EXERCISES.items():
        assert check(name) == f"No answer yet. It is {exercise.form}."
    assert check("00.1", 3.0, **given) == "No answer yet. study is still None."


def test_the_gap_without_batch_norm() -> None:
    study = load("forum_puzzle")
    values = study.results.value  # type: ignore[union-attr]
    truth = 100 * (values("qat_bn") - values("ptq_int8_bn"))
    assert check("00.1", truth, study=study).startswith("Right.")
    assert check("00.1", -truth, study=study).startswith("Not yet.")


def test_what_does_not_fit_is_one_sentence() -> None:
    with pytest.raises(SpecError, match=r"04\.2"):
        check("04.22")
    with pytest.raises(SpecError, match="run the cell as the notebook has it"):
        check("01.1", 3.0)


def test_every_check_is_asked_by_a_notebook() -> None:
    text = "".join(path.read_text() for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert not [name for name in _EXERCISES if f'check(\\"{name}\\"' not in text]
