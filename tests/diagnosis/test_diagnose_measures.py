"""What is drawn is what decided: measures of every finding stand on the side of its verdict."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from diagnose_cases import (
    N,
    calibration,
    case,
    data,
    float_graph,
    graph_of,
    history,
    int8,
    moved,
    ranges,
    with_weight,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt

from qinspect.causes import all_rules, chance, sensitive_layer
from qinspect.causes import calibration as calibration_rules
from qinspect.causes.evaluation import mistakes
from qinspect.diagnosis.cases import Case, Claim, TrainingFacts
from qinspect.diagnosis.engine import _check
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.rule import MODELS, Finding, Measure, together
from qinspect.measure.activations import observe_ranges
from qinspect.show.figures import threshold_plot
from qinspect.tflite import evaluate
from qinspect.tflite.constants import all_weights, constant
from qinspect.tflite.requantize import Ranges, quantize_file
from qinspect_bench.rewired import in_dynamic_range, in_two_branches

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
EQUAL = TrainingFacts(3, 1, 1e-3, 1e-3, equal_budget=True)


# --- cases on both sides of the thresholds ------------------------------------------------------


def clipped_bias() -> Any:
    graph = healthy().ptq_graph
    assert graph is not None
    bias = next(w.bias for w in all_weights(graph) if w.bias is not None)
    stored = np.asarray(constant(graph, bias))
    full = stored.copy()
    full[0] = np.iinfo(np.int32).max
    return graph_of(graph.content.replace(stored.tobytes(), full.tobytes()))


def repeated(index: np.ndarray) -> Any:
    return dataclasses.replace(
        data().take(index), ids=np.array([f"e{at}" for at in range(len(index))]))


@functools.cache
def healthy() -> Case:
    return case(int8(ranges(calibration())), calibration_x=calibration())


def quantized(graph: Any) -> Any:
    return graph_of(quantize_file(graph, observe_ranges(graph, calibration()).over(), "int8"))


def puzzles() -> dict[str, Case]:
    """Small cases: for each measure one where it speaks for its cause, and one where not."""
    x, good = calibration(), healthy()
    ptq = good.ptq_graph
    assert ptq is not None
    least = x[np.abs(x).max(axis=(1, 2, 3)).argmin()][None]
    outlier = x.copy()
    outlier[0] *= 40
    bounds = ranges(x).bounds
    low, high = bounds["depthwise/Relu"]
    uneven = ranges(x, 300.0)
    coarse = int8(Ranges(uneven.bounds, frozenset({0})), 300.0)
    sixteen = graph_of(quantize_file(float_graph(), ranges(x), "int16x8"))
    stranger = graph_of(quantize_file(float_graph(1), ranges(x), "int8"))
    one = int8(ranges(x[:1]))
    uneven_branches, even_branches = (graph_of(in_two_branches(float_graph(), ratio))
                                      for ratio in (300, 1))
    broken = with_weight(float_graph(), np.nan)
    tuned = moved(0.1, relu_below_zero=True)
    here, there = data().take(np.arange(0, N, 2)), data().take(np.arange(1, N, 2))
    table = np.where(np.random.default_rng(0).random((80, N)) < 0.1, (data().y + 1) % 4, data().y)
    best = int((table == data().y).mean(axis=1).argmax())
    own = evaluate(ptq.content, data().x).prediction
    few = data().take(np.arange(40))
    made = {name: fed for name, _, fed in mistakes(ptq, data().x)}

    def claimed(prediction: np.ndarray, **parts: Any) -> Case:
        return dataclasses.replace(good, claims={"ptq": Claim(prediction)}, **parts)

    wrong = (few.y + (np.arange(40) < 2)) % 4
    noisy = np.where(np.arange(N) % 10, own, (own + 1) % 4)
    many = np.where(np.random.default_rng(1).random(N) < 0.3, (own + 1) % 4, own)
    return {
        "healthy": good,
        "few examples, known": case(int8(ranges(least)), calibration_x=least),
        "few examples": case(int8(ranges(data().x[:4]))),
        "one example": case(int8(ranges(least))),
        "units, known": case(int8(ranges(x * np.float32(0.1))), calibration_x=x * np.float32(0.1)),
        "units": case(int8(ranges(x * np.float32(0.4)))),
        "twice the units": case(int8(ranges(data().x * np.float32(2)))),
        "another place": case(int8(ranges(x - np.float32(3)))),
        "narrow, known": case(int8(ranges(x * np.float32(0.6))),
                              calibration_x=x * np.float32(0.6)),
        "narrow": case(int8(ranges(x * np.float32(0.6)))),
        "outlier, known": case(int8(ranges(outlier)), calibration_x=outlier),
        "outlier": case(int8(ranges(outlier))),
        "coarse": case(coarse, 300.0, qat_graph=coarse),
        "fine": case(int8(uneven, 300.0), 300.0, qat_graph=int8(uneven, 300.0)),
        "bias": dataclasses.replace(good, ptq_graph=clipped_bias(), qat_graph=clipped_bias()),
        "layer": case(int8(Ranges({**bounds, "depthwise/Relu": (low, high * 60)}))),
        "another network": case(stranger, qat_graph=stranger),
        "no float": dataclasses.replace(good, float_graph=None, qat_graph=ptq),
        "same QAT": dataclasses.replace(good, qat_graph=ptq),
        "no float, another QAT": dataclasses.replace(good, float_graph=None, qat_graph=stranger),
        "left out": case(ptq, qat_graph=graph_of(quantize_file(
            float_graph(), ranges(x), "int8", {0: "float32"}))),
        "running": case(graph_of(in_dynamic_range(float_graph(0, 300.0))), 300.0),
        "running well": case(graph_of(in_dynamic_range(float_graph()))),
        "branches": case(quantized(uneven_branches), float_graph=uneven_branches),
        "even branches": case(quantized(even_branches), float_graph=even_branches),
        "no numbers": case(broken, float_graph=broken, qat_graph=broken),
        "exchanged": case(tuned, qat_graph=ptq),
        "in their places": case(ptq, qat_graph=tuned),
        "sixteen bits": case(sixteen, qat_graph=ptq),
        "float QAT": dataclasses.replace(good, qat_graph=float_graph()),
        "wide QAT": dataclasses.replace(good, qat_graph=int8(ranges(x * np.float32(40)))),
        "narrow QAT": dataclasses.replace(good, qat_graph=int8(ranges(x * np.float32(0.2)))),
        "gain": case(one, data=dataclasses.replace(
            data(), y=evaluate(one.content, data().x).prediction)),
        "shifted": case(ptq, data=here,
                        train=dataclasses.replace(there, x=there.x * np.float32(0.5))),
        "alike": case(ptq, data=here, train=there),
        "lucky": claimed(table[best], checkpoints={"ptq": table}),
        "honest": claimed(table[best - 1], checkpoints={"ptq": table}),
        "no choice": claimed(table[best], checkpoints={"ptq": table[[best, best]]}),
        "flat": case(ptq, history=history([1, 0.5, 0.49], [0.49, 0.48]), facts=EQUAL),
        "steep": case(ptq, history=history([2, 1, 0.5], [0.5, 0.4]), facts=EQUAL),
        "settled": case(ptq, history=history([0.5, 0.02, 0.01], [0.02, 0.01]), facts=EQUAL),
        "rising": case(ptq, qat_graph=ptq, history=history([1, 0.5], [1.5])),
        "no rise": case(ptq, qat_graph=stranger, history=history([1, 0.5], [0.5])),
        "no step": case(ptq, history=history([1, 0.5], [0.5]).assign(
            steps=[100, 200, 0])),
        "epochs": case(ptq, qat_graph=ptq, facts=TrainingFacts(3, 1, 1e-3, 1e-3)),
        "no epochs": case(ptq, qat_graph=ptq, facts=TrainingFacts(3, 0, 1e-3, 1e-3)),
        "chance": case(ptq, data=few, claims={"ptq": Claim(wrong)}),
        "right claims": claimed(own),
        "cast": claimed(evaluate(ptq.content, made["cast"]).prediction),
        "reversed": claimed(own[::-1].copy()),
        "unexplained": claimed(many),
        "another share": claimed(noisy),
        "other units fed": case(ptq, qat_graph=one, data=dataclasses.replace(
            data(), x=data().x * np.float32(5))),
        "all fed": case(ptq, qat_graph=ptq),
        "turned": case(ptq, data=dataclasses.replace(data(), x=data().x.transpose(0, 2, 1, 3))),
        "copies": case(ptq, data=repeated(np.arange(N) // 4)),
        "leaked": case(ptq, data=here, train=here.take(np.arange(20))),
        "some leaked": case(ptq, data=here, train=here.take(np.arange(8))),
    }


@pytest.fixture(scope="module")
def found() -> list[tuple[str, str, Finding]]:
    listed = []
    for name, puzzle in puzzles().items():
        evidence = Evidence(puzzle)
        listed += [(name, rule.id, _check(rule, evidence)) for rule in all_rules().values()]
    return listed


def test_a_cause_is_indicated_where_a_measure_speaks_for_it_and_only_there(
    found: list[tuple[str, str, Finding]],
) -> None:
    for name, cause, finding in found:
        speaks = [m.id for m in finding.measures if m.speaks]
        if finding.verdict == "indicated":
            assert speaks, (name, cause)
        elif finding.verdict != "not_shown":
            assert not speaks, (name, cause, finding)


def test_measures_are_those_that_the_rule_names(found: list[tuple[str, str, Finding]]) -> None:
    """So docs/causes.md, which lists the rule's, lists every number that decides."""
    for name, cause, finding in found:
        declared = defaultdict(set)
        for template in all_rules()[cause].measures:
            for role in MODELS:
                declared[template.id.replace("{role}", role)].add(
                    (template.threshold, template.side))
        assert len({m.id for m in finding.measures}) == len(finding.measures), (name, cause)
        for measure in finding.measures:
            sides = declared[measure.id]
            assert sides, (name, cause, measure.id)
            if measure.threshold is not None:
                fixed = (measure.threshold, measure.side) in sides
                assert fixed or (None, measure.side) in sides, (name, cause, measure)
            assert finding.numbers[measure.id] is measure.value


