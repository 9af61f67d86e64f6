"""A diagnosis of outputs recorded elsewhere: which of them differ by kernels, which by mistake."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from pathlib import Path

import numpy as np
import pytest
from diagnose_cases import N, calibration, case, data, float_graph, graph_of, int8, moved, ranges

from qinspect.causes.evaluation import mistakes
from qinspect.diagnosis.answer import Diagnosis
from qinspect.diagnosis.cases import Case
from qinspect.diagnosis.cases import case as make_case
from qinspect.diagnosis.engine import diagnose
from qinspect.errors import SpecError
from qinspect.schema import Array
from qinspect.tflite import evaluate
from qinspect.tflite.constants import all_weights, constant
from qinspect.tflite.graph import Graph
from qinspect.tflite.requantize import replace_constants
from qinspect.tflite.run import Evaluation

CAUSES = ("kernel-difference", "evaluation-mismatch", "input-quantization", "calibration-shift")


@functools.cache
def base() -> Case:
    return case(int8(ranges(calibration())), calibration_x=calibration())


@functools.cache
def own() -> Evaluation:
    assert base().ptq_graph is not None
    return evaluate(base().ptq_graph.content, data().x)


@functools.cache
def broken() -> Array:
    """What a device gives that computes the first convolution's weights wrongly."""
    graph = base().ptq_graph
    assert graph is not None
    tensor = all_weights(graph)[0].tensor
    stored = np.array(constant(graph, tensor))
    stored[:3] = -stored[:3]
    changed = replace_constants(graph, {tensor.index: stored})
    return evaluate(graph_of(changed).content, data().x).raw


def found(outputs: object, causes: tuple[str, ...] = CAUSES, **parts: object) -> Diagnosis:
    return diagnose(dataclasses.replace(base(), recorded={"ptq": outputs}, **parts),  # type: ignore[arg-type]
                    causes=causes)


def from_this_file(name: str, recorded: Array) -> dict[str, Array]:
    """A recording that says which file ran."""
    assert base().ptq_graph is not None
    return {name: recorded, "model_sha256": np.array(
        hashlib.sha256(base().ptq_graph.content).hexdigest())}


def test_a_broken_operator_is_a_kernel_difference_and_proved() -> None:
    told = found(from_this_file("outputs", broken()))
    assert (told.primary, told.proved) == ("kernel-difference", True)
    cause = told.cause("kernel-difference")
    numbers = cause.finding.numbers
    flips = int(np.count_nonzero(broken().argmax(axis=1) != own().prediction))
    gap = np.abs(broken().astype(int) - own().raw)
    assert numbers["ptq_flips"] == flips
    assert numbers["ptq_outputs_differ"] == int((gap > 0).any(axis=1).sum())
    assert numbers["ptq_largest_steps"] == pytest.approx(gap.max(), rel=1e-5)
    y = data().labels
    # The gap is the recorded one, and what closes it is the file run here.
    assert told.focus.gap == pytest.approx(100 * np.mean(broken().argmax(axis=1) == y) - 100)
    assert cause.effect is not None
    assert cause.effect.amount == pytest.approx(
        100 * (np.mean(broken().argmax(axis=1) == y) - np.mean(own().prediction == y)))
    for other in ("evaluation-mismatch", "input-quantization"):
        assert told.cause(other).verdict == "ruled_out"
    assert told.sentence.startswith("PTQ: the gap is that of recorded outputs")
    assert told.card.models[1].file == "ptq.tflite, recorded"


def test_the_same_is_proved_of_classes_alone() -> None:
    told = found(from_this_file("predictions", broken().argmax(axis=1)))
    assert (told.primary, told.proved) == ("kernel-difference", True)


