"""What files, outputs and accuracies tell unasked, and what they keep quiet about."""

from __future__ import annotations

import json
from math import comb
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as fb
from small_net import examples, small_net
from tiny_graphs import one_operator
from typer.testing import CliRunner

import qinspect as qi
from qinspect.cli import app
from qinspect.measure.activations import observe_ranges
from qinspect.measure.remarks import Scored, chance_remarks, float_worst, output_remarks
from qinspect.tflite import evaluate, read_graph
from qinspect.tflite.remarks import file_remarks
from qinspect.tflite.requantize import quantize_file

RNG = np.random.default_rng(0)


def with_scales(content: bytes, scales: dict[str, float]) -> bytes:
    """A file whose int8 tensors have these scales and the zero point 0."""
    model = fb.ModelT.InitFromPackedBuf(content, 0)
    for tensor in model.subgraphs[0].tensors:
        found = fb.QuantizationParametersT()
        found.scale, found.zeroPoint = [scales[tensor.name.decode()]], [0]
        tensor.quantization = found
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def joined(scale_of_scores: float) -> bytes:
    """Boxes and scores put together along the last axis; int8, boxes in steps of one."""
    whole, options = fb.TensorType.INT8, fb.ConcatenationOptionsT()
    options.axis = -1
    file = one_operator(
        fb.BuiltinOperator.CONCATENATION,
        [("boxes", (1, 3, 4), whole), ("scores", (1, 3, 2), whole)], [("out", (1, 3, 6), whole)],
        options=(fb.BuiltinOptions.ConcatenationOptions, options))
    return with_scales(file, {"boxes": 1.0, "scores": scale_of_scores, "out": 1.0})


@pytest.mark.parametrize(("scale", "said"), [(1 / 256, True), (1 / 255.5, True), (1.0, False)])
def test_a_part_below_one_step(scale: float, said: bool) -> None:
    found = file_remarks(read_graph(joined(scale)))
    assert [remark.id for remark in found] == ["below-step"] * said
    if said:
        assert "entries 4 to 5 of axis 2 come from 'scores'" in found[0].sentence
        # From -0.5 to 0.496 everything is rounded to zero.
        assert found[0].numbers["levels"] == len(np.unique(np.rint(np.arange(-128, 128) * scale)))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("shape", [[], [1, 3, 6]])
def test_damaged_scales_and_shapes(scale: float, shape: list[int]) -> None:
    model = fb.ModelT.InitFromPackedBuf(joined(0.01), 0)
    for tensor in model.subgraphs[0].tensors[1:]:
        tensor.shape, tensor.quantization.scale = shape, [scale]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    graph = read_graph(bytes(builder.Output()))
    assert not output_remarks(graph, np.zeros((20, 3, 6)), np.ones((20, 3, 6)))


def test_scores_that_share_the_scale_of_boxes(cases: Path) -> None:
    files = [cases / "03-yolo-head-traceback" / f"yolo_{name}.tflite" for name in ("float", "ptq")]
    found = qi.compare(files, cases / "03-yolo-head-traceback" / "yolo_x.npz").to_json()
    (remark,) = found["remarks"]
    assert (remark["id"], remark["file"]) == ("below-step", "yolo_ptq.tflite")
    assert remark["numbers"]["step"] == pytest.approx(1.19, abs=0.01)
    # The file alone says it, and so do the outputs where it does not.
    assert [r["id"] for r in qi.inspect(files[1]).files[0]["remarks"]] == ["below-step"]
    x = np.load(cases / "03-yolo-head-traceback" / "yolo_x.npz")["x"]
    ours, theirs = (evaluate(read_graph(file), x).outputs for file in files)
    assert theirs[..., 4:].max() == 0 < ours[..., 4:].max() < 1.19 / 2


def test_outputs_below_one_step_without_ranges_of_their_own() -> None:
    whole, options = fb.TensorType.INT8, fb.SubOptionsT()
    file = one_operator(
        fb.BuiltinOperator.SUB, [("a", (1, 6), whole), ("b", (1, 6), whole)],
        [("out", (1, 6), whole)], options=(fb.BuiltinOptions.SubOptions, options))
    graph = read_graph(with_scales(file, {"a": 1.0, "b": 1.0, "out": 1.0}))
    real = RNG.uniform(-100, 100, (50, 6)).astype(np.float32)
    real[:, 2:4] = RNG.uniform(0, 0.3, (50, 2))
    (found,) = output_remarks(graph, np.rint(real), real)
    assert found.id == "below-step"
    assert "entries 2 to 3 of axis 1" in found.sentence
    real[:, 2:4] *= 20
    assert not output_remarks(graph, np.rint(real), real)


def test_a_regression_stuck_at_the_end_of_its_range(cases: Path) -> None:
    folder = cases / "06-regression"
    x = np.load(folder / "reg_eval.npz")["x"]
    outputs = {name: evaluate(read_graph(folder / f"reg_{name}.tflite"), x).outputs
               for name in ("float", "ptq_int8", "qat")}
    for reference in (None, outputs["float"]):
        graph = read_graph(folder / "reg_qat.tflite")
        (found,) = output_remarks(graph, outputs["qat"], reference)
        assert found.id == "stuck-output"
        assert found.numbers["share"] == np.mean(outputs["qat"] > 7.98)
        graph = read_graph(folder / "reg_ptq_int8.tflite")
        assert not output_remarks(graph, outputs["ptq_int8"], reference)


