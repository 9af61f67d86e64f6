"""Size against the metric: mixed-precision files chosen on one half, confirmed on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from qinspect import store
from qinspect.data.streams import stream
from qinspect.metrics import Metric
from qinspect.predictions import Results
from qinspect.schema import Array
from qinspect.verdicts import counted

# One row a file: layers kept and the last of them, size, the metric on the half that chooses,
# whether no smaller file is as good there; of those the metric on the other half, its difference to
# float with an interval that holds for all of them together, and whether a loss of the margin is
# excluded there.
POINTS = ("kept", "layer", "bytes", "chosen_by", "front", "value", "to_float", "low", "high",
          "within")


@dataclass(frozen=True)
class SizeCurve:
    """Mixed files by size: ``points`` with columns ``POINTS``, the smallest first.

    ``choice``: layers kept by the smallest file that loses less than ``margin`` on the half that
    chooses, None if none does; ``n``: examples that choose, and that confirm; ``float_bytes``.
    """

    points: pd.DataFrame = field(repr=False)
    choice: int | None
    n: tuple[int, int]
    float_bytes: int
    margin: float
    metric: Metric
    confidence: float

    @property
    def confirmed(self) -> bool:
        """Whether the other half excludes that the chosen file loses the margin."""
        return self.choice is not None and bool(self._chosen["within"])

    @property
    def _chosen(self) -> pd.Series[Any]:
        return self.points[self.points["kept"] == self.choice].iloc[0]

    @property
    def sentence(self) -> str:
        """Which file to take, and whether the other half confirms it."""
        metric, margin = self.metric, self.metric.limit(self.margin)
        if self.choice is None:
            return (f"Size: no mixed file loses less than {margin} on the {self.n[0]:,} examples "
                    "that choose.")
        row = self._chosen
        ahead = metric.ahead("float", "it", row["to_float"], (row["low"], row["high"]))
        size = f"{row['bytes'] / 1000:,.1f} kB" + (
            ", no smaller than float" if row["bytes"] >= self.float_bytes else
            f" against {self.float_bytes / 1000:,.1f} kB of float")
        return (f"Size: the smallest file within {margin} of float, chosen on {self.n[0]:,} "
                f"examples, keeps {counted(self.choice, 'layer')}, {size}; on the other "
                f"{self.n[1]:,} {ahead}{metric.of}: "
                f"{'confirmed' if self.confirmed else 'not confirmed'}.")

    def to_json(self) -> dict[str, Any]:
        """The same as plain data; what is not defined is None."""
        found: dict[str, Any] = store.plain({
            "points": self.points.to_dict("records"), "choice": self.choice,
            "confirmed": self.confirmed, "chosen_on": self.n[0], "confirmed_on": self.n[1],
            "float_bytes": self.float_bytes, "margin": self.margin, "metric": self.metric.id,
            "unit": self.metric.unit, "confidence": self.confidence, "sentence": self.sentence,
        })
        return found


def two_halves(n: int, groups: Array | None, seed: int) -> tuple[Array, Array]:
    """Indices of two random halves; whole groups stay together."""
    names, of = np.unique(np.arange(n) if groups is None else groups, return_inverse=True)
    first = stream(seed, "halves").permutation(len(names)) < (len(names) + 1) // 2
    return np.flatnonzero(first[of]), np.flatnonzero(~first[of])


@dataclass(frozen=True)
class Candidate:
    """A mixed file: layers kept, the last of them, size, what the metric takes of all examples."""

    kept: int
    layer: str
    bytes: int
    scored: Any


def size_curve(results: Results, files: Sequence[Candidate], float_bytes: int,
               halves: tuple[Array, Array]) -> SizeCurve:
    """Choose on the first half, confirm on the second; ``results`` has the float file's outputs."""
    ordered = sorted(files, key=lambda file: (file.bytes, file.kept))
    named = results.with_outputs(**{str(file.kept): file.scored for file in ordered})
    first, second = (named.take(half) for half in halves)
    better = results.metric.better
    worth = [first.value(str(file.kept)) for file in ordered]
    best = np.maximum.accumulate(better * np.array(worth))
    front = np.concatenate([[True], best[1:] > best[:-1]])
    lost = [better * (value - first.value("float")) * results.metric.scale for value in worth]
    good = [file.kept for file, loss, kept in zip(ordered, lost, front, strict=True)
            if kept and loss > -results.limit]
    compared = {c.b: c for c in second.compare(
        [("float", str(file.kept)) for file, kept in zip(ordered, front, strict=True) if kept])}
    rows = []
    for file, value, kept in zip(ordered, worth, front, strict=True):
        row: tuple[Any, ...] = (np.nan, np.nan, np.nan, np.nan, False)
        if kept:
            c = compared[str(file.kept)]
            low, high = c.possible
            within = (low if better > 0 else -high) > -results.limit
            row = (c.value_b, c.gap, low, high, bool(within))
        rows.append((file.kept, file.layer, file.bytes, value, bool(kept), *row))
    return SizeCurve(pd.DataFrame(rows, columns=list(POINTS)), good[0] if good else None,
                     (first.n, second.n), float_bytes, results.limit, results.metric,
                     results.confidence)
