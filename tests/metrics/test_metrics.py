"""Metrics against scikit-learn, which is a second implementation, and against cases by hand."""

import itertools

import numpy as np
import pytest
from parts import ROOT
from sklearn import metrics as sk

from qinspect.errors import DataError, SpecError
from qinspect.metrics import METRICS, metric
from qinspect.metrics.__main__ import document
from qinspect.metrics.classes import class_of, same_class

RNG = np.random.default_rng(0)
N = 300
YES_NO = RNG.integers(0, 2, N)
# Few levels, as of a quantized output, so that there are ties.
SURE = np.round(np.clip(0.3 * YES_NO + RNG.random(N) * 0.7, 0, 1), 1)
CLASSES = RNG.integers(0, 8, N)
LOGITS = RNG.normal(size=(N, 8)) + 2 * np.eye(8)[CLASSES]
SOFTMAX = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
MANY = RNG.integers(0, 2, (N, 4))
MANY_SURE = np.clip(0.4 * MANY + RNG.random((N, 4)) * 0.6, 0, 1)
REAL = RNG.normal(size=(N, 2)) + 5
NEAR = REAL + RNG.normal(size=(N, 2))


def value(name, y, output):
    one = metric(name)
    return one.statistic(y, output) if one.kind == "set" else float(one.scores(y, output).mean())


@pytest.mark.parametrize(("name", "y", "output", "expected"), [
    ("accuracy", CLASSES, SOFTMAX, sk.accuracy_score(CLASSES, SOFTMAX.argmax(axis=1))),
    ("top5", CLASSES, SOFTMAX, sk.top_k_accuracy_score(CLASSES, SOFTMAX, k=5)),
    ("top2", CLASSES, SOFTMAX, sk.top_k_accuracy_score(CLASSES, SOFTMAX, k=2)),
    ("binary-accuracy", YES_NO, SURE[:, None], sk.accuracy_score(YES_NO, SURE > 0.5)),
    ("binary-accuracy@0.3", YES_NO, SURE, sk.accuracy_score(YES_NO, SURE > 0.3)),
    ("auc", YES_NO, SURE, sk.roc_auc_score(YES_NO, SURE)),
    ("auc", YES_NO, np.column_stack([1 - SURE, SURE]), sk.roc_auc_score(YES_NO, SURE)),
    ("f1", YES_NO, SURE, sk.f1_score(YES_NO, SURE > 0.5)),
    ("f1", CLASSES, SOFTMAX, sk.f1_score(CLASSES, SOFTMAX.argmax(axis=1), average="macro")),
    ("f1", CLASSES % 3, SOFTMAX, sk.f1_score(CLASSES % 3, SOFTMAX.argmax(axis=1),
                                             average="macro")),
    ("f1", CLASSES[:9], np.eye(99)[CLASSES[:9] % 5], sk.f1_score(
        CLASSES[:9], CLASSES[:9] % 5, average="macro")),
    ("binary-accuracy@0.3", YES_NO, np.column_stack([1 - SURE, SURE]),
     sk.accuracy_score(YES_NO, SURE > 0.3)),
    ("binary-accuracy@1", YES_NO, LOGITS[:, :2],
     sk.accuracy_score(YES_NO, LOGITS[:, 1] - LOGITS[:, 0] > 1)),
    ("f1", MANY, MANY_SURE, sk.f1_score(MANY, MANY_SURE > 0.5, average="macro")),
    ("mae", REAL, NEAR, sk.mean_absolute_error(REAL, NEAR)),
    ("mse", REAL, NEAR, sk.mean_squared_error(REAL, NEAR)),
    ("relative-error", REAL, NEAR, sk.mean_absolute_percentage_error(REAL, NEAR)),
    ("r2", REAL, NEAR, sk.r2_score(REAL, NEAR)),
    ("r2", REAL[:, 0], NEAR[:, :1], sk.r2_score(REAL[:, 0], NEAR[:, 0])),
    ("log-loss", CLASSES, SOFTMAX, sk.log_loss(CLASSES, SOFTMAX, labels=np.arange(8))),
    ("brier", YES_NO, SURE, sk.brier_score_loss(YES_NO, SURE)),
    ("cosine", REAL, NEAR, np.diag(sk.pairwise.cosine_similarity(REAL, NEAR)).mean()),
])
def test_value_is_that_of_scikit_learn(name, y, output, expected):
    assert value(name, y, output) == pytest.approx(expected, abs=1e-12)


