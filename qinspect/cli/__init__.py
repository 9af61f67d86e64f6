"""The command line: reads options, calls the package, prints.  Nothing is computed here."""

from __future__ import annotations

import os
import sys

import typer

from qinspect.cli import commands  # noqa: F401, importing it registers the commands
from qinspect.cli.options import app
from qinspect.errors import QinspectError


def main() -> None:
    """Entry point: errors are one line on standard error and exit code 2."""
    _hold_standard_streams()
    if len(sys.argv) == 1:
        sys.argv.append("--help")
    try:
        code = app(standalone_mode=False)
    except QinspectError as error:
        _fail(str(error), 2)
    except (typer.Abort, KeyboardInterrupt):
        _fail("interrupted; run the same command again to continue.", 130)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        # Typer carries its own copy of click, so its usage errors are known by their method only.
        if not hasattr(error, "format_message"):
            raise
        _fail(error.format_message(), 2)
    sys.exit(code if isinstance(code, int) else 0)


def _hold_standard_streams() -> None:
    """Take the numbers of closed standard streams, or a file opened later is written to as one."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)


def _fail(message: str, code: int) -> None:
    text = " ".join(message.split())
    printable = "".join(c if c.isprintable() else "?" for c in text)
    print(f"qinspect: {printable}", file=sys.stderr)
    sys.exit(code)
