"""Paired statistics of any metric: against exact tests, SciPy and simulation."""

import numpy as np
import pytest
from scipy import stats as sp

from qinspect.errors import SpecError
from qinspect.metrics import metric
from qinspect.predictions import Results, results
from qinspect.stats import compare_paired, contrast_interval, pseudo_values, resampled_values
from qinspect.stats.contrast import contrast_interval as contrast

MAE, AUC = metric("mae"), metric("auc")


def errors(n, shift, seed=0, noise=0.3):
    rng = np.random.default_rng(seed)
    a = np.abs(rng.normal(size=n))
    return a, np.abs(a + shift + noise * rng.normal(size=n))


def test_interval_and_test_are_students_and_sign_flips():
    a, b = errors(200, 0.05)
    c = compare_paired(a, b, metric=MAE)
    wanted = sp.ttest_rel(b, a).confidence_interval()
    assert c.interval == pytest.approx((wanted.low, wanted.high))
    assert c.gap == pytest.approx(b.mean() - a.mean())
    flips = sp.permutation_test((b, a), lambda u, v, axis: (u - v).mean(axis=axis),
                                permutation_type="samples", n_resamples=20_000, random_state=0)
    assert c.p == pytest.approx(flips.pvalue, abs=0.01)
    many_a, many_b = errors(5_000, 0.01)
    assert compare_paired(many_a, many_b, metric=MAE).p == pytest.approx(
        sp.ttest_rel(many_b, many_a).pvalue)


def test_lower_is_better_where_it_is():
    a, b = errors(200, 0.4)
    c = compare_paired(a, b, a="ptq", b="qat", metric=MAE)
    assert (c.verdict, c.worse, c.gap > 0, c.improvement < 0) == ("a_better", "qat", True, True)
    assert "ptq is better than qat by" in c.sentence
    assert "units of y" in c.sentence
    assert c.a_only > c.b_only
    assert c.a_only == np.count_nonzero(a < b)
    json = c.to_json()
    assert json["diff_pp"] is json["accuracy_a"] is json["mcnemar_p"] is None
    assert (json["gap"], json["direction"]) == (c.gap, "lower")


def test_same_scores_are_equivalent_only_with_enough_examples():
    a, _ = errors(100, 0)
    assert compare_paired(a, a, metric=MAE).verdict == "equivalent"
    assert "score alike on all 100 examples" in compare_paired(a, a, metric=MAE).sentence
    assert compare_paired(a[:10], a[:10], metric=MAE).verdict == "cannot_tell"


def test_few_differences_are_no_finding():
    a, _ = errors(500, 0)
    b = a.copy()
    b[:4] += 0.5
    # Student's interval leaves out zero; four equal signs have p = 1/8.
    c = compare_paired(a, b, metric=MAE)
    assert c.interval[0] > 0
    assert (c.p, c.verdict) == (0.125, "cannot_tell")


def test_groups_of_alike_examples_count_once():
    a, b = errors(60, 0.05)
    plain = compare_paired(a, b, metric=MAE)
    groups = np.repeat(np.arange(60), 10)
    c = compare_paired(np.repeat(a, 10), np.repeat(b, 10), groups=groups, metric=MAE)
    assert c.interval == pytest.approx(plain.interval)
    assert (c.groups, c.n) == (60, 600)


def test_contrast_of_two_is_the_comparison():
    a, b = errors(200, 0.1)
    c = compare_paired(a, b, metric=MAE)
    found = contrast({"a": a, "b": b}, {"a": -1, "b": 1}, metric=MAE)
    assert found == pytest.approx((c.gap, *c.interval))
    grouped = contrast_interval({"a": a, "b": b}, {"a": -1, "b": 1}, metric=MAE,
                                groups=np.arange(200) // 4)
    assert grouped[0] == pytest.approx(c.gap)


def scored(n, gap, seed, groups=1):
    """Labels and the scores of two models of which b is better by ``gap`` (0: exchangeable)."""
    rng = np.random.default_rng(seed)
    y = np.repeat(rng.integers(0, 2, n), groups)
    shared = rng.normal(size=n)
    outputs = {name: np.repeat(shared + rng.normal(size=n), groups) + shift * y
               for name, shift in (("a", 1.0), ("b", 1.0 + gap))}
    return outputs, y


def delong(y, a, b):
    """Variance of a difference of two areas: DeLong, DeLong and Clarke-Pearson (1988)."""
    parts = []
    for score in (a, b):
        above = score[y == 1][:, None] - score[y == 0]
        wins = (above > 0) + (above == 0) / 2
        parts.append((wins.mean(axis=1), wins.mean(axis=0)))
    d = [parts[1][i] - parts[0][i] for i in (0, 1)]
    return d[0].var(ddof=1) / len(d[0]) + d[1].var(ddof=1) / len(d[1])


def test_bootstrap_of_an_area_agrees_with_delong():
    outputs, y = scored(400, 0.5, 3)
    found = Results(outputs, y, metric=AUC)
    c = found.comparison("a", "b")
    error = 100 * np.sqrt(delong(y, outputs["a"], outputs["b"]))
    assert c.interval == pytest.approx((c.gap - 1.96 * error, c.gap + 1.96 * error), abs=0.6)
    parts = [pseudo_values(AUC, y, outputs[name]) for name in "ab"]
    d = parts[1] - parts[0]
    assert 100 * d.mean() == pytest.approx(c.gap)
    assert 100 * d.std(ddof=1) / np.sqrt(len(d)) == pytest.approx(error, rel=0.25)


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, 5])
def test_null_sets_are_seldom_called_better(groups):
    better, held = 0, 0
    for seed in range(200):
        outputs, y = scored(60, 0.0, seed, groups)
        ids = np.repeat(np.arange(60), groups)
        found = Results(outputs, y, groups=ids if groups > 1 else None, metric=AUC)
        c = found.comparison("a", "b")
        better += c.significant
        held += c.interval[0] <= 0 <= c.interval[1]
    assert better <= 0.08 * 200
    assert held >= 0.92 * 200


