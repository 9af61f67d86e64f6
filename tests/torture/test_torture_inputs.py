"""Odd examples and labels: the right answer or one sentence, from every verb; NaN is named."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parts import other_process

import qinspect as qi
from qinspect.errors import QinspectError

N = 60
Case = tuple[Callable[[np.ndarray, np.ndarray], tuple[Any, Any]], str]


def with_value(value: float) -> Callable[[np.ndarray, np.ndarray], tuple[Any, Any]]:
    def change(x: np.ndarray, y: np.ndarray) -> tuple[Any, Any]:
        x = x.copy()
        x[3, 2, 2, 0] = value
        return x, y

    return change


# What is wrong with the data, and the words that each verb must say of it.
REFUSED: dict[str, Case] = {
    "NaN": (with_value(np.nan), "NaN, infinite or beyond float32"),
    "infinite": (with_value(-np.inf), "NaN, infinite or beyond float32"),
    "all NaN": (lambda x, y: (x * np.nan, y), "NaN, infinite or beyond float32"),
    "beyond float32": (lambda x, y: (x.astype("f8") * 1e60, y), "beyond float32"),
    "no examples": (lambda x, y: (x[:0], y[:0]), "empty"),
    "10,000 classes": (lambda x, y: (x, np.where(np.arange(N) == 7, 9_999, y)), "0 to 9999"),
    "labels of no class": (lambda x, y: (x, y + 1000), "classes 0 to 9"),
    "negative labels": (lambda x, y: (x, y - 1), "--metric"),
    "NaN labels": (lambda x, y: (x, np.where(np.arange(N) == 7, np.nan, y)), "NaN"),
    "too few labels": (lambda x, y: (x, y[:-1]), "one entry for each example"),
    "other shape": (lambda x, y: (x.reshape(N, -1), y), r"takes \(8, 8, 1\)"),
    "uint8": (lambda x, y: ((x * 255).round().astype("u1"), y), "--input-scale"),
    "complex": (lambda x, y: (x.astype("c8"), y), "complex64"),
}
# Stored in other ways, the same examples.
SAME: dict[str, Callable[[np.ndarray, np.ndarray], tuple[Any, Any]]] = {
    "float64": lambda x, y: (x.astype("f8"), y.astype("f8")),
    "float16": lambda x, y: (x.astype("f2"), y.astype("u8")),
    "big-endian": lambda x, y: (x.astype(">f4"), y.astype(">i4")),
    "columns first": lambda x, y: (np.asfortranarray(x), y),
    "every second of twice as many": lambda x, y: (np.repeat(np.repeat(x, 2, 0), 2, 2)[::2, :, ::2],
                                                   np.repeat(y, 2)[::2]),
    "backwards twice": lambda x, y: (x[::-1].copy()[::-1], y[::-1].copy()[::-1]),
    "lists": lambda x, y: (x.tolist(), y.tolist()),
}


@pytest.fixture(scope="module")
def files(cases: Path) -> list[str]:
    return [str(cases / "10-uint8-units" / f"cls_{name}.tflite")
            for name in ("float", "ptq", "qat")]


@pytest.fixture(scope="module")
def digits(cases: Path) -> tuple[np.ndarray, np.ndarray]:
    arrays = np.load(cases / "15-data-habits" / "cls_images.npz")
    # Sixteenths, which all floating types hold.
    return arrays["images"][:N].astype(np.float32), arrays["labels"][:N]


def verbs(files: list[str]) -> dict[str, Callable[[Any], Any]]:
    return {
        "evaluate": lambda data: qi.evaluate(files[:2], data),
        "compare": lambda data: qi.compare(files[:2], data),
        "diagnose": lambda data: qi.diagnose(
            qi.case(float=files[0], ptq=files[1], qat=files[2], data=data), interventions=False),
    }


def numbers(found: Any) -> Any:
    return ({name: np.asarray(out).tobytes() for name, out in found.outputs.items()}
            if hasattr(found, "outputs") else str(found))


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_sentence_by_every_verb(name, files, digits) -> None:
    change, words = REFUSED[name]
    for verb in verbs(files).values():
        with pytest.raises(QinspectError, match=words) as caught:
            verb(change(*digits))
        assert "\n" not in str(caught.value)


def test_hidden_values_are_not_shown(files, digits) -> None:
    x, y = digits
    for data in ((np.ma.masked_array(x, x > 0.9), y), (x, np.ma.masked_array(y, y > 8))):
        with pytest.raises(QinspectError, match="values hidden; fill them"):
            qi.evaluate(files[:1], data)
    unmasked = qi.evaluate(files[:1], (np.ma.masked_array(x), y))
    assert numbers(unmasked) == numbers(qi.evaluate(files[:1], digits))


@pytest.mark.parametrize("name", SAME)
def test_the_same_answer_however_it_is_stored(name, files, digits) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for verb in verbs(files).values():
            assert numbers(verb(SAME[name](*digits))) == numbers(verb(digits))


def test_memory_mapped_and_read_only(files, digits, tmp_path) -> None:
    np.save(tmp_path / "x.npy", digits[0])
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for verb in verbs(files).values():
        assert numbers(verb((mapped, digits[1]))) == numbers(verb(digits))


@pytest.mark.parametrize("change", [
    lambda x, y: (x * np.float32(1e-42), y), lambda x, y: (np.full_like(x, 0.5), y),
    lambda x, y: (x * 0, y), lambda x, y: (x[y == 3], y[y == 3]), lambda x, y: (x[:2], y[:2]),
    lambda x, y: (x[:1], y[:1]),
], ids=["denormal", "constant", "zero", "one class", "two examples", "one example"])
def test_poor_data_prove_no_difference(change, files, digits) -> None:
    """Answered or refused; never a difference, for there is none to be seen in them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for verb in verbs(files).values():
            # Of one example no interval can be made, and denormals are in no file's units.
            with contextlib.suppress(QinspectError):
                assert " is better than " not in str(verb(change(*digits)))


