"""Two models on fewer and fewer examples: when does the verdict go away?"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import pandas as pd

from qinspect.errors import DataError, SpecError
from qinspect.show import figures, text
from qinspect.show.table import Table
from qinspect.show.widgets.base import (
    FLOW,
    LABEL,
    WIDE,
    Explorer,
    choice,
    hooked,
    sentence,
    shown,
)
from qinspect.show.widgets.figure import FigureView

if TYPE_CHECKING:
    from qinspect.predictions import Results
    from qinspect.stats import Comparison

CONFIDENCES = (0.8, 0.9, 0.95, 0.99)
_RESAMPLES = 4000


def number_table(c: Comparison, power: float) -> Table:
    """The numbers of a comparison; ``power`` is for the difference on all examples."""
    detectable = "none" if math.isnan(c.detectable) else f"{c.detectable:.2f} points"
    rows = (
        ("verdict", text.verdict(c.verdict, c.a, c.b)),
        ("examples", f"{c.n:,}"),
        (f"accuracy of {c.a}", text.percent(c.value_a)),
        (f"accuracy of {c.b}", text.percent(c.value_b)),
        ("difference", f"{text.points(c.gap)} points"),
        (f"{100 * c.confidence:g} % interval", text.interval(c.interval)),
        (f"only {c.a} right", str(c.a_only)),
        (f"only {c.b} right", str(c.b_only)),
        ("p", text.p_value(c.p)),
        ("equivalence p", text.p_value(c.equivalence_p)),
        ("detectable in 80 % of studies", detectable),
        ("power for the difference on all", f"{100 * power:.0f} %"),
    )
    return Table(("quantity", "value"), (text.plain, text.plain), rows, "The comparison in numbers")


def luck_sentence(results: Results, a: str, b: str, n: int) -> str:
    """What other draws of the same size would have shown."""
    if n == results.n:
        return f"All {n:,} examples are in; a smaller number shows what chance does."
    behind, level, ahead = (100 * share for share in results.luck(a, b, n))
    return (
        f"Other draws of {n:,} from the {results.n:,} examples: {a} ahead in {behind:.0f} %, level "
        f"in {level:.0f} %, {b} ahead in {ahead:.0f} %."
    )


class SignificanceExplorer(Explorer):
    """Pick two models, a number of examples, a confidence and a margin; see the verdict move.

    ``a`` and ``b`` are the models at the start.
    """

    def __init__(self, results: Results, a: str | None = None, b: str | None = None) -> None:
        names = list(results.models)
        if len(names) < 2 or results.n < 2:
            raise DataError("comparing needs two models and two examples at least.")
        # Scored once: a slider should not go through the outputs again.
        self._results = replace(results, outputs={name: results.scores(name) for name in names})
        levels = sorted({*CONFIDENCES, results.confidence})
        self.a = choice("model a", names, "qi-sig-a", a)
        self.b = choice("model b", names, "qi-sig-b", b or names[1])
        self.n = hooked(
            widgets.SelectionSlider(
                options=sample_sizes(results.n), value=results.n, description="test examples",
                style=LABEL, layout=WIDE,
            ),
            "qi-sig-n",
        )
        self.draw = hooked(
            widgets.BoundedIntText(0, 0, 9999, description="which draw", style=LABEL),
            "qi-sig-draw",
        )
        self.confidence = hooked(
            widgets.Dropdown(
                options=[(f"{100 * c:g} %", c) for c in levels], value=results.confidence,
                description="confidence", style=LABEL,
            ),
            "qi-sig-confidence",
        )
        self.margin = hooked(
            widgets.BoundedFloatText(results.margin, min=0.05, max=50, step=0.25, style=LABEL,
                                     description="margin, points"),
            "qi-sig-margin",
        )
        self.figure = FigureView(7.2, 3.6, "qi-sig-figure")
        self.verdict = hooked(widgets.HTML(), "qi-sig-verdict")
        self.table = hooked(widgets.HTML(), "qi-sig-table")
        controls = [self.a, self.b, self.n, self.draw, self.confidence, self.margin]
        beside = widgets.HBox([self.figure, self.table], layout=FLOW)
        super().__init__("significance", controls, [self.verdict, beside])
        self.watch(self.refresh, *controls)
        self.guarded(self.refresh)(None)

    def refresh(self) -> None:
        """Compute and draw what the controls say."""
        a, b = self.a.value, self.b.value
        if a == b:
            raise SpecError(f"both models are {a}; choose two different ones.")
        n = self.n.value
        asked = replace(self._results, confidence=self.confidence.value, margin=self.margin.value)
        part = asked.drawn(n, self.draw.value)
        found = part.comparison(a, b)
        resamples = pd.DataFrame({"diff_pp": part.resampled(a, b, _RESAMPLES)})
        figure = figures.bootstrap_plot(resamples, found)
        said = f"{figure.sentence} {luck_sentence(asked, a, b, n)}"
        self.figure.show(replace(figure, sentence=said), layout=(a, b))
        self.verdict.value = sentence(found.sentence)
        self.table.value = shown(number_table(found, asked.power(a, b, n)))


def sample_sizes(total: int) -> list[tuple[str, Any]]:
    """Round numbers of examples up to ``total``, as slider options."""
    steps = [m * 10**k for k in range(1, 8) for m in (1, 2, 3, 5, 7)]
    sizes = [2, 5, *(size for size in steps if size < total), total]
    return [(f"{size:,}", size) for size in dict.fromkeys(s for s in sizes if s <= total)]
