"""Weights, activations and errors of the same layers in several files, ready to be shown."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from qinspect.errors import DataError, QinspectError
from qinspect.measure.activations import activation_statistics
from qinspect.measure.local import LayerErrors, layer_errors
from qinspect.measure.probe import Pair, as_pairs
from qinspect.measure.streaming import Histogram
from qinspect.measure.weights import weight_channels
from qinspect.schema import TENSORS, Array
from qinspect.tflite import match_graphs, read_graph, scheme_of
from qinspect.tflite.graph import Graph, Tensor

if TYPE_CHECKING:
    from qinspect.diagnosis.cases import Case
    from qinspect.studies.stored import Study
    from qinspect.tflite.inputs import Preprocessing

WIDGET_ARMS = ("float", "ptq_int8", "qat")
WIDGET_EXAMPLES = 128


@dataclass(frozen=True)
class LayerTables:
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
    """

    models: tuple[str, ...]
    layers: tuple[str, ...]
    tensors: pd.DataFrame
    weights: dict[tuple[str, str], Array]
    activations: dict[tuple[str, str], Histogram]
    errors: dict[str, LayerErrors] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    examples: int = 0

    def of(self, kind: str, model: str | None = None) -> pd.DataFrame:
        """Rows of one kind, of one model or of all."""
        rows = self.tensors[self.tensors["kind"] == kind]
        return rows if model is None else rows[rows["file"] == model]

    def stored_against_observed(self, model: str) -> pd.DataFrame:
        """Activation ranges that a file stores beside those that occur in the float network.

        Returns
        -------
        DataFrame
            ``layer``, ``min``, ``max``, ``p0_1``, ``p99_9`` of the float network and
            ``stored_min``, ``stored_max`` of ``model``.
        """
        stored = self.of("activation", model)[["layer", "stored_min", "stored_max"]]
        seen = self.of("activation", self.models[0])[["layer", "min", "max", "p0_1", "p99_9"]]
        return stored.merge(seen, on="layer", how="inner")


def layer_tables(files: Mapping[str, Graph], x: Array | None) -> LayerTables:
    """Measure the layers of a float file and of the files made from it.

    Parameters
    ----------
    files : mapping of name to Graph
        The float file first.
    x : ndarray, shape (n, ...), or None
        Examples in the units of the float input; without them only weights are read.

    Returns
    -------
    LayerTables

    Raises
    ------
    DataError
        If there is no file, or the first one is not float32.
    """
    names = tuple(files)
    if not names or scheme_of(files[names[0]]) != "float32":
        found = scheme_of(files[names[0]]) if names else "nothing"
        raise DataError(f"the first file must be float32 to compare with, but it is {found}.")
    reference = files[names[0]]
    pairs, notes = _pairs(files)
    records: list[dict[str, Any]] = []
    weights: dict[tuple[str, str], Array] = {}
    activations: dict[tuple[str, str], Histogram] = {}
    errors: dict[str, LayerErrors] = {}
    for name in names:
        graph, known = files[name], pairs[name]
        for pair in known:
            own = weight_channels(graph, pair.op_b)
            if own is not None:
                tensor, weights[name, pair.layer] = own
                records += _weight_rows(name, pair.layer, tensor, weights[name, pair.layer])
        if x is None:
            continue
        try:
            seen = activation_statistics(graph, x, {p.output_b: p.layer for p in known})
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
    frame = pd.DataFrame.from_records(records, columns=list(TENSORS))
    layers = tuple(pair.layer for pair in pairs[names[0]])
    examples = 0 if x is None else len(x)
    return LayerTables(
        names, layers, frame, weights, activations, errors, tuple(dict.fromkeys(notes)), examples
    )


def study_layer_tables(
    study: Study, arms: tuple[str, ...] = WIDGET_ARMS, examples: int = WIDGET_EXAMPLES
) -> LayerTables:
    """The layers of a study's arms, measured on its first test examples.

    Parameters
    ----------
    study : Study
    arms : tuple of str
        Arms to show, the float one first; those that the study lacks are left out.
    examples : int
        Test examples to run.

    Returns
    -------
    LayerTables
        Without activations, and with a note, where the data set cannot be loaded.
    """
    from qinspect.studies.run import load_splits

    files = {arm: read_graph(study.file(arm)) for arm in arms if arm in study.arms}
    try:
        x: Array | None = load_splits(study.spec).test.x[:examples]
    except QinspectError as error:
        tables = layer_tables(files, None)
        note = f"no activations and errors: {error}"
        return LayerTables(
            tables.models, tables.layers, tables.tensors, tables.weights, {}, {},
            (*tables.notes, note),
        )
    return layer_tables(files, x)


