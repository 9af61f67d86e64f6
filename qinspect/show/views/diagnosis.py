"""A diagnosis: the cause, what was tried, every other cause, what to do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any

import pandas as pd

from qinspect.diagnosis.answer import outcome
from qinspect.errors import DataError
from qinspect.show import figures, text
from qinspect.show.table import Table, table
from qinspect.show.view import Section, View, widget
from qinspect.show.views.files import remark_lines
from qinspect.show.views.layers import calibration_tables, cut_table
from qinspect.verdicts import CAUSES

if TYPE_CHECKING:
    from qinspect.diagnosis.answer import Cause, Diagnosis, Effect
    from qinspect.diagnosis.cases import Case
    from qinspect.measure.layer_tables import Layers
    from qinspect.show.figure import Figure

    Draw = Callable[[], Figure]

NAMES = {"float": "float", "ptq": "PTQ", "qat": "QAT"}
_ITEMS = 12


def diagnosis_view(found: Diagnosis) -> View:
    """The view of a diagnosis."""
    layers = cache(found.case.layers)
    causes = found.ordered()
    drawn = {cause.rule.id: cause_figures(found, cause, layers) for cause in causes}
    first = [cause for cause in causes if leads(found, cause)]
    return View(
        f"Diagnosis of {found.case.name}",
        (found.sentence, f"Primary cause: {found.primary}.",
         *(cut.sentence for cut in found.cuts if cut.back),
         *((found.advice.sentence,) if found.advice else ()), *remark_lines(
            [{**asdict(one), "file": one.file and NAMES[one.file]} for one in found.remarks])),
        tuple(filter(None, (file_table(found), *(cut_table(cut, NAMES[cut.file])
                                                for cut in found.cuts if cut.parts),
                            tried_table(found), part_table(found),
                            *(calibration_tables(found.advice) if found.advice else ())))),
        {**_overall(found), **{kind: draw for own in drawn.values() for kind, draw in own.items()}},
        (*(section(found, cause, tuple(drawn[cause.rule.id])) for cause in first),
         *_others(found, causes),
         Section("Every cause at a glance", figures=("causes",), folded=True),
         *(section(found, cause, tuple(drawn[cause.rule.id]), folded=True)
           for cause in causes if cause not in first)),
        _notes(found),
        explore=widget("DiagnosisBoard", found),
        layers=layers,
    )


def case_view(case: Case) -> View:
    """The view of a case: what there is to be diagnosed."""
    return View(f"Case: {case.name}", (case.sentence, *case.notes), (table("Inputs", case.frame, {
        "input": "what", "given": lambda row: "yes" if row["given"] else "no"}),),
        explore=widget("Dashboard", case), layers=case.layers)


def leads(found: Diagnosis, cause: Cause) -> bool:
    """Whether it is told at length: the primary cause, and whatever else is proved; not chance."""
    return cause.rule.id != "noise" and (cause.rule.id == found.primary or cause.confirmed)


def word(cause: Cause) -> str:
    """The verdict on one cause in words."""
    return CAUSES[cause.verdict]


def toward(found: Diagnosis, change: float) -> float:
    """What of the gap is closed: above zero whichever way round the gap is."""
    return math.copysign(1.0, found.focus.gap) * change


def _closed(found: Diagnosis, effect: Effect) -> tuple[float, float]:
    ends = sorted(toward(found, end) for end in effect.interval)
    return ends[0], ends[1]


def file_table(found: Diagnosis) -> Table:
    """The metric of each file, and how it stands to the one before."""
    metric = found.focus.metric
    values = {role: value for gap in found.gaps
              for role, value in ((gap.a, gap.value_a), (gap.b, gap.value_b))}
    rows = [{"file": NAMES[role], "value": values[role], "role": role}
            for role in NAMES if role in values]

    def gap(a: str) -> Callable[[Any], Any]:
        return lambda row: None if (g := found.gap(a, row["role"])) is None else g.gap

    return table(f"{text.capital(metric.title)} on {found.focus.n:,} examples", rows, {
        "file": "file", metric.title: ("value", text.value_of(metric)),
        text.headed("to float", metric.unit): (gap("float"), text.gap_of(metric)),
        text.headed("to PTQ", metric.unit): (gap("ptq"), text.gap_of(metric))},
        caption=text.lower(metric))


def tried_table(found: Diagnosis) -> Table:
    """One row an intervention, the largest effect first."""
    rows, metric = _tried(found), found.focus.metric
    return table("What each remedy, applied alone, did to the gap", rows, {
        "cause": lambda row: row[0].rule.id, "verdict": lambda row: word(row[0]),
        text.headed("closes", metric.unit): (
            lambda row: toward(found, row[1].amount), text.gap_of(metric)),
        "interval": (lambda row: _closed(found, row[1]), text.interval_of(metric)),
        "of the gap": (lambda row: row[1].closed_share, lambda share: f"{100 * share:.0f} %"),
        "what was done": lambda row: row[1].done,
    }, caption="Remedies overlap: shares need not add up to the gap." if len(rows) > 1 else "",
        spare=("what was done",))


def _tried(found: Diagnosis) -> list[tuple[Cause, Effect]]:
    """Causes whose remedy was tried, the largest effect first."""
    tried = [(cause, cause.effect) for cause in found.causes if cause.effect is not None]
    return sorted(tried, key=lambda row: -abs(row[1].amount))


def part_table(found: Diagnosis) -> Table:
    """One row a part of the gap QAT - PTQ, the largest first."""
    parts = sorted(found.parts, key=lambda part: -abs(part["diff_pp"]))
    metric = found.focus.metric
    return table("Parts that add up to the gap QAT - PTQ", parts, {
        "part": "title", metric.unit or "size": ("diff_pp", text.gap_of(metric)),
        "interval": ("ci_pp", text.interval_of(metric))})


def section(found: Diagnosis, cause: Cause, figures: tuple[str, ...], *,
            folded: bool = False) -> Section:
    """Everything that is known about one cause."""
    rule, effect = cause.rule, cause.effect
    lines = {"Evidence": cause.finding.sentence, "Question": rule.question,
             "Symptom": rule.symptom, "Cause": rule.cause, "Remedy": rule.remedy}
    if effect is not None:
        confirmed = "confirmed" if cause.confirmed else (
            "not proof, since nothing of the cause itself was seen" if cause.closed else
            "not confirmed")
        metric = found.focus.metric
        closed = f"{text.gap_of(metric)(toward(found, effect.amount))} {metric.unit}".rstrip()
        ends = text.interval_of(metric)(_closed(found, effect))
        lines["Tried"] = f"{effect.done} closes {closed} {ends} of the gap: {confirmed}."
        if rule.every_file or effect.left is not None:
            lines["Tried"] = f"{outcome(cause, effect, metric)}: {confirmed}."
        if lifts := [(role, *lift) for role, lift in effect.lifts.items() if lift[1] > 0]:
            lines["Better by"] = "; ".join(
                f"{NAMES[role]} {metric.size(size)} {text.interval_of(metric)((low, high))}"
                for role, size, low, high in lifts) + "."
        if effect.runs and effect.luck:
            luck = f"{text.gap_of(metric)(toward(found, effect.luck))} {metric.unit}".rstrip()
            lines["Luck"] = (f"the same training without the remedy closes {luck} of the gap by "
                             "itself, which is not counted.")
        if effect.once:
            lines["Luck"] = ("this was trained once, so luck is not told apart: it indicates, and "
                             "does not prove.")
    if cause.note:
        lines["Not tried" if effect is None else "But"] = cause.note
    lines["Source"] = rule.source
    numbers = number_table({**cause.finding.numbers, **({} if effect is None else effect.numbers)})
    title = rule.id if folded else rule.title[0].upper() + rule.title[1:]
    title = f"{title}: {word(cause)}"
    whole = "# --write-fix fix.py (or .write_fix) writes this as a whole script.\n"
    code = (whole if rule.makes else "") + rule.code
    return Section(title, tuple(f"{key}: {said}" for key, said in lines.items() if said),
                   (numbers,) if numbers and folded else (), figures, code, folded)


def number_table(evidence: Mapping[str, Any]) -> Table:
    """Numbers of a finding, nested ones with dots in the name."""
    def flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
        rows: list[tuple[str, Any]] = []
        for key, value in values.items():
            if isinstance(value, Mapping):
                rows += flat(value, f"{before}{key}.")
            else:
                rows.append((f"{before}{key}".replace("_", " "), _cut(value)))
        return rows

    return Table(("number", "value"), (text.plain, text.plain), tuple(flat(evidence)),
                 "Evidence in numbers")


def _cut(value: Any) -> Any:
    if not isinstance(value, (list, tuple)) or len(value) <= _ITEMS:
        return value
    return f"{text.plain(list(value[:_ITEMS]))} and {len(value) - _ITEMS} more"


def _others(found: Diagnosis, causes: list[Cause]) -> tuple[Section, ...]:
    made = []
    for verdict, title in (("indicated", "Indicated, too, but not proved"),
                           ("not_shown", "Not shown to move the gap")):
        lines = tuple(f"{c.rule.id}: {c.finding.sentence}" for c in causes
                      if c.verdict == verdict and not leads(found, c))
        made += [Section(title, lines)] if lines else []
    return tuple(made)


def _notes(found: Diagnosis) -> tuple[str, ...]:
    out = [c.rule.id for c in found.ordered() if c.verdict in ("ruled_out", "does_not_apply")]
    lines = list(found.data_notes)
    lines += [f"first cut of {NAMES[cut.file]}: {note}" for cut in found.cuts
              for note in cut.notes]
    lines.append(f"ruled out: {', '.join(out) or 'nothing'}.")
    lines += [f"not tested, {line}" for line in untested(found)]
    lines += [found.lacks] if found.lacks else []
    lines += [f"the one-line recipe: {found.recipe}"] if found.recipe else []
    if found.late_seconds > 0:
        lines.append(f"an intervention ended {found.late_seconds:.0f} s after the time allowed; "
                     "those left were not started.")
    if not found.interventions:
        lines.append("no remedy was tried, so nothing is proved.")
    return tuple(lines)


def untested(found: Diagnosis) -> list[str]:
    """What could not be tested, and which input would allow it."""
    causes = found.ordered()
    lines = [f"{c.rule.id}: {c.finding.sentence}" for c in causes if c.verdict == "not_tried"]
    return lines + [f"the remedy of {c.rule.id}: {c.note}" for c in causes
                    if c.note and c.verdict == "indicated"]


def _overall(found: Diagnosis) -> dict[str, Draw]:
    made: dict[str, Draw] = {}
    tried = [cause for cause, _ in _tried(found)]
    if tried:
        made["effects"] = lambda: figures.effect_plot(_effects(found, tried),
                                                      abs(found.focus.gap), found.focus.metric)
    if found.parts:
        gap = found.gap("ptq", "qat")
        total = sum(p["diff_pp"] for p in found.parts) if gap is None else gap.gap
        made["parts"] = lambda: figures.waterfall(found.parts, total, found.focus.metric,
                                                  total="QAT - PTQ")
    made["causes"] = lambda: figures.diagnosis_board(_effects(found, found.ordered()),
                                                     found.focus.metric)
    return made


def _effects(found: Diagnosis, causes: list[Cause]) -> pd.DataFrame:
    nan = float("nan")
    return pd.DataFrame([
        {"name": c.rule.id, "title": c.rule.title, "verdict": c.verdict, "confirmed": c.confirmed,
         "effect": nan if c.effect is None else toward(found, c.effect.amount),
         **dict(zip(("low", "high"),
                    (nan, nan) if c.effect is None else _closed(found, c.effect), strict=True))}
        for c in causes
    ])


def cause_figures(found: Diagnosis, cause: Cause,
                  layers: Callable[[], Layers | None]) -> dict[str, Draw]:
    """What bears on a cause: what is in the files or their training, and the deciding numbers."""
    made: dict[str, Draw] = {}
    kind, rule = cause.rule.figure, cause.rule
    if kind in _OF_LAYERS and found.case.has("float"):
        made[rule.id] = lambda: _OF_LAYERS[kind](_known(layers()))
    elif kind in _OF_FRAME:
        frame = rule.frame(found.case) if rule.frame else found.case.history
        if frame is not None and len(frame):
            made[rule.id] = lambda: _OF_FRAME[kind](frame)
    elif kind in _OF_ANSWER:
        own = _OF_ANSWER[kind](found, cause)
        if own is not None:
            made[rule.id] = own
    if any(measure.speaks is not None for measure in cause.finding.measures):
        made[f"{rule.id} numbers"] = lambda: figures.threshold_plot(cause.finding.measures)
    return made


def _known(layers: Layers | None) -> Layers:
    if layers is None:
        raise DataError("the first file is not float32, so layers have nothing to stand beside.")
    return layers


def _ranges(role: str) -> Callable[[Layers], Figure]:
    return lambda layers: figures.activation_ranges(
        layers.stored_against_observed(role)).about(NAMES[role])


def _profile(layers: Layers) -> Figure:
    name, found = list(layers.errors.items())[-1]
    return figures.sqnr_profile(found.errors).about(NAMES.get(name, name))


def _sizes(found: Diagnosis, cause: Cause) -> Draw | None:
    if found.focus.metric.scale != 100:
        return None  # the axis of that figure is in percent
    values = {role: value for gap in found.gaps
              for role, value in ((gap.a, gap.value_a), (gap.b, gap.value_b))}
    graphs = {role: graph for role in NAMES if (graph := found.case.graph(role)) is not None}
    frame = pd.DataFrame({"arm": [NAMES[role].lower() for role in graphs],
                          "bytes": [graph.size for graph in graphs.values()],
                          "accuracy": [values[role] for role in graphs],
                          "accuracy_low": float("nan"), "accuracy_high": float("nan")})
    return lambda: figures.accuracy_size(frame)


def _disagreement(found: Diagnosis, cause: Cause) -> Draw | None:
    gap = found.gap(*found.case.pair) or found.focus
    if gap.mcnemar_p is None:
        return None  # nothing is right or wrong
    row = (NAMES[gap.a], NAMES[gap.b], gap.a_only, gap.b_only)
    frame = pd.DataFrame([row], columns=["a", "b", "a_only", "b_only"])
    return lambda: figures.discordance(frame)


def _ties(found: Diagnosis, cause: Cause) -> Draw | None:
    numbers, keys = cause.finding.numbers, ("tied_share", "worst_pp", "best_pp")
    rows = [(NAMES[role], *(numbers[f"{role}_{key}"] for key in keys)) for role in NAMES
            if all(numbers.get(f"{role}_{key}") is not None for key in keys)]
    frame = pd.DataFrame(rows, columns=["model", *keys])
    return (lambda: figures.tie_plot(frame)) if rows else None


# What a rule may name as its figure: drawn from layers, from its own frame (or the history), or
# from the answer.
_OF_LAYERS: dict[str, Callable[[Layers], Figure]] = {
    "QAT ranges": _ranges("qat"),
    "PTQ ranges": _ranges("ptq"),
    "weights": lambda layers: figures.weight_ranges(layers.of("weight")),
    "channels": lambda layers: figures.channel_ranges(layers.most_unequal()),
    "layer errors": _profile,
}
_OF_FRAME: dict[str, Callable[[pd.DataFrame], Figure]] = {
    "learning curves": figures.learning_curves,
    "statistics": figures.statistics_plot,
}
_OF_ANSWER: dict[str, Callable[[Diagnosis, Cause], Draw | None]] = {
    "sizes": _sizes, "disagreement": _disagreement, "ties": _ties,
}
KINDS = frozenset({*_OF_LAYERS, *_OF_FRAME, *_OF_ANSWER})
