"""Answers that change, calibration, classes with false discovery rate, and sequential looks."""

import json

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.multitest import multipletests
from typer.testing import CliRunner

from qinspect import results
from qinspect.cli import app
from qinspect.errors import DataError, SpecError
from qinspect.metrics import ACCURACY
from qinspect.show.view import view_of
from qinspect.stats import (
    alpha_spent,
    churn,
    cohen_kappa,
    false_discovery,
    look_confidence,
    look_levels,
)


@pytest.mark.parametrize("seed", range(4))
def test_kappa_equals_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 5, 200)
    b = np.where(rng.random(200) < 0.8, a, rng.integers(0, 6, 200))
    assert cohen_kappa(a, b) == pytest.approx(cohen_kappa_score(a, b), rel=1e-12)
    assert churn(a, b) == np.mean(a != b)
    assert cohen_kappa(a, a) == 1


def test_kappa_of_one_answer_is_not_defined_and_shapes_are_checked():
    assert np.isnan(cohen_kappa(np.zeros(5, int), np.zeros(5, int)))
    with pytest.raises(DataError, match="one an example"):
        churn(np.zeros(3), np.zeros(4))
    found = results({"a": np.zeros(5, int), "b": np.zeros(5, int)}, np.zeros(5, int)).compare()
    json.dumps(found.to_json(), allow_nan=False)
    assert found.to_json()["answers"] == [{"a": "a", "b": "b", "churn": 0.0, "kappa": None}]


def test_equal_accuracy_may_hide_other_answers():
    y = np.zeros(100, int)
    found = results({"ptq": np.ones(100, int), "qat": np.full(100, 2)}, y)
    assert found.comparison("ptq", "qat").gap == 0
    assert found.agreement()["churn"].tolist() == [1.0]


def test_false_discovery_equals_statsmodels():
    rng = np.random.default_rng(0)
    for size in (1, 3, 10, 100):
        p = rng.random(size) ** 2
        assert false_discovery(p) == pytest.approx(
            multipletests(p, method="fdr_bh")[1], rel=1e-12)
    with pytest.raises(SpecError, match="not be NaN"):
        false_discovery([float("nan")])


def test_by_class_finds_the_class_that_suffers():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(10), 200)
    a = np.where(rng.random(2000) < 0.95, y, (y + 1) % 10)
    b = np.where((y == 3) & (rng.random(2000) < 0.3), 0, a)
    found = results({"ptq": a, "qat": b}, y).by_class("ptq", "qat")
    assert found.loc[found["differs"], "class"].tolist() == [3]
    assert found["n"].sum() == 2000
    assert (found["q"] >= found["p"]).all()
    with pytest.raises(SpecError, match="has no classes"):
        results({"a": y * 1.0, "b": y * 1.5}, y, metric="mae").by_class("a", "b")


def test_calibration_beside_accuracy_where_outputs_are_probabilities():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 400)
    sharp = np.full((400, 3), 0.005)
    sharp[np.arange(400), np.where(rng.random(400) < 0.8, y, (y + 1) % 3)] = 0.99
    found = results({"float": sharp, "labels": y}, y)
    rows = found.calibration.set_index("metric")
    assert rows["model"].unique().tolist() == ["float"]
    assert rows.loc["ece", "value"] == pytest.approx(0.99 - found.value("float"), abs=1e-9)
    assert rows.loc["brier", "low"] <= rows.loc["brier", "value"] <= rows.loc["brier", "high"]
    assert len(found.compare().to_json()["calibration"]) == 2


def test_boundaries_of_five_looks_are_the_published_ones():
    """Reboussin et al. (2000), Controlled Clinical Trials 21, 190-207: z at five equal looks."""
    z = -ndtri(np.array(look_levels([0.2, 0.4, 0.6, 0.8, 1.0])) / 2)
    assert z == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-4)
    assert look_levels([1.0]) == pytest.approx([0.05])
    assert alpha_spent(1.0, 0.01) == pytest.approx(0.01)


