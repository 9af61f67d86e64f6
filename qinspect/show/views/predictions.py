"""Results, and models compared by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from qinspect.show import figures, text
from qinspect.show.table import Table, table
from qinspect.show.view import Section, View, widget
from qinspect.verdicts import DIFFERENCES

if TYPE_CHECKING:
    from qinspect.predictions import Comparisons, Results, RunComparisons
    from qinspect.show.figure import Figure

# Pairs whose verdicts are read as sentences; more are counted, and read from the table.
_FEW = 3


def comparisons_view(found: Comparisons) -> View:
    """The view of comparisons of predictions alone."""
    there = {name for one in found for name in (one.a, one.b)}
    compared = tuple(name for name in found.results.models if name in there)
    names = text.short_names(compared)
    pairs = short([one.to_json() for one in found], names)
    first = next(((one.a, one.b) for one in found), ())
    every = tuple(text.renamed(one.sentence, names) for one in found)
    many = len(every) > _FEW
    return View(
        f"{found.results.source or 'Comparison'}: {found.results.n:,} examples",
        (_counted(found),) if many else every,
        (model_table(found.results, names, compared), comparison_table(pairs)),
        {**(pair_figures(pairs) if pairs else {}),
         **({"resamples": lambda: resamples(found.results, *first)} if len(found) == 1 else {})},
        (Section("Every verdict", every, folded=True),) if many else (),
        notes=(*alike(found.cochran_q), *found.results.notes), names=names,
        explore=widget("SignificanceExplorer", found.results, *first),
    )


def run_comparisons_view(found: RunComparisons) -> View:
    """The view of ways of training, compared over their runs."""
    names, metric = text.short_names(found.results.models), found.results.metric
    percent = f"{100 * found.results.confidence:g} % interval"
    rows = short(found.frame.to_dict("records"), names)  # type: ignore[arg-type]
    pairs = table("Ways of training, paired by run and example", rows, {
        "a": "a", "b": "b", f"b - a, {metric.unit}": ("gap", metric.number),
        percent: (lambda row: (row["low"], row["high"]), metric.interval),
        "runs b ahead": "b_wins", "level": "ties", "a ahead": "a_wins"})
    first = found.comparisons[0]
    alone = "" if len(rows) == 1 else " Every interval is of its pair by itself."
    return View(
        f"{found.results.source or 'Comparison'}: {first.seeds} runs of {first.n:,} examples",
        tuple(text.renamed(one.sentence, names) for one in found.comparisons),
        (model_table(found.results, names), pairs),
        {"seeds": lambda: figures.seeds_plot(found.results.by_run(first.a, first.b),
                                             first.interval)},
        notes=(f"This is about ways of training, over new runs and new examples.{alone}",
               *found.results.notes), names=names,
    )


def _counted(found: Comparisons) -> str:
    """How many pairs have which verdict."""
    counts = Counter("one better" if one.significant else DIFFERENCES[one.verdict]
                     for one in found)
    listed = ", ".join(f"{words} in {count}" for words, count in counts.most_common())
    return f"Of {len(found)} pairs: {listed}."


def model_table(
    results: Results, names: Mapping[str, str], only: Collection[str] | None = None
) -> Table:
    """One row a model of some results, or of some of them: the metric with its interval."""
    metric, frame = results.metric, results.frame
    rows = frame if only is None else frame[frame["model"].isin(only)]
    form = text.percent if metric.scale == 100 else text.number
    percent = f"{100 * results.confidence:g} % interval"
    return table(f"{metric.title.capitalize()} on {results.n:,} examples", rows, {
        "model": lambda row: names[row["model"]], metric.title: ("value", form),
        percent: (lambda row: (row["low"], row["high"]), text.percent_interval),
        "read as": "read_as"}, spare=("read as",))


def comparison_table(rows: Sequence[Mapping[str, Any]], title: str = "Accuracy, paired") -> Table:
    """One row a pair of models."""
    corrected = any(row["p_adjusted"] is not None for row in rows)
    percent = f"{100 * rows[0]['confidence']:g} % interval" if rows else "interval"
    return table(title, rows, {
        "a": "a", "b": "b", "verdict": lambda c: text.verdict(c["verdict"], c["a"], c["b"]),
        "b - a, points": ("diff_pp", text.points), percent: ("ci_pp", text.interval),
        "only a right": "a_only", "only b right": "b_only",
        "p (Holm)" if corrected else "p": ("p", text.p_value),
        "detectable, points": ("mde_pp", lambda value: f"{value:.2f}"),
    }, spare=("detectable, points", "only a right", "only b right"))


def short(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows of pairs under the short names of the models."""
    return [{**row, "a": names[row["a"]], "b": names[row["b"]]} for row in rows]


def pair_figures(pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures of pairs: their differences, and the examples on which they part."""
    frame = pd.DataFrame([
        {**row, "name": f"{row['b']} - {row['a']}", "low": row["ci_pp"][0],
         "high": row["ci_pp"][1]} for row in pairs])
    return {"differences": lambda: figures.differences(frame, pairs[0]["margin_pp"]),
            "disagreement": lambda: figures.discordance(frame)}


def resamples(results: Results, a: str, b: str) -> Figure:
    """What b - a would be on resampled examples."""
    values = pd.DataFrame({"diff_pp": results.resampled(a, b)})
    return figures.bootstrap_plot(values, results.comparison(a, b))


def alike(q: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Whether all models are alike, in words."""
    if q is None:
        return ()
    return (f"All {q['models']} models alike? Cochran's Q = {q['q']:.2f} on {q['df']} degrees of "
            f"freedom, p {text.p_value(q['p'])}.",)


def results_view(found: Results) -> View:
    """The view of results."""
    names = text.short_names(found.models)

    def forest() -> Figure:
        rows = found.frame
        return figures.accuracy_forest(rows.assign(model=rows["model"].map(names)))

    return View(f"Results of {len(found.models)} models", (found.sentence,),
                (model_table(found, names),), {"accuracy": forest}, notes=found.notes,
                names=names, explore=widget("SignificanceExplorer", found))
