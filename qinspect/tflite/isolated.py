"""Runs a ``.tflite`` file in a child process, so that a bad one cannot take the caller with it.

Some files abort the process or corrupt its heap while LiteRT allocates or runs them; no Python
exception is raised then.  This is a guard against accidents, not against malice: the child has
limits on time, memory and file size, but the rights of its user.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import mmap
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from qinspect.schema import Array
from qinspect.tflite.runner_child import (
    PAGE,
    STEPS,
    Layout,
    Plan,
    Refused,
    Take,
    array_at,
    shared_memory,
)

# Seconds that a child may take to start or for its first examples; others may take as long as
# their number suggests, and then some.
TIMEOUT = 60.0
_SLACK = 50
MEMORY = 4 << 30
_WORKER_MEMORY = 256 << 20
_LARGE = 64 << 20
# Idle children that are kept: layer passes use several at a time.
_SPARES = 4
_SCRIPT = Path(__file__).with_name("runner_child.py")
_WINDOWS = os.name == "nt"


class Died(Exception):
    """A child is no more; the message follows the file's name."""

    def __init__(self, message: str, *, final: bool = False, late: bool = False) -> None:
        super().__init__(message)
        self.late = late  # it did not die but never answered
        self.final = final or late  # other kernels would fare no better


class Remote:
    """The engine of one file in a child process."""

    def __init__(self, content: bytes, plan: Plan, *, timeout: float | None = None,
                 memory: int = MEMORY) -> None:
        self.content, self.plan = content, plan
        self.layout: Layout = []
        self._timeout, self._limit = timeout or TIMEOUT, memory
        self._seconds = self._timeout
        self._well = False
        # Where the two slots lie and how wide they are: one is filled while the other is in use.
        self._slots, self._slot, self._end = [(PAGE, 0), (PAGE, 0)], 0, PAGE
        self._open()

    def _open(self) -> None:
        self._process = _spare_or_new(len(self.content), self._limit)
        self._process.send({"do": "open", "plan": asdict(self.plan), "bytes": len(self.content)},
                           self.content)
        self._opened = False

    def _await(self, seconds: float) -> dict[str, Any]:
        if not self._opened:
            self._process.wait(self._timeout)
            self._opened = True
        answer = self._process.wait(seconds)
        self.layout = [laid and (tuple(laid[0]), np.dtype(laid[1])) for laid in answer["layout"]]
        return answer

    def settle(self, take: Take, start: int, stop: int) -> tuple[list[dict[str, Any]], int]:
        """Find out how the file runs: what the user should know, and the batch."""
        values = take(start, stop)
        places, end = _places([(v.shape, v.dtype) for v in values], PAGE)
        began = time.monotonic()
        while True:
            memory = self._process.grow(end)
            _fill(memory, places, values)
            self._process.send({"do": "settle", "feeds": places, "count": stop - start,
                                "first": start, "size": len(memory)})
            try:
                answer = self._await(self._timeout)
                break
            except Died as died:
                # One that served another file before may have been damaged by that.
                if died.late or not self._process.used:
                    raise
                self._open()
        self._process.used = True
        self._seconds = time.monotonic() - began
        self._well = True
        return answer["events"], answer["size"]

    def load(self, take: Take, start: int, stop: int) -> None:
        """Put examples where the child can read them; it may still be busy with others."""
        values, count = take(start, stop), stop - start
        sizes: list[Any] = [(v.shape, v.dtype) for v in values]
        sizes += [laid and ((count, *laid[0]), laid[1]) for laid in self.layout]
        self._slot = 1 - self._slot
        width, had = _places(sizes, 0)[1], self._slots[self._slot][1]
        if width > had:  # beyond both slots, since the other one may be in use
            width = max(width, 2 * had)
            self._slots[self._slot] = self._end, width
            self._end += width
        places, _ = _places(sizes, self._slots[self._slot][0])
        memory = self._process.grow(self._end)
        _fill(memory, places, values)
        self._loaded: tuple[mmap.mmap, dict[str, Any]] = memory, {
            "do": "run", "feeds": places[: len(values)], "outs": places[len(values) :],
            "count": count, "first": start, "size": len(memory),
        }

    def start(self) -> None:
        """Begin with what was loaded."""
        self._begun = self._loaded
        self._process.send(self._begun[1])

    def finish(self, outs: Sequence[Array | None], tick: Callable[[int], None] | None = None
               ) -> list[dict[str, Any]]:
        """Wait for what was begun and copy it out; what the user should know."""
        memory, command = self._begun
        self._well = False
        answer = self._await(self._timeout + _SLACK * self._seconds * command["count"])
        for out, place in zip(outs, command["outs"], strict=True):
            if out is not None and place is not None:
                out[...] = array_at(memory, place)
        if tick is not None:
            tick(command["count"])
        self._well = True
        return answer["events"]

    def close(self) -> None:
        """Keep a child whose file ran well for the next file, end any other."""
        if self._well and self._process.process.poll() is None:
            self._process.send({"do": "close"})
            with contextlib.suppress(Died, Refused):
                self._process.wait(TIMEOUT)
                with _LOCK:
                    if len(_spare) < _SPARES and self._limit == MEMORY:
                        _spare.append(self._process)
                        return
        self._process.kill()


def _fill(memory: mmap.mmap, places: Sequence[Any], values: Sequence[Array]) -> None:
    for value, place in zip(values, places, strict=False):
        array_at(memory, place)[...] = value


