"""Any metric on any task: the value that NumPy or scikit-learn gives, or one sentence; no third."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as fb
from ai_edge_litert.interpreter import Interpreter
from sklearn import metrics as sk
from tiny_graphs import one_operator

import qinspect as qi
from qinspect import cli
from qinspect.errors import DataError, QinspectError
from qinspect.measure.activations import observe_ranges
from qinspect.tflite import read_graph
from qinspect.tflite.requantize import quantize_file

N = 60
RNG = np.random.default_rng(0)
REAL = fb.TensorType.FLOAT32
OP, CODES = fb.BuiltinOptions, fb.BuiltinOperator


# --- every metric on every kind of outputs and labels --------------------------------------------


def softmax(values: np.ndarray) -> np.ndarray:
    raised = np.exp(values)
    return raised / raised.sum(axis=-1, keepdims=True)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


OUTPUTS = {
    "softmax": softmax(RNG.normal(size=(N, 6))), "logits": RNG.normal(size=(N, 6)),
    "sigmoid": sigmoid(RNG.normal(size=(N, 1))), "number": RNG.normal(size=(N, 1)),
    "two logits": RNG.normal(size=(N, 2)), "softmax of two": softmax(RNG.normal(size=(N, 2))),
    "sigmoids": sigmoid(RNG.normal(size=(N, 3))), "numbers": RNG.normal(size=(N, 3)),
    "maps": softmax(RNG.normal(size=(N, 4, 4, 3))), "map": sigmoid(RNG.normal(size=(N, 4, 4, 1))),
    "NaN": np.where(RNG.random((N, 6)) < 0.1, np.nan, 0.5), "none": np.full((N, 1), np.nan),
    "maps with NaN": np.where(RNG.random((N, 4, 4, 3)) < 0.1, np.nan, 0.5),
}
LABELS = {
    "yes or no": RNG.integers(0, 2, N), "no": np.zeros(N, int), "yes": np.ones(N, int),
    "classes": RNG.integers(0, 6, N), "many classes": RNG.integers(0, 99, N),
    "signs": 2 * RNG.integers(0, 2, N) - 1, "quantity": RNG.normal(size=N),
    "constant": np.full(N, 2.5), "labels": RNG.integers(0, 2, (N, 3)),
    "quantities": RNG.normal(size=(N, 3)), "two": RNG.normal(size=(N, 2)),
    "maps": RNG.integers(0, 3, (N, 4, 4)), "masks": RNG.integers(0, 2, (N, 4, 4, 1)),
    "ignored": np.where(RNG.random((N, 4, 4)) < 0.1, 255, 1), "heights": RNG.random((N, 4, 4)),
}
NAMES = ("accuracy", "top5", "top2", "binary-accuracy", "binary-accuracy@0", "binary-accuracy@0.3",
         "auc", "f1", "f1@2", "f1@0.3", "f1@0", "mae", "mse", "relative-error", "r2", "log-loss",
         "ece", "brier", "miou", "pixel-accuracy", "anomaly-auc", "cosine")


def columns(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, dtype=float).reshape(len(values), -1)


def yes_score(output: np.ndarray) -> np.ndarray:
    found = columns(output)
    return found[:, 0] if found.shape[1] == 1 else found[:, 1] - found[:, 0]


def said_yes(name: str, output: np.ndarray) -> np.ndarray:
    """Yes or no by the threshold in the name of a metric."""
    _, at, threshold = name.partition("@")
    found = columns(output)
    if found.shape[1] == 2:
        sure = bool(np.allclose(found.sum(axis=1), 1))
        return found[:, 1] > float(threshold) if at and sure else yes_score(output) > float(
            threshold or 0)
    return found > float(threshold or 0.5)


def expected(name: str, y: np.ndarray, output: np.ndarray) -> float:
    """The value by scikit-learn or NumPy; that it has one is taken for granted."""
    base = name.partition("@")[0]
    found, wanted = columns(output), columns(y)
    if base == "accuracy":
        whole = ~np.isnan(found).any(axis=1)
        return float(((found.argmax(axis=1) == y) & whole).mean())
    if base.startswith("top"):
        return float(sk.top_k_accuracy_score(y, found, k=int(base[3:]),
                                             labels=np.arange(found.shape[1])))
    if base == "binary-accuracy":
        return float((said_yes(name, output).reshape(-1) == y).mean())
    if base in ("auc", "anomaly-auc"):
        return float(sk.roc_auc_score(y, yes_score(output)))
    if base == "f1" and (y.ndim == 2 or found.shape[1] <= 2):
        return float(sk.f1_score(y, said_yes(name, output).reshape(y.shape),
                                 average="macro" if y.ndim == 2 else "binary"))
    if base == "f1":
        return float(sk.f1_score(y, found.argmax(axis=1), average="macro"))
    if base == "mae":
        return float(np.abs(found - wanted).mean())
    if base == "mse":
        return float(((found - wanted) ** 2).mean())
    if base == "relative-error":
        return float(np.abs(found / wanted - 1).mean())
    if base == "r2":
        return float(sk.r2_score(wanted, found))
    if base in ("log-loss", "brier", "ece"):
        sure = np.column_stack([1 - found, found]) if found.shape[1] == 1 else found
        if base == "log-loss":
            return float(sk.log_loss(y, sure, labels=np.arange(sure.shape[1])))
        if base == "brier":
            each = ((sure - np.eye(sure.shape[1])[y]) ** 2).sum(axis=1)
            return float(each.mean() / (2 if found.shape[1] == 1 else 1))
        best, hit = sure.max(axis=1), sure.argmax(axis=1) == y
        bins = np.ceil(best * 15)
        return float(sum(abs((hit - best)[bins == one].sum()) for one in set(bins)) / len(y))
    if base in ("miou", "pixel-accuracy"):
        maps = output.argmax(axis=-1) if output.shape[-1] > 1 else output[..., 0] > 0.5
        rows = y.reshape(len(y), -1), maps.reshape(len(y), -1).astype(int)
        score = sk.accuracy_score if base == "pixel-accuracy" else (
            lambda a, b: sk.jaccard_score(a, b, average="macro"))
        return float(np.mean([score(a, b) for a, b in zip(*rows, strict=True)]))
    assert base == "cosine"
    return float((found * wanted).sum(axis=1) @ (
        1 / np.linalg.norm(found, axis=1) / np.linalg.norm(wanted, axis=1)) / len(y))


def check_sentence(error: QinspectError) -> None:
    """That a refusal says something, in one line, with an end."""
    said = str(error)
    assert len(said) > 30
    assert said.endswith(".")
    assert "\n" not in said


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize("kind", OUTPUTS)
def test_a_metric_gives_the_right_value_or_one_sentence(kind: str) -> None:
    output, given = OUTPUTS[kind], 0
    for (label, y), name in itertools.product(LABELS.items(), NAMES):
        try:
            found = qi.results({"a": output, "b": output}, y, metric=name)
            value = found.value("a")
        except QinspectError as error:
            check_sentence(error)
            continue
        given += 1
        assert value == pytest.approx(expected(name, y, output), abs=1e-9), (label, name)
    # What is right is not refused either.
    assert given >= {"none": 0, "maps with NaN": 0, "NaN": 3, "map": 2, "maps": 2}.get(kind, 5)


@pytest.mark.parametrize(("kind", "label", "names"), [
    ("softmax", "classes", "accuracy top5 f1 log-loss ece brier"),
    ("logits", "classes", "accuracy top5 f1"),
    ("sigmoid", "yes or no", "binary-accuracy auc f1 log-loss ece brier binary-accuracy@0.3"),
    ("two logits", "yes or no", "accuracy binary-accuracy auc f1"),
    ("softmax of two", "yes or no", "accuracy binary-accuracy auc f1 log-loss f1@0.3"),
    ("number", "quantity", "mae mse r2 relative-error"),
    ("sigmoids", "labels", "f1 f1@0.3"), ("numbers", "labels", "f1@0"),
    ("numbers", "quantities", "mae mse r2 cosine"),
    ("maps", "maps", "miou pixel-accuracy"), ("map", "masks", "miou pixel-accuracy"),
])
def test_the_metrics_of_a_task_have_a_value(kind: str, label: str, names: str) -> None:
    for name in names.split():
        found = qi.results({"a": OUTPUTS[kind]}, LABELS[label], metric=name)
        low, high = found.value_interval("a")
        assert low <= found.value("a") <= high, name


@pytest.mark.parametrize("name", ["auc", "f1", "mae", "r2", "accuracy"])
@pytest.mark.parametrize("few", [1, 2, 3])
def test_few_examples_and_groups_of_one(name: str, few: int) -> None:
    kind, label = {"auc": ("sigmoid", "yes or no"), "f1": ("sigmoid", "yes or no"),
                   "accuracy": ("softmax", "classes")}.get(name, ("number", "quantity"))
    y, output = LABELS[label][:few], OUTPUTS[kind][:few]
    for groups in (None, np.arange(few), np.zeros(few, int)):
        try:
            found = qi.results({"a": output, "b": output[::-1]}, y, groups=groups, metric=name)
            assert found.value("a") == pytest.approx(expected(name, y, output))
            (compared,) = found.compare()
            low, high = compared.interval
            assert low <= compared.gap <= high
            assert 0 <= compared.p <= 1
        except QinspectError as error:
            check_sentence(error)


def test_one_example_has_a_value_but_no_interval() -> None:
    found = qi.results({"a": OUTPUTS["number"][:1], "b": OUTPUTS["number"][1:2]},
                       LABELS["quantity"][:1], metric="mae")
    assert found.value("a") == abs(OUTPUTS["number"][0, 0] - LABELS["quantity"][0])
    for ask in (found.compare, lambda: found.value_interval("a")):
        with pytest.raises(DataError, match="give at least two"):
            ask()


# --- files through the command line --------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """A network of one operator, its data, and what NumPy makes of its outputs."""

    name: str
    file: bytes
    x: np.ndarray
    y: np.ndarray | None
    metric: str
    told: bool = True
    ranges: bool = True


def linear(numbers: int, seed: int = 0) -> bytes:
    """One dense layer of 8 numbers."""
    weights = np.random.default_rng(seed).normal(size=(numbers, 8)).astype(np.float32)
    return one_operator(
        CODES.FULLY_CONNECTED, [("x", (1, 8), REAL)], [("out", (1, numbers), REAL)],
        options=(OP.FullyConnectedOptions, fb.FullyConnectedOptionsT()), constant=weights)


def one_of(code: int, shape: tuple[int, ...]) -> bytes:
    beta = fb.SoftmaxOptionsT()
    beta.beta = 1.0
    return one_operator(
        code, [("x", (1, *shape), REAL)], [("out", (1, *shape), REAL)],
        options=(OP.SoftmaxOptions, beta) if code == CODES.SOFTMAX else (0, None))


def inputs(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(N, *shape)).astype(np.float32)


X = inputs(8)
TASKS = [
    Task("logits", linear(6), X, LABELS["classes"], "accuracy", told=False),
    Task("two logits", linear(2), X, LABELS["yes or no"], "auc"),
    Task("several labels", linear(3), X, LABELS["labels"], "f1@0"),
    Task("one number", linear(1), X, LABELS["quantity"], "mae", told=False),
    Task("several numbers", linear(3), X, LABELS["quantities"], "r2"),
    Task("embedding", linear(3, seed=2), X, LABELS["quantities"], "cosine"),
    Task("softmax", one_of(CODES.SOFTMAX, (6,)), inputs(6), LABELS["classes"], "log-loss",
         ranges=False),
    Task("sigmoid", one_of(CODES.LOGISTIC, (1,)), inputs(1), LABELS["yes or no"],
         "binary-accuracy", told=False, ranges=False),
    Task("maps", one_of(CODES.SOFTMAX, (4, 4, 3)), inputs(4, 4, 3), LABELS["maps"], "miou",
         ranges=False),
]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """The command as the console script runs it: exit code, standard output, standard error."""

    def ran(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["qinspect", *map(str, arguments)])
        capfd.readouterr()
        code: Any = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        return code, *capfd.readouterr()

    return ran


def sentence(code: int, out: str, err: str) -> str:
    """The one sentence of a refusal."""
    lines = [line for line in err.splitlines() if line.startswith("qinspect: ")]
    assert (code, len(lines), out) == (2, 1, ""), (code, err)
    assert len(lines[0]) > 30
    return lines[0].removeprefix("qinspect: ")


def lite(content: bytes, x: np.ndarray) -> np.ndarray:
    """Real outputs by LiteRT alone, stored values by the scales that it tells."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    rows = []
    if source["dtype"] == np.int8:
        scale, zero = source["quantization"]
        x = np.clip(np.round(x / np.float32(scale)) + zero, -128, 127).astype(np.int8)
    for one in x:
        interpreter.set_tensor(source["index"], one[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(target["index"])[0].copy())
    found = np.stack(rows)
    if found.dtype != np.int8:
        return found
    scale, zero = target["quantization"]
    return np.float32(scale) * (found.astype(np.int32) - zero).astype(np.float32)


def written(folder: Path, task: Task) -> dict[str, float]:
    """The files of a task and its data in a folder, and what each file is worth."""
    content = {"float": task.file}
    if task.ranges:
        graph = read_graph(task.file)
        for name, part in (("ptq", 1.0), ("qat", 0.2)):
            shown = np.float32(part) * task.x
            # The range of the input stays, as its units are checked.
            shown[:2, 0] = task.x.min(), task.x.max()
            content[name] = quantize_file(graph, observe_ranges(graph, shown).over())
    else:
        content["ptq"] = task.file
    for name, one in content.items():
        (folder / f"{name}.tflite").write_bytes(one)
    np.savez(folder / "data.npz", x=task.x, y=task.y)
    assert task.y is not None
    return {name: expected(task.metric, task.y, lite(one, task.x)) for name, one in content.items()}


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_every_command_says_the_value_of_numpy(task: Task, tmp_path: Path, run: Run) -> None:
    wanted = written(tmp_path, task)
    files = [tmp_path / f"{name}.tflite" for name in wanted]
    asked = ["--metric", task.metric] if task.told else []
    data = ["--data", tmp_path / "data.npz", *asked]

    def said(*arguments: object) -> dict[str, Any]:
        code, out, err = run(*arguments, "--json")
        assert code == 0, err
        found: dict[str, Any] = json.loads(out)
        return found

    def scores(rows: list[dict[str, Any]]) -> list[float]:
        return [row["score"] for row in rows]

    values = [pytest.approx(value, abs=2e-6) for value in wanted.values()]
    assert scores(said("evaluate", *files, *data)["models"]) == values
    assert scores(said("compare", *files, *data)["files"]) == values
    kept = tmp_path / "predictions.npz"
    code, out, _ = run("evaluate", *files, *data, "--out", kept)
    assert code == 0
    assert kept.name in out
    # Classes are kept of accuracy, else the outputs.
    scored = [] if task.metric == "accuracy" else ["--metric", task.metric]
    assert scores(said("significance", kept, *scored)["models"]) == values
    if not task.ranges:
        return
    found = said("sensitivity", files[0], *data, "--calibration", tmp_path / "data.npz")
    assert found["layers"][0]["score"] == values[0]
    roles = zip(("--float", "--ptq", "--qat"), files, strict=True)
    focus = said("diagnose", *itertools.chain(*roles), *data)["focus"]
    assert [focus["value_a"], focus["value_b"]] == values[1:]


@pytest.mark.parametrize(("task", "metric", "way"), [
    (0, "auc", "accuracy or f1"), (0, "f1@0.3", "leave it out"), (0, "miou", "pixel"),
    (0, "log-loss", "softmax"), (0, "top99", "smaller"), (0, "mae", "as many numbers"),
    (1, "f1@2e", "is no number"), (1, "binary-accuracy@nan", "f1@|binary-accuracy@0.3"),
    (2, "auc", "f1 for several labels"), (2, "f1", "f1@0"), (2, "accuracy", "class labels"),
    (3, "miou", "segmentation"), (3, "accuracy", "mae"), (3, "auc", "0 and 1"),
    (3, "cosine", "take mae"), (4, "map", "detections"), (6, "auc", "0 and 1"),
    (7, "accuracy", "binary-accuracy"), (7, "f1@2", "between 0 and 1"), (7, "top5", "1"),
    (8, "accuracy", "class labels"), (8, "f1", ""), (8, "nowhere:thing", "cannot be found"),
])
def test_a_metric_of_another_task_is_refused_in_one_sentence(
    task: int, metric: str, way: str, tmp_path: Path, run: Run
) -> None:
    written(tmp_path, TASKS[task])
    data = ["--data", tmp_path / "data.npz", "--metric", metric]
    files = [tmp_path / f"{name}.tflite" for name in ("float", "ptq")]
    for arguments in (("evaluate", *files), ("compare", *files)):
        assert re.search(way, sentence(*run(*arguments, *data)))


def test_outputs_that_are_nan(tmp_path: Path, run: Run) -> None:
    root, x = one_of(CODES.SQRT, (6,)), inputs(6)
    (tmp_path / "root.tflite").write_bytes(root)
    data = tmp_path / "data.npz"
    np.savez(data, x=x, y=LABELS["classes"])
    code, out, _ = run("evaluate", tmp_path / "root.tflite", "--data", data, "--json")
    found, whole = json.loads(out), (x >= 0).all(axis=1)
    right = (lite(root, x).argmax(axis=1) == LABELS["classes"]) & whole
    assert (code, found["models"][0]["score"]) == (0, right.mean())
    assert any(f"{N - whole.sum()} of {N} examples have a NaN" in note for note in found["notes"])
    for metric in ("top2", "f1", "log-loss", "ece"):
        ended = run("evaluate", tmp_path / "root.tflite", "--data", data, "--metric", metric)
        assert "NaN" in sentence(*ended) or "nan" in sentence(*ended)


def test_a_metric_of_ones_own_that_fails(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, TASKS[3])
    monkeypatch.chdir(tmp_path)
    Path("faulty_scores.py").write_text(
        "def broken(y, output):\n    return output[:, 5] - y\n"
        "def lost(y, output):\n    return float('nan')\n"
        "def wide(y, output):\n    return output\n"
        "for one in (broken, lost, wide):\n    one.direction = 'lower'\n"
        "lost.kind = 'set'\n", encoding="utf-8")
    for name, said in (("broken", "fails on y of shape"), ("lost", "is nan"), ("wide", "shape")):
        ended = run("compare", "float.tflite", "ptq.tflite", "--data", "data.npz", "--metric",
                    f"faulty_scores:{name}")
        assert said in sentence(*ended)