def case_layer_tables(case: Case, examples: int = WIDGET_EXAMPLES) -> LayerTables | None:
    """The layers of the files of a case, measured on its first evaluation examples.

    Parameters
    ----------
    case : Case
    examples : int
        Evaluation examples to run.

    Returns
    -------
    LayerTables or None
        None where there is no float file to compare with.
    """
    found = ((role, case.graph(role)) for role in case.roles)
    files = {role: graph for role, graph in found if graph is not None}
    if scheme_of(next(iter(files.values()))) != "float32":
        return None
    return layer_tables(files, None if case.data is None else case.data.x[:examples])


def compared_layer_tables(
    files: Sequence[str | os.PathLike[str]],
    data: str | os.PathLike[str],
    how: Sequence[Preprocessing],
    examples: int = WIDGET_EXAMPLES,
) -> LayerTables | None:
    """The layers of compared files, measured on the first examples of a data file.

    Parameters
    ----------
    files, data, how
        As for :func:`qinspect.study.compare.compare_files`.
    examples : int
        Examples to run.

    Returns
    -------
    LayerTables or None
        Of the first float32 file and those that follow it and take the same units; None where
        there is no float32 file.
    """
    from qinspect.comparisons import file_names
    from qinspect.tflite.inputs import load_examples, prepare

    graphs = {name: read_graph(file) for name, file in zip(file_names(files), files, strict=True)}
    ways = dict(zip(graphs, how, strict=True))
    first = next((name for name, graph in graphs.items() if scheme_of(graph) == "float32"), None)
    if first is None:
        return None
    chosen = [first, *(name for name in graphs if name != first and ways[name] == ways[first])]
    x, _ = prepare(load_examples(data)[0].x[:examples], graphs[first], ways[first])
    return layer_tables({name: graphs[name] for name in chosen}, x)


def _pairs(files: Mapping[str, Graph]) -> tuple[dict[str, list[Pair]], list[str]]:
    """Operators of each file that do the work of one of the float file, under one name each."""
    names = tuple(files)
    reference = files[names[0]]
    pairs: dict[str, list[Pair]] = {}
    notes: list[str] = []
    layer_of: dict[int, str] = {}
    outputs: dict[int, int] = {}
    for name in names[1:] or names:
        found = as_pairs(match_graphs(reference, files[name]), reference, files[name])
        for pair in found:
            if pair.op_a not in layer_of:
                taken = pair.layer in layer_of.values()
                layer_of[pair.op_a] = f"{pair.layer} ({pair.op_a})" if taken else pair.layer
                outputs[pair.op_a] = pair.output_a
        pairs[name] = [pair._replace(layer=layer_of[pair.op_a]) for pair in found]
        lost = len(reference.main.operators) - len(found)
        if lost > 0:
            notes.append(f"{name}: {lost} operators of {names[0]} have no counterpart in it.")
    pairs[names[0]] = [
        Pair(op, op, layer_of[op], outputs[op], outputs[op]) for op in sorted(layer_of)
    ]
    return pairs, notes


def _weight_rows(model: str, layer: str, tensor: Tensor, values: Array) -> list[dict[str, Any]]:
    affine = tensor.affine
    nan = float("nan")
    rows = []
    for channel in range(-1, len(values)):
        part = values if channel < 0 else values[channel]
        row: dict[str, Any] = {
            "file": model, "layer": layer, "tensor": tensor.name, "kind": "weight",
            "channel": channel, "count": part.size, "nan": int(np.isnan(part).sum()),
            "inf": int(np.isinf(part).sum()), "min": float(part.min()), "max": float(part.max()),
            "mean": float(part.mean()), "std": float(part.std()), "scale": nan,
            "zero_point": nan, "stored_min": nan, "stored_max": nan, "index": tensor.index,
        }
        row |= dict(zip(("p0_1", "p50", "p99_9"), np.percentile(part, [0.1, 50, 99.9]).tolist(),
                        strict=True))
        if affine is not None:
            whole = affine.scale.size > 1 and channel < 0
            at = slice(None) if whole else channel if affine.scale.size > 1 else 0
            row["stored_min"] = float(np.min(affine.real_low[at]))
            row["stored_max"] = float(np.max(affine.real_high[at]))
            if not whole:
                row["scale"] = float(affine.scale[at])
                row["zero_point"] = int(affine.zero_point[at])
        rows.append(row)
    return rows
