"""A report as Markdown, for pasting into an issue."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from qinspect.show.text import printable

_ROWS = 60


def escaped(value: object) -> str:
    """A value as text that Markdown and HTML in it leave alone."""
    text = printable(str(value)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_\[\]|#~$])", r"\\\1", text)
    # A mention would send somebody a message.
    return text.replace("@", "@\u200b")


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as a table, the keys of the first one as its head; at most 60 rows."""
    if not rows:
        return "Nothing to list."
    names = list(rows[0])
    lines = [
        "| " + " | ".join(escaped(name) or " " for name in names) + " |",
        "|" + " --- |" * len(names),
    ]
    for row in rows[:_ROWS]:
        lines.append("| " + " | ".join(escaped(row.get(name, "")) for name in names) + " |")
    if len(rows) > _ROWS:
        lines += ["", f"{len(rows) - _ROWS} more rows are in the HTML report."]
    return "\n".join(lines)


def code(source: str) -> str:
    """A block of Python; fences in it cannot end the block."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", source)), default=0))
    return f"{fence}python\n{source}\n{fence}"


def page(
    title: str,
    lead: Sequence[str],
    sections: Sequence[tuple[str, str]],
) -> str:
    """A title, paragraphs of plain text, and sections that are Markdown already."""
    parts = [f"# {escaped(title)}", *(escaped(line) for line in lead)]
    for name, content in sections:
        if content:
            parts += [f"## {escaped(name)}", content]
    return "\n\n".join(parts) + "\n"
