"""A view on a terminal of any width."""

from __future__ import annotations

import io
from collections.abc import Iterator
from textwrap import indent
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from qinspect.show.text import printable

if TYPE_CHECKING:
    from qinspect.show.card import CardView
    from qinspect.show.table import Table
    from qinspect.show.view import View

# Narrower than this a column of words is not worth the name.
_NARROW = 14
_NAMES = 28
_PLAIN_WIDTH = 100
_FOLDED = 4  # titles that are named
_BETWEEN = 3  # columns of the terminal between two of the table


def print_view(view: View, console: Console) -> None:
    """Print a view: sentences, tables, open sections, notes; names are never read as markup."""
    if view.card is not None:
        _print_card(view.card, console)
    for at, line in enumerate(view.sentences):
        _say(line, console, style="" if at or view.card else "bold")
    for line in view.legend():
        _say(line, console)
    for table in view.tables:
        print_table(table, console)
    for section in view.sections:
        if section.folded:
            continue
        console.print()
        _say(section.title, console, style="bold")
        for line in section.sentences:
            _say(line, console)
        for table in section.tables:
            print_table(table, console)
        if section.code:
            # Not wrapped, so that it can be copied.
            console.print(Text(indent(section.code, "    ")), soft_wrap=True)
    for note in view.notes:
        _say(f"note: {note}", console)
    folded = [section.title for section in view.sections if section.folded]
    if folded:
        more = f"; and {len(folded) - _FOLDED} more" if len(folded) > _FOLDED else ""
        _say(f"Only in a report: {'; '.join(folded[:_FOLDED])}{more}.", console)


def _print_card(card: CardView, console: Console) -> None:
    """The headline, the models, then each labelled sentence wrapped beside its label."""
    _say(card.headline, console, style="bold")
    print_table(card.models, console)
    drawn = RichTable.grid(padding=(0, 2))
    drawn.add_column(style="bold", no_wrap=True)
    drawn.add_column(overflow="fold")
    for label, said in card.rows:
        drawn.add_row(Text(printable(label)), Text(printable(said)))
    console.print(drawn)


def as_text(view: View) -> str:
    """What a terminal would show, without colours."""
    # In a kernel rich would display by itself what it is to write into the string.
    console = Console(file=io.StringIO(), width=_PLAIN_WIDTH, highlight=False, color_system=None,
                      force_jupyter=False)
    print_view(view, console)
    written: str = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in written.splitlines())


def print_table(table: Table, console: Console) -> None:
    """Print a table; one that no omission makes narrow enough goes row by row."""
    if not table:
        return
    fitting = next(_fitting(table, console.width), None)
    if fitting is None:
        _print_blocks(table, console)
    else:
        console.print(_drawn(*fitting))
    if len(table.rows) > table.most:
        _say(f"and {len(table.rows) - table.most:,} more.", console)
    if table.caption:
        _say(table.caption, console)


def _fitting(table: Table, width: int) -> Iterator[tuple[Table, list[int]]]:
    """The table, or less and less of it, with widths of the columns that fit a console.

    Heads are broken into many lines only where leaving out columns does not help.
    """
    for head_width in (_NARROW, 0):
        narrower = table
        for head in (None, *table.spare):
            narrower = narrower if head is None else narrower.without(head)
            if (widths := _widths(narrower, width, head_width)) is not None:
                yield narrower, widths


def _widths(table: Table, width: int, head_width: int) -> list[int] | None:
    """Widths of the columns, None where there is no room: numbers and names are not broken."""
    shown = table.cells(table.rows[: table.most])
    found: list[int] = []
    cell, whole = list[int](), list[int]()
    for head, right, *cells in zip(table.heads, table.right(), *shown, strict=True):
        longest = max(map(cell_len, cells))
        cell.append(longest)
        whole.append(max(cell_len(head), longest))
        words = [cell_len(word) for said in (head, *cells) for word in said.split()]
        # The first column has the names: they are broken last.
        least = _NARROW if found else _NAMES
        found.append(max(longest, *words, min(cell_len(head), head_width)) if right else
                     min(whole[-1], max(least, min(max(words, default=0), _NAMES))))
    room = width + 1 - sum(found) - _BETWEEN * len(found)
    for wanted in (cell, whole):
        while room > 0 and any(now < end for now, end in zip(found, wanted, strict=True)):
            for at, end in enumerate(wanted):
                if found[at] < end and room > 0:
                    found[at], room = found[at] + 1, room - 1
    return found if room >= 0 else None


def _drawn(table: Table, widths: list[int]) -> RichTable:
    drawn = RichTable(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, title_justify="left",
                      title=Text(printable(table.title), style="bold") if table.title else None,
                      show_header=any(table.heads))
    for head, right, width in zip(table.heads, table.right(), widths, strict=True):
        drawn.add_column(Text(printable(head)), justify="right" if right else "left",
                         overflow="fold", width=width)
    for row in table.cells(table.rows[: table.most]):
        drawn.add_row(*map(Text, row))
    return drawn


def _print_blocks(table: Table, console: Console) -> None:
    _say(table.title, console, style="bold")
    for first, *rest in table.cells(table.rows[: table.most]):
        _say(f"{table.heads[0]}: {first}", console)
        for head, value in zip(table.heads[1:], rest, strict=True):
            console.print(Padding(Text(printable(f"{head}: {value}")), (0, 0, 0, 2), expand=False))


def _say(line: str, console: Console, style: str = "") -> None:
    console.print(Text(printable(line), style=style))
