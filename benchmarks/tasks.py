"""Every command on every kind of task, as a user would run it: what works, with which value?

    python benchmarks/tasks.py --out docs/tasks.md

Small networks are trained for some seconds each and converted: a float file, an int8 one and an
int8 one with ranges of darker examples, which stands in for a bad QAT file.  Every command runs in
a process of its own, as text and as JSON; reports are written and read again; figures and widgets
are made.  Each value is compared with one that NumPy alone makes of what LiteRT gives.  A
traceback, another exit code than 0 and 2, an empty sentence or another value is a fault, and then
the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qinspect.errors import QinspectError
from qinspect.metrics import Metric, metric

Array = np.ndarray[Any, Any]
HERE = Path(__file__).resolve().parent
COMMANDS = ("evaluate", "compare", "significance", "sensitivity", "diagnose", "report", "dashboard")
TRAINED, EVALUATED, CALIBRATED = slice(0, 1200), slice(1200, 1500), slice(1500, 1600)
# Of a value: JSON and the reference add up float32 outputs in another order.
CLOSE = 2e-6


# --- metrics as a user writes them ---------------------------------------------------------------


def box_iou(y: Array, output: Array) -> Array:
    """Overlap of the box of the surest cell with the true one."""
    found, wanted = decoded(None, output)[:, 0, :4], y[:, 0, :4]
    low, high = np.maximum(found[:, :2], wanted[:, :2]), np.minimum(found[:, 2:], wanted[:, 2:])
    both = np.clip(high - low, 0, None).prod(axis=1)
    areas = [(one[:, 2:] - one[:, :2]).prod(axis=1) for one in (found, wanted)]
    return both / (areas[0] + areas[1] - both)


box_iou.direction, box_iou.scale, box_iou.unit, box_iou.margin = (  # type: ignore[attr-defined]
    "higher", 100.0, "points", 1.0)


def decoded(x: Array | None, output: Array) -> Array:
    """The surest of the 4 x 4 cells as one detection, (n, 1, 6)."""
    n = len(output)
    cells = output.reshape(n, 16, 5)
    best = cells[..., 4].argmax(axis=1)
    cell = cells[np.arange(n), best]
    middle = (np.column_stack([best // 4, best % 4]) + cell[:, :2]) / 4
    size = np.clip(cell[:, 2:4], 0.01, 1)
    return np.column_stack([middle - size / 2, middle + size / 2, np.zeros(n),
                            np.clip(cell[:, 4], 1e-6, 1)])[:, None]


BOX_MAP = replace(metric("map"), id="tasks:BOX_MAP", reduce=decoded, all_outputs=False)


# --- the same by NumPy alone ---------------------------------------------------------------------


def np_auc(y: Array, score: Array) -> float:
    """All pairs of a positive and a negative."""
    lead = np.sign(score[y == 1][:, None].astype(float) - score[y == 0][None].astype(float))
    return float(((lead + 1) / 2).mean())


def np_f1(y: Array, output: Array) -> float:
    each = []
    for wanted, found in zip(y.T == 1, output.T > 0.5, strict=True):
        hit = (wanted & found).sum()
        each.append(2 * hit / (2 * hit + (wanted & ~found).sum() + (~wanted & found).sum()))
    return float(np.mean(each))


def np_miou(y: Array, output: Array) -> float:
    each = []
    for wanted, found in zip(y, output.argmax(axis=-1), strict=True):
        sides = [((wanted == one), (found == one)) for one in {*wanted.ravel(), *found.ravel()}]
        each.append(np.mean([(a & b).sum() / (a | b).sum() for a, b in sides]))
    return float(np.mean(each))


def np_cosine(y: Array, output: Array) -> float:
    y, output = y.astype(float), output.astype(float)
    return float(np.mean([a @ b / math.sqrt((a @ a) * (b @ b))
                          for a, b in zip(y, output, strict=True)]))


def np_map(y: Array, output: Array) -> float:
    """COCO's average precision of one class, one box and one detection an image."""
    overlap, score = box_iou(y, output), decoded(None, output)[:, 0, 5]
    order = np.argsort(-score, kind="stable")
    each = []
    for least in np.linspace(0.5, 0.95, 10):
        hit = np.cumsum(overlap[order] >= least)
        recall, precision = hit / len(y), hit / np.arange(1, len(y) + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
        each.append(np.where(at < len(y), precision[np.minimum(at, len(y) - 1)], 0).mean())
    return float(np.mean(each))


# --- tasks ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """One kind of network, its data and what it is worth.

    ``worth(x, y, outputs)`` is the reference value; ``options`` are those of every command;
    ``network`` makes a trained Keras model of ``x`` and ``wanted``.
    """

    name: str
    network: Callable[[Any, Any, Any], Any]
    x: dict[str, Array]
    y: Array | None
    wanted: Any
    metric: str
    worth: Callable[[dict[str, Array], Any, list[Array]], float]
    options: tuple[str, ...] = ()
    sequence: bool = False

    @property
    def key(self) -> str:
        return "".join(c if c.isalnum() else "_" for c in self.name)


def tasks() -> list[Task]:
    """All of them, on the digits of scikit-learn."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = (digits.images[order] / 16).astype(np.float32)
    flat, label = images.reshape(len(images), 64), digits.target[order].astype(np.int64)
    x, odd = {"x": images[..., None]}, label % 2
    rng = np.random.default_rng(1)
    bits = np.column_stack([label % 2, label > 4, label % 3 == 0]).astype(np.int64)
    parts = (images.reshape(-1, 4, 2, 4, 2).sum(axis=(2, 4))[:, ::2, ::2].reshape(-1, 4)
             ).astype(np.float32)
    levels = np.digitize(images, [0.3, 0.7])
    directions = rng.normal(size=(10, 8)).astype(np.float32)[label]
    extra = (0.3 * rng.normal(size=(len(label), 4)) + label[:, None] / 10).astype(np.float32)
    boxes, scenes, cells = scattered(images, rng)

    def right(column: int = 0) -> Callable[..., float]:
        return lambda x, y, outputs: float((outputs[column].argmax(axis=1) == y).mean())

    def of_first(score: Callable[[Any, Array], float]) -> Callable[..., float]:
        return lambda x, y, outputs: score(y, outputs[0])

    def rebuilt(x: dict[str, Array], outputs: list[Array]) -> Array:
        wanted = x["x"].astype(float).reshape(len(outputs[0]), -1)
        return ((outputs[0] - wanted) ** 2).mean(axis=1)

    def absolute(y: Array, output: Array) -> float:
        wanted = y.reshape(len(y), -1).astype(float)
        return float(np.abs(output.reshape(len(y), -1) - wanted).mean())

    normal = np.where(label == 0, 0.0, 1.0)
    chain = {"x": images}
    return [
        Task("softmax classification", dense(10, "softmax"), x, label, label, "accuracy", right()),
        Task("logits classification", dense(10, None), x, label, label, "accuracy", right()),
        Task("one sigmoid", dense(1, "sigmoid"), x, odd, odd, "binary-accuracy", of_first(
            lambda y, output: float(((output[:, 0] > 0.5) == (y == 1)).mean()))),
        Task("two logits, yes or no", dense(2, None), x, odd, odd, "auc", of_first(
            lambda y, output: np_auc(y, np.diff(output.astype(float))[:, 0])), ("--metric", "auc")),
        Task("several labels", dense(3, "sigmoid"), x, bits, bits, "f1", of_first(np_f1),
             ("--metric", "f1")),
        Task("regression of one number", dense(1, "linear"), x, flat.sum(axis=1), flat.sum(axis=1),
             "mae", of_first(absolute)),
        Task("regression of several numbers", dense(4, "linear"), x, parts, parts, "mae",
             of_first(absolute), ("--metric", "mae")),
        Task("segmentation", maps, x, levels, levels, "miou", of_first(np_miou),
             ("--metric", "miou")),
        Task("detection, own score of the best box", boxed, {"x": scenes}, boxes, cells,
             "tasks:box_iou", of_first(lambda y, output: float(box_iou(y, output).mean())),
             ("--metric", "tasks:box_iou")),
        Task("detection, own decoder and mAP", boxed, {"x": scenes}, boxes, cells,
             "tasks:BOX_MAP", of_first(np_map), ("--metric", "tasks:BOX_MAP")),
        Task("autoencoder without labels", rebuilding, {"x": flat}, None, normal, "reconstruction",
             lambda x, y, outputs: float(rebuilt(x, outputs).mean())),
        Task("autoencoder, anomalies", rebuilding, {"x": flat}, (label == 0).astype(np.int64),
             normal, "anomaly-auc", lambda x, y, outputs: np_auc(y, rebuilt(x, outputs)),
             ("--metric", "anomaly-auc")),
        Task("embeddings", dense(8, "linear"), x, directions, directions, "cosine",
             of_first(np_cosine), ("--metric", "cosine")),
        Task("recurrent, independent examples", recurrent, chain, label, label, "accuracy",
             right()),
        Task("recurrent, one sequence", recurrent, chain, label, label, "accuracy", right(),
             ("--sequence",), sequence=True),
        Task("several inputs", joined, {"image": images[..., None], "extra": extra}, label, label,
             "accuracy", right()),
        Task("two outputs", forked, x, odd, (label, odd), "accuracy", right(1),
             ("--output", "parity")),
    ]


def scattered(images: Array, rng: Any) -> tuple[Array, Array, Array]:
    """Digits of 8 x 8 on 16 x 16 scenes: boxes (n, 1, 5), scenes, what 4 x 4 cells should say."""
    n = len(images)
    scenes, boxes = np.zeros((n, 16, 16, 1), np.float32), np.zeros((n, 1, 5), np.float32)
    cells = np.zeros((n, 4, 4, 5), np.float32)
    for at, (top, left) in enumerate(rng.integers(0, 9, (n, 2))):
        scenes[at, top:top + 8, left:left + 8, 0] = images[at]
        rows, columns = (np.flatnonzero(images[at].max(axis=axis) > 0.2) for axis in (1, 0))
        ends = np.array([top + rows[0], left + columns[0], top + rows[-1] + 1,
                         left + columns[-1] + 1]) / 16
        middle = (ends[:2] + ends[2:]) / 2
        row, column = np.minimum((4 * middle).astype(int), 3)
        boxes[at, 0, :4] = ends
        cells[at, row, column] = [*(4 * middle - (row, column)), *(ends[2:] - ends[:2]), 1]
    return boxes, scenes, cells


# --- networks: k is tf_keras ---------------------------------------------------------------------


def dense(numbers: int, ending: str | None) -> Callable[[Any, Any, Any], Any]:
    """Convolution and dense layers; ``ending`` None: logits."""

    def network(k: Any, x: dict[str, Array], wanted: Array) -> Any:
        layers = k.layers
        model = k.Sequential([
            layers.Input((8, 8, 1)), layers.Conv2D(8, 3, activation="relu"), layers.Flatten(),
            layers.Dense(24, activation="relu"), layers.Dense(numbers, activation=ending)])
        several = np.ndim(wanted) == 2
        loss: Any = "mse"
        if ending == "sigmoid":
            loss = "binary_crossentropy"
        elif ending != "linear":
            loss = k.losses.SparseCategoricalCrossentropy(from_logits=ending is None)
        return fitted(model, x["x"], wanted if several else wanted.reshape(-1, 1), loss)

    return network


def fitted(model: Any, x: Any, wanted: Any, loss: Any, epochs: int = 12) -> Any:
    from tf_keras.optimizers.legacy import Adam

    model.compile(Adam(3e-3), loss)
    model.fit(x, wanted, epochs=epochs, batch_size=64, verbose=0)
    return model


def maps(k: Any, x: dict[str, Array], wanted: Array) -> Any:
    layers = k.layers
    model = k.Sequential([
        layers.Input((8, 8, 1)), layers.Conv2D(8, 3, padding="same", activation="relu"),
        layers.Conv2D(3, 1, activation="softmax")])
    return fitted(model, x["x"], wanted, "sparse_categorical_crossentropy", 6)


def boxed(k: Any, x: dict[str, Array], wanted: Array) -> Any:
    layers = k.layers
    model = k.Sequential([
        layers.Input((16, 16, 1)),
        layers.Conv2D(12, 5, strides=2, padding="same", activation="relu"),
        layers.Conv2D(24, 5, strides=2, padding="same", activation="relu"),
        layers.Conv2D(24, 3, padding="same", activation="relu"),
        layers.Conv2D(5, 1)])

    def loss(truth: Any, found: Any) -> Any:
        """Boxes count where there is one, that there is none elsewhere."""
        here, mean = truth[..., 4:], k.backend.mean
        return (10 * mean(here * (truth - found) ** 2)
                + mean((1 - here) * found[..., 4:] ** 2))

    return fitted(model, x["x"], wanted, loss, 20)


def rebuilding(k: Any, x: dict[str, Array], usual: Array) -> Any:
    layers = k.layers
    model = k.Sequential([
        layers.Input((64,)), layers.Dense(32, activation="relu"),
        layers.Dense(6, activation="relu"), layers.Dense(32, activation="relu"), layers.Dense(64)])
    kept = x["x"][usual == 1]
    return fitted(model, kept, kept, "mse", 15)


def recurrent(k: Any, x: dict[str, Array], wanted: Array) -> Any:
    layers = k.layers
    model = k.Sequential([layers.Input((8, 8)), layers.LSTM(12),
                          layers.Dense(10, activation="softmax")])
    return fitted(model, x["x"], wanted, "sparse_categorical_crossentropy")


def joined(k: Any, x: dict[str, Array], wanted: Array) -> Any:
    layers = k.layers
    image, extra = layers.Input((8, 8, 1), name="image"), layers.Input((4,), name="extra")
    h = layers.Concatenate()([layers.Flatten()(image), extra])
    h = layers.Dense(24, activation="relu")(h)
    model = k.Model([image, extra], layers.Dense(10, activation="softmax")(h))
    return fitted(model, [x["image"], x["extra"]], wanted, "sparse_categorical_crossentropy")


def forked(k: Any, x: dict[str, Array], wanted: tuple[Array, Array]) -> Any:
    layers = k.layers
    image = layers.Input((8, 8, 1))
    h = layers.Flatten()(layers.Conv2D(8, 3, activation="relu")(image))
    h = layers.Dense(24, activation="relu")(h)
    model = k.Model(image, [layers.Dense(10, activation="softmax", name="digit")(h),
                            layers.Dense(2, activation="softmax", name="parity")(h)])
    return fitted(model, x["x"], list(wanted), "sparse_categorical_crossentropy")


# --- files ---------------------------------------------------------------------------------------


def build(task: Task, folder: Path) -> None:
    """The files and data of a task."""
    from qinspect.train.keras import reset, tf_keras

    folder.mkdir()
    reset(0)
    learned = {name: values[TRAINED] for name, values in task.x.items()}
    wanted = task.wanted
    wanted = tuple(one[TRAINED] for one in wanted) if isinstance(wanted, tuple) else wanted[TRAINED]
    model = task.network(tf_keras(), learned, wanted)
    seen = {name: values[CALIBRATED] for name, values in task.x.items()}
    dark = {name: darker(values) for name, values in seen.items()}
    for name, shown in (("float", None), ("ptq", seen), ("qat", dark)):
        (folder / f"{name}.tflite").write_bytes(converted(model, shown))
    np.savez(folder / "calibration.npz", **seen)
    told = {} if task.y is None else {"y": task.y[EVALUATED]}
    np.savez(folder / "data.npz", **{name: values[EVALUATED] for name, values in task.x.items()},
             **told)


def darker(values: Array) -> Array:
    """Examples at a third; two numbers keep the range of the input, as its units are checked."""
    found = np.float32(0.3) * values
    found[:2].reshape(2, -1)[:, 0] = values.min(), values.max()
    return found


def converted(model: Any, shown: dict[str, Array] | None) -> bytes:
    """By the package where there is one input and output, else by the converter itself."""
    from qinspect.train import convert, run_converter
    from qinspect.train.keras import tensorflow

    if len(model.inputs) == len(model.outputs) == 1:
        return convert(model, *(("float32",) if shown is None else ("int8", shown["x"])))
    tf = tensorflow()
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if shown is not None:
        arrays = {name: shown.get(name, shown.get("x")) for name in model.input_names}
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            {name: one[at][None] for name, one in arrays.items()}
            for at in range(len(next(iter(shown.values())))))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return run_converter(converter, model.name)


