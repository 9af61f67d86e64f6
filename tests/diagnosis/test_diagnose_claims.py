"""Predictions obtained elsewhere: which mistake made them, if any."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
from diagnose_cases import N, calibration, case, data, int8, ranges

from qinspect.causes.evaluation import _problem, mistakes
from qinspect.diagnosis.cases import Case, Claim
from qinspect.diagnosis.engine import diagnose
from qinspect.schema import Array
from qinspect.tflite import evaluate


@functools.cache
def base() -> Case:
    return case(int8(ranges(calibration())), calibration_x=calibration())


def claimed(prediction: Array, **parts: object) -> Case:
    return dataclasses.replace(base(), claims={"ptq": Claim(prediction, **parts)})  # type: ignore[arg-type]


def own() -> Array:
    return evaluate(base().ptq_graph.content, data().x).prediction  # type: ignore[union-attr]


def test_a_correct_claim_is_no_cause() -> None:
    found = diagnose(claimed(own()))
    assert found.cause("evaluation-mismatch").verdict == "ruled_out"
    assert found.cause("input-quantization").verdict == "ruled_out"


@pytest.mark.parametrize(
    "name", ["no clipping", "no zero point", "cast", "multiplied", "not scaled"]
)
def test_feeding_mistakes_are_recognised(name: str) -> None:
    """Made with an own formula where there is one: nothing but numpy and the interpreter."""
    graph = base().ptq_graph
    assert graph is not None
    made = {mistake: x for mistake, _, x in mistakes(graph, data().x)}[name]
    prediction = evaluate(graph.content, made).prediction
    wrong = float(np.mean(prediction != own()))
    found = diagnose(claimed(prediction))
    if wrong < 0.01:
        assert found.cause("input-quantization").verdict == "ruled_out"
        return
    assert found.cause("input-quantization").finding.numbers["ptq_mistake"] == name
    assert found.primary == "input-quantization"
    assert found.proved


def test_a_cast_is_fed_as_numpy_casts() -> None:
    """The interpreter given x.astype(int8) itself, without any of our formulas."""
    from ai_edge_litert.interpreter import Interpreter

    graph = base().ptq_graph
    assert graph is not None
    interpreter = Interpreter(model_content=graph.content)
    detail = interpreter.get_input_details()[0]
    assert detail["dtype"] == np.int8
    interpreter.resize_tensor_input(detail["index"], data().x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(detail["index"], data().x.astype(np.int8))
    interpreter.invoke()
    output = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    found = diagnose(claimed(output.argmax(axis=1)))
    assert found.cause("input-quantization").finding.numbers["ptq_mistake"] == "cast"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("reversed", lambda p: p[::-1].copy()),
        ("shuffled", lambda p: p[np.random.default_rng(1).permutation(len(p))]),
        ("half shuffled", lambda p: np.concatenate([p[: N // 2][::-1], p[N // 2 :]])),
        ("numbered from 1", lambda p: p + 1),
        ("renumbered", lambda p: np.array([2, 0, 3, 1])[p]),
        ("noise", lambda p: np.random.default_rng(2).integers(0, 4, len(p))),
    ],
)
def test_wrong_pairing_is_recognised(name: str, change: object) -> None:
    found = diagnose(claimed(change(own())))  # type: ignore[operator]
    assert found.primary == "evaluation-mismatch"
    assert found.proved
    effect = found.cause("evaluation-mismatch").effect
    assert effect is not None
    assert effect.closed_share == pytest.approx(1, abs=0.05)


def test_ids_tell_other_examples() -> None:
    ids = data().ids.copy()
    ids[:100] = [f"new{i}" for i in range(100)]
    found = diagnose(claimed(own(), ids=ids))
    assert "900 are among" in found.cause("evaluation-mismatch").finding.sentence


def test_a_claim_of_other_length_is_reported_not_paired() -> None:
    found = diagnose(claimed(own()[:700]))
    assert "700 in number" in found.cause("evaluation-mismatch").finding.sentence
    assert found.focus.n == N


@pytest.mark.parametrize("silent", [0, 3, N])
def test_files_without_an_answer_for_some_examples(silent: int) -> None:
    """Claims are told apart by the examples that were answered."""
    y = own()
    mine = np.where(np.arange(len(y)) < silent, -1, y)
    renumbered = np.where(mine < 0, -1, (mine + 1) % (y.max() + 1))
    ids = np.arange(len(y)).astype(str)
    for claim in (mine, y, renumbered, np.roll(mine, 1)):
        problem = _problem(Claim(claim), mine, ids, y)
        assert problem is None or silent < len(y)
    assert _problem(Claim(mine), mine, ids, y) is None
    assert "number the classes" in (_problem(Claim((y + 1) % (y.max() + 1)), np.where(
        np.arange(len(y)) < min(silent, 3), -1, y), ids, y) or "")
