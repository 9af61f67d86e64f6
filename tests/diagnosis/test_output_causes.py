"""Causes in the last scale of a file: too narrow for its values, or too wide for a part."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
from diagnose_cases import calibration, case, data, float_graph, graph_of, int8, ranges

import qinspect as qi
from qinspect.causes import all_rules
from qinspect.diagnosis.cases import Case
from qinspect.diagnosis.engine import diagnose
from qinspect.diagnosis.evidence import Evidence
from qinspect.measure.activations import observe_ranges
from qinspect.measure.remarks import output_remarks
from qinspect.tflite import evaluate
from qinspect.tflite.constants import all_weights, constant
from qinspect.tflite.graph import Graph
from qinspect.tflite.requantize import Ranges, quantize_file, replace_constants
from qinspect_bench import faults
from qinspect_bench.base import Base, Cell, base_spec


@functools.cache
def scores(factor: float = 1.0) -> Graph:
    """The small network without softmax; its first two outputs are multiplied by a factor."""
    graph = graph_of(faults.without_softmax(float_graph()))
    weight = all_weights(graph)[-1]
    assert weight.bias is not None
    values = {}
    for tensor in (weight.tensor, weight.bias):
        changed = np.array(constant(graph, tensor))
        changed[:2] *= factor
        values[tensor.index] = changed
    return graph_of(replace_constants(graph, values), "float.tflite")


def regression(cut: float = 1.0, factor: float = 1.0, **parts: object) -> Case:
    """Targets are the float file's outputs; PTQ holds ``cut`` of the range of the output."""
    graph = scores(factor)
    observed = observe_ranges(graph, calibration()).over()
    name = graph.main.tensors[graph.main.outputs[0]].name
    low, high = observed.bounds[name]
    narrow = Ranges({**observed.bounds, name: (cut * low, cut * high)})
    wanted = evaluate(graph, data().x).outputs
    y = wanted + 1e-3 * np.random.default_rng(0).normal(size=wanted.shape)
    told = dataclasses.replace(data(), y=y, num_classes=0)
    ptq = graph_of(quantize_file(graph, narrow, "int8"), "ptq.tflite")
    return Case(**({"float_graph": graph, "ptq_graph": ptq, "data": told, "metric": "mae"} | parts))


# --- output-saturated -------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [0.3, 0.6])
def test_a_regression_cut_off_at_the_end_of_its_range(cut: float) -> None:
    found = diagnose(regression(cut))
    assert (found.primary, found.proved) == ("output-saturated", True)
    effect = found.cause("output-saturated").effect
    assert effect is not None
    # The rest is what int8 costs.
    assert effect.closed_share > 0.4
    graph = found.case.ptq_graph
    assert graph is not None
    low, high = graph.main.tensors[graph.main.outputs[0]].stored_range or (0, 0)
    step = (high - low) / 255
    wanted = evaluate(scores(), data().x).outputs
    own = evaluate(graph, data().x).outputs
    beyond = ((own >= high - step / 2) & (wanted > high + step)) | (
        (own <= low + step / 2) & (wanted < low - step))
    numbers = found.cause("output-saturated").finding.numbers
    assert numbers["ptq_stuck_share"] == pytest.approx(beyond.mean(), abs=1e-3)


def test_a_healthy_regression_is_not_cut_off() -> None:
    for puzzle in (regression(), regression(factor=0.5)):
        for cause in ("output-saturated", "output-below-one-step"):
            assert all_rules()[cause].check(Evidence(puzzle)).verdict == "ruled_out"


def test_ranges_that_are_narrow_everywhere_are_another_cause() -> None:
    """All of them too narrow: the output alone, mended, does not close the gap."""
    graph = scores()
    bounds = observe_ranges(graph, calibration() * np.float32(0.15)).over()
    ptq = graph_of(quantize_file(graph, bounds, "int8"))
    found = diagnose(regression(ptq_graph=ptq))
    assert found.primary == "calibration-shift"
    assert not found.cause("output-saturated").confirmed


@pytest.mark.parametrize("strength", ["mild", "strong"])
def test_the_fault_is_named_where_classes_count(tmp_path: Path, strength: str) -> None:
    cell = Cell("plain_cnn", 0)
    good = case(int8(ranges(calibration())), qat_graph=int8(ranges(data().x)),
                calibration_x=calibration())
    base = Base(cell, tmp_path, base_spec(cell, tmp_path / "m.h5", "digits"), good)
    made = faults.output_saturated(base, good, strength, 0)
    found = diagnose(made.case)
    assert (found.primary, found.proved) == ("output-saturated", True)
    assert made.before is not None
    assert diagnose(made.before).primary in ("none", "undecided", "noise")


# --- output-below-one-step --------------------------------------------------------------------


def test_a_target_below_one_step_of_the_shared_scale() -> None:
    puzzle = regression(factor=1e-3)
    found = all_rules()["output-below-one-step"].check(Evidence(puzzle))
    assert found.verdict == "indicated"
    assert found.numbers["ptq_lost_parts"] == 2
    own = evaluate(puzzle.ptq_graph, data().x).outputs[:, :2]  # type: ignore[arg-type]
    assert max(len(np.unique(own[:, at])) for at in (0, 1)) <= 2
    answered = diagnose(puzzle)
    effect = answered.cause("output-below-one-step").effect
    assert effect is not None
    assert effect.amount > 0


def test_scores_that_share_the_scale_of_boxes(cases: Path) -> None:
    folder = cases / "03-yolo-head-traceback"
    x = np.load(folder / "yolo_x.npz")["x"]
    wanted = evaluate(str(folder / "yolo_float.tflite"), x).outputs
    examples = qi.tflite.inputs.load_examples((x, wanted))
    puzzle = qi.case(float=folder / "yolo_float.tflite", ptq=folder / "yolo_ptq.tflite",
                     data=examples, metric="mae")
    found = all_rules()["output-below-one-step"].check(Evidence(puzzle))
    assert found.verdict == "indicated"


def test_classes_are_left_to_ties() -> None:
    found = all_rules()["output-below-one-step"].check(Evidence(case(int8(ranges(calibration())))))
    assert found.verdict == "does_not_apply"
    assert "argmax-ties" in found.sentence


def test_a_whole_output_below_one_step_is_said() -> None:
    """Every example gives the same number: a range of one outlier, say."""
    graph = scores()
    observed = observe_ranges(graph, calibration()).over()
    name = graph.main.tensors[graph.main.outputs[0]].name
    wide = Ranges({**observed.bounds, name: (-5e3, 5e3)})
    coarse = graph_of(quantize_file(graph, wide, "int8"))
    own, wanted = (evaluate(one, data().x).outputs for one in (coarse, graph))
    (told,) = output_remarks(coarse, own, wanted)
    assert told.id == "below-step"
    assert np.ptp(own, axis=0).max() <= told.numbers["step"] * 1.01
    found = diagnose(regression(ptq_graph=coarse))
    assert found.cause("output-below-one-step").confirmed