def test_one_right_answer_is_not_called_guessing(files, digits) -> None:
    found = qi.evaluate(files[:2], (digits[0][:1], digits[1][:1]))
    assert not any("guessing" in note for note in found.notes)


@pytest.fixture(scope="module")
def overflowing(digits) -> tuple[np.ndarray, np.ndarray]:
    """Inputs that are finite and overflow inside the float network."""
    return np.sign(digits[0]) * np.finfo(np.float32).max, digits[1]


def test_outputs_that_are_nan_are_no_answer(files, overflowing) -> None:
    evaluated = qi.evaluate(files[:2], overflowing)
    compared = qi.compare(files[:2], overflowing)
    report = compared.to_json()
    for notes in (evaluated.notes, report["notes"]):
        assert any(f"{N} of {N} examples have a NaN or infinite output" in note for note in notes)
    float_file = Path(files[0]).name
    assert evaluated.value(float_file) == report["files"][0]["accuracy"] == 0
    silent = f"{float_file} has no answer (NaN) for {N} of {N} examples, which count against it. "
    verdict, = compared.comparisons
    assert verdict.sentence.startswith(silent)
    assert silent in evaluated.sentence
    assert "no-answer" in [remark["id"] for remark in report["remarks"]]
    assert (report["agreement"][0]["agreement"], report["agreement"][0]["kappa"]) == (0, None)
    assert not any("right is no more" in str(row) and row["numbers"]["accuracy"]
                   for row in report["remarks"])
    found = qi.diagnose(qi.case(float=files[0], ptq=files[1], data=overflowing),
                        interventions=False)
    assert found.gap("float", "ptq").value_a == 0
    said = f"it has no answer (NaN) for {N} of {N} examples"
    assert said in found.sentence.split(" minus ")[0]


def test_sensitivity_says_first_that_the_float_file_has_no_answer(files, overflowing) -> None:
    found = qi.sensitivity(files[0], overflowing, like=files[1])
    assert found.sentence.startswith(f"float has no answer (NaN) for {N} of {N} examples")


def test_answers_that_are_nan_take_no_label_s_place(files, overflowing) -> None:
    x = overflowing[0]
    with pytest.raises(QinspectError, match=r"none \(NaN\) for 60 of 60 examples; give labels y"):
        qi.diagnose(qi.case(float=files[0], ptq=files[1], data=x), interventions=False)
    with pytest.raises(QinspectError, match=r"none \(NaN\) for 60 of 60 examples; give labels y"):
        qi.sensitivity(files[0], x, like=files[1])
    assert qi.compare(files[:2], x).sentence.index("no answer (NaN)") < 300


def test_units_far_off_are_said_first_or_refused(files, digits) -> None:
    far = digits[0] * np.float32(1e30), digits[1]
    words = r"x runs from 0 to 1e\+30, the QUANTIZE behind its float input holds 0 to 1"
    for found in (qi.evaluate(files[:2], far), qi.compare(files[:2], far)):
        assert re.match(f"cls_ptq.tflite: {words}", found.sentence)
        assert re.search(words, str(found).split("Accuracy")[0].replace("\n", " "))
    for ask in (qi.evaluate, qi.compare, lambda _, data: verbs(files)["diagnose"](data)):
        with pytest.raises(QinspectError, match=f"do not fit the PTQ and the QAT file: {words}"):
            ask(files, far)


def test_one_example_is_refused_alike(files, digits) -> None:
    one = digits[0][:1], digits[1][:1]
    asked = verbs(files)
    assert "on 1 example:" in asked["evaluate"](one).sentence
    for name in ("compare", "diagnose"):
        with pytest.raises(QinspectError, match="there is 1 example, of which nothing can be comp"):
            asked[name](one)


@pytest.mark.parametrize("name", [
    "NaN", *(pytest.param(name, marks=pytest.mark.torture) for name in REFUSED
             if name not in ("NaN", "beyond float32"))])
def test_no_traceback_at_the_command_line(name, files, digits, tmp_path) -> None:
    x, y = REFUSED[name][0](*digits)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    done = subprocess.run(
        [sys.executable, "-m", "qinspect", "compare", *files[:2], "--data", "data.npz"],
        capture_output=True, text=True, cwd=tmp_path, env=other_process(), timeout=300,
        check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


ANSWERS = {
    "empty": ("y,a,b\n", 2), "one example": ("y,a,b\n1,1,0\n", None),
    "one class": ("y,a,b\n" + "1,1,1\n" * 30, 0), "NaN": ("y,a,b\n" + "1,1,nan\n" * 30, 2),
    "infinite": ("y,a,b\n" + "1,1,inf\n" * 30, 2),
    "10,000 classes": ("y,a,b\n" + "".join(f"{k},{k},{k}\n" for k in range(10_000)), 0),
}


@pytest.mark.torture
@pytest.mark.parametrize("name", ANSWERS)
def test_significance_of_odd_answers(name, tmp_path) -> None:
    text, code = ANSWERS[name]
    (tmp_path / "answers.csv").write_text(text)
    done = subprocess.run([sys.executable, "-m", "qinspect", "significance", "answers.csv"],
                          capture_output=True, text=True, cwd=tmp_path, env=other_process(),
                          timeout=300, check=False)
    assert done.returncode in ((0, 2) if code is None else (code,)), done
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert len(done.stderr.splitlines()) == 1
    else:
        assert " is better than " not in done.stdout
