"""Two models on fewer and fewer examples: when does the verdict go away?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd

from qinspect.errors import DataError, SpecError
from qinspect.schema import Array
from qinspect.show import plots, text
from qinspect.show.widgets import markup
from qinspect.show.widgets.base import LABEL, WIDE, Explorer, choice, hooked
from qinspect.show.widgets.figure import FigureView
from qinspect.stats import Comparison, bootstrap_distribution, compare_paired, mcnemar_power

CONFIDENCES = (0.8, 0.9, 0.95, 0.99)
_RESAMPLES = 4000
# Redraws of other examples that tell how often this sample size would give each answer.
_STUDIES = 400


@dataclass(frozen=True)
class Subsample:
    """A comparison on some of the examples.

    Attributes
    ----------
    comparison : Comparison
    resamples : DataFrame
        ``diff_pp``, for :func:`qinspect.show.plots.bootstrap_plot`.
    power : float
        Probability that as many examples find a difference as large as the one on all examples.
    ahead : (float, float, float)
        Of equally large draws from all examples: share with a ahead, level, b ahead.
    """

    comparison: Comparison
    resamples: pd.DataFrame
    power: float
    ahead: tuple[float, float, float]


def subsample_comparison(
    correct_a: Array,
    correct_b: Array,
    n: int,
    *,
    a: str,
    b: str,
    confidence: float = 0.95,
    margin_pp: float = 1.0,
    draw: int = 0,
) -> Subsample:
    """Compare two models on ``n`` of their examples.

    Parameters
    ----------
    correct_a, correct_b : ndarray of bool, shape (N,)
    n : int
        Examples to draw without replacement, 2 to N; N takes all.
    a, b : str
        Names.
    confidence, margin_pp : float
        As for :func:`qinspect.stats.compare_paired`.
    draw : int
        Which draw; it is the seed.

    Returns
    -------
    Subsample

    Raises
    ------
    SpecError
        If ``n`` is not in 2..N.
    """
    total = len(correct_a)
    if not 2 <= n <= total:
        raise SpecError(f"{n} examples were asked for; choose 2 to {total}.")
    rng = np.random.default_rng((draw, n))
    chosen = np.arange(total) if n == total else rng.choice(total, n, replace=False)
    right_a, right_b = correct_a[chosen], correct_b[chosen]
    comparison = compare_paired(
        right_a, right_b, a=a, b=b, confidence=confidence, margin_pp=margin_pp,
    )
    difference = right_b.view(np.int8) - right_a.view(np.int8)
    resamples = bootstrap_distribution(difference, n_resamples=_RESAMPLES, rng=rng)
    a_only = int(np.count_nonzero(correct_a & ~correct_b))
    b_only = int(np.count_nonzero(correct_b & ~correct_a))
    counts = rng.multivariate_hypergeometric([a_only, b_only, total - a_only - b_only], n, _STUDIES)
    ahead = np.sign(counts[:, 1] - counts[:, 0])
    return Subsample(
        comparison,
        pd.DataFrame({"diff_pp": 100 * resamples}),
        mcnemar_power(n, 100 * (b_only - a_only) / total, (a_only + b_only) / total,
                      alpha=1 - confidence),
        tuple(float(np.mean(ahead == sign)) for sign in (-1, 0, 1)),  # type: ignore[arg-type]
    )


def subsample_rows(found: Subsample) -> list[dict[str, str]]:
    """The numbers of a subsample as text."""
    c = found.comparison
    detectable = "none" if np.isnan(c.mde_pp) else f"{c.mde_pp:.2f} points"
    return [
        {"quantity": name, "value": value}
        for name, value in (
            ("examples", f"{c.n:,}"),
            (f"accuracy of {c.a}", text.percent(c.accuracy_a)),
            (f"accuracy of {c.b}", text.percent(c.accuracy_b)),
            ("difference", f"{text.points(c.diff_pp)} points"),
            (f"{100 * c.confidence:g} % interval", text.interval(c.ci_pp)),
            (f"only {c.a} right", str(c.a_only)),
            (f"only {c.b} right", str(c.b_only)),
            ("exact McNemar p", text.p_value(c.mcnemar_p)),
            ("equivalence p", text.p_value(c.equivalence_p)),
            ("detectable in 80 % of studies", detectable),
            ("power for the difference on all", f"{100 * found.power:.0f} %"),
            ("verdict", text.verdict(c.verdict, c.a, c.b)),
        )
    ]


def luck_sentence(found: Subsample, total: int) -> str:
    """What other draws of the same size would have shown."""
    c = found.comparison
    behind, level, ahead = (100 * share for share in found.ahead)
    if c.n == total:
        return f"All {total:,} examples are in; a smaller number shows what chance does."
    return (
        f"Other draws of {c.n:,} from the {total:,} examples: {c.a} ahead in {behind:.0f} %, level "
        f"in {level:.0f} %, {c.b} ahead in {ahead:.0f} %."
    )


class SignificanceExplorer(Explorer):
    """Pick two models, a number of examples, a confidence and a margin; see the verdict move.

    Parameters
    ----------
    correct : mapping of name to ndarray of bool, shape (n,)
        Which examples each model gets right, in one order; at least two models and examples.
    a, b : str, optional
        Models at the start; the first two when not given.

    Raises
    ------
    DataError
        If there are fewer than two models or examples.
    """

    def __init__(
        self, correct: Mapping[str, Array], a: str | None = None, b: str | None = None
    ) -> None:
        names = list(correct)
        if len(names) < 2 or len(next(iter(correct.values()))) < 2:
            raise DataError("comparing needs two models and two examples at least.")
        self._correct = {name: np.asarray(values, dtype=bool) for name, values in correct.items()}
        self._total = len(self._correct[names[0]])
        self.a = choice("model a", names, "qi-sig-a", a)
        self.b = choice("model b", names, "qi-sig-b", b or names[1])
        self.n = hooked(
            widgets.SelectionSlider(
                options=sample_sizes(self._total), value=self._total, description="test examples",
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
                options=[(f"{100 * c:g} %", c) for c in CONFIDENCES], value=0.95,
                description="confidence", style=LABEL,
            ),
            "qi-sig-confidence",
        )
        self.margin = hooked(
            widgets.BoundedFloatText(1.0, min=0.05, max=50, step=0.25, style=LABEL,
                                     description="margin, points"),
            "qi-sig-margin",
        )
        self.figure = FigureView(7.2, 3.6, "qi-sig-figure")
        self.verdict = hooked(widgets.HTML(), "qi-sig-verdict")
        self.table = hooked(widgets.HTML(), "qi-sig-table")
        controls = [self.a, self.b, self.n, self.draw, self.confidence, self.margin]
        beside = widgets.HBox([self.figure, self.table], layout={"flex_flow": "row wrap"})
        super().__init__("significance", controls, [self.verdict, beside])
        self.watch(self.refresh, *controls)
        self.guarded(self.refresh)(None)

    def refresh(self) -> None:
        """Compute and draw what the controls say."""
        a, b = self.a.value, self.b.value
        if a == b:
            raise SpecError(f"both models are {a}; choose two different ones.")
        found = subsample_comparison(
            self._correct[a], self._correct[b], self.n.value, a=a, b=b,
            confidence=self.confidence.value, margin_pp=self.margin.value, draw=self.draw.value,
        )
        said = f"{plots.describe_bootstrap(found.comparison)} {luck_sentence(found, self._total)}"
        self.figure.show(
            lambda ax: plots.bootstrap_plot(found.resamples, found.comparison, ax), said,
            layout=(a, b),
        )
        self.verdict.value = markup.sentence(found.comparison.sentence)
        self.table.value = markup.table(subsample_rows(found), "the comparison in numbers")


def sample_sizes(total: int) -> list[tuple[str, Any]]:
    """Round numbers of examples up to ``total``, as slider options."""
    steps = [m * 10**k for k in range(1, 8) for m in (1, 2, 3, 5, 7)]
    sizes = [2, 5, *(size for size in steps if size < total), total]
    return [(f"{size:,}", size) for size in dict.fromkeys(s for s in sizes if s <= total)]
