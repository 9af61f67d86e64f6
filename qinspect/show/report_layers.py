"""The layers of a report: histograms to work in the page, and a table that says the same."""

from __future__ import annotations

from typing import Any

import numpy as np

from qinspect.errors import DataError
from qinspect.show.clipping import Binned, clip_effect
from qinspect.show.layer_tables import LayerTables
from qinspect.show.plots.style import arm_colour

_BITS = 8
_DRAWN = 288  # bins of a series that is only drawn: two a bar


def layer_histograms(tables: LayerTables) -> list[dict[str, Any]]:
    """What ``static/report.js`` draws: one entry a layer and kind of values.

    Parameters
    ----------
    tables : LayerTables

    Returns
    -------
    list of dict
        ``layer``, ``kind``, and the state that ``static/histogram.js`` mounts: ``series`` (the
        float model first), ``marks`` (stored ranges), ``clip`` (the range of the first file that
        stores one, else the extremes), ``bits``, ``symmetric``, ``log``, ``title``, ``unit``.
        Every number is finite, fit for JSON.
    """
    found = []
    for kind in ("weight", "activation"):
        rows = tables.of(kind)
        rows = rows[rows["channel"] == -1]
        for layer in tables.layers:
            series = _series(tables, layer, kind)
            if not series:
                continue
            own = rows[(rows["layer"] == layer) & rows["stored_min"].notna()]
            marks: list[dict[str, Any]] = [
                {"name": str(row["file"]), "colour": arm_colour(str(row["file"])),
                 "low": float(row["stored_min"]), "high": float(row["stored_max"])}
                for row in own.to_dict("records")
            ]
            name, first = next(iter(series.items()))
            ends = (marks[0]["low"], marks[0]["high"]) if marks else (first.low, first.high)
            found.append({
                "layer": layer, "kind": kind,
                # What the limits do is worked out on the first; the others are only drawn.
                "series": [
                    (binned if model == name else binned.coarser(_DRAWN)).series(
                        model, arm_colour(model))
                    for model, binned in series.items()
                ],
                "marks": marks, "clip": [min(ends[0], 0.0), max(ends[1], 0.0)], "bits": _BITS,
                "symmetric": kind == "weight", "log": True,
                "title": f"{kind} values of {layer} in {name}",
                "unit": f"{kind}, units of the layer",
            })
    return found


def _series(tables: LayerTables, layer: str, kind: str) -> dict[str, Binned]:
    found = {model: _binned(tables, model, layer, kind) for model in tables.models}
    return {model: binned for model, binned in found.items() if binned is not None}


def _binned(tables: LayerTables, model: str, layer: str, kind: str) -> Binned | None:
    """Values of a layer in one model; None where there is none, or no finite one."""
    key = (model, layer)
    try:
        if kind == "weight" and key in tables.weights:
            return Binned.values(tables.weights[key])
        if kind == "activation" and key in tables.activations:
            return Binned.of(tables.activations[key])
    except DataError:
        pass
    return None


def layer_range_rows(tables: LayerTables) -> list[dict[str, str]]:
    """Stored ranges and what they do to the float model's values, as text.

    Parameters
    ----------
    tables : LayerTables

    Returns
    -------
    list of dict
        One row a layer, kind and file that stores a range.
    """
    shown = []
    reference = tables.models[0]
    for kind in ("weight", "activation"):
        rows = tables.of(kind)
        rows = rows[(rows["channel"] == -1) & rows["stored_min"].notna()]
        known = {name: _binned(tables, reference, name, kind) for name in rows["layer"].unique()}
        for row in rows.to_dict("records"):
            layer, low, high = str(row["layer"]), row["stored_min"], row["stored_max"]
            values = known[layer]
            cell = {
                "layer": layer, "values": kind, "file": str(row["file"]),
                "occurring": f"{row['min']:.4g} to {row['max']:.4g}",
                "stored": f"{low:.4g} to {high:.4g}", "clipped": "-", "SQNR": "-",
            }
            if values is not None and np.isfinite([low, high]).all() and low <= 0 <= high:
                effect = clip_effect(values, low, high, bits=_BITS, symmetric=kind == "weight")
                cell["clipped"] = f"{100 * effect['clipped_share']:.2f} %"
                cell["SQNR"] = f"{effect['sqnr_db']:.1f} dB"
            shown.append(cell)
    return shown
