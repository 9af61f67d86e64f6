"""What files are scored by: guessed where there is one reading, else asked for; never wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_net import small_net

import qinspect as qi
from qinspect.errors import DataError, SpecError
from qinspect.tflite.inputs import Preprocessing, load_examples
from qinspect.tflite.read import read_graph
from qinspect.tflite.task import task_of


def files_of(cases: Path, stem: str, names: str) -> list[Path]:
    return [cases / stem / f"{name}.tflite" for name in names.split()]


def test_a_classifier_is_scored_by_accuracy() -> None:
    graph = read_graph(small_net())
    x = np.zeros((2, 4, 4, 2), np.float32)
    task = task_of({"a": graph}, {"a": x}, load_examples((x, np.array([0, 1]))))
    assert task.metric is not None
    assert task.metric.id == "accuracy"
    with pytest.raises(DataError, match="labels run from 0 to 99"):
        task_of({"a": graph}, {"a": x}, load_examples((x, np.array([0, 99]))))
    nothing = task_of({"a": graph}, {"a": x}, load_examples(x))
    assert nothing.metric is None
    assert nothing.classes


# Values of the cases, from LiteRT and NumPy alone.
RIGHT: list[tuple[str, str, str, dict[str, Any], str, list[float]]] = [
    ("04-output-order", "mo_float mo_ptq mo_qat", "par_eval", {"output": "1"}, "accuracy",
     [0.9598, 0.9598, 0.9618]),
    ("04-output-order", "mo_qat mo_ptq mo_float", "par_eval", {"output": "0"}, "accuracy",
     [0.9618, 0.9598, 0.9598]),
    ("05-sigmoid-diagnose", "bin_float bin_ptq bin_qat", "bin_eval", {}, "binary-accuracy",
     [0.9457, 0.9477, 0.9437]),
    ("06-regression", "reg_float reg_ptq_dyn reg_ptq_int8 reg_qat", "reg_eval", {}, "mae",
     [0.4272, 0.4293, 0.4463, 21.4343]),
    ("07-autoencoder", "ae_float ae_ptq ae_qat", "ae_eval", {"metric": "anomaly-auc"},
     "anomaly-auc", [0.9361, 0.9355, 0.9386]),
]


@pytest.mark.parametrize(("stem", "names", "data", "options", "metric", "values"), RIGHT)
def test_files_of_any_task_get_their_right_value(
    cases: Path, stem: str, names: str, data: str, options: dict[str, Any], metric: str,
    values: list[float],
) -> None:
    files, examples = files_of(cases, stem, names), cases / stem / f"{data}.npz"
    found = qi.evaluate(files, examples, **options)
    assert found.metric.id == metric
    assert [found.value(name) for name in found.models] == pytest.approx(values, abs=6e-5)
    compared = qi.compare(files, examples, **options)
    assert [row["score"] for row in compared.numbers["files"]] == [
        found.value(name) for name in found.models]
    assert [one.to_json() for one in found.compare()] == compared.numbers["comparisons"]
    if "float" in files[0].stem:
        cost = qi.sensitivity(files[0], examples, calibration=examples, **options)
        assert cost.layers["score"][0] == found.value(found.models[0])


@pytest.mark.parametrize(("stem", "names", "data", "said"), [
    ("04-output-order", "mo_float mo_ptq mo_qat", "par_eval", "has 2 outputs"),
    ("07-autoencoder", "ae_float ae_ptq ae_qat", "ae_eval", "as an autoencoder does"),
    ("07-autoencoder", "seg_float seg_ptq", "seg_img", "gives an array"),
])
def test_no_number_where_there_is_more_than_one_reading(
    cases: Path, stem: str, names: str, data: str, said: str
) -> None:
    files, examples = files_of(cases, stem, names), cases / stem / f"{data}.npz"
    for ask in (
        lambda: qi.compare(files, examples),
        lambda: qi.evaluate(files, examples),
        lambda: qi.sensitivity(files[0], examples, calibration=examples),
        lambda: qi.diagnose(qi.case(float=files[0], ptq=files[1], data=examples)),
    ):
        with pytest.raises(DataError, match=said):
            ask()


def test_whole_targets_of_a_regression_are_asked_about(cases: Path) -> None:
    files = files_of(cases, "06-regression", "reg_float reg_ptq_dyn reg_qat")
    loaded = load_examples(cases / "06-regression" / "reg_eval.npz")
    whole = (loaded.x, np.round(loaded.y).astype(int))
    with pytest.raises(DataError, match="such as mae, mse, r2"):
        qi.evaluate(files, load_examples(whole))
    found = qi.evaluate(files, load_examples(whole), metric="mae")
    assert found.value("reg_qat.tflite") > 20 > 1 > found.value("reg_float.tflite")


def test_an_autoencoder_without_labels_is_scored_by_its_reconstruction(cases: Path) -> None:
    files = files_of(cases, "07-autoencoder", "ae_float ae_ptq")
    x = load_examples(cases / "07-autoencoder" / "ae_eval.npz").x
    found = qi.compare(files, load_examples(x))
    assert found.numbers["files"][0]["metric"] == "reconstruction"
    assert any("reconstruction error" in note for note in found.numbers["notes"])
    assert found.numbers["files"][0]["score"] > 0


def test_outputs_and_metrics_that_do_not_exist_are_refused(cases: Path) -> None:
    files = files_of(cases, "04-output-order", "mo_float mo_qat")
    data = cases / "04-output-order" / "par_eval.npz"
    with pytest.raises(SpecError, match="unknown output of mo_float"):
        qi.evaluate(files, data, output="heads")
    with pytest.raises(SpecError, match="unknown metric"):
        qi.evaluate(files, data, output="1", metric="acuracy")
    with pytest.raises(DataError, match="is not about classes"):
        qi.evaluate(files_of(cases, "05-sigmoid-diagnose", "bin_float"),
                    cases / "05-sigmoid-diagnose" / "bin_eval.npz", metric="auc",
                    preprocessing=[Preprocessing(label_offset=1)])
