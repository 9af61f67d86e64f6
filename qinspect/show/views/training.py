"""What was trained: a study, a sweep of studies, robust QAT."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from qinspect.metrics import METRICS, Metric
from qinspect.show import figures, text
from qinspect.show.table import Table, table
from qinspect.show.view import Section, View, widget
from qinspect.show.views.predictions import (
    IN_FULL,
    MAKES_BETTER,
    answer,
    comparison_table,
    makes_better,
    resamples,
)
from qinspect.stats import mean_interval
from qinspect.studies.arms import ASKED, QUESTION
from qinspect.studies.stored import gap_unit, judged_by
from qinspect.verdicts import counted, difference_words

if TYPE_CHECKING:
    from qinspect.gathering import Gathered
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
        (*(answer(pair, study.results.metric) for pair in _asked(summary)), study.about_training),
        (arm_table(study), part_table(study)),
        _figures(study),
        (Section(IN_FULL, tuple(pair["sentence"] for pair in _asked(summary)), folded=True),
         Section("All comparisons", tables=(pairs,), folded=True),
         Section("Settings and versions", tables=(_settings(summary),), folded=True)),
        tuple(summary["notes"]),
        explore=widget("Dashboard", study),
        layers=study.layers,
    )


def gathered_view(gathered: Gathered) -> View:
    """The view of many studies and diagnoses."""
    rows = gathered.frame
    names = text.short_names(rows["path"])
    shown: dict[str, Callable[[], Figure]] = {}
    for name, part in rows.groupby("metric", sort=False):
        metric = METRICS.get(str(name))
        if metric is not None:
            drawn = part.assign(name=[f"{names[row['path']]}: {row['b']} - {row['a']}"
                                      for row in part.to_dict("records")])
            shown[f"gaps, {metric.title}"] = partial(figures.differences, drawn, metric=metric)

    def ahead(row: dict[str, Any]) -> str:
        metric = METRICS.get(row["metric"])
        if metric is None:
            # One of the user's own: which way is better is not looked up.
            return f"{row['b']} - {row['a']}: {row['gap']:+.4g} {row['unit']}".rstrip()
        better, _, by = metric.lead(row["a"], row["b"], row["gap"], (row["low"], row["high"]))
        return f"{better} by {by}"

    listed = table("Gaps", rows.to_dict("records"), {
        "where": lambda row: names[row["path"]],
        "verdict": lambda row: difference_words(row["verdict"], row["a"], row["b"]),
        "better": ahead,
        "cause": lambda row: "-" if text.missing(row["cause"]) else (
            f"{row['cause']}, {'proved' if row['proved'] else 'not proved'}"),
        "data set": "dataset", "model": "model", "seed": ("seed", "{:.0f}".format),
    }, spare=("model", "data set"))
    return View("Runs", (gathered.sentence,), (listed,), shown, notes=gathered.unread)


def _asked(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """What was asked: QAT against PTQ, and PTQ against float."""
    return [_pair(summary, a, b) for a, b in ASKED]


def arm_table(study: Study) -> Table:
    """One row a model."""
    summary, results = study.summary, study.results
    spec, metric = summary["spec"], results.metric
    to_float = {row["b"]: row for row in summary["comparisons"] if row["a"] == "float"}

    def paired(key: str) -> Any:
        return lambda arm: to_float.get(arm["arm"], {}).get(key)

    def verdict(arm: dict[str, Any]) -> str:
        row = to_float.get(arm["arm"])
        return "reference" if row is None else text.verdict(row["verdict"], "float", "this")

    def interval(arm: dict[str, Any]) -> Any:
        row = to_float.get(arm["arm"], {})
        return row.get("interval_simultaneous") or row.get("interval")

    # Where the p is one of a family, so is the interval.
    together = any(row.get("interval_simultaneous") for row in to_float.values())
    percent = f"{100 * spec['confidence']:g} % of it" + (", simultaneous" if together else "")
    return table(
        "Models", summary["arms"],
        {"arm": "arm", "verdict": verdict,
         metric.title: (lambda arm: results.value(arm["arm"]), text.value_of(metric)),
         text.signed("to float", metric): (paired("gap"), text.gap_of(metric)),
         percent: (interval, text.interval_of(metric)),
         **_over_seeds(study, lambda arm: {arm["arm"]: 1, "float": -1}, text.plus(metric)),
         "p, corrected" if together else "p": (paired("p"), text.p_value),
         "size": ("bytes", text.size), "format": lambda arm: arm["scheme"] or "Keras",
         "what it is": "title"},
        caption=f"{spec['dataset']} with {spec['model']}, seed {spec['seed']}: "
                f"{spec['float_epochs']} float and {counted(spec['qat_epochs'], 'QAT epoch')}; "
                f"{summary['arms'][0]['n']:,} test examples, the same ones for every model. The "
                "format is read from the file, not from its name. "
                f"{_about(study)}{text.lower(metric)}".rstrip(),
        spare=("what it is", "size", "format"),
    )


def _about(study: Study) -> str:
    """What the columns of the table of models speak of, where the study was repeated."""
    return "" if study.repeats is None else (
        f"Verdict, interval and p are about the files of seed {study.spec.seed}; sd is from one "
        "training seed to another. ")


def part_table(study: Study) -> Table:
    """The parts of the gap QAT - PTQ and their sum."""
    a, b = QUESTION
    gap, metric = _pair(study.summary, a, b), study.results.metric
    rows = [*study.summary["decomposition"],
            {"title": "sum: the gap", "diff_pp": gap["gap"], "ci_pp": gap["interval"],
             "arms": {b: 1, a: -1}}]
    return table(f"Parts that add up to the gap between {a} and {b}", rows, {
        "part": "title", MAKES_BETTER: makes_better(metric, a, b),
        **_over_seeds(study, lambda part: part["arms"], text.plus(metric, b))})


def _over_seeds(
    study: Study, signs: Callable[[Any], dict[str, float]], sign: str,
) -> dict[str, Any]:
    """A column: signed sums of arms over the seeds of a repeated study; what their sign says."""
    runs, metric = study.repeats, study.results.metric
    if runs is None:
        return {}
    gap = text.gap_of(metric)

    def spread(row: Any) -> str | None:
        signed = signs(row)
        if row.get("arm") == "float" or not set(signed) <= set(runs.models):
            return None
        found = metric.scale * np.sum(
            [sign * runs.run_values(arm) for arm, sign in signed.items()], axis=0)
        return f"{gap(found.mean())} ± {metric.number(found.std(ddof=1)).lstrip('+')}"

    return {f"{len(runs.runs or ())} seeds: mean ± sd ({sign})": spread}


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
    runs, trained = study.repeats, study.training
    seeds = {} if runs is None or trained is None else {
        "seeds": lambda: figures.seeds_plot(
            runs.by_run(*QUESTION), trained.interval, metric=metric, pair=QUESTION)}
    return {
        **seeds,
        metric.id: lambda: figures.accuracy_forest(rows, metric),
        "gap": lambda: figures.waterfall(summary["decomposition"], gap, metric, pair=QUESTION),
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
    "qat_minus_ptq": "QAT - PTQ",
    "ptq_minus_float": "PTQ - float",
    "ptq_ft_minus_ptq": "PTQ trained on - PTQ",
    "qat_minus_ptq_ft": "QAT - equally trained PTQ",
}


def sweep_view(sweep: Sweep) -> View:
    """The view of a sweep."""
    failed = sweep.frame[sweep.frame["status"] == "failed"].to_dict("records")
    return View(
        f"Sweep of {counted(len(sweep.frame), 'run')}",
        (*sweep.finding,
         *(f"{name}: {compared.sentence}" for name, compared in sweep.seeds.items())),
        (group_table(sweep),),
        dict(_sweep_figures(sweep)),
        notes=tuple(f"failed: {row['dataset']}, {row['model']}, seed {row['seed']}: {row['error']}"
                    for row in failed),
        explore=widget("SweepBoard", sweep),
    )


def group_table(sweep: Sweep) -> Table:
    """Median and range over runs of each gap, one row an experiment."""
    metrics = {name: judged_by(rows) for name, rows in sweep.experiments.items()}
    units = sorted({metric.unit for metric in metrics.values()})
    rows = [{"experiment": name, **_gaps(rows[rows["status"] == "finished"], metrics[name])}
            for name, rows in sweep.experiments.items()]
    return table(
        text.headed("Median over runs (lowest to highest)", units[0] if len(units) == 1 else ""),
        rows, {"experiment": "experiment", "runs": "runs",
               **{title: column for column, title in _GAPS.items()}},
        caption="; ".join(sorted({text.plus(metric, "the first of the two")
                                  for metric in metrics.values()})) + ".")


def _gaps(done: pd.DataFrame, metric: Metric) -> dict[str, Any]:
    gap, found = text.gap_of(metric), {}
    for name in _GAPS:
        column = f"{name}{gap_unit(done)}"
        if column in done and len(values := done[column].dropna().astype(float)):
            found[name] = f"{gap(values.median())} ({gap(values.min())} to {gap(values.max())})"
    return {"runs": len(done), **found}


def _sweep_figures(sweep: Sweep) -> Iterator[tuple[str, Callable[[], Figure]]]:
    for name, rows in sweep.experiments.items():
        done, compared = rows[rows["status"] == "finished"], sweep.seeds.get(name)
        if compared is not None:
            yield name, _seeds(name, done, compared.possible, family=compared.family)
        elif len(done) > 1:
            # A table alone knows nothing of single examples.
            gaps = done[f"qat_minus_ptq{gap_unit(done)}"]
            yield name, _seeds(name, done, mean_interval(gaps.to_numpy()), same_examples=True)


def _seeds(
    name: str, rows: pd.DataFrame, interval: tuple[float, float], *, same_examples: bool = False,
    family: int = 1,
) -> Callable[[], Figure]:
    ends = {f"qat_minus_ptq{end}{gap_unit(rows)}": end.strip("_") or "gap"
            for end in ("", "_low", "_high")}
    return lambda: figures.seeds_plot(
        rows.rename(columns=ends), interval, same_examples=same_examples,
        metric=judged_by(rows), pair=("PTQ", "QAT"), family=family).about(name)


def robust_qat_view(found: RobustQat) -> View:
    """The view of a run of robust QAT."""
    settings = table("What was done", list(asdict(found.record).items()), {
        "setting": lambda pair: pair[0], "value": (lambda pair: pair[1], text.plain)})
    drawn = {} if found.history.empty else {
        "learning": lambda: figures.learning_curves(found.history),
        "observers": lambda: figures.observer_ranges(found.observers)}
    return View("Robust QAT", (found.sentence,), (settings,), drawn)
