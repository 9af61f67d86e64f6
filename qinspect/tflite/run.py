"""Run a ``.tflite`` file over many examples and take the class of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qinspect.schema import Array, Arrays
from qinspect.tflite.graph import Graph
from qinspect.tflite.read import read_graph
from qinspect.tflite.runner import Kernels, Model, run_files


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
        Arg max of ``raw`` (ties: lowest index, as the hardware would).
    tied : ndarray of bool, shape (n,)
        True where the greatest raw output is reached by more than one class.
    batched : bool
        False when the file could not be resized and ran one example at a time.
    notes : tuple of str
        What the user should know about how it ran.
    """

    outputs: Array
    raw: Array
    prediction: Array
    tied: Array
    batched: bool
    notes: tuple[str, ...] = ()


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
    run = run_files({name: graph}, x, outputs=[output], kernels=kernels, batch_size=batch_size,
                    workers=num_threads, sequence=sequence, isolated=isolated)[name]
    ((chosen, raw),) = run.outputs.items()
    outputs = run.real(chosen)
    notes = list(run.notes)
    bad = int(np.count_nonzero(~np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)))
    if bad:
        notes.append(f"{bad} of {len(outputs)} examples have a NaN or infinite output.")
    flat = raw.reshape(len(raw), -1)
    top = flat.max(axis=1, keepdims=True)
    return Evaluation(
        outputs=outputs,
        raw=raw,
        prediction=flat.argmax(axis=1).astype(np.int64),
        tied=np.count_nonzero(flat == top, axis=1) > 1,
        batched=run.batched,
        notes=tuple(notes),
    )
