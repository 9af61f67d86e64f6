"""What must not be named, or not be proved: causes of another file, gap or network."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnose_cases import (
    N,
    calibration,
    case,
    data,
    finding,
    float_graph,
    graph_of,
    history,
    int8,
    moved,
    ranges,
    trained,
)
from small_net import small_net

from qinspect.causes import all_rules
from qinspect.causes.kernels import _before_softmax
from qinspect.diagnosis.cases import Case, TrainingFacts
from qinspect.diagnosis.engine import diagnose, measure_effect
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.requantized import kept_in_float, remade
from qinspect.diagnosis.retrain import Training
from qinspect.diagnosis.rule import (
    FORMAT,
    LAYERS,
    Finding,
    Measure,
    Remedy,
    Rule,
    Trial,
    indicated,
    speaking,
)
from qinspect.measure.activations import observe_ranges
from qinspect.tflite import read_graph
from qinspect.tflite.constants import all_weights, constant
from qinspect.tflite.graph import Graph
from qinspect.tflite.requantize import Ranges, quantize_file, replace_constants
from qinspect_bench.rewired import in_dynamic_range


def healthy() -> Graph:
    return int8(ranges(calibration()))


def shrunk(graph: Graph, factor: float) -> Graph:
    """The same function: activations of the hidden layers are so many times as large."""
    first, last = all_weights(graph)[0], all_weights(graph)[-1]
    assert first.bias is not None
    kernel, bias, dense = (np.asarray(constant(graph, one))
                           for one in (first.tensor, first.bias, last.tensor))
    return graph_of(replace_constants(graph, {
        first.tensor.index: kernel * factor, first.bias.index: bias * factor,
        last.tensor.index: dense / factor}))


def as_qat(graph: Graph) -> Graph:
    """An int8 file whose ranges fit its own activations; nothing says how it was quantized."""
    bounds = dict(observe_ranges(graph, calibration()).over().bounds)
    bounds |= {name: (-0.1 * high, high) for name, (_, high) in bounds.items()
               if name.endswith("Relu")}
    return graph_of(quantize_file(graph, Ranges(bounds), "int8"), "qat.tflite")


# --- ranges are held against what flows with the file's own weights -------------------------------


@pytest.mark.parametrize("parent", ["trained on", "another network"])
def test_ranges_that_fit_their_own_weights_are_not_stale(parent: str) -> None:
    """Float's activations are ten times as large as QAT's, whose fault is in its weights."""
    graph = trained(0.2) if parent == "trained on" else graph_of(small_net(7))
    given = case(healthy(), qat_graph=as_qat(shrunk(graph, 0.08)))
    found = diagnose(given)
    assert found.focus.gap < -10
    assert found.cause("stale-observers").verdict == "ruled_out"
    assert found.primary == ("unexplained" if parent == "trained on" else "different-network")
    assert not found.proved


def test_a_qat_file_made_anew_with_its_own_ranges_answers_what_it_did() -> None:
    evidence = Evidence(case(healthy(), qat_graph=moved(0.2, relu_below_zero=True)))
    again = remade(evidence, role="qat")
    assert np.mean(again == evidence.own_answers("qat")) > 0.99


# --- what a remedy shows --------------------------------------------------------------------------


def test_a_control_that_loses_more_than_the_file_proves_nothing() -> None:
    """Remaking the file does the harm that the remedy takes away: the file has none of it."""
    evidence = Evidence(case(int8(ranges(calibration() * np.float32(0.1)))))
    focus, own = evidence.comparison("float", "ptq"), evidence.own_answers("ptq")
    assert focus.significant
    spoilt = (data().y + 1) % 4
    assert not measure_effect(
        evidence, focus, Trial("x", {"ptq": own}, controls={"ptq": spoilt})).confirmed
    mended = measure_effect(evidence, focus, Trial("x", {"ptq": data().y},
                                                   controls={"ptq": spoilt}))
    assert mended.confirmed
    assert mended.closed_share == pytest.approx(1)
    assert mended.lifts["ptq"][0] == pytest.approx(-focus.gap)


def doubtful(*remedies: Remedy, strength: float = 1.0, **more: Any) -> Rule:
    """A cause that the files show, with remedies of the tests' own."""
    seen = Measure("x", "x", threshold=True, side="above")
    return dataclasses.replace(
        all_rules()["sensitive-layer"], requires=(), measures=(seen,), remedies=remedies,
        check=lambda evidence: indicated("x.", (seen.of(True),), hurts=("ptq",), strength=strength),
        **{"id": "doubtful", "rank": FORMAT} | more)


def gives(done: str, right: float, doubt: str = "") -> Remedy:
    """Puts so large a share of PTQ's answers right."""

    def apply(evidence: Evidence, found: Finding) -> Trial:
        own, y = evidence.own_answers("ptq"), evidence.data.labels
        return Trial(done, {"ptq": np.where(np.arange(N) < right * N, y, own)}, doubt=doubt)

    return Remedy(done, (), apply)


