"""How often the intervals of a paired difference hold the truth, by exact enumeration.

``python -m qinspect_bench.coverage`` writes ``data/interval_coverage.csv`` and prints the table of
``docs/intervals.md``.  Nothing is simulated: the numbers of examples that only one model gets right
are summed over with their multinomial probabilities, and the bootstrap distribution is the ideal
one of infinitely many resamples, computed by Fourier transform.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import ndtri
from scipy.stats import binom

from qinspect.schema import Array
from qinspect.stats.bootstrap import bca_levels
from qinspect.stats.intervals import tango_statistic

GRID_N = (200, 1000, 10_000)
GRID_DISAGREEMENT = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
# True difference as a share of the disagreement: from a fair coin to one model never losing.
GRID_SHARE = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
COLUMNS = ("n", "disagreement", "difference_pp", "expected_disagreements",
           "percentile", "bca", "tango")

# Outcomes less likely than this are left out and count as not covered.
_NEGLIGIBLE = 1e-11
_CHUNK = 1 << 21


def outcomes(n: int, disagreement: float, difference: float) -> tuple[Array, Array, Array]:
    """Plausible counts (a_only, b_only) of a paired comparison, and their probability."""
    share = 0.5 if disagreement == 0 else (1 + difference / disagreement) / 2
    m = np.arange(n + 1)
    m = m[binom.pmf(m, n, disagreement) > _NEGLIGIBLE]
    total = np.repeat(m, m + 1)
    won = np.concatenate([np.arange(k + 1) for k in m])
    probability = binom.pmf(total, n, disagreement) * binom.pmf(won, total, share)
    keep = probability > _NEGLIGIBLE
    return total[keep] - won[keep], won[keep], probability[keep]


def exact_bootstrap(n: int, a_only: Array, b_only: Array) -> tuple[Array, Array]:
    """Offsets (w,) of the ideal bootstrap of b_only - a_only, and their probability (k, w)."""
    spread = np.sqrt(max(1, int((a_only + b_only).max())))
    width = 1 << int(np.ceil(np.log2(18 * spread + 16)))
    angle = 2 * np.pi * np.arange(width // 2 + 1) / width
    p, q = (b_only / n)[:, None], (a_only / n)[:, None]
    cosine, sine = np.cos(angle) - 1, np.sin(angle)
    # Characteristic function of one example, in the sign convention of the inverse transform.
    log = np.log1p((p + q) * cosine - 1j * (p - q) * sine)
    observed = (b_only - a_only)[:, None]
    probability = np.fft.irfft(np.exp(n * log + 1j * angle * observed), n=width)
    return np.arange(width) - width // 2, np.roll(probability, width // 2, axis=1)


def coverage(
    n: int, disagreement: float, difference: float, *, confidence: float = 0.95
) -> dict[str, float]:
    """Probability that each interval holds the true difference."""
    a_only, b_only, probability = outcomes(n, disagreement, difference)
    z = ndtri((1 + confidence) / 2)
    inside = np.abs(tango_statistic(n, a_only, b_only, difference)) <= z
    result = {"percentile": 0.0, "bca": 0.0, "tango": float(probability[inside].sum())}
    # Many disagreements need wide transforms: like with like keeps the chunks small.
    order = np.argsort(a_only + b_only)
    step = max(1, _CHUNK // (64 + int(18 * np.sqrt((a_only + b_only).max()))))
    for start in range(0, len(order), step):
        part = order[start : start + step]
        held = _bootstrap_holds(n, a_only[part], b_only[part], difference, (1 - confidence) / 2)
        for name, mask in held.items():
            result[name] += float(probability[part][mask].sum())
    return result


def coverage_table(
    ns: Iterable[int] = GRID_N,
    disagreements: Iterable[float] = GRID_DISAGREEMENT,
    shares: Iterable[float] = GRID_SHARE,
) -> pd.DataFrame:
    """Coverage of the 95 % intervals over a grid; ``shares`` are differences over disagreement."""
    shares = tuple(shares)
    disagreements = tuple(disagreements)
    rows = [
        {
            "n": n,
            "disagreement": disagreement,
            "difference_pp": round(100 * disagreement * share, 6),
            "expected_disagreements": round(n * disagreement, 6),
            **coverage(n, disagreement, disagreement * share),
        }
        for n in ns
        for disagreement in disagreements
        for share in shares
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _bootstrap_holds(
    n: int, a_only: Array, b_only: Array, difference: float, tail: float
) -> dict[str, Array]:
    """Whether the percentile and BCa intervals of each outcome hold the difference."""
    offset, probability = exact_bootstrap(n, a_only, b_only)
    cumulative = np.cumsum(probability, axis=1)
    observed = b_only - a_only
    truth = n * difference
    centre = int(np.flatnonzero(offset == 0)[0])

    def below(count: Array) -> Array:
        index = np.clip(count.astype(int) + centre, -1, len(offset) - 1)
        values = np.take_along_axis(cumulative, np.maximum(index, 0)[:, None], axis=1)[:, 0]
        return np.where(index < 0, 0.0, values)

    # low <= truth <= high in terms of the distribution; 1e-9 absorbs rounding of n * difference.
    at_most = below(np.floor(truth + 1e-9) - observed)
    less = below(np.ceil(truth - 1e-9) - 1 - observed)
    percentile = (at_most >= tail) & (less <= 1 - tail)

    middle = (cumulative[:, centre] + cumulative[:, centre - 1]) / 2
    mean = observed / n
    parts = [(1 - mean, b_only), (-1 - mean, a_only), (-mean, n - a_only - b_only)]
    spread = sum(count * value**2 for value, count in parts)
    skew = sum(count * value**3 for value, count in parts)
    certain = spread < 1e-12
    acceleration = skew / (6 * np.where(certain, 1.0, spread) ** 1.5)
    levels = bca_levels(middle, acceleration, tail)
    bca = (at_most >= levels[:, 0]) & (less <= levels[:, 1])
    # Without spread every resample equals the sample: the interval is that one point.
    exact = np.abs(truth - observed) < 1e-9
    return {
        "percentile": np.where(certain, exact, percentile),
        "bca": np.where(certain, exact, bca),
    }


def to_markdown(table: pd.DataFrame) -> str:
    """The coverage table, in percent, as Markdown."""
    lines = [
        "| n | disagreement | expected disagreements | true difference (points) "
        "| percentile | BCa | Tango |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row['n']} | {100 * row['disagreement']:g} % | {row['expected_disagreements']:g} "
        f"| {row['difference_pp']:g} | {100 * row['percentile']:.1f} | {100 * row['bca']:.1f} "
        f"| {100 * row['tango']:.1f} |"
        for row in table.to_dict("records")
    ]
    return "\n".join(lines)


def main() -> None:
    """Write the coverage table and print it."""
    parser = argparse.ArgumentParser(prog="python -m qinspect_bench.coverage",
                                     description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/interval_coverage.csv"))
    out: Path = parser.parse_args().out
    table = coverage_table()
    partial = out.with_suffix(".partial")
    table.to_csv(partial, index=False, float_format="%.6g")
    os.replace(partial, out)  # noqa: PTH105
    print(to_markdown(table))


if __name__ == "__main__":
    main()
