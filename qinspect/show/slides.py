"""Pages and slides from Markdown and notebooks: one HTML file each, which asks no other host."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from qinspect.errors import require_extra

# A longer cell is read in the notebook, not from a wall.
_MOST_LINES = 14
_HIDDEN = {"solution", "checkpoint", "parameters", "answer"}
_FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\\$\w])\$([^$\n]+?)\$(?!\w)", re.DOTALL)

_STYLE = """
:root { color-scheme: light dark; font: 17px/1.5 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; }
pre, code { font-family: ui-monospace, monospace; font-size: .9em; }
pre { overflow-x: auto; padding: .6rem; border: 1px solid #8888; border-radius: .3rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #8888; padding: .2rem .6rem; text-align: left; }
img.formula { vertical-align: middle; background: white; padding: .1rem; }
"""
_SLIDE_STYLE = """
html { scroll-snap-type: y proximity; }
section { min-height: 92vh; scroll-snap-align: start; padding: 4vh 0; font-size: 1.25em; }
footer { opacity: .6; font-size: .7em; }
@media print { section { break-after: page; min-height: 0; } }
"""
_KEYS = """
addEventListener("keydown", event => {
  const step = {ArrowRight: 1, ArrowDown: 1, PageDown: 1, " ": 1,
                ArrowLeft: -1, ArrowUp: -1, PageUp: -1}[event.key];
  if (!step) return;
  event.preventDefault();
  const all = [...document.querySelectorAll("section")];
  const seen = all.findIndex(one => one.getBoundingClientRect().bottom > innerHeight / 3);
  all[Math.max(0, Math.min(all.length - 1, seen + step))].scrollIntoView();
});
"""


def page(title: str, markdown: str) -> str:
    """A text in Markdown as a page."""
    return _html(title, _rendered(markdown), _STYLE)


def slides(notebook: Mapping[str, Any]) -> str:
    """A notebook as slides, one a heading, without solutions and checks; arrow keys turn them."""
    parts: list[list[str]] = []
    title = ""
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if _HIDDEN & set(cell["metadata"].get("tags", [])):
            continue
        if cell["cell_type"] == "markdown":
            if not parts or text.lstrip().startswith("#"):
                parts.append([])
            title = title or text.strip().splitlines()[0].lstrip("# ")
            parts[-1].append(_rendered(text))
        elif parts and len(text.splitlines()) <= _MOST_LINES:
            parts[-1].append(f"<pre>{html.escape(text)}</pre>")
    return _html(title, _sections(parts), _STYLE + _SLIDE_STYLE, _KEYS)


def _sections(parts: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"<section>{''.join(part)}<footer>{number} / {len(parts)}</footer></section>"
                     for number, part in enumerate(parts, 1))


def _html(title: str, body: str, style: str, script: str = "") -> str:
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width">'
            f"<title>{html.escape(title)}</title><style>{style}</style></head>\n"
            f"<body>{body}<script>{script}</script></body></html>\n")


def _rendered(markdown: str) -> str:
    """Markdown as HTML; formulas become pictures, because a page has no MathJax."""
    try:
        from nbconvert.filters import markdown2html
    except ImportError:
        raise require_extra("nbconvert", "lab", "making pages of the notebooks") from None
    formulas: list[str] = []

    def kept(match: re.Match[str]) -> str:
        formulas.append(_formula((match[1] or match[2]).strip()))
        return f"FORMULA{len(formulas) - 1}END"

    # Code is left alone: a dollar in it is no formula.
    pieces = re.split(r"(```.*?```|`[^`\n]+`)", markdown, flags=re.DOTALL)
    told = "".join(piece if piece.startswith("`") else _FORMULA.sub(kept, piece)
                   for piece in pieces)
    return re.sub(r"FORMULA(\d+)END", lambda match: formulas[int(match[1])],
                  str(markdown2html(told)))


def _formula(tex: str) -> str:
    """A formula as an inline picture, or as it is written where matplotlib cannot draw it."""
    from base64 import b64encode

    from matplotlib.mathtext import math_to_image

    picture = io.BytesIO()
    try:
        math_to_image(f"${' '.join(tex.split())}$", picture, format="svg")
    except ValueError:
        return f"<code>{html.escape(tex)}</code>"
    data = b64encode(picture.getvalue()).decode()
    return f'<img class="formula" alt="{html.escape(tex)}" src="data:image/svg+xml;base64,{data}">'
