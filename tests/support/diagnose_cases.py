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

from qinspect.causes import all_rules
from qinspect.data.dataset import Dataset
from qinspect.diagnosis.cases import Case
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.rule import Finding
from qinspect.measure.activations import observe_ranges
from qinspect.schema import HISTORY
from qinspect.tflite import evaluate, read_graph
from qinspect.tflite.constants import all_weights, constant
from qinspect.tflite.graph import Graph
from qinspect.tflite.requantize import Ranges, quantize_file, replace_constants

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


def trained(share: float) -> Graph:
    """The float network after some more training: its weights have moved by a share."""
    graph, rng = float_graph(), np.random.default_rng(3)
    values = {}
    for weight in all_weights(graph):
        held = np.asarray(constant(graph, weight.tensor))
        values[weight.tensor.index] = held + share * held.std() * rng.normal(size=held.shape)
    return graph_of(replace_constants(graph, values), "trained.tflite")


def moved(share: float, *, relu_below_zero: bool = False) -> Graph:
    """An int8 file of the network after some more training.

    With ranges below zero behind a ReLU nothing in it says that it was quantized after training.
    """
    graph = trained(share)
    bounds = dict(observe_ranges(graph, calibration()).over().bounds)
    if relu_below_zero:
        bounds |= {name: (-0.1 * high, high) for name, (_, high) in bounds.items()
                   if name.endswith("Relu")}
    return graph_of(quantize_file(graph, Ranges(bounds), "int8"), "moved.tflite")


def with_weight(graph: Graph, value: float, layer: int = 0) -> Graph:
    """The file with another value in the place of a layer's first weight."""
    tensor = all_weights(graph)[layer].tensor
    stored = np.array(constant(graph, tensor))
    stored.reshape(-1)[0] = value
    return graph_of(replace_constants(graph, {tensor.index: stored}))


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


def finding(name: str, given: Case) -> Finding:
    """What the evidence says of one cause."""
    return all_rules()[name].check(Evidence(given))
