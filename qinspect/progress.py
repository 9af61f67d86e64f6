"""A progress line for the terminal, the notebook and the log file.

``tqdm.auto`` shows a widget in notebooks that is frozen at 0 % once the notebook is saved; a
display with an id keeps its last text.
"""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

from qinspect.shown import kernel

# progress(phase, done, total, message)
Progress = Callable[[str, int, int, str], None]

_REFRESH_SECONDS = 0.1
_LOG_SECONDS = 60
_LATE_SECONDS = 1
_BAR = 20


def make_progress() -> Progress:
    """The progress line that suits where the program runs.

    Returns
    -------
    callable
        ``progress(phase, done, total, message)``: ``done`` of ``total`` units of ``phase`` are
        finished.  A phase ends with ``done >= total``.  In a terminal one line of standard error
        is rewritten, in a notebook one output cell; elsewhere each finished phase is one line of
        standard error, and a long phase one line a minute.  Nothing goes to standard output.
    """
    if kernel():
        return _Notebook(_REFRESH_SECONDS)
    if sys.stderr.isatty():
        return _Terminal(_REFRESH_SECONDS)
    return _Log(_LOG_SECONDS, shown=time.monotonic())


def late_progress() -> Progress:
    """For what is often done at once: a log shows nothing, a notebook what takes a second."""
    if not kernel():
        return make_progress() if sys.stderr.isatty() else no_progress
    shown, started = make_progress(), time.monotonic()

    def late(phase: str, done: int, total: int, message: str) -> None:
        if time.monotonic() - started >= _LATE_SECONDS:
            shown(phase, done, total, message)

    return late


def no_progress(phase: str, done: int, total: int, message: str) -> None:
    """Show nothing."""


class _Display:
    """Shows a state unless the last one was shown a moment ago; the end of a phase always."""

    def __init__(self, seconds: float, shown: float = -math.inf) -> None:
        self._seconds, self._shown = seconds, shown

    def __call__(self, phase: str, done: int, total: int, message: str) -> None:
        ended, now = done >= total, time.monotonic()
        if ended or now - self._shown >= self._seconds:
            self._shown = now
            self.show(phase, done, total, message, ended)

    def show(self, phase: str, done: int, total: int, message: str, ended: bool) -> None:
        raise NotImplementedError


class _Terminal(_Display):
    """Rewrite one line; a finished phase keeps its line."""

    def show(self, phase: str, done: int, total: int, message: str, ended: bool) -> None:
        line = _line(phase, done, total, message)[: shutil.get_terminal_size().columns - 1]
        # Return to the start of the line and clear it to its end.
        sys.stderr.write(f"\r\x1b[K{line}" + ("\n" if ended else ""))
        sys.stderr.flush()


class _Log(_Display):
    """One line for each finished phase and a line a minute of a long one, for a file."""

    def show(self, phase: str, done: int, total: int, message: str, ended: bool) -> None:
        print(f"{phase}: {_printable(message)}", file=sys.stderr, flush=True)


class _Notebook(_Display):
    """One output that is updated in place and keeps its last text when the notebook is saved."""

    _handle: Any = None
    _finished: tuple[str, ...] = ()

    def show(self, phase: str, done: int, total: int, message: str, ended: bool) -> None:
        from IPython.display import display

        lines = (*self._finished, _line(phase, done, total, message))
        self._finished = lines if ended else self._finished
        # Plain text, never HTML: phase and message may hold names from files.
        bundle = {"text/plain": "\n".join(lines)}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


def _line(phase: str, done: int, total: int, message: str) -> str:
    share = min(done / total, 1.0) if total > 0 else 1.0
    filled = int(_BAR * share)
    bar = "#" * filled + "." * (_BAR - filled)
    return f"{_printable(phase)} [{bar}] {100 * share:3.0f} % {_printable(message)}"


def _printable(text: str) -> str:
    """Without line breaks and control characters, which would break the line."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
