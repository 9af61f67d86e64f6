"""Paired bootstrap of an accuracy difference: qinspect against SciPy, in one run.

    python benchmarks/bench_bootstrap.py

Exits with code 1 when the speed-up is below 100, the large case takes 0.2 s or more, or the
intervals differ by more than Monte Carlo error.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats

from qinspect.stats import bootstrap_distribution


def timed(call: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Best of several runs, in seconds, and the last result."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def two_models(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Correctness of two models of about 88 % accuracy that disagree on 6 % of the examples."""
    rng = np.random.default_rng(0)
    a = rng.random(n) < 0.88
    flip = rng.random(n) < 0.06
    return a, a ^ flip


def interval(a: np.ndarray, b: np.ndarray, n_resamples: int) -> tuple[float, float]:
    """Percentile interval of the paired difference."""
    difference = b.view(np.int8) - a.view(np.int8)
    low, high = np.quantile(
        bootstrap_distribution(difference, n_resamples=n_resamples), [0.025, 0.975]
    )
    return float(low), float(high)


def mean_difference(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
    return np.mean(y, axis=axis) - np.mean(x, axis=axis)


def main() -> int:
    a, b = two_models(10_000)
    interval(a, b, 9999)
    ours, (low, high) = timed(lambda: interval(a, b, 9999), 7)
    floats = (a.astype(float), b.astype(float))
    theirs, reference = timed(
        lambda: (
            stats.bootstrap(
                floats,
                mean_difference,
                paired=True,
                vectorized=True,
                batch=100,
                n_resamples=9999,
                method="percentile",
                rng=np.random.default_rng(0),
            ).confidence_interval
        ),
        2,
    )
    a, b = two_models(1_000_000)
    large, _ = timed(lambda: interval(a, b, 100_000), 3)

    gap = max(abs(low - reference.low), abs(high - reference.high))
    # Five standard errors of the difference of two simulated 2.5 % quantiles, and one grid step.
    allowed = 5 * np.sqrt(2) * 0.027 * np.sqrt(0.06 / 10_000) + 1e-4
    print(f"10,000 examples, 9,999 resamples: qinspect {1000 * ours:.2f} ms, "
          f"scipy {theirs:.2f} s, {theirs / ours:.0f} times faster")
    print(f"intervals (points): qinspect [{100 * low:+.3f}, {100 * high:+.3f}], "
          f"scipy [{100 * reference.low:+.3f}, {100 * reference.high:+.3f}], "
          f"largest gap {100 * gap:.3f}, allowed {100 * allowed:.3f}")
    print(f"1,000,000 examples, 100,000 resamples: {large:.3f} s")
    return int(theirs / ours < 100 or large >= 0.2 or gap > allowed)


if __name__ == "__main__":
    sys.exit(main())