def test_calibration_error_by_hand():
    # Ten answers of 90 % that are all right, ten of 60 % of which half are right.
    y = np.repeat(1, 20)
    sure = np.array([0.9] * 10 + [0.6] * 5 + [0.4] * 5)
    assert value("ece", y, sure) == pytest.approx(0.5 * 0.1 + 0.5 * 0.1)


def test_segmentation_by_hand():
    y = np.array([[[0, 0], [1, 1]], [[2, 2], [2, 2]]])
    found = np.array([[[0, 1], [1, 1]], [[2, 2], [2, 2]]])
    scores = np.eye(3)[found]
    assert metric("pixel-accuracy").scores(y, scores).tolist() == [0.75, 1.0]
    assert metric("miou").scores(y, found).tolist() == pytest.approx([(1 / 2 + 2 / 3) / 2, 1.0])
    assert value("miou", y[..., None], scores) == value("miou", y, found)
    for one, expected in zip(range(2), (sk.jaccard_score(y[0].ravel(), found[0].ravel(),
                                                         average="macro"), 1.0), strict=True):
        assert metric("miou").scores(y, found)[one] == pytest.approx(expected)


def test_reconstruction_keeps_errors_only():
    x = RNG.random((6, 4, 4, 1)).astype(np.float32)
    made = x + np.arange(6, dtype=np.float32)[:, None, None, None]
    errors = METRICS["reconstruction"].reduce(x, made)
    assert errors == pytest.approx(np.arange(6) ** 2, abs=1e-5)
    assert value("reconstruction", None, errors) == pytest.approx(np.mean(np.arange(6) ** 2))
    assert value("anomaly-auc", np.array([0, 0, 0, 1, 1, 1]), errors) == 1.0


@pytest.mark.parametrize("name", ["auc", "f1", "r2", "ece"])
def test_weights_repeat_examples(name):
    y, output = {"auc": (YES_NO, SURE), "f1": (CLASSES, SOFTMAX), "r2": (REAL, NEAR),
                 "ece": (CLASSES, SOFTMAX)}[name]
    weights = RNG.integers(0, 4, (5, N))
    found = metric(name).score(y, output, weights=weights)
    for row, got in zip(weights, found, strict=True):
        index = np.repeat(np.arange(N), row)
        assert got == pytest.approx(metric(name).score(y[index], output[index]))


@pytest.mark.parametrize(("name", "y", "output", "said"), [
    ("binary-accuracy", YES_NO, LOGITS[:, 0], "are no probabilities"),
    ("binary-accuracy", CLASSES, SURE, "needs 0 and 1"),
    ("auc", np.ones(N, int), SURE, "needs both 0 and 1"),
    ("auc", YES_NO, SOFTMAX, "needs one or two"),
    ("top5", CLASSES % 3, SOFTMAX[:, :5], "always right with 5 classes"),
    ("log-loss", CLASSES, LOGITS, "are no probabilities"),
    ("relative-error", REAL * 0, NEAR, "target of 0"),
    ("mae", REAL, NEAR[:, :1], "as many numbers"),
    ("mae", REAL, NEAR * np.nan, "NaN or infinite for 300 of 300"),
    ("miou", CLASSES, SOFTMAX, "one class for each pixel"),
    ("accuracy", CLASSES, SOFTMAX[:, None], "one class"),
    ("accuracy", YES_NO * 0, SURE[:, None], "one number an example"),
    ("top5", CLASSES, SOFTMAX.reshape(N, 2, 4), "miou or pixel-accuracy for maps"),
    ("f1", CLASSES, SOFTMAX.reshape(N, 2, 4), "miou or pixel-accuracy for maps"),
    ("f1@0.3", CLASSES, SOFTMAX, "leave it out"),
    ("f1@2", YES_NO, SURE, "choose one between 0 and 1"),
    ("f1@0", MANY, MANY_SURE, "choose one between 0 and 1"),
    ("f1", REAL, SOFTMAX[:, :2], "needs 0 and 1"),
    ("auc", MANY, MANY_SURE, "f1 for several labels"),
    ("auc", YES_NO, np.where(SURE > 0.5, np.nan, SURE), "are NaN for"),
    ("f1", MANY, MANY_SURE * np.nan, "are NaN for 300 of 300"),
    ("top2", CLASSES, SOFTMAX * np.nan, "are NaN for 300 of 300"),
    ("r2", REAL, NEAR * np.nan, "is nan on these examples"),
    ("cosine", REAL[:, 0], NEAR[:, 0], "only its sign"),
    ("miou", MANY, MANY_SURE, "not whole numbers"),
    ("miou", np.full((N, 2, 2), 255), SOFTMAX.reshape(N, 2, 2, 2), "hold 255"),
    ("miou", np.ones((N, 2, 4)), LOGITS.reshape(N, 2, 4, 1), "probability of class 1"),
    ("miou", np.ones((N, 2, 2)), SOFTMAX.reshape(N, 2, 2, 2) * np.nan, "are NaN for"),
])
def test_what_has_no_value_is_refused(name, y, output, said):
    with pytest.raises(DataError, match=said):
        value(name, y, output)


