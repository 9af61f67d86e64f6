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
    metric = c.metric
    ahead = ("only {} right" if c.mcnemar_p is not None else "{} better on").format
    counts = () if c.a_only is None else (
        (ahead(c.a), str(c.a_only)), (ahead(c.b), str(c.b_only)))
    rows = (
        ("verdict", text.verdict(c.verdict, c.a, c.b)),
        ("examples", f"{c.n:,}"),
        (f"{metric.title} of {c.a}", text.value_of(metric)(c.value_a)),
        (f"{metric.title} of {c.b}", text.value_of(metric)(c.value_b)),
        (f"difference and {100 * c.confidence:g} % interval",
         metric.ahead(c.a, c.b, c.gap, c.interval)),
        *counts,
        ("p", text.p_value(c.p)),
        ("equivalence p", text.p_value(c.equivalence_p)),
        ("detectable in 80 % of studies",
         "none" if math.isnan(c.detectable) else metric.size(c.detectable)),
        ("power for the difference on all",
         text.NONE if math.isnan(power) else f"{100 * power:.0f} %"),
    )
    return Table(("quantity", "value"), (text.plain, text.plain), rows, "The comparison in numbers",
                 text.lower(metric))


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
        self._results = _scored(results)
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
        limit = float(f"{results.limit:.3g}")
        low, high, step = (0.05, max(50.0, 2 * limit), 0.25) if results.metric.scale == 100 else (
            limit / 100, 100 * limit, limit / 4)
        self.margin = hooked(
            widgets.BoundedFloatText(
                limit, min=low, max=high, step=step,
                style={**LABEL, "description_width": "max-content"},
                description=text.headed("margin", results.metric.unit)),
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
        resamples = pd.DataFrame({"gap": part.resampled(a, b, _RESAMPLES)})
        figure = figures.bootstrap_plot(resamples, found)
        said = f"{figure.sentence} {luck_sentence(asked, a, b, n)}"
        self.figure.show(replace(figure, sentence=said), layout=(a, b))
        self.verdict.value = sentence(found.sentence)
        self.table.value = shown(number_table(found, asked.power(a, b, n)))


def _scored(results: Results) -> Results:
    """The same, scored once: a slider should not go through the outputs again."""
    if results.metric.kind == "set":
        return results
    metric = results.metric if results.right_or_wrong else replace(
        results.metric, score=lambda y, scores: scores)
    return replace(results, metric=metric,
                   outputs={name: results.scores(name) for name in results.models})


def sample_sizes(total: int) -> list[tuple[str, Any]]:
    """Round numbers of examples up to ``total``, as slider options."""
    steps = [m * 10**k for k in range(1, 8) for m in (1, 2, 3, 5, 7)]
    sizes = [2, 5, *(size for size in steps if size < total), total]
    return [(f"{size:,}", size) for size in dict.fromkeys(s for s in sizes if s <= total)]
