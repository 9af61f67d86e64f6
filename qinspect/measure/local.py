"""Where the error enters: local and accumulated error of every layer in one streaming pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd

from qinspect.errors import DataError, SpecError
from qinspect.measure.cut import CutModel, cut_probe, wire_pairs
from qinspect.measure.error_metrics import ErrorSums
from qinspect.measure.probe import (
    Pair,
    Pairs,
    Probe,
    as_pairs,
    batches,
    network_feed,
    network_probe,
    plain_run_note,
)
from qinspect.schema import ERRORS, Array
from qinspect.tflite.graph import Graph
from qinspect.tflite.run import Kernels, real_values

_HISTOGRAM_COLUMNS = ("layer", "op", "reference", "part", "low", "high", "count", "unit")


@dataclass(frozen=True)
class LayerErrors:
    """Errors of every layer: ``schema.ERRORS`` by layer and reference, and their histograms."""

    errors: pd.DataFrame  # reference "local" or "accumulated", in the order of the pairs
    # One row a bin that is not empty, part "rounded" or "clipped"; unit "step" (error / scale of
    # the layer's output), or "real" where the output has no scale.
    histograms: pd.DataFrame
    notes: tuple[str, ...]
    examples: int

    def histogram(self, layer: str, reference: str = "local") -> pd.DataFrame:
        """Rows of ``histograms`` of one layer."""
        rows = self.histograms
        return rows[(rows["layer"] == layer) & (rows["reference"] == reference)]


@dataclass(frozen=True)
class _Row:
    """One output to compare: tensor ``a`` of the float network, ``b`` of the quantized one."""

    layer: str
    op: str
    a: int
    b: int
    cut: int | None


def layer_errors(
    float_graph: Graph,
    quant_graph: Graph,
    pairs: Pairs,
    x: Array | Iterable[Array],
    *,
    local: bool = True,
    accumulated: bool = True,
    histograms: bool = True,
    batch_size: int = 16,
    num_threads: int = 2,
    kernels: Kernels = "default",
) -> LayerErrors:
    """Local and accumulated quantization error of every matched layer; x in float input units.

    References
    ----------
    The local error is that of TensorFlow's ``QuantizationDebugger``; here the operators are in
    one model, instead of an extra operator each in the quantized file.
    """
    # Local: the float operator, with its original float weights, is given the dequantized inputs of
    # the quantized operator, and the dequantized output of the quantized operator is compared with
    # what it gives.  Where that reads the quantized network input, the float one is given.
    # Accumulated: the tensor of the float network against that of the quantized one, everything
    # before included.
    if not (local or accumulated):
        raise SpecError("neither local nor accumulated errors were asked for.")
    for name, size in (("batch_size", batch_size), ("num_threads", num_threads)):
        if size < 1:
            raise SpecError(f"{name} is {size}; choose at least 1.")
    named = as_pairs(pairs, float_graph, quant_graph)
    cut, notes = wire_pairs(float_graph, quant_graph, named) if local else (None, [])
    rows, missing = _rows(float_graph, quant_graph, named, cut)
    workers = [
        _Worker(float_graph, quant_graph, rows, cut, accumulated, histograms, kernels)
        for _ in range(num_threads)
    ]
    examples = 0
    # Kernels and array arithmetic release Python's lock, so threads share the processor well; a
    # batch always goes to the same worker, which keeps the sums reproducible.
    with ThreadPoolExecutor(num_threads) as pool:
        pending: list[Future[None] | None] = [None] * num_threads
        for number, batch in enumerate(batches(x, batch_size)):
            turn = number % num_threads
            before = pending[turn]
            if before is not None:
                before.result()
            pending[turn] = pool.submit(workers[turn].measure, batch)
            examples += len(batch)
        for last in pending:
            if last is not None:
                last.result()
    for worker in workers[1:]:
        workers[0].merge(worker)
    return LayerErrors(
        _error_frame(workers[0]),
        _histogram_frame(workers[0]),
        (*notes, *missing, *workers[0].notes),
        examples,
    )


class _Worker:
    """The interpreters and sums of one thread."""

    def __init__(
        self,
        float_graph: Graph,
        quant_graph: Graph,
        rows: Sequence[_Row],
        cut: CutModel | None,
        accumulated: bool,
        histograms: bool,
        kernels: Kernels,
    ) -> None:
        self._float, self._quant, self.rows = float_graph, quant_graph, rows
        self._cut = cut if cut is not None and cut.outputs else None
        self._sources = [s for s in self._cut.inputs if isinstance(s, int)] if self._cut else []
        self._used = {row.b for row in rows}.union(self._sources)
        self._quant_probe = network_probe(quant_graph, self._used, kernels=kernels)
        self._float_probe: Probe | None = None
        if accumulated:
            self._float_probe = network_probe(float_graph, [r.a for r in rows], kernels=kernels)
        self._cut_probe: Probe | None = None
        if self._cut is not None:
            self._cut_probe = cut_probe(self._cut, float_graph.file, kernels=kernels)
        self.local: dict[int, ErrorSums] = {}
        self.accumulated: dict[int, ErrorSums] = {}
        for at, row in enumerate(rows):
            affine = quant_graph.main.tensors[row.b].affine
            if affine is not None and not (affine.scale.size == 1 and affine.scale[0] > 0):
                affine = None
            if row.cut is not None:
                self.local[at] = ErrorSums(affine, histograms=histograms)
            if accumulated:
                self.accumulated[at] = ErrorSums(affine, histograms=histograms)
        self._plain: list[str] | None = None

    def measure(self, batch: Array) -> None:
        """Take in one batch of examples."""
        first = self._plain is None
        if first:
            self._plain = []
        stored = self._run(self._quant, self._quant_probe, batch, first)
        real = {i: real_values(self._quant.main.tensors[i], stored[i]) for i in self._used}
        if self._cut is not None and self._cut_probe is not None:
            feeds = {
                index: real[source]
                if isinstance(source, int)
                else np.ascontiguousarray(batch, dtype=np.float32)
                for source, index in self._cut.inputs.items()
            }
            outcome = self._cut_probe.run(feeds, copy=False)
            for at, sums in self.local.items():
                row = self.rows[at]
                assert row.cut is not None
                sums.add(outcome[row.cut].reshape(real[row.b].shape), real[row.b])
        if self._float_probe is not None:
            true = self._run(self._float, self._float_probe, batch, first)
            for at, sums in self.accumulated.items():
                row = self.rows[at]
                reference = real_values(self._float.main.tensors[row.a], true[row.a])
                sums.add(reference.reshape(real[row.b].shape), real[row.b])

    def _run(self, graph: Graph, probe: Probe, batch: Array, first: bool) -> dict[int, Array]:
        feed = network_feed(graph, batch)
        stored = probe.run({graph.main.inputs[0]: feed}, copy=False)
        if first and self._plain is not None:
            note = plain_run_note(graph, probe, feed, stored)
            self._plain += [note] if note else []
        return stored

    @property
    def notes(self) -> tuple[str, ...]:
        probes = (self._quant_probe, self._float_probe, self._cut_probe)
        own = [note for probe in probes if probe is not None for note in probe.notes]
        return (*own, *(self._plain or ()))

    def merge(self, other: _Worker) -> None:
        """Add the sums of another worker to this one's."""
        for at in self.local:
            self.local[at] = self.local[at].merge(other.local[at])
        for at in self.accumulated:
            self.accumulated[at] = self.accumulated[at].merge(other.accumulated[at])

    def measured(self) -> Iterator[tuple[_Row, str, ErrorSums]]:
        """Every row with each of its references, in the order of the frames."""
        for at, row in enumerate(self.rows):
            for reference, sums in (("local", self.local), ("accumulated", self.accumulated)):
                if at in sums:
                    yield row, reference, sums[at]