@pytest.mark.parametrize("kernels", ["default", "reference"])
def test_kernels_that_agree_are_ruled_out_with_numbers(kernels: str) -> None:
    assert base().ptq_graph is not None
    some = evaluate(base().ptq_graph.content, data().x, kernels=kernels)  # type: ignore[arg-type]
    cause = found(some.raw).cause("kernel-difference")
    assert cause.verdict == "ruled_out"
    assert f"of {N:,} predictions differ" in cause.finding.sentence
    assert cause.finding.numbers["ptq_flips"] <= 2


def other_file() -> Graph:
    return moved(0.3)


@pytest.mark.parametrize(("change", "said", "primary"), [
    (lambda raw: raw[np.random.default_rng(1).permutation(N)], "order was lost",
     "evaluation-mismatch"),
    (lambda raw: raw[::-1], "reversed order", "evaluation-mismatch"),
    (lambda raw: np.repeat(raw[:1], N, axis=0), "same for every example", "unexplained"),
    (lambda raw: np.random.default_rng(1).integers(-128, 128, raw.shape).astype(raw.dtype),
     "have no more to do", "unexplained"),
    (lambda raw: np.roll(raw, 1, axis=1), "number the classes", "evaluation-mismatch"),
])
def test_what_is_no_kernel_difference_is_said(change, said: str, primary: str) -> None:
    told = found(change(own().raw).copy())
    assert told.primary == primary
    cause = told.cause("kernel-difference")
    assert cause.verdict == "not_shown"
    assert said in cause.finding.sentence
    if primary == "unexplained":
        assert told.cause("evaluation-mismatch").verdict == "not_shown"
    assert "shows no difference of kernels" in cause.finding.sentence


@pytest.mark.parametrize(("recorded", "primary", "said"), [
    (lambda: {"predictions": own().prediction[np.random.default_rng(3).permutation(N)]},
     "evaluation-mismatch", "the order was lost"),
    (lambda: {"predictions": np.zeros(N, int)}, "unexplained", "class 0 for every example"),
    (lambda: {"predictions": own().prediction}, "none", "are its own (0 of"),
    (lambda: np.full((N, 4), np.nan), "unexplained", "NaN or infinite for every example"),
    # No answer for every other example is a fault of the device that its outputs show.
    (lambda: np.where(np.arange(N)[:, None] % 2, own().outputs, np.nan), "kernel-difference",
     f"{N // 2} of {N} predictions"),
])
def test_classes_alone_and_no_answers(recorded, primary: str, said: str) -> None:
    told = found(recorded())
    assert told.primary == primary
    assert said in told.cause("kernel-difference").finding.sentence


def test_a_device_that_was_fed_wrongly() -> None:
    graph = base().ptq_graph
    assert graph is not None
    fed = {name: x for name, _, x in mistakes(graph, data().x)}["cast"]
    told = found(evaluate(graph.content, fed).raw)
    assert told.primary == "input-quantization"
    assert "casting x to the input's type" in told.cause("kernel-difference").finding.sentence


def test_outputs_of_another_file_are_named() -> None:
    three = dataclasses.replace(base(), qat_graph=other_file(), recorded={
        "ptq": evaluate(other_file().content, data().x).outputs})
    told = diagnose(three, causes=CAUSES)
    assert told.cause("kernel-difference").verdict == "not_shown"
    assert "are those of qat" in told.cause("kernel-difference").finding.sentence


def test_a_checksum_tells_another_file_from_other_kernels() -> None:
    """The outputs of a file trained on are as far off as those of a broken operator."""
    other = other_file()
    told = found(from_this_file("outputs", broken()))
    assert (told.primary, told.proved) == ("kernel-difference", True)
    assert "this very file, by its checksum" in told.cause("kernel-difference").finding.sentence
    raw = evaluate(other.content, data().x).raw
    told = found(raw)
    assert "if the device ran this very file" in told.cause("kernel-difference").finding.sentence
    assert (told.primary, told.proved) == ("kernel-difference", False)
    assert "record its checksum (model_sha256)" in told.card.sure
    told = found({"outputs": raw, "model_sha256": np.array(
        hashlib.sha256(other.content).hexdigest())})
    assert told.primary == "evaluation-mismatch"
    assert told.cause("kernel-difference").verdict == "not_shown"
    assert "another file, by its checksum" in told.cause("kernel-difference").finding.sentence


