"""Four ways to choose the range that is quantized, and the codebook that k-means would choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from qinspect.affine import affine_parameters, fake_quantize
from qinspect.errors import DataError, SpecError
from qinspect.schema import Array

RangeMethod = Literal["minmax", "percentile", "mse", "kmeans"]
RANGE_METHODS: tuple[str, ...] = ("minmax", "percentile", "mse", "kmeans")

_KMEANS_ROUNDS = 100
# Bits that a stored range may leave unused: calibration leaves 0 to 0.3 (measured), observers that
# have not learned their range 1 and more.
STALE_BITS = 0.7
# A range of less than this share of what flows cuts it off; chosen.
NARROW = 0.5
# Share of layers whose ranges must be so wide or narrow; chosen.
LAYER_SHARE = 0.3
# Standard deviations between the moving means of batch norm and those of the data, median of
# channels, beyond which they are not settled: measured, see causes/batchnorm_lag.py.
MEAN_SHIFT = 0.04


def bits_unused(low: Array, high: Array, stored_low: Array, stored_high: Array) -> Array:
    """Bits of stored ranges, float64, that values from ``low`` to ``high`` and 0 leave unused."""
    width = np.asarray(stored_high, np.float64) - stored_low
    used = np.maximum(np.maximum(high, 0) - np.minimum(low, 0), width / 256)
    return np.asarray(np.log2(width / used), dtype=np.float64)


def choose_range(
    x: Array,
    method: RangeMethod = "minmax",
    *,
    bits: int = 8,
    percentile: float = 99.9,
    symmetric: bool = False,
) -> tuple[float, float]:
    """Range of real numbers that a quantizer should cover, from finite values of any shape."""
    # minmax: all values.  percentile: the central `percentile` per cent.  mse: of 100 ranges shrunk
    # evenly from minmax, the one whose affine quantization has the least mean squared error.
    # kmeans: the range spanned by the outermost of 2**bits one-dimensional k-means centres.
    values = _finite(x)
    least, most = float(values.min()), float(values.max())
    if method == "minmax":
        return least, most
    if method == "percentile":
        if not 0 < percentile <= 100:
            raise SpecError(f"percentile is {percentile:g}; choose one above 0, at most 100.")
        tail = (100 - percentile) / 2
        low, high = np.percentile(values, [tail, 100 - tail])
        return float(low), float(high)
    if method == "mse":
        return _least_squares_range(values, least, most, bits, symmetric)
    if method == "kmeans":
        centres = kmeans_codebook(values, 2**bits).centres
        return float(centres[0]), float(centres[-1])
    raise SpecError(f"method is {method!r}; choose one of {', '.join(RANGE_METHODS)}.")


@dataclass(frozen=True)
class Codebook:
    """A non-uniform quantizer: ascending centres, and thresholds midway between neighbours."""

    centres: Array
    thresholds: Array

    def apply(self, x: Array) -> Array:
        """Each value replaced by its centre, float64; NaN stays NaN."""
        x = np.asarray(x, dtype=np.float64)
        nearest = self.centres[np.searchsorted(self.thresholds, x)]
        return np.where(np.isnan(x), np.nan, nearest)


def kmeans_codebook(x: Array, k: int) -> Codebook:
    """At most ``k`` centres that stand for ``x`` with least squared error, by Lloyd's iteration.

    References
    ----------
    Lloyd 1982, "Least squares quantization in PCM"; Max 1960.
    """
    # A table look-up where an affine quantizer needs one multiplication: no integer kernel runs it;
    # it shows how far the uniform grid is from a free choice of levels.  No chance in it: it starts
    # at k even steps from the least to the greatest value and never raises the error of its start.
    # Fewer centres where there are fewer distinct values, or where levels attract nothing.
    if k < 2:
        raise SpecError(f"k is {k}; a codebook needs at least 2 levels.")
    values = np.sort(_finite(x))
    distinct = np.unique(values)
    if len(distinct) <= k:
        centres = distinct
    else:
        centres = np.linspace(values[0], values[-1], k)
        total = np.concatenate([[0.0], np.cumsum(values)])
        for _ in range(_KMEANS_ROUNDS):
            cuts = np.searchsorted(values, (centres[1:] + centres[:-1]) / 2)
            edges = np.concatenate([[0], cuts, [len(values)]])
            counts = np.diff(edges)
            kept = counts > 0
            means = np.diff(total[edges])[kept] / counts[kept]
            if len(means) == len(centres) and np.allclose(means, centres, rtol=0, atol=1e-12):
                break
            centres = means
    return Codebook(centres, (centres[1:] + centres[:-1]) / 2)


def _finite(x: Array) -> Array:
    values = np.asarray(x, dtype=np.float64).ravel()
    if values.size == 0:
        raise DataError("there are no values to choose a range from.")
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise DataError(f"{bad} of {values.size} values are NaN or infinite; remove them first.")
    return values


def _least_squares_range(
    values: Array, least: float, most: float, bits: int, symmetric: bool
) -> tuple[float, float]:
    best, chosen = np.inf, (least, most)
    for share in np.linspace(1.0, 0.01, 100):
        affine = affine_parameters(
            min(least * share, 0.0), max(most * share, 0.0), bits, symmetric=symmetric
        )
        error = float(np.mean((fake_quantize(values, affine) - values) ** 2))
        if error < best:
            best, chosen = error, (least * share, most * share)
    return chosen


def range_use(ranges: pd.DataFrame) -> pd.DataFrame:
    """How well each stored range fits what occurs.

    Takes ``layer``, ``min``, ``max``, ``stored_min``, ``stored_max``; gives ``layer``,
    ``unused_share`` (of the stored range), ``bits_unused`` (base-2 logarithm of stored over used
    width) and ``clipped_share`` (of the observed range, not of the values).
    """
    low, high, start, end = (ranges[name].to_numpy(dtype=float)
                             for name in ("min", "max", "stored_min", "stored_max"))
    used = np.clip(np.minimum(high, end) - np.maximum(low, start), 0, None)
    with np.errstate(divide="ignore", invalid="ignore"):
        return pd.DataFrame({
            "layer": ranges["layer"].to_numpy(),
            "unused_share": 1 - used / (end - start),
            "bits_unused": np.log2((end - start) / used),
            "clipped_share": 1 - np.where(high > low, used / (high - low), 1.0),
        })
