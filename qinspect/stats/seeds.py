"""Two levels of chance: these test examples, and another training run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from qinspect.errors import DataError
from qinspect.metrics import ACCURACY, Metric
from qinspect.schema import Array
from qinspect.shown import Shown
from qinspect.stats.exact import mcnemar_exact
from qinspect.stats.groups import (
    FEW,
    design_effect,
    effect_of,
    effective_number,
    group_sums,
    linearised,
    widened,
)
from qinspect.stats.intervals import check_confidence, tango_interval, wilson_interval
from qinspect.stats.many import strict_confidence
from qinspect.stats.planning import NextStep, steps_of_runs
from qinspect.verdicts import Difference

_CHUNK = 1 << 21
# Keys of JSON that hold percentage points, and what they hold.
_IN_POINTS = {"diff": "gap", "per_seed": "per_seed", "ci": "interval",
              "crossed_ci": "crossed_interval", "seed_sd": "seed_sd", "run_sd": "run_sd"}


@dataclass(frozen=True)
class SeedComparison(Shown):
    """Two procedures trained with the same seeds and tested on the same examples; b - a.

    Attributes
    ----------
    a, b : str
        Names of the procedures.
    seeds, n : int
        Training seeds and test examples.
    gap : float
        Mean difference over seeds and examples, in the metric's unit.
    per_seed : tuple of float
        Difference of each seed on these examples.
    interval : tuple of float
        Interval for new seeds and new examples from the variances and Student's t of each: the one
        to report, also with few seeds.
    crossed_interval : tuple of float
        Crossed bootstrap (seeds and examples resampled independently), percentiles.  With
        fewer than some ten seeds it is too narrow if seeds dominate.
    confidence : float
        Level of all intervals.
    variance_seed, variance_example, variance_residual : float
        Unbiased variance components of one seed's result on one example, in squared units of
        the score (of accuracy 1 = 100 points); an estimate may be negative when the true value is
        near zero.  The residual holds the seed x example interaction.
    seed_sd : float
        Standard deviation of the true difference from one training seed to another, in the
        unit; 0 where the estimated variance is negative.
    run_sd : float
        Standard deviation of the measured difference of one training run on these n examples,
        as observed between the seeds.
    b_wins, ties, a_wins : int
        Seeds for which b was ahead, level, behind on these examples.
    b_wins_share, b_wins_ci : float, tuple of float
        How often b would be ahead if both were trained again with a new seed and tested on
        these same examples: share of seeds, ties counted as not ahead, with its Wilson interval.
    sign_p : float
        Exact two-sided sign test over the seeds that are not ties.
    sentence : str
        The above in words.
    groups : int or None
        Number of clusters of examples, when they were given; the variance components are then
        those of one group's part in the mean.
    next : tuple of NextStep
        Where the interval holds zero: how many more seeds, or how many more examples or groups,
        each alone, would find the margin in 80 % of such repetitions.
    family : int
        How many comparisons answer one question together.
    interval_simultaneous : tuple of float or None
        In a family: all such intervals together hold at ``confidence`` (Bonferroni); the verdict
        rests on it.
    margin : float
        Difference that would matter, in the metric's unit.
    reach : float
        How far from 0 the true difference may be, examples of a kind that was not seen included:
        below the margin the two are equivalent.
    """

    a: str
    b: str
    seeds: int
    n: int
    gap: float
    per_seed: tuple[float, ...]
    interval: tuple[float, float]
    crossed_interval: tuple[float, float]
    confidence: float
    variance_seed: float
    variance_example: float
    variance_residual: float
    seed_sd: float
    run_sd: float
    b_wins: int
    ties: int
    a_wins: int
    b_wins_share: float
    b_wins_ci: tuple[float, float]
    sign_p: float
    sentence: str
    groups: int | None = None
    metric: Metric = ACCURACY
    next: tuple[NextStep, ...] = ()
    family: int = 1
    interval_simultaneous: tuple[float, float] | None = None
    margin: float = math.nan
    reach: float = math.inf

    @property
    def possible(self) -> tuple[float, float]:
        """What the true difference may be: in a family the simultaneous interval."""
        return self.interval_simultaneous or self.interval

    @property
    def verdict(self) -> Difference:
        """Which way of training is better, by the interval for new seeds and new examples.

        ``equivalent`` where it lies within the margin, what was not seen included.
        """
        low, high = (self.metric.better * end for end in self.possible)
        if not math.isfinite(low):
            return "cannot_tell"
        if min(low, high) > 0 or max(low, high) < 0:
            return "b_better" if min(low, high) > 0 else "a_better"
        return "equivalent" if self.reach < self.margin else "no_gap_seen"

    @property
    def frame(self) -> pd.DataFrame:
        """One row a seed: ``gap``, the difference on these examples, in the unit."""
        return pd.DataFrame({"seed": range(self.seeds), "gap": self.per_seed})

    def to_json(self) -> dict[str, Any]:
        """The comparison as numbers, strings and lists; None for what is not defined."""

        def plain(value: Any) -> Any:
            if isinstance(value, tuple):
                return [plain(item) for item in value]
            if isinstance(value, NextStep):
                return asdict(value)
            return None if isinstance(value, float) and not math.isfinite(value) else value

        found = {field.name: plain(getattr(self, field.name)) for field in fields(self)}
        points = self.metric.unit == "points"
        named = {f"{old}_pp": found[new] if points else None for old, new in _IN_POINTS.items()}
        return {**found, **named, "metric": self.metric.id, "unit": self.metric.unit,
                "direction": self.metric.direction, "verdict": self.verdict, "about": "training"}


def compare_seeds(
    scores_a: Array, scores_b: Array, *, a: str = "a", b: str = "b", confidence: float = 0.95,
    groups: Array | None = None, n_resamples: int = 9999, rng: int | np.random.Generator = 0,
    metric: Metric = ACCURACY, margin: float | None = None, family: int = 1,
) -> SeedComparison:
    """Compare two training procedures over several seeds, paired by seed and by example.

    Parameters
    ----------
    scores_a, scores_b : array_like, shape (seeds, n)
        Correctness of each seed's model on each example; row s of both comes from the same seed,
        column e of both is the same example; or any other score of ``metric``.
    a, b : str
        Names of the procedures.
    confidence : float
        Two-sided level.
    groups : array_like or None, shape (n,)
        Cluster of each example, if any; whole groups then take the place of examples.  Where few of
        them hold all that differs, the interval holds Tango's for other groups and these seeds.
    n_resamples : int
        Crossed bootstrap resamples.
    rng : int or Generator
        Seed or generator of the bootstrap.
    metric : Metric
        What the scores are of: its unit, and which way is better.
    margin : float, optional
        Difference that would matter, in the metric's unit; the metric's own by default.
    family : int
        How many comparisons answer one question together; the verdict is then corrected for it.

    Returns
    -------
    SeedComparison

    Raises
    ------
    DataError
        When the arrays are not of one two-dimensional shape, have fewer than two seeds or two
        examples, or hold NaN.

    References
    ----------
    Variance components: analysis of variance of a two-way random model, Searle, Casella and
    McCulloch (1992), Variance Components, section 4.4.  Crossed bootstrap: Owen (2007), Annals of
    Applied Statistics 1, 386-411.  Degrees of freedom: Satterthwaite (1946), Biometrics
    Bulletin 2, 110-114.

    Examples
    --------
    >>> right = np.random.default_rng(0).random((5, 300)) < 0.9
    >>> found = compare_seeds(right & (np.arange(300) % 15 > 0), right, a="ptq", b="qat")
    >>> round(found.gap, 2), found.b_wins
    (6.07, 5)
    """
    check_confidence(confidence)
    difference = _difference(scores_a, scores_b)
    seeds, n = difference.shape
    mean = float(difference.mean())
    per_seed = difference.mean(axis=1)
    shares = metric.id == ACCURACY.id or np.asarray(scores_a).dtype == bool
    scale = metric.scale

    def interval(level: float) -> tuple[float, float]:
        low, high = runs_interval(difference, level, groups, bound=1.0 if shares else None)
        return scale * low, scale * high

    strict = strict_confidence(confidence, family)
    ci = interval(confidence)
    together = None if family < 2 else interval(strict)
    possible = together or ci
    half = (possible[1] - possible[0]) / 2 if difference.any() else 0.0
    reach = abs(scale * mean) + math.hypot(
        half, scale * _unseen(difference, groups, shares, strict))
    if groups is not None:
        difference = linearised(difference, groups)
    parts = variance_components(difference)
    wins = int(np.count_nonzero(metric.better * per_seed > 0))
    losses = int(np.count_nonzero(metric.better * per_seed < 0))
    low, high = np.quantile(
        crossed_bootstrap(difference, n_resamples=n_resamples, rng=rng),
        [(1 - confidence) / 2, (1 + confidence) / 2],
    )
    examples = f"{n} examples" + ("" if groups is None else f" in {difference.shape[1]} groups")
    share_ci = wilson_interval(wins, seeds, confidence)
    seed_sd = scale * math.sqrt(max(0.0, parts["seed"]))
    ties = seeds - wins - losses
    ahead = metric.ahead(a, b, scale * mean, ci)
    sentence = (
        f"Over {seeds} seeds and {examples} {ahead} on average ({100 * confidence:g} % interval "
        "for new seeds and new examples"
        + ("" if together is None else
           f"; simultaneous for {family} comparisons from {metric.between(a, b, together)}")
        + "), single seeds from "
        f"{metric.between(a, b, (scale * per_seed.min(), scale * per_seed.max()))}. "
        f"{b} was ahead with {wins} of {seeds} seeds"
        + (f" and level with {ties}" if ties else "")
        + f"; trained again and tested on these examples it would be ahead in "
        f"{100 * wins / seeds:.0f} % of runs "
        f"(interval {100 * share_ci[0]:.0f} to {100 * share_ci[1]:.0f} %)."
    )
    steps: tuple[NextStep, ...] = ()
    wanted = metric.margin_of(float(np.mean(scores_a))) if margin is None else margin
    limit = metric.limit(wanted)
    if possible[0] <= 0 <= possible[1] and reach < wanted:
        sentence += (f" As ways of training they are equivalent within {limit}, with room for what "
                     "these examples do not show.")
    elif possible[0] <= 0 <= possible[1]:
        steps = steps_of_runs(
            {name: scale**2 * part for name, part in parts.items()}, seeds, difference.shape[1],
            wanted, confidence=strict,
            of="examples" if groups is None else "groups")
        # Of a statistic of a set, blocks of examples stand in the place of examples.
        steps = tuple(step for step in steps if step.of == "seeds" or metric.kind == "example")
    if steps:
        sentence += (f" To find a difference of {limit} in 80 % of such repetitions takes "
                     + ", or ".join(step.words for step in steps) + ".")
    return SeedComparison(
        a=a,
        b=b,
        seeds=seeds,
        n=n,
        gap=scale * mean,
        per_seed=tuple(float(value) for value in scale * per_seed),
        interval=ci,
        crossed_interval=(scale * float(low), scale * float(high)),
        confidence=confidence,
        variance_seed=parts["seed"],
        variance_example=parts["example"],
        variance_residual=parts["residual"],
        seed_sd=seed_sd,
        run_sd=scale * float(per_seed.std(ddof=1)),
        b_wins=wins,
        ties=ties,
        a_wins=losses,
        b_wins_share=wins / seeds,
        b_wins_ci=share_ci,
        # The sign test over seeds is the same binomial test as McNemar's over examples.
        sign_p=mcnemar_exact(losses, wins),
        sentence=sentence,
        groups=None if groups is None else difference.shape[1],
        metric=metric,
        next=steps,
        family=family,
        interval_simultaneous=together,
        margin=wanted,
        reach=reach,
    )


def _unseen(difference: Array, groups: Array | None, shares: bool, confidence: float) -> float:
    """Largest mean of examples on which runs differ alike, of a kind that none of these shows.

    Of unbounded scores nothing is known of it but that many examples differ.

    References
    ----------
    Rule of three, here of the two-sided interval (Clopper and Pearson): Hanley and Lippman-Hand
    (1983), JAMA 249, 1743-1745.
    """
    if not shares:
        sums = np.abs(difference.sum(axis=0))
        return 0.0 if sums.any() and effective_number(sums[sums > 0]) >= FEW else math.inf
    units = (difference.shape[1] if groups is None else
             effective_number(np.unique(groups, return_counts=True)[1]))
    return float(1 - ((1 - confidence) / 2) ** (1 / units))


def runs_interval(
    difference: Array, confidence: float, groups: Array | None = None, *,
    bound: float | None = None, of_runs: tuple[float, float] | None = None,
) -> tuple[float, float]:
    """Interval of the mean (runs, n) for new runs and new examples, or new groups of them.

    Where few groups hold all that differs it also holds Tango's; for this, ``bound`` is the largest
    size of a value.  ``of_runs`` as in :func:`crossed_interval`.
    """
    if groups is None:
        return crossed_interval(difference, confidence, of_runs=of_runs)
    means = difference.mean(axis=0)
    ends = [crossed_interval(linearised(difference, groups), confidence,
                             _group_part(means, groups, confidence), of_runs)]
    if bound is not None:
        ends += [(bound * low, bound * high)
                 for low, high in _new_groups(means / bound, groups, confidence)]
    return min(low for low, _ in ends), max(high for _, high in ends)


def welch_part(first: Array, second: Array) -> tuple[float, float]:
    """Variance of the difference of two means over as many runs each, and its freedom.

    References
    ----------
    Welch (1947), Biometrika 34, 28-35.
    """
    parts = np.array([first.var(ddof=1), second.var(ddof=1)]) / len(first)
    squares = float(parts @ parts)
    freedom = float(parts.sum()) ** 2 / squares if squares > 0 else 1.0
    return float(parts.sum()), freedom * (len(first) - 1)


def variance_components(difference: Array) -> dict[str, float]:
    """Unbiased variance components of a seeds x examples table.

    Model: d[s, e] = mean + seed[s] + example[e] + residual[s, e], all random.  The estimators
    equate the mean squares with their expectations, so they are unbiased and can be negative.

    Parameters
    ----------
    difference : ndarray, shape (seeds, n)
        At least 2 x 2.

    Returns
    -------
    dict
        ``seed``, ``example`` and ``residual``.

    Examples
    --------
    >>> variance_components(np.array([[0.0, 1.0], [2.0, 3.0]]))
    {'seed': 2.0, 'example': 0.5, 'residual': 0.0}
    """
    seeds, n = difference.shape
    of_seed, of_example, of_residual = _mean_squares(difference)
    return {"seed": (of_seed - of_residual) / n, "example": (of_example - of_residual) / seeds,
            "residual": of_residual}


def crossed_interval(
    difference: Array, confidence: float, of_groups: tuple[float, float] | None = None,
    of_runs: tuple[float, float] | None = None,
) -> tuple[float, float]:
    """Interval of the mean for new seeds and new examples.

    The variance of the mean is estimated from the mean squares.  Each of its two parts, seeds and
    examples, has Student's quantile of its own degrees of freedom, so that few seeds give a wide
    interval; the half-widths are added as squares, which never covers too seldom where both are
    normal.

    Parameters
    ----------
    difference : ndarray, shape (seeds, n)
        Difference of each seed on each example, at least 2 x 2.
    confidence : float
        Two-sided level.
    of_groups : tuple of float, optional
        Where the columns are groups of examples: variance of the mean over them, and its degrees of
        freedom, in the place of those of the columns.
    of_runs : tuple of float, optional
        Where the rows are not paired by seed: the same of the mean over them.

    Returns
    -------
    low, high : float
        In the unit of ``difference``.  When nothing varies: Tango's bounds for differences of 0/1
        scores, NaN for others.

    References
    ----------
    Banerjee (1960), Annals of the Institute of Statistical Mathematics 12, 175-187.

    Examples
    --------
    >>> low, high = crossed_interval(np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]), 0.95)
    >>> round(low, 2), round(high, 2)
    (-5.85, 6.85)
    """
    seeds, n = difference.shape
    mean = float(difference.mean())
    squares, columns, rows = np.array(_mean_squares(difference)), n - 1.0, seeds - 1.0
    if of_groups is not None:
        squares[1], columns = seeds * n * of_groups[0], of_groups[1]
    if of_runs is not None:
        squares[0], rows = seeds * n * of_runs[0], of_runs[1]
    if not squares[:2].any():
        # Nothing varies, which bounds a difference of 0/1 scores but not of unbounded ones.
        if mean not in (-1, 0, 1):
            return math.nan, math.nan
        n = columns + 1
        low, high = tango_interval(n, n * (mean == -1), n * (mean == 1), confidence)
        return float(low), float(high)
    # var(mean) = (MS_seed + MS_example - MS_residual) / (seeds n), of which the seeds' part holds
    # the residual; never below what the examples alone say.
    of_seeds, of_examples = stdtrit(np.maximum(1.0, [rows, columns]), (1 + confidence) / 2) ** 2
    parts = of_seeds * squares[0] + of_examples * max(0.0, squares[1] - squares[2])
    half = math.sqrt(max(parts, of_examples * squares[1]) / (seeds * n))
    return mean - half, mean + half


def mean_interval(values: Array, confidence: float = 0.95) -> tuple[float, float]:
    """Student's interval of a mean, such as that of a difference over training seeds.

    Parameters
    ----------
    values : array_like, shape (n,)
        At least two, independent of each other.
    confidence : float
        Two-sided level.

    Returns
    -------
    tuple of float
        Low and high, in the unit of the values.

    Raises
    ------
    DataError
        When there are fewer than two values, or one is NaN.

    References
    ----------
    Student (1908), Biometrika 6, 1-25.

    Examples
    --------
    >>> low, high = mean_interval([0.2, 0.5, -0.1, 0.4])
    >>> round(low, 2), round(high, 2)
    (-0.17, 0.67)
    """
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or len(found) < 2 or np.isnan(found).any():
        raise DataError(f"a mean needs two values or more, none of them NaN, but got {values!r}.")
    middle, error = float(found.mean()), float(found.std(ddof=1)) / math.sqrt(len(found))
    half = float(stdtrit(len(found) - 1, (1 + check_confidence(confidence)) / 2)) * error
    return middle - half, middle + half


def crossed_bootstrap(
    difference: Array, *, n_resamples: int = 9999, rng: int | np.random.Generator = 0
) -> Array:
    """Means of resamples that draw seeds and examples independently, with replacement.

    Examples on which all seeds agree that the difference is zero only matter by their number, so
    a resample draws how many of the others it holds, and then which.

    Parameters
    ----------
    difference : ndarray, shape (seeds, n)
        Difference of each seed on each example.
    n_resamples : int
        Number of resamples.
    rng : int or Generator
        Seed or generator.

    Returns
    -------
    ndarray of float64, shape (n_resamples,)

    Examples
    --------
    >>> means = crossed_bootstrap(np.array([[0.0, 1.0], [0.0, 1.0]]), rng=0)
    >>> sorted(set(means.tolist()))
    [0.0, 0.5, 1.0]
    """
    generator = np.random.default_rng(rng)
    seeds, n = difference.shape
    active = difference[:, np.any(difference != 0, axis=0)].astype(np.float64)
    count = active.shape[1]
    sums = np.zeros(n_resamples)
    if count == 0:
        return sums
    drawn = generator.binomial(n, count / n, size=n_resamples)
    step = max(1, _CHUNK // count)
    for start in range(0, n_resamples, step):
        rows = min(step, n_resamples - start)
        seed_counts = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=rows)
        of_example = seed_counts.astype(np.float64) @ active
        for row in range(rows):
            index = generator.integers(0, count, size=drawn[start + row], dtype=np.int32)
            sums[start + row] = of_example[row][index].sum()
    return sums / (seeds * n)


def _group_part(values: Array, groups: Array, confidence: float) -> tuple[float, float]:
    """Variance of the mean over seeds that comes from the groups, and its degrees of freedom."""
    effect, freedom = effect_of(values, groups, confidence)
    return effect * float(np.sum((values - values.mean()) ** 2)) / len(values) ** 2, freedom


def _new_groups(values: Array, groups: Array, confidence: float) -> list[tuple[float, float]]:
    """Tango's interval of the mean over seeds for other groups; none where many of them differ."""
    sums, sizes = group_sums(values, groups)
    if effective_number(np.abs(sums)) >= FEW:
        return []
    n, a, b = len(values), np.maximum(-values, 0).sum(), np.maximum(values, 0).sum()
    effect, freedom = design_effect(a + b - (b - a) ** 2 / n, sums, sizes, confidence)
    wide = widened(effect, freedom, confidence)
    return [tango_interval(n / wide, a / wide, b / wide, confidence)]


