"""Activations of one network: streamed statistics, calibration ranges, ranges a file stores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from qinspect.data.dataset import count
from qinspect.errors import DataError, ModelFileError, SpecError
from qinspect.measure.probe import batches
from qinspect.measure.streaming import Histogram, StreamingStatistics
from qinspect.measure.weights import stored_columns
from qinspect.schema import TENSORS, Array, Arrays
from qinspect.tflite.constants import weights_of
from qinspect.tflite.graph import Graph, Subgraph
from qinspect.tflite.match import GraphMatch
from qinspect.tflite.ports import real_values
from qinspect.tflite.requantize import Ranges, activations, check_float
from qinspect.tflite.runner import Session


@dataclass(frozen=True)
class Activations:
    """Statistics of chosen tensors: ``schema.TENSORS``, real units; histograms by tensor index."""

    # One row a tensor (channel -1) and, on request, one a channel of its last axis; percentiles
    # exact to half a bin; the ends of the range that the file can store, NaN for float tensors.
    tensors: pd.DataFrame
    histograms: dict[int, Histogram]
    notes: tuple[str, ...]
    examples: int


def activation_tensors(graph: Graph) -> dict[int, str]:
    """Index and name of tensors of real numbers that depend on the input, in execution order."""
    subgraph = graph.main
    made = [i for operator in subgraph.operators for i in operator.outputs]
    return {
        i: subgraph.tensors[i].name
        for i in dict.fromkeys([*subgraph.inputs, *made])
        if i >= 0 and subgraph.tensors[i].real
    }


def activation_statistics(
    graph: Graph,
    x: Arrays | Iterable[Arrays],
    tensors: Mapping[int, str] | None = None,
    *,
    per_channel: bool = False,
    batch_size: int = 32,
    num_threads: int | None = None,
) -> Activations:
    """Extremes, moments, NaN and infinity counts, percentiles, histograms of activations."""
    if batch_size < 1:
        raise SpecError(f"batch_size is {batch_size}; choose at least 1.")
    known = activation_tensors(graph)
    layers = dict(known if tensors is None else tensors)
    for i in layers:
        if i not in known:
            raise SpecError(f"tensor {i} of {graph.file} is not an activation of real numbers.")
    whole = {i: StreamingStatistics() for i in layers}
    split: dict[int, StreamingStatistics] = {}
    examples = 0
    with Session(graph, name=graph.file, tensors=list(layers), workers=num_threads) as session:
        for batch in batches(x, batch_size):
            stored = session.view(batch)
            # What cannot be read for every example is left out, which a note says.
            layers = {i: layer for i, layer in layers.items() if i in stored}
            for i in layers:
                real = real_values(graph.main.tensors[i], stored[i])
                whole[i].add(real)
                if per_channel and real.ndim > 1:
                    if i not in split:
                        split[i] = StreamingStatistics(channels=real.shape[-1])
                    split[i].add(real)
            examples += count(batch)
        notes = session.notes
    records = []
    for i, layer in layers.items():
        records += _records(graph, i, layer, whole[i], -1)
        if i in split:
            records += _records(graph, i, layer, split[i], 0)
    return Activations(
        pd.DataFrame.from_records(records, columns=list(TENSORS)),
        {i: s.histogram for i, s in whole.items() if s.histogram is not None and i in layers},
        notes,
        examples,
    )


def _records(
    graph: Graph, index: int, layer: str, statistics: StreamingStatistics, first: int
) -> list[dict[str, Any]]:
    """Rows of one tensor; channels are counted from ``first``."""
    tensor = graph.main.tensors[index]
    kind = "activation"
    if index in graph.main.inputs:
        kind = "input"
    elif index in graph.main.outputs:
        kind = "output"
    stored = stored_columns(tensor.affine).values()
    columns = [statistics.count, statistics.nan, statistics.inf, statistics.minimum,
               statistics.maximum, statistics.mean, statistics.std]
    points = [np.nan] * 3
    if statistics.histogram is not None:
        points = [statistics.percentile(q) for q in (0.1, 50.0, 99.9)]
    return [
        dict(zip(TENSORS, (graph.file, layer, tensor.name, kind, first + channel,
                           *(np.asarray(c)[channel].item() for c in columns), *stored, *points,
                           index), strict=True))
        for channel in range(statistics.count.size)
    ]


@dataclass(frozen=True)
class ObservedRanges:
    """Least and greatest value of every activation for every example, float32, real units."""

    names: tuple[str, ...]
    # (examples, tensors): kept per example, so that ranges of any subset cost nothing more.
    low: Array
    high: Array

    def __len__(self) -> int:
        return len(self.low)

    def over(self, index: Array | None = None) -> Ranges:
        """Ranges over all examples or those at ``index``: least minimum, greatest maximum."""
        low = self.low if index is None else self.low[index]
        high = self.high if index is None else self.high[index]
        if len(low) == 0:
            raise DataError("a calibration set needs at least one example.")
        ends = zip(self.names, low.min(axis=0), high.max(axis=0), strict=True)
        return Ranges({name: (float(least), float(most)) for name, least, most in ends})


def observe_ranges(
    graph: Graph, x: Arrays, *, batch_size: int = 32, num_threads: int | None = None
) -> ObservedRanges:
    """Run a float32 network and note the ranges of its activations, example by example."""
    # Minimum and maximum, as TensorFlow's converter calibrates; litert-quantizer's own calibrator
    # takes a moving average by default, which clips, and needs a signature in the file.
    check_float(graph)
    tensors = activations(graph)
    lows, highs = [], []
    wanted = [t.index for t in tensors]
    with Session(graph, name=graph.file, tensors=wanted, workers=num_threads) as session:
        for batch in batches(x, batch_size):
            found = session.view(batch)
            gone = [t.name for t in tensors if t.index not in found]
            if gone:
                raise ModelFileError(f"the range of {gone[0]!r} of {graph.file} cannot be "
                                     f"observed: {session.notes[-1]}")
            flat = [found[t.index].reshape(count(batch), -1) for t in tensors]
            lows.append(np.stack([values.min(axis=1) for values in flat], axis=1))
            highs.append(np.stack([values.max(axis=1) for values in flat], axis=1))
    low, high = np.concatenate(lows), np.concatenate(highs)
    bad = ~(np.isfinite(low) & np.isfinite(high))
    if bad.any():
        first = tensors[int(np.argmax(bad.any(axis=0)))]
        raise DataError(
            f"{int(bad.any(axis=1).sum())} of {len(low)} calibration examples make activations "
            f"of {graph.file} NaN or infinite, the first is {first.name!r}."
        )
    return ObservedRanges(tuple(t.name for t in tensors), low, high)


def stored_ranges(
    graph: Graph,
    quantized: Graph,
    matched: GraphMatch,
    fallback: Ranges | None = None,
) -> tuple[Ranges, tuple[str, ...]]:
    """Ranges that a quantized file holds for its float parent; tensors that needed ``fallback``."""
    bounds: dict[str, tuple[float, float]] = {}
    per_tensor: set[int] = set()
    one_scale = {
        weight.operator.index
        for weight in weights_of(quantized.main)
        if weight.tensor.quantization is not None and weight.tensor.quantization.scale.size == 1
    }
    per_tensor.update(pair.a for pair in matched.pairs if pair.b in one_scale)
    both = same_tensors(graph, quantized, matched)
    for a, b in both:
        found = quantized.main.tensors[b].stored_range
        if found is not None:
            bounds.setdefault(graph.main.tensors[a].name, found)
    absent = [t.name for t in activations(graph) if t.name not in bounds]
    if absent and fallback is None:
        raise ModelFileError(
            f"{quantized.file} has no range for {len(absent)} tensors of {graph.file} "
            f"(the first is {absent[0]!r}); give calibration examples as well."
        )
    for name in absent:
        assert fallback is not None
        bounds[name] = fallback.bounds[name]
    return Ranges(bounds, frozenset(per_tensor)), tuple(absent)


def same_tensors(graph: Graph, quantized: Graph, matched: GraphMatch) -> list[tuple[int, int]]:
    """Activations that two files have in common; one may be named by several, the best first."""
    both = list(matched.inputs)
    for pair in matched.pairs:
        ours, theirs = graph.main.operators[pair.a], quantized.main.operators[pair.b]
        both.append((pair.output_a, pair.output_b))
        both += zip(_fed(graph.main, ours.inputs), _fed(quantized.main, theirs.inputs),
                    strict=False)
    return both


def _fed(subgraph: Subgraph, inputs: tuple[int, ...]) -> list[int]:
    return [i for i in inputs if i >= 0 and not subgraph.tensors[i].constant]
