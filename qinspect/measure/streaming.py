"""Statistics of values that arrive in batches, independent of how they are batched."""

from __future__ import annotations

import numpy as np

from qinspect.errors import SpecError
from qinspect.measure.histogram import Histogram
from qinspect.schema import Array

_BLOCK = 1 << 16


class StreamingStatistics:
    """Count, extremes, mean, standard deviation and histogram of a stream of values.

    Per tensor, or per channel of the last axis.  NaN and infinities are counted and left out of
    the other statistics; where any occurred, ``nan`` and ``inf`` say so beside every number.
    Sums are float64.  Memory depends on the number of channels and bins only.

    Parameters
    ----------
    channels : int, optional
        Keep one set of statistics a channel; every batch then has this many entries along its
        last axis.  There is no histogram then.
    bins : int
        Bins of the histogram, a power of two.

    Attributes
    ----------
    count : ndarray of int64, shape (channels,) or (1,)
        Finite values.
    nan, inf : ndarray of int64, same shape
    histogram : Histogram or None

    Notes
    -----
    Batches are merged by the update of Chan, Golub and LeVeque 1979 ("Updating formulae and a
    pairwise algorithm for computing sample variances"), so results agree for any batching to
    float64 rounding; counts, extremes and histogram agree exactly.
    """

    def __init__(self, channels: int | None = None, bins: int = 2048) -> None:
        size = 1 if channels is None else channels
        self.channels = channels
        self.count = np.zeros(size, dtype=np.int64)
        self.nan = np.zeros(size, dtype=np.int64)
        self.inf = np.zeros(size, dtype=np.int64)
        self._least = np.full(size, np.inf)
        self._most = np.full(size, -np.inf)
        self._mean = np.zeros(size)
        self._squares = np.zeros(size)
        self.histogram = Histogram(bins) if channels is None else None

    def add(self, values: Array) -> None:
        """Take in one batch of any shape (last axis: channels, where they are kept).

        Raises
        ------
        SpecError
            If the last axis does not have as many entries as there are channels.
        """
        values = np.asarray(values)
        if self.channels is not None and (values.ndim == 0 or values.shape[-1] != self.channels):
            raise SpecError(
                f"a batch of shape {values.shape} does not end in {self.channels} channels."
            )
        rows = values.reshape(-1, self.count.size)
        step = max(_BLOCK // self.count.size, 1)
        for start in range(0, len(rows), step):
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

    def merge(self, other: StreamingStatistics) -> StreamingStatistics:
        """New statistics of the values of both.

        Raises
        ------
        SpecError
            If the two do not keep the same channels or bins.
        """
        if self.channels != other.channels:
            raise SpecError(
                f"statistics of {self.channels} and {other.channels} channels cannot be merged."
            )
        result = StreamingStatistics(self.channels)
        if self.histogram is not None and other.histogram is not None:
            result.histogram = self.histogram.merge(other.histogram)
        for part in (self, other):
            result._merge_moments(part.count, part._mean, part._squares)
            result._least = np.minimum(result._least, part._least)
            result._most = np.maximum(result._most, part._most)
            result.nan = result.nan + part.nan
            result.inf = result.inf + part.inf
        return result

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
        """Percentile of all finite values, to half a bin width: :meth:`Histogram.percentile`.

        NaN where no finite value was seen.

        Raises
        ------
        SpecError
            If statistics are per channel, which have no histogram, or ``q`` is not in 0..100.
        """
        if self.histogram is None:
            raise SpecError("statistics per channel keep no histogram, hence no percentiles.")
        return self.histogram.percentile(q) if self.histogram.count else float("nan")


def _middle(count: Array, least: Array, most: Array) -> Array:
    """Middle of the finite values of each channel, 0 where there is none."""
    return np.where(count > 0, least, 0.0) / 2 + np.where(count > 0, most, 0.0) / 2
