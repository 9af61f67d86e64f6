"""Metrics of real outputs: regressions, embeddings and reconstructions."""

from __future__ import annotations

from typing import Any

import numpy as np

from qinspect.errors import DataError
from qinspect.schema import Array


def absolute_error(y: Array, output: Any) -> Array:
    """Mean absolute error of each example's numbers."""
    wanted, found = _paired(y, output)
    return np.asarray(np.abs(found - wanted).mean(axis=1))


def squared_error(y: Array, output: Any) -> Array:
    """Mean squared error of each example's numbers."""
    wanted, found = _paired(y, output)
    return np.asarray(((found - wanted) ** 2).mean(axis=1))


def relative_error(y: Array, output: Any) -> Array:
    """Mean of absolute error over target, a share."""
    wanted, found = _paired(y, output)
    zero = int(np.count_nonzero((wanted == 0).any(axis=1)))
    if zero:
        raise DataError(f"{zero} of {len(wanted)} examples have a target of 0, for which a "
                        "relative error is not defined; use mae, or leave them out.")
    return np.asarray(np.abs((found - wanted) / wanted).mean(axis=1))


def r2(y: Array, output: Any, weights: Array | None = None) -> Any:
    """Coefficient of determination: 1 minus squared error over variance, the mean over outputs."""
    wanted, found = _paired(y, output)
    counts = np.ones((1, len(wanted))) if weights is None else np.asarray(weights, dtype=float)
    counts = counts / counts.sum(axis=1, keepdims=True)
    centred = wanted - wanted.mean(axis=0)
    spread = counts @ centred**2 - (counts @ centred) ** 2
    missed = counts @ (found - wanted) ** 2
    if weights is None and not (spread > 0).all():
        raise DataError("the targets do not vary, so R2 is not defined; use mae.")
    each = 1 - np.divide(missed, spread, out=np.full_like(missed, np.nan), where=spread > 0)
    mean = each.mean(axis=1)
    return float(mean[0]) if weights is None else mean


def cosine(y: Array, output: Any) -> Array:
    """Cosine of the angle between each output and its target."""
    wanted, found = _paired(y, output)
    if wanted.shape[1] == 1:
        raise DataError("the cosine of one number an example is only its sign; take mae.")
    length = np.linalg.norm(wanted, axis=1) * np.linalg.norm(found, axis=1)
    zero = int(np.count_nonzero(length == 0))
    if zero:
        raise DataError(f"{zero} of {len(wanted)} examples have an output or a target of length 0, "
                        "whose angle is not defined; leave them out or take mse.")
    return np.asarray((wanted * found).sum(axis=1) / length)


def reconstruction(x: Array, output: Array) -> Array:
    """Mean squared error of each example's reconstruction."""
    return squared_error(x, output)


def own_error(y: Array | None, output: Any) -> Array:
    """Mean squared difference of each example's output from the input."""
    return np.asarray(output, dtype=float).reshape(-1)


def without_nan(output: Any) -> Array:
    """Outputs as they are, refused where an example holds NaN, of which no answer can be made."""
    found = np.asarray(output)
    if found.dtype.kind == "f" and np.isnan(found).any():
        bad = int(np.isnan(found).reshape(len(found), -1).any(axis=1).sum())
        raise DataError(f"outputs are NaN for {bad} of {len(found)} examples; mend the file or "
                        "leave these examples out.")
    return found


def _paired(y: Array, output: Any) -> tuple[Array, Array]:
    """Targets and outputs as float64 (n, numbers), alike but for axes of length one."""
    wanted, found = np.asarray(y, dtype=np.float64), np.asarray(output, dtype=np.float64)

    def core(values: Array) -> list[int]:
        return [size for size in values.shape[1:] if size != 1]

    if len(wanted) != len(found) or core(wanted) != core(found):
        raise DataError(f"outputs have shape {found.shape}, targets {wanted.shape}; one needs as "
                        "many numbers as the other.")
    return wanted.reshape(len(wanted), -1), found.reshape(len(found), -1)