def test_a_drawn_measure_stands_on_the_side_on_which_its_rule_decided(
    found: list[tuple[str, str, Finding]],
) -> None:
    drawn = {(cause, finding.verdict, tuple((m.id, m.speaks) for m in finding.measures)): finding
             for _, cause, finding in found}
    for finding in drawn.values():
        held = [measure for measure in finding.measures if measure.speaks is not None]
        figure = threshold_plot(finding.measures)
        axes = figure.axes()
        # Behind the dashed line: those that speak, then those that do not.
        for line, speaks in zip(axes.lines[1:], (True, False), strict=True):
            rows = line.get_ydata().astype(int).tolist()
            assert rows == [at for at, measure in enumerate(held) if measure.speaks is speaks]
            assert all(x >= 1 if speaks else x <= 1 for x in line.get_xdata())
        plt.close(axes.figure)
        if finding.verdict in ("ruled_out", "does_not_apply", "not_tried"):
            assert "speaks for it" not in figure.sentence
        assert figure.sentence.count("speaks for it") == sum(map(bool, (m.speaks for m in held)))


# They are only named where they decide, and then on one side.
ONE_SIDE = {
    ("evaluation-mismatch", "{role}_mispaired"), ("training-budget", "equal_budget"),
    ("calibration-outliers", "input_in_other_units"),
}


