"""Try a ``.tflite`` file in a child process, so that a bad one cannot take the caller with it.

Some files abort the process or corrupt its heap while LiteRT allocates or runs them; no Python
exception is raised then.  This is a guard against accidents, not against malice: the child has
limits on time, memory and file size, but the rights of its user.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qinspect.errors import ModelFileError
from qinspect.tflite.graph import Graph
from qinspect.tflite.probe_child import STEPS
from qinspect.tflite.read import read_content, read_graph

Status = Literal["ok", "refused", "crashed", "timeout"]

TIMEOUT = 30.0
MEMORY = 4 << 30
_CHILD = Path(__file__).with_name("probe_child.py")
_DOING = {
    "": "starting",
    "open": "opening it",
    "allocate": "allocating its tensors",
    "invoke": "running it",
}
_MAX_ANSWER = 4096
_known: dict[tuple[bytes, int], ProbeResult] = {}


@dataclass(frozen=True)
class ProbeResult:
    """What happened when a file was opened, allocated and run once in a child process.

    Attributes
    ----------
    status : {"ok", "refused", "crashed", "timeout"}
        ``refused``: LiteRT reported an error; ``crashed``: the child died.
    message : str
        What happened, to follow the file's name in a sentence; empty when ok.
    """

    status: Status
    message: str = ""


def probe(
    model: str | os.PathLike[str] | bytes,
    timeout: float = TIMEOUT,
    memory: int = MEMORY,
) -> ProbeResult:
    """Open, allocate and run a model once in a child process.

    Parameters
    ----------
    model : path or bytes
        The ``.tflite`` file.
    timeout : float
        Seconds of wall time that the child has.
    memory : int
        Bytes of address space that the child has (not enforced on Windows and macOS).

    Returns
    -------
    ProbeResult
        The answer is remembered for the life of the process by the content of the file, except a
        timeout, which depends on how busy the machine is.

    Raises
    ------
    ModelFileError
        If the path cannot be read.
    """
    content = read_content(model)
    key = (hashlib.sha256(content).digest(), memory)
    if key not in _known:
        result = _probe_in_child(content, timeout, memory)
        if result.status == "timeout":
            return result
        _known[key] = result
    return _known[key]


def ensure_runs(model: str | os.PathLike[str] | bytes, **limits: float) -> None:
    """Raise unless a model can be opened, allocated and run once.

    Parameters
    ----------
    model : path or bytes
        The ``.tflite`` file.
    **limits
        ``timeout`` and ``memory`` of :func:`probe`.

    Raises
    ------
    ModelFileError
        Names the file and what happened in the child process.
    """
    result = probe(model, **limits)  # type: ignore[arg-type]
    if result.status != "ok":
        name = "model" if isinstance(model, bytes) else os.fspath(model)
        raise ModelFileError(f"{name} {result.message}")


def _probe_in_child(content: bytes, timeout: float, memory: int) -> ProbeResult:
    arguments = {
        "path": [entry for entry in sys.path if entry],
        # The interpreter, NumPy and the file itself are not the model's appetite.
        "memory": memory + len(content),
        "cpu": max(1, int(timeout) + 1),
    }
    command = [sys.executable, "-I", "-S", str(_CHILD), json.dumps(arguments)]
    # One BLAS thread: each would reserve address space out of the limit.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
        try:
            answer, _ = child.communicate(content, timeout=timeout)
        except subprocess.TimeoutExpired:
            _kill(child)
            return ProbeResult(
                "timeout",
                f"did not finish within {timeout:g} s in a child process and was stopped.",
            )
        except BaseException:  # an interrupted notebook must not leave the child behind
            _kill(child)
            raise
        log.seek(max(0, log.seek(0, os.SEEK_END) - _MAX_ANSWER))
        tail = log.read().decode("utf-8", errors="replace")
    lines = answer[-_MAX_ANSWER:].decode("utf-8", errors="replace").splitlines()
    return _interpret(lines, child.returncode, tail, memory)


def _kill(child: subprocess.Popen[bytes]) -> None:
    try:
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    except ProcessLookupError:
        pass
    child.communicate()


def _interpret(lines: list[str], code: int, log: str, memory: int) -> ProbeResult:
    last = lines[-1] if lines else ""
    if last == "ok":
        return ProbeResult("ok")
    reached = [line for line in lines if line in STEPS]
    doing = _DOING[reached[-1] if reached else ""]
    if last.startswith("refused"):
        reason = last.removeprefix("refused").strip()
        if reason == "MemoryError" or "bad_alloc" in reason:
            return ProbeResult("refused", _too_large(doing, memory))
        return ProbeResult("refused", f"is refused by LiteRT while {doing}: {reason}")
    if code < 0 and _signal_name(-code) == "SIGXCPU":
        return ProbeResult(
            "timeout", f"used up its processor time in a child process while {doing}."
        )
    if "bad_alloc" in log or "MemoryError" in log:
        return ProbeResult("crashed", _too_large(doing, memory))
    how = f"status {code}" if code >= 0 else _signal_name(-code)
    words = [line.strip() for line in log.splitlines() if line.strip()]
    said = [line for line in words if not line.startswith(("INFO", "WARNING"))]
    detail = f"; it wrote: {said[-1][:200]}" if said else ""
    return ProbeResult("crashed", f"kills the process that opens it ({how} while {doing}{detail}).")


def _too_large(doing: str, memory: int) -> str:
    return f"asks for more than {memory / (1 << 20):,.0f} MiB of memory while {doing}."


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def open_model(model: str | os.PathLike[str] | bytes | Graph) -> Graph:
    """Read a ``.tflite`` file and try it in a child process; what was read before is given back."""
    if isinstance(model, Graph):
        return model
    graph = read_graph(model)
    ensure_runs(model)
    return graph
