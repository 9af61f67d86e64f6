"""The application object, and how every command prints."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    help="Why does the post-training-quantized model beat the quantization-aware-trained one?",
    add_completion=False,
    pretty_exceptions_enable=False,
)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


def console() -> Console:
    """Where results for people are printed."""
    from rich.console import Console

    # A pipe or a file has no width of its own; 80 columns would fold every table.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def print_json(value: Any) -> None:
    """Print a result for machines; NaN is refused, because JSON has none."""
    print(json.dumps(value, indent=2, allow_nan=False))


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        import qinspect

        print(qinspect.__version__)
        raise typer.Exit
