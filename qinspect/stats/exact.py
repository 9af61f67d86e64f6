"""Exact tests of paired results: McNemar, its mid-p form, and sign flips for any score."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import betainc

from qinspect.errors import DataError, SpecError
from qinspect.schema import Array

# Up to this many non-zero differences all sign patterns are enumerated (2**18 sums).
_ENUMERATE = 18
_CHUNK = 1 << 21
# Evaluations of a cosine that the exact distribution may cost.
_EXACT = 1 << 26


def mcnemar_exact(a_only: int, b_only: int) -> float:
    """Two-sided exact McNemar p-value; 1 when nothing disagrees.

    Given the number of disagreements, those won by b are binomial with probability 1/2 when the
    models are equally accurate.

    Parameters
    ----------
    a_only, b_only : int
        Examples that only a, only b gets right.

    Returns
    -------
    float
        p-value in (0, 1].

    Raises
    ------
    SpecError
        When a count is negative.

    References
    ----------
    McNemar (1947), Psychometrika 12, 153-157; exact form: Edwards (1948).

    Examples
    --------
    >>> mcnemar_exact(1, 9)
    0.021484375
    """
    _check(a_only, b_only)
    return min(1.0, 2 * float(binomial_cdf(min(a_only, b_only), a_only + b_only, 0.5)))


def mcnemar_midp(a_only: int, b_only: int) -> float:
    """Two-sided mid-p McNemar p-value; 1 when nothing disagrees.

    Counts only half of the probability of the observed table: less conservative than the exact
    test, at the price that the error rate may slightly exceed the level.

    Parameters
    ----------
    a_only, b_only : int
        Examples that only a, only b gets right.

    Returns
    -------
    float
        p-value in (0, 1].

    Raises
    ------
    SpecError
        When a count is negative.

    References
    ----------
    Fagerland, Lydersen and Laake (2013), BMC Medical Research Methodology 13:91.

    Examples
    --------
    >>> mcnemar_midp(1, 9)
    0.01171875
    """
    _check(a_only, b_only)
    fewer, total = min(a_only, b_only), a_only + b_only
    if a_only == b_only:
        return 1.0
    # Twice the tail less half of the observed table's probability on either side.
    return float(np.sum(binomial_cdf([fewer - 1, fewer], total, 0.5)))


def sign_flip_test(
    differences: Array, *, n_resamples: int = 99_999, rng: int | np.random.Generator = 0
) -> float:
    """Two-sided permutation p-value for paired scores of any kind.

    If the two models are exchangeable, each difference could as well have had the other sign; the
    p-value is the share of sign patterns whose sum is at least as far from zero as the observed
    one.  Exact when the differences are whole numbers (of 0/1 correctness: McNemar's exact test;
    its sums over groups) or at most 18 are not zero; otherwise Monte Carlo with ``n_resamples``
    patterns, the observed one counted in, so never 0: fine enough for a family of
    thousands of comparisons.

    Parameters
    ----------
    differences : array_like, shape (n,)
        Score of b minus score of a, one an example or one a group.
    n_resamples : int
        Random patterns where the exact distribution is out of reach.
    rng : int or Generator
        Seed or generator of the random patterns.

    Returns
    -------
    float
        p-value in (0, 1]; 1 when no difference is non-zero.

    Raises
    ------
    DataError
        When there are no differences or some are not finite.

    Examples
    --------
    >>> sign_flip_test([0.1, 0.2, 0.3])
    0.25
    """
    values = np.asarray(differences, dtype=np.float64).ravel()
    if values.size == 0:
        raise DataError("there are no paired differences to test; at least one example is needed.")
    if not np.all(np.isfinite(values)):
        bad = int(np.count_nonzero(~np.isfinite(values)))
        raise DataError(f"{bad} paired differences are NaN or infinite; remove or mend them.")
    values = values[values != 0]
    if values.size == 0:
        return 1.0
    size = np.abs(values)
    if np.all(size == size[0]):
        wins = int(np.count_nonzero(values > 0))
        return mcnemar_exact(values.size - wins, wins)
    # Sums that are equal on paper may differ in the last digits.
    observed = abs(float(values.sum())) * (1 - 1e-12) - 1e-12 * float(size.max())
    if values.size <= _ENUMERATE:
        sums = np.zeros(1)
        for value in size:
            sums = np.concatenate([sums + value, sums - value])
        return float(np.mean(np.abs(sums) >= observed))
    if np.all(size == np.round(size)) and (exact := _whole_flips(values)) is not None:
        return exact
    generator = np.random.default_rng(rng)
    extreme = 0
    # Sums of every pattern of eight signs, which one random byte chooses from.
    size = np.pad(size, (0, -size.size % 8)).reshape(-1, 8)
    of_byte = size @ (2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[None], axis=0) - 1)
    for start in range(0, n_resamples, _CHUNK // 32):
        sums = np.zeros(min(_CHUNK // 32, n_resamples - start))
        for eight in of_byte:
            sums += eight[generator.integers(0, 256, size=len(sums), dtype=np.uint8)]
        extreme += int(np.count_nonzero(np.abs(sums) >= observed))
    return (extreme + 1) / (n_resamples + 1)


def smallest_p(units: int) -> float:
    """The smallest p-value that exact paired tests of so many examples or groups can give."""
    return min(1.0, 2 * 0.5**units)


def _whole_flips(values: Array) -> float | None:
    """The exact p-value for whole numbers, within 1e-14; None where that takes too long.

    A sum of independent signs times sizes has the characteristic function prod cos(size t), whose
    discrete Fourier transform is its distribution.
    """
    sizes, counts = np.unique(np.abs(values).astype(np.int64), return_counts=True)
    total = int(counts @ sizes)
    width = 1 << (2 * total + 1).bit_length()
    if len(sizes) * width > _EXACT:
        return None
    angle = 2 * np.pi * np.arange(width // 2 + 1) / width
    characteristic = np.ones(len(angle))
    for size, count in zip(sizes, counts, strict=True):
        characteristic *= np.cos(size * angle) ** int(count)
    probability = np.fft.irfft(characteristic, width)
    observed = abs(int(values.sum()))
    # Negative sums stand at the end; both ends are equally likely.
    tail = float(probability[observed : total + 1].sum())
    return min(1.0, max(2 * tail if observed else 1.0, 1e-15))


def binomial_cdf(most: Any, n: Any, probability: Any) -> Array:
    """Probability of at most ``most`` successes in ``n`` trials; ``scipy.stats`` is slow to import.

    References
    ----------
    Abramowitz and Stegun (1964), 26.5.24: a regularised incomplete beta function.
    """
    most, n = np.broadcast_arrays(np.asarray(most, np.float64), np.asarray(n, np.float64))
    inside = (most >= 0) & (most < n)
    k = np.where(inside, most, 0.0)
    value = betainc(np.where(inside, n - k, 1.0), k + 1, 1 - probability)
    return np.where(inside, value, np.where(most < 0, 0.0, 1.0))


def _check(a_only: int, b_only: int) -> None:
    if a_only < 0 or b_only < 0:
        raise SpecError(f"disagreements are counts, but {a_only} and {b_only} were given.")