@pytest.mark.parametrize(("hits", "near"), [(10, True), (14, True), (16, False), (100, False)])
def test_near_chance_is_the_exact_binomial(hits: int, near: bool) -> None:
    n, classes = 100, 10
    y = np.arange(n) % classes
    prediction = np.where(np.arange(n) < hits, y, (y + 5) % classes)
    found = chance_remarks({"one": Scored(prediction, y, classes)})
    p = sum(comb(n, k) * 0.1**k * 0.9 ** (n - k) for k in range(hits, n + 1))
    assert near == (p > 0.05) == bool(found)
    if near:
        assert found[0].numbers["p"] == pytest.approx(p, rel=1e-9)
        assert found[0].numbers["label_offset"] is None


def test_all_near_chance_is_one_sentence() -> None:
    y = RNG.integers(0, 10, 200)
    guesses = {name: Scored(RNG.permutation(y), y, 10) for name in ("a", "b")}
    (found,) = chance_remarks(guesses)
    assert (found.id, found.file) == ("all-near-chance", None)


def test_one_class_more_than_the_labels(cases: Path) -> None:
    files = [cases / "12-label-offset" / f"bg_{name}.tflite" for name in ("float", "ptq")]
    other = cases / "10-uint8-units" / "cls_float.tflite"
    data = cases / "12-label-offset" / "cls_eval.npz"
    found = [r for r in qi.compare(files, data).to_json()["remarks"] if r["id"] == "near-chance"]
    assert len(found) == 2
    assert "one class more than there are labels; with --label-offset 1 it" in found[0]["sentence"]
    shifted = qi.evaluate(files, data, preprocessing=[qi.tflite.inputs.Preprocessing(
        label_offset=1)] * 2)
    for remark, file in zip(found, files, strict=True):
        assert remark["numbers"]["accuracy_with_offset"] == shifted.value(file.name)
        assert round(100 * shifted.value(file.name), 1) in (96.6, 97.0)
    notes = qi.evaluate(files, data).notes
    assert sum("with --label-offset 1 it would be" in note for note in notes) == 2
    assert not any("guessing" in note for note in shifted.notes)
    (mixed,) = qi.compare([other, files[0]], data).to_json()["remarks"]
    assert "--label-offset 2=1" in mixed["sentence"]
    told = qi.diagnose(qi.case(float=files[0], ptq=files[1], data=data), interventions=False)
    assert {r.id for r in told.remarks} == {"near-chance"}
    assert all("with --label-offset 1 it" in r.sentence for r in told.remarks)


@pytest.mark.parametrize(("right", "said"), [
    ((500, 560, 580), True), ((500, 560, 505), False), ((500, 503, 580), False),
    ((580, 560, 500), False),
])
def test_float_worst_needs_every_other_file(right: tuple[int, ...], said: bool) -> None:
    y = np.arange(1000) % 10
    # Who is better is right wherever the others are: few disagreements make small gaps sure.
    predictions = {name: np.where(np.arange(1000) < hits, y, 9 - y)
                   for name, hits in zip(("float", "ptq", "qat"), right, strict=True)}
    found = qi.compare(predictions, y)
    assert [r.id for r in float_worst(found, "float", ["qat"])] == ["float-worst"] * said
    # Training on may well help.
    assert not float_worst(found, "float", ["ptq", "qat"])


def test_a_real_but_small_gain_is_not_told() -> None:
    y = np.arange(20_000) % 10
    found = qi.compare({"float": np.where(np.arange(20_000) < 10_000, y, 9 - y),
                        "ptq": np.where(np.arange(20_000) < 10_100, y, 9 - y)}, y)
    assert found.pair("float", "ptq").verdict == "b_better"
    assert not float_worst(found, "float", ["qat"])


def test_units_that_two_files_contradict(cases: Path) -> None:
    folder = cases / "10-uint8-units"
    files = {name: folder / f"cls_{name}.tflite" for name in ("float", "ptq", "qat")}
    with pytest.raises(qi.QinspectError, match="the PTQ and the QAT file: x runs from 0 to 255"):
        qi.diagnose(qi.case(**files, data=folder / "cls_u8.npz"), interventions=False)
    del files["qat"]
    told = qi.diagnose(qi.case(**files, data=folder / "cls_u8.npz"), interventions=False)
    assert [r.id for r in told.remarks] == ["input-units"]
    scaled = qi.case(**files, data=folder / "cls_u8.npz", input_scale=1 / 255)
    assert not qi.diagnose(scaled, interventions=False).remarks


def test_healthy_files_have_no_remarks(tmp_path: Path) -> None:
    graph = read_graph(small_net())
    (tmp_path / "float.tflite").write_bytes(graph.content)
    bounds = observe_ranges(graph, examples(100)).over()
    (tmp_path / "ptq.tflite").write_bytes(quantize_file(graph, bounds))
    x = examples(160, seed=6)
    np.savez(tmp_path / "data.npz", x=x, y=evaluate(graph, x).prediction)
    done = CliRunner().invoke(app, ["compare", *map(str, tmp_path.glob("*.tflite")), "--data",
                                    str(tmp_path / "data.npz"), "--json"])
    assert json.loads(done.stdout)["remarks"] == []
