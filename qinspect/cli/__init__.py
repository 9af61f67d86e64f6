"""The command line: reads options, calls the package, prints.  Nothing is computed here."""

from __future__ import annotations

import io
import os
import sys
import traceback
from importlib import import_module

import typer

from qinspect.cli.options import app
from qinspect.errors import QinspectError
from qinspect.shown import wrapped

# Each registers its commands, in the order in which --help tells them.
for _name in ("files", "diagnosing", "training", "jupyter"):
    import_module(f"qinspect.cli.{_name}")

# Verbs whose folder holds what is finished.
_RESUMED = ("study", "sweep")
_INTERRUPTED = 130


def main() -> None:
    """Entry point: errors are one line on standard error and exit code 2."""
    _open_streams()
    if len(sys.argv) == 1:
        sys.argv.append("--help")
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except QinspectError as error:
        _fail(str(error), 2)
    except (typer.Abort, KeyboardInterrupt):
        _fail(_interrupted(sys.argv[1]), _INTERRUPTED)
    except BrokenPipeError:
        _let_go_of_output()
        sys.exit(2)  # 1 is an answer of the gate
    except MemoryError:
        _fail("there is not enough memory for this; give fewer examples or smaller files.", 2)
    except OSError as error:
        _let_go_of_output()
        _fail(_of_system(error), 2)
    except Exception as error:
        # Typer carries its own copy of click, so its usage errors are known by their method only.
        if not hasattr(error, "format_message"):
            traceback.print_exc()
            sys.exit(2)
        _fail(error.format_message(), 2)
    if code == _INTERRUPTED and sys.argv[1] not in ("lab", "explore"):
        # Typer takes Ctrl-C for itself.
        _fail(_interrupted(sys.argv[1]), code)
    sys.exit(code if isinstance(code, int) else 0)


def _interrupted(verb: str) -> str:
    """How to go on after Ctrl-C."""
    if verb in _RESUMED:
        return "interrupted; run the same command again: finished parts are kept."
    return ("interrupted; nothing is kept of what was not yet written: the same command begins "
            "anew.")


def _open_streams() -> None:
    """Closed standard streams lead nowhere, so that no file gets their numbers; any name prints."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+", encoding="utf-8"))  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _let_go_of_output() -> None:
    """What is still to be written goes nowhere, else Python fails once more at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _of_system(error: OSError) -> str:
    """What the system refused, and where."""
    what = error.strerror or str(error) or type(error).__name__
    if error.filename is None:
        return f"the system refuses to go on: {what}."
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "a file"
    shown = name if len(name) <= 100 else f"{name[:60]}... ({len(name)} characters)"
    return f"{shown}: {what}."


def _fail(message: str, code: int) -> None:
    text = " ".join(message.split())
    printable = "".join(c if c.isprintable() else "?" for c in text)
    print(wrapped(f"qinspect: {printable}", sys.stderr), file=sys.stderr)
    sys.exit(code)
