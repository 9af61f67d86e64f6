"""Keep TensorFlow's chatter off the terminal: ``--json`` output must be JSON and nothing else."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator

# File descriptors belong to the whole process, so only one thread may redirect them at a time.
_LOCK = threading.RLock()


@contextlib.contextmanager
def quiet() -> Iterator[list[str]]:
    """Swallow and list what is written to file descriptors 1 and 2, C++ logs included."""
    # The list is filled when the block ends.  In a notebook, where Python's streams are not the
    # process's own, what Python prints still shows.
    lines: list[str] = []
    with _LOCK, tempfile.TemporaryFile() as sink:
        _flush()
        saved = {fd: os.dup(fd) for fd in (1, 2) if _is_open(fd)}
        try:
            for fd in saved:
                os.dup2(sink.fileno(), fd)
            yield lines
        finally:
            _flush()
            for fd, copy in saved.items():
                os.dup2(copy, fd)
                os.close(copy)
            sink.seek(0)
            lines += sink.read().decode("utf-8", "replace").splitlines()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        # A closed or replaced stream has nothing of ours to lose.
        with contextlib.suppress(Exception):
            stream.flush()


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
