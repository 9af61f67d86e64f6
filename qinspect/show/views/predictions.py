"""Results, and models compared by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from qinspect.metrics import Metric
from qinspect.show import figures, text
from qinspect.show.table import Table, table
from qinspect.show.view import Section, View, widget
from qinspect.stats.words import better_by
from qinspect.verdicts import DIFFERENCES, counted, examples

if TYPE_CHECKING:
    from qinspect.families import Comparisons, RunComparisons
    from qinspect.predictions import Results
    from qinspect.show.figure import Figure
    from qinspect.stats import SeedComparison

# Pairs whose verdicts are read as sentences; more are counted, and read from the table.
_FEW = 3
IN_FULL = "Every verdict in full"
MAKES_BETTER = "makes better"
_WAYS = "This is about ways of training, over new runs and new examples."


def comparisons_view(found: Comparisons) -> View:
    """The view of comparisons of predictions alone."""
    there = {name for one in found for name in (one.a, one.b)}
    compared = tuple(name for name in found.results.models if name in there)
    names, metric = text.short_names(compared), found.results.metric
    pairs = short([one.to_json() for one in found], names)
    first = next(((one.a, one.b) for one in found), ())
    every = tuple(text.renamed(one.sentence, names) for one in found)
    classes = tuple(text.renamed(line, names) for line in found.class_sentences)
    brief = ((_counted(found),) if len(pairs) > _FEW else
             tuple(answer(pair, metric) for pair in pairs))
    return View(
        f"{found.results.source or 'Comparison'}: {examples(found.results.n)}",
        (*(text.renamed(line, names) for line in found.results.first), *brief, *classes),
        tuple(filter(None, (model_table(found.results, names, compared),
                            comparison_table(pairs, metric), _answer_table(found, names),
                            calibration_table(found.results.calibration.to_dict("records"), names),
                            class_table(found.classes.to_dict("records"), names, metric)
                            if found.by_class else None))),
        {**pair_figures(pairs, metric),
         **({"resamples": lambda: resamples(found.results, *first)} if len(found) == 1 else {})},
        (Section(IN_FULL, every, folded=True),),
        notes=tuple(text.renamed(note, names)
                    for note in (*alike(found.cochran_q), *found.results.notes)), names=names,
        explore=widget("SignificanceExplorer", found.results, *first),
    )


def run_comparisons_view(found: RunComparisons) -> View:
    """The view of ways of training, compared over their runs."""
    names, metric = text.short_names(found.results.models), found.results.metric
    pairs = _ways_table(found.comparisons, names)
    first = found.comparisons[0]
    return View(
        f"{found.results.source or 'Comparison'}: {first.seeds} runs of {first.n:,} examples",
        tuple(text.renamed(one.sentence, names) for one in found.comparisons),
        (model_table(found.results, names), pairs),
        {"seeds": lambda: figures.seeds_plot(
            found.results.by_run(first.a, first.b), first.possible, metric=metric,
            pair=(names[first.a], names[first.b]), family=first.family)},
        notes=(_WAYS, *found.results.notes), names=names,
    )


def seed_comparison_view(found: SeedComparison) -> View:
    """The view of two ways of training, compared over their seeds."""
    names = text.short_names((found.a, found.b))
    return View(
        f"Comparison over {found.seeds} seeds, {found.n:,} examples",
        (text.renamed(found.sentence, names),), (_ways_table([found], names),),
        {"seeds": lambda: figures.seeds_plot(
            found.frame, found.possible, metric=found.metric,
            pair=(names[found.a], names[found.b]), family=found.family)},
        notes=(_WAYS,), names=names,
    )


def _ways_table(found: Sequence[SeedComparison], names: Mapping[str, str]) -> Table:
    """One row a pair of ways of training."""
    first = found[0]
    percent = f"{100 * first.confidence:g} % interval"
    return table("Ways of training, paired by run and example", list(found), {
        "a": lambda c: names[c.a], "b": lambda c: names[c.b],
        text.signed("b - a", first.metric, "b"): (
            lambda c: c.gap, text.gap_of(first.metric)),
        percent if first.family < 2 else f"{percent}, simultaneous": (
            lambda c: c.possible, text.interval_of(first.metric)),
        "runs b ahead": lambda c: c.b_wins, "level": lambda c: c.ties,
        "a ahead": lambda c: c.a_wins}, caption=text.lower(first.metric))


def answer(pair: Mapping[str, Any], metric: Metric) -> str:
    """A row of a pair, as ``--json`` has it, as one short sentence."""
    # Equivalence is shown of each pair alone.
    together = None if pair["verdict"] == "equivalent" else pair.get("interval_simultaneous")
    said = better_by(pair["verdict"], pair["a"], pair["b"], pair["gap"],
                     together or pair["interval"], margin=pair["margin"], metric=metric)
    return f"{said}{' (simultaneous interval)' if together else ''}."


def makes_better(metric: Metric, a: str, b: str) -> Callable[[Mapping[str, Any]], str]:
    """Whom a part of the gap b - a makes better, and by how much."""
    def told(part: Mapping[str, Any]) -> str:
        better, _, by = metric.lead(a, b, part["diff_pp"], part["ci_pp"])
        return f"{better} by {by}" if part["diff_pp"] else f"neither: {by}"

    return told


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
    percent = f"{100 * results.confidence:g} % interval"
    return table(f"{text.capital(metric.title)} on {examples(results.n)}", rows, {
        "model": lambda row: names[row["model"]],
        metric.title: ("value", text.value_of(metric)),
        percent: (lambda row: (row["low"], row["high"]), text.bounds_of(metric)),
        "read as": lambda row: row["read_as"] if metric.classes else None,
    }, caption=text.lower(metric), spare=("read as",))


def comparison_table(rows: Sequence[Mapping[str, Any]], metric: Metric) -> Table:
    """One row a pair of models; ``rows`` as ``--json`` has them.

    Of a family the interval is the one that holds together with the others'.
    """
    corrected = any(row["p_adjusted"] is not None for row in rows)
    percent = f"{100 * rows[0]['confidence']:g} % interval" if rows else "interval"
    rows = [{**row, "interval": row.get("interval_simultaneous") or row["interval"],
             "detectable": row["detectable"] if row.get("interval_simultaneous") is None else
             row["detectable_adjusted"]} for row in rows]
    ahead = ("only a right", "only b right") if _counted_right(rows) else (
        "a better on", "b better on")
    detectable = text.headed("detectable", metric.unit)
    return table(f"{text.capital(metric.title)}, paired", rows, {
        "a": "a", "b": "b", "verdict": lambda c: text.verdict(c["verdict"], c["a"], c["b"]),
        text.signed("b - a", metric, "b"): ("gap", text.gap_of(metric)),
        f"{percent}, simultaneous" if corrected else percent: (
            "interval", text.interval_of(metric)),
        ahead[0]: "a_only", ahead[1]: "b_only",
        "p, corrected" if corrected else "p": ("p", text.p_value),
        detectable: ("detectable", "{:.2f}".format if metric.scale == 100 else text.number),
    }, caption=f"{_margin(rows, metric)} {text.lower(metric)}".strip(),
        spare=(detectable, *ahead))


def _answer_table(found: Comparisons, names: Mapping[str, str]) -> Table | None:
    """Whether the answers are the same, right or wrong, of the pairs that were compared."""
    rows = found.answers
    return None if rows.empty else table("Answers, right or wrong", rows, {
        "a": lambda row: names[row["a"]], "b": lambda row: names[row["b"]],
        "answers that change": ("churn", text.percent),
        "Cohen's kappa": ("kappa", "{:.3f}".format)})


def calibration_table(
    rows: Sequence[Mapping[Any, Any]], names: Mapping[str, str]
) -> Table | None:
    """What the probabilities of the named models are worth; ``rows`` as ``--json`` has them."""
    by_model = {row["model"]: {one["metric"]: one for one in rows if one["model"] == row["model"]}
                for row in rows if row["model"] in names}
    return None if not by_model else table("Probabilities", list(by_model.items()), {
        "model": lambda row: names[row[0]],
        "calibration error": lambda row: text.percent(row[1]["ece"]["value"]),
        "Brier score": lambda row: f"{row[1]['brier']['value']:.4f}",
        "interval": lambda row: "{low:.4f} to {high:.4f}".format(**row[1]["brier"]),
    }, caption="Expected calibration error over 15 bins; of both, lower is better.")


def class_table(
    rows: Sequence[Mapping[Any, Any]], names: Mapping[str, str], metric: Metric
) -> Table:
    """Each pair class by class, the surest change first; ``rows`` as ``--json`` has them."""
    return table("Class by class", sorted(rows, key=lambda row: row["q"]), {
        "a": lambda row: names[row["a"]], "b": lambda row: names[row["b"]], "class": "class",
        "n": "n", text.signed("b - a", metric, "b"): ("gap", text.gap_of(metric)),
        "interval": (lambda row: (row["low"], row["high"]), text.interval_of(metric)),
        "a only": "a_only", "b only": "b_only", "p": ("p", text.p_value),
        "q": ("q", text.p_value), "changes": lambda row: "yes" if row["differs"] else None},
        caption="q: p after Benjamini's and Hochberg's correction over the classes of a pair.")


def _margin(rows: Sequence[Mapping[str, Any]], metric: Metric) -> str:
    """The difference that would matter."""
    margins = sorted({row["margin"] for row in rows})
    if not margins:
        return ""
    if len(margins) == 1:
        return f"Margin: {metric.limit(margins[0])}."
    return f"Margin: {margins[0]:.4g} to {margins[-1]:.4g} {metric.unit}".rstrip() + "."


def _counted_right(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether every example is right or wrong."""
    return all(row["mcnemar_p"] is not None for row in rows)


