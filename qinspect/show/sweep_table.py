"""Print a sweep: one line for each experiment that was repeated, the finding, what failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.markup import escape
from rich.table import Table

from qinspect.show import text
from qinspect.studies.sweep_summary import sweep_finding, sweep_groups

if TYPE_CHECKING:
    from rich.console import Console

    from qinspect.stats import SeedComparison

_GAPS = {
    "qat_minus_ptq_pp": "QAT - PTQ",
    "ptq_minus_float_pp": "PTQ - float",
    "ptq_ft_minus_ptq_pp": "more training",
    "qat_minus_ptq_ft_pp": "QAT - equally trained PTQ",
}


def print_sweep(frame: pd.DataFrame, seeds: dict[str, SeedComparison], console: Console) -> None:
    """Print the table of a sweep for people.

    Parameters
    ----------
    frame : DataFrame
        A sweep's table, as ``run_sweep`` returns it.
    seeds : dict of str -> SeedComparison
        What ``sweep_seeds`` returns; may be empty.
    console : rich.console.Console
        Where to print.
    """
    console.print(group_table(frame))
    for line in sweep_finding(frame):
        console.print(text.printable(line), markup=False)
    for name, compared in seeds.items():
        console.print(text.printable(f"{name}: {compared.sentence}"), markup=False)
    for _, row in frame[frame["status"] == "failed"].iterrows():
        console.print(
            text.printable(f"failed: {row['dataset']}, {row['model']}, seed {row['seed']}: "
                           f"{row['error']}"),
            markup=False,
        )


def group_table(frame: pd.DataFrame) -> Table:
    """Median and range over seeds of each gap, one row an experiment."""
    table = Table(title="median over runs (lowest to highest), points", title_justify="left")
    table.add_column("experiment")
    table.add_column("runs", justify="right", no_wrap=True)
    for title in _GAPS.values():
        table.add_column(title, justify="right")
    for name, rows in sweep_groups(frame):
        done = rows[rows["status"] == "finished"]
        cells = [_cell(done[column]) if len(done) else "" for column in _GAPS]
        table.add_row(escape(text.printable(name)), str(len(done)), *cells)
    return table


def sweep_json(frame: pd.DataFrame, seeds: dict[str, SeedComparison]) -> dict[str, Any]:
    """The table, the finding and ``seeds`` as a JSON object; what a run lacks is null."""
    plain = frame.astype(object).where(frame.notna(), None)
    return {
        "runs": plain.to_dict(orient="records"),
        "finding": sweep_finding(frame),
        "seeds": {name: compared.to_json() for name, compared in seeds.items()},
    }


def _cell(gap: pd.Series) -> str:
    values = gap.astype(float)
    return (
        f"{text.points(values.median())} "
        f"({text.points(values.min())} to {text.points(values.max())})"
    )
