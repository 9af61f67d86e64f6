"""Print what each layer costs, and the curve of accuracy against size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from qinspect.show import text

if TYPE_CHECKING:
    from rich.console import Console

    from qinspect.measure.layer_cost import Sensitivity


def print_sensitivity(result: Sensitivity, margin_pp: float, console: Console) -> None:
    """Print a sensitivity analysis for people."""
    for row in result.layers[result.layers["variant"].isin(["float", "full"])].to_dict("records"):
        name = "float" if row["variant"] == "float" else f"all {result.precision}"
        line = f"{name}: {text.size(int(row['bytes']))}, output SQNR {_db(row['sqnr_db'])}"
        if not math.isnan(row["accuracy"]):
            line += f", accuracy {text.percent(row['accuracy'])}"
        console.print(line, markup=False)
    console.print(layer_table(result))
    console.print(curve_table(result))
    for line in sensitivity_sentences(result, margin_pp):
        console.print(line, markup=False)


def layer_table(result: Sensitivity) -> Table:
    """One row a layer: only it quantized, and everything but it."""
    labelled = _labelled(result.layers)
    table = Table(
        title=f"One layer at a time, {result.n:,} examples", title_justify="left", box=SIMPLE
    )
    table.add_column("layer", overflow="fold")
    table.add_column("operator", overflow="fold")
    for name in (f"only it\n{result.precision}", f"all but it\n({result.keep})"):
        table.add_column(f"{name}\nSQNR", justify="right", no_wrap=True)
        table.add_column("to float,\npoints" if labelled else "agrees\nwith float", justify="right")
    only = result.layers[result.layers["variant"] == "only"].to_dict("records")
    others = result.layers[result.layers["variant"] == "all_but"].to_dict("records")
    for a, b in zip(only, others, strict=True):
        cells = [a["layer"], a["op"]]
        for row in (a, b):
            cells += [_db(row["sqnr_db"]), _change(row) if labelled else
                      text.percent(row["agreement"])]
        table.add_row(*map(_plain, cells))
    return table


def curve_table(result: Sensitivity) -> Table:
    """One row a point: how many of the most sensitive layers are kept, and what it costs."""
    labelled = _labelled(result.curve)
    title = f"Keeping the most sensitive layers in {result.keep}"
    table = Table(title=title, title_justify="left", box=SIMPLE)
    table.add_column("kept", justify="right")
    table.add_column("the last one kept", overflow="fold")
    table.add_column("size", justify="right")
    table.add_column("SQNR", justify="right")
    table.add_column("accuracy" if labelled else "agrees with float", justify="right")
    if labelled:
        table.add_column("to float, points", justify="right")
        table.add_column(f"to all {result.precision}, points", justify="right")
    for row in result.curve.to_dict("records"):
        cells = [str(row["kept"]), row["layer"], text.size(int(row["bytes"])),
                 _db(row["sqnr_db"])]
        cells.append(text.percent(row["accuracy" if labelled else "agreement"]))
        if labelled:
            cells += [_change(row), _change(row, "to_full")]
        table.add_row(*map(_plain, cells))
    return table


def sensitivity_sentences(result: Sensitivity, margin_pp: float) -> list[str]:
    """What to take away, and what to mind."""
    lines = []
    if _labelled(result.curve):
        kept = result.proposal(margin_pp)
        if kept is None:
            lines.append(
                f"No point of the curve is shown to lose less than {margin_pp:g} points against "
                f"float with {result.n:,} examples."
            )
        elif kept == 0:
            lines.append(
                f"No layer needs to be kept: with all of them in {result.precision} the loss "
                f"against float is below {margin_pp:g} points "
                f"({100 * result.confidence:g} % interval)."
            )
        else:
            lines.append(
                f"Proposal: keep {kept} layer(s) in {result.keep}; the loss against float is then "
                f"below {margin_pp:g} points ({100 * result.confidence:g} % interval). It was "
                "chosen on these examples: confirm it on others."
            )
        lines.append(
            f"Intervals are {100 * result.confidence:g} % each, not corrected for the number of "
            "layers."
        )
    return [*lines, *result.notes]


def _labelled(frame: pd.DataFrame) -> bool:
    return bool(frame["accuracy"].notna().any())


def _change(row: dict[Any, Any], to: str = "to_float") -> str:
    bounds = (row[f"{to}_low_pp"], row[f"{to}_high_pp"])
    return f"{text.points(row[f'{to}_pp'])} {text.interval(bounds)}"


def _db(value: float) -> str:
    return f"{value:.1f} dB" if math.isfinite(value) else "exact" if value > 0 else f"{value} dB"


def _plain(cell: str) -> str:
    return escape(text.printable(cell))
