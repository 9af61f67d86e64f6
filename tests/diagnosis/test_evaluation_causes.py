"""Causes that lie in the evaluation: what is fed, how often, and whether it was trained on."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
from diagnose_cases import N, calibration, case, data, int8, ranges

import qinspect as qi
from qinspect.causes import all_rules
from qinspect.causes.preprocessing import candidates
from qinspect.data.dataset import Dataset, digests
from qinspect.diagnosis.answer import Diagnosis
from qinspect.diagnosis.cases import Case
from qinspect.diagnosis.engine import diagnose
from qinspect.diagnosis.evidence import Evidence
from qinspect.tflite import evaluate
from qinspect_bench import faults
from qinspect_bench.base import Base, Cell, base_spec

STRENGTHS = ("mild", "strong")


@functools.cache
def lossy() -> Case:
    """PTQ that is worse than float for a real reason, some 7 points."""
    return case(int8(ranges(calibration() * np.float32(0.3))))


@functools.cache
def wrong() -> tuple[np.ndarray, np.ndarray]:
    """Examples that the lossy PTQ file has wrong, and those that it has right."""
    right = Evidence(lossy()).own_answers("ptq") == data().y
    return np.flatnonzero(~right), np.flatnonzero(right)


def some(index: np.ndarray) -> Dataset:
    return dataclasses.replace(
        data().take(index), ids=np.array([f"e{at}" for at in range(len(index))]))


def fed(x: np.ndarray) -> Diagnosis:
    made = dataclasses.replace(data(), x=x.astype(np.float32))
    return diagnose(case(int8(ranges(calibration())), data=made))


# --- preprocessing-mismatch -------------------------------------------------------------------


@pytest.mark.parametrize("wrong_x", [
    lambda x: x.transpose(0, 2, 1, 3), lambda x: -x, lambda x: x / 255, lambda x: (x + 1) / 2],
    ids=["rows and columns", "negative", "divided", "shifted"])
def test_wrong_inputs_come_first_although_there_is_no_gap(wrong_x: object) -> None:
    found = fed(wrong_x(data().x))  # type: ignore[operator]
    assert not found.focus.significant or abs(found.focus.gap) < 5
    assert (found.primary, found.proved) == ("preprocessing-mismatch", True)
    effect = found.cause("preprocessing-mismatch").effect
    assert effect is not None
    assert min(effect.numbers[f"accuracy_{role}_mended"] for role in ("float", "ptq")) > 0.95
    assert "takes the accuracy of float from" in found.sentence
    assert "chosen on other examples" in found.card.change


def test_right_inputs_are_not_called_wrong() -> None:
    for found in (fed(data().x), diagnose(lossy())):
        assert found.cause("preprocessing-mismatch").verdict == "ruled_out"


def test_the_scale_that_qat_stores_or_training_shows_is_right() -> None:
    """So a network that another scale would help is not said to be fed wrongly."""
    def words(**parts: object) -> list[str]:
        evidence = Evidence(case(ptq, **parts))  # type: ignore[arg-type]
        return [one.words for one in candidates(evidence, data().x[:9])]

    ptq = int8(ranges(data().x))
    exchanged = "images with rows and columns exchanged"
    assert words(qat_graph=ptq) == ["inputs turned light to dark", exchanged]
    assert words(train=data()) == [exchanged]
    assert len(words()) > 3
    away = dataclasses.replace(data(), x=data().x * np.float32(0.5))
    assert len(words(data=away, qat_graph=ptq, train=data())) > 4


def test_labels_without_meaning_are_no_matter_of_preprocessing() -> None:
    """Of random labels the best of the list must not look better than the rest."""
    alarms = 0
    for seed in range(8):
        y = np.random.default_rng(seed).integers(0, 4, N)
        rule = all_rules()["preprocessing-mismatch"]
        found = rule.check(Evidence(dataclasses.replace(
            lossy(), data=dataclasses.replace(data(), y=y))))
        alarms += found.verdict == "indicated"
    assert alarms == 0


def test_it_is_said_without_interventions_too() -> None:
    turned = dataclasses.replace(data(), x=data().x.transpose(0, 2, 1, 3))
    found = diagnose(case(int8(ranges(calibration())), data=turned), interventions=False)
    assert (found.primary, found.proved) == ("preprocessing-mismatch", False)


# --- duplicate-examples -----------------------------------------------------------------------


def test_digests_are_equal_where_inputs_are() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (200, 4)).astype(np.float32)
    found = digests(x)
    by_hand = {tuple(row) for row in x.tolist()}
    assert len(set(found)) == len(by_hand)
    assert found == digests(x.astype(np.int64)) == digests(np.where(x == 0, -0.0, x))
    both = digests({"a": x[:, :2], "b": x[:, 2:]})
    assert len(set(both)) == len(by_hand)


def test_a_gap_made_by_copies_is_chance_once_each_is_counted_once() -> None:
    bad, good = wrong()
    index = np.concatenate([np.repeat(bad[:2], 30), good[:300]])
    found = diagnose(case(lossy().ptq_graph, data=some(index)))  # type: ignore[arg-type]
    assert found.focus.significant
    assert (found.primary, found.proved) == ("duplicate-examples", True)
    effect = found.cause("duplicate-examples").effect
    assert effect is not None
    assert effect.left is not None
    assert effect.left.n == 302
    assert not effect.left.significant
    assert "which may be chance" in found.sentence


def test_copies_that_change_nothing_are_not_the_cause() -> None:
    """Every example four times: the gap is as large, and real on a quarter of the examples."""
    found = diagnose(case(lossy().ptq_graph, data=some(np.repeat(np.arange(N), 4))))  # type: ignore[arg-type]
    assert found.cause("duplicate-examples").finding.verdict == "indicated"
    assert found.cause("duplicate-examples").verdict == "not_shown"
    assert found.primary == "calibration-shift"
    numbers = found.cause("duplicate-examples").finding.numbers
    assert numbers["design_effect"] == pytest.approx(4)


def test_copies_inside_groups_are_counted_right_already() -> None:
    index = np.repeat(np.arange(N), 4)
    grouped = dataclasses.replace(some(index), group=index)
    found = all_rules()["duplicate-examples"].check(Evidence(
        case(lossy().ptq_graph, data=grouped)))  # type: ignore[arg-type]
    assert found.verdict == "not_shown"
    assert "groups" in found.sentence


# --- train-in-evaluation ----------------------------------------------------------------------


def test_a_gap_on_leaked_examples_alone() -> None:
    bad, good = wrong()
    index = np.concatenate([bad[:40], good[:300]])
    found = diagnose(case(lossy().ptq_graph, data=some(index), train=data().take(bad[:40])))  # type: ignore[arg-type]
    assert (found.primary, found.proved) == ("train-in-evaluation", True)
    numbers = found.cause("train-in-evaluation").finding.numbers
    assert numbers["leaked_share"] == pytest.approx(40 / 340)
    assert (numbers["ptq_on_leaked"], numbers["ptq_on_other"]) == (0, 1)


def test_a_leak_that_moves_nothing_is_not_the_cause() -> None:
    leaked = data().take(np.random.default_rng(0).permutation(N)[: N // 3])
    found = diagnose(case(lossy().ptq_graph, train=leaked))  # type: ignore[arg-type]
    assert found.cause("train-in-evaluation").verdict == "not_shown"
    assert found.primary == "calibration-shift"


# --- another-output, state-carried-over -------------------------------------------------------


def test_predictions_of_another_output_are_recognised(cases: Path) -> None:
    folder = cases / "04-output-order"
    files = {role: folder / f"mo_{role}.tflite" for role in ("float", "ptq", "qat")}
    claims = {}
    for claimed in (0, 1):
        found = evaluate(str(files["ptq"]), np.load(folder / "par_eval.npz")["x"], output=claimed)
        claims[found.raw[0].size] = found.prediction
    wrong = diagnose(qi.case(**files, data=folder / "par_eval.npz", output="1",
                             claims={"ptq": claims[10]}))
    assert (wrong.primary, wrong.proved) == ("another-output", True)
    assert wrong.cause("evaluation-mismatch").verdict == "ruled_out"
    assert wrong.cause("input-quantization").verdict == "ruled_out"
    right = diagnose(qi.case(**files, data=folder / "par_eval.npz", output="1",
                             claims={"ptq": claims[2]}))
    assert right.cause("another-output").verdict == "ruled_out"
    assert right.primary in ("none", "undecided", "noise")


def test_a_state_that_was_never_reset_is_recognised(cases: Path) -> None:
    folder = cases / "01-lstm-state"
    files = {role: folder / f"lstm_{role}.tflite" for role in ("float", "ptq")}
    x = np.load(folder / "seq_eval.npz")["x"]
    for sequence in (True, False):
        claim = evaluate(str(files["ptq"]), x, sequence=sequence).prediction
        found = diagnose(qi.case(**files, data=folder / "seq_eval.npz", claims={"ptq": claim}))
        if sequence:
            assert (found.primary, found.proved) == ("state-carried-over", True)
            assert found.cause("evaluation-mismatch").verdict == "ruled_out"
            # Of the folder's README, got with LiteRT alone.
            assert found.focus.value_b == pytest.approx(0.1368, abs=5e-4)
        else:
            assert found.cause("state-carried-over").verdict == "ruled_out"
            assert found.primary in ("none", "undecided", "noise")


# --- the faults -------------------------------------------------------------------------------


@pytest.fixture
def base(tmp_path: Path) -> Base:
    cell = Cell("plain_cnn", 0)
    return Base(cell, tmp_path, base_spec(cell, tmp_path / "m.h5", "digits"), lossy())


@pytest.mark.parametrize("strength", STRENGTHS)
def test_faults_of_the_evaluation_are_named(base: Base, strength: str) -> None:
    """On a QAT file that differs from PTQ in some examples, without a gap between them."""
    ptq = int8(ranges(calibration() * np.float32(0.6)))
    whole = case(ptq, qat_graph=int8(ranges(calibration() * np.float32(0.62))), train=data())
    train = dataclasses.replace(data(), x=data().x + np.float32(9))
    whole = dataclasses.replace(whole, train=train)
    named = {}
    for cause in ("duplicate-examples", "train-in-evaluation"):
        made = faults.FAULTS[cause](base, whole, strength, 0).case
        named[cause] = all_rules()[cause].check(Evidence(made)).verdict
    turned = faults.preprocessing_mismatch(base, whole, "strong", 0).case
    assert diagnose(turned, interventions=False).primary == "preprocessing-mismatch"
    assert named == dict.fromkeys(named, "indicated")
