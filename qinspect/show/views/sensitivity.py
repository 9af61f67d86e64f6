"""What each layer costs, and the curve of accuracy against size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qinspect.show import figures, text
from qinspect.show.table import Table, table
from qinspect.show.view import View

if TYPE_CHECKING:
    import pandas as pd

    from qinspect.measure.layer_cost import Sensitivity


def view(found: Sensitivity) -> View:
    """The view of a sensitivity analysis."""
    ends = found.layers[found.layers["variant"].isin(["float", "full"])]
    return View(
        f"Sensitivity of {len(found.order)} layers, {found.n:,} examples",
        (found.sentence,),
        (_ends(ends, found.precision), layer_table(found), curve_table(found)),
        {"layers": lambda: figures.sensitivity_bars(found.layers),
         "curve": lambda: figures.sensitivity_curve(found.curve, found.margin_pp)}
        if found.labelled else {},
        notes=(*found.notes, *_level(found)),
    )


def _ends(rows: pd.DataFrame, precision: str) -> Table:
    return table("Whole files", rows, {
        "file": lambda row: "float" if row["variant"] == "float" else f"all {precision}",
        "size": ("bytes", text.size), "output SQNR": ("sqnr_db", text.decibels),
        "accuracy": ("accuracy", text.percent)})


def layer_table(found: Sensitivity) -> Table:
    """One row a layer: only it quantized, and everything but it."""
    only = found.layers[found.layers["variant"] == "only"].to_dict("records")
    others = found.layers[found.layers["variant"] == "all_but"].to_dict("records")
    rows = [{"layer": a["layer"], "op": a["op"], "only": a, "but": b}
            for a, b in zip(only, others, strict=True)]
    columns: dict[str, Any] = {"layer": "layer", "operator": "op"}
    columns |= _cost(f"only it {found.precision}", "only")
    columns |= _cost(f"all but it ({found.keep})", "but")
    return table(f"One layer at a time, {found.n:,} examples", rows, columns,
                 spare=("operator",))


def _cost(head: str, key: str) -> dict[str, Any]:
    def of(*names: str) -> Any:
        def get(row: dict[str, Any]) -> Any:
            values = tuple(row[key][name] for name in names)
            return values if len(values) > 1 else values[0]
        return get

    return {f"{head}: SQNR": (of("sqnr_db"), text.decibels),
            f"{head}: to float, points": (of("to_float_pp"), text.points),
            f"{head}: interval": (of("to_float_low_pp", "to_float_high_pp"), text.interval),
            f"{head}: agrees with float": (lambda row: row[key]["agreement"]
                if text.missing(row[key]["accuracy"]) else None, text.percent)}


def curve_table(found: Sensitivity) -> Table:
    """One row a point: how many of the most sensitive layers are kept, and what it costs."""
    def bounds(to: str) -> Any:
        return lambda row: (row[f"{to}_low_pp"], row[f"{to}_high_pp"])

    full = f"to all {found.precision}"
    return table(f"Keeping the most sensitive layers in {found.keep}", found.curve, {
        "kept": "kept", "the last one kept": "layer", "size": ("bytes", text.size),
        "SQNR": ("sqnr_db", text.decibels), "accuracy": ("accuracy", text.percent),
        "agrees with float": (lambda row: None if found.labelled else row["agreement"],
                              text.percent),
        "to float, points": ("to_float_pp", text.points),
        "interval": (bounds("to_float"), text.interval),
        f"{full}, points": ("to_full_pp", text.points),
        f"{full}, interval": (bounds("to_full"), text.interval),
    }, spare=(f"{full}, interval", f"{full}, points", "SQNR"))


def _level(found: Sensitivity) -> tuple[str, ...]:
    level = f"{100 * found.confidence:g} %"
    return (f"intervals are {level} each, not corrected for the number of layers.",
            ) if found.labelled else ()
