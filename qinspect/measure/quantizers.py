"""Numbers to draw and ways to quantize them, for the playground."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from qinspect.affine import affine_parameters, decibels, fake_quantize
from qinspect.errors import SpecError, unknown_name
from qinspect.measure.ranges import RANGE_METHODS, choose_range, kmeans_codebook
from qinspect.schema import Array

CHANNELS = 8
BY_HAND = "by hand"
METHODS = (*RANGE_METHODS, BY_HAND)

_DRAWS: dict[str, Callable[[np.random.Generator, tuple[int, int]], Array]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "Laplace": lambda rng, shape: rng.laplace(scale=math.sqrt(0.5), size=shape),
    "uniform": lambda rng, shape: rng.uniform(-1.7, 1.7, size=shape),
    "after ReLU": lambda rng, shape: np.maximum(rng.normal(size=shape), 0),
    "normal with outliers": lambda rng, shape: (
        rng.normal(size=shape) * np.where(rng.random(shape) < 0.002, 12, 1)
    ),
    "two humps": lambda rng, shape: rng.normal(size=shape) * 0.3 + rng.choice([-1, 1], size=shape),
    "channels of unequal size": lambda rng, shape: (
        rng.normal(size=shape) * np.logspace(-1.5, 0.5, shape[0])[:, None]
    ),
}
DISTRIBUTIONS = tuple(_DRAWS)


def draw_numbers(distribution: str, n: int, seed: int = 0) -> Array:
    """Numbers, float32 of shape (CHANNELS, n // CHANNELS)."""
    if distribution not in _DRAWS:
        raise unknown_name("distribution", distribution, DISTRIBUTIONS)
    if n < CHANNELS:
        raise SpecError(f"{n} numbers were asked for; choose at least {CHANNELS}.")
    shape = (CHANNELS, n // CHANNELS)
    return _DRAWS[distribution](np.random.default_rng(seed), shape).astype(np.float32)


@dataclass(frozen=True)
class Quantized:
    """Values before and after.

    ``values``: ``channel``, ``value``, ``quantized``, sorted by value; ``ranges``: one, or one a
    channel; ``clipped_share``: outside the range by more than half a step, NaN for k-means, which
    clips nothing; ``levels``: different values afterwards.
    """

    values: pd.DataFrame
    ranges: tuple[tuple[float, float], ...]
    sqnr_db: float
    worst_channel_db: float
    clipped_share: float
    levels: int


def quantize_numbers(
    x: Array,
    method: str,
    *,
    bits: int = 4,
    symmetric: bool = False,
    per_channel: bool = False,
    percentile: float = 99.0,
    by_hand: tuple[float, float] = (-1.0, 1.0),
) -> Quantized:
    """Quantize channels of numbers by one method.

    ``kmeans`` places 2**bits levels freely; the others choose a range for an even grid, ``by hand``
    takes that of ``by_hand``.
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    if method == BY_HAND and per_channel:
        raise SpecError("a range by hand is one for all channels; choose per tensor.")
    parts = list(x) if per_channel else [x.ravel()]
    after, ranges, clipped = [], [], 0
    for part in parts:
        if method == "kmeans":
            book = kmeans_codebook(part, 2**bits)
            after.append(book.apply(part))
            ranges.append((float(book.centres[0]), float(book.centres[-1])))
            continue
        if method == BY_HAND:
            low, high = by_hand
        else:
            low, high = choose_range(part, method, bits=bits, percentile=percentile,  # type: ignore[arg-type]
                                     symmetric=symmetric)
        affine = affine_parameters(low, max(low, high), bits, symmetric=symmetric)
        half = float(affine.scale[0]) / 2
        start, end = float(affine.real_low[0]), float(affine.real_high[0])
        after.append(fake_quantize(part, affine))
        ranges.append((start, end))
        clipped += int(np.count_nonzero((part < start - half) | (part > end + half)))
    quantized = np.concatenate(after).reshape(x.shape)
    frame = pd.DataFrame(
        {
            "channel": np.repeat(np.arange(len(x)), x.shape[1]),
            "value": x.ravel().astype(np.float64),
            "quantized": quantized.ravel().astype(np.float64),
        }
    )
    return Quantized(
        frame.sort_values("value", kind="stable", ignore_index=True),
        tuple(ranges),
        _sqnr(x, quantized),
        min(_sqnr(a, b) for a, b in zip(x, quantized, strict=True)),
        math.nan if method == "kmeans" else clipped / x.size,
        int(frame["quantized"].nunique()),
    )


def _sqnr(x: Array, quantized: Array) -> float:
    exact = x.astype(np.float64)
    return decibels(float(np.sum(exact**2)), float(np.sum((quantized - exact) ** 2)))
