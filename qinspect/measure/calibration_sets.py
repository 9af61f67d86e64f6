"""How many calibration examples, and which: subsets, extremes, overlap, a manifest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qinspect import store
from qinspect.data.dataset import count, digests
from qinspect.data.streams import stream
from qinspect.errors import DataError
from qinspect.measure.activations import ObservedRanges
from qinspect.metrics import Metric
from qinspect.predictions import Results
from qinspect.schema import Array, Arrays
from qinspect.tflite.requantize import Ranges
from qinspect.verdicts import counted

# Disjoint subsets of one size, at least and at most; chosen.
_FEWEST, _MOST = 4, 5
# One row a size: how many disjoint subsets; ``width``: median over tensors and subsets of the range
# against that of all examples; the metric, mean over the subsets; its difference to the file
# calibrated on all, with the interval for other subsets and other examples.
SIZES = ("size", "sets", "width", "value", "to_all", "low", "high")
# One row an example that sets an end of a range of all: how many ends; ``stretch``: the most that
# it alone widens a range.
EXTREMES = ("id", "ends", "stretch", "tensor")


@dataclass(frozen=True)
class CalibrationAdvice:
    """The answer to "how many calibration examples, and which?".

    ``sizes``: columns ``SIZES``; ``enough``: the least size whose sets are shown to lose less than
    ``margin`` to all ``n``, as are those of every larger size, None if none is; ``extremes``:
    columns ``EXTREMES``; ``tensors``: with a range; ``shared``: of the examples that are evaluated,
    too; ``repeated``: that occur more than once; ``manifest``: what was calibrated with.
    """

    sizes: pd.DataFrame = field(repr=False)
    extremes: pd.DataFrame = field(repr=False)
    n: int
    tensors: int
    enough: int | None
    margin: float
    evaluated: int
    shared: int
    repeated: int
    metric: Metric
    confidence: float
    manifest: dict[str, Any] = field(repr=False)

    @property
    def sentence(self) -> str:
        """How many, and which."""
        return f"{_how_many(self)} {_which(self)}{_overlap(self)}"

    def to_json(self) -> dict[str, Any]:
        """The same as plain data; what is not defined is None."""
        found: dict[str, Any] = store.plain({
            "n": self.n, "tensors": self.tensors, "enough": self.enough, "margin": self.margin,
            "evaluated": self.evaluated, "shared": self.shared, "repeated": self.repeated,
            "metric": self.metric.id, "unit": self.metric.unit, "confidence": self.confidence,
            "sizes": self.sizes.to_dict("records"), "extremes": self.extremes.to_dict("records"),
            "sentence": self.sentence,
        })
        return found

    def write_manifest(self, path: str | os.PathLike[str]) -> None:
        """Write what was calibrated with: count, types, shapes, checksums, ids."""
        store.write_json(Path(path), self.manifest)


def manifest_of(x: Arrays, ids: Array) -> dict[str, Any]:
    """Count, type, shape and SHA-256 (of the bytes in C order) of each input, and the ids."""
    def told(values: Array) -> dict[str, Any]:
        content = np.ascontiguousarray(values).tobytes()
        return {"dtype": str(values.dtype), "shape": list(values.shape),
                "sha256": hashlib.sha256(content).hexdigest()}

    arrays = x if isinstance(x, Mapping) else {"x": x}
    return {
        "count": count(x),
        "inputs": {name: told(values) for name, values in arrays.items()},
        "ids": [str(one) for one in ids],
    }


def extremes(observed: ObservedRanges, ids: Array) -> pd.DataFrame:
    """Which examples set the ends of the ranges, the most ends first, columns ``EXTREMES``."""
    # A range holds zero whatever was seen, so an end at zero is set by nobody.
    ends = np.stack([np.maximum(-observed.low, 0.0), np.maximum(observed.high, 0.0)])
    if len(observed) == 1:
        ends = np.pad(ends, ((0, 0), (0, 1), (0, 0)))
    second, first = np.sort(ends, axis=1)[:, -2:].swapaxes(0, 1)
    by = np.where(first > 0, ends.argmax(axis=1), -1)
    rows = []
    for i in np.unique(by[by >= 0]):
        own = by == i
        without = np.where(own, second, first).sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.where(own.any(axis=0), first.sum(axis=0) / without, 0.0)
        at = int(factor.argmax())
        rows.append((str(ids[i]), int(own.sum()), float(factor[at]), observed.names[at]))
    rows.sort(key=lambda row: (-row[1], -row[2]))
    return pd.DataFrame(rows, columns=list(EXTREMES))


def subset_sizes(n: int) -> list[int]:
    """1, 2, 4, ... of which there are enough disjoint sets."""
    return [2**k for k in range(n.bit_length()) if _FEWEST * 2**k <= n]


def calibration_advice(
    observed: ObservedRanges, x: Arrays, ids: Array, evaluated: Arrays, results: Results,
    scored: Callable[[Ranges], Any], *, seed: int = 0,
) -> CalibrationAdvice:
    """Quantize with ranges of disjoint subsets and compare with those of all examples.

    ``observed`` are the ranges of ``x``; ``results`` has the file calibrated on all as "full";
    ``scored`` says what the metric takes of a file quantized with ranges.
    """
    n = len(observed)
    if n < _FEWEST:
        raise DataError(f"there are {n} calibration examples; give at least {_FEWEST} to compare "
                        "subsets.")
    order = stream(seed, "calibration subsets").permutation(n)
    widest = _width(observed, np.arange(n))
    rows = []
    for size in subset_sizes(n):
        sets = [order[i * size:(i + 1) * size] for i in range(min(_MOST, n // size))]
        answers = [scored(observed.over(one)) for one in sets]
        runs = Results({"all": [results.outputs["full"]] * len(sets), "sets": answers}, results.y,
                       groups=results.groups, runs=tuple(range(len(sets))),
                       metric=results.metric, confidence=results.confidence,
                       margin=results.margin, seed=seed)
        found = runs.over_runs("all", "sets")
        width = [np.median(_width(observed, one)[widest > 0] / widest[widest > 0]) for one in sets]
        rows.append((size, len(sets), float(np.median(width)), runs.value("sets"), found.gap,
                     *found.interval))
    rows.append((n, 1, 1.0, results.value("full"), 0.0, np.nan, np.nan))
    table = pd.DataFrame(rows, columns=list(SIZES))
    ours, theirs = digests(x), set(digests(evaluated))
    return CalibrationAdvice(
        table, extremes(observed, ids), n, len(observed.names),
        _enough(table, results.metric, results.limit), results.limit, results.n,
        sum(one in theirs for one in ours), n - len(set(ours)), results.metric, results.confidence,
        manifest_of(x, ids),
    )


def _width(observed: ObservedRanges, index: Array) -> Array:
    low, high = observed.low[index].min(axis=0), observed.high[index].max(axis=0)
    return np.asarray(np.maximum(high, 0.0) - np.minimum(low, 0.0))


def _enough(table: pd.DataFrame, metric: Metric, margin: float) -> int | None:
    """The least size whose sets, and those of every larger size, are shown to lose less than that.

    From the largest size down to the first that is not shown, so that several looks cost nothing.
    """
    enough = None
    for row in table.iloc[-2::-1].to_dict("records"):
        if not (row["low"] if metric.better > 0 else -row["high"]) > -margin:
            break
        enough = int(row["size"])
    return enough


def _how_many(advice: CalibrationAdvice) -> str:
    metric, part = advice.metric, advice.sizes.iloc[:-1]
    margin = metric.limit(advice.margin)
    row = part.iloc[-1] if advice.enough is None else part[part["size"] == advice.enough].iloc[0]
    drawn = f"{counted(int(row['sets']), 'disjoint set')} of {int(row['size'])}"
    ahead = metric.ahead("calibrating with all", "calibrating with less", row["to_all"],
                         (row["low"], row["high"])) + metric.of
    better = part[(part["low"] > 0) if metric.better > 0 else (part["high"] < 0)]
    if advice.enough is None:
        said = (f"How many calibration examples: fewer than all {advice.n} are not shown to be "
                f"enough; with {drawn} {ahead}, so a loss of {margin} is not excluded.")
    else:
        said = (f"How many calibration examples: {advice.enough} drawn at random are enough; "
                f"with {drawn} {ahead}, not a loss of {margin}.")
    if len(better):
        said += (f" Sets of {int(better['size'].iloc[0])} do better than all {advice.n}: extreme "
                 "examples stretch the ranges.")
    return said


def _which(advice: CalibrationAdvice) -> str:
    first, ends = advice.extremes, int(advice.extremes["ends"].sum())
    if not len(first):
        return "Which: no example has a value other than zero."
    top = first.iloc[0]
    far = first.iloc[int(first["stretch"].to_numpy().argmax())]
    return (f"Which: {len(first)} of them set all {ends} ends of {advice.tensors} ranges, most of "
            f"them {top['id']} ({int(top['ends'])}); the most that one of them widens a range is "
            f"{far['stretch']:.2f} times ({far['id']}, {far['tensor']}).")


def _overlap(advice: CalibrationAdvice) -> str:
    said = ""
    if advice.shared:
        said += (f" {advice.shared} of the {advice.n} calibration examples are among those "
                 "evaluated, so that the metric may be too good: leave them out of one.")
    if advice.repeated:
        said += f" {advice.repeated} repeat another one."
    return said