@pytest.mark.parametrize("cause", all_rules())
def test_every_measure_is_seen_on_both_sides(
    cause: str, found: list[tuple[str, str, Finding]],
) -> None:
    seen = defaultdict(set)
    for _, other, finding in found:
        for measure in finding.measures if other == cause else ():
            seen[measure.id].add(measure.speaks)
    for template in all_rules()[cause].measures:
        sides = {side for role in MODELS for side in seen[template.id.replace("{role}", role)]}
        if (cause, template.id) in ONE_SIDE:
            assert sides - {None}
        elif (cause, template.id) not in BY_FORMULA:
            assert sides >= {True, False}, (cause, template.id)


# Those that these small cases do not reach; each has its test below.
BY_FORMULA = {
    ("batchnorm-lag", "folded_size_ratio"), ("batchnorm-lag", "mean_shift_sd"),
    ("batchnorm-lag", "sd_ratio"),
    # tests/diagnosis/test_diagnose_specific.py has both: it is asked while the remedy is tried.
    ("qat-learning-rate", "rate_spoils_float"),
    ("qat-learning-rate", "weight_cosine_median"), ("regularisation", "perturbation_p"),
    ("qat-not-applied", "qat_holds_float_weights"), ("qat-requantized", "weights_trained"),
    # tests/diagnosis/test_file_causes.py reads Keras models, and has networks with swish.
    ("negative-tail", "tail_cut_share"), ("negative-tail", "tail_steps"),
    ("layers-left-out-of-qat", "qat_layers_not_wrapped"),
    ("qat-requantized", "quantized_after_training"), ("training-budget", "qat_trained_on"),
    ("noise", "shown_equivalent"), ("kernel-difference", "{role}_moved_margins"),
    # Of networks that give values; tests/studies/test_study_tasks.py has both sides.
    ("stale-observers", "output_cut_share"),
    # tests/diagnosis/test_evaluation_causes.py has files with a state and with two outputs.
    *((cause, f"{{role}}_{share}_share") for cause in ("another-output", "state-carried-over")
      for share in ("agreement", "reproduced")),
    # tests/diagnosis/test_output_causes.py has both.
    ("output-saturated", "{role}_stuck_share"), ("output-below-one-step", "{role}_lost_parts"),
}


