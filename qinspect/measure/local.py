"""Where the error enters: local and accumulated error of every layer in one streaming pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from qinspect.errors import DataError, QinspectError, SpecError
from qinspect.measure.activations import ObservedRanges, observe_ranges
from qinspect.measure.cut import CutModel, NetworkInput, cut_session, wire_pairs
from qinspect.measure.error_metrics import ERRORS, ErrorSums
from qinspect.measure.probe import Pair, Pairs, as_pairs, batches
from qinspect.progress import Progress, no_progress
from qinspect.schema import Array, Arrays
from qinspect.store import records
from qinspect.tflite import match_graphs, scheme_of
from qinspect.tflite.graph import Graph, Tensor
from qinspect.tflite.inputs import Preprocessing, prepare
from qinspect.tflite.match import GraphMatch
from qinspect.tflite.ports import Feeds, real_values
from qinspect.tflite.runner import Kernels, Session

_WORKERS = 2
_HISTOGRAM_COLUMNS = ("layer", "op", "reference", "part", "low", "high", "count", "unit")


@dataclass(frozen=True)
class LayerErrors:
    """Errors of every layer: ``ERRORS`` by layer and reference, and their histograms."""

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
    x: Arrays | Iterable[Arrays],
    *,
    local: bool = True,
    accumulated: bool = True,
    histograms: bool = True,
    batch_size: int = 16,
    num_threads: int | None = None,
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
    # How examples are put into batches depends on it, so it is not the machine that decides.
    threads = _WORKERS if num_threads is None else num_threads
    for name, size in (("batch_size", batch_size), ("num_threads", threads)):
        if size < 1:
            raise SpecError(f"{name} is {size}; choose at least 1.")
    # Shapes that a network computes are no layers, and would keep it from running in batches.
    named = [pair for pair in as_pairs(pairs, float_graph, quant_graph)
             if float_graph.main.tensors[pair.output_a].real
             and quant_graph.main.tensors[pair.output_b].real]
    cut: CutModel | None = None
    notes: list[str] = []
    if local:
        cut, notes = wire_pairs(float_graph, quant_graph, named)
    rows, missing = _rows(float_graph, quant_graph, named, cut)
    options = {"workers": threads, "kernels": kernels}
    examples = most = 0
    # The quantized file is a batch ahead of the others and the sums are one behind, a layer at a
    # time on each thread: each grows in the order of the examples, however many threads there are.
    with (_Pass(float_graph, quant_graph, rows, cut, accumulated, histograms, options) as measured,
          ThreadPoolExecutor(threads) as pool):
        pending: list[Future[None]] = []
        for batch, feeds, found in measured.quantized(batches(x, batch_size)):
            if len(feeds) > most:
                # The files may rearrange what they gave before to make room for more.
                _await(pending)
                most = len(feeds)
            work = measured.references(batch, feeds, found)
            _await(pending)
            pending[:] = [pool.submit(*one) for one in work]
            examples += len(feeds)
        _await(pending)
    return LayerErrors(
        _error_frame(measured),
        _histogram_frame(measured),
        (*notes, *missing, *measured.notes),
        examples,
    )


def _await(pending: list[Future[None]]) -> None:
    """Wait for all, and let go of what they worked on."""
    while pending:
        pending.pop().result()


class _Pass:
    """The files, ready to run, and the sums of every row."""

    def __init__(
        self,
        float_graph: Graph,
        quant_graph: Graph,
        rows: Sequence[_Row],
        cut: CutModel | None,
        accumulated: bool,
        histograms: bool,
        options: dict[str, Any],
    ) -> None:
        self.rows = rows
        self._beside = ThreadPoolExecutor(2)
        self._cut = cut if cut is not None and cut.outputs else None
        sources = {s for s in self._cut.inputs if isinstance(s, int)} if self._cut else set()
        read = sorted({row.b for row in rows} | sources)
        self._quant = Session(quant_graph, name=quant_graph.file, tensors=read, **options)
        self._float: Session | None = None
        self._alone: Session | None = None
        if accumulated:
            self._float = Session(float_graph, name=float_graph.file,
                                  tensors=[row.a for row in rows], **options)
        if self._cut is not None:
            self._alone = cut_session(self._cut, float_graph, **options)
        self.local: dict[int, ErrorSums] = {}
        self.accumulated: dict[int, ErrorSums] = {}
        self._missing: dict[str, None] = {}
        for at, row in enumerate(rows):
            affine = quant_graph.main.tensors[row.b].affine
            if affine is not None and not (affine.scale.size == 1 and affine.scale[0] > 0):
                affine = None
            if row.cut is not None:
                self.local[at] = ErrorSums(affine, histograms=histograms)
            if accumulated:
                self.accumulated[at] = ErrorSums(affine, histograms=histograms)

    def __enter__(self) -> _Pass:
        return self

    def __exit__(self, *error: object) -> None:
        self._beside.shutdown()
        for session in self._sessions:
            session.close()

    @property
    def _sessions(self) -> list[Session]:
        return [s for s in (self._quant, self._float, self._alone) if s is not None]

    def quantized(self, parts: Iterator[Arrays]
                  ) -> Iterator[tuple[Arrays, Feeds, dict[int, Array]]]:
        """Every batch with what the quantized file gives, which is run one ahead."""
        ahead: tuple[Arrays, Feeds, Future[dict[int, Array]]] | None = None
        for batch in parts:
            feeds = self._quant.feeds(batch)
            before, found = ahead, ahead[2].result() if ahead else {}
            ahead = batch, feeds, self._beside.submit(self._quant.run, feeds)
            if before:
                yield *before[:2], found
        if ahead:
            yield *ahead[:2], ahead[2].result()

    def references(self, batch: Arrays, feeds: Feeds, found: Mapping[int, Array]
                   ) -> list[tuple[Any, ...]]:
        """Run the float layers on one batch; the calls that are left to do, one a row."""
        whole = None
        if self._float is not None:
            whole = self._beside.submit(self._float.view, batch)
        local = self._references(feeds, found)
        true: dict[int, Array] = {}
        if whole is not None and self._float is not None:
            tensors = self._float.subgraph.tensors
            true = {i: real_values(tensors[i], values) for i, values in whole.result().items()}
        work: list[tuple[Any, ...]] = []
        for at, row in enumerate(self.rows):
            stored = found.get(row.b)
            sides: list[tuple[ErrorSums, Array]] = []
            if row.cut is not None:
                sides += self._side(self.local, at, local.get(row.cut), stored)
            sides += self._side(self.accumulated, at, true.get(row.a), stored)
            if sides:
                work.append((_add, self._quant.subgraph.tensors[row.b], stored, sides))
        return work

    def _references(self, feeds: Feeds, found: Mapping[int, Array]) -> Mapping[int, Array]:
        """What every layer of the float network gives for the quantized inputs, by cut tensor."""
        if self._cut is None or self._alone is None or not self.local:
            return {}
        given = {}
        for source, index in self._cut.inputs.items():
            if isinstance(source, NetworkInput):
                given[index] = feeds.real(source.tensor)
            elif isinstance(source, int) and source in found:
                given[index] = found[source] if source in self._cut.stored else real_values(
                    self._quant.subgraph.tensors[source], found[source])
        if len(given) < len(self._cut.inputs):
            self.local.clear()
            self._missing["no local errors: an input of a layer could not be read."] = None
            return {}
        return self._alone.view(given)

    def _side(self, sums: dict[int, ErrorSums], at: int, reference: Array | None,
              found: Array | None) -> list[tuple[ErrorSums, Array]]:
        """Sums of a row and their reference; a layer that not both files have costs a note."""
        if at not in sums:
            return []
        layer = self.rows[at].layer
        if reference is None or found is None:
            self._missing[f"no error of {layer}: its output could not be read."] = None
        elif reference.size != found.size:
            self._missing[f"no error of {layer}: its output has shape {reference.shape[1:]} in "
                          f"one file, {found.shape[1:]} in the other."] = None
        else:
            return [(sums[at], reference)]
        del sums[at]
        return []

    @property
    def notes(self) -> tuple[str, ...]:
        # What holds for the file holds for its operators alone, and mostly for the float file.
        own = dict.fromkeys(note for session in self._sessions for note in session.notes)
        return (*own, *self._missing)

    def measured(self) -> Iterator[tuple[_Row, str, ErrorSums]]:
        """Every row with each of its references, in the order of the frames."""
        for at, row in enumerate(self.rows):
            for reference, sums in (("local", self.local), ("accumulated", self.accumulated)):
                if at in sums:
                    yield row, reference, sums[at]


def _add(tensor: Tensor, stored: Array, sides: list[tuple[ErrorSums, Array]]) -> None:
    """Errors of one layer in one batch."""
    real = real_values(tensor, stored)
    for sums, reference in sides:
        sums.add(reference.reshape(real.shape), real)


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


def _error_frame(measured: _Pass) -> pd.DataFrame:
    records = [
        {"layer": row.layer, "op": row.op, "reference": reference, **sums.metrics()}
        for row, reference, sums in measured.measured()
    ]
    frame = pd.DataFrame.from_records(records, columns=list(ERRORS))
    # Without a row, where no tensor could be read, a column would be one of objects.
    return frame.astype(dict.fromkeys(ERRORS[3:], float)) if frame.empty else frame


def _histogram_frame(measured: _Pass) -> pd.DataFrame:
    columns: dict[str, list[Array]] = {name: [] for name in _HISTOGRAM_COLUMNS}
    for row, reference, sums in measured.measured():
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


def float_file(graphs: Mapping[str, Graph]) -> str | None:
    """The first float32 file, else the first float16 one, which computes with floats as well."""
    schemes = {scheme_of(graph): name for name, graph in reversed([*graphs.items()])}
    return schemes.get("float32", schemes.get("float16"))


def layer_rows(
    models: Sequence[tuple[str, Graph, Arrays, Preprocessing]],
    calibration_x: Arrays | None,
    *,
    num_threads: int | None = None,
    show: Progress = no_progress,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Errors of every layer of every other file against the first float file.

    Parameters
    ----------
    models : sequence of (name, graph, x, preprocessing)
        ``x`` as each file takes it.
    calibration_x : ndarray or None
        Calibration examples, before preprocessing.
    num_threads : int, optional
        Of the measurement; one a core unless given.
    show : callable
        ``show(phase, done, total, message)``, called as files are finished.

    Returns
    -------
    rows : list of dict
        ``ERRORS`` with a, b (names), stored_low, stored_high (ends of the stored range of
        the output) and, given calibration examples, calibration_low, calibration_high (minimum and
        maximum of the float file on them) and range_ratio (stored over calibration width).
    notes : list of str
        What is missing, and why.
    """
    name = float_file({m[0]: m[1] for m in models})
    if name is None:
        return [], ["no file is float32 or float16, so the errors of layers have no reference."]
    graph, x, how = next(m[1:] for m in models if m[0] == name)
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    observed = None
    if calibration_x is not None:
        try:
            real, _ = prepare(calibration_x, graph, how)
            observed = observe_ranges(graph, real, num_threads=num_threads)
        except QinspectError as error:
            notes.append(f"no calibration ranges: {error}")
    others = [model for model in models if model[0] != name]
    for done, (other, quantized, fed, _) in enumerate(others):
        show("3/3 layers", done, len(others), other)
        if not _same(fed, x):
            notes.append(
                f"no layer errors of {other}: it is given other values than {name}, so its "
                "layers cannot be compared."
            )
            continue
        matched = match_graphs(graph, quantized)
        try:
            found = layer_errors(
                graph, quantized, matched, x, histograms=False, num_threads=num_threads
            )
        except QinspectError as error:
            notes.append(f"no layer errors of {other}: {error}")
            continue
        notes += [f"{other}: {note}" for note in found.notes]
        ranges = _ranges(graph, quantized, matched, observed)
        for row in records(found.errors):
            rows.append({"a": name, "b": other, **row, **ranges.get(row["layer"], {})})
    show("3/3 layers", len(others), len(others), f"{len(others)} files against {name}")
    return rows, notes


def _same(a: Arrays, b: Arrays) -> bool:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)
    return not isinstance(a, Mapping) and not isinstance(b, Mapping) and np.array_equal(a, b)


def _ranges(
    graph: Graph, quantized: Graph, matched: GraphMatch, observed: ObservedRanges | None
) -> dict[str, dict[str, float | None]]:
    seen = observed.over().bounds if observed is not None else {}
    found: dict[str, dict[str, float | None]] = {}
    for pair in matched.pairs:
        stored = quantized.main.tensors[pair.output_b].stored_range
        low, high = stored or (None, None)
        row: dict[str, float | None] = {"stored_low": low, "stored_high": high}
        if observed is not None:
            real = seen.get(graph.main.tensors[pair.output_a].name)
            row["calibration_low"], row["calibration_high"] = real or (None, None)
            row["range_ratio"] = None
            if stored is not None and real is not None and real[1] > real[0]:
                # Ranges are widened to hold zero before they are stored.
                width = max(real[1], 0.0) - min(real[0], 0.0)
                row["range_ratio"] = (stored[1] - stored[0]) / width
        found[pair.layer] = row
    return found
