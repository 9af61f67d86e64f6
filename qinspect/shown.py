"""What every result has in common: it shows itself as text, page, notebook cell and widget."""

from __future__ import annotations

import html
import os
import shutil
import sys
import textwrap
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import pandas as pd

    from qinspect.show.figure import Figure

_LONGEST = 100


def kernel() -> Any:
    """The shell of the notebook kernel that this runs in, or None."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell if hasattr(shell, "kernel") else None


def tell(message: str) -> None:
    """A line to the user: on standard error; in a notebook, whose plain text breaks words, HTML."""
    if kernel() is None:
        print(wrapped(message, sys.stderr), file=sys.stderr)
        return
    from IPython.display import display

    display({"text/plain": message, "text/html": f'<p style="margin:2px 0;max-width:75ch;'
             f'line-height:1.45">{html.escape(message)}</p>'}, raw=True)


def wrapped(message: str, stream: TextIO) -> str:
    """Lines of whole words as wide as a terminal; elsewhere the message as it is."""
    if not stream.isatty():
        return message
    width = shutil.get_terminal_size().columns
    return textwrap.fill(message, width, break_long_words=False, break_on_hyphens=False)


class Shown:
    """A result that shows itself; ``qinspect/show/views`` says what of it is shown.

    The result itself brings ``frame``, ``sentence`` and ``to_json``.
    """

    if TYPE_CHECKING:

        @property
        def frame(self) -> pd.DataFrame:
            """The numbers as a tidy frame."""

        @property
        def sentence(self) -> str:
            """What to take away."""

        def to_json(self) -> Any:
            """The same as ``--json`` of the command."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # In the class itself, else @dataclass would put in one that lists every field.
        cls.__repr__ = Shown.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        said = " ".join(self.sentence.split())
        said = said if len(said) <= _LONGEST else f"{said[: _LONGEST - 1]}…"
        return f"<{type(self).__name__}: {said}>"

    @property
    def figures(self) -> tuple[str, ...]:
        """Kinds of figure that there are, the most telling one first."""
        from qinspect.show.view import view_of

        return tuple(view_of(self).figures)

    def figure(self, kind: str | None = None) -> Figure:
        """The figure of a kind; the most telling one when no kind is given."""
        from qinspect.show.view import view_of

        return view_of(self).figure(kind)

    def explore(self) -> Any:
        """The widget that belongs to it; needs the extra ``lab``."""
        from qinspect.show.view import view_of

        return view_of(self).widget()

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write a page that opens without network, and Markdown and JSON beside it."""
        from qinspect.show.report import write_report

        return write_report(self, path)

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        from qinspect.show.terminal import as_text
        from qinspect.show.view import cell, view_of

        view = view_of(self)
        return {"text/plain": as_text(view), "text/html": cell(view)}