# --- the form -----------------------------------------------------------------------------------


@given(st.floats(allow_nan=True), st.floats(allow_nan=False, allow_infinity=False))
def test_the_two_sides_are_each_other_s_opposite(value: float, threshold: float) -> None:
    sides = [Measure("x", "x", value, threshold, side).speaks for side in ("above", "below")]
    assert sides == ([None, None] if math.isnan(value) else [value >= threshold, value < threshold])


def test_together_is_all_and_keeps_what_failed() -> None:
    """Over every combination of three measures that speak, do not, or have no number."""
    values = {True: 1.0, False: 0.0, None: None}
    for pattern in itertools.product(values, repeat=3):
        measures = together(*(
            Measure(str(at), "x", values[speaks], 0.5, "above")
            for at, speaks in enumerate(pattern)
        ))
        assert any(m.speaks for m in measures) == all(pattern)
        assert [m.value for m in measures] == [values[speaks] for speaks in pattern]
        if not all(pattern):
            assert [m.threshold is None for m in measures] == [s is True for s in pattern]


# --- formulas, against a second implementation --------------------------------------------------


def check(cause: str, evidence: Evidence) -> Finding:
    finding = all_rules()[cause].check(evidence)
    speaks = any(m.speaks for m in finding.measures)
    assert speaks == (finding.verdict in ("indicated", "not_shown"))
    return finding


def told(puzzle: Case, **kept: Any) -> Evidence:
    """Evidence that has been measured already."""
    evidence = Evidence(puzzle)
    evidence._kept.update({tuple(key.split("__")): value for key, value in kept.items()})
    return evidence


def own(bits: float) -> pd.DataFrame:
    """Activations of three layers that leave so many bits of their ranges unused."""
    return pd.DataFrame({"min": 0.0, "max": 1.0, "stored_min": 0.0, "stored_max": 2.0**bits,
                         "scale": 2.0**bits / 255}, index=range(3))


@given(st.floats(-1, 3), st.floats(-1, 3), st.floats(0, 1))
@settings(deadline=None)
def test_stale_observers_count_what_ptq_does_not_leave_unused(
    qat: float, ptq: float, clipped: float
) -> None:
    seen = pd.DataFrame({"kind": "activation", "ratio": np.where(np.arange(100) < 100 * clipped,
                                                                 0.4, 1.0)})
    both = dataclasses.replace(healthy(), qat_graph=healthy().ptq_graph)
    finding = check("stale-observers", told(both, own__qat=own(qat), own__ptq=own(ptq),
                                            ranges__qat__evaluation=seen))
    unused = [round(float(np.log2(2.0**b)), 9) for b in (qat, ptq)]
    usual = unused[1] if 0 < unused[1] < 0.7 else 0.0
    share = float((seen["ratio"] < 0.5).mean())
    if abs(unused[0] - usual - 0.7) > 1e-6:
        assert (finding.verdict == "indicated") == (unused[0] - usual >= 0.7 or share >= 0.3)


