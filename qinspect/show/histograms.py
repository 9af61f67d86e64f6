"""The layers of a report as histograms to work with in the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qinspect.show.style import model_colours

if TYPE_CHECKING:
    from qinspect.measure.clipping import Binned
    from qinspect.measure.layer_tables import Layers

_BITS = 8
_DRAWN = 288  # bins of a series that is only drawn: two a bar


def series(binned: Binned, name: str, colour: str) -> dict[str, Any]:
    """Values as ``static/histogram.js`` takes them."""
    return {"name": name, "colour": colour, "low": binned.low, "width": binned.width,
            "counts": binned.counts.tolist()}


def layer_histograms(layers: Layers) -> list[dict[str, Any]]:
    """What ``static/report.js`` draws: one entry a layer and kind of values.

    Beside ``layer`` and ``kind`` the state that ``static/histogram.js`` mounts: ``series`` (the
    float model first), ``marks`` (stored ranges), ``clip`` (the range of the first file that stores
    one, else the extremes).  Every number is finite, fit for JSON.
    """
    colours = model_colours(layers.models)
    found = []
    for kind in ("weight", "activation"):
        for layer in layers.layers:
            known = {model: binned for model in layers.models
                     if (binned := layers.binned(model, layer, kind)) is not None}
            if known:
                found.append(_entry(layers, layer, kind, known, colours))
    return found


def _entry(layers: Layers, layer: str, kind: str, known: dict[str, Binned],
           colours: dict[str, str]) -> dict[str, Any]:
    rows = layers.of(kind)
    rows = rows[(rows["channel"] == -1) & (rows["layer"] == layer) & rows["stored_min"].notna()]
    marks: list[dict[str, Any]] = [
        {"name": str(row["file"]), "colour": colours[str(row["file"])],
         "low": float(row["stored_min"]), "high": float(row["stored_max"])}
        for row in rows.to_dict("records")
    ]
    name, first = next(iter(known.items()))
    ends = (marks[0]["low"], marks[0]["high"]) if marks else (first.low, first.high)
    return {
        "layer": layer, "kind": kind,
        # What the limits do is worked out on the first; the others are only drawn.
        "series": [series(binned if model == name else binned.coarser(_DRAWN), model,
                          colours[model]) for model, binned in known.items()],
        "marks": marks, "clip": [min(ends[0], 0.0), max(ends[1], 0.0)], "bits": _BITS,
        "symmetric": kind == "weight", "log": True,
        "title": f"{kind} values of {layer} in {name}", "unit": f"{kind}, units of the layer",
    }