def short(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows of pairs under the short names of the models."""
    return [{**row, "a": names[row["a"]], "b": names[row["b"]]} for row in rows]


def pair_figures(pairs: Sequence[Mapping[str, Any]], metric: Metric) -> dict[str, Any]:
    """Figures of pairs: their differences, and the examples on which they part."""
    if not pairs:
        return {}
    frame = pd.DataFrame([
        {**row, "name": f"{row['b']} - {row['a']}",
         **dict(zip(("low", "high"), row.get("interval_simultaneous") or row["interval"],
                    strict=True))} for row in pairs])
    found: dict[str, Any] = {
        "differences": lambda: figures.differences(frame, pairs[0]["margin"], metric=metric)}
    if pairs[0]["a_only"] is not None:
        found["disagreement"] = lambda: figures.discordance(frame, right=_counted_right(pairs))
    return found


def resamples(results: Results, a: str, b: str) -> Figure:
    """What b - a would be on resampled examples."""
    values = pd.DataFrame({"gap": results.resampled(a, b)})
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
        return figures.accuracy_forest(rows.assign(model=rows["model"].map(names)),
                                       found.metric)

    return View(
        f"Results of {counted(len(found.models), 'model')}", (text.renamed(found.sentence, names),),
        (model_table(found, names),), {found.metric.id: forest},
        notes=tuple(text.renamed(note, names) for note in found.notes), names=names,
        explore=widget("SignificanceExplorer", found))
