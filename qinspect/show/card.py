"""The card at the head of a diagnosis, the same on a terminal, a page and in Markdown."""

from __future__ import annotations

from dataclasses import dataclass

from qinspect.diagnosis.card import Card
from qinspect.diagnosis.rule import MODELS
from qinspect.metrics import Metric
from qinspect.show import text
from qinspect.show.table import Table, table

STYLE = (
    "<style>.qi-card{border:1px solid rgba(128,128,128,.5);border-radius:6px;padding:10px 14px;"
    "margin:8px 0 14px;max-width:80ch}.qi-card .qi-gap{font-weight:bold;margin:0 0 6px}"
    ".qi-card dl{display:grid;grid-template-columns:max-content 1fr;gap:3px 12px;margin:8px 0 0;"
    "line-height:1.45}.qi-card dl dt{float:none;width:auto;white-space:nowrap;opacity:.75}"
    ".qi-card dl dd{width:auto;margin:0;padding:0;overflow-wrap:anywhere}"
    "@media (max-width:520px){.qi-card dl{grid-template-columns:1fr}"
    ".qi-card dl dd{margin-bottom:6px}}</style>"
)


@dataclass(frozen=True)
class CardView:
    """Headline, models and labelled sentences, ready to be shown anywhere."""

    headline: str
    models: Table
    rows: tuple[tuple[str, str], ...]

    def html(self) -> str:
        """As a box, everything escaped."""
        rows = "".join(f"<dt>{text.escaped(label)}</dt><dd>{text.escaped(said)}</dd>"
                       for label, said in self.rows)
        return (f'{STYLE}<div class="qi-card"><p class="qi-gap">{text.escaped(self.headline)}</p>'
                f"{self.models.html()}<dl>{rows}</dl></div>")

    def markdown(self) -> str:
        """As a bold line, a table and a list."""
        rows = "\n".join(f"- **{text.inert(label)}:** {text.inert(said)}"
                         for label, said in self.rows)
        return f"**{text.inert(self.headline)}**\n\n{self.models.markdown()}\n\n{rows}"


def card_view(card: Card, metric: Metric, confidence: float) -> CardView:
    """The card of a diagnosis in words and one table."""
    short = short_files(card)
    models = table("", card.models, {
        "model": lambda model: MODELS[model.role],
        metric.title: (lambda model: model.value, text.value_of(metric)),
        f"{100 * confidence:.4g} % interval": (lambda model: model.interval,
                                               text.bounds_of(metric)),
        "format": lambda model: model.format,
        "size": (lambda model: model.size, text.size),
        "file": lambda model: short[model.file],
    }, caption=text.lower(metric), spare=("size", "format"))
    return CardView(card.gap, models, tuple(row for row in card.rows if row[0] != "Gap"))


def short_files(card: Card) -> dict[str, str]:
    """Names of the files as they stand in the table: long ones by what tells them apart."""
    return text.short_names(model.file for model in card.models)
