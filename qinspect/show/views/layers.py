"""The same layers in several files: ranges, errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qinspect.show import figures, text
from qinspect.show.table import Table, table
from qinspect.show.view import View

if TYPE_CHECKING:
    from qinspect.measure.layer_tables import Layers
    from qinspect.show.figure import Figure


def view(layers: Layers) -> View:
    """The view of measured layers."""
    return View(
        f"{len(layers.layers)} layers of {', '.join(layers.models)}",
        (layers.sentence,),
        tuple(filter(None, (*(error_table(layers, model) for model in layers.errors),
                            range_table(layers)))),
        {**{f"error of {model}": _of(_profile, layers, model) for model in layers.errors},
         **{f"ranges of {model}": _of(_ranges, layers, model) for model in layers.models[1:]
            if layers.activations},
         **({"weights": lambda: figures.weight_ranges(layers.of("weight")),
             "channels": lambda: figures.channel_ranges(layers.most_unequal())}
            if layers.weights else {})},
        notes=layers.notes, explore=lambda: _explore(layers), layers=lambda: layers,
    )


def error_table(layers: Layers, model: str) -> Table:
    """Errors of every layer of one file, in the order of execution."""
    frame = layers.errors[model].errors
    rows = [{**row, "accumulated": other} for row, other in zip(
        frame[frame["reference"] == "local"].to_dict("records"),
        frame[frame["reference"] == "accumulated"]["sqnr_db"], strict=False)]
    return table(f"Errors of {model}", rows, {
        "layer": "layer", "operator": "op", "own SQNR": ("sqnr_db", text.decibels),
        "accumulated": ("accumulated", text.decibels),
        "RMSE / scale": ("rmse_over_scale", "{:.2f}".format),
        "clipped": ("clipped_share", text.percent),
        "bits used": ("effective_bits", "{:.1f}".format),
    }, spare=("operator", "RMSE / scale"))


def range_table(layers: Layers) -> Table:
    """Stored ranges, and what they do to the float model's values."""
    return table("Stored ranges and what they do to the float model's values, 8 bits",
                 layers.clipping().to_dict("records"), {
        "layer": "layer", "values": "kind", "file": "file",
        "occurring": (lambda row: (row["min"], row["max"]), text.span),
        "stored": (lambda row: (row["stored_min"], row["stored_max"]), text.span),
        "clipped": ("clipped_share", text.percent), "SQNR": ("sqnr_db", text.decibels)})


def _profile(layers: Layers, model: str) -> Figure:
    return figures.sqnr_profile(layers.errors[model].errors).about(model)


def _ranges(layers: Layers, model: str) -> Figure:
    return figures.activation_ranges(layers.stored_against_observed(model)).about(model)


def _of(draw: Any, layers: Layers, model: str) -> Any:
    return lambda: draw(layers, model)


def _explore(layers: Layers) -> Any:
    from qinspect.show.widgets import LayerExplorer

    return LayerExplorer(layers)