@pytest.mark.parametrize("groups", [None, 5])
def test_null_errors_are_seldom_called_better(groups):
    better = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        size = 40 if groups is None else 40 * groups
        a, b = np.abs(rng.standard_t(3, size=(2, 40)))
        clusters = None
        if groups is not None:
            a, b, clusters = np.repeat(a, groups), np.repeat(b, groups), np.arange(size) // groups
        better += compare_paired(a, b, groups=clusters, metric=MAE).significant
    assert better <= 0.07 * 300


def test_results_of_any_metric_answer_the_same_questions():
    rng = np.random.default_rng(1)
    y = rng.normal(size=(120, 1))
    outputs = {name: y + size * rng.normal(size=(120, 1))
               for name, size in (("float", 0.1), ("ptq", 0.11), ("qat", 0.5))}
    found = results(outputs, y, metric="mae")
    assert found.limit == pytest.approx(found.value("float") / 20)
    verdicts = {(c.a, c.b): c.verdict for c in found.compare()}
    assert verdicts[("float", "qat")] == verdicts[("ptq", "qat")] == "a_better"
    assert found.compare().cochran_q is None
    assert found.frame["value"].tolist() == [found.value(name) for name in found.models]
    flips = found.flips("float", "qat", "a")
    assert len(flips) == found.comparison("float", "qat").a_only
    size = found.scores("qat")[flips["index"]] - found.scores("float")[flips["index"]]
    assert (np.diff(size) <= 0).all()
    behind, level, ahead = found.luck("float", "qat", 50)
    assert behind > 0.9
    assert level + ahead < 0.1
    assert found.power("float", "qat", 100) > 0.9
    part = found.effect("ptq", "qat", {"qat": "ptq"})
    assert part[0] == pytest.approx(found.comparison("ptq", "qat").gap)
    done = found.effects("ptq", "qat", {"again": {"qat": "float"}})
    assert done.loc[0, "verdict"] == "closes"
    assert "mean absolute error" in found.sentence.lower()


def test_a_statistic_of_a_set_has_no_single_scores():
    outputs, y = scored(50, 0.0, 0)
    found = results(outputs, y, metric="auc")
    with pytest.raises(SpecError, match="statistic of all examples"):
        found.scores("a")
    assert found.value("a") == AUC.score(y, outputs["a"])
    drawn = resampled_values(AUC, y, outputs["a"])
    assert found.value_interval("a")[0] < found.value("a") < found.value_interval("a")[1]
    assert drawn.std() == pytest.approx(0.05, abs=0.03)
    part = found.effect("a", "b", {"b": "a"})
    assert part == pytest.approx((found.comparison("a", "b").gap,
                                  *found.comparison("a", "b").interval))


@pytest.mark.parametrize("name", ["mae", "auc"])
def test_runs_of_any_metric(name):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200) if name == "auc" else rng.normal(size=200)
    good = np.stack([y + 0.8 * rng.normal(size=200) for _ in range(5)])
    bad = np.stack([y + 1.6 * rng.normal(size=200) for _ in range(5)])
    found = results({"ptq": good, "qat": bad}, y, runs=range(5), metric=name)
    over = found.over_runs("ptq", "qat")
    assert over.gap == pytest.approx(
        metric(name).scale * (found.value("qat") - found.value("ptq")))
    assert over.a_wins == 5
    assert metric(name).better * over.interval[1 if name == "auc" else 0] < 0
    assert over.to_json()["metric"] == name


def test_a_statistic_of_few_examples_is_no_finding():
    outputs, y = scored(10, 5.0, 1)
    y[:2] = 0, 1
    c = results(outputs, y, metric="auc").comparison("a", "b")
    assert c.verdict == "cannot_tell"
    assert c.p == 1


def test_a_clear_difference_of_sets_survives_a_family_of_many_pairs():
    """A p counted from 1,999 resamples, at least 0.001, would not survive 528 pairs."""
    rng = np.random.default_rng(0)
    y = np.arange(400) % 2
    found = Results({"good": y + rng.normal(0, 0.3, 400), "bad": rng.normal(size=400)}, y,
                    metric=AUC)
    assert found.comparison("good", "bad").p * 528 < 0.05
    few = Results({name: output[:12] for name, output in found.outputs.items()}, y[:12], metric=AUC)
    assert few.comparison("good", "bad").p == 1