def _places(sizes: Sequence[Any], start: int) -> tuple[list[Any], int]:
    """Offsets of arrays in shared memory, and where they end."""
    places: list[Any] = []
    for size in sizes:
        if size is None:
            places.append(None)
            continue
        shape, dtype = size
        places.append((start, tuple(shape), dtype.str))
        width = math.prod(shape) * dtype.itemsize
        start += -(-width // 64) * 64
    return places, -(-start // PAGE) * PAGE


def cores() -> int:
    """Processors that this process may use: affinity and the quota of its control group."""
    count = getattr(os, "process_cpu_count", os.cpu_count)() or 1
    if hasattr(os, "sched_getaffinity"):
        count = min(count, len(os.sched_getaffinity(0)))
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        count = min(count, max(1, int(quota) // int(period)))  # "max" is no number
    return count


# --- processes -----------------------------------------------------------------------------------


class Process:
    """A child process that runs examples, and the memory that it shares with this one."""

    def __init__(self, memory: int = MEMORY) -> None:
        self.used = False
        self._limit = memory
        self._file, self._log = _nameless_file(), _nameless_file()
        self._file.truncate(PAGE)
        self._handle: int | str = (
            f"qinspect-{uuid.uuid4().hex}" if _WINDOWS else self._file.fileno()
        )
        self._memory = shared_memory(self._handle, PAGE)
        self._marks = np.ndarray((PAGE // 8,), np.int64, buffer=self._memory)
        arguments = {
            "path": [entry for entry in sys.path if entry], "handle": self._handle,
            "memory": memory,
        }
        inherited: dict[str, Any] = {} if _WINDOWS else {"pass_fds": (self._handle,)}
        # One BLAS thread: each would reserve address space out of the limit.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_SCRIPT), json.dumps(arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=environment,
            start_new_session=True, **inherited,
        )
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            for line in self.process.stdout:
                self._answers.put(line)
        self._answers.put(b"")

    def grow(self, size: int) -> mmap.mmap:
        """The shared memory, made large enough."""
        if size <= len(self._memory):
            return self._memory
        try:
            if isinstance(self._handle, int):
                self._file.truncate(size)
            self._memory = shared_memory(self._handle, size)
        except (OSError, ValueError, OverflowError, MemoryError):
            raise Refused(STEPS.index("running it"), "MemoryError") from None
        return self._memory

    def send(self, command: dict[str, Any], payload: bytes = b"") -> None:
        """Give a command; a child that is gone is found out when its answer is awaited."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps(command).encode() + b"\n")
            self.process.stdin.write(payload)
            self.process.stdin.flush()

    def wait(self, seconds: float) -> dict[str, Any]:
        """The next answer; its refusal is raised, and so is the death of the child."""
        try:
            line = self._answers.get(timeout=seconds)
        except queue.Empty:
            doing = self._doing()
            self.kill()
            raise Died(f"did not finish within {seconds:g} s in a child process while {doing} and "
                       "was stopped.", late=True) from None
        except BaseException:  # an interrupted notebook must not leave the child behind
            self.kill()
            raise
        if not line:
            raise self._death()
        answer = json.loads(line)
        if "refused" in answer:
            raise Refused(*answer["refused"])
        return answer

    def kill(self) -> None:
        """End the child and let go of what was shared with it."""
        # Not its group: the number of one that has been waited for may be another's by now.
        self.process.kill()
        self.process.wait()
        self._listener.join()
        for stream in (self.process.stdin, self.process.stdout, self._file, self._log):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]

    def _doing(self) -> str:
        step = STEPS[min(max(int(self._marks[0]), 0), len(STEPS) - 1)]
        numbers = sorted(int(n) - 1 for n in self._marks[1:] if n > 0)
        if step != STEPS[3] or not numbers:
            return step
        if len(numbers) == 1:
            return f"running example {numbers[0]}"
        return f"running an example from {numbers[0]} on"

    def _death(self) -> Died:
        doing = self._doing()
        code = self.process.wait()
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 4096))
        log = self._log.read().decode("utf-8", errors="replace")
        self.kill()
        if "bad_alloc" in log or "MemoryError" in log:
            return Died(too_large(doing, self._limit), final=True)
        how = f"status {code}" if code >= 0 else _signal_name(-code)
        lines = [line.strip() for line in log.splitlines() if line.strip()]
        said = [line for line in lines if not line.startswith(("INFO", "WARNING"))]
        detail = f"; it wrote: {said[-1][:200]}" if said else ""
        return Died(f"kills the process that runs it ({how} while {doing}{detail}).")


def too_large(doing: str, memory: int = MEMORY) -> str:
    """What a file asks for that must not be given, to follow its name."""
    return f"asks for more than {memory >> 20:,} MiB of memory while {doing}."


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _nameless_file() -> Any:
    """A file that leaves nothing behind, in memory where the system has that."""
    if not hasattr(os, "memfd_create"):
        return tempfile.TemporaryFile()
    handle = os.memfd_create("qinspect")
    if handle <= 2:
        # Of a process whose standard streams are closed: a child has its own ones there.
        import fcntl

        low, handle = handle, fcntl.fcntl(handle, fcntl.F_DUPFD_CLOEXEC, 3)
        os.close(low)
    return os.fdopen(handle, "w+b")


_LOCK = threading.Lock()
_spare: list[Process] = []


def _spare_or_new(size: int, memory: int) -> Process:
    """A child that is left over from a file that ran well, or a new one for a model of a size."""
    with _LOCK:
        while _spare and size < _LARGE and memory == MEMORY:
            process = _spare.pop()
            if process.process.poll() is None:
                return process
            process.kill()
    # Workers, and copies of the weights that kernels arrange anew, are not the file's appetite.
    room = cores() * _WORKER_MEMORY if memory == MEMORY else 0
    return Process(memory + room + 8 * (size // _LARGE) * _LARGE)


@atexit.register
def end_spare() -> None:
    """End the children that wait for a file."""
    while _spare:
        _spare.pop().kill()
