"""The fault benchmark: its design is balanced, its injectors inject, its scores are right."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from diagnose_cases import calibration, case, data, int8, ranges

from qinspect.causes import all_rules
from qinspect.diagnosis.answer import Diagnosis
from qinspect.diagnosis.cases import Case
from qinspect.stats import Comparison, compare_paired, wilson_interval
from qinspect.tflite import constant, evaluate, read_graph
from qinspect.tflite.constants import all_weights
from qinspect_bench import faults
from qinspect_bench.architectures import ARCHITECTURES, HALVES, SOURCES
from qinspect_bench.base import CELLS, Base, Cell, base_spec, faintest, files_only
from qinspect_bench.benchmark import (
    CONTROLS,
    GIVEN,
    STRENGTHS,
    Plan,
    by_cause,
    confusion,
    confusion_figure,
    is_right,
    misses,
    outcome_of,
    plans,
    scores,
    status_of,
)
from qinspect_bench.faults import FAULTS, NEEDS, NOT_INJECTED, PAIRS
from qinspect_bench.rivals import debugger, forum

# --- the design --------------------------------------------------------------------------------


def test_every_cause_is_injected_or_has_a_reason_why_not() -> None:
    assert set(FAULTS) | set(NOT_INJECTED) == set(all_rules())
    assert not set(FAULTS) & set(NOT_INJECTED)
    assert all(NOT_INJECTED.values())


def test_whole_architectures_are_held_out() -> None:
    halves = {half: {n for n, a in ARCHITECTURES.items() if a.half == half} for half in HALVES}
    assert set.union(*halves.values()) == set(ARCHITECTURES)
    assert not set.intersection(*halves.values())
    assert min(map(len, halves.values())) >= 6
    assert {"mobilenet_v2", "lstm"} <= halves["scored"]
    assert {a.data for a in ARCHITECTURES.values()} <= set(SOURCES)
    # What a fault asks of a network, networks of either half have.
    for needs in NEEDS.values():
        for names in halves.values():
            assert sum(needs <= ARCHITECTURES[name].traits for name in names) >= 2


def test_the_fixed_design_is_balanced() -> None:
    found = plans()
    assert len({plan.key for plan in found}) == len(found)
    assert Counter(plan.given for plan in found) == dict.fromkeys(GIVEN, len(found) // 2)
    files = [plan for plan in found if plan.given == "files"]
    single = [plan for plan in files if plan.kind == "single"]
    # Every cause once in either half, and so on two architectures.
    assert Counter((p.truth, p.cell.half) for p in single) == {
        ((cause,), half): 1 for cause in FAULTS for half in HALVES}
    assert set(Counter(p.cell for p in files if p.kind == "control")) == set(CELLS)
    assert Counter(p.truth for p in files if p.kind == "pair") == dict.fromkeys(PAIRS, 1)
    strengths = Counter(p.strength for p in single)
    assert abs(strengths["mild"] - strengths["strong"]) <= 1
    for half in HALVES:
        counted = Counter(p.cell for p in files if p.cell.half == half)
        assert max(counted.values()) - min(counted.values()) <= 2


def test_the_full_design_is_balanced() -> None:
    found = [plan for plan in plans(full=True) if plan.given == "all"]
    single = Counter((p.truth, p.strength, p.cell.half) for p in found if p.kind == "single")
    assert set(single) == {((cause,), strength, half)
                           for cause in FAULTS for strength in STRENGTHS for half in HALVES}
    assert set(single.values()) <= {2, 3}
    for plan in found:
        assert all(NEEDS.get(cause, frozenset()) <= plan.cell.architecture.traits
                   for cause in plan.truth)
    controls = Counter(p.cell for p in found if p.kind == "control")
    assert controls == dict.fromkeys(CELLS, len(CONTROLS))
    assert {p.truth for p in found if p.kind == "pair"} == set(PAIRS)


# --- what is right -----------------------------------------------------------------------------


def diagnosis(diff: float, *, significant: bool, equivalent: bool = False) -> Diagnosis:
    verdict = "equivalent" if equivalent else "b_better" if diff > 0 else "a_better"
    alike = compare_paired(np.ones(100), np.ones(100), a="ptq", b="qat")
    gap = replace(alike, gap=diff, interval=(diff - 1, diff + 1),
                  verdict=verdict if significant or equivalent else "no_gap_seen")
    puzzle = case(int8(ranges(calibration())))
    return Diagnosis(puzzle, (gap,), gap, (), "none", True, (), True, 1.0)


CELL = Cell("plain_cnn", 0)


def test_a_fault_that_opened_no_gap_asks_for_no_cause() -> None:
    plan = Plan("single", ("calibration-small",), "mild", CELL, 0, "all")
    silent = status_of(plan, diagnosis(0.2, significant=False), (0.1, -1, 1))
    assert silent == "silent"
    assert is_right(plan, silent, "none", [])
    assert is_right(plan, silent, "noise", [])
    assert not is_right(plan, silent, "calibration-small", ["calibration-small"])


@pytest.mark.parametrize(
    ("diff", "changed", "status"),
    [
        (5.0, (4.0, 2.0, 6.0), "opened"),
        (-5.0, (-4.0, -6.0, -2.0), "opened"),
        # The gap was there before, or the fault has made it smaller.
        (5.0, (0.5, -1.0, 2.0), "other gap"),
        (5.0, (-4.0, -6.0, -2.0), "other gap"),
        # The fault made a part of it, another cause the greater part.
        (20.0, (4.0, 2.0, 6.0), "other gap"),
        (5.0, None, "opened"),
    ],
)
def test_only_a_gap_that_the_fault_opened_asks_for_it(
    diff: float, changed: tuple[float, float, float] | None, status: str
) -> None:
    plan = Plan("single", ("calibration-small",), "mild", CELL, 0, "all")
    assert status_of(plan, diagnosis(diff, significant=True), changed) == status
    assert is_right(plan, "opened", "calibration-small", [])
    assert not is_right(plan, "opened", "none", [])
    assert not is_right(plan, "other gap", "calibration-small", [])


def test_a_chance_gap_is_a_cause_of_its_own() -> None:
    plan = Plan("single", ("noise",), "mild", CELL, 0, "all")
    assert status_of(plan, diagnosis(1.0, significant=False), None) == "opened"
    assert status_of(plan, diagnosis(0.2, significant=False), None) == "silent"
    assert not is_right(plan, "opened", "none", [])


def test_controls_and_pairs() -> None:
    control = Plan("control", (), "study", CELL, 0, "all")
    assert status_of(control, diagnosis(5.0, significant=True), None) == "healthy"
    assert is_right(control, "healthy", "noise", [])
    assert not is_right(control, "healthy", "training-budget", [])
    pair = Plan("pair", ("a", "b"), "strong", CELL, 0, "all")
    assert is_right(pair, "opened", "c", ["c", "b", "a"])
    assert not is_right(pair, "opened", "a", ["a"])


def test_outcomes() -> None:
    assert outcome_of(True, "a", True) == "right"
    assert outcome_of(False, "a", True) == "wrong, proved"
    assert outcome_of(False, "a", False) == "wrong"
    assert outcome_of(False, "unexplained", False) == "cannot tell"
    assert outcome_of(False, "none", False) == "wrong"


def test_scores_by_hand() -> None:
    networks = iter("xyz" * 10)

    def row(kind: str, truth: str, status: str, answer: str, right: bool) -> dict[str, object]:
        return {"key": truth + answer, "kind": kind, "truth": truth, "strength": "mild",
                "given": "files", "data": "digits", "model": next(networks), "half": "scored",
                "status": status, "answer": answer, "right": right,
                "outcome": outcome_of(right, answer, True), "noticed": right, "named": answer,
                "proved": True, "debugger": "none", "forum": "a", "summary": "s"}

    rows = pd.DataFrame(
        [row("single", "a", "opened", "a", True) for _ in range(3)]
        + [row("single", "a", "opened", "b", False), row("single", "a", "silent", "none", True)]
        + [row("control", "none", "healthy", "none", True) for _ in range(9)]
        + [row("control", "none", "healthy", "b", False), row("pair", "a+b", "opened", "b", True)]
    )
    found = scores(rows).set_index(["half", "given", "score"]).loc[("scored", "files")]
    top = found.loc["right first"]
    assert (top["hits"], top["n"], top["networks"]) == (3, 4, 3)
    # Never narrower than if cases of one network were independent.
    low, high = wilson_interval(3, 4)
    assert top["low"] <= low
    assert high <= top["high"]
    assert found.loc["wrong and proved"]["hits"] == 2
    assert found.loc["false alarms"]["share"] == pytest.approx(0.1)
    assert found.loc["pairs: both named"]["share"] == 1
    assert found.loc["rival, forum"]["hits"] == 4
    assert found.loc["rival, debugger"]["hits"] == 0
    assert scores(rows).set_index(["half", "given", "score"]).loc[
        ("calibration", "all", "right first")]["n"] == 0
    table = confusion(rows).set_index(["truth", "answer"])["cases"].to_dict()
    assert table == {("a", "a"): 3, ("a", "b"): 1, ("none (silent fault)", "none"): 1,
                     ("none (healthy)", "none"): 9, ("none (healthy)", "b"): 1}
    assert by_cause(rows)["cases"].tolist() == [5]
    assert len(misses(rows, "scored")) == 2
    figure = confusion_figure(confusion(rows))
    assert sorted(t.get_text() for t in figure.axes().texts if t.get_text()) == [
        "1", "1", "1", "3", "9"]
    assert "a answered as b (1)" in figure.sentence


# --- the rivals --------------------------------------------------------------------------------


def gaps_of(**right: float) -> tuple[Comparison, ...]:
    """Comparisons of files that have these shares of 400 examples right."""
    known = {role: np.arange(400) < share * 400 for role, share in right.items()}
    return tuple(compare_paired(known[a], known[b], a=a, b=b)
                 for a, b in (("ptq", "qat"), ("float", "ptq"), ("float", "qat")))


@pytest.mark.parametrize(
    ("right", "answer"),
    [
        ({"float": 0.9, "ptq": 0.9, "qat": 0.9}, "none"),
        ({"float": 0.9, "ptq": 0.6, "qat": 0.9}, "calibration-small"),
        ({"float": 0.9, "ptq": 0.9, "qat": 0.6}, "undertrained"),
        ({"float": 0.9, "ptq": 0.9, "qat": 0.99}, "sensitive-layer"),
    ],
)
def test_a_forum_reads_the_accuracies(right: dict[str, float], answer: str) -> None:
    assert forum(case(int8(ranges(calibration()))), gaps_of(**right)) == answer


def test_the_debugger_suspects_a_layer_from_the_error_of_layers_alone() -> None:
    """The last layer of this small network has an error of two steps; ideal rounding is 0.29."""
    good = int8(ranges(calibration()))
    assert debugger(case(good), ()) == "sensitive-layer"
    without_float = replace(case(good), float_graph=None, qat_graph=good)
    assert debugger(without_float, ()) == "none"


# --- injectors, on the files -------------------------------------------------------------------


def base(given: Case, tmp_path: Path) -> Base:
    return Base(CELL, tmp_path, base_spec(CELL, tmp_path / "trained.h5", "digits"), given)


@pytest.fixture(scope="module")
def healthy() -> Case:
    ptq = int8(ranges(calibration()))
    return case(ptq, qat_graph=ptq, calibration_x=calibration(), train=data())


def test_biases_are_cut_at_the_limit(healthy: Case, tmp_path: Path) -> None:
    limits = (np.iinfo(np.int32).min, np.iinfo(np.int32).max)
    counts = []
    for strength in STRENGTHS:
        made = faults.bias_saturation(base(healthy, tmp_path), healthy, strength, 0)
        graph = made.case.ptq_graph
        assert graph is not None
        stored = [constant(graph, w.bias) for w in all_weights(graph) if w.bias is not None]
        counts.append(sum(int(np.isin(values, limits).sum()) for values in stored))
        assert made.before is not None
        assert made.before.ptq_graph == healthy.ptq_graph
    assert counts == [1, 2]


def test_a_flatter_softmax_ties_its_outputs(healthy: Case, tmp_path: Path) -> None:
    graph = healthy.ptq_graph
    assert graph is not None
    changed = read_graph(faults.with_softmax_factor(graph, 0.002))
    assert len(changed.main.operators) == len(graph.main.operators)
    x = data().x[:200]
    assert evaluate(graph.content, x).tied.mean() < 0.2
    assert evaluate(changed.content, x).tied.mean() > 0.8


def test_weight_noise_changes_weights_alone(healthy: Case) -> None:
    graph = healthy.ptq_graph
    assert graph is not None
    noisy = read_graph(faults.with_weight_noise(graph, np.random.default_rng(0)))
    weights = {w.tensor.index for w in all_weights(graph)}
    for tensor in graph.main.tensors:
        if not tensor.constant or tensor.dtype == "string":
            continue
        same = np.array_equal(
            constant(graph, tensor), constant(noisy, noisy.main.tensors[tensor.index])
        )
        assert same is (tensor.index not in weights)


def test_scripts_feed_what_they_say(healthy: Case) -> None:
    """Fed by the rule itself, a script gives the file's own predictions; by a cast it does not."""
    graph = healthy.ptq_graph
    assert graph is not None
    x = data().x[:200]
    own = evaluate(graph.content, x).prediction
    assert np.array_equal(faults.fed_by(graph, x, faults._right), own)
    cast = faults._SCRIPTS["strong"][0]
    assert np.mean(faults.fed_by(graph, x, cast) == own) < 0.9


