"""HTML for widgets, which do not sanitise it: every value that comes in is escaped here."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from qinspect.show.text import printable

# Scrolls sideways instead of pushing the page wide; numbers line up.
_STYLE = (
    "<style>.qi-table{border-collapse:collapse;font-size:13px;line-height:1.5}"
    ".qi-table th,.qi-table td{padding:1px 10px 1px 0;text-align:left;"
    "border-bottom:1px solid #ddd}.qi-scroll{max-height:340px;overflow:auto}"
    ".qi-said{margin:4px 0;max-width:75ch;line-height:1.4}</style>"
)


def escaped(value: object) -> str:
    """A value as text that no browser takes for markup."""
    return html.escape(printable(str(value)), quote=True)


def sentence(said: str) -> str:
    """A paragraph that screen readers announce when it changes."""
    return f'<p class="qi-said" role="status" aria-live="polite">{escaped(said)}</p>'


def alert(said: str, details: str = "") -> str:
    """An error, with its details folded away."""
    folded = ""
    if details:
        folded = f"<details><summary>Details</summary><pre>{html.escape(details)}</pre></details>"
    return (
        '<div role="alert" style="border:2px solid #D55E00;padding:6px 10px;max-width:75ch">'
        f"<b>This did not work:</b> {escaped(said)}{folded}</div>"
    )


def table(rows: Sequence[Mapping[str, object]], caption: str = "") -> str:
    """Rows as a table, the keys of the first one as its head; everything escaped."""
    if not rows:
        return '<p class="qi-said">Nothing to list.</p>'
    head = "".join(f'<th scope="col">{escaped(key)}</th>' for key in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escaped(row.get(key, ''))}</td>" for key in rows[0]) + "</tr>"
        for row in rows
    )
    title = f"<caption>{escaped(caption)}</caption>" if caption else ""
    return (
        f'{_STYLE}<div class="qi-scroll" tabindex="0" role="region" '
        f'aria-label="{escaped(caption or "table")}"><table class="qi-table">{title}'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def code_block(source: str) -> str:
    """Source text to copy."""
    return (
        '<pre tabindex="0" style="background:#f5f5f5;color:#111;padding:8px;overflow:auto;'
        f'user-select:text">{html.escape(source)}</pre>'
    )
