"""Affine quantization of arrays: real = scale * (stored - zero_point)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from qinspect.errors import DataError, SpecError
from qinspect.schema import Array

Rounding = Literal["half_even", "half_away"]
# The default and the optimised kernels of LiteRT round half to even, its reference kernels half
# away from zero (a test runs both).  The first two multiply with the float32 reciprocal of the
# scale, so that a value within float32 rounding of a tie can end a step away from `quantize`.
ROUNDINGS: tuple[str, ...] = ("half_even", "half_away")

# Least and greatest stored integer of the types in which activations and weights are kept.
LIMITS = {"int4": (-8, 7), "int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}


@dataclass(frozen=True)
class Affine:
    """Parameters of one quantization: float64 scales and int64 zero points, (1,) or (channels,)."""

    scale: Array
    zero_point: Array
    low: int = -128
    high: int = 127
    axis: int | None = None

    @property
    def real_low(self) -> Array:
        """Least real number that can be stored, shape of ``scale``."""
        return self.scale * (self.low - self.zero_point)

    @property
    def real_high(self) -> Array:
        """Greatest real number that can be stored, shape of ``scale``."""
        return self.scale * (self.high - self.zero_point)

    @property
    def grid(self) -> tuple[float, float, float]:
        """Step, least and greatest real number where there is one scale."""
        return float(self.scale[0]), float(self.real_low[0]), float(self.real_high[0])

    def channel(self, at: int) -> Affine:
        """Parameters of one channel; the only ones where all channels share them."""
        at = at if self.scale.size > 1 else 0
        return Affine(self.scale[[at]], self.zero_point[[at]], self.low, self.high)


def _integer_range(bits: int, narrow: bool = False) -> tuple[int, int]:
    """Least and greatest signed integer of ``bits`` bits; ``narrow`` drops the least one."""
    if not 2 <= bits <= 16:
        raise SpecError(f"bits is {bits}; choose a number from 2 to 16.")
    return -(2 ** (bits - 1)) + int(narrow), 2 ** (bits - 1) - 1


def affine_parameters(
    minimum: ArrayLike,
    maximum: ArrayLike,
    bits: int = 8,
    *,
    symmetric: bool = False,
    narrow: bool = False,
    axis: int | None = None,
) -> Affine:
    """Scale and zero point for a finite range of real numbers, or for one a channel of ``axis``.

    References
    ----------
    Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", sections 2.1 and 3; TensorFlow Lite 8-bit quantization
    specification for the symmetric, narrow weights.
    """
    low, high = _integer_range(bits, narrow)
    least = np.atleast_1d(np.asarray(minimum, dtype=np.float64))
    most = np.atleast_1d(np.asarray(maximum, dtype=np.float64))
    if not (np.isfinite(least).all() and np.isfinite(most).all()):
        raise SpecError("a range has a bound that is NaN or infinite; ranges must be finite.")
    if (least > most).any():
        at = int(np.argmax(least > most))
        raise SpecError(f"a range has minimum {least[at]:g} above its maximum {most[at]:g}.")
    if least.size > 1 and axis is None:
        raise SpecError(f"{least.size} ranges were given without an axis; name the channel axis.")
    # Zero must be exactly representable, for padding and ReLU: the range is widened to hold it, and
    # the zero point is rounded to an integer ("nudged").  Nothing but zeros gets scale 1.
    least, most = np.minimum(least, 0.0), np.maximum(most, 0.0)
    span = np.maximum(-least, most) if symmetric else most - least
    scale = span / (high if symmetric else high - low)
    # A file stores float32; a range too small for it is the same as an empty range.
    scale = scale.astype(np.float32).astype(np.float64)
    scale[scale < np.finfo(np.float32).tiny] = 1.0
    if symmetric:
        zero_point = np.zeros(scale.shape, dtype=np.int64)
    else:
        zero_point = np.clip(np.rint(low - least / scale), low, high).astype(np.int64)
        zero_point[span == 0] = 0
    return Affine(scale, zero_point, low, high, axis)


def along(values: Array, axis: int | None, ndim: int) -> Array:
    """Values of each channel, shaped to broadcast along ``axis``; a single one, of shape ()."""
    if values.size == 1:
        return values.reshape(())
    if axis is None or not -ndim <= axis < ndim:
        raise SpecError(
            f"there are {values.size} scales for axis {axis} of an array of {ndim} dimensions."
        )
    shape = [1] * ndim
    shape[axis] = values.size
    return values.reshape(shape)


def _steps(x: Array, affine: Affine, rounding: Rounding = "half_even") -> Array:
    """Stored integers as floating point, NaN kept."""
    if rounding not in ROUNDINGS:
        raise SpecError(f"rounding is {rounding!r}; choose one of {', '.join(ROUNDINGS)}.")
    # The kernels divide in float32; a float64 quotient would round some ties the other way.
    real = x if x.dtype in (np.float32, np.float64) else x.astype(np.float64)
    scaled = real / along(affine.scale, affine.axis, x.ndim).astype(real.dtype)
    if rounding == "half_even":
        scaled = np.rint(scaled)
    else:
        whole = np.trunc(scaled)
        scaled = whole + np.trunc(2 * (scaled - whole))
    zero_point = along(affine.zero_point, affine.axis, x.ndim)
    return np.clip(scaled + zero_point, affine.low, affine.high)


def quantize(x: Array, affine: Affine, *, rounding: Rounding = "half_even") -> Array:
    """Stored integers ``clip(round(x / scale) + zero_point, low, high)``; NaN is refused."""
    x = np.asarray(x)
    missing = int(np.count_nonzero(np.isnan(x)))
    if missing:
        raise DataError(f"{missing} of {x.size} values are NaN, which no integer can stand for.")
    fits = (name for name in ("int8", "uint8", "int16")
            if LIMITS[name][0] <= affine.low and affine.high <= LIMITS[name][1])
    return _steps(x, affine, rounding).astype(next(fits))


def dequantize(q: Array, affine: Affine, dtype: DTypeLike = np.float32) -> Array:
    """Real numbers of stored integers, ``scale * (q - zero_point)``, shape of ``q``."""
    q = np.asarray(q)
    scale = along(affine.scale, affine.axis, q.ndim)
    # Of 8 and 16 bits the float64 product is exact, so float32 is rounded once, as the default and
    # the reference kernels do; the optimised ones subtract two rounded products.
    real = (q.astype(np.float64) - along(affine.zero_point, affine.axis, q.ndim)) * scale
    return real.astype(dtype)


def fake_quantize(x: Array, affine: Affine) -> Array:
    """Real numbers after :func:`quantize` and back, in the floating dtype of ``x``; NaN stays."""
    x = np.asarray(x)
    stored = _steps(x, affine)
    scale = along(affine.scale, affine.axis, x.ndim).astype(stored.dtype)
    return (stored - along(affine.zero_point, affine.axis, x.ndim)) * scale


def decibels(signal: float, noise: float) -> float:
    """Signal to noise ratio of two sums of squares; infinite without noise, NaN of NaN."""
    if math.isnan(signal) or math.isnan(noise):
        return math.nan
    if noise == 0:
        return math.inf
    if signal == 0:
        return -math.inf
    return 10 * (math.log10(signal) - math.log10(noise))
