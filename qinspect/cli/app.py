"""The application object, and how every command prints."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from qinspect.show.view import View

app = typer.Typer(
    help="Why does the post-training-quantized model beat the quantization-aware-trained one?",
    add_completion=False,
    pretty_exceptions_enable=False,
)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


def show(view: View, numbers: Any, *, as_json: bool, report: Path | None = None) -> None:
    """Print a result for machines or for people; then write its report, so that the answer is
    there whatever befalls the page.
    """
    if as_json:
        print_json(numbers)
    else:
        from rich.console import Console

        from qinspect.show.terminal import print_view

        # A pipe or a file has no width of its own; 80 columns would fold every table.
        print_view(view, Console(highlight=False, width=None if sys.stdout.isatty() else 120))
    if report is not None:
        from qinspect.show.report import write_view

        page = write_view(view, numbers, report)
        if not as_json:
            print(f"report: {page} (beside it {page.stem}.md and {page.stem}.json)")


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
