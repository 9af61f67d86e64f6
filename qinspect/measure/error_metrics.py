"""Error metrics, the reference first, from sums that can be added up over batches."""

from __future__ import annotations

import math

import numpy as np

from qinspect.affine import Affine, decibels
from qinspect.errors import SpecError
from qinspect.measure.streaming import Histogram
from qinspect.schema import Array

_BLOCK = 1 << 18
# One sixteenth of a step; errors within 8 steps are told apart that finely.
_ERROR_BINS, _ERROR_FINEST = 256, -4


class ErrorSums:
    """Everything the metrics need, summed over batches: never a mean of batch means."""

    # Without an affine (of one scale) nothing can be called clipped, and there is no scale to
    # divide by.  Histograms: errors of clipped and of rounded elements apart, in steps of the grid,
    # or in real units without one.  Sums within a block are taken in the dtype of the arrays
    # (float32 blocks are right to about 1e-6), across blocks in float64, so results do not depend
    # on the batching beyond that.  A NaN in either array makes the sums NaN; `nan` counts such
    # elements.
    def __init__(self, affine: Affine | None = None, *, histograms: bool = False) -> None:
        # Step, least and greatest real number of the grid on which the quantized tensor lives.
        self.grid = grid = None if affine is None else affine.grid
        if grid is not None and not (0 < grid[0] < math.inf):
            raise SpecError(f"the scale of a grid is {grid[0]:g}; it must be above 0.")
        self.count = self.nan = self.exact = self.clipped = 0
        self.error = self.error2 = self.reference2 = self.quantized2 = 0.0
        self.clipped2 = 0.0
        self.max_abs = 0.0
        self.code_low, self.code_high = math.inf, -math.inf
        finest = _ERROR_FINEST if grid is not None else -60
        self.rounded_histogram = Histogram(_ERROR_BINS, finest) if histograms else None
        self.clipped_histogram = Histogram(_ERROR_BINS, finest) if histograms else None

    def add(self, reference: Array, quantized: Array) -> None:
        """Take in one batch: true values, and dequantized ones of the same shape."""
        if reference.shape != quantized.shape:
            raise SpecError(
                f"the reference has shape {reference.shape}, the quantized array "
                f"{quantized.shape}; they must be the same."
            )
        ref, quant = reference.reshape(-1), quantized.reshape(-1)
        # Values that are not finite are counted; NumPy's warning would say nothing more.
        with np.errstate(invalid="ignore", over="ignore"):
            for start in range(0, ref.size, _BLOCK):
                self._add_block(ref[start : start + _BLOCK], quant[start : start + _BLOCK])

    def _add_block(self, ref: Array, quant: Array) -> None:
        error = quant - ref
        error2 = float(np.dot(error, error))
        if not math.isfinite(error2):
            # Either a value that is not finite, or squares too large for float32.
            ref, quant = ref.astype(np.float64), quant.astype(np.float64)
            error = quant - ref
            error2 = float(np.dot(error, error))
            self.nan += int(np.count_nonzero(np.isnan(error)))
        self.count += ref.size
        self.error2 += error2
        self.error += float(error.sum())
        self.reference2 += float(np.dot(ref, ref))
        self.quantized2 += float(np.dot(quant, quant))
        low, high = float(error.min()), float(error.max())
        # np.max hands NaN on, which the built-in max does not.
        self.max_abs = float(np.max([self.max_abs, high, -low]))
        self.exact += int(np.count_nonzero(error == 0))
        outside = None
        if self.grid is not None:
            self.code_low = min(self.code_low, float(quant.min()))
            self.code_high = max(self.code_high, float(quant.max()))
            outside = self._outside(ref)
        part = error[:0] if outside is None else error[outside]
        self.clipped += part.size
        self.clipped2 += float(np.dot(part, part))
        if self.rounded_histogram is None or self.clipped_histogram is None:
            return
        factor = 1.0 if self.grid is None else 1 / self.grid[0]
        extent = low, high
        if outside is not None:
            self.clipped_histogram.add(part, factor=factor)
            error[outside] = 0
            extent = error.min(), error.max()
        self.rounded_histogram.add(error, factor=factor, extent=extent)
        # Zero widens no bins and is at the start of the middle one, where it is taken out again:
        # that costs less than an array without the clipped elements.
        self.rounded_histogram.counts[_ERROR_BINS // 2] -= part.size

    def _outside(self, ref: Array) -> Array | None:
        """Where elements are more than half a step outside the grid, or None if nowhere."""
        assert self.grid is not None
        step, low, high = self.grid
        low, high = low - step / 2, high + step / 2
        # NaN makes both comparisons false; NaN elements are counted as such, not as clipped.
        if ref.min() >= low and ref.max() <= high:
            return None
        outside = np.flatnonzero((ref < low) | (ref > high))
        return outside if outside.size else None

    def metrics(self) -> dict[str, float]:
        """The metrics by name; NaN where they rest on NaN or lack a grid."""
        # sqnr_db: 10 log10(sum reference^2 / sum error^2); inf without error.  bias: mean error.
        # rmse_over_scale: 0.289 is ideal rounding.  clipped_share: elements whose reference is more
        # than half a step outside the grid; rounded_share: other elements that changed.
        # clipped_energy: share of the squared error that clipped elements carry.  effective_bits:
        # log2 of the number of grid points from the least to the greatest that occurred.
        nan = float("nan")
        n = self.count
        with np.errstate(divide="ignore", invalid="ignore"):
            mse = np.float64(self.error2) / n if n else np.float64(nan)
            norm = np.sqrt(np.float64(self.reference2) * self.quantized2)
            product = (self.reference2 + self.quantized2 - self.error2) / 2
            rounded = n - self.exact - self.clipped - self.nan
            if self.grid is None:
                over, clipped, bits, energy = nan, nan, nan, nan
            else:
                over = float(np.sqrt(mse)) / self.grid[0]
                clipped = self.clipped / n if n else nan
                used = (self.code_high - self.code_low) / self.grid[0]
                bits = math.log2(round(used) + 1) if math.isfinite(used) and used >= 0 else nan
                energy = self.clipped2 / self.error2 if self.error2 else nan
            return {
                "count": n,
                "nan": self.nan,
                "sqnr_db": decibels(self.reference2, self.error2) if n else nan,
                "mse": float(mse),
                "rmse_over_scale": over,
                "cosine": float(product / norm) if norm else nan,
                "bias": self.error / n if n else nan,
                "max_abs": self.max_abs if n else nan,
                "clipped_share": clipped,
                "rounded_share": rounded / n if n else nan,
                "effective_bits": bits,
                "clipped_energy": energy,
            }


# Of the frames of errors: one row a layer x reference kind (local or accumulated).
ERRORS = ("layer", "op", "reference", *ErrorSums().metrics())


def error_metrics(
    reference: Array, quantized: Array, affine: Affine | None = None
) -> dict[str, float]:
    """Metrics of one pair of arrays of one shape, see :meth:`ErrorSums.metrics`."""
    sums = ErrorSums(affine)
    sums.add(_floating(reference), _floating(quantized))
    return sums.metrics()


def _floating(values: Array) -> Array:
    values = np.asarray(values)
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)


def output_sqnr(reference: Array, other: Array) -> float | None:
    """SQNR of outputs in dB; None where shapes differ or the outputs are equal (no error)."""
    if reference.size != other.size:
        return None
    value = error_metrics(reference.reshape(-1), other.reshape(-1))["sqnr_db"]
    return value if np.isfinite(value) else None
