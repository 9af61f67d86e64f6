"""Run a ``.tflite`` file over many examples and take the class of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qinspect.errors import ModelFileError
from qinspect.metrics.classes import class_of
from qinspect.schema import Array, Arrays
from qinspect.tflite.graph import Graph
from qinspect.tflite.ports import Port, real_values
from qinspect.tflite.read import read_graph
from qinspect.tflite.runner import Kernels, Model, Session, run_sessions
from qinspect.verdicts import examples


@dataclass(frozen=True)
class Evaluation:
    """Raw results of running one model over examples.

    Attributes
    ----------
    outputs : ndarray of float32, shape (n, classes)
        Dequantized output.
    raw : ndarray, shape (n, classes)
        Output as the file gives it (int8, uint8, int16 or float32).
    prediction : ndarray of int64, shape (n,)
        Class of the greatest ``raw`` (ties: lowest index, as the hardware would), -1 where one is
        NaN: no answer.
    tied : ndarray of bool, shape (n,)
        True where the greatest raw output is reached by more than one class.
    batched : bool
        False when the file could not be resized and ran one example at a time.
    notes : tuple of str
        What the user should know about how it ran.
    seconds : float
        How long it took, of files that were run in one pass the same for each.
    """

    outputs: Array
    raw: Array
    prediction: Array
    tied: Array
    batched: bool
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def scores_of_classes(self) -> bool:
        """Whether an example's output is one row of more than one number."""
        return sum(size > 1 for size in self.raw.shape[1:]) == 1

    def take(self, index: Array) -> Evaluation:
        """Some of the examples."""
        return replace(self, outputs=self.outputs[index], raw=self.raw[index],
                       prediction=self.prediction[index], tied=self.tied[index])


def evaluate(
    model: Model,
    x: Arrays,
    *,
    batch_size: int | None = None,
    num_threads: int | None = None,
    kernels: Kernels = "default",
    output: int | str = 0,
    sequence: bool = False,
    isolated: bool | None = None,
) -> Evaluation:
    """Outputs and predictions of a file for every example, given in units of its float input."""
    # `num_threads` interpreters of one thread each run side by side, one a core unless given.
    graph = model if isinstance(model, Graph) else read_graph(model)
    name = Path(graph.file).name
    return evaluate_files({name: graph}, {name: x}, {name: output}, batch_size=batch_size,
                          workers=num_threads, kernels=kernels, sequence=sequence,
                          isolated=isolated)[name]


def evaluate_files(
    graphs: Mapping[str, Graph], x: Mapping[str, Arrays], outputs: Mapping[str, int | str],
    progress: Callable[[int, int], None] | None = None, **options: Any,
) -> dict[str, Evaluation]:
    """Several files in one pass over the same examples; options as of a session."""
    began = time.perf_counter()
    runs = run_sessions({name: Session(graph, name=name, outputs=[outputs[name]], **options)
                         for name, graph in graphs.items()}, x, progress)
    seconds = (time.perf_counter() - began) / len(runs)
    return {
        name: evaluation_of(run.ports[key], raw, run.batched, run.notes, seconds)
        for name, run in runs.items() for key, raw in run.outputs.items()
    }


def evaluation_of(port: Port, raw: Array, batched: bool, notes: Sequence[str],
                  seconds: float = 0.0) -> Evaluation:
    """What an output's stored values say, one entry an example."""
    if raw.size == 0:
        raise ModelFileError(f"the output {port.name!r} holds no values.")
    outputs = real_values(port.tensor, raw)
    said = list(notes)
    bad = int(np.count_nonzero(~np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)))
    if bad:
        said.append(f"{bad} of {examples(len(outputs))} have a NaN or infinite output.")
    flat = raw.reshape(len(raw), -1)
    top = flat.max(axis=1, keepdims=True)
    return Evaluation(
        outputs=outputs,
        raw=raw,
        prediction=class_of(raw),
        tied=np.count_nonzero(flat == top, axis=1) > 1,
        batched=batched,
        notes=tuple(said),
        seconds=seconds,
    )
