"""What a metric is: how outputs are scored, in which unit, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from qinspect.errors import DataError
from qinspect.schema import Array


@dataclass(frozen=True)
class Metric:
    """How outputs are scored against labels or targets.

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
        ``score(y, output)``: of the kind ``example``, an array (n,) of floats, or of booleans where
        an example is right or wrong; of the kind ``set``, one float.  One of the kind ``set`` may
        take a third argument ``weights`` (r, n), how often each example counts in r resamples, and
        then returns r floats; see ``weighted``.
    scale : float
        100 for shares in 0..1, whose differences are in points.
    margin : float or None
        Difference that would matter, in ``unit``; None: a twentieth of the first model's value.
    classes : bool
        Whether outputs are one score a class, of which the greatest is the answer.
    reduce : callable or None
        ``reduce(x, output)``: what is kept of a file's output (n, ...) where the metric needs the
        inputs too, such as the error of a reconstruction.
    needs_y : bool
        Whether there is anything to score against; a reconstruction is its own measure.
    all_outputs : bool
        Whether ``reduce`` makes one array of all outputs of a file, given as a mapping by name.
    weighted : bool
        Whether ``score`` takes weights, which makes resampling fast.
    resamples : int
        Of the bootstrap of a statistic of a set.

    Examples
    --------
    >>> from qinspect.metrics import metric
    >>> found = metric("mae").score(np.array([1.0, 2.0]), np.array([[1.5], [2.0]]))
    >>> found.tolist(), metric("mae").direction
    ([0.5, 0.0], 'lower')
    """

    id: str
    title: str
    unit: str
    direction: Literal["higher", "lower"]
    kind: Literal["example", "set"]
    score: Callable[..., Any]
    scale: float = 1.0
    margin: float | None = 1.0
    classes: bool = False
    reduce: Callable[[Any, Any], Array] | None = None
    needs_y: bool = True
    all_outputs: bool = False
    weighted: bool = False
    resamples: int = 1999

    @property
    def better(self) -> int:
        """Sign of a difference that is an improvement."""
        return 1 if self.direction == "higher" else -1

    @property
    def label(self) -> str:
        """Head of a column or an axis of values."""
        return f"{self.title}, %" if self.scale == 100 else self.title

    def words(self, value: float) -> str:
        """A value with its unit, such as ``93.61 %`` or ``0.4272``."""
        return f"{100 * value:.2f} %" if self.scale == 100 else f"{value:.4g}"

    def number(self, gap: float) -> str:
        """A difference in the unit, with its sign, for a table."""
        # Adding 0 makes 0 of -0.
        return f"{round(gap, 2) + 0.0:+.2f}" if self.scale == 100 else f"{gap + 0.0:+.4g}"

    def size(self, gap: float) -> str:
        """How large a difference is, without sign, with its unit."""
        number = f"{abs(gap):.2f}" if self.scale == 100 else f"{abs(gap):.4g}"
        return f"{number} {self.unit}".rstrip()

    @property
    def of(self) -> str:
        """Of which metric a number is, behind it, where it is not the usual one."""
        return "" if self.id == "accuracy" else f" of {self.title}"

    def limit(self, margin: float) -> str:
        """A difference that would matter, such as ``1 point``."""
        unit = "point" if margin == 1 and self.unit == "points" else self.unit
        return f"{margin:.4g} {unit}".rstrip()

    def by(self, size: float, ends: Sequence[float]) -> str:
        """By how much something is better or larger, such as ``4.20 points [2.10, 6.30]``."""
        number, low, high = map(self._plain, (size, *ends))
        return f"{f'{number} {self.unit}'.rstrip()} [{low}, {high}]"

    def lead(self, a: str, b: str, gap: float, ends: Sequence[float]) -> tuple[str, str, str]:
        """Of a difference b - a the better one, the other one, and by how much it is better."""
        better, other = (b, a) if self.better * gap >= 0 else (a, b)
        return better, other, self.by(abs(gap), towards(gap or self.better, ends))

    def ahead(self, a: str, b: str, gap: float, ends: Sequence[float]) -> str:
        """The same as a clause, such as ``qat is better by 4.20 points [2.10, 6.30]``."""
        better, _, by = self.lead(a, b, gap, ends)
        return f"{better} is better by {by}" if gap else f"{a} and {b} differ by {by}"

    def between(self, a: str, b: str, ends: Sequence[float]) -> str:
        """Values of b - a, such as ``ptq better by 2.10 to qat better by 6.30 points``."""
        low, high = sorted(self.better * end for end in ends)
        if low < 0 < high:
            said = f"{a} better by {self._plain(-low)} to {b} better by {self._plain(high)}"
        else:
            least, most = sorted((abs(low), abs(high)))
            said = (f"{b if high > 0 else a} better by {self._plain(least)} to "
                    f"{self._plain(most)}")
        return f"{said} {self.unit}".rstrip()

    def closing(self, size: float, ends: Sequence[float]) -> str:
        """What becomes of a gap of which so much is closed, such as ``smaller by 4.20 points``."""
        side = "smaller" if size >= 0 else "larger"
        return f"{side} by {self.by(abs(size), towards(size, ends))}"

    def _plain(self, value: float) -> str:
        # Adding 0 makes 0 of -0.
        return f"{round(value, 2) + 0.0:.2f}" if self.scale == 100 else f"{value + 0.0:.4g}"

    def margin_of(self, value: float) -> float:
        """The difference that would matter beside a value, in the unit."""
        if self.margin is not None:
            return self.margin
        size = abs(value) if np.isfinite(value) and value else 1.0
        return self.scale * size / 20

    def statistic(self, y: Array | None, output: Any) -> float:
        """The checked value of a set of examples; only of the kind ``set``."""
        found = np.asarray(self.score(y, output))
        if found.size != 1 or found.dtype.kind not in "biuf":
            raise DataError(f"{self.id} gives {found.dtype} of shape {found.shape}; a metric of "
                            "the kind 'set' gives one number.")
        value = float(found.reshape(()))
        if not np.isfinite(value):
            raise DataError(f"{self.id} is {value:g} on these examples; mend or leave out "
                            "some of them, or choose another metric.")
        return value

    def scores(self, y: Array | None, output: Any) -> Array:
        """Checked scores of the examples, (n,); only of the kind ``example``."""
        found = np.asarray(self.score(y, output))
        if found.ndim != 1:
            raise DataError(f"{self.id} gives scores of shape {found.shape}; a metric of the kind "
                            "'example' gives one score an example.")
        if found.dtype.kind not in "biuf":
            raise DataError(f"{self.id} gives scores of type {found.dtype}; they must be numbers.")
        bad = int(np.count_nonzero(~np.isfinite(found))) if found.dtype.kind == "f" else 0
        if bad:
            raise DataError(f"{self.id} is NaN or infinite for {bad} of {len(found)} examples; "
                            "mend or leave out these outputs.")
        return found


def towards(sign: float, ends: Sequence[float]) -> tuple[float, float]:
    """An interval of a difference, of that difference the other way round where it is negative."""
    low, high = sorted(math.copysign(1.0, sign) * end for end in ends)
    return low, high
