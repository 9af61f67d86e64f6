"""Comparisons that belong together: of pairs of models, and of ways of training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from qinspect import store
from qinspect.errors import SpecError
from qinspect.shown import Shown
from qinspect.stats import Comparison, SeedComparison
from qinspect.verdicts import examples

if TYPE_CHECKING:
    from qinspect.predictions import Results

_COLUMNS = ("a", "b", "n", "metric", "value_a", "value_b", "gap", "low", "high", "unit", "a_only",
           "b_only", "p", "p_single", "family", "verdict")


@dataclass(frozen=True)
class Comparisons(Shown):
    """Paired comparisons, and over three or more models the question whether all are alike.

    Iterating gives the single comparisons; ``found + others`` joins two families, each with its
    own correction.

    Attributes
    ----------
    comparisons : tuple of qinspect.stats.Comparison
    results : Results
        What was compared.
    cochran_q : dict or None
        As :func:`qinspect.stats.cochran_q`, where every pair of three or more models was compared.
    by_class : bool
        Whether each pair is told class by class as well.

    Examples
    --------
    >>> import numpy as np
    >>> from qinspect.predictions import results
    >>> y = np.arange(300) % 10
    >>> found = results({"ptq": y, "qat": np.where(y == 3, 0, y)}, y).compare()
    >>> found.pair("ptq", "qat").verdict
    'a_better'
    >>> found.frame[["gap", "verdict"]].to_dict("records")
    [{'gap': -10.0, 'verdict': 'a_better'}]
    """

    comparisons: tuple[Comparison, ...]
    results: Results = field(repr=False)
    cochran_q: dict[str, Any] | None = None
    by_class: bool = False

    def __iter__(self) -> Iterator[Comparison]:
        return iter(self.comparisons)

    def __len__(self) -> int:
        return len(self.comparisons)

    def __add__(self, other: Comparisons) -> Comparisons:
        return Comparisons((*self, *other), self.results, self.cochran_q or other.cochran_q,
                           self.by_class or other.by_class)

    def pair(self, a: str, b: str) -> Comparison:
        """The comparison b - a."""
        for one in self:
            if (one.a, one.b) == (a, b):
                return one
        listed = ", ".join(f"{one.a} with {one.b}" for one in self)
        raise SpecError(f"{a!r} was not compared with {b!r}; there are: {listed}.")

    @property
    def frame(self) -> pd.DataFrame:
        """One row a comparison; ``gap`` is b - a in ``unit``, ``p`` what the verdict rests on."""
        return pd.DataFrame(
            [(c.a, c.b, c.n, c.metric.id, c.value_a, c.value_b, c.gap, *c.interval, c.metric.unit,
              c.a_only, c.b_only, c.p, c.p_single, c.family, c.verdict) for c in self],
            columns=list(_COLUMNS))

    @property
    def answers(self) -> pd.DataFrame:
        """How far the answers of each pair are the same, where classes were predicted."""
        return self.results.agreement((one.a, one.b) for one in self)

    @cached_property
    def classes(self) -> pd.DataFrame:
        """The rows of :meth:`Results.by_class` of every pair, after ``a`` and ``b``."""
        found = {(one.a, one.b): self.results.by_class(one.a, one.b) for one in self}
        return pd.concat(found, names=["a", "b"]).reset_index(["a", "b"]).reset_index(drop=True)

    @property
    def class_sentences(self) -> tuple[str, ...]:
        """Of each pair, which classes change beyond chance."""
        return tuple(_changed(one, self.classes) for one in self) if self.by_class else ()

    @property
    def sentence(self) -> str:
        """Every verdict in words."""
        return " ".join((*self.results.first, *(one.sentence for one in self),
                         *self.class_sentences))

    def to_json(self) -> dict[str, Any]:
        """Models and comparisons as numbers, strings, lists and dicts."""
        overall = {} if self.cochran_q is None else {"cochran_q": self.cochran_q}
        classes = ({"classes": store.plain(self.classes.to_dict("records"))} if self.by_class else
                   {})
        return {"file": self.results.source, **self.results.to_json(), **overall,
                "comparisons": [one.to_json() for one in self],
                "answers": store.plain(self.answers.to_dict("records")),
                "calibration": store.plain(self.results.calibration.to_dict("records")),
                **classes}


def _changed(one: Comparison, classes: pd.DataFrame) -> str:
    """Which classes change from a to b beyond chance, in words."""
    rows = classes[(classes["a"] == one.a) & (classes["b"] == one.b)]
    left_out = one.n - int(rows["n"].sum())
    rest = "" if not left_out else f" {examples(left_out)} of classes with one group are left out."
    far = rows[rows["differs"]]
    error = f"Benjamini-Hochberg, at most {100 * (1 - one.confidence):g} % false"
    if far.empty:
        return (f"From {one.a} to {one.b} no class is shown to change ({len(rows)} classes; "
                f"{error}).{rest}")
    listed = ", ".join(
        f"{row['class']} ({one.b if one.metric.better * row['gap'] > 0 else one.a} better by "
        f"{one.metric.size(row['gap'])})" for _, row in far.iterrows())
    return (f"From {one.a} to {one.b} {len(far)} of {len(rows)} classes change beyond chance "
            f"({error}): {listed}.{rest}")


@dataclass(frozen=True)
class RunComparisons(Shown):
    """Comparisons of ways of training: the same models of several runs (seeds).

    Attributes
    ----------
    comparisons : tuple of qinspect.stats.SeedComparison
        Of every pair; their simultaneous intervals hold together.
    results : Results
        What was compared.

    Examples
    --------
    >>> import numpy as np
    >>> from qinspect.predictions import results
    >>> y = np.arange(200) % 4
    >>> runs = {name: [np.where((y + run) % bad == 0, 0, y) for run in range(3)]
    ...         for name, bad in (("ptq", 9), ("qat", 3))}
    >>> found = results(runs, y, runs=(0, 1, 2)).compare_runs()
    >>> found.frame[["a", "b", "seeds", "n"]].to_dict("records")
    [{'a': 'ptq', 'b': 'qat', 'seeds': 3, 'n': 200}]
    """

    comparisons: tuple[SeedComparison, ...]
    results: Results = field(repr=False)

    @property
    def frame(self) -> pd.DataFrame:
        """One row a comparison: ``gap``, the mean b - a in ``unit``, and the runs' signs."""
        return pd.DataFrame(
            [(c.a, c.b, c.seeds, c.n, c.gap, *c.interval, c.metric.unit, c.b_wins, c.ties,
              c.a_wins) for c in self.comparisons],
            columns=["a", "b", "seeds", "n", "gap", "low", "high", "unit", "b_wins", "ties",
                     "a_wins"])

    @property
    def sentence(self) -> str:
        """Every comparison in words."""
        return " ".join(one.sentence for one in self.comparisons)

    def to_json(self) -> dict[str, Any]:
        """Models and comparisons as numbers, strings and lists."""
        return {"file": self.results.source, **self.results.to_json(),
                "runs": [str(run) for run in self.results.runs or ()],
                "comparisons": [one.to_json() for one in self.comparisons]}