WIDE = gives("a wide remedy", 1.0, "only y tells.")


@pytest.mark.parametrize(("later", "answer", "proved", "done"), [
    ((), "doubtful", False, "a wide remedy"),
    ((gives("a narrow one", 1.0),), "doubtful", True, "a narrow one"),
    ((gives("a narrow one", 0.0),), "unexplained", False, "a narrow one"),
    ((Remedy("none", (), lambda evidence, found: None),), "doubtful", False, "a wide remedy"),
    ((Remedy("none", ("keras_qat",), lambda evidence, found: None),), "doubtful", False,
     "a wide remedy"),
], ids=["nothing else", "closes", "closes nothing", "does not apply", "lacks something"])
def test_a_remedy_with_a_doubt_holds_until_one_without(
    later: tuple[Remedy, ...], answer: str, proved: bool, done: str,
) -> None:
    given = case(int8(ranges(calibration() * np.float32(0.1))))
    found = diagnose(given, causes=[doubtful(WIDE, *later)])
    assert (found.primary, found.proved) == (answer, proved)
    effect = found.cause("doubtful").effect
    assert effect is not None
    assert effect.done == done
    assert ("only y tells" in found.card.sure) == (done == WIDE.title)
    assert not any(word in found.card.sure for word in ("needs", "does not apply"))


@pytest.mark.parametrize("strength", [1.0, 0.9])
def test_what_the_files_show_is_said_before_what_mends_another(strength: float) -> None:
    """The doubt stays; only where the files themselves leave none is the cause named at all."""
    given = case(int8(ranges(calibration() * np.float32(0.1))))
    sure = doubtful(gives("another remedy", 1.0), id="proved", rank=LAYERS)
    found = diagnose(given, causes=[sure, doubtful(WIDE, strength=strength)])
    shown = strength == 1.0
    assert (found.primary, found.proved) == (("doubtful", False) if shown else ("proved", True))
    assert found.cause("proved").confirmed
    assert ("(proved)" in found.card.left) == shown
    assert found.cause("doubtful").verdict == ("indicated" if shown else "not_shown")


