"""Paired bootstrap and McNemar's test, beside SciPy, statsmodels and plain NumPy.

Two models of 88 % accuracy that disagree on 6 % of the examples; 9,999 resamples unless another
number stands there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from bench import Array, Missing, Row, need, paired, span
from scipy import stats

TARGET = 100


def two_models(n: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    a = rng.random(n) < 0.88
    return a, a ^ (rng.random(n) < 0.06)


def difference(a: Array, b: Array) -> Array:
    return b.view(np.int8) - a.view(np.int8)


def interval(means: Array) -> Array:
    return np.quantile(means, [0.025, 0.975])


def by_scipy(data: tuple[Array, ...], statistic: Callable[..., Any]) -> Array:
    found = stats.bootstrap(data, statistic, paired=True, vectorized=True, batch=100,
                            n_resamples=9999, method="percentile",
                            rng=np.random.default_rng(0)).confidence_interval
    return np.array([found.low, found.high])


def close(ours: Array, theirs: Array, deviation: float) -> str:
    """Ends equal but for simulation: 2.5 % quantiles of means with this standard deviation."""
    # The density of a normal distribution at its 2.5 % quantile is 0.0584 deviations.
    noise = np.sqrt(2 * 0.025 * 0.975 / 9999) * deviation / 0.0584
    gap = float(np.abs(ours - theirs).max())
    assert gap <= 5 * noise + 1e-4, (ours, theirs)
    return f"ends differ by {100 * gap:.3f} points; simulation explains {100 * 5 * noise:.3f}"


def rows() -> Iterator[Row | str]:
    from qinspect.stats import bootstrap_distribution

    a, b = two_models(10_000)
    timed = paired({
        "ours": lambda: interval(bootstrap_distribution(difference(a, b))),
        "SciPy": lambda: by_scipy(
            (a.astype(float), b.astype(float)),
            lambda x, y, axis: np.mean(y, axis=axis) - np.mean(x, axis=axis)),
    })
    yield timed.row("paired bootstrap, 10,000 examples", "ours", "SciPy", target=TARGET,
                    check=close(timed.found["ours"], timed.found["SciPy"], np.sqrt(0.06 / 10_000)))
    yield in_groups(a, b)
    yield over_seeds()
    try:
        yield mcnemar(a, b)
    except Missing as missing:
        yield Row("McNemar, exact", f"not measured: {missing}")
    large = difference(*two_models(10_000_000))
    once = paired({"ours": lambda: interval(bootstrap_distribution(large))})
    normal = large.mean() + np.array([-1.96, 1.96]) * large.std() / np.sqrt(large.size)
    check = close(once.found["ours"], normal, float(large.std() / np.sqrt(large.size)))
    yield Row("paired bootstrap, 10,000,000 examples", span(once.median("ours")), check=check)


def in_groups(a: Array, b: Array) -> Row:
    """Whole groups are resampled; SciPy is given their sums and sizes."""
    from qinspect.stats import bootstrap_distribution

    groups = np.repeat(np.arange(1000), 10)
    rng = np.random.default_rng(1)
    order = rng.permutation(len(groups))
    d, groups = difference(a, b)[order], groups[order]
    sums = "SciPy on sums and sizes"
    timed = paired({
        "ours": lambda: interval(bootstrap_distribution(d, groups=groups)),
        sums: lambda: by_scipy(
            (np.bincount(groups, d), np.bincount(groups).astype(float)),
            lambda s, n, axis: np.sum(s, axis=axis) / np.sum(n, axis=axis)),
    })
    deviation = float(np.bincount(groups, d).std() / 10 / np.sqrt(1000))
    return timed.row("the same in 1,000 groups", "ours", sums,
                     check=close(timed.found["ours"], timed.found[sums], deviation))


def over_seeds() -> Row:
    """Seeds and examples are resampled independently, of five runs on 2,000 examples."""
    from qinspect.stats import crossed_bootstrap

    d = np.stack([difference(*two_models(10_000))[i::5] for i in range(5)]).astype(float)

    def plain() -> Array:
        rng = np.random.default_rng(0)
        means = [d[rng.integers(0, 5, 5)][:, rng.integers(0, d.shape[1], d.shape[1])].mean()
                 for _ in range(9999)]
        return interval(np.array(means))

    timed = paired({"ours": lambda: interval(crossed_bootstrap(d)), "a loop in NumPy": plain})
    deviation = float(np.diff(timed.found["a loop in NumPy"])[0] / 3.92)
    return timed.row("five seeds and 2,000 examples resampled", "ours", "a loop in NumPy",
                     check=close(timed.found["ours"], timed.found["a loop in NumPy"], deviation))


def mcnemar(a: Array, b: Array) -> Row:
    """From arrays of right and wrong to the exact p."""
    from qinspect.stats import mcnemar_exact

    tables = need("statsmodels.stats.contingency_tables")

    def ours() -> float:
        return mcnemar_exact(int(np.count_nonzero(a & ~b)), int(np.count_nonzero(b & ~a)))

    def theirs() -> float:
        counts = np.array([[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]])
        return float(tables.mcnemar(counts, exact=True).pvalue)

    timed = paired({"ours": ours, "statsmodels": theirs}, 15)
    gap = abs(timed.found["ours"] - timed.found["statsmodels"])
    assert gap < 1e-9, timed.found
    return timed.row("McNemar, exact, 10,000 examples", "ours", "statsmodels",
                     check=f"p equal to {gap:.1g}")