def lite_outputs(file: Path, task: Task) -> list[Array]:
    """What LiteRT gives, an example at a time, by nothing of the package."""
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_path=str(file), num_threads=1)
    run.allocate_tensors()
    inputs = run.get_input_details()
    outputs = sorted(run.get_signature_runner().get_output_details().items())
    rows: list[list[Array]] = [[] for _ in outputs]
    x = {name: values[EVALUATED] for name, values in task.x.items()}
    for at in range(EVALUATED.stop - EVALUATED.start):
        if not task.sequence:
            run.reset_all_variables()
        for port in inputs:
            name = next((name for name in x if name in port["name"]), next(iter(x)))
            run.set_tensor(port["index"], x[name][at][None])
        run.invoke()
        for row, (_, port) in zip(rows, outputs, strict=True):
            row.append(run.get_tensor(port["index"])[0])
    return [np.stack(row) for row in rows]


def references(task: Task, folder: Path) -> dict[str, float]:
    """What every file is worth."""
    x = {name: values[EVALUATED] for name, values in task.x.items()}
    y = None if task.y is None else task.y[EVALUATED]
    return {name: task.worth(x, y, lite_outputs(folder / f"{name}.tflite", task))
            for name in ("float", "ptq", "qat")}


# --- commands ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """How one command ended: works, does not apply, refused or FAULT; its value and sentence."""

    how: str
    value: float | None = None
    said: str = ""