def test_looks_together_err_at_the_level_and_plain_ones_do_not():
    rng = np.random.default_rng(0)
    shares = np.array([0.3, 0.5, 0.8, 1.0])
    steps = rng.normal(0, np.sqrt(np.diff(shares, prepend=0)), (200_000, 4))
    z = np.abs(np.cumsum(steps, axis=1)) / np.sqrt(shares)
    p = 2 * ndtr(-z)
    assert np.mean((p <= np.array(look_levels(shares))).any(axis=1)) == pytest.approx(
        0.05, abs=0.0015)
    assert np.mean((p <= 0.05).any(axis=1)) > 0.1


@pytest.mark.parametrize("shares", [[], [0.5, 0.5], [0.0, 1.0], [0.5, 1.1], [float("nan")]])
def test_impossible_looks_are_refused(shares):
    with pytest.raises(SpecError, match="rising shares"):
        look_levels(shares)


def test_which_classes_change_is_said_and_shown():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(10), 200)
    a = np.where(rng.random(2000) < 0.95, y, (y + 1) % 10)
    b = np.where((y == 3) & (rng.random(2000) < 0.3), 0, a)
    found = results({"ptq": a, "qat": b}, y).compare(by_class=True)
    assert "1 of 10 classes change beyond chance" in found.sentence
    assert [row["class"] for row in found.to_json()["classes"] if row["differs"]] == [3]
    assert any("Class by class" in shown.title for shown in view_of(found).tables)
    alike = results({"ptq": a, "qat": a}, y).compare(by_class=True)
    assert "no class is shown to change" in alike.sentence
    assert "classes" not in results({"ptq": a, "qat": b}, y).compare().to_json()


def test_calibration_is_a_table_and_takes_no_bootstrap():
    rng = np.random.default_rng(0)
    scores = rng.random((400, 3))
    found = results({"ptq": scores / scores.sum(axis=1, keepdims=True),
                     "qat": rng.integers(0, 3, 400)}, rng.integers(0, 3, 400)).compare()
    rows = {row["metric"]: row for row in found.to_json()["calibration"]}
    assert rows["ece"]["low"] is None
    assert rows["brier"]["low"] < rows["brier"]["value"] < rows["brier"]["high"]
    assert any("Probabilities" in shown.title for shown in view_of(found).tables)


@pytest.mark.parametrize("gap", [-0.001, -0.0, 0.0])
def test_a_difference_of_nothing_has_no_minus(gap):
    assert ACCURACY.number(gap) == "+0.00"


def test_a_look_has_the_level_of_its_place():
    for look, level in enumerate(look_levels([0.25, 0.5, 0.75, 1.0]), start=1):
        assert look_confidence(look, 4) == pytest.approx(1 - level, abs=1e-12)
    with pytest.raises(SpecError, match="look 5 of 4 does not exist"):
        look_confidence(5, 4)


def test_looks_of_equal_models_at_the_command_line(tmp_path):
    y = np.zeros(400, int)
    np.savez(tmp_path / "half.npz", y=y, ptq=y, qat=(np.arange(400) % 50 == 0).astype(int))
    half = str(tmp_path / "half.npz")
    done = CliRunner().invoke(app, ["significance", half, "--look", "1", "--of", "2"])
    said = " ".join(done.stdout.split())
    assert "This is look 1 of 2: a difference counts at p <= 0.0031" in said
    told = CliRunner().invoke(app, ["significance", half, "--look", "1", "--of", "2", "--json"])
    pair = json.loads(told.stdout)["comparisons"][0]
    assert pair["verdict"] == "no_gap_seen"
    alone = json.loads(CliRunner().invoke(app, ["significance", half, "--json"]).stdout)
    assert alone["comparisons"][0]["verdict"] == "a_better"
    assert pair["confidence"] == pytest.approx(look_confidence(1, 2))
    refused = CliRunner().invoke(app, ["significance", half, "--look", "3"])
    assert refused.exit_code != 0