def _difference(scores_a: Array, scores_b: Array) -> Array:
    a, b = np.asarray(scores_a), np.asarray(scores_b)
    if a.shape != b.shape or a.ndim != 2:
        raise DataError(
            f"scores by seed must be two arrays of one shape (seeds, examples), but have shapes "
            f"{a.shape} and {b.shape}."
        )
    if a.shape[0] < 2 or a.shape[1] < 2:
        raise DataError(
            f"there are {a.shape[0]} seeds and {a.shape[1]} examples; at least 2 of each are "
            "needed to tell their variances apart."
        )
    if a.dtype.kind not in "biuf" or b.dtype.kind not in "biuf":
        raise DataError(f"scores are of types {a.dtype} and {b.dtype}; they must be numbers.")
    difference = b.astype(np.float64) - a.astype(np.float64)
    bad = int(np.count_nonzero(~np.isfinite(difference)))
    if bad:
        raise DataError(f"{bad} scores are NaN or infinite; remove or mend them.")
    return difference


def _mean_squares(difference: Array) -> tuple[float, float, float]:
    seeds, n = difference.shape
    mean = difference.mean()
    rows = difference.mean(axis=1) - mean
    columns = difference.mean(axis=0) - mean
    total = float(np.sum((difference - mean) ** 2))
    seed_squares, example_squares = n * float(rows @ rows), seeds * float(columns @ columns)
    # Rounding may leave a tiny negative rest when one of the two effects explains everything.
    rest = max(0.0, total - seed_squares - example_squares)
    return (
        seed_squares / (seeds - 1),
        example_squares / (n - 1),
        rest / ((seeds - 1) * (n - 1)),
    )