def test_claims_are_the_same_predictions_in_another_order(healthy: Case, tmp_path: Path) -> None:
    graph = healthy.qat_graph
    assert graph is not None
    own = evaluate(graph.content, data().x).prediction
    for strength, variant, moved in (("mild", 0, (0.02, 0.1)), ("strong", 0, (0.5, 1.0))):
        made = faults.evaluation_mismatch(
            base(healthy, tmp_path), healthy, strength, variant
        )
        claimed = made.case.claims["qat"].prediction
        assert np.array_equal(np.sort(claimed), np.sort(own))
        assert moved[0] <= np.mean(claimed != own) <= moved[1]


def test_other_examples(healthy: Case, tmp_path: Path) -> None:
    where = base(healthy, tmp_path)
    few = faults.noise(where, healthy, "strong", 0).case
    assert few.data is not None
    assert len(few.data) == 100
    shifted = faults.distribution_shift(where, healthy, "strong", 0).case
    assert shifted.data is not None
    assert np.abs(shifted.data.x - data().x).mean() > 0.1
    assert np.array_equal(shifted.data.y, data().y)


def test_checkpoints_hold_the_file_that_was_chosen(healthy: Case, tmp_path: Path) -> None:
    made = faults.lucky_checkpoint(base(healthy, tmp_path), healthy, "mild", 0).case
    table = made.checkpoints["qat"]
    assert made.qat_graph is not None
    best = (table == data().y).mean(axis=1).argmax()
    assert np.array_equal(evaluate(made.qat_graph.content, data().x).prediction, table[best])


def test_the_faintest_examples_come_first() -> None:
    x = np.array([3.0, 1.0, 2.0])[:, None, None, None] * np.ones((3, 2, 2, 1))
    assert faintest(x, 2)[:, 0, 0, 0].tolist() == [1.0, 2.0]


def test_files_only_forgets_models_and_logs(healthy: Case) -> None:
    full = replace(healthy, keras_float=Path("f.h5"), arms={"float_ft": data().y})
    bare = files_only(full)
    assert bare.keras_float is None
    assert not bare.arms
    assert bare.ptq_graph is full.ptq_graph