def _rows(
    float_graph: Graph, quant_graph: Graph, pairs: Sequence[Pair], cut: CutModel | None
) -> tuple[list[_Row], list[str]]:
    rows, notes = [], []
    for at, pair in enumerate(pairs):
        shape_a = float_graph.main.tensors[pair.output_a].shape
        shape_b = quant_graph.main.tensors[pair.output_b].shape
        if np.prod(shape_a) != np.prod(shape_b):
            notes.append(
                f"no error of {pair.layer}: its output has shape {shape_a} in one file, "
                f"{shape_b} in the other."
            )
            continue
        own = cut.outputs.get(at) if cut is not None else None
        code = quant_graph.main.operators[pair.op_b].code
        rows.append(_Row(pair.layer, code, pair.output_a, pair.output_b, own))
    if not rows:
        raise DataError("the two files have no pair of layers to compare.")
    return rows, notes


def _error_frame(worker: _Worker) -> pd.DataFrame:
    records = [
        {"layer": row.layer, "op": row.op, "reference": reference, **sums.metrics()}
        for row, reference, sums in worker.measured()
    ]
    return pd.DataFrame.from_records(records, columns=list(ERRORS))


def _histogram_frame(worker: _Worker) -> pd.DataFrame:
    columns: dict[str, list[Array]] = {name: [] for name in _HISTOGRAM_COLUMNS}
    for row, reference, sums in worker.measured():
        parts = {"rounded": sums.rounded_histogram, "clipped": sums.clipped_histogram}
        for part, histogram in parts.items():
            if histogram is None:
                continue
            filled = np.flatnonzero(histogram.counts)
            unit = "step" if sums.grid is not None else "real"
            labels = (row.layer, row.op, reference, part)
            for name, label in zip(_HISTOGRAM_COLUMNS, labels, strict=False):
                columns[name].append(np.full(len(filled), label, dtype=object))
            columns["low"].append(histogram.edges[filled])
            columns["high"].append(histogram.edges[filled + 1])
            columns["count"].append(histogram.counts[filled])
            columns["unit"].append(np.full(len(filled), unit, dtype=object))
    return pd.DataFrame({n: np.concatenate(c) if c else [] for n, c in columns.items()})
