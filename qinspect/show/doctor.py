"""Print what ``qinspect doctor`` found: all checks, then what to do about each problem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from qinspect.show import text

if TYPE_CHECKING:
    from rich.console import Console

    from qinspect.doctor import Check

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def print_doctor(checks: Sequence[Check], console: Console) -> None:
    """Print a table of the checks and the advice of those that have one.

    Parameters
    ----------
    checks : sequence of Check
        From :func:`qinspect.doctor.diagnose_environment`.
    console : rich.console.Console
    """
    # Paths and messages come from the system: never read as markup.
    table = Table("check", "status", "found", box=None)
    for check in checks:
        table.add_row(
            check.name,
            Text(check.status, style=_STYLES[check.status]),
            Text(text.printable(check.found), overflow="fold"),
        )
    console.print(table)
    advised = [check for check in checks if check.advice]
    for check in advised:
        console.print(
            text.printable(f"{check.status}: {check.name}: {check.found}; {check.advice}"),
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    problems = sum(check.status != "ok" for check in checks)
    console.print("everything is in order" if not problems else f"{problems} to look at")
