"""A sweep: each experiment over its runs, how often PTQ is ahead, what failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from qinspect.show import figures, text
from qinspect.show.table import Table, table
from qinspect.show.view import View
from qinspect.stats import mean_interval

if TYPE_CHECKING:
    from qinspect.show.figure import Figure
    from qinspect.studies.stored import Sweep

_GAPS = {
    "qat_minus_ptq_pp": "QAT - PTQ",
    "ptq_minus_float_pp": "PTQ - float",
    "ptq_ft_minus_ptq_pp": "more training",
    "qat_minus_ptq_ft_pp": "QAT - equally trained PTQ",
}


def view(sweep: Sweep) -> View:
    """The view of a sweep."""
    failed = sweep.frame[sweep.frame["status"] == "failed"].to_dict("records")
    return View(
        f"Sweep of {len(sweep.frame)} runs",
        (*sweep.finding,
         *(f"{name}: {compared.sentence}" for name, compared in sweep.seeds.items())),
        (group_table(sweep),),
        dict(_figures(sweep)),
        notes=tuple(f"failed: {row['dataset']}, {row['model']}, seed {row['seed']}: {row['error']}"
                    for row in failed),
    )


def group_table(sweep: Sweep) -> Table:
    """Median and range over runs of each gap, one row an experiment."""
    rows = [{"experiment": name, **_gaps(rows[rows["status"] == "finished"])}
            for name, rows in sweep.experiments.items()]
    return table("Median over runs (lowest to highest), points", rows, {
        "experiment": "experiment", "runs": "runs",
        **{title: (column, _spread) for column, title in _GAPS.items()}})


def _gaps(done: pd.DataFrame) -> dict[str, Any]:
    values = {column: done[column].dropna().astype(float) for column in _GAPS if column in done}
    return {"runs": len(done), **{
        column: (float(gap.median()), float(gap.min()), float(gap.max()))
        for column, gap in values.items() if len(gap)}}


def _spread(gap: tuple[float, float, float]) -> str:
    middle, low, high = map(text.points, gap)
    return f"{middle} ({low} to {high})"


def _figures(sweep: Sweep) -> Iterator[tuple[str, Callable[[], Figure]]]:
    for name, rows in sweep.experiments.items():
        done, compared = rows[rows["status"] == "finished"], sweep.seeds.get(name)
        if compared is not None:
            yield name, _seeds(name, done, compared.ci_pp)
        elif len(done) > 1:
            # A table alone knows nothing of single examples.
            interval = mean_interval(done["qat_minus_ptq_pp"].to_numpy())
            yield name, _seeds(name, done, interval, same_examples=True)


def _seeds(
    name: str, rows: pd.DataFrame, interval: tuple[float, float], *, same_examples: bool = False
) -> Callable[[], Figure]:
    ends = {f"qat_minus_ptq{end}_pp": f"{end.strip('_') or 'diff'}_pp"
            for end in ("", "_low", "_high")}
    return lambda: figures.seeds_plot(
        rows.rename(columns=ends), interval, same_examples=same_examples).about(name)
