"""What was trained: a study, a sweep of studies, robust QAT."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pandas as pd

from qinspect.metrics import ACCURACY, Metric
from qinspect.show import figures, text
from qinspect.show.table import Table, table
from qinspect.show.view import Section, View, widget
from qinspect.show.views.predictions import comparison_table, resamples
from qinspect.stats import mean_interval

if TYPE_CHECKING:
    from qinspect.show.figure import Figure
    from qinspect.studies.stored import Study, Sweep
    from qinspect.train.robust import RobustQat


def study_view(study: Study) -> View:
    """The view of a finished study."""
    summary = study.summary
    spec = summary["spec"]
    pairs = comparison_table(summary["comparisons"], study.results.metric)
    return View(
        f"Study: {spec['dataset']}, {spec['model']}, seed {spec['seed']}",
        (*headline(summary), study.about_training),
        (arm_table(study), part_table(study)),
        _figures(study),
        (Section("All comparisons", tables=(pairs,), folded=True),
         Section("Settings and versions", tables=(_settings(summary),), folded=True)),
        tuple(summary["notes"]),
        explore=widget("Dashboard", study),
        layers=study.layers,
    )


def headline(summary: dict[str, Any]) -> tuple[str, ...]:
    """The sentences to take away: QAT against PTQ, and PTQ against float."""
    return (_pair(summary, "ptq_int8", "qat")["sentence"],
            _pair(summary, "float", "ptq_int8")["sentence"])


def arm_table(study: Study) -> Table:
    """One row a model."""
    summary, results = study.summary, study.results
    spec, metric = summary["spec"], results.metric
    to_float = {row["b"]: row for row in summary["comparisons"] if row["a"] == "float"}

    def paired(key: str) -> Any:
        return lambda arm: to_float.get(arm["arm"], {}).get(key)

    def verdict(arm: dict[str, Any]) -> str:
        row = to_float.get(arm["arm"])
        return "reference" if row is None else text.verdict(row["verdict"], "float", arm["arm"])

    percent = f"{100 * spec['confidence']:g} %"
    return table(
        "Models", summary["arms"],
        {"arm": "arm", "what it is": "title", "format": lambda arm: arm["scheme"] or "Keras",
         "verdict": verdict,
         metric.title: (lambda arm: results.value(arm["arm"]), text.value_of(metric)),
         text.headed("to float", metric.unit): (paired("gap"), text.gap_of(metric)),
         f"{percent} of it": (paired("interval"), text.interval_of(metric)),
         "p": (paired("p"), text.p_value), "size": ("bytes", text.size)},
        caption=f"{spec['dataset']} with {spec['model']}, seed {spec['seed']}: "
                f"{spec['float_epochs']} float and {spec['qat_epochs']} QAT epoch(s); "
                f"{summary['arms'][0]['n']:,} test examples, the same ones for every model. The "
                f"format is read from the file, not from its name. {text.lower(metric)}".rstrip(),
        spare=("what it is", "size", "format"),
    )


def part_table(study: Study) -> Table:
    """The parts of the gap QAT - PTQ and their sum."""
    gap, metric = _pair(study.summary, "ptq_int8", "qat"), study.results.metric
    rows = [*study.summary["decomposition"],
            {"title": "sum: the gap", "diff_pp": gap["gap"], "ci_pp": gap["interval"]}]
    return table("Where the gap qat - ptq_int8 comes from", rows, {
        "part": "title", metric.unit or "difference": ("diff_pp", text.gap_of(metric)),
        "interval": ("ci_pp", text.interval_of(metric))})


def _pair(summary: dict[str, Any], a: str, b: str) -> dict[str, Any]:
    return next(row for row in summary["comparisons"] if (row["a"], row["b"]) == (a, b))


def _figures(study: Study) -> dict[str, Any]:
    summary = study.summary
    gap, metric = _pair(summary, "ptq_int8", "qat")["gap"], study.results.metric
    rows = study.results.frame
    sized = rows.assign(bytes=rows["model"].map(study.runs.set_index("arm")["bytes"]))
    apart = {} if metric.kind == "set" else {
        "disagreement": lambda: figures.discordance(
            pd.DataFrame(summary["comparisons"]), right=study.results.right_or_wrong)}
    observers = study.observers[study.observers["phase"] == "qat"]
    return {
        metric.id: lambda: figures.accuracy_forest(rows, metric),
        "gap": lambda: figures.waterfall(summary["decomposition"], gap, metric,
                                         total="qat - ptq_int8"),
        **apart,
        "resamples": lambda: resamples(study.results, "ptq_int8", "qat"),
        "learning": lambda: figures.learning_curves(study.history),
        "observers": lambda: figures.observer_ranges(observers),
        "size": lambda: figures.accuracy_size(sized, metric),
    }


def _settings(summary: dict[str, Any]) -> Table:
    made = summary["environment"]
    rows = [*summary["spec"].items(), ("python", made.get("python")),
            ("system", f"{made.get('system', '')} {made.get('machine', '')}".strip() or None),
            *made.get("packages", {}).items(), *made.get("training", {}).items()]
    return Table(("setting", "value"), (text.plain, text.plain), tuple(rows))


_GAPS = {
    "qat_minus_ptq_pp": "QAT - PTQ",
    "ptq_minus_float_pp": "PTQ - float",
    "ptq_ft_minus_ptq_pp": "more training",
    "qat_minus_ptq_ft_pp": "QAT - equally trained PTQ",
}


def sweep_view(sweep: Sweep) -> View:
    """The view of a sweep."""
    failed = sweep.frame[sweep.frame["status"] == "failed"].to_dict("records")
    return View(
        f"Sweep of {len(sweep.frame)} runs",
        (*sweep.finding,
         *(f"{name}: {compared.sentence}" for name, compared in sweep.seeds.items())),
        (group_table(sweep),),
        dict(_sweep_figures(sweep)),
        notes=tuple(f"failed: {row['dataset']}, {row['model']}, seed {row['seed']}: {row['error']}"
                    for row in failed),
    )


def group_table(sweep: Sweep) -> Table:
    """Median and range over runs of each gap, one row an experiment."""
    rows = [{"experiment": name, **_gaps(rows[rows["status"] == "finished"])}
            for name, rows in sweep.experiments.items()]
    metric = _metric(sweep)
    gap = text.gap_of(metric)

    def spread(found: tuple[float, float, float]) -> str:
        return f"{gap(found[0])} ({gap(found[1])} to {gap(found[2])})"

    return table(text.headed("Median over runs (lowest to highest)", metric.unit), rows, {
        "experiment": "experiment", "runs": "runs",
        **{title: (column, spread) for column, title in _GAPS.items()}},
        caption=text.lower(metric))


def _metric(sweep: Sweep) -> Metric:
    """The metric of a sweep's runs; a table alone is of accuracies."""
    return next((found.metric for found in sweep.seeds.values()), ACCURACY)