def command(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run ``qinspect`` in a folder, where it finds this file as the module ``tasks``."""
    path = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-m", "qinspect", *arguments], cwd=folder, check=False,
                          capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": path})
    return done.returncode, done.stdout, done.stderr


def fault(code: int, out: str, err: str) -> str:
    """What is wrong with how a command ended, if anything."""
    lines = [line for line in err.splitlines() if line.startswith("qinspect: ")]
    if "Traceback" in err or code not in (0, 2):
        return f"exit code {code}: {(err.strip().splitlines() or [''])[-1]}"
    if code == 2 and (len(lines) != 1 or len(lines[0]) < 20 or out):
        return f"exit code 2 with {len(lines)} sentences"
    return ""


def run(folder: Path, wanted: dict[str, float], arguments: list[str], *, shown: str,
        read: Callable[[Any], dict[str, float]], text: tuple[str, ...] = ()) -> Cell:
    """A command as JSON and as text, and whether both say the value of NumPy."""
    code, out, err = command(folder, *arguments, "--json")
    if wrong := fault(code, out, err):
        return Cell("FAULT", said=wrong)
    if code == 2:
        said = err.strip().splitlines()[-1].removeprefix("qinspect: ")
        return Cell("does not apply" if "No such option" in said else "refused", said=said)
    found = read(json.loads(out))
    for name, value in found.items():
        if not abs(value - wanted[name]) <= CLOSE * max(1, abs(wanted[name])):
            return Cell("FAULT", value, f"{name}: {value!r}, but NumPy gives {wanted[name]!r}")
    if not found:
        return Cell("FAULT", said="no value")
    code, out, err = command(folder, *arguments, *text)
    if wrong := fault(code, out, err) or ("" if code == 0 else "text ends otherwise than JSON"):
        return Cell("FAULT", said=wrong)
    if shown not in out:
        return Cell("FAULT", said=f"the text does not hold {shown}")
    return Cell("works", next(iter(found.values())))


def by_name(rows: Any) -> dict[str, float]:
    return {row["name"].removesuffix(".tflite"): row["score"] for row in rows}


def cells(task: Task, folder: Path) -> Iterator[tuple[str, Cell]]:
    """Every command on one task."""
    wanted = references(task, folder)
    unit = task_metric(task)
    words = unit.words(wanted["float"]).removesuffix(" %")
    files = [f"{name}.tflite" for name in wanted]
    data, options = ["--data", "data.npz"], list(task.options)
    yield "evaluate", run(folder, wanted, ["evaluate", *files, *data, *options], shown=words,
                          read=lambda found: by_name(found["models"]),
                          text=("--out", "predictions.npz"))
    yield "compare", run(folder, wanted, ["compare", *files, *data, *options], shown=words,
                         read=lambda found: by_name(found["files"]),
                         text=("--report", "compare.html"))
    scored = [] if task.metric == "accuracy" else ["--metric", task.metric]
    yield "significance", run(
        folder, wanted, ["significance", "predictions.npz", *scored], shown=words,
        read=lambda found: by_name(found["models"]))
    calibrated = ["--calibration", "calibration.npz"]
    yield "sensitivity", run(
        folder, wanted, ["sensitivity", "float.tflite", *data, *options, *calibrated],
        shown=words, read=lambda found: {"float": found["layers"][0]["score"]})
    roles = ["--float", "float.tflite", "--ptq", "ptq.tflite", "--qat", "qat.tflite"]
    yield "diagnose", run(
        folder, wanted, ["diagnose", *roles, *data, *options, *calibrated],
        shown=unit.words(wanted["qat"]).removesuffix(" %"), text=("--report", "diagnose.html"),
        read=lambda found: {found["focus"]["a"]: found["focus"]["value_a"],
                            found["focus"]["b"]: found["focus"]["value_b"]})
    yield "report", reported(folder, words)
    yield "dashboard", drawn(task, folder)


def task_metric(task: Task) -> Metric:
    """The metric of a task; this file is the module ``tasks``."""
    sys.path.insert(0, str(HERE))
    try:
        return metric(task.metric)
    finally:
        sys.path.pop(0)


def reported(folder: Path, words: str) -> Cell:
    """The reports that were written, and whether each says the value."""
    found = [folder / f"{name}.md" for name in ("compare", "diagnose")]
    there = [file for file in found if file.exists()]
    for file in there:
        page = file.with_suffix(".html")
        if words not in file.read_text(encoding="utf-8") or not page.stat().st_size:
            return Cell("FAULT", said=f"{page.name} does not hold {words}")
    if not there:
        return Cell("refused", said="there is nothing to report on.")
    return Cell("works", said=", ".join(file.stem for file in there))


def drawn(task: Task, folder: Path) -> Cell:
    """Every figure and page of the widgets of the results."""
    import matplotlib as mpl

    import qinspect as qi

    mpl.use("Agg")
    options: dict[str, Any] = {}
    for name, value in zip(task.options[::2], [*task.options[1::2], True], strict=False):
        options[name.removeprefix("--")] = True if name == "--sequence" else value
    files = [folder / f"{name}.tflite" for name in ("float", "ptq", "qat")]
    data, calibration = folder / "data.npz", folder / "calibration.npz"
    once = {name: value for name, value in options.items() if name != "sequence"}
    makers: dict[str, Callable[[], Any]] = {
        "compare": lambda: qi.compare(files, data, calibration, **options),
        "evaluate": lambda: qi.evaluate(files, data, **options),
        "significance": lambda: qi.evaluate(files, data, **options).compare(),
        "layers": lambda: qi.layers(files, data),
    }
    if not task.sequence:
        makers["sensitivity"] = lambda: qi.sensitivity(files[0], data, calibration=calibration,
                                                       **once)
        makers["diagnose"] = lambda: qi.diagnose(qi.case(
            float=files[0], ptq=files[1], qat=files[2], data=data, calibration=calibration, **once))
    done, refused = [], []
    sys.path.insert(0, str(HERE))
    try:
        for name, make in makers.items():
            try:
                count = shown_of(make())
            except QinspectError as error:
                refused.append(f"{name}: {error}")
            except Exception as error:  # a traceback for a user
                return Cell("FAULT", said=f"{name}: {type(error).__name__}: {error}")
            else:
                done.append(f"{name} {count}")
    finally:
        sys.path.pop(0)
    if not done:
        return Cell("refused", said=" ".join(refused))
    return Cell("works", said="figures: " + ", ".join(done)
                + (f"; {' '.join(refused)}" if refused else ""))


def shown_of(result: Any) -> int:
    """Draw every figure and open every page of a result; how many figures there were."""
    import matplotlib.pyplot as plt

    from qinspect.show.view import view_of

    for kind in result.figures:
        result.figure(kind).axes()
        plt.close("all")
    if view_of(result).explore is not None:
        opened(result.explore())
    return len(result.figures)


def opened(widget: Any) -> None:
    """Open every page of a widget and look for boxes that say what went wrong."""
    for name in getattr(widget, "pages", ()):
        widget.page(name)
    stack, seen = [widget], set()
    while stack:
        one = stack.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        text = getattr(one, "value", "")
        if isinstance(text, str) and 'role="alert"' in text:
            raise RuntimeError(f"a widget says: {text}")
        stack += [part for part in getattr(one, "children", ()) if part is not None]


# --- the table -----------------------------------------------------------------------------------


def table(rows: dict[str, tuple[Task, dict[str, Cell]]]) -> str:
    """The page ``docs/tasks.md``."""
    lines = [
        "# Tasks and commands", "",
        "Small networks on the digits of scikit-learn, as a float file, an int8 one and an int8 "
        "one with wrong ranges. Every cell was run by `python benchmarks/tasks.py --out "
        "docs/tasks.md`; values are those of the float file (of `diagnose`, of the first of the "
        "two files), each equal to what NumPy makes of LiteRT's outputs. Notes below the table "
        "hold the sentences.", "",
        "| task | metric | " + " | ".join(COMMANDS) + " |", "|---" * (len(COMMANDS) + 2) + "|"]
    notes: list[str] = []
    for name, (task, found) in rows.items():
        shown = []
        for one in COMMANDS:
            cell = found[one]
            text = cell.how
            if cell.value is not None:
                text += f" ({task_metric(task).words(cell.value)})"
            if cell.how != "works":
                if cell.said not in notes:
                    notes.append(cell.said)
                text += f" [{notes.index(cell.said) + 1}]"
            shown.append(text)
        chosen = " ".join(task.options) or "guessed"
        lines.append(f"| {name} | `{task.metric}` ({chosen}) | " + " | ".join(shown) + " |")
    lines += ["", *(f"{at}. {note}" for at, note in enumerate(notes, 1))]
    return "\n".join(lines).rstrip() + "\n"


def row(task: Task, folder: Path) -> dict[str, Cell]:
    """The cells of a task, kept in its folder."""
    kept, found = folder / "cells.json", {}
    if kept.exists():
        return {name: Cell(**one) for name, one in json.loads(kept.read_text()).items()}
    if not folder.exists():
        build(task, folder)
    for name, cell in cells(task, folder):
        found[name] = cell
        print(f"{task.name} | {name} | {cell.how} | {cell.value} | {cell.said}", flush=True)
    kept.write_text(json.dumps({name: asdict(cell) for name, cell in found.items()}))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="write the table here")
    parser.add_argument("--only", default=[""], nargs="+", help="tasks, by parts of their names")
    parser.add_argument("--keep", type=Path,
                        help="folder of files and cells; what was run there is not run again")
    chosen = parser.parse_args()
    rows: dict[str, tuple[Task, dict[str, Cell]]] = {}
    with tempfile.TemporaryDirectory() as made:
        work = chosen.keep or Path(made)
        work.mkdir(exist_ok=True)
        for task in tasks():
            if any(part in task.name for part in chosen.only):
                rows[task.name] = (task, row(task, work / task.key))
    page = table(rows)
    if chosen.out:
        chosen.out.write_text(page, encoding="utf-8")
    faults = sum(cell.how == "FAULT" for _, found in rows.values() for cell in found.values())
    print(f"{len(rows)} tasks, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
