"""Task metrics: what a model's outputs are worth, an example at a time or over a set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from qinspect.errors import DataError, unknown_name
from qinspect.schema import Array


@dataclass(frozen=True)
class Metric:
    """How outputs are scored against labels.

    Attributes
    ----------
    id, title : str
    unit : str
        Of differences: ``scale`` times a difference of values is in this unit.
    direction : {"higher", "lower"}
        Which is better.
    kind : {"example", "set"}
        One score an example, whose mean is the value, or a statistic of a set of examples.
    score : callable
        ``score(y, output)``: of the kind ``example``, an array (n,) of floats or booleans; of the
        kind ``set``, one float.
    scale : float

    Examples
    --------
    >>> ACCURACY.score(np.array([0, 1]), np.array([[0.8, 0.2], [0.6, 0.4]]))
    array([ True, False])
    """

    id: str
    title: str
    unit: str
    direction: Literal["higher", "lower"]
    kind: Literal["example", "set"]
    score: Callable[[Array, Any], Any]
    scale: float = 1.0


def metric(name: str) -> Metric:
    """The metric of that name."""
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    return METRICS[name]


def _right(y: Array, output: Any) -> Array:
    """Which examples are classified right, from labels (n,) or scores (n, classes)."""
    found = np.asarray(output)
    if found.ndim == 2:
        # Ties go to the lowest index, as on hardware.
        found = found.argmax(axis=1)
    if found.shape != y.shape:
        raise DataError(f"outputs have shape {np.shape(output)}; {len(y)} labels need one class "
                        "or one row of class scores an example.")
    return np.asarray(found == y)


ACCURACY = Metric("accuracy", "accuracy", "points", "higher", "example", _right, scale=100.0)
METRICS: dict[str, Metric] = {one.id: one for one in (ACCURACY,)}
