"""Two levels of chance: these test examples, and another training run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from qinspect.errors import DataError
from qinspect.schema import Array
from qinspect.stats.crossed import crossed_bootstrap, crossed_interval, variance_components
from qinspect.stats.intervals import check_confidence, wilson_interval
from qinspect.stats.mcnemar import mcnemar_exact


@dataclass(frozen=True)
class SeedComparison:
    """Two procedures trained with the same seeds and tested on the same examples; b - a.

    Attributes
    ----------
    a, b : str
        Names of the procedures.
    seeds, n : int
        Training seeds and test examples.
    diff_pp : float
        Mean difference over seeds and examples, percentage points.
    per_seed_pp : tuple of float
        Difference of each seed on these examples.
    ci_pp : tuple of float
        Interval for new seeds and new examples from the variances and Student's t with
        Satterthwaite's degrees of freedom: the one to report, also with few seeds.
    crossed_ci_pp : tuple of float
        Crossed bootstrap (seeds and examples resampled independently), percentiles.  With
        fewer than some ten seeds it is too narrow if seeds dominate.
    confidence : float
        Level of all intervals.
    variance_seed, variance_example, variance_residual : float
        Unbiased variance components of one seed's result on one example, in squared accuracy
        units (1 = 100 points); an estimate may be negative when the true value is near zero.
        The residual holds the seed x example interaction.
    seed_sd_pp : float
        Standard deviation of the true difference from one training seed to another, percentage
        points; 0 where the estimated variance is negative.
    run_sd_pp : float
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
    """

    a: str
    b: str
    seeds: int
    n: int
    diff_pp: float
    per_seed_pp: tuple[float, ...]
    ci_pp: tuple[float, float]
    crossed_ci_pp: tuple[float, float]
    confidence: float
    variance_seed: float
    variance_example: float
    variance_residual: float
    seed_sd_pp: float
    run_sd_pp: float
    b_wins: int
    ties: int
    a_wins: int
    b_wins_share: float
    b_wins_ci: tuple[float, float]
    sign_p: float
    sentence: str


def compare_seeds(
    scores_a: Array,
    scores_b: Array,
    *,
    a: str = "a",
    b: str = "b",
    confidence: float = 0.95,
    n_resamples: int = 9999,
    rng: int | np.random.Generator = 0,
) -> SeedComparison:
    """Compare two training procedures over several seeds, paired by seed and by example.

    Parameters
    ----------
    scores_a, scores_b : array_like, shape (seeds, n)
        Correctness of each seed's model on each example; row s of both comes from the same seed,
        column e of both is the same example.  Of any other score, such as a loss, the results
        called percentage points are hundredths of its unit.
    a, b : str
        Names of the procedures.
    confidence : float
        Two-sided level.
    n_resamples : int
        Crossed bootstrap resamples.
    rng : int or Generator
        Seed or generator of the bootstrap.

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
    """
    check_confidence(confidence)
    difference = _difference(scores_a, scores_b)
    seeds, n = difference.shape
    mean = float(difference.mean())
    per_seed = difference.mean(axis=1)
    parts = variance_components(difference)
    wins = int(np.count_nonzero(per_seed > 0))
    losses = int(np.count_nonzero(per_seed < 0))
    low, high = np.quantile(
        crossed_bootstrap(difference, n_resamples=n_resamples, rng=rng),
        [(1 - confidence) / 2, (1 + confidence) / 2],
    )
    share_ci = wilson_interval(wins, seeds, confidence)
    ci_low, ci_high = crossed_interval(difference, confidence)
    ci = (100 * ci_low, 100 * ci_high)
    seed_sd = 100 * math.sqrt(max(0.0, parts["seed"]))
    ties = seeds - wins - losses
    sentence = (
        f"Over {seeds} seeds and {n} examples {b} - {a} is {100 * mean:+.2f} points on average "
        f"({100 * confidence:g} % interval for new seeds and new examples "
        f"{ci[0]:+.2f} to {ci[1]:+.2f}), from {100 * per_seed.min():+.2f} to "
        f"{100 * per_seed.max():+.2f}. {b} was ahead with {wins} of {seeds} seeds"
        + (f" and level with {ties}" if ties else "")
        + f"; trained again and tested on these examples it would be ahead in "
        f"{100 * wins / seeds:.0f} % of runs "
        f"(interval {100 * share_ci[0]:.0f} to {100 * share_ci[1]:.0f} %)."
    )
    return SeedComparison(
        a=a,
        b=b,
        seeds=seeds,
        n=n,
        diff_pp=100 * mean,
        per_seed_pp=tuple(float(value) for value in 100 * per_seed),
        ci_pp=ci,
        crossed_ci_pp=(100 * float(low), 100 * float(high)),
        confidence=confidence,
        variance_seed=parts["seed"],
        variance_example=parts["example"],
        variance_residual=parts["residual"],
        seed_sd_pp=seed_sd,
        run_sd_pp=100 * float(per_seed.std(ddof=1)),
        b_wins=wins,
        ties=ties,
        a_wins=losses,
        b_wins_share=wins / seeds,
        b_wins_ci=share_ci,
        # The sign test over seeds is the same binomial test as McNemar's over examples.
        sign_p=mcnemar_exact(losses, wins),
        sentence=sentence,
    )


def seeds_row(comparison: SeedComparison) -> dict[str, Any]:
    """The comparison as a JSON object.

    Parameters
    ----------
    comparison : SeedComparison
        What to write down.

    Returns
    -------
    dict
        Numbers, strings and lists only; what is not defined is None.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return None if isinstance(value, float) and math.isnan(value) else value

    return {name: plain(value) for name, value in asdict(comparison).items()}


def seed_matrices(predictions: pd.DataFrame, a: str, b: str) -> tuple[Array, Array]:
    """Correctness of two arms as seeds x examples arrays, from a tidy frame.

    Parameters
    ----------
    predictions : DataFrame
        Columns ``seed``, ``arm``, ``id`` and ``correct``, one row an example x seed x arm.
    a, b : str
        Names of the arms.

    Returns
    -------
    correct_a, correct_b : ndarray of bool, shape (seeds, n)
        Rows by seed, columns by example id, both sorted.

    Raises
    ------
    DataError
        When a column or arm is missing, a row is there twice, or an arm lacks some example of
        some seed.
    """
    needed = ["seed", "arm", "id", "correct"]
    missing = [name for name in needed if name not in predictions.columns]
    if missing:
        raise DataError(f"the predictions have no column {', '.join(missing)}.")
    tables = []
    for arm in (a, b):
        rows = predictions[predictions["arm"] == arm]
        if rows.empty:
            raise DataError(f"the predictions have no rows of arm {arm!r}.")
        if rows.duplicated(["seed", "id"]).any():
            raise DataError(f"arm {arm!r} has an example twice for one seed.")
        tables.append(rows.pivot(index="seed", columns="id", values="correct"))
    first, second = tables
    if not (first.index.equals(second.index) and first.columns.equals(second.columns)):
        raise DataError(f"{a} and {b} do not have the same seeds and examples.")
    for arm, table in zip((a, b), tables, strict=True):
        if table.isna().to_numpy().any():
            raise DataError(f"arm {arm!r} lacks the result of some examples for some seeds.")
    return first.to_numpy(dtype=bool), second.to_numpy(dtype=bool)


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