def test_of_a_regression_the_metric_decides() -> None:
    wanted = evaluate(float_graph(), data().x).outputs
    numbers = {"data": dataclasses.replace(data(), y=wanted, num_classes=0), "metric": "mae"}
    told = found(from_this_file("outputs", broken()), ("kernel-difference",), **numbers,
                 margin=1e-3)
    assert (told.primary, told.proved) == ("kernel-difference", True)
    told = found(own().raw, ("kernel-difference",), **numbers, margin=1e-3)
    assert told.cause("kernel-difference").verdict == "ruled_out"
    mixed = own().raw[np.random.default_rng(1).permutation(N)]
    told = found(mixed, ("kernel-difference",), **numbers, margin=1e-3)
    assert "order was lost" in told.cause("kernel-difference").finding.sentence
    assert told.primary != "kernel-difference"


def test_the_debuggers_table_says_which_operator(tmp_path: Path) -> None:
    graph = base().ptq_graph
    assert graph is not None
    first = graph.main.operators[0]
    name = graph.main.tensors[first.outputs[0]].name
    table = tmp_path / "accuracy_summary.csv"
    table.write_text(
        "Index,Op Code,Tensor Name,Max Diff,MSE,Cos Sim,SNR (dB),PSNR (dB),NaN,Min Ref,Max Ref,"
        f"Min Accel,Max Accel,Status\n0,tfl.x,{name},90,1,1,1,1,N,-128,127,-128,127,REGRESSION\n")
    told = found(broken(), ("kernel-difference",), debugger={"ptq": table})
    cause = told.cause("kernel-difference")
    assert (told.primary, told.proved) == ("kernel-difference", True)
    assert cause.finding.numbers["ptq_operator"] == first.index
    assert f"operator {first.index} ({first.code}" in cause.finding.sentence
    # With the table, outputs that have nothing to do with the file's own are those of its operator.
    noise = np.random.default_rng(1).integers(-128, 128, broken().shape).astype(np.int8)
    assert found(noise, debugger={"ptq": table}).primary == "kernel-difference"
    # Without outputs that were recorded it shows no gap, and excludes none.
    alone = diagnose(dataclasses.replace(base(), debugger={"ptq": table}),
                     causes=["kernel-difference"]).cause("kernel-difference")
    assert alone.verdict == "not_shown"
    assert "--recorded" in alone.finding.sentence
    with pytest.raises(SpecError, match="no file of the case"):
        dataclasses.replace(base(), debugger={"qat": table})


def test_recorded_of_no_file_or_twice() -> None:
    with pytest.raises(SpecError, match="no file of the case"):
        dataclasses.replace(base(), recorded={"qat": own().raw})
    with pytest.raises(SpecError, match="give one of them"):
        make_case(float=float_graph(), ptq=base().ptq_graph, data=data(),
                  claims={"ptq": own().prediction}, recorded={"ptq": own().raw})


def test_labels_for_predictions_are_no_kernels() -> None:
    """The gap to them would close with every kernel."""
    y = np.where(np.arange(N) < 80, (own().prediction + 1) % 4, own().prediction)
    told = found(y, data=dataclasses.replace(data(), y=y))
    assert told.primary != "kernel-difference"
    assert "are the labels of the examples" in told.card.first


def test_bytes_of_the_other_sign_are_told_without_blaming_the_examples() -> None:
    told = found(own().raw ^ np.int8(-128))
    assert told.primary == "evaluation-mismatch"
    assert "int8 was taken for uint8" in told.card.first
    assert told.card.cause.startswith("predictions are not those of the file")
    assert "aking what the file gives here in the place of what was recorded" in told.card.change
