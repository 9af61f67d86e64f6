"""Weights, activations and errors of the same layers in several files, ready to be shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qinspect.data.dataset import Dataset, count, take
from qinspect.data.sources import Source
from qinspect.errors import DataError, QinspectError, SpecError
from qinspect.measure.activations import activation_statistics, activation_tensors
from qinspect.measure.clipping import Binned, clip_effect
from qinspect.measure.cut import constant_tensors
from qinspect.measure.debugger import debugger_sentence, read_debugger
from qinspect.measure.local import LayerErrors, float_file, layer_errors
from qinspect.measure.probe import Pair, as_pairs
from qinspect.measure.stand_alone import (
    CutOut,
    cut_json,
    cut_worst_of,
    kernel_table,
    ranked,
    some_of,
)
from qinspect.measure.streaming import Histogram
from qinspect.measure.weights import stored_columns, weight_channels
from qinspect.progress import Progress, late_progress, no_progress
from qinspect.schema import TENSORS, Array, Arrays
from qinspect.shown import Shown
from qinspect.store import plain, records
from qinspect.tflite import match_graphs, scheme_of
from qinspect.tflite.graph import Graph, Tensor
from qinspect.tflite.inputs import File, Model, Preprocessing, load_examples, named_files, prepare
from qinspect.tflite.sandbox import open_model
from qinspect.verdicts import counted

# Examples that are enough to see where the values of a layer lie.
EXAMPLES = 128
_BITS = 8


@dataclass(frozen=True)
class Layers(Shown):
    """The same layers in a float file and in files made from it.

    Attributes
    ----------
    models : tuple of str
        The float file first.
    layers : tuple of str
        In the order of execution.
    tensors : DataFrame
        ``schema.TENSORS``; ``file`` is the model, ``kind`` "weight" or "activation".
    weights : dict of (model, layer) to ndarray of float32, shape (channels, rest)
        Real values.
    activations : dict of (model, layer) to Histogram
        Of the layer's output.
    errors : dict of model to LayerErrors
        Against the float file.
    notes : tuple of str
        What could not be measured, and why.
    examples : int
        Examples that activations and errors were measured on.
    device : DataFrame or None
        Rows of LiteRT's accuracy debugger, the operator where the difference grows most first.
    kernels : DataFrame or None
        Each operator of the last file by optimised and by reference kernels, given the same.
    cut : CutOut or None
        The operator that was cut out.
    """

    models: tuple[str, ...]
    layers: tuple[str, ...]
    tensors: pd.DataFrame
    weights: dict[tuple[str, str], Array]
    activations: dict[tuple[str, str], Histogram]
    errors: dict[str, LayerErrors] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    examples: int = 0
    device: pd.DataFrame | None = None
    kernels: pd.DataFrame | None = None
    cut: CutOut | None = None

    def of(self, kind: str, model: str | None = None) -> pd.DataFrame:
        """Rows of one kind, of one model or of all."""
        rows = self.tensors[self.tensors["kind"] == kind]
        return rows if model is None else rows[rows["file"] == model]

    @property
    def frame(self) -> pd.DataFrame:
        """One row a model, layer and kind of reference: its error against the float file."""
        found = [each.errors.assign(file=model) for model, each in self.errors.items()]
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["file"])

    @property
    def sentence(self) -> str:
        """Which layer adds most error, in each file; which operator the device gets wrong."""
        said, more = [], []
        if self.device is not None:
            told = debugger_sentence(self.device)
            more.append(told[0].upper() + told[1:])
        if self.cut is not None:
            more.append(f"Cut out: {self.cut.sentence}")
        for model, each in self.errors.items():
            own = each.errors[each.errors["reference"] == "local"]
            own = own[np.isfinite(own["sqnr_db"].astype(float))]
            if len(own):
                worst = own.iloc[int(own["sqnr_db"].to_numpy(dtype=float).argmin())]
                said.append(f"{model} adds most error in {worst['layer']} "
                            f"({worst['sqnr_db']:.1f} dB)")
        if said or not more:
            more.insert(0, f"{'; '.join(said)}." if said else
                        f"{counted(len(self.layers), 'layer')}; no errors measured.")
        return " ".join(more)

    def to_json(self) -> dict[str, Any]:
        """Models, layers, ranges and errors as plain data."""
        return plain({"models": self.models, "layers": self.layers, "examples": self.examples,
                      "tensors": self.tensors.to_dict("records"),
                      "errors": self.frame.to_dict("records"), "notes": self.notes,
                      "device": _rows_of(self.device), "kernels": _rows_of(self.kernels),
                      "cut": cut_json(self.cut)})

    def stored_against_observed(self, model: str) -> pd.DataFrame:
        """Activation ranges that a file stores beside those that occur in the float network."""
        stored = self.of("activation", model)[["layer", "stored_min", "stored_max"]]
        seen = self.of("activation", self.models[0])[["layer", "min", "max", "p0_1", "p99_9"]]
        return stored.merge(seen, on="layer", how="inner")

    def most_unequal(self) -> pd.DataFrame:
        """Rows of the weights whose channels differ most in reach."""
        rows = self.of("weight")
        channels = rows[rows["channel"] >= 0]
        reach = channels.assign(reach=channels[["min", "max"]].abs().max(axis=1))
        by_layer = reach[reach["reach"] > 0].groupby("layer", sort=False)["reach"]
        ratio = by_layer.max() / by_layer.min()
        if ratio.empty:
            raise DataError("no layer has weights that differ from zero.")
        return rows[rows["layer"] == ratio.index[int(ratio.to_numpy().argmax())]]

    def channel_sqnr(self, model: str, layer: str) -> Array:
        """SQNR of the weights of each output channel against the float file's, in dB.

        Shape (channels,), empty where there is nothing to compare; infinite without any error, NaN
        where all weights of a channel are zero.
        """
        given, stored = (self.weights.get((name, layer)) for name in (self.models[0], model))
        if given is None or stored is None or given.shape != stored.shape:
            return np.empty(0)
        signal = np.square(given, dtype=np.float64).sum(axis=1)
        noise = np.square(given.astype(np.float64) - stored).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Array = 10 * np.log10(signal / noise)
        return np.where(signal > 0, found, np.nan)

    def binned(self, model: str, layer: str, kind: str, channel: int = -1) -> Binned | None:
        """Values of a layer in one model as counts; None where there is none, or no finite one."""
        try:
            if kind == "activation":
                return Binned.of(self.activations[model, layer])
            values = self.weights[model, layer]
            return Binned.values(values if channel < 0 else values[channel])
        except (KeyError, DataError):
            return None

    def clipping(self) -> pd.DataFrame:
        """What each stored range does to the float model's values with 8 bits.

        Rows of ``tensors`` that store a range, with ``clipped_share`` and ``sqnr_db`` (NaN where
        the range does not hold zero or the float model has no such values).
        """
        rows = self.tensors
        rows = rows[(rows["channel"] == -1) & rows["stored_min"].notna()]
        found = [self._clipped(row) for row in rows.to_dict("records")]
        return rows.assign(clipped_share=[share for share, _ in found],
                           sqnr_db=[sqnr for _, sqnr in found])

    def _clipped(self, row: Mapping[Any, Any]) -> tuple[float, float]:
        kind, low, high = str(row["kind"]), row["stored_min"], row["stored_max"]
        values = self.binned(self.models[0], str(row["layer"]), kind)
        if values is None or not np.isfinite([low, high]).all() or not low <= 0 <= high:
            return float("nan"), float("nan")
        effect = clip_effect(values, low, high, bits=_BITS, symmetric=kind == "weight")
        return effect["clipped_share"], effect["sqnr_db"]


def _rows_of(frame: pd.DataFrame | None) -> list[dict[str, Any]] | None:
    return None if frame is None else records(frame)


def layers(
    files: File | Sequence[File] | Mapping[str, Model],
    data: File | Source | Dataset | None = None, *,
    examples: int = EXAMPLES, preprocessing: Preprocessing | None = None,
    debugger: File | None = None, cut_worst: File | None = None,
    progress: Progress | None = None,
) -> Layers:
    """Weights, activations, ranges and errors of the same layers in several files.

    Parameters
    ----------
    files : path, sequence of path, or mapping of name to path or bytes
        ``.tflite`` files, the float one first; each is first tried in a child process.
    data : path or Dataset, optional
        Examples as the float model takes them; without them only weights are read.
    examples : int
        Leading examples to measure on.
    preprocessing : Preprocessing, optional
        What to do to ``x``; nothing by default.
    debugger : path, optional
        ``accuracy_summary.csv`` of LiteRT's accuracy debugger, of the last file (``device``).
    cut_worst : path, optional
        A folder into which the worst operator of the last file is written as a file of its own,
        with what it is given and what it gives (``kernels``, ``cut``).  Worst is by ``debugger``;
        else by optimised against reference kernels; else by the error against the float file.
    progress : callable, optional
        ``progress(phase, done, total, message)``; a terminal or notebook shows it unless given.

    Returns
    -------
    Layers

    Raises
    ------
    DataError
        If the first file is neither float32 nor float16, or the examples do not fit it.  With
        ``debugger`` or ``cut_worst`` one quantized file will do.
    ModelFileError
        If a file cannot be read or run, or no operator can be cut out.

    Examples
    --------
    >>> found = layers(["float.tflite", "int8.tflite"], "data.npz")
    >>> found.frame["reference"].unique().tolist()
    ['local', 'accumulated']
    """
    graphs = {name: open_model(file) for name, file in named_files(files).items()}
    operators = debugger is not None or cut_worst is not None
    if cut_worst is not None and data is None:
        raise SpecError("an operator is cut out with its inputs; give examples as --data.")
    how = preprocessing or Preprocessing()
    x: Arrays | None = None
    notes: tuple[str, ...] = ()
    if data is not None:
        found = load_examples(data, list(graphs.values()), [how] * len(graphs))
        first = next(iter(graphs.values()))
        x, said = prepare(take(found.x, slice(examples)), first, how)
        notes = (*found.notes, *said)
    if operators and len(graphs) == 1:
        measured = Layers(tuple(graphs), (), pd.DataFrame(columns=list(TENSORS)), {}, {})
    else:
        measured = layer_tables(graphs, x, progress or late_progress())
    if operators:
        measured = _with_operators(measured, *list(graphs.items())[-1], x, debugger, cut_worst)
    return replace(measured, notes=(*notes, *measured.notes))


def _with_operators(
    measured: Layers, name: str, graph: Graph, x: Arrays | None, debugger: File | None,
    folder: File | None,
) -> Layers:
    """What an accelerator made of the operators of a file, and the worst of them cut out."""
    notes = list(measured.notes)
    if debugger is not None:
        device, said = read_debugger(Path(debugger), graph)
        measured, notes = replace(measured, device=device), [*notes, *said]
    if folder is not None:
        assert x is not None
        some = some_of(graph, x)
        kernels, left = kernel_table(graph, some)
        makers = {i: op.index for op in graph.main.operators for i in op.outputs}
        own = measured.errors[name].errors if name in measured.errors else pd.DataFrame(
            columns=["reference", "layer", "sqnr_db"])
        own = own[own["reference"] == "local"].dropna(subset=["sqnr_db"])
        output = measured.of("activation", name).set_index("layer")["index"].to_dict()
        errors = {makers[output[layer]]: float(sqnr)
                  for layer, sqnr in zip(own["layer"], own["sqnr_db"], strict=True)
                  if output.get(layer) in makers}
        cut = cut_worst_of(graph, some, Path(folder), ranked(kernels, measured.device, errors))
        measured, notes = replace(measured, kernels=kernels, cut=cut), [*notes, *left]
    return replace(measured, notes=tuple(notes))


def layer_tables(
    files: Mapping[str, Graph], x: Arrays | None, progress: Progress = no_progress
) -> Layers:
    """Measure the layers of a float file, the first one, and of the files made from it.

    ``x``: examples in the units of the float input; without them only weights are read.
    """
    names = tuple(files)
    if not names:
        raise DataError("no file was given; the first one must be a float file to compare with.")
    reference = files[names[0]]
    if float_file({names[0]: reference}) is None:
        raise DataError("the first file must be float32 or float16 to compare with, but it is "
                        f"{scheme_of(reference)}.")
    pairs, notes = _pairs(files)
    records: list[dict[str, Any]] = []
    weights: dict[tuple[str, str], Array] = {}
    activations: dict[tuple[str, str], Histogram] = {}
    errors: dict[str, LayerErrors] = {}
    for done, name in enumerate(names):
        progress("layers", done, len(names), f"ranges and errors of {name}")
        graph, known = files[name], pairs[name]
        for pair in known:
            try:
                own = weight_channels(graph, pair.op_b)
            except QinspectError as error:  # sparse weights, say
                notes.append(f"no weights of {pair.layer} in {name}: {error}")
                continue
            if own is not None:
                tensor, weights[name, pair.layer] = own
                records += _weight_rows(name, pair.layer, tensor, weights[name, pair.layer])
        if x is None:
            continue
        try:
            real = activation_tensors(graph)  # shapes, say, are whole numbers
            seen = activation_statistics(
                graph, x, {p.output_b: p.layer for p in known if p.output_b in real})
        except QinspectError as error:
            notes.append(f"no activations of {name}: {error}")
            continue
        for row in seen.tensors.assign(file=name, kind="activation").to_dict("records"):
            records.append({str(key): value for key, value in row.items()})
        layer_of = {pair.output_b: pair.layer for pair in known}
        activations |= {(name, layer_of[i]): found for i, found in seen.histograms.items()}
        if name == names[0]:
            continue
        try:
            errors[name] = layer_errors(reference, graph, known, x)
            notes += [f"{name}: {note}" for note in errors[name].notes]
        except QinspectError as error:
            notes.append(f"no layer errors of {name}: {error}")
    progress("layers", len(names), len(names), f"{len(names)} files measured")
    frame = pd.DataFrame.from_records(records, columns=list(TENSORS))
    layers = tuple(pair.layer for pair in pairs[names[0]])
    examples = 0 if x is None else count(x)
    return Layers(
        names, layers, frame, weights, activations, errors, tuple(dict.fromkeys(notes)), examples
    )


def _pairs(files: Mapping[str, Graph]) -> tuple[dict[str, list[Pair]], list[str]]:
    """Operators of each file that do the work of one of the float file, under one name each."""
    names = tuple(files)
    reference = files[names[0]]
    pairs: dict[str, list[Pair]] = {}
    notes: list[str] = []
    layer_of: dict[int, str] = {}
    outputs: dict[int, int] = {}
    # Operators that unpack constants are no layers.
    unpacking = set(constant_tensors(reference.main).values()) - {None}
    for name in names[1:] or names:
        found = as_pairs(match_graphs(reference, files[name]), reference, files[name])
        for pair in found:
            if pair.op_a not in layer_of:
                taken = pair.layer in layer_of.values()
                layer_of[pair.op_a] = f"{pair.layer} ({pair.op_a})" if taken else pair.layer
                outputs[pair.op_a] = pair.output_a
        pairs[name] = [pair._replace(layer=layer_of[pair.op_a]) for pair in found]
        lost = len(reference.main.operators) - len(unpacking) - len(found)
        if lost > 0:
            notes.append(f"{name}: {lost} operators of {names[0]} have no counterpart in it.")
    pairs[names[0]] = [
        Pair(op, op, layer_of[op], outputs[op], outputs[op]) for op in sorted(layer_of)
    ]
    return pairs, notes


def _weight_rows(model: str, layer: str, tensor: Tensor, values: Array) -> list[dict[str, Any]]:
    rows = []
    for channel in range(-1, len(values)):
        part = values if channel < 0 else values[channel]
        row: dict[str, Any] = {
            "file": model, "layer": layer, "tensor": tensor.name, "kind": "weight",
            "channel": channel, "count": part.size, "nan": int(np.isnan(part).sum()),
            "inf": int(np.isinf(part).sum()), "min": float(part.min()), "max": float(part.max()),
            "mean": float(part.mean()), "std": float(part.std()), "index": tensor.index,
            **stored_columns(tensor.affine, channel),
        }
        row |= dict(zip(("p0_1", "p50", "p99_9"), np.percentile(part, [0.1, 50, 99.9]).tolist(),
                        strict=True))
        rows.append(row)
    return rows