def test_names(tmp_path, monkeypatch):
    assert metric("top3").id == "top3"
    for wrong, said in (("top0", "unknown metric"), ("f1@x", "is no number"), ("acuracy", "mean"),
                        ("nowhere:thing", "cannot be found"), ("math:pi", "neither a")):
        with pytest.raises(SpecError, match=said):
            metric(wrong)
    (tmp_path / "own_scores.py").write_text(
        "import numpy as np\n"
        "def worst(y, output):\n    return np.abs(output - y).max(axis=1)\n"
        "worst.direction, worst.unit = 'lower', 'mm'\n"
        "def median(y, output):\n    return float(np.median(output - y))\n"
        "median.direction, median.kind = 'higher', 'set'\n")
    monkeypatch.chdir(tmp_path)
    own = metric("own_scores:worst")
    assert (own.unit, own.direction, own.kind) == ("mm", "lower", "example")
    assert value("own_scores:worst", REAL, NEAR) == np.abs(REAL - NEAR).max(axis=1).mean()
    assert value("own_scores:median", REAL, NEAR) == np.median(NEAR - REAL)
    with pytest.raises(DataError, match="own_scores:worst fails on y of shape"):
        value("own_scores:worst", REAL[:5], NEAR)


def test_scores_with_nan_are_no_right_answer():
    broken = np.where(np.arange(N)[:, None] < 50, np.nan, SOFTMAX)
    right = SOFTMAX.argmax(axis=1) == CLASSES
    assert value("accuracy", CLASSES, broken) == right[50:].sum() / N
    assert value("accuracy", CLASSES * 0, broken * np.nan) == 0


def test_every_metric_says_its_unit_and_which_way_is_better():
    for one in METRICS.values():
        assert one.title
        assert one.direction in ("higher", "lower")
        assert (one.unit == "points") == (one.scale == 100)
    assert metric("mae").words(0.42724) == "0.4272"
    assert metric("auc").words(0.9361) == "93.61 %"
    assert metric("mae").size(-21.0071) == "21.01 units of y"
    assert metric("mae").margin_of(0.4) == pytest.approx(0.02)


def test_the_document_is_made_from_the_registry():
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert text == document(), "run make docs"
    assert all(f"| `{name}` |" in text for name in METRICS)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1"])
def test_class_of_every_row_of_few_values(dtype):
    """Every row of three scores from these values against a plain loop."""
    scores = [0, 1, -1] + [np.nan, np.inf, -np.inf] * (dtype != "i1")
    rows = np.array(list(itertools.product(scores, repeat=3)), dtype=dtype)
    expected = [-1 if any(v != v for v in row) else row.index(max(row)) for row in rows.tolist()]
    assert class_of(rows).tolist() == class_of(rows[:, None, :]).tolist() == expected


def test_no_answer_is_never_the_same():
    assert same_class(np.array([0, 1, -1, -1]), np.array([0, 2, -1, 3])).tolist() == [
        True, False, False, False]
