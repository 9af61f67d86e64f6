"""Comparing files on the same examples: preprocessing, pairing, flips, layers, report."""

from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from small_net import examples, small_net

from qinspect.affine import quantize
from qinspect.comparisons import FileComparison, compare
from qinspect.errors import DataError, ModelFileError, SpecError
from qinspect.measure.activations import observe_ranges
from qinspect.show.terminal import print_view
from qinspect.show.view import view_of
from qinspect.stats import compare_paired
from qinspect.tflite.inputs import Preprocessing, file_names, preprocessing_of
from qinspect.tflite.read import read_graph
from qinspect.tflite.requantize import quantize_file
from qinspect.tflite.run import evaluate

N = 240


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Float, int8 and int16x8 files of one net, another net, and examples with noisy labels."""
    path = tmp_path_factory.mktemp("compare")
    graph = read_graph(small_net())
    ranges = observe_ranges(graph, examples(200)).over()
    (path / "float.tflite").write_bytes(graph.content)
    (path / "int8.tflite").write_bytes(quantize_file(graph, ranges))
    (path / "int16.tflite").write_bytes(quantize_file(graph, ranges, "int16x8"))
    (path / "other.tflite").write_bytes(small_net(seed=9))
    x = examples(N, seed=6)
    y = evaluate(graph.content, x).prediction.copy()
    y[::7] = (y[::7] + 1) % 4
    np.savez(path / "data.npz", x=x, y=y)
    np.savez(path / "calibration.npz", x=examples(50, seed=11))
    return path


def labels(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(folder / "data.npz", allow_pickle=False) as arrays:
        return arrays["x"], arrays["y"]


def run(folder: Path, *names: str, **options: Any) -> dict[str, Any]:
    return compared(folder, *names, **options).to_json()


def compared(folder: Path, *names: str, **options: Any) -> FileComparison:
    options.setdefault("detail_examples", 40)
    data = options.pop("data", folder / "data.npz")
    return compare([folder / f"{name}.tflite" for name in names], data, **options)


def test_everything_agrees_with_the_parts(folder: Path) -> None:
    x, y = labels(folder)
    found = run(folder, "float", "int8", calibration=folder / "calibration.npz")
    json.dumps(found, allow_nan=False)
    a, b = (evaluate(folder / f"{n}.tflite", x) for n in ("float", "int8"))
    right_a, right_b = a.prediction == y, b.prediction == y
    wanted = compare_paired(right_a, right_b, a="float.tflite", b="int8.tflite").to_json()
    assert found["comparisons"] == [json.loads(json.dumps(wanted))]
    ids = np.array([f"data-{i:06d}" for i in range(N)])
    assert found["flips"][0]["only_a"] == ids[right_a & ~right_b].tolist()
    assert found["flips"][0]["only_b"] == ids[right_b & ~right_a].tolist()
    assert found["agreement"][0]["agreement"] == np.mean(a.prediction == b.prediction)
    assert found["lineage"][0]["verdict"] == "same weights"
    assert [f["scheme"] for f in found["files"]] == ["float32", "int8"]
    assert found["files"][1]["accuracy"] == right_b.mean()
    assert {k["file"] for k in found["kernels"]} == {"float.tflite", "int8.tflite"}
    # Kernels that agree are not run on all of the 40 that may be taken.
    assert all(32 <= k["examples"] <= 40 and k["said"] for k in found["kernels"])
    operators = [row["op"] for row in found["layers"] if row["reference"] == "accumulated"]
    assert operators == ["CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "FULLY_CONNECTED",
                         "SOFTMAX"]
    first = found["layers"][0]
    assert first["stored_low"] <= first["calibration_low"] <= 0 < first["calibration_high"]
    # The stored range was made from 200 examples, this one from 50 others.
    assert 0.5 < first["range_ratio"] < 2


def test_ties_bound_the_accuracy(folder: Path) -> None:
    x, y = labels(folder)
    row = run(folder, "float", "int8")["ties"][1]
    raw = evaluate(folder / "int8.tflite", x).raw.astype(int)
    best = worst = tied = 0
    for scores, label in zip(raw, y, strict=True):
        top = np.flatnonzero(scores == scores.max())
        tied += len(top) > 1
        best += label in top
        worst += len(top) == 1 and top[0] == label
    assert (row["tied"], row["accuracy_best"], row["accuracy_worst"]) == (tied, best / N, worst / N)
    assert row["accuracy_worst"] <= row["accuracy"] <= row["accuracy_best"]
    assert len(row["ids"]) == tied


def test_three_files_are_corrected_for_their_number(folder: Path) -> None:
    found = run(folder, "float", "int8", "other")
    assert [(c["a"], c["b"]) for c in found["comparisons"]] == [
        ("float.tflite", "int8.tflite"), ("float.tflite", "other.tflite"),
        ("int8.tflite", "other.tflite"),
    ]
    assert all(c["p_adjusted"] >= c["mcnemar_p"] for c in found["comparisons"])
    assert found["cochran_q"]["models"] == 3
    assert [row["verdict"] for row in found["lineage"]] == [
        "same weights", "unrelated", "unrelated",
    ]


def test_all_others_are_compared_with_a_reference_file(folder: Path) -> None:
    for reference in (folder / "int8.tflite", "int8.tflite"):
        found = run(folder, "float", "int8", "other", reference=reference, margin_relative=0.1)
        assert [(c["a"], c["b"]) for c in found["comparisons"]] == [
            ("int8.tflite", "float.tflite"), ("int8.tflite", "other.tflite")]
    wrong = 1 - found["comparisons"][0]["value_a"]
    assert [c["margin"] for c in found["comparisons"]] == pytest.approx([10 * wrong] * 2)
    assert all(c["interval_simultaneous"] is not None for c in found["comparisons"])
    with pytest.raises(SpecError, match="is none of the files compared; choose one of"):
        run(folder, "float", "int8", reference=folder / "other.tflite")


def test_two_quantized_files_side_by_side(folder: Path) -> None:
    found = run(folder, "int8", "int16")
    assert found["layers"] == []
    assert any("no file is float32 or float16" in note for note in found["notes"])
    outputs = [row for row in found["recipes"] if row["tensor"] == "output"]
    assert outputs
    assert {(row["dtype_a"], row["dtype_b"]) for row in outputs} == {("int8", "int16")}


def test_without_labels(folder: Path, tmp_path: Path) -> None:
    x, _ = labels(folder)
    np.savez(tmp_path / "x.npz", x=x)
    found = run(folder, "float", "int8", data=tmp_path / "x.npz")
    labelled = run(folder, "float", "int8")
    assert found["comparisons"] == []
    assert found["agreement"] == labelled["agreement"]
    assert len(found["flips"][0]["differ"]) == round(N * (1 - found["agreement"][0]["agreement"]))
    assert found["ties"][0]["accuracy"] is None
    printed(compared(folder, "float", "int8", data=tmp_path / "x.npz"))


def test_scale_and_offset_undo_what_was_done_to_the_data(folder: Path, tmp_path: Path) -> None:
    x, y = labels(folder)
    # Powers of two and a small integer, so that the round trip is exact in float32.
    x = np.round(x * 1024) / 1024
    np.savez(tmp_path / "plain.npz", x=x, y=y)
    np.savez(tmp_path / "moved.npz", x=(x - 4) * 32, y=y)
    wanted = run(folder, "float", "int8", data=tmp_path / "plain.npz")
    how = preprocessing_of(2, ["0.03125"], ["4"])
    found = run(folder, "float", "int8", data=tmp_path / "moved.npz", preprocessing=how)
    assert found["agreement"] == wanted["agreement"]
    assert found["layers"] == wanted["layers"]
    accuracies = [[file["accuracy"] for file in which["files"]] for which in (found, wanted)]
    assert accuracies[0] == accuracies[1]


def test_raw_integers_are_fed_as_they_are(folder: Path, tmp_path: Path) -> None:
    x, y = labels(folder)
    tensor = read_graph(folder / "int8.tflite").main.tensors[0]
    assert tensor.quantization is not None
    scale, zero = float(tensor.quantization.scale[0]), int(tensor.quantization.zero_point[0])
    assert tensor.affine is not None
    stored = quantize(np.asarray(x, np.float64), tensor.affine)
    np.savez(tmp_path / "raw.npz", x=stored, y=y)
    # The float file takes what the integers stand for.
    how = preprocessing_of(2, [f"1={scale!r}"], [f"1={-scale * zero!r}"], raw_input=[2])
    found = run(folder, "float", "int8", data=tmp_path / "raw.npz", preprocessing=how)
    correct = evaluate(folder / "int8.tflite", x).prediction == y
    assert found["files"][1]["accuracy"] == correct.mean()
    with pytest.raises(SpecError, match="integer input"):
        run(folder, "float", "int8", data=tmp_path / "raw.npz",
            preprocessing=preprocessing_of(2, raw_input=[1]))
    np.savez(tmp_path / "bytes.npz", x=stored.astype(int) + 128, y=y)
    with pytest.raises(DataError, match=r"cannot be fed raw.*from 0 to 2.*holds -128 to 127"):
        run(folder, "int8", "int8", data=tmp_path / "bytes.npz",
            preprocessing=preprocessing_of(2, raw_input=[1, 2]))
    with pytest.raises(SpecError, match="only integer x"):
        run(folder, "int8", "int8", preprocessing=preprocessing_of(2, raw_input=[1, 2]))


@pytest.mark.parametrize("factor", [255.0, 1 / 255])
def test_data_in_other_units_are_refused_with_both_ranges(
    folder: Path, tmp_path: Path, factor: float
) -> None:
    x, y = labels(folder)
    np.savez(tmp_path / "units.npz", x=x * np.float32(factor), y=y)
    with pytest.raises(DataError, match=r"x runs from -.* to .*, its input holds -.* to .*"):
        run(folder, "float", "int8", data=tmp_path / "units.npz")
    how = preprocessing_of(2, [str(1 / factor)])
    run(folder, "float", "int8", data=tmp_path / "units.npz", preprocessing=how)


def test_integers_for_float_files_are_noted(folder: Path, tmp_path: Path) -> None:
    x, y = labels(folder)
    np.savez(tmp_path / "int.npz", x=np.clip(x * 100, -128, 127).astype(np.int8), y=y)
    said = "nothing shows whether they are in the units"
    found = run(folder, "float", "other", data=tmp_path / "int.npz")
    assert any(said in note for note in found["notes"])
    how = preprocessing_of(2, ["0.01"])
    found = run(folder, "float", "other", data=tmp_path / "int.npz", preprocessing=how)
    assert not any(said in note for note in found["notes"])


def test_some_clipping_is_noted_not_refused(folder: Path, tmp_path: Path) -> None:
    x, y = labels(folder)
    np.savez(tmp_path / "wide.npz", x=x * np.float32(1.7), y=y)
    found = run(folder, "float", "int8", data=tmp_path / "wide.npz")
    assert any("of the input values are clipped" in note for note in found["notes"])


def test_labels_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    x, y = labels(folder)
    np.savez(tmp_path / "one.npz", x=x, y=y + 1)
    with pytest.raises(DataError, match=r"from 1 to 4, but float\.tflite has classes 0 to 3"):
        run(folder, "float", "int8", data=tmp_path / "one.npz")
    how = preprocessing_of(2, label_offset=["-1"])
    found = run(folder, "float", "int8", data=tmp_path / "one.npz", preprocessing=how)
    assert found["comparisons"] == run(folder, "float", "int8")["comparisons"]


def test_files_that_are_given_other_values_have_no_layer_errors(folder: Path) -> None:
    how = [Preprocessing(), Preprocessing(scale=0.9)]
    found = run(folder, "float", "int8", preprocessing=how)
    assert found["layers"] == []
    assert any("given other values" in note for note in found["notes"])


def test_options_for_each_file() -> None:
    how = preprocessing_of(3, ["0.5", "2=4"], ["3=-1"], ["1"], [3])
    assert [p.scale for p in how] == [0.5, 4.0, 0.5]
    assert [p.offset for p in how] == [0.0, 0.0, -1.0]
    assert [p.label_offset for p in how] == [1, 1, 1]
    assert [p.raw for p in how] == [False, False, True]
    for bad in ("x", "1=", "=2", "4=1", "nan", "0=1", "1=inf"):
        with pytest.raises(SpecError, match="--input-scale"):
            preprocessing_of(3, [bad])
    with pytest.raises(SpecError, match=r"--label-offset '0\.5'"):
        preprocessing_of(3, label_offset=["0.5"])


def test_names_tell_files_apart() -> None:
    assert file_names(["a/x.tflite", "a/y.tflite"]) == ["x.tflite", "y.tflite"]
    assert file_names(["a/x.tflite", "b/x.tflite"]) == ["a/x.tflite", "b/x.tflite"]
    assert len(set(file_names(["a/x.tflite", "a/x.tflite"]))) == 2


def test_errors(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="two or more"):
        run(folder, "float")
    (tmp_path / "junk.tflite").write_bytes(b"junk")
    with pytest.raises(ModelFileError, match=r"junk\.tflite"):
        compare([folder / "float.tflite", tmp_path / "junk.tflite"], folder / "data.npz")
    with pytest.raises(DataError, match="no such file"):
        run(folder, "float", "int8", data=tmp_path / "absent.npz")
    np.savez(tmp_path / "shape.npz", x=np.zeros((3, 5, 5, 2), np.float32))
    with pytest.raises(DataError, match=r"shape \(5, 5, 2\)"):
        run(folder, "float", "int8", data=tmp_path / "shape.npz")


def printed(found: FileComparison) -> str:
    stream = StringIO()
    print_view(view_of(found), Console(file=stream, width=300))
    return stream.getvalue()


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_names_from_files_are_text_everywhere(folder: Path, tmp_path: Path) -> None:
    nasty = "<img src=x onerror=alert(1)>[red]\x1b[2J.tflite"
    (tmp_path / nasty).write_bytes((folder / "int8.tflite").read_bytes())
    with np.load(folder / "data.npz", allow_pickle=False) as arrays:
        ids = np.array([f"<b>{i}</b>" for i in range(N)])
        np.savez(tmp_path / "d.npz", x=arrays["x"], y=arrays["y"], id=ids)
    files = [folder / "float.tflite", tmp_path / nasty]
    found = compare(files, tmp_path / "d.npz", detail_examples=8)
    terminal = printed(found)
    assert "\x1b" not in terminal
    assert "<img src=x onerror=alert(1)>[red]" in terminal
    page = found.report(tmp_path / "r.html").read_text()
    parser = _Tags()
    parser.feed(page)
    assert "b" not in parser.tags
    assert any("<img src=x onerror=alert(1)>" in words for words in parser.words)
    for name, value in parser.attributes:
        assert not name.startswith("on")
        if name in ("src", "href"):
            assert (value or "").startswith("data:image/png;base64,")
    assert parser.tags.count("script") == 2  # the project's own, and the values of the layers


def test_report_and_terminal_say_the_verdict(folder: Path, tmp_path: Path) -> None:
    made = compared(folder, "float", "int8", "int16")
    found = made.to_json()
    page = made.report(tmp_path / "r.html").read_text()
    parser = _Tags()
    parser.feed(page)
    words, terminal = "".join(parser.words), printed(made)
    for c in found["comparisons"]:
        assert c["sentence"] in words
        assert c["sentence"] not in " ".join(terminal.split())
    assert " ".join(terminal.split()).startswith("float.tflite is better than int8.tflite by 3.75 ")
    for row in found["layers"]:
        assert row["layer"] in words
    for row in found["flips"]:
        for name in [*row["only_a"], *row["only_b"]]:
            assert name in words


@pytest.mark.slow
def test_command(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "qinspect", "compare", str(folder / "float.tflite"),
               str(folder / "int8.tflite"), "--data", str(folder / "data.npz")]
    done = subprocess.run([*command, "--json", "--report", str(tmp_path / "r.html")],
                          capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(done.stdout)
    keys = {"comparisons", "files", "lineage", "layers", "kernels", "ties", "flips"}
    assert keys <= found.keys()
    assert set(found["lineage"][0]) >= {"a", "b", "verdict", "layers"}
    assert (tmp_path / "r.html").stat().st_size > 2000
    failed = subprocess.run([*command, "--input-scale", "2=255"], capture_output=True, text=True,
                            timeout=60, check=False)
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert "its input holds" in failed.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_resnet8(data_dir: Path) -> None:
    files = [data_dir / "tflite" / "resnet8" / f"{n}.tflite" for n in ("float32", "int8")]
    found = compare(
        files, files[0].with_name("cifar_eval.npz"), detail_examples=64).to_json()
    row = found["comparisons"][0]
    # Counted independently when the files were collected; kernels may differ by a few examples.
    assert abs(row["a_only"] - 21) <= 8
    assert abs(row["b_only"] - 15) <= 8
    assert abs(row["accuracy_a"] - 0.9425) < 0.002
    assert found["lineage"][0]["verdict"] == "same weights"
    assert sum(r["reference"] == "local" for r in found["layers"]) >= 14