@pytest.mark.parametrize("spoilt", [True, False])
def test_a_rate_that_spoils_float_as_well_is_seen(spoilt: bool) -> None:
    """Neither loss nor weights tell; the float model trained on at that rate does."""
    facts = TrainingFacts(float_epochs=1, qat_epochs=1, float_lr=1e-3, qat_lr=1e-2)
    evidence = Evidence(case(healthy(), qat_graph=moved(0.2, relu_below_zero=True), facts=facts))
    own = evidence.own_answers("ptq")
    worse = np.where(np.arange(N) < N // 4, (data().y + 1) % 4, own)
    evidence._kept[Training("ptq trained on").key] = worse if spoilt else own
    rule = all_rules()["qat-learning-rate"]
    told = dataclasses.replace(rule.check(evidence), verdict="not_tried", measures=())
    trial = rule.remedies[0].apply(evidence, told)
    assert trial is not None
    assert speaking(trial.seen) == spoilt


def test_what_helps_one_file_and_spoils_the_other_is_no_preprocessing() -> None:
    """PTQ was calibrated in other units; in those it is better, and QAT is worse."""
    found = diagnose(Case(ptq_graph=int8(ranges(calibration() * np.float32(0.15))),
                          qat_graph=moved(0.02, relu_below_zero=True), data=data()))
    tried = found.cause("preprocessing-mismatch")
    assert tried.finding.verdict == "indicated"
    assert tried.effect is not None
    assert tried.effect.lifts["qat"][0] < 0 < tried.effect.lifts["ptq"][0]
    assert tried.verdict == "not_shown"
    assert found.primary != "preprocessing-mismatch"


# --- the file and the gap that it is about --------------------------------------------------------


@pytest.mark.parametrize("kind", ["different-network", "qat-not-applied",
                                  "layers-left-out-of-qat"])
def test_what_is_wrong_with_qat_does_not_explain_float_against_ptq(kind: str) -> None:
    ptq = int8(ranges(calibration() * np.float32(0.15)))
    made = {
        "different-network": as_qat(graph_of(small_net(7))),
        "qat-not-applied": graph_of(in_dynamic_range(trained(0.2))),
        "layers-left-out-of-qat": graph_of(
            quantize_file(trained(0.2), ranges(calibration()), "int8", {0: "float32"})),
    }
    found = diagnose(case(ptq, qat_graph=made[kind]), interventions=False)
    cause = found.cause(kind)
    assert cause.finding.verdict == "indicated"
    focus = found.gap("float", "ptq")
    assert focus is not None
    assert not cause.may_explain(focus)
    other = found.gap("ptq", "qat")
    assert other is not None
    assert cause.may_explain(other) or other.worse not in cause.finding.hurts


def test_choosing_the_best_checkpoint_explains_no_more_than_it_flatters() -> None:
    """A gap of 20 points, checkpoints alike but for the last one, which diverged."""
    rng, y = np.random.default_rng(0), data().y
    table = np.where(rng.random((10, N)) < 0.02, (y + 1) % 4, y)
    table[-1] = np.where(rng.random(N) < 0.4, (y + 1) % 4, y)
    ptq = int8(ranges(calibration() * np.float32(0.15)))
    given = Case(ptq_graph=ptq, qat_graph=moved(0.02, relu_below_zero=True), data=data(),
                 checkpoints={"qat": table})
    found = diagnose(given)
    cause = found.cause("lucky-checkpoint")
    assert cause.finding.verdict == "indicated"
    assert found.focus.gap > 15 > 10 * cause.finding.most["ptq"]
    assert (cause.verdict, cause.effect) == ("not_shown", None)


def test_that_qat_trained_does_not_explain_why_it_is_worse() -> None:
    """Every QAT does; nothing of these files says what went wrong, and what would is named."""
    found = diagnose(case(healthy(), qat_graph=moved(0.2, relu_below_zero=True)))
    assert found.focus.gap < -10
    assert found.primary == "unexplained"
    assert "the float Keras model" in found.card.advice
    better = case(as_qat(trained(0.2)), float_graph=None, qat_graph=healthy())
    assert finding("training-budget", better).verdict == "indicated"
    logged = case(healthy(), qat_graph=moved(0.2, relu_below_zero=True),
                  history=history([1, 0.5], [0.4]))
    assert finding("training-budget", logged).verdict == "not_shown"


# --- few examples, one class, two outputs ---------------------------------------------------------


def test_few_examples_are_not_unlike_the_training_data() -> None:
    """Of 12 of them the distance is large, as it is in most such draws."""
    x, there = data().take(np.arange(12)), data().take(np.arange(300, N))
    few = finding("distribution-shift", case(healthy(), data=x, train=there))
    assert few.numbers["largest_distance"] > 0.2
    assert few.verdict == "not_tried"
    other = dataclasses.replace(there, x=there.x * np.float32(0.2))
    shifted = finding("distribution-shift", case(healthy(), data=x, train=other))
    assert shifted.verdict == "indicated"


@pytest.mark.filterwarnings("error")
def test_one_class_has_no_loss_of_guessing() -> None:
    only = data().take(np.flatnonzero(data().y == 0))
    given = case(healthy(), data=dataclasses.replace(only, num_classes=1),
                 history=history([1.0, 0.5], [0.5, 0.2]))
    assert finding("undertrained", given).numbers["qat_loss_of_guessing_share"] == 0


def test_values_before_the_softmax_are_those_of_the_output_that_is_scored(cases: Path) -> None:
    graph = read_graph(cases / "04-output-order" / "mo_ptq.tflite")
    main = graph.main
    for number, output in enumerate(main.outputs):
        tensor = _before_softmax(graph, number)
        assert tensor is not None
        assert main.tensors[tensor].shape == main.tensors[output].shape
    assert len({main.tensors[output].shape for output in main.outputs}) == 2


def test_a_file_of_16_bits_is_made_anew_with_16_bits() -> None:
    """One weight scale is its fault; ranges 40 times too wide cost it nothing, and int8 all."""
    graph = float_graph(0, 300.0)
    seen = observe_ranges(graph, calibration()).over()
    wide = {name: (40 * low, 40 * high) for name, (low, high) in seen.bounds.items()}
    ptq = graph_of(quantize_file(graph, Ranges(wide, frozenset({0})), "int16x8"))
    found = diagnose(case(ptq, 300.0))
    assert (found.primary, found.proved) == ("per-tensor-weights", True)
    assert not found.cause("sensitive-layer").confirmed
    assert not found.cause("calibration-outliers").confirmed


def test_keeping_every_layer_in_float_tells_of_none() -> None:
    evidence = Evidence(case(healthy()))
    every = range(len(float_graph().main.operators))
    assert kept_in_float(evidence, every) is None
    assert kept_in_float(evidence, [0]) is not None


def test_layers_of_a_file_that_stores_no_ranges_are_not_judged_by_another_file() -> None:
    """Made anew with int8 activations it would lose, or not, what the file at hand does not."""
    ptq = graph_of(in_dynamic_range(float_graph(0, 1_000.0)), "dynamic.tflite")
    given = case(ptq, 1_000.0)
    cause = diagnose(given).cause("sensitive-layer")
    assert (cause.verdict, cause.effect) == ("not_shown", None)
    assert "depthwise" in cause.finding.sentence