looks = st.builds(
    calibration_rules._Ranges,
    wide=st.floats(0, 1), narrow=st.floats(0, 1), bits_lost=st.floats(-3, 3),
    widest=st.floats(0.1, 50),
    input_ratio=st.one_of(st.just(math.nan), st.floats(0.01, 300),
                          st.sampled_from([0.5, 1.0, 1.999, 2.0, 127.5, 255.0])),
    beyond=st.floats(0, 1), worth=st.sampled_from([0.5, 1, 2, 8, 16, 24, 32, 512.0]),
    calibration_used=st.sampled_from([None, True, False]),
    calibration_size=st.sampled_from([1, 16, 17, 64, 65, 300]),
    typical_ratio=st.floats(0.1, 10),
    elsewhere=st.one_of(st.just(math.nan), st.sampled_from([0.0, 0.09, 0.1, 0.3])),
)


@given(looks)
@settings(deadline=None, max_examples=400)
def test_calibration_causes_decide_as_they_are_described(look: Any) -> None:
    """Written once more as prose has it: other units, else too narrow, and then why."""
    if look.calibration_used is None:
        look = dataclasses.replace(look, calibration_size=None)
    if not look.calibration_used:
        look = dataclasses.replace(look, typical_ratio=None)
    verdicts = {
        cause: check(cause, told(healthy(), **{"calibration look": look})).verdict == "indicated"
        for cause in ("calibration-small", "calibration-shift", "calibration-outliers")
    }
    ratio = look.input_ratio
    limit = 2 * (1 - 1 / 255)
    units = not (math.isnan(ratio) or 1 / limit < ratio < limit)
    if units and look.typical_ratio is not None:
        units = not 1 / 1.5 < look.typical_ratio < 1.5
    elif units and ratio >= 1:
        units = any(abs(ratio / factor - 1) < 0.05 for factor in (2, 127.5, 255))
    if not math.isnan(ratio) and look.elsewhere >= 0.1:
        units = True
    narrow = look.narrow >= 0.3 and look.worth <= 16
    size = look.calibration_size if look.calibration_used else None
    large, small = size is not None and size > 64, size is not None and size <= 16
    assert verdicts == {
        "calibration-small": narrow and not large and (look.worth >= 1 or size is not None),
        "calibration-shift": units or (narrow and (large or (look.worth < 1 and not small))),
        "calibration-outliers": not units and (look.wide >= 0.3 or ratio >= 2),
    }


@given(st.lists(st.floats(0.001, 3), min_size=1, max_size=3),
       st.lists(st.floats(0.001, 3), min_size=1, max_size=3), st.booleans())
@settings(deadline=None)
def test_undertrained_reads_the_last_epoch(
    float_losses: list[float], qat_losses: list[float], equal: bool
) -> None:
    puzzle = case(healthy().ptq_graph, history=history(float_losses, qat_losses),
                  facts=EQUAL if equal else None)
    falling = False
    for losses in (float_losses, qat_losses):
        fall = 1.0 if len(losses) < 2 else 1 - losses[-1] / losses[-2]
        guessing = math.log(4)
        falling |= (fall >= 0.1 and losses[-1] >= 0.05) or (
            losses[-1] > 0.5 * guessing and fall >= 0.02)
    expected = ("indicated" if equal else "not_shown") if falling else "ruled_out"
    assert check("undertrained", Evidence(puzzle)).verdict == expected


@given(st.floats(0.1, 1), st.floats(0.1, 3), st.booleans())
@settings(deadline=None)
def test_learning_rate_reads_loss_and_weights(cosine: float, rise: float, still: bool) -> None:
    both = dataclasses.replace(healthy(), qat_graph=healthy().ptq_graph,
                               history=history([1.0], [rise]))
    layers = (SimpleNamespace(cosine=cosine, state="identical" if still else "moved"),)
    evidence = told(
        both, lineage__float__qat=SimpleNamespace(verdict="fine-tuned from", layers=layers),
    )
    expected = rise >= 1.5 or cosine < 0.95 or still
    assert (check("qat-learning-rate", evidence).verdict == "indicated") == expected


