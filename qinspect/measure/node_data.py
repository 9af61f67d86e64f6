"""What was measured of each layer of a file, as node data of the graph viewer Model Explorer."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from qinspect import store
from qinspect.data.dataset import Dataset
from qinspect.data.sources import Source
from qinspect.errors import DataError
from qinspect.measure.layer_cost import Sensitivity, sensitivity
from qinspect.measure.layer_tables import EXAMPLES, Layers
from qinspect.measure.layer_tables import layers as measure
from qinspect.shown import Shown
from qinspect.tflite.graph import Graph
from qinspect.tflite.inputs import File, Preprocessing, named_files
from qinspect.tflite.sandbox import open_model
from qinspect.verdicts import counted

OVERLAY = ("file", "graph", "quantity", "layer", "node", "value")
# Of each quantity: its title in the viewer, and the colour of the end that speaks of trouble.
QUANTITIES = {
    "own-error": ("own error, %", "high"),
    "accumulated-error": ("accumulated error, %", "high"),
    "clipped": ("clipped, %", "high"),
    "range-use": ("range in use, %", "low"),
    "cost": ("cost of quantizing it alone", "high"),
    "recovered": ("recovered by keeping it in float", "high"),
}
_PLAIN, _TROUBLE = "#ffffff", "#d55e00"


@dataclass(frozen=True)
class Overlay(Shown):
    """Numbers of the layers of quantized files, by the names that the viewer knows them by.

    Attributes
    ----------
    frame : DataFrame
        Columns ``OVERLAY``, one row a file, quantity and layer; ``node`` is the name of the
        layer's output tensor in the file, ``graph`` the id of the viewer's graph.
    unit : str
        Of the quantities "cost" and "recovered"; "" where they were not measured.
    examples : int
        That activations and errors were measured on.
    notes : tuple of str
        What could not be measured, and why.
    """

    frame: pd.DataFrame
    unit: str
    examples: int
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """How many layers have numbers, and of what."""
        files = ", ".join(
            f"{file}: {counted(rows['node'].nunique(), 'layer')}"
            for file, rows in self.frame.groupby("file", sort=False))
        return (f"Measured on {counted(self.examples, 'example')}: {files}; quantities: "
                f"{', '.join(self.frame['quantity'].unique())}.")

    def to_json(self) -> dict[str, Any]:
        """Node data by file and quantity, each as the viewer loads it, and notes."""
        return {"overlays": {f"{file} {quantity}": data
                             for (file, quantity), data in self.node_data().items()},
                "examples": self.examples, "notes": list(self.notes)}

    def node_data(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Of each file and quantity what the viewer loads: values and colours by graph and node."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for key, rows in self.frame.groupby(["file", "quantity"], sort=False):
            file, quantity = map(str, key)
            title, trouble = QUANTITIES[quantity]
            if quantity in ("cost", "recovered"):
                title = f"{title}, {self.unit}" if self.unit else title
            ends = (_PLAIN, _TROUBLE) if trouble == "high" else (_TROUBLE, _PLAIN)
            found[file, quantity] = {rows["graph"].iloc[0]: {
                "name": title,
                "results": {node: {"value": float(f"{value:.4g}")} for node, value in
                            zip(rows["node"], rows["value"].tolist(), strict=True)},
                "gradient": [{"stop": stop, "bgColor": colour}
                             for stop, colour in enumerate(ends)],
            }}
        return found

    def save(self, path: str | os.PathLike[str]) -> list[Path]:
        """Write a page of numbers for each file and quantity: the viewer takes one at a time.

        ``overlays.json`` becomes ``overlays-int8-own-error.json`` and so on.
        """
        whole, written = Path(path), []
        for (file, quantity), data in self.node_data().items():
            stem = re.sub(r"[^\w.-]+", "_", Path(file).stem)[:80]
            written.append(whole.with_name(f"{whole.stem}-{stem}-{quantity}.json"))
            store.write_json(written[-1], data)
        return written


def overlay(
    files: Sequence[File] | Mapping[str, File], data: File | Source | Dataset, *,
    examples: int = EXAMPLES, costs: bool = False, preprocessing: Preprocessing | None = None,
) -> Overlay:
    """What each layer of quantized files does, to be laid over their graphs in Model Explorer.

    Parameters
    ----------
    files : sequence of path, or mapping of name to path
        ``.tflite`` files, the float one first.
    data : path, Source or Dataset
        Examples as the float model takes them; labels are needed for ``costs``.
    examples : int
        Leading examples that ranges and errors are measured on.
    costs : bool
        Measure as well, on all examples, what quantizing each layer alone costs with the ranges
        that the file stores, and what keeping it alone in float brings back.
    preprocessing : Preprocessing, optional
        What to do to ``x``.

    Returns
    -------
    Overlay

    Raises
    ------
    DataError
        If there is no quantized file, the first one is no float file, or nothing could be measured.
    ModelFileError
        If a file cannot be read or run.

    Examples
    --------
    >>> found = overlay(["float.tflite", "int8.tflite"], "data.npz")
    >>> sorted(found.frame["quantity"].unique())
    ['accumulated-error', 'clipped', 'own-error', 'range-use']
    """
    named = named_files(files)
    if len(named) < 2:
        raise DataError("one file alone has no error; give the float file and then those that "
                        "were made from it.")
    graphs = {name: open_model(file) for name, file in named.items()}
    found = measure(graphs, data, examples=examples, preprocessing=preprocessing)
    reference = next(iter(graphs.values()))
    notes, unit, rows = list(found.notes), "", list(_rows(found, graphs))
    for name, graph in list(graphs.items())[1:] if costs else []:
        cost = sensitivity(reference, data, like=graph, preprocessing=preprocessing)
        notes += [f"{name}: {note}" for note in cost.notes]
        if cost.metric is None:
            raise DataError("costs are differences of a metric, which takes labels; leave costs "
                            "out, or give data with labels.")
        unit = cost.metric.unit
        rows += _cost_rows(found, name, graph, cost)
    frame = pd.DataFrame(rows, columns=list(OVERLAY))
    lost = frame["value"].isna()
    notes += [f"{row['file']}: {row['quantity']} of {row['layer']} is not defined and left out."
              for row in frame[lost].to_dict("records")]
    if lost.all():
        raise DataError(f"no layer could be measured: {'; '.join(notes) or 'none matches'}")
    return Overlay(frame[~lost].reset_index(drop=True), unit, found.examples,
                   tuple(dict.fromkeys(notes)))


def graph_id(graph: Graph) -> str:
    """What the viewer calls the main graph of a file."""
    return graph.main.name or next(iter(graph.signatures), "main")


def _rows(found: Layers, graphs: Mapping[str, Graph]) -> Iterator[tuple[Any, ...]]:
    """Errors and ranges of every layer of the quantized files."""
    clipping = found.clipping()
    for name in found.models[1:]:
        values: list[tuple[str, str, float]] = []
        if name in found.errors:
            errors = found.errors[name].errors
            for quantity, reference in (("own-error", "local"),
                                        ("accumulated-error", "accumulated")):
                own = errors[errors["reference"] == reference]
                values += [(quantity, layer, 100 * 10 ** (-noise / 20)) for layer, noise in
                           zip(own["layer"], own["sqnr_db"].astype(float), strict=True)]
        own = clipping[(clipping["file"] == name) & (clipping["kind"] == "activation")]
        values += [("clipped", layer, 100 * share) for layer, share in
                   zip(own["layer"], own["clipped_share"].astype(float), strict=True)]
        values += [("range-use", str(layer), 100 * share) for layer, share in
                   _range_use(found, name).items()]
        yield from _placed(found, name, graphs[name], values)


def _range_use(found: Layers, name: str) -> pd.Series[float]:
    """Share of each stored range between the least and the greatest value of the float network."""
    both = found.stored_against_observed(name).drop_duplicates("layer").set_index("layer")
    both = both[both["stored_min"].notna()].astype(float)
    low, high = (both[end].clip(both["stored_min"], both["stored_max"]) for end in ("min", "max"))
    width = both["stored_max"] - both["stored_min"]
    return (high - low) / width.where(width > 0)


def _cost_rows(found: Layers, name: str, graph: Graph, cost: Sensitivity
               ) -> Iterator[tuple[Any, ...]]:
    """What quantizing each layer alone costs, and what keeping it alone brings back."""
    assert cost.metric is not None
    outputs = {row["index"]: row["layer"]
               for row in _outputs(found, found.models[0]).to_dict("records")}
    layer_of = {operator.name: outputs.get(cost.graph.main.operators[operator.index].outputs[0])
                for operator in cost.order}
    better = cost.metric.better
    values = []
    for row in cost.layers.to_dict("records"):
        layer = layer_of.get(row["layer"])
        if layer is None or row["variant"] not in ("only", "all_but"):
            continue
        alone = row["variant"] == "only"
        values.append(("cost" if alone else "recovered", layer,
                       -better * row["to_float"] if alone else better * row["to_full"]))
    yield from _placed(found, name, graph, values)


def _placed(found: Layers, name: str, graph: Graph, values: list[tuple[str, str, float]]
            ) -> Iterator[tuple[Any, ...]]:
    """Rows of the frame: the values of layers whose output the file has."""
    nodes = {row["layer"]: row["tensor"] for row in _outputs(found, name).to_dict("records")}
    for quantity, layer, value in values:
        if layer in nodes:
            yield name, graph_id(graph), quantity, layer, nodes[layer], float(value)


def _outputs(found: Layers, name: str) -> pd.DataFrame:
    """The output tensor of every layer of a file."""
    rows = found.of("activation", name)
    return rows[rows["channel"] == -1]
