"""A diagnosis of files that are no classifiers: in the unit of the metric, the better way round."""

from __future__ import annotations

import dataclasses
import functools
import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from diagnose_cases import calibration, case, data, float_graph, int8, ranges

import qinspect as qi
from qinspect.diagnosis.answer import Diagnosis
from qinspect.diagnosis.cases import Case
from qinspect.diagnosis.engine import diagnose
from qinspect.errors import DataError
from qinspect.metrics import metric
from qinspect.tflite import evaluate
from qinspect.tflite.inputs import load_examples

SCHEMA = json.loads(files("qinspect").joinpath("schema.json").read_text(encoding="utf-8"))


@functools.cache
def regression(groups: bool = False) -> Case:
    """Targets are the float file's outputs with noise; PTQ is good, QAT has ranges that clip."""
    x = data().x
    rng = np.random.default_rng(0)
    wanted = evaluate(float_graph(), x).outputs
    y = wanted + 0.01 * rng.normal(size=wanted.shape)
    told = dataclasses.replace(data(), y=y, num_classes=0,
                               group=np.arange(len(x)) // 5 if groups else None)
    good = case(int8(ranges(calibration())), data=told, calibration_x=calibration())
    return dataclasses.replace(good, qat_graph=int8(ranges(calibration() * np.float32(0.2))),
                               metric="mae")


@functools.cache
def answer(groups: bool = False) -> Diagnosis:
    return diagnose(regression(groups), training=False)


@pytest.mark.parametrize("groups", [False, True])
def test_the_gap_is_that_of_the_same_arrays(groups: bool) -> None:
    found, told = answer(groups), regression(groups).data
    assert told is not None
    outputs = {role: evaluate(graph, told.x).outputs for role in ("float", "ptq", "qat")
               if (graph := regression(groups).graph(role)) is not None}
    plain = qi.results(outputs, told.y, groups=told.group, metric="mae")
    wanted = plain.comparison("ptq", "qat")
    assert found.focus.gap == wanted.gap
    assert found.focus.interval == wanted.interval
    assert found.focus.p == wanted.p
    assert found.focus.verdict == "a_better"
    assert found.focus.worse == "qat"


def test_the_cause_is_named_and_closes_the_gap_in_the_unit() -> None:
    found = answer()
    effect = found.cause("stale-observers").effect
    assert (found.primary, found.proved) == ("stale-observers", True)
    assert effect is not None
    assert effect.closed_share == pytest.approx(1, abs=0.2)
    assert effect.amount == pytest.approx(found.focus.gap, rel=0.2)
    assert effect.numbers["score_qat_mended"] < found.focus.value_b
    assert "lower is better" in found.sentence
    assert "units of y" in found.sentence
    assert "points" not in found.sentence


def test_rules_about_classes_do_not_apply() -> None:
    found = answer()
    assert found.cause("argmax-ties").verdict == "does_not_apply"
    assert found.cause("regularisation").verdict in ("does_not_apply", "not_tried")


def test_json_has_no_points_where_there_are_none() -> None:
    made = json.loads(json.dumps(answer().to_json(), allow_nan=False))
    jsonschema.validate(made, {"$ref": "#/$defs/diagnose", "$defs": SCHEMA["$defs"]},
                        jsonschema.Draft202012Validator)
    assert made["gap_pp"] is made["ci_pp"] is made["focus"]["accuracy_a"] is None
    assert made["gap"] == answer().focus.gap
    assert (made["metric"], made["direction"]) == ("mae", "lower")
    assert all(row["effect_pp"] is None for row in made["causes"])


@pytest.mark.slow
def test_the_report_speaks_of_the_metric(tmp_path: Path) -> None:
    page = answer().report(tmp_path / "report.html")
    text = page.with_suffix(".md").read_text(encoding="utf-8")
    assert "mean absolute error" in text
    assert "Accuracy on" not in text
    for kind in ("effects", "causes", "stale-observers"):
        answer().figure(kind).axes()


def test_one_metric_or_another_only_changes_what_is_measured() -> None:
    squared = diagnose(dataclasses.replace(regression(), metric="mse"), training=False)
    assert squared.primary == answer().primary
    assert squared.focus.metric is metric("mse")
    with pytest.raises(DataError, match="choose with --metric"):
        diagnose(dataclasses.replace(regression(), metric=None))


def of_case(cases: Path, stem: str, name: str, **options: str) -> Diagnosis:
    folder = cases / stem
    ptq = "reg_ptq_dyn" if name == "reg" else f"{name}_ptq"
    eval_name = {"mo": "par"}.get(name, name)
    return diagnose(qi.case(
        float=folder / f"{name}_float.tflite", ptq=folder / f"{ptq}.tflite",
        qat=folder / f"{name}_qat.tflite", data=folder / f"{eval_name}_eval.npz", **options))


def test_the_regression_of_the_forum_is_answered_from_files_alone(cases: Path) -> None:
    found = of_case(cases, "06-regression", "reg")
    assert (found.primary, found.proved) == ("stale-observers", True)
    assert found.focus.gap == pytest.approx(21.4343 - 0.4293, abs=2e-4)
    effect = found.cause("stale-observers").effect
    assert effect is not None
    assert effect.closed_share > 0.95
    assert any(remark.id == "stuck-output" for remark in found.remarks)


@pytest.mark.parametrize(("stem", "name", "options", "gap"), [
    ("04-output-order", "mo", {"output": "1"}, 0.2),
    ("05-sigmoid-diagnose", "bin", {}, -0.4),
    ("07-autoencoder", "ae", {"metric": "anomaly-auc"}, 0.3),
])
def test_files_that_agree_have_no_cause(
    cases: Path, stem: str, name: str, options: dict[str, str], gap: float
) -> None:
    found = of_case(cases, stem, name, **options)
    assert found.focus.gap == pytest.approx(gap, abs=0.02)
    assert found.primary in ("none", "undecided", "noise")


def test_without_labels_the_float_file_takes_their_place() -> None:
    told = dataclasses.replace(data(), y=None, num_classes=0)
    clipped = int8(ranges(calibration() * np.float32(0.2)))
    good = case(int8(ranges(calibration())), data=told, calibration_x=calibration())
    puzzle = dataclasses.replace(good, qat_graph=clipped)
    found = diagnose(puzzle)
    same = {role: np.mean(evaluate(graph, told.x).prediction
                          == evaluate(float_graph(), told.x).prediction)
            for role, graph in (("ptq", puzzle.ptq_graph), ("qat", clipped)) if graph is not None}
    assert found.focus.metric.title == "agreement with the float file"
    assert (found.focus.value_a, found.focus.value_b) == (same["ptq"], same["qat"])
    assert (found.primary, found.proved) == ("stale-observers", True)
    with pytest.raises(DataError, match="needs the float file"):
        diagnose(dataclasses.replace(puzzle, float_graph=None))


def test_without_labels_numbers_are_held_against_the_float_files(cases: Path) -> None:
    folder = cases / "06-regression"
    x = np.load(folder / "reg_eval.npz")["x"]
    found = diagnose(qi.case(
        float=folder / "reg_float.tflite", ptq=folder / "reg_ptq_int8.tflite",
        qat=folder / "reg_qat.tflite", data=load_examples(x)))
    assert found.focus.metric.id == "difference"
    assert found.primary == "stale-observers"


def test_exchanged_files_are_noticed(cases: Path) -> None:
    folder = cases / "06-regression"
    float_file, ptq, qat = (folder / f"reg_{name}.tflite" for name in ("float", "ptq_int8", "qat"))
    data_file = folder / "reg_eval.npz"
    right = diagnose(qi.case(float=float_file, ptq=ptq, qat=qat, data=data_file))
    swapped = diagnose(qi.case(float=float_file, ptq=qat, qat=ptq, data=data_file))
    assert right.cause("swapped-roles").finding.verdict == "ruled_out"
    assert (swapped.primary, swapped.proved) == ("swapped-roles", True)
    effect = swapped.cause("swapped-roles").effect
    assert effect is not None
    # The exchange turns the gap round, and gives the one of the right names.
    assert effect.closed_share == pytest.approx(2)
    assert swapped.focus.gap == pytest.approx(-right.gap("ptq", "qat").gap)  # type: ignore[union-attr]
