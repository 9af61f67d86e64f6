"""Try a ``.tflite`` file of others in a child process before anything else is done with it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qinspect.errors import ModelFileError
from qinspect.schema import Array
from qinspect.tflite.graph import Graph, Tensor
from qinspect.tflite.isolated import MEMORY, Died, Remote, too_large
from qinspect.tflite.ports import FLOATS, READABLE
from qinspect.tflite.read import read_graph
from qinspect.tflite.runner import not_run, refusal
from qinspect.tflite.runner_child import KERNELS, Plan, Refused

Status = Literal["ok", "refused", "crashed", "timeout"]

TIMEOUT = 30.0
_known: dict[tuple[bytes, int], ProbeResult] = {}


@dataclass(frozen=True)
class ProbeResult:
    """How one run in a child process went; ``message`` follows the file's name, empty when ok."""

    status: Status  # "refused": LiteRT reported an error; "crashed": the child died
    message: str = ""
    kernels: str = "default"  # the first that run it


def probe(model: str | os.PathLike[str] | bytes | Graph, timeout: float = TIMEOUT,
          memory: int = MEMORY) -> ProbeResult:
    """Run a model once, in a child that has so many seconds and bytes of address space."""
    # Remembered for the life of the process by the content of the file, except a timeout, which
    # depends on how busy the machine is.
    try:
        graph = model if isinstance(model, Graph) else read_graph(model)
    except ModelFileError as error:
        if isinstance(error.__cause__, OSError):
            raise
        return ProbeResult("refused", str(error).removeprefix(_name(model)).lstrip())
    key = (hashlib.sha256(graph.content).digest(), memory)
    if key not in _known:
        result = _probe(graph, timeout, memory)
        if result.status == "timeout":
            return result
        _known[key] = result
    return _known[key]


def ensure_runs(model: str | os.PathLike[str] | bytes | Graph, **limits: float) -> None:
    """Raise unless a model can be opened, allocated and run once."""
    result = probe(model, **limits)  # type: ignore[arg-type]
    if result.status != "ok":
        raise ModelFileError(f"{_name(model)} {result.message}")


def _name(model: str | os.PathLike[str] | bytes | Graph) -> str:
    if isinstance(model, Graph):
        return model.file
    return "model" if isinstance(model, bytes) else os.fspath(model)


def open_model(model: str | os.PathLike[str] | bytes | Graph) -> Graph:
    """Read a file of others and try it; whatever runs it later does so in a child, too."""
    if isinstance(model, Graph):
        return model
    graph = read_graph(model)
    ensure_runs(graph)
    return graph


def _probe(graph: Graph, timeout: float, memory: int) -> ProbeResult:
    reason = not_run(graph)
    inputs = [graph.main.tensors[i] for i in graph.main.inputs]
    if sum(np.prod(t.shape, dtype=np.float64) for t in inputs) > memory / 32:
        reason = too_large("allocating its tensors", memory)
    if reason:
        return ProbeResult("refused", reason)
    values = [_harmless(tensor) for tensor in inputs]
    first: ProbeResult | None = None
    for at in range(len(KERNELS)):
        plan = Plan(inputs=graph.main.inputs, reads=(), kernels=KERNELS[at:], lead=0)
        remote = Remote(graph.content, plan, timeout=timeout, memory=memory)
        try:
            events, _ = remote.settle(lambda a, b: values, 0, 1)
            kernels = events[-1]["kernels"] if events else KERNELS[at]
            return ProbeResult("ok", kernels=kernels)
        except Refused as refused:
            return first or ProbeResult("refused", refusal(graph, refused, memory))
        except Died as died:
            status: Status = "timeout" if died.late else "crashed"
            first = first or ProbeResult(status, str(died))
            if died.final:
                return first
        finally:
            remote.close()
    assert first is not None
    return first


def _harmless(tensor: Tensor) -> Array:
    """One example: the safest values where an input holds a shape, a divisor or an index."""
    shape = (1, *tensor.shape)
    if tensor.dtype == "string":
        return np.full(shape, b"a")
    if tensor.dtype in FLOATS:
        return np.ones(shape, tensor.dtype)
    return np.zeros(shape, tensor.dtype if tensor.dtype in READABLE else np.int8)
