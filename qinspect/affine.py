"""Affine quantization of arrays: real = scale * (stored - zero_point)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from qinspect.errors import DataError, SpecError
from qinspect.schema import Array

Rounding = Literal["half_even", "half_away"]
ROUNDINGS: tuple[str, ...] = ("half_even", "half_away")


@dataclass(frozen=True)
class Affine:
    """Parameters of one affine quantization, per tensor or per channel.

    Attributes
    ----------
    scale : ndarray of float64, shape (1,) or (channels,)
        Real width of one step; the values are exactly representable in float32, as in a file.
    zero_point : ndarray of int64, same shape
        Stored integer that stands for the real number 0.
    low, high : int
        Least and greatest stored integer.
    axis : int or None
        Channel axis when there is one scale per channel.
    """

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


def integer_range(bits: int, narrow: bool = False) -> tuple[int, int]:
    """Least and greatest signed integer of ``bits`` bits; ``narrow`` drops the least one.

    Raises
    ------
    SpecError
        If ``bits`` is not in 2..16.
    """
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
    """Scale and zero point for a range of real numbers.

    The range is first widened to hold zero, which is then exactly representable, as padding
    and ReLU need; the zero point is rounded to an integer ("nudged").  A range of zero width at
    zero gets scale 1 and zero point 0.

    Parameters
    ----------
    minimum, maximum : float or array-like, shape (channels,)
        Ends of the range in real units, finite, minimum <= maximum.
    bits : int
        Width of the stored integer, 2 to 16.
    symmetric : bool
        Zero point 0 and a range symmetric about zero (weights, int16 activations).
    narrow : bool
        Leave the least integer unused: -127..127 for 8-bit weights.
    axis : int, optional
        Channel axis that the parameters belong to; required where there are several.

    Returns
    -------
    Affine

    Raises
    ------
    SpecError
        If a bound is not finite, minimum > maximum, or there are several ranges and no axis.

    Notes
    -----
    Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", sections 2.1 and 3; TensorFlow Lite 8-bit quantization
    specification for the symmetric, narrow weights.
    """
    low, high = integer_range(bits, narrow)
    least = np.atleast_1d(np.asarray(minimum, dtype=np.float64))
    most = np.atleast_1d(np.asarray(maximum, dtype=np.float64))
    if not (np.isfinite(least).all() and np.isfinite(most).all()):
        raise SpecError("a range has a bound that is NaN or infinite; ranges must be finite.")
    if (least > most).any():
        at = int(np.argmax(least > most))
        raise SpecError(f"a range has minimum {least[at]:g} above its maximum {most[at]:g}.")
    if least.size > 1 and axis is None:
        raise SpecError(f"{least.size} ranges were given without an axis; name the channel axis.")
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


def _along(values: Array, axis: int | None, ndim: int) -> Array:
    """Per-channel parameters shaped so that they broadcast along ``axis``."""
    if values.size == 1:
        return values.reshape(())
    if axis is None or not -ndim <= axis < ndim:
        raise SpecError(
            f"there are {values.size} scales for axis {axis} of an array of {ndim} dimensions."
        )
    shape = [1] * ndim
    shape[axis] = values.size
    return values.reshape(shape)


def _steps(x: Array, affine: Affine, rounding: Rounding) -> Array:
    """Stored integers as floating point, NaN kept."""
    if rounding not in ROUNDINGS:
        raise SpecError(f"rounding is {rounding!r}; choose one of {', '.join(ROUNDINGS)}.")
    # The kernels divide in float32; a float64 quotient would round some ties the other way.
    real = x if x.dtype in (np.float32, np.float64) else x.astype(np.float64)
    scaled = real / _along(affine.scale, affine.axis, x.ndim).astype(real.dtype)
    if rounding == "half_even":
        scaled = np.rint(scaled)
    else:
        whole = np.trunc(scaled)
        scaled = whole + np.trunc(2 * (scaled - whole))
    zero_point = _along(affine.zero_point, affine.axis, x.ndim)
    return np.clip(scaled + zero_point, affine.low, affine.high)


def quantize(x: Array, affine: Affine, *, rounding: Rounding = "half_even") -> Array:
    """Stored integers of real numbers: ``clip(round(x / scale) + zero_point, low, high)``.

    Parameters
    ----------
    x : ndarray of float
        Real numbers; infinities saturate.
    affine : Affine
        Parameters, see :func:`affine_parameters`.
    rounding : {"half_even", "half_away"}
        What happens half-way between two integers.  The default and the optimised kernels of
        LiteRT round half to even, its reference kernels half away from zero (a test runs both).
        The default kernels multiply with the float32 reciprocal of the scale, so that a value
        within float32 rounding of a tie can still end one step away from what is given here.

    Returns
    -------
    ndarray of int8 or int16, same shape as ``x``

    Raises
    ------
    DataError
        If ``x`` holds NaN, for which there is no integer.
    """
    x = np.asarray(x)
    missing = int(np.count_nonzero(np.isnan(x)))
    if missing:
        raise DataError(f"{missing} of {x.size} values are NaN, which no integer can stand for.")
    dtype = np.int8 if affine.low >= -128 and affine.high <= 127 else np.int16
    return _steps(x, affine, rounding).astype(dtype)


def dequantize(q: Array, affine: Affine) -> Array:
    """Real numbers of stored integers, ``scale * (q - zero_point)``, float32, shape of ``q``."""
    q = np.asarray(q)
    scale = _along(affine.scale, affine.axis, q.ndim).astype(np.float32)
    zero_point = _along(affine.zero_point, affine.axis, q.ndim)
    return (q.astype(np.int64) - zero_point).astype(np.float32) * scale


def fake_quantize(x: Array, affine: Affine, *, rounding: Rounding = "half_even") -> Array:
    """Real numbers after quantizing and dequantizing, in the floating dtype of ``x``; NaN stays.

    Parameters and source as for :func:`quantize`.
    """
    x = np.asarray(x)
    stored = _steps(x, affine, rounding)
    scale = _along(affine.scale, affine.axis, x.ndim).astype(stored.dtype)
    return (stored - _along(affine.zero_point, affine.axis, x.ndim)) * scale