@given(st.floats(-20, 60), st.floats(-20, 60), st.floats(0, 256))
@settings(deadline=None)
def test_sensitive_layer_is_below_the_others_and_below_the_level(
    lowest: float, others: float, levels: float
) -> None:
    errors = pd.DataFrame({"layer": list("abcde"), "op": "CONV_2D",
                           "sqnr_db": [lowest, *[others] * 4]})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sensitive_layer, "layer_errors",
                        lambda *args, **options: SimpleNamespace(errors=errors))
        patched.setattr(sensitive_layer, "_levels", lambda evidence: {"t": levels})
        finding = check("sensitive-layer", told(healthy(), match__float__ptq=None))
    expected = errors["sqnr_db"].min() < min(errors["sqnr_db"].median() - 6, 25) or levels < 16
    assert (finding.verdict == "indicated") == expected


@pytest.mark.parametrize("p", [0.01, 0.05, 0.2])
def test_a_gain_that_noise_shares_is_no_regularisation(
    p: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    null = SimpleNamespace(output=SimpleNamespace(mean_pp=0.0, sd_pp=1.0, p=p, sentence="x."))
    monkeypatch.setattr(chance, "perturbation_null", lambda *args, **options: null)
    assert (check("regularisation", Evidence(puzzles()["gain"])).verdict == "indicated") == (
        p < 0.05)


@pytest.mark.parametrize(("margin", "speaks"), [(1.0, False), (1e-12, True)])
def test_kernels_of_a_regression_differ_by_what_would_matter(margin: float, speaks: bool) -> None:
    wanted = evaluate(float_graph(), data().x).outputs + 0.5
    puzzle = dataclasses.replace(healthy(), data=dataclasses.replace(
        data(), y=wanted, num_classes=0), metric="mae", margin=margin)
    finding = all_rules()["kernel-difference"].check(Evidence(puzzle))
    assert (finding.verdict == "indicated") == speaks
    assert any(measure.speaks for measure in finding.measures) == speaks


@given(st.sampled_from(["a_better", "b_better", "equivalent", "no_gap_seen", "cannot_tell"]),
       st.floats(-2, 2), st.floats(0, 2))
def test_noise_is_a_gap_whose_interval_holds_zero(verdict: str, low: float, width: float) -> None:
    holds = low <= 0 <= low + width
    if verdict in ("a_better", "b_better") and holds:
        return
    known = Evidence(healthy()).comparison("float", "ptq")
    made = dataclasses.replace(known, verdict=verdict, interval=(low, low + width))
    evidence = Evidence(healthy())
    evidence._kept["compared", False] = SimpleNamespace(pair=lambda a, b: made)
    finding = all_rules()["noise"].check(evidence)
    open_ = "indicated" if holds else "not_shown"
    expected = {"a_better": "ruled_out", "b_better": "ruled_out", "equivalent": "ruled_out",
                "no_gap_seen": open_, "cannot_tell": open_}[verdict]
    assert finding.verdict == expected
    assert any(m.speaks for m in finding.measures) == (expected == "indicated")


@given(st.lists(st.booleans(), min_size=8, max_size=8), st.integers(0, 3))
@settings(deadline=None, max_examples=30)
def test_a_lucky_checkpoint_is_the_best_and_flattered(right: list[bool], chosen: int) -> None:
    """Optimism is measured by itself; here it is taken as given and the choice is checked."""
    table = np.repeat(np.array(right).reshape(4, 2), N // 2, axis=1)
    prediction = np.where(table, data().y, (data().y + 1) % 4)
    puzzle = dataclasses.replace(healthy(), checkpoints={"ptq": prediction},
                                 claims={"ptq": Claim(prediction[chosen])})
    finding = check("lucky-checkpoint", Evidence(puzzle))
    best = table.mean(axis=1).max() == table[chosen].mean()
    assert (finding.verdict == "indicated") == (best and finding.numbers["ptq_optimism_pp"] >= 0.2)


def test_ties_count_from_more_than_three_in_a_hundred() -> None:
    tied = all_rules()["argmax-ties"].measures[0]
    assert [tied.of(count / 700).speaks for count in (20, 21, 22)] == [False, False, True]
