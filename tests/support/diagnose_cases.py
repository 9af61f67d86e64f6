"""Cases with a known truth, made from a small float network without TensorFlow.

Labels are the float network's own predictions on examples that it is sure of, so float is right
everywhere, a good int8 file nearly so, and whatever is lost was lost by what was done to the file.
"""

from __future__ import annotations

import functools
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from small_net import examples, small_net

from qinspect.data.dataset import Dataset
from qinspect.diagnosis.cases import Case
from qinspect.measure.activations import observe_ranges
from qinspect.schema import HISTORY
from qinspect.tflite import evaluate, read_graph
from qinspect.tflite.graph import Graph
from qinspect.tflite.requantize import Ranges, quantize_file

N = 1_000


def graph_of(content: bytes, name: str = "model.tflite") -> Graph:
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        return read_graph(path)


@functools.cache
def float_graph(seed: int = 0, spread: float = 1.0) -> Graph:
    return graph_of(small_net(seed, spread=spread), "float.tflite")


@functools.cache
def data(spread: float = 1.0) -> Dataset:
    x = examples(3 * N, seed=5)
    found = evaluate(float_graph(0, spread).content, x)
    ordered = np.sort(found.outputs, axis=1)
    sure = np.sort(np.argsort(ordered[:, -2] - ordered[:, -1], kind="stable")[:N])
    x, y = x[sure], found.prediction[sure]
    return Dataset("small", x, y, np.array([f"e{i:04d}" for i in range(N)]), 4)


def calibration(n: int = 300) -> np.ndarray:
    return examples(n, seed=9)


def ranges(x: np.ndarray, spread: float = 1.0) -> Ranges:
    return observe_ranges(float_graph(0, spread), x).over()


def int8(bounds: Ranges, spread: float = 1.0) -> Graph:
    return graph_of(quantize_file(float_graph(0, spread), bounds, "int8"), "ptq.tflite")


def history(float_losses: list[float], qat_losses: list[float]) -> pd.DataFrame:
    rows = []
    for phase, losses in (("float", float_losses), ("qat", qat_losses)):
        for epoch, loss in enumerate(losses, 1):
            rows.append((phase, epoch, 100 * epoch, loss, 0.9, loss, 0.9, 1e-3, 1.0))
    return pd.DataFrame(rows, columns=list(HISTORY))


def case(ptq: Graph, spread: float = 1.0, **parts: object) -> Case:
    known: dict[str, object] = {
        "float_graph": float_graph(0, spread), "ptq_graph": ptq, "data": data(spread),
    }
    return Case(**(known | parts))  # type: ignore[arg-type]
