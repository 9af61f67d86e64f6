"""What of a result is shown, and the same as the output of a notebook's cell."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module, resources
from typing import TYPE_CHECKING, Any

from qinspect.errors import DataError, unknown_name
from qinspect.show.figure import Figure
from qinspect.show.table import STYLE, Table
from qinspect.show.text import escaped, printable, renamed
from qinspect.shown import kernel

if TYPE_CHECKING:
    from jinja2 import Environment

    from qinspect.measure.layer_tables import Layers
    from qinspect.show.card import CardView

# Figures that a cell shows; a page shows all of them.
_IN_CELL = 2
# Module of ``show/views`` in which the view of a class is made, by ``<class_in_snake_case>_view``.
_HOMES = {
    "Case": "diagnosis", "Comparisons": "predictions", "Diagnosis": "diagnosis",
    "FileComparison": "files", "Gate": "pipeline", "Gathered": "training",
    "Inspections": "files", "Layers": "layers",
    "Overlay": "layers", "Results": "predictions", "RobustQat": "training",
    "RunComparisons": "predictions", "SeedComparison": "predictions", "Sensitivity": "layers",
    "Study": "training", "Sweep": "training",
}


@dataclass(frozen=True)
class Section:
    """A part of a view with a title; ``figures`` are kinds of the view.

    A folded one is left out on a terminal and opened by the reader of a page; so are its ``parts``.
    """

    title: str
    sentences: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[str, ...] = ()
    code: str = ""
    folded: bool = False
    parts: tuple[Section, ...] = ()


@dataclass(frozen=True)
class View:
    """A result ready to be shown anywhere.

    ``card`` stands before everything else; ``figures`` maps a kind to what makes it, the most
    telling one first; ``names`` long names to the short ones that stand for them; ``explore`` makes
    the widget; ``layers`` measures what a page shows as histograms.
    """

    title: str
    sentences: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: Mapping[str, Callable[[], Figure]] = field(default_factory=dict)
    sections: tuple[Section, ...] = ()
    notes: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    explore: Callable[[], Any] | None = None
    layers: Callable[[], Layers | None] | None = None
    card: CardView | None = None

    def figure(self, kind: str | None = None) -> Figure:
        """The figure of a kind, the first one when no kind is given."""
        if not self.figures:
            raise DataError(f"{self.title}: there is nothing to draw.")
        kind = next(iter(self.figures)) if kind is None else kind
        if kind not in self.figures:
            kind = renamed(kind, self.names)  # a file by the name that it was given
        if kind not in self.figures:
            raise unknown_name("figure", kind, tuple(self.figures))
        return self.figures[kind]()

    def widget(self) -> Any:
        """The widget to explore it with."""
        if self.explore is None:
            raise DataError(f"{self.title}: there is no widget for it.")
        return self.explore()

    def own_figures(self) -> tuple[str, ...]:
        """Kinds that stand in no section."""
        elsewhere = {kind for section in self.sections for one in (section, *section.parts)
                     for kind in one.figures}
        return tuple(kind for kind in self.figures if kind not in elsewhere)

    def legend(self) -> tuple[str, ...]:
        """What the short names stand for."""
        return tuple(f"{short}: {name}" for name, short in self.names.items() if short != name)


def view_of(result: Any) -> View:
    """The view of a result."""
    name = type(result).__name__
    module = import_module(f"qinspect.show.views.{_HOMES[name]}")
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    made: View = getattr(module, f"{snake}_view")(result)
    return made


def widget(name: str, *given: Any) -> Callable[[], Any]:
    """What makes a widget when it is asked for."""

    def make() -> Any:
        from qinspect.show import widgets

        return getattr(widgets, name)(*given)

    return make


def cell(view: View) -> str:
    """The output of a notebook's cell: legible without kernel and scripts, on light and dark."""
    return fragment(view, view.own_figures()[:_IN_CELL], live=kernel() is not None)


def fragment(view: View, figures: tuple[str, ...], *, live: bool = False,
             whole: bool = False) -> str:
    """The view as HTML, everything in it escaped; ``whole``: with the figures of sections."""
    from markupsafe import Markup

    return environment().get_template("view.html").render(
        view=view, figures=figures, whole=whole, style=Markup(STYLE),
        card=None if view.card is None else Markup(view.card.html()),
        show=lambda table, live=False: Markup(table.html(live=live)), live=live,
        draw=lambda kind: Markup(_drawn(view, kind)),
    )


def _drawn(view: View, kind: str) -> str:
    """A figure as HTML; where it fails the page says so and keeps the rest."""
    try:
        return view.figure(kind).html()
    except Exception as error:
        return f'<p class="qi-said" role="alert">{escaped(failure(kind, error))}</p>'


def failure(kind: str, error: Exception) -> str:
    """What is said in the place of a figure."""
    return f"The figure {kind} could not be drawn: {type(error).__name__}: {error}"


def script(*names: str) -> str:
    """Text of modules of ``show/static``, such as ``histogram.js``, as one."""
    folder = resources.files("qinspect.show").joinpath("static")
    return "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)


@cache
def environment() -> Environment:
    """The templates of ``show/templates``, everything escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(loader=PackageLoader("qinspect.show", "templates"), autoescape=True,
                       undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
                       finalize=_shown)


def _shown(value: Any) -> Any:
    """Text without control characters; lines of code stay lines."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return "\n".join(map(printable, value.split("\n")))
