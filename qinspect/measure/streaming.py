"""Statistics of values that arrive in batches, independent of how they are batched."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from qinspect.errors import DataError, SpecError
from qinspect.schema import Array

# Values are counted in blocks that stay in the processor's cache.
_BLOCK_VALUES = 1 << 18
_SMALL = 1 << 13
_BLOCK = 1 << 16
_FINEST = -60


class Histogram:
    """Counts of values on the grid ``[k w, (k + 1) w)``, k = -bins/2 .. bins/2 - 1; int64."""

    # The width w = 2**exponent is the least power of two for which every finite value seen so far
    # fits; where a new value does not fit, neighbouring bins are added in pairs and the width
    # doubles.  Halving a bin index downwards is exactly the index at twice the width, so the state
    # is a function of the values alone: their order, their batches and the order of merging do not
    # matter, and no count is ever lost.  (Subnormal numbers may count as zero.)  Values are told
    # apart no more finely than 2**finest; NaN and infinities are counted, and in no bin.
    def __init__(self, bins: int = 2048, finest: int = _FINEST) -> None:
        # A power of two makes every division by the number of bins exact.
        if bins < 2 or bins & (bins - 1):
            raise SpecError(f"bins is {bins}; choose a power of two, at least 2.")
        self.bins = bins
        self.finest = finest
        self.exponent = finest
        self.counts = np.zeros(bins, dtype=np.int64)
        self.nan = 0
        self.inf = 0

    @property
    def width(self) -> float:
        """Width of one bin, in the units of the values."""
        return math.ldexp(1.0, self.exponent)

    @property
    def edges(self) -> Array:
        """Edges of the bins, float64, shape (bins + 1,)."""
        return np.arange(-self.bins // 2, self.bins // 2 + 1) * self.width

    @property
    def count(self) -> int:
        """Number of finite values."""
        return int(self.counts.sum())

    def add(
        self, values: Array, *, factor: float = 1.0, extent: tuple[float, float] | None = None
    ) -> None:
        """Count values of any shape after multiplication with ``factor``; ``extent`` if known."""
        flat = np.asarray(values).reshape(-1)
        if flat.dtype not in (np.float32, np.float64):
            flat = flat.astype(np.float64)
        for start in range(0, flat.size, _BLOCK_VALUES):
            block = flat[start : start + _BLOCK_VALUES]
            low, high = extent if extent is not None else (block.min(), block.max())
            self._add_block(block, flat.dtype.type(factor), low, high)

    def _add_block(self, block: Array, factor: np.floating, low: float, high: float) -> None:
        least, most = float(low * factor), float(high * factor)
        if not (math.isfinite(least) and math.isfinite(most)):
            # Values that are no numbers are counted, not warned of.
            with np.errstate(invalid="ignore", over="ignore"):
                block = block * factor
            nan = int(np.count_nonzero(np.isnan(block)))
            finite = block[np.isfinite(block)]
            self.nan += nan
            self.inf += block.size - nan - finite.size
            if finite.size:
                one = finite.dtype.type(1)
                self._add_block(finite, one, finite.min(), finite.max())
            return
        self._widen(max(_exponent_for(least, self.bins), _exponent_for(most, self.bins)))
        # A product with a power of two is exact unless it underflows, so folding the width into
        # the factor changes nothing and floor gives the true bin; float32 cannot hold that
        # power when bins are very narrow or very wide.
        if block.dtype == np.float32 and not -100 < self.exponent < 100:
            block, factor = (block * factor).astype(np.float64), np.float64(1)
        index = block * (factor * block.dtype.type(math.ldexp(1.0, -self.exponent)))
        np.floor(index, out=index)
        self.counts += _count_indices(index, self.bins)

    def _widen(self, exponent: int) -> None:
        """Double the bin width until it is ``2**exponent``, if it is less."""
        steps = exponent - self.exponent
        if steps <= 0:
            return
        used = np.flatnonzero(self.counts)
        merged = np.zeros_like(self.counts)
        np.add.at(merged, ((used - self.bins // 2) >> min(steps, 62)) + self.bins // 2,
                  self.counts[used])
        self.counts, self.exponent = merged, exponent

    def merge(self, other: Histogram) -> Histogram:
        """A new histogram of the values of both."""
        if (self.bins, self.finest) != (other.bins, other.finest):
            raise SpecError(
                f"histograms of {self.bins} and {other.bins} bins (finest widths 2^{self.finest} "
                f"and 2^{other.finest}) cannot be merged; make both the same way."
            )
        result = Histogram(self.bins, self.finest)
        for part in (self, other):
            widened = Histogram(self.bins, self.finest)
            widened.counts, widened.exponent = part.counts.copy(), part.exponent
            widened._widen(max(self.exponent, other.exponent))
            result.counts += widened.counts
            result.exponent = widened.exponent
            result.nan += part.nan
            result.inf += part.inf
        return result

    def percentile(self, q: float) -> float:
        """Middle of the bin below which ``q`` per cent of the finite values lie."""
        # The inverted cumulative distribution (numpy.percentile, method "inverted_cdf"), wrong by
        # at most half of the bin's width.
        if not 0 <= q <= 100:
            raise SpecError(f"percentile is {q:g}; choose a number from 0 to 100.")
        total = self.count
        if total == 0:
            raise DataError("the histogram holds no finite value, so it has no percentile.")
        # NumPy's own rank rule, rounding included, so that ties of rank go the same way.
        rank = max(math.ceil(total * (q / 100)), 1)
        at = int(np.searchsorted(np.cumsum(self.counts), rank))
        return (at - self.bins // 2 + 0.5) * self.width


def _exponent_for(value: float, bins: int) -> int:
    """Least exponent whose grid of ``bins`` bins holds ``value``."""
    half = bins // 2
    if value == 0:
        return -2000
    # value / half = m * 2**e with 0.5 <= |m| < 1, so 2**e always suffices; 2**(e-1) does so
    # only for the exact lower end, which belongs to the first bin.
    mantissa, exponent = math.frexp(value / half)
    return exponent - 1 if mantissa == -0.5 else exponent


def _count_indices(index: Array, bins: int) -> Array:
    """Counts of whole numbers in -bins/2 .. bins/2 - 1 held in a floating array."""
    if bins != 256 or index.size < _SMALL:
        return np.bincount(index.astype(np.int64) + bins // 2, minlength=bins)
    # 256 bins fit a byte, and Pillow counts bytes twice as fast as numpy.bincount does; turning
    # the sign bit over takes -128..127 to 0..255.
    codes = index.astype(np.int8).view(np.uint8) ^ np.uint8(128)
    image = Image.frombuffer("L", (codes.size, 1), codes, "raw", "L", 0, 1)
    return np.array(image.histogram(), dtype=np.int64)


class StreamingStatistics:
    """Count, extremes, mean, standard deviation, histogram of a tensor or of each channel.

    References
    ----------
    Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample
    variances".
    """

    # NaN and infinities are counted and left out of the other statistics.  Results agree for any
    # batching to float64 rounding; counts, extremes and histogram agree exactly.  Memory depends on
    # the number of channels and bins only; per channel there is no histogram.
    def __init__(self, channels: int | None = None) -> None:
        size = 1 if channels is None else channels
        self.channels = channels
        self.count = np.zeros(size, dtype=np.int64)
        self.nan = np.zeros(size, dtype=np.int64)
        self.inf = np.zeros(size, dtype=np.int64)
        self._least = np.full(size, np.inf)
        self._most = np.full(size, -np.inf)
        self._mean = np.zeros(size)
        self._squares = np.zeros(size)
        self.histogram = Histogram() if channels is None else None

    def add(self, values: Array) -> None:
        """Take in one batch of any shape (last axis: channels, where they are kept)."""
        values = np.asarray(values)
        if self.channels is not None and (values.ndim == 0 or values.shape[-1] != self.channels):
            raise SpecError(
                f"a batch of shape {values.shape} does not end in {self.channels} channels."
            )
        rows = values.reshape(-1, self.count.size)
        step = max(_BLOCK // self.count.size, 1)
        for start in range(0, len(rows), step):
            with np.errstate(invalid="ignore"):
                self._add_rows(rows[start : start + step].astype(np.float64))
        if self.histogram is not None:
            self.histogram.add(values)

    def _add_rows(self, rows: Array) -> None:
        least, most = rows.min(axis=0), rows.max(axis=0)
        count = np.full(self.count.size, len(rows), dtype=np.int64)
        if not (np.isfinite(least).all() and np.isfinite(most).all()):
            finite = np.isfinite(rows)
            count = np.count_nonzero(finite, axis=0)
            nan = np.count_nonzero(np.isnan(rows), axis=0)
            self.nan += nan
            self.inf += len(rows) - nan - count
            least = np.where(finite, rows, np.inf).min(axis=0)
            most = np.where(finite, rows, -np.inf).max(axis=0)
            rows = np.where(finite, rows, _middle(count, least, most))
        centre = _middle(count, least, most)
        # Taking a value of the batch's own size away first keeps the sum of squares accurate
        # for data far from zero.
        shifted = rows - centre
        total = shifted.sum(axis=0)
        squares = np.einsum("ij,ij->j", shifted, shifted)
        safe = np.maximum(count, 1)
        self._merge_moments(
            count, centre + total / safe, np.maximum(squares - total * total / safe, 0.0)
        )
        self._least = np.minimum(self._least, least)
        self._most = np.maximum(self._most, most)

    def _merge_moments(self, count: Array, mean: Array, squares: Array) -> None:
        total = self.count + count
        safe = np.maximum(total, 1)
        delta = mean - self._mean
        self._squares += np.where(count > 0, squares + delta**2 * self.count * count / safe, 0.0)
        self._mean += np.where(count > 0, delta * count / safe, 0.0)
        self.count = total

    @property
    def minimum(self) -> Array:
        """Least finite value, NaN where there is none."""
        return np.where(self.count > 0, self._least, np.nan)

    @property
    def maximum(self) -> Array:
        """Greatest finite value, NaN where there is none."""
        return np.where(self.count > 0, self._most, np.nan)

    @property
    def mean(self) -> Array:
        """Mean of the finite values, NaN where there is none."""
        return np.where(self.count > 0, self._mean, np.nan)

    @property
    def std(self) -> Array:
        """Standard deviation of the finite values (divided by n), NaN where there is none."""
        return np.where(self.count > 0, np.sqrt(self._squares / np.maximum(self.count, 1)), np.nan)

    def percentile(self, q: float) -> float:
        """As :meth:`Histogram.percentile`; NaN where no finite value was seen."""
        if self.histogram is None:
            raise SpecError("statistics per channel keep no histogram, hence no percentiles.")
        return self.histogram.percentile(q) if self.histogram.count else float("nan")


def _middle(count: Array, least: Array, most: Array) -> Array:
    """Middle of the finite values of each channel, 0 where there is none."""
    return np.where(count > 0, least, 0.0) / 2 + np.where(count > 0, most, 0.0) / 2
