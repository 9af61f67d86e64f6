"""What models gave on the same examples, and all that is needed to compare them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from qinspect import store
from qinspect.data.streams import check_seed
from qinspect.data.tables import CORRECT, Reading, read_table
from qinspect.errors import DataError, SpecError, unknown_name
from qinspect.families import Comparisons, RunComparisons
from qinspect.metrics import ACCURACY, METRICS, Metric
from qinspect.metrics import metric as named_metric
from qinspect.metrics.classes import NO_ANSWER, class_of
from qinspect.schema import Array
from qinspect.shown import Shown
from qinspect.stats import (
    Comparison,
    SeedComparison,
    bootstrap_distribution,
    cochran_q,
    compare_seeds,
    compare_sets,
    contrast_interval,
    mcnemar_power,
    mean_interval,
    pseudo_values,
    resampled_values,
    score_interval,
    set_interval,
)
from qinspect.stats.agreement import churn, cohen_kappa
from qinspect.stats.groups import effective_number
from qinspect.stats.many import corrected, false_discovery, strict_confidence
from qinspect.stats.paired import as_correct, judge, measured, share_interval
from qinspect.verdicts import examples, no_answer

_CLASS_COLUMNS = ("class", "n", "value_a", "value_b", "gap", "low", "high", "a_only", "b_only", "p",
                  "q", "differs")

_Compared = TypeVar("_Compared", Comparison, SeedComparison)

# Pairs of one family that are still compared, and read, in reasonable time.
_MOST_PAIRS = 500


@dataclass(frozen=True)
class Results(Shown):
    """What several models gave on the same examples, and how they are to be compared.

    Every comparison is made from this object, so that groups, confidence and margin cannot differ
    between two places.

    Attributes
    ----------
    outputs : mapping of name to array_like or mapping
        Of each model, in order: what the metric takes, (n, ...), a mapping by name where a model
        has several outputs; or booleans (n,), which are scores themselves (correctness).  With
        ``runs`` every array has a first axis of as many.  Arrays may be memory-mapped and the
        mapping lazy: an output is read when its scores are asked for.
    y : ndarray or None
        What the outputs are scored against; not needed for correctness.
    ids, groups : ndarray or None, shape (n,)
        Names of the examples, and the cluster of each where examples come in groups.
    runs : tuple or None
        Labels of the training runs (seeds), where there are several.
    metric : Metric
    confidence : float
        Two-sided level of every interval.
    margin : float or None
        Difference that would matter, in the unit of the metric; None: the metric's own, which
        ``limit`` tells.
    seed : int
        Of what is drawn at random.
    source : str
        File that the results come from, if any.
    notes : tuple of str
        What a reader should know about how they were made.
    margin_relative : float or None
        Instead of ``margin``, as a share: of shares such as accuracy of what the reference, or
        else the first model, gets wrong, of others of its value.
    non_inferior : bool
        Ask of each pair only whether b is not worse than a by more than the margin.
    first : tuple of str
        What is said before any number, such as that the data are in other units.

    Examples
    --------
    >>> y = np.array([0, 1, 2, 1])
    >>> found = Results({"float": y, "ptq": np.array([0, 1, 2, 2])}, y)
    >>> found.value("ptq"), found.comparison("float", "ptq").gap
    (0.75, -25.0)
    """

    outputs: Mapping[str, Any] = field(repr=False)
    y: Array | None = field(default=None, repr=False)
    ids: Array | None = field(default=None, repr=False)
    groups: Array | None = field(default=None, repr=False)
    runs: tuple[Any, ...] | None = None
    metric: Metric = ACCURACY
    confidence: float = 0.95
    margin: float | None = None
    seed: int = 0
    source: str = ""
    notes: tuple[str, ...] = ()
    margin_relative: float | None = None
    non_inferior: bool = False
    first: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.outputs:
            raise DataError("there are no results; give the outputs of at least one model.")
        check_seed(self.seed)
        if self.margin_relative is not None:
            if self.margin is not None:
                raise SpecError("there are two margins; give one in the unit of the metric or a "
                                "relative one.")
            if not 0 < self.margin_relative < math.inf:
                raise SpecError(f"the relative margin is {self.margin_relative:g}; it must be a "
                                "share above 0, such as 0.1.")
        if self.y is None and self.metric.needs_y and "predictions" in self.read_as.values():
            named = next(name for name, how in self.read_as.items() if how == "predictions")
            raise DataError(f"{named} has predictions but there are no labels y to score them by; "
                            "give them as y.")
        for name in ("ids", "groups"):
            values = getattr(self, name)
            if values is not None and np.shape(values) != (self.n,):
                raise DataError(f"{name} have shape {np.shape(values)}; {self.n} examples need one "
                                "value each.")

    @property
    def models(self) -> tuple[str, ...]:
        """Names, in order."""
        return tuple(self.outputs)

    @property
    def n(self) -> int:
        """Examples."""
        if self.y is not None:
            return len(self.y)
        first = np.shape(next(iter(self.outputs.values())))
        return int(first[self.runs is not None])

    @property
    def read_as(self) -> dict[str, str]:
        """``correctness`` or ``predictions``: how each model's outputs are understood."""
        return {name: "correctness" if _is_right(output) else "predictions"
                for name, output in self.outputs.items()}

    @property
    def limit(self) -> float:
        """Difference that would matter, in the unit of the metric."""
        return self.limit_beside(self.models[0])

    def limit_beside(self, reference: str) -> float:
        """The same where others are compared with this model."""
        if self.margin is not None:
            return self.margin
        value, metric = self.value(reference), self.metric
        if self.margin_relative is None:
            return metric.margin_of(self.value(self.models[0]))
        lost = 1 - value if metric.scale == 100 and metric.better > 0 else abs(value)
        if not lost > 0:
            raise SpecError(f"{reference} has {metric.words(value)}, so that a relative margin "
                            "would be 0; give one in the unit of the metric (--margin).")
        return self.margin_relative * metric.scale * lost

    @property
    def about(self) -> str:
        """What comparisons speak of: these ``files``, or ways of ``training`` (several runs)."""
        return "files" if self.runs is None else "training"

    def scores(self, model: str) -> Array:
        """Scores of the examples, (n,) or (runs, n): of accuracy, whether each is right."""
        if self.metric.kind == "set":
            raise SpecError(f"{self.metric.title} is a statistic of all examples; single ones have "
                            "no score.")
        if model not in self._scores:
            self._scores[model] = self._score(model)
        return self._scores[model]

    @cached_property
    def _scores(self) -> dict[str, Array]:
        return {}

    def _score(self, model: str) -> Array:
        if model not in self.outputs:
            raise unknown_name("model", model, self.models)
        output = self.outputs[model]
        if _is_right(output):
            found: Array = np.asarray(output)
        elif self.runs is None:
            found = self.metric.scores(self.y, output)
        else:
            found = np.stack([self.metric.scores(self.y, one) for one in output])
        wanted = (self.n,) if self.runs is None else (len(self.runs), self.n)
        if found.shape != wanted:
            raise DataError(f"{model} has results of shape {found.shape}; it must be {wanted}.")
        return found

    def value(self, model: str) -> float:
        """The metric of a model, the mean over runs where there are several."""
        if self.metric.kind == "example":
            return float(self.scores(model).mean())
        return float(self.run_values(model).mean())

    def run_values(self, model: str) -> Array:
        """The metric of each run, shape (runs,)."""
        if self.metric.kind == "example":
            return np.atleast_1d(self.scores(model).mean(axis=-1))
        if model not in self.outputs:
            raise unknown_name("model", model, self.models)
        if model not in self._scores:
            self._scores[model] = np.array([self.metric.statistic(self.y, one)
                                            for one in self._runs_of(model)])
        return self._scores[model]

    def _runs_of(self, model: str) -> list[Any]:
        output = self.outputs[model]
        return [output] if self.runs is None else list(output)

    def value_interval(self, model: str) -> tuple[float, float]:
        """Interval of a model's metric; over runs, of the mean of the runs."""
        if self.runs is not None:
            return mean_interval(self.run_values(model), self.confidence)
        if self.metric.kind == "set":
            return set_interval(self._drawn(model), self.value(model), self._units, self.confidence)
        scores = self.scores(model)
        if scores.dtype != bool and self.metric.id != ACCURACY.id:
            return score_interval(scores, self.confidence, self.groups)
        return share_interval(as_correct(scores, model), self.confidence, self.groups)

    @property
    def _units(self) -> float:
        """Examples, or the effective number of groups of them."""
        if self.groups is None:
            return self.n
        return float(effective_number(np.unique(self.groups, return_counts=True)[1]))

    def _drawn(self, model: str) -> Array:
        """The statistic of the set on resamples of it, the same ones for every model."""
        if model not in self._resamples:
            self._resamples[model] = resampled_values(
                self.metric, self.y, self.outputs[model], groups=self.groups, seed=self.seed)
        return self._resamples[model]

    @cached_property
    def _resamples(self) -> dict[str, Array]:
        return {}

    def comparison(self, a: str, b: str) -> Comparison:
        """Paired comparison b - a, by itself."""
        return self._warned(judge(self._measured(a, b, self.confidence, self.limit)))

    def _measured(self, a: str, b: str, confidence: float, margin: float) -> Comparison:
        self._one_run()
        if self.metric.kind == "set":
            return compare_sets(
                self.metric, (self.value(a), self.value(b)), (self._drawn(a), self._drawn(b)),
                a=a, b=b, n=self.n, units=self._units, confidence=confidence, margin=margin,
                seed=self.seed, non_inferior=self.non_inferior,
                groups=None if self.groups is None else len(np.unique(self.groups)))
        return measured(
            self.scores(a), self.scores(b), a=a, b=b, confidence=confidence,
            margin=margin, non_inferior=self.non_inferior, groups=self.groups, seed=self.seed,
            metric=self.metric)

    def contrast(self, signs: Mapping[str, float]) -> tuple[float, float, float]:
        """Sum of signed metrics with its interval, in the metric's unit."""
        self._one_run()
        if self.metric.kind == "set":
            total = sum(sign * self.value(name) for name, sign in signs.items())
            drawn = np.sum([sign * self._drawn(name) for name, sign in signs.items()], axis=0)
            low, high = set_interval(drawn, total, self._units, self.confidence)
            scale = self.metric.scale
            return scale * total, scale * low, scale * high
        return contrast_interval({name: self.scores(name) for name in signs}, signs,
                                 confidence=self.confidence, groups=self.groups,
                                 metric=self.metric)

    def effect(self, a: str, b: str, instead: Mapping[str, str]) -> tuple[float, float, float]:
        """What other models in the place of a and b take out of the gap b - a, with its interval.

        Positive: b - a becomes smaller by it.
        """
        signs = dict.fromkeys((a, b, *instead.values()), 0.0)
        for name, sign in ((b, 1.0), (a, -1.0)):
            signs[name] += sign
            signs[instead.get(name, name)] -= sign
        if not any(signs.values()):
            raise SpecError(f"{dict(instead)} puts nothing else in the place of {a!r} or {b!r}.")
        return self.contrast({name: sign for name, sign in signs.items() if sign})

    def effects(
        self, a: str, b: str, experiments: Mapping[str, Mapping[str, str]]
    ) -> pd.DataFrame:
        """What experiments, each by its own, do to the gap b - a: one row each, by ``name``.

        An experiment puts other models ``{a: ..., b: ...}`` in the place of one or both, which are
        then worth ``value_a`` and ``value_b``.  ``effect``: what of the gap it closes,
        whichever way the gap is, with its interval; ``closed_share`` of the gap.  ``verdict``:
        ``closes``; ``spoils``, closes at the cost of the sum of both; ``widens``; ``no effect``.
        """
        gap = self.metric.scale * (self.value(b) - self.value(a))
        rows = []
        for name, instead in experiments.items():
            low, middle, high = sorted(
                math.copysign(1.0, gap) * end for end in self.effect(a, b, instead))
            values = [self.value(instead.get(one, one)) for one in (a, b)]
            fell = self.metric.better * (sum(values) - self.value(a) - self.value(b)) < -1e-12
            verdict = ("no effect" if low <= 0 <= high else "widens" if high < 0 else
                       "spoils" if fell else "closes")
            share = middle / abs(gap) if gap else math.nan
            rows.append((name, *values, middle, low, high, share, verdict, verdict == "closes"))
        return pd.DataFrame(rows, columns=[
            "name", "value_a", "value_b", "effect", "low", "high", "closed_share",
            "verdict", "confirmed"])

    def of_run(self, run: Any) -> Results:
        """The results of one run, by its label."""
        if self.runs is None or run not in self.runs:
            raise SpecError(f"there is no run {run!r}; there are {self.runs or 'no runs'}.")
        at = self.runs.index(run)
        return replace(self, outputs={name: _at(output, at) for name, output in
                                      self.outputs.items()}, runs=None)

    def by_run(self, a: str, b: str) -> pd.DataFrame:
        """The comparison b - a of each run by itself: ``seed``, ``gap`` and its interval."""
        found = {run: self.of_run(run).comparison(a, b) for run in self.runs or ()}
        return pd.DataFrame([(run, c.gap, *c.interval, c.verdict) for run, c in found.items()],
                            columns=["seed", "gap", "low", "high", "verdict"])

    def over_runs(self, a: str, b: str, family: int = 1) -> SeedComparison:
        """Comparison b - a of two ways of training, over runs paired by seed and by example.

        ``family``: how many such comparisons answer one question together.
        """
        if self.runs is None:
            raise SpecError("there is one run; comparing ways of training needs several seeds.")
        tables, groups = [], self.groups
        for name in (a, b):
            if self.metric.kind == "example":
                tables.append(self.scores(name))
            else:
                # Of a statistic of a set, blocks of examples or groups stand for the examples.
                tables.append(np.stack([
                    pseudo_values(self.metric, self.y, one, groups=self.groups, seed=self.seed)
                    for one in self._runs_of(name)]))
                groups = None
        return self._warned(compare_seeds(
            *tables, a=a, b=b, confidence=self.confidence, groups=groups, rng=self.seed,
            metric=self.metric, margin=self.limit_beside(a), family=family))

    def compare_runs(self, reference: str | None = None) -> RunComparisons:
        """Ways of training over the runs: every pair, or all others with a reference.

        Verdicts rest on intervals that hold together (Bonferroni).
        """
        pairs = self._pairs(reference)
        return RunComparisons(tuple(self.over_runs(a, b, len(pairs)) for a, b in pairs), self)

    def _pairs(self, reference: str | None) -> list[tuple[str, str]]:
        """Every pair of models, or those with a reference."""
        if reference is None:
            if (pairs := math.comb(len(self.models), 2)) > _MOST_PAIRS:
                raise SpecError(
                    f"there are {len(self.models)} models, which make {pairs:,} pairs, more than "
                    f"{_MOST_PAIRS}; compare all with one of them (--reference), or choose some "
                    "(--models).")
            return list(combinations(self.models, 2))
        if reference not in self.models:
            raise unknown_name("model", reference, self.models)
        return [(reference, name) for name in self.models if name != reference]

    def compare(
        self, pairs: Iterable[tuple[str, str]] | None = None, *, reference: str | None = None,
        correction: str | None = "bonferroni", by_class: bool = False,
    ) -> Comparisons:
        """Compare one family of pairs, p-values corrected for their number.

        Beside its own interval, each pair of a family gets one that holds together with the others'
        (Bonferroni), and the smallest difference that is found in spite of the correction.

        Parameters
        ----------
        pairs : iterable of (str, str), optional
            Pairs (a, b), compared as b - a; every pair when not given.
        reference : str, optional
            Compare all others with this model instead; a relative margin is one of its.
        correction : {"bonferroni", None}
            What is done about several comparisons; a pair by itself needs no correction.
        by_class : bool
            Tell each pair class by class as well.

        Returns
        -------
        Comparisons

        Raises
        ------
        DataError, SpecError
            When outputs, names or options do not fit.

        Examples
        --------
        >>> y = np.arange(100) % 4
        >>> found = Results({"float": y, "ptq": y, "qat": np.roll(y, 1)}, y)
        >>> [(c.a, c.b, c.verdict) for c in found.compare(reference="float")]
        [('float', 'ptq', 'no_gap_seen'), ('float', 'qat', 'a_better')]
        """
        if correction not in ("bonferroni", None):
            raise SpecError(f"correction is {correction!r}; choose 'bonferroni' or None.")
        overall = None
        if pairs is None and reference is None and len(self.models) > 2 and self.right_or_wrong:
            overall = cochran_q({name: self.scores(name) for name in self.models})
        pairs = tuple(self._pairs(reference) if pairs is None else pairs)
        if self.n < 2:
            raise DataError("there is 1 example, of which nothing can be compared; give at least "
                            "two.")
        margin = self.limit_beside(reference or self.models[0])
        found = [self._measured(a, b, self.confidence, margin) for a, b in pairs]
        if correction and len(pairs) > 1:
            strict = strict_confidence(self.confidence, len(pairs))
            found = corrected(found, [self._measured(a, b, strict, margin) for a, b in pairs])
        else:
            found = [judge(one) for one in found]
        return Comparisons(tuple(map(self._warned, found)), self, overall, by_class)

    def by_class(self, a: str, b: str) -> pd.DataFrame:
        """The comparison b - a of the examples of each class by itself, one row a class.

        ``p`` is of the class by itself, ``q`` after Benjamini's and Hochberg's correction over the
        classes; ``differs`` where q is at most 1 - confidence: of these a share of at most that is
        false on average.
        """
        if self.y is None or np.ndim(self.y) != 1 or not self.metric.classes:
            raise SpecError(f"{self.metric.title} has no classes; give labels and a metric of them "
                            "(accuracy, top5).")
        labels, margin = np.asarray(self.y), self.limit
        found = {label: self.take(np.flatnonzero(labels == label))._measured(
                     a, b, self.confidence, margin)
                 for label in np.unique(labels)
                 if self.groups is None or len(np.unique(self.groups[labels == label])) > 1}
        q = false_discovery([c.p_single for c in found.values()])
        rows = [(label, c.n, c.value_a, c.value_b, c.gap, *c.interval, c.a_only, c.b_only,
                 c.p_single, adjusted, adjusted <= 1 - self.confidence)
                for (label, c), adjusted in zip(found.items(), q, strict=True)]
        return pd.DataFrame(rows, columns=list(_CLASS_COLUMNS))

    def agreement(self, pairs: Iterable[tuple[str, str]] | None = None) -> pd.DataFrame:
        """How far the answers are the same, right or wrong: ``a``, ``b``, ``churn``, ``kappa``.

        Of every pair, if none are given; of predicted classes only; a model of which correctness
        alone is known is left out.
        """
        self._one_run()
        if not self.metric.classes:
            return pd.DataFrame(columns=["a", "b", "churn", "kappa"])
        # Where neither gives an answer they do not give the same one.
        said = {name: self.answers(name) for name, how in self.read_as.items()
                if how == "predictions"}
        for at, name in enumerate(said):
            if (missing := self.unanswered(name)).any():
                said[name] = np.where(missing, np.iinfo(np.int64).min + at, said[name])
        rows = [(a, b, churn(said[a], said[b]), cohen_kappa(said[a], said[b]))
                for a, b in (self._pairs(None) if pairs is None else pairs)
                if a in said and b in said]
        return pd.DataFrame(rows, columns=["a", "b", "churn", "kappa"])

    @property
    def calibration(self) -> pd.DataFrame:
        """Calibration error and Brier score of each model whose outputs are probabilities.

        ``low`` and ``high`` are of the Brier score alone, Student's.
        """
        self._one_run()
        rows = []
        for name, output in self.outputs.items():
            values = None if isinstance(output, Mapping) else np.asarray(output)
            if (self.y is None or values is None or values.ndim != 2 or values.shape[1] < 2
                    or values.dtype.kind != "f" or not self.metric.classes
                    or not np.all((values >= 0) & (values <= 1))
                    or not np.allclose(values.sum(axis=1), 1, atol=0.05)):
                continue
            one = replace(self, outputs={name: output}, margin=None, margin_relative=None)
            brier = replace(one, metric=METRICS["brier"])
            rows.append((name, "ece", replace(one, metric=METRICS["ece"]).value(name), math.nan,
                         math.nan))
            rows.append((name, "brier", brier.value(name), *brier.value_interval(name)))
        return pd.DataFrame(rows, columns=["model", "metric", "value", "low", "high"])

    @property
    def right_or_wrong(self) -> bool:
        """Whether each example is either right or wrong."""
        return self.metric.kind == "example" and all(
            self.scores(name).dtype == bool for name in self.models)

    def take(self, index: Array) -> Results:
        """The same models on some of the examples."""
        at = (index,) if self.runs is None else (slice(None), index)

        def of_example(values: Array | None) -> Array | None:
            return None if values is None else np.asarray(values)[index]

        return replace(
            self, outputs={name: _at(output, at) for name, output in self.outputs.items()},
            y=of_example(self.y), ids=of_example(self.ids), groups=of_example(self.groups))

    def drawn(self, n: int, draw: int) -> Results:
        """The same models on ``n`` examples drawn without replacement; ``draw`` is the seed."""
        if not 2 <= n <= self.n:
            raise SpecError(f"{n} examples were asked for; choose 2 to {self.n}.")
        rng = np.random.default_rng((draw, n))
        return self if n == self.n else self.take(rng.choice(self.n, n, replace=False))

    def resampled(self, a: str, b: str, n_resamples: int = 9999) -> Array:
        """What b - a would be on resampled examples (whole groups), in the metric's unit."""
        self._one_run()
        if self.metric.kind == "set":
            return self.metric.scale * (self._drawn(b) - self._drawn(a))
        difference = self.scores(b).astype(float) - self.scores(a)
        return self.metric.scale * bootstrap_distribution(
            difference, groups=self.groups, n_resamples=n_resamples, rng=self.seed)

    def luck(self, a: str, b: str, n: int, draws: int = 400) -> tuple[float, float, float]:
        """Of draws of ``n`` examples, the shares in which a is ahead, both level, b ahead."""
        rng = np.random.default_rng((self.seed, n))
        if self.right_or_wrong:
            a_only, b_only = self._only(a, b)
            counts = rng.multivariate_hypergeometric(
                [a_only, b_only, self.n - a_only - b_only], n, draws)
            ahead = np.sign(counts[:, 1] - counts[:, 0])
        else:
            parts = (self.take(rng.choice(self.n, n, replace=False)) for _ in range(draws))
            ahead = self.metric.better * np.sign(
                np.array([part.value(b) - part.value(a) for part in parts]))
        behind, level, before = (float(np.mean(ahead == sign)) for sign in (-1, 0, 1))
        return behind, level, before

    def power(self, a: str, b: str, n: int) -> float:
        """Probability that ``n`` examples find a difference as large as the one on all of them."""
        if not self.right_or_wrong:
            c = self.comparison(a, b)
            # The smallest detectable difference is so many standard errors on all examples.
            errors = float(ndtri(1 - (1 - self.confidence) / 2))
            error = c.detectable / (errors + float(ndtri(0.8))) * math.sqrt(self.n / n)
            return float(ndtr(abs(c.gap) / error - errors)) if error > 0 else math.nan
        a_only, b_only = self._only(a, b)
        return mcnemar_power(n, 100 * (b_only - a_only) / self.n, (a_only + b_only) / self.n,
                             alpha=1 - self.confidence)

    def _only(self, a: str, b: str) -> tuple[int, int]:
        right_a, right_b = (as_correct(self.scores(name), name) for name in (a, b))
        return (int(np.count_nonzero(right_a & ~right_b)),
                int(np.count_nonzero(right_b & ~right_a)))

    def answers(self, model: str) -> Array:
        """Predicted classes, (n,); of a model of which only correctness is known, that.

        Of metrics that are not about classes, the one number of each example or else its score.
        """
        output = np.asarray(self.outputs[model])
        if self.metric.classes and output.ndim == 2:
            return class_of(output)
        if output.size == self.n:
            return output.reshape(-1)
        return self.scores(model)

    def unanswered(self, model: str) -> Array:
        """Examples of which a model gives no class: a score is NaN, or -1 where that is no label.

        Shape (n,) or (runs, n).
        """
        if model not in self._unanswered:
            self._unanswered[model] = self._without_class(model)
        return self._unanswered[model]

    @cached_property
    def _unanswered(self) -> dict[str, Array]:
        return {}

    def _without_class(self, model: str) -> Array:
        shape = (self.n,) if self.runs is None else (len(self.runs), self.n)
        output = self.outputs[model]
        if not self.metric.classes or _is_right(output) or isinstance(output, Mapping):
            return np.zeros(shape, dtype=bool)
        found = np.asarray(output)
        if found.ndim == len(shape) + 1:
            found = class_of(found.reshape(-1, found.shape[-1])).reshape(shape)
        elif found.dtype.kind not in "if" or np.any(np.asarray(self.y) == NO_ANSWER):
            return np.zeros(shape, dtype=bool)
        return np.asarray(found == NO_ANSWER)

    def silent(self, models: Iterable[str]) -> tuple[str, ...]:
        """That models give no answer for some examples, a sentence each."""
        missing = {name: self.unanswered(name) for name in models}
        return tuple(f"{name} {no_answer(int(bad.sum()), bad.size)}."
                     for name, bad in missing.items() if bad.any())

    def _warned(self, one: _Compared) -> _Compared:
        """The comparison whose sentence first says where a model gives no answer."""
        said = " ".join((*self.silent((one.a, one.b)), one.sentence))
        return replace(one, sentence=said)

    def flips(self, a: str, b: str, which: str = "b") -> pd.DataFrame:
        """Examples that only ``a`` or only ``b`` gets right, or both wrong and ``differ``.

        ``index``, ``id``, ``y`` and the two answers ``a``, ``b``, in the order of the examples.  Of
        scores that are not right or wrong, examples on which ``a`` or ``b`` is better, the largest
        difference first.
        """
        right_a, right_b = self.scores(a), self.scores(b)
        said = {"a": self.answers(a), "b": self.answers(b)}
        if not self.right_or_wrong:
            return self._better_on(right_a, right_b, said, which)
        masks = {"a": right_a & ~right_b, "b": right_b & ~right_a,
                 "differ": ~right_a & ~right_b & (said["a"] != said["b"])}
        if which not in masks:
            raise SpecError(f"which is {which!r}; choose one of {', '.join(masks)}.")
        return self._examples(np.flatnonzero(masks[which]), said)

    def _better_on(
        self, a: Array, b: Array, said: dict[str, Array], which: str
    ) -> pd.DataFrame:
        """Examples on which one is better, the largest difference first."""
        if which not in ("a", "b"):
            raise SpecError(f"which is {which!r}; choose 'a' or 'b'.")
        ahead = self.metric.better * (b.astype(float) - a) * (1 if which == "b" else -1)
        order = np.argsort(-ahead, kind="stable")
        return self._examples(order[ahead[order] > 0], said)

    def _examples(self, at: Array, said: dict[str, Array]) -> pd.DataFrame:
        ids = np.arange(self.n) if self.ids is None else self.ids
        one_label = self.y is not None and np.ndim(self.y) == 1
        labels = {"y": np.asarray(self.y)[at]} if one_label else {}
        return pd.DataFrame({"index": at, "id": ids[at], **labels,
                             **{side: values[at] for side, values in said.items()}})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write labels, ids, groups and predictions as an ``.npz`` that :func:`results` reads."""
        self._one_run()
        arrays = {"y": self.y, "id": self.ids, "group": self.groups}
        for name, how in self.read_as.items():
            kept = np.asarray(self.outputs[name])
            if self.metric.id == ACCURACY.id or kept.size == self.n:
                kept = self.answers(name)
            arrays[f"{CORRECT}{name}" if how == "correctness" else name] = kept
        store.write_arrays(Path(path), {key: np.asarray(values) for key, values in arrays.items()
                                        if values is not None})

    def with_outputs(self, **outputs: Any) -> Results:
        """The same examples with further models, or other outputs of the same ones."""
        return replace(self, outputs={**self.outputs, **outputs})

    @property
    def frame(self) -> pd.DataFrame:
        """One row a model: the metric with its interval."""
        rows = [(name, self.metric.id, self.value(name), *self.value_interval(name), self.n,
                 self.read_as[name]) for name in self.models]
        return pd.DataFrame(rows, columns=["model", "metric", "value", "low", "high", "n",
                                           "read_as"])

    @property
    def sentence(self) -> str:
        """The metric of each model in words."""
        listed = ", ".join(f"{name} {self.metric.words(self.value(name))}" for name in self.models)
        title = self.metric.title
        return " ".join((*self.first, *self.silent(self.models),
                         f"{title[0].upper()}{title[1:]} on {examples(self.n)}: {listed}."))

    def to_json(self) -> dict[str, Any]:
        """Models and what they are worth, as numbers, strings, lists and dicts."""
        return {
            "n": self.n,
            "models": [{"name": name, "score": self.value(name),
                        "accuracy": self.value(name) if self.metric.id == ACCURACY.id else None,
                        "metric": self.metric.id, "read_as": self.read_as[name]}
                       for name in self.models],
            "notes": [*self.first, *self.notes],
        }

    def _one_run(self) -> None:
        if self.runs is not None:
            raise SpecError(f"there are results of {len(self.runs)} runs; use compare_runs, which "
                            "takes seeds for what they are.")


def results(
    source: str | os.PathLike[str] | Sequence[Any] | Mapping[str, Any] | Any, y: Any = None, *,
    groups: Any = None, ids: Any = None, runs: Iterable[Any] | None = None,
    metric: Metric | str | None = None, models: Iterable[str] = (), correct: Iterable[str] = (),
    confidence: float | None = None, margin: float | None = None, seed: int | None = None,
    margin_relative: float | None = None, non_inferior: bool | None = None,
) -> Results:
    """What several models gave on the same examples, from files, from arrays or from a study.

    Parameters
    ----------
    source : path, sequence of paths, mapping of name to array_like, or result
        A file of predictions, see Notes, or several, joined by id; the outputs of each model:
        labels (n,), class scores (n, k) or, as booleans, which examples are right; or something
        that has ``results``.
    y : array_like, optional
        Labels of the outputs in a mapping.
    groups, ids : array_like, optional
        Cluster and name of each example of a mapping.
    runs : iterable, optional
        Labels of the training runs, where every output in a mapping has a first axis of runs.
    metric : Metric or str, optional
        What outputs are scored by, accuracy by default; a name as :func:`qinspect.metrics.metric`
        takes it.
    models : iterable of str
        Of a file, the columns to compare; all by default.
    correct : iterable of str
        Of a file, the models whose 0 and 1 say which examples are right.
    confidence, margin : float, optional
        Of the intervals (0.95), and the difference that would matter, in the unit of the metric
        (of accuracy 1); those of a study by default.
    seed : int, optional
        Of what is drawn at random.
    margin_relative : float, optional
        Instead of ``margin``, as a share: of accuracy and other shares of what the reference (the
        first model) gets wrong, of others of its value.
    non_inferior : bool, optional
        Ask only whether b is not worse than a by more than the margin.

    Returns
    -------
    Results

    Raises
    ------
    DataError
        When a file is missing or of another kind, has no labels or fewer than two models, is
        empty, repeats an id, or holds object arrays, arrays of unequal length, missing values or
        values that are hardly predictions; when arrays or files do not fit each other.

    Notes
    -----
    A file is an ``.npz`` with one-dimensional arrays, a ``.csv`` with a header line, separated by
    commas, semicolons or tabs, or a ``.parquet``.  It holds the labels (``y``, ``label``,
    ``y_true``, ``target`` and the like) and one column a model: predicted labels, compared with
    them, or correctness.  A column is correctness only if it is boolean (``True`` and ``False`` in
    a ``.csv``), its name starts with ``correct_``, which is left out of the model's name, or it is
    named in ``correct``.  ``group`` holds the cluster of each example; ``id``, ``filename`` and
    the like, or any text of unique file names, its name; ``seed`` or ``run`` the training run, and
    every run must have the same ids.  ``fold``, ``split`` and ``index`` are left out.  Blanks
    around text do not count.

    A long file has one row an example and model: ``id``, ``model``, ``prediction`` (or
    ``correct``) and, at least once, labels.

    Examples
    --------
    >>> found = results({"ptq": [0, 1, 1], "qat": [0, 1, 2]}, y=[0, 1, 2])
    >>> found.value("qat")
    1.0
    """
    if isinstance(metric, str):
        metric = named_metric(metric)
    given = {"metric": metric, "confidence": confidence, "margin": margin, "seed": seed,
             "margin_relative": margin_relative, "non_inferior": non_inferior}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if isinstance(source, Mapping):
        outputs = {name: output if isinstance(output, Mapping) else np.asanyarray(output)
                   for name, output in source.items()}

        def array(values: Any) -> Array | None:
            return None if values is None else np.asarray(values)

        return Results(outputs, array(y), array(ids), array(groups),
                       None if runs is None else tuple(runs), **options)
    if isinstance(own := getattr(source, "results", None), Results):
        return replace(own, **options)
    files = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    of_classes = metric is not None and metric.id == ACCURACY.id
    how: Reading = "guess" if metric is None else "classes" if of_classes else "numbers"
    table = read_table([Path(file) for file in files], models=tuple(models),
                       correct=tuple(correct), reading=how)
    notes = list(table.notes)
    if table.real and how == "guess":
        options["metric"] = METRICS["mae"]
        notes.append(f"metric: mean absolute error, because y of {files[0]} is not whole; mse, "
                     "relative-error and r2 are others (--metric).")
    elif table.real and how != "numbers":
        raise DataError(f"y of {files[0]} holds numbers that are not whole, so it is a quantity; "
                        "give the metric of one (--metric mae, mse, relative-error or r2).")
    return Results(table.outputs, table.y, table.ids, table.groups, table.runs,
                   source=", ".join(map(str, files)), notes=tuple(notes), **options)


def _at(output: Any, at: Any) -> Any:
    """Part of what a model gave, of every output where there are several."""
    if isinstance(output, Mapping):
        return {name: np.asarray(part)[at] for name, part in output.items()}
    return np.asarray(output)[at]


def _is_right(output: Any) -> bool:
    """Whether an output says which examples are right, instead of what was predicted."""
    return getattr(output, "dtype", None) == np.dtype(bool)
