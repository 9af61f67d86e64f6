"""Reference kernels against the usual ones, on as many examples as a budget of time allows."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qinspect.data.dataset import count, take
from qinspect.errors import DataError, ModelFileError, QinspectError
from qinspect.measure.error_metrics import output_sqnr
from qinspect.metrics import ACCURACY
from qinspect.predictions import Results
from qinspect.schema import Array, Arrays
from qinspect.tflite.graph import Graph
from qinspect.tflite.isolated import cores
from qinspect.tflite.run import Evaluation, evaluation_of
from qinspect.tflite.runner import Session
from qinspect.tflite.runner_child import same_values
from qinspect.tflite.task import Task
from qinspect.verdicts import examples

MOST = 256
# Kernels that give the same outputs for so many examples are not run on more of them.
_AGREED = 32
_FIRST = 4
# What a check may take: so many seconds, or this share of what running the files took.
_SECONDS = 1.0
_SHARE = 0.25
# Seconds that the reference kernels need for a multiplication, and how many times as long as the
# usual ones they take; measured on two convolutional networks, float and int8.
_MULTIPLICATION = 5e-10
_TIMES = 25
# Inputs of these are constants that are not multiplied with.
_LOOK_UP = {"GATHER", "EMBEDDING_LOOKUP", "RESHAPE", "TRANSPOSE", "PAD", "SLICE", "STRIDED_SLICE"}


@dataclass(frozen=True)
class ReferenceRun:
    """What the reference kernels gave for some examples, in the order of the data."""

    index: Array
    usual: Evaluation  # of the same examples
    result: Evaluation
    scored: Any
    said: str  # on which examples, and why on no more


def seconds_for(evaluations: Iterable[Evaluation]) -> float:
    """What the reference kernels may take for each of the files that were evaluated."""
    taken = [one.seconds for one in evaluations]
    return max(_SECONDS, _SHARE * sum(taken)) / len(taken)


def reference_run(
    task: Task, name: str, graph: Graph, x: Arrays, usual: Evaluation, order: Array,
    seconds: float, *, workers: int | None = None,
) -> ReferenceRun:
    """Run the reference kernels on examples in a random order until they agree or time is up.

    How many are run follows from the network, so that it is the same each time; the clock ends it
    only on a machine that is far slower than expected.
    """
    n = count(x)
    planned = min(len(order), max(
        int(seconds / (_MULTIPLICATION * multiplications(graph))),
        int(_SHARE * n / _TIMES),
    ))
    if planned < 1:
        each = _MULTIPLICATION * multiplications(graph)
        raise ModelFileError(
            f"{name} would take about {each:.0f} s for an example, more than this check may take; "
            "evaluate it on a few examples with --kernels reference.")
    began, parts, done, agree = time.perf_counter(), [], 0, True
    with Session(graph, name=name, outputs=[task.outputs[name]], kernels="reference",
                 batch_size=1, workers=workers) as session:
        port = session.outputs[0]
        room = max(1, min(max(_FIRST, workers or cores()), planned // 4))
        while room >= 1 and done < planned and not (agree and done >= _AGREED):
            until = min(planned, done + room)
            index = order[done:until]
            found = session.run(take(x, index))
            if port.tensor.index not in found:
                raise ModelFileError(f"the output {port.name!r} of {name} could not be read.")
            parts.append(found[port.tensor.index])
            agree = agree and same_values(usual.raw[index], parts[-1])
            done = until
            taken = time.perf_counter() - began
            room = min(done, int((seconds - taken) / taken * done))
        notes = session.notes
    index = order[:done]
    sort = np.argsort(index)
    result = evaluation_of(port, np.concatenate(parts)[sort], False, notes)
    index = index[sort]
    scored = task.scored(name, graph, take(x, index), result, kernels="reference")
    return ReferenceRun(index, usual.take(index), result, scored, _said(done, n, planned, agree))


def kernel_row(
    name: str, graph: Graph, x: Arrays, y: Array | None, ids: Array, *, task: Task,
    usual: Evaluation, order: Array, seconds: float, num_threads: int | None = None,
) -> dict[str, Any]:
    """Default (XNNPACK) kernels against reference kernels on some of the examples.

    Parameters
    ----------
    usual : Evaluation
        Of all examples by the default kernels.
    order : ndarray of int
        Examples to take, one after the other.
    seconds : float
        What the reference kernels may take.

    Returns
    -------
    dict
        file, examples (how many were run), said (which, and why no more), flips (examples
        classified differently), flip_ids, max_abs (largest difference of an output, real units),
        output_sqnr_db, accuracy_default, accuracy_reference (None without labels), score_default,
        score_reference (of the metric of ``task``), error (why reference kernels did not run).
    """
    row: dict[str, Any] = {
        "file": name, "examples": 0, "said": None, "flips": None, "flip_ids": [], "max_abs": None,
        "output_sqnr_db": None, "accuracy_default": None, "accuracy_reference": None,
        "score_default": None, "score_reference": None, "error": None,
    }
    try:
        ran = reference_run(task, name, graph, x, usual, order, seconds, workers=num_threads)
    except QinspectError as error:
        return {**row, "error": str(error)}
    default, reference = ran.usual, ran.result
    gap = np.abs(default.outputs.astype(np.float64) - reference.outputs)
    row |= {
        "examples": len(ran.index),
        "said": ran.said,
        "max_abs": float(gap.max()),
        "output_sqnr_db": output_sqnr(reference.outputs, default.outputs),
    }
    if task.classes and default.scores_of_classes:
        flips = default.prediction != reference.prediction
        row |= {"flips": int(flips.sum()), "flip_ids": ids[ran.index][flips]}
    y = None if y is None else y[ran.index]
    if task.metric is not None and (y is not None or not task.metric.needs_y):
        usually = task.scored(name, graph, take(x, ran.index), default)
        for key, output in (("default", usually), ("reference", ran.scored)):
            try:
                value = Results({name: output}, y, metric=task.metric).value(name)
            except DataError:  # such as an area under a curve of one class alone
                continue
            row[f"score_{key}"] = value
            row[f"accuracy_{key}"] = value if task.metric is ACCURACY else None
    return row


def _said(done: int, n: int, planned: int, agree: bool) -> str:
    some = f"{done:,} of {examples(n)}" + (", drawn at random" if done < n else "")
    if done == n:
        return f"reference kernels were run on all {examples(n)}."
    if agree and done >= _AGREED:
        return (f"reference kernels gave the same outputs for {some}, and were run on no others.")
    if done < planned or planned < MOST:
        return f"reference kernels were run on {some}; more would have taken too long."
    return f"reference kernels were run on {some}."


def multiplications(graph: Graph) -> float:
    """About how many multiplications one example costs."""
    total = 1.0
    for subgraph in graph.subgraphs:
        sizes = [math.prod(max(1, d) for d in tensor.shape) for tensor in subgraph.tensors]
        for operator in subgraph.operators:
            made = sum(sizes[i] for i in operator.outputs)
            if operator.code in _LOOK_UP or not operator.outputs:
                total += made
                continue
            held = sum(sizes[i] for i in operator.inputs
                       if i >= 0 and subgraph.tensors[i].constant)
            channels = _last(subgraph.tensors[operator.outputs[0]].shape)
            if operator.code == "BATCH_MATMUL" and not held:
                held = channels * _last(subgraph.tensors[operator.inputs[0]].shape)
            # Each output of a convolution or a matrix product meets the weights of its channel.
            total += made * (1 + held / channels)
    return total


def _last(shape: tuple[int, ...]) -> int:
    return max(1, shape[-1]) if shape else 1
