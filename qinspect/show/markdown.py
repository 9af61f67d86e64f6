"""A view as Markdown, for pasting into an issue."""

from __future__ import annotations

import re

from qinspect.show.text import inert
from qinspect.show.view import View, failure


def markdown(view: View) -> str:
    """Title, sentences, tables, figures in words, sections, notes."""
    parts = [f"# {inert(view.title)}", *map(inert, (*view.legend(), *view.sentences))]
    for table in view.tables:
        parts += [f"## {inert(table.title)}" if table.title else "", table.markdown(),
                  inert(table.caption)]
    words = [_in_words(view, kind) for kind in view.own_figures()]
    if words:
        parts += ["## Figures in words", "\n".join(words)]
    for section in view.sections:
        parts += [f"## {inert(section.title)}", *map(inert, section.sentences),
                  *(table.markdown() for table in section.tables)]
        parts.append(_code(section.code) if section.code else "")
    if view.notes:
        parts += ["## Notes", "\n".join(f"- {inert(note)}" for note in view.notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


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
