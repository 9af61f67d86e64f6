"""A report: one HTML file that opens without network, Markdown and JSON of its name beside it."""

from __future__ import annotations

import os
import re
from itertools import count
from pathlib import Path
from typing import Any

from qinspect import store
from qinspect.show.text import escaped, inert
from qinspect.show.view import (
    Section,
    View,
    environment,
    failure,
    fragment,
    script,
    view_of,
)
from qinspect.show.views.layers import layer_histograms, range_table

_TITLED = 20_000  # characters in which a page says its title


def write_report(result: Any, path: str | os.PathLike[str]) -> Path:
    """Write the report of a result; returns the HTML file."""
    return write_view(view_of(result), result.to_json(), path)


def write_view(view: View, numbers: Any, path: str | os.PathLike[str]) -> Path:
    """Write a view as a page, and beside it its Markdown and its numbers under the same name.

    Files of the name that are not of a report of the same title stay: a number is added.
    """
    target = Path(path)
    if target.suffix.lower() not in (".html", ".htm"):
        target = target.with_name(f"{target.name}.html")
    target = next(free for n in count(1) if not _taken(free := _numbered(target, n), view))
    # The numbers first: whatever befalls a figure, they are there.
    store.write_json(target.with_suffix(".json"), numbers)
    store.write_text(target.with_suffix(".md"), markdown(view))
    store.write_text(target, page(view))
    return target


def _numbered(target: Path, n: int) -> Path:
    return target if n == 1 else target.with_stem(f"{target.stem}-{n}")


def _taken(target: Path, view: View) -> bool:
    """Whether the name belongs to something else."""
    if target.exists():
        with target.open(encoding="utf-8", errors="replace") as file:
            return f"<title>{_head(view)}</title>" not in file.read(_TITLED)
    return any(target.with_suffix(end).exists() for end in (".json", ".md"))


def _head(view: View) -> str:
    return f"qinspect: {escaped(view.title)}"


def page(view: View) -> str:
    """A view as a page: everything of it, and the layers' histograms to work with."""
    from markupsafe import Markup

    layers, notes = _layers(view)
    ranges = None if layers is None else range_table(layers)
    return environment().get_template("page.html").render(
        title=Markup(_head(view)),
        body=Markup(fragment(view, view.own_figures(), whole=True)),
        # The project's own files, beside the fragment the only thing that is not escaped here.
        script=Markup(script("drawing.js", "histogram.js", "report.js")),
        histograms=[] if layers is None else layer_histograms(layers),
        ranges=Markup("" if ranges is None or any(one.title == ranges.title for one in view.tables)
                      else ranges.html()),
        examples=0 if layers is None else layers.examples, notes=notes,
    )


def _layers(view: View) -> tuple[Any, tuple[str, ...]]:
    try:
        layers = None if view.layers is None else view.layers()
    except Exception as error:
        return None, (f"no values of layers: {error or type(error).__name__}",)
    return layers, () if layers is None else layers.notes


def markdown(view: View) -> str:
    """Title, sentences, tables, figures in words, sections, notes."""
    parts = [f"# {inert(view.title)}", "" if view.card is None else view.card.markdown(),
             *map(inert, (*view.sentences, *view.legend()))]
    for table in view.tables:
        parts += [f"## {inert(table.title)}" if table.title else "", table.markdown(),
                  inert(table.caption)]
    words = [_in_words(view, kind) for kind in view.own_figures()]
    if words:
        parts += ["## Figures in words", "\n".join(words)]
    for section in view.sections:
        parts += _section(section, "##")
    if view.notes:
        parts += ["## Notes", "\n".join(f"- {inert(note)}" for note in view.notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(section: Section, head: str) -> list[str]:
    parts = [f"{head} {inert(section.title)}", *map(inert, section.sentences),
             *(table.markdown() for table in section.tables),
             _code(section.code) if section.code else ""]
    for part in section.parts:
        parts += _section(part, f"{head}#")
    return parts


def _in_words(view: View, kind: str) -> str:
    try:
        figure = view.figure(kind)
    except Exception as error:
        return f"- {inert(failure(kind, error))}"
    return f"- {inert(figure.title or kind)}: {inert(figure.sentence)}"


def _code(source: str) -> str:
    """A block of Python; fences in it cannot end the block."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", source)), default=0))
    return f"{fence}python\n{source}\n{fence}"
