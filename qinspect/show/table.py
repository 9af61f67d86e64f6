"""A table: numbers kept as numbers, each column with its format; as HTML and Markdown."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from numbers import Real
from typing import Any

import pandas as pd

from qinspect.show import text
from qinspect.show.text import escaped
from qinspect.shown import kernel

Form = Callable[[Any], str]
Get = str | Callable[[Any], Any]
# Longer tables scroll, and where a kernel runs sort and filter.
LONG = 20
_MOST = 60
_BRIEF = 18  # letters
_LINE = "rgba(128,128,128,.35)"
STYLE = (
    "<style>.qi-table{border-collapse:collapse;font-size:13px;line-height:1.5;color:inherit}"
    f".qi-table th,.qi-table td{{padding:2px 9px 2px 0;border-bottom:1px solid {_LINE};"
    "background:none;vertical-align:top}.qi-table caption{text-align:left;font-weight:bold}"
    ".qi-scroll{max-width:100%;overflow:auto}.qi-long{max-height:420px}"
    ".qi-said{margin:4px 0;max-width:75ch;line-height:1.45}"
    ".qi-figure{margin:12px 0}.qi-figure figcaption{max-width:75ch;line-height:1.45}</style>"
)


@dataclass(frozen=True)
class Table:
    """Rows of values; what is None or NaN is shown as a dash.

    A terminal prints ``most`` rows and, where it is narrow, leaves out the columns of ``spare``,
    one after the other.
    """

    heads: tuple[str, ...]
    forms: tuple[Form, ...]
    rows: tuple[tuple[Any, ...], ...]
    title: str = ""
    caption: str = ""
    most: int = LONG
    spare: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.rows)

    @property
    def frame(self) -> pd.DataFrame:
        """The values, not formatted."""
        return pd.DataFrame(self.rows, columns=list(self.heads))

    def right(self) -> tuple[bool, ...]:
        """Which columns hold numbers and stand to the right."""
        def numeric(value: Any) -> bool:
            parts = value if isinstance(value, (tuple, list)) else (value,)
            return all(isinstance(part, Real) and not isinstance(part, bool) for part in parts)

        columns = zip(*self.rows, strict=True) if self.rows else ((),) * len(self.heads)
        return tuple(all(numeric(v) for v in column if not text.missing(v)) for column in columns)

    def cells(self, rows: Iterable[tuple[Any, ...]] | None = None) -> list[list[str]]:
        """The rows as text."""
        return [
            [text.NONE if text.missing(value) else text.printable(form(value))
             for form, value in zip(self.forms, row, strict=True)]
            for row in (self.rows if rows is None else rows)
        ]

    def without(self, head: str) -> Table:
        """The same without a column."""
        kept = [at for at, name in enumerate(self.heads) if name != head]
        return replace(self, heads=tuple(self.heads[at] for at in kept),
                       forms=tuple(self.forms[at] for at in kept),
                       rows=tuple(tuple(row[at] for at in kept) for row in self.rows))

    def html(self, live: bool = False) -> str:
        """A table legible without scripts; a long one, if ``live``, sorts and filters."""
        if not self:
            return '<p class="qi-said">Nothing to list.</p>'
        right = ["right" if side else "left" for side in self.right()]
        head = "".join(f'<th scope="col" style="text-align:{side}">{escaped(name)}</th>'
                       for name, side in zip(self.heads, right, strict=True))
        body = "".join(
            "<tr>" + "".join(
                f'<td style="text-align:{side}{_whole(side, cell)}"{_order(value)}>'
                f"{escaped(cell)}</td>"
                for side, value, cell in zip(right, row, cells, strict=True)) + "</tr>"
            for row, cells in zip(self.rows, self.cells(), strict=True)
        )
        long = len(self.rows) > LONG
        name = f"qi-{uuid.uuid4().hex[:12]}" if long and live else ""
        caption = f"<caption>{escaped(self.title)}</caption>" if self.title else ""
        below = f'<p class="qi-said">{escaped(self.caption)}</p>' if self.caption else ""
        return (
            f'<div class="qi-scroll{" qi-long" if long else ""}" tabindex="0" role="region" '
            f'aria-label="{escaped(self.title or "table")}"><table class="qi-table"'
            f'{f" id={name}" if name else ""}>{caption}<thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>{below}{_sorting(name) if name else ''}"
        )

    def markdown(self) -> str:
        """A table for an issue or a README; at most 60 rows."""
        if not self:
            return "Nothing to list."
        lines = ["| " + " | ".join(text.inert(name) or " " for name in self.heads) + " |",
                 "|" + "".join(" ---: |" if side else " --- |" for side in self.right())]
        lines += ["| " + " | ".join(map(text.inert, cells)) + " |"
                  for cells in self.cells(self.rows[:_MOST])]
        if len(self.rows) > _MOST:
            lines += ["", f"{len(self.rows) - _MOST} more rows are in the HTML report."]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Table: {self.title or ', '.join(self.heads)}, {len(self.rows)} rows>"

    def _repr_html_(self) -> str:
        return STYLE + self.html(live=kernel() is not None)


def table(
    title: str,
    records: Iterable[Any] | pd.DataFrame,
    columns: Mapping[str, Get | tuple[Get, Form]],
    *,
    caption: str = "",
    most: int = LONG,
    spare: tuple[str, ...] = (),
) -> Table:
    """A table of records; ``columns`` says by head what to take and how to write it.

    A column in which nothing is known is left out.
    """
    if isinstance(records, pd.DataFrame):
        records = records.to_dict("records")
    found = list(records)
    heads, forms, values = [], [], []
    for head, spec in columns.items():
        get, form = spec if isinstance(spec, tuple) else (spec, text.plain)
        column = [record.get(get) if isinstance(get, str) else get(record) for record in found]
        if not all(map(text.missing, column)):
            heads.append(head)
            forms.append(form)
            values.append(column)
    return Table(tuple(heads), tuple(forms), tuple(zip(*values, strict=True)), title, caption, most,
                 tuple(head for head in spare if head in heads))


def _whole(side: str, cell: str) -> str:
    """Numbers and a few words stay on one line; more get room, else rows of wide tables grow."""
    return ";white-space:nowrap" if side == "right" or len(cell) <= _BRIEF else ";min-width:14em"


def _order(value: Any) -> str:
    """What a sorting table goes by: the number, not its text."""
    first = value[0] if isinstance(value, (tuple, list)) and value else value
    if not isinstance(first, Real) or isinstance(first, bool):
        return ""
    return f' data-order="{-1e308 if text.missing(first) else float(first)}"'


_loaded_in: list[str] = []


def _sorting(name: str) -> str:
    """A script that lets DataTables, as itables ships it, take over a table of the page.

    DataTables itself, 1 MB, is put into the first cell that needs it, and into that one again.
    """
    if find_spec("itables") is None:
        return ""
    import itables.options
    from itables.javascript import generate_init_offline_itables_html

    bundle = generate_init_offline_itables_html(itables.options.dt_bundle)
    holder = re.search(r"window\.(_itables_\w+)", bundle)
    ready = re.search(r'"(itables-[^"]+-ready)"', bundle)
    if holder is None or ready is None:  # another itables than those that were read
        return ""
    parent = kernel().get_parent() or {}
    cell = str(parent.get("metadata", {}).get("cellId", ""))
    if not _loaded_in:
        _loaded_in.append(cell)
    elif cell != _loaded_in[0]:
        bundle = ""
    return bundle + (
        '<script type="module">(async () => { const start = async () => {\n'
        f"  const {{ ITable }} = await window.{holder[1]};\n"
        f'  const table = document.getElementById("{name}");\n'
        '  if (table && !table.classList.contains("dataTable"))\n'
        f"    new ITable(table, {{ order: [], pageLength: {LONG} }}); }};\n"
        f'  window.{holder[1]} ? start() : window.addEventListener("{ready[1]}", start);\n'
        "})();</script>"
    )
