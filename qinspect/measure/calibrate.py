"""Ranges of activations: observed on calibration examples, or stored in a quantized file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qinspect.errors import DataError, ModelFileError
from qinspect.measure.probe import Probe, batches, network_feed, network_probe
from qinspect.schema import Array, Graph, GraphMatch, Subgraph
from qinspect.tflite.quantize import Ranges, activations, check_float, stored_bounds
from qinspect.tflite.weights import weights_of


@dataclass(frozen=True)
class ObservedRanges:
    """Least and greatest value of every activation for every example.

    Kept per example so that the ranges of any subset of them cost nothing more.

    Attributes
    ----------
    names : tuple of str
        Names of the tensors.
    low, high : ndarray of float32, shape (examples, tensors)
        Real units.
    """

    names: tuple[str, ...]
    low: Array
    high: Array

    def __len__(self) -> int:
        return len(self.low)

    def over(self, index: Array | None = None) -> Ranges:
        """Ranges over all examples, or over those at ``index``: least minimum, greatest maximum.

        Parameters
        ----------
        index : ndarray of int or bool, optional
            At least one example.

        Returns
        -------
        Ranges
        """
        low = self.low if index is None else self.low[index]
        high = self.high if index is None else self.high[index]
        if len(low) == 0:
            raise DataError("a calibration set needs at least one example.")
        ends = zip(self.names, low.min(axis=0), high.max(axis=0), strict=True)
        return Ranges({name: (float(least), float(most)) for name, least, most in ends})


def observe_ranges(
    graph: Graph, x: Array, *, batch_size: int = 32, num_threads: int = 2
) -> ObservedRanges:
    """Run a float network and note the ranges of its activations, example by example.

    This is calibration by minimum and maximum, as TensorFlow's converter does it;
    litert-quantizer's own calibrator takes a moving average by default, which clips, and needs
    a signature in the file.

    Parameters
    ----------
    graph : Graph
        A float32 file with one input.
    x : ndarray, shape (n, ...)
        Calibration examples in the units of the network's input.
    batch_size : int
        Examples for each invocation.
    num_threads : int
        Threads for each kernel.

    Returns
    -------
    ObservedRanges

    Raises
    ------
    DataError
        If ``x`` is empty, does not fit, or makes an activation NaN or infinite.
    ModelFileError
        If the file is not all float32 or cannot be run.
    """
    check_float(graph)
    tensors = activations(graph)
    probe = network_probe(graph, [t.index for t in tensors], num_threads=num_threads)
    lows, highs = [], []
    for batch in batches(x, batch_size):
        feed = {graph.main.inputs[0]: network_feed(graph, batch)}
        low, high = _extremes(probe, feed, [t.index for t in tensors])
        lows.append(low)
        highs.append(high)
    low, high = np.concatenate(lows), np.concatenate(highs)
    bad = ~(np.isfinite(low) & np.isfinite(high))
    if bad.any():
        first = tensors[int(np.argmax(bad.any(axis=0)))]
        raise DataError(
            f"{int(bad.any(axis=1).sum())} of {len(low)} calibration examples make activations "
            f"of {graph.file} NaN or infinite, the first is {first.name!r}."
        )
    return ObservedRanges(tuple(t.name for t in tensors), low, high)


def _extremes(probe: Probe, feed: dict[int, Array], tensors: list[int]) -> tuple[Array, Array]:
    """Minima and maxima, each (batch, tensors); the probe's views end with this function."""
    found = probe.run(feed)
    flat = [found[index].reshape(len(found[index]), -1) for index in tensors]
    low = np.stack([values.min(axis=1) for values in flat], axis=1)
    return low, np.stack([values.max(axis=1) for values in flat], axis=1)


def stored_ranges(
    graph: Graph,
    quantized: Graph,
    matched: GraphMatch,
    fallback: Ranges | None = None,
) -> tuple[Ranges, tuple[str, ...]]:
    """The ranges that a quantized file holds, for the tensors of its float parent.

    Parameters
    ----------
    graph : Graph
        The float32 file.
    quantized : Graph
        A file whose activations are quantized statically.
    matched : GraphMatch
        Of the two files, the float one first.
    fallback : Ranges, optional
        Ranges of tensors that the quantized file does not have.

    Returns
    -------
    ranges : Ranges
        With the operators whose weights have one scale in the quantized file.
    borrowed : tuple of str
        Names of the tensors whose range came from ``fallback``.

    Raises
    ------
    ModelFileError
        If a range is found neither in the file nor in ``fallback``.
    """
    bounds: dict[str, tuple[float, float]] = {}
    per_tensor = set()
    one_scale = {
        weight.operator.index
        for weight in weights_of(quantized.main)
        if weight.tensor.quantization is not None and weight.tensor.quantization.scale.size == 1
    }
    both = list(matched.inputs)
    for pair in matched.pairs:
        ours, theirs = graph.main.operators[pair.a], quantized.main.operators[pair.b]
        both.append((pair.output_a, pair.output_b))
        both += zip(_fed(graph.main, ours.inputs), _fed(quantized.main, theirs.inputs),
                    strict=False)  # fmt: skip
        if theirs.index in one_scale:
            per_tensor.add(ours.index)
    for a, b in both:
        found = stored_bounds(quantized.main.tensors[b])
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


def _fed(subgraph: Subgraph, inputs: tuple[int, ...]) -> list[int]:
    return [i for i in inputs if i >= 0 and not subgraph.tensors[i].constant]
