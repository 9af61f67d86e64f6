"""What a clip range would do to values known by their histogram.

The same arithmetic runs in ``show/static/histogram.js`` while a range is dragged; a browser test
holds the two together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qinspect.affine import affine_parameters, decibels, fake_quantize
from qinspect.errors import DataError, SpecError
from qinspect.measure.streaming import Histogram
from qinspect.schema import Array

Method = Literal["minmax", "percentile", "mse"]
METHODS: tuple[Method, ...] = ("minmax", "percentile", "mse")


@dataclass(frozen=True)
class Binned:
    """Values as counts in even bins from ``low`` on; the first and the last are not empty."""

    low: float
    width: float
    counts: Array

    @classmethod
    def of(cls, histogram: Histogram) -> Binned:
        """The filled part of a histogram."""
        filled = np.flatnonzero(histogram.counts)
        if len(filled) == 0:
            raise DataError("there is no finite value to show.")
        first, last = int(filled[0]), int(filled[-1])
        low = (first - histogram.bins // 2) * histogram.width
        return cls(low, histogram.width, histogram.counts[first : last + 1])

    @classmethod
    def values(cls, values: Array) -> Binned:
        """Bins for an array; each value is known to about a 1,000th of the largest."""
        histogram = Histogram()
        histogram.add(np.asarray(values, dtype=np.float32))
        return cls.of(histogram)

    @property
    def high(self) -> float:
        """Upper edge of the last bin."""
        return self.low + self.width * len(self.counts)

    @property
    def centres(self) -> Array:
        """Middles of the bins, float64, shape (bins,)."""
        return self.low + self.width * (np.arange(len(self.counts)) + 0.5)

    def coarser(self, most: int) -> Binned:
        """The same with at most so many bins, neighbours put together."""
        together = -(-len(self.counts) // most)
        starts = np.arange(0, len(self.counts), together)
        return Binned(self.low, together * self.width, np.add.reduceat(self.counts, starts))


def clip_effect(
    binned: Binned, low: float, high: float, *, bits: int = 8, symmetric: bool = False
) -> dict[str, float]:
    """Error if the values, each the middle of its bin, were quantized with low <= 0 <= high.

    ``low``, ``high`` (ends of the grid after the zero point is rounded), ``step``,
    ``clipped_share``, ``rmse``, ``sqnr_db`` (infinite without error), ``clipped_error_share`` (of
    the squared error).  With more than 8 bits steps would be finer than bins.
    """
    if not 2 <= bits <= 8:
        raise SpecError(f"bits is {bits}; choose 2 to 8.")
    affine = affine_parameters(low, high, bits, symmetric=symmetric)
    centres, counts = binned.centres, binned.counts
    start, end = float(affine.real_low[0]), float(affine.real_high[0])
    step = float(affine.scale[0])
    squared = counts * (fake_quantize(centres, affine) - centres) ** 2
    outside = (centres < start - step / 2) | (centres > end + step / 2)
    noise, signal = float(squared.sum()), float(counts @ centres**2)
    total = int(counts.sum())
    return {
        "low": start,
        "high": end,
        "step": step,
        "clipped_share": float(counts[outside].sum()) / total,
        "rmse": math.sqrt(noise / total),
        "sqnr_db": decibels(signal, noise),
        "clipped_error_share": float(squared[outside].sum()) / noise if noise > 0 else 0.0,
    }


def method_range(
    binned: Binned,
    method: str,
    *,
    bits: int = 8,
    symmetric: bool = False,
    percentile: float = 99.9,
) -> tuple[float, float]:
    """Range that a calibration method would choose, widened to hold zero.

    Methods as for :func:`qinspect.measure.ranges.choose_range`; ``percentile`` is the central share
    in per cent.
    """
    low, high = min(binned.low, 0.0), max(binned.high, 0.0)
    if method == "minmax":
        return low, high
    if method == "percentile":
        part = np.cumsum(binned.counts) / binned.counts.sum()
        tail = (1 - percentile / 100) / 2
        first, last = np.searchsorted(part, [tail, 1 - tail])
        inner = binned.centres[[first, min(int(last), len(part) - 1)]]
        return min(float(inner[0]), 0.0), max(float(inner[1]), 0.0)
    if method == "mse":
        shares = np.linspace(1.0, 0.01, 100)
        rmse = [
            clip_effect(binned, low * s, high * s, bits=bits, symmetric=symmetric)["rmse"]
            for s in shares
        ]
        best = float(shares[int(np.argmin(rmse))])
        return low * best, high * best
    raise SpecError(f"method is {method!r}; choose one of {', '.join(METHODS)}.")