def _gaps(done: pd.DataFrame) -> dict[str, Any]:
    values = {column: done[column].dropna().astype(float) for column in _GAPS if column in done}
    return {"runs": len(done), **{
        column: (float(gap.median()), float(gap.min()), float(gap.max()))
        for column, gap in values.items() if len(gap)}}


def _sweep_figures(sweep: Sweep) -> Iterator[tuple[str, Callable[[], Figure]]]:
    for name, rows in sweep.experiments.items():
        done, compared = rows[rows["status"] == "finished"], sweep.seeds.get(name)
        if compared is not None:
            yield name, _seeds(name, done, compared.interval, compared.metric)
        elif len(done) > 1:
            # A table alone knows nothing of single examples.
            interval = mean_interval(done["qat_minus_ptq_pp"].to_numpy())
            yield name, _seeds(name, done, interval, ACCURACY, same_examples=True)


def _seeds(
    name: str, rows: pd.DataFrame, interval: tuple[float, float], metric: Metric, *,
    same_examples: bool = False,
) -> Callable[[], Figure]:
    ends = {f"qat_minus_ptq{end}_pp": end.strip("_") or "gap" for end in ("", "_low", "_high")}
    return lambda: figures.seeds_plot(
        rows.rename(columns=ends), interval, same_examples=same_examples, metric=metric).about(name)


def robust_qat_view(found: RobustQat) -> View:
    """The view of a run of robust QAT."""
    settings = table("What was done", list(asdict(found.record).items()), {
        "setting": lambda pair: pair[0], "value": (lambda pair: pair[1], text.plain)})
    drawn = {} if found.history.empty else {
        "learning": lambda: figures.learning_curves(found.history),
        "observers": lambda: figures.observer_ranges(found.observers)}
    return View("Robust QAT", (found.sentence,), (settings,), drawn)
