"""A diagnosis: the cause, what was tried, every other cause, what to do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING

import pandas as pd

from qinspect.diagnosis.card import TELL_CAUSE, capital, change, closing, files_change
from qinspect.diagnosis.rule import MODELS
from qinspect.errors import DataError
from qinspect.show import figures, text
from qinspect.show.card import card_view, short_files
from qinspect.show.table import Table, table
from qinspect.show.view import Section, View, widget
from qinspect.show.views.files import remark_lines
from qinspect.show.views.layers import calibration_tables, cut_table
from qinspect.show.views.predictions import MAKES_BETTER, makes_better
from qinspect.verdicts import CAUSES, counted

if TYPE_CHECKING:
    from qinspect.diagnosis.answer import Cause, Diagnosis, Effect
    from qinspect.diagnosis.cases import Case
    from qinspect.diagnosis.rule import Measure
    from qinspect.measure.layer_tables import Layers
    from qinspect.show.figure import Figure

    Draw = Callable[[], Figure]

def diagnosis_view(found: Diagnosis) -> View:
    """The view of a diagnosis: the card, the evidence of what leads, everything else folded."""
    layers = cache(found.case.layers)
    causes = found.ordered()
    drawn = {cause.rule.id: cause_figures(found, cause, layers) for cause in causes}
    first = [cause for cause in causes if leads(found, cause)]
    card = found.card
    told = [{**asdict(one), "file": one.file and MODELS[one.file]} for one in found.remarks
            if one.sentence not in card.first]
    return View(
        f"Diagnosis of {found.case.name}",
        tuple(remark_lines(told)),
        (),
        {**_overall(found), **{kind: draw for own in drawn.values() for kind, draw in own.items()}},
        (*(evidence(found, cause, tuple(drawn[cause.rule.id])) for cause in first),
         *_tried_section(found), *_advice(found), *_parts(found), *_cuts(found),
         *_others(found, causes),
         *_drawn(found, drawn, first),
         *_grouped(found, [cause for cause in causes if cause not in first], drawn)),
        _notes(found),
        explore=widget("DiagnosisBoard", found),
        layers=layers,
        card=card_view(card, found.focus.metric, found.case.confidence),
    )


def case_view(case: Case) -> View:
    """The view of a case: what there is to be diagnosed."""
    return View(f"Case: {case.name}", (case.sentence, *case.notes), (table("Inputs", case.frame, {
        "input": "what", "given": lambda row: "yes" if row["given"] else "no"}),),
        explore=widget("Dashboard", case), layers=case.layers)


def leads(found: Diagnosis, cause: Cause) -> bool:
    """Whether its evidence stands open: the primary cause, unless that is chance."""
    return cause.rule.id != "noise" and cause is found.leading


def word(found: Diagnosis, cause: Cause) -> str:
    """The verdict on one cause in words."""
    return CAUSES[found.verdict(cause)]


def tried_table(found: Diagnosis) -> Table:
    """One row an intervention, the largest effect first."""
    rows, metric = _tried(found), found.focus.metric

    return table("", rows, {
        "cause": lambda row: row[0].rule.id, "verdict": lambda row: word(found, row[0]),
        "the gap is then": lambda row: metric.closing(*closing(found.focus, row[1])),
        "share of it": (lambda row: max(0.0, row[1].closed_share),
                        lambda share: f"{100 * share:.0f} %"),
        "files": lambda row: files_change(row[1], metric).removeprefix("makes ") or None,
        "what was done": lambda row: row[1].done.rstrip(","),
    }, caption="Remedies overlap: shares need not add up to the gap." if len(rows) > 1 else "",
        spare=("what was done", "files"))


def _tried(found: Diagnosis) -> list[tuple[Cause, Effect]]:
    """Causes whose remedy was tried, the largest effect first."""
    tried = [(cause, cause.effect) for cause in found.causes if cause.effect is not None]
    return sorted(tried, key=lambda row: -abs(row[1].amount))


def part_table(found: Diagnosis) -> Table:
    """One row a part of the gap between PTQ and QAT, the largest first."""
    parts = sorted(found.parts, key=lambda part: -abs(part["diff_pp"]))
    return table("", parts, {
        "part": "title", MAKES_BETTER: makes_better(found.focus.metric, "PTQ", "QAT")})


def _tried_section(found: Diagnosis) -> tuple[Section, ...]:
    tried = tried_table(found)
    if not tried:
        return ()
    # A single one is told by the card.
    return (Section("What each remedy, applied alone, did", (), (tried,),
                    folded=len(tried.rows) == 1),)


def _advice(found: Diagnosis) -> tuple[Section, ...]:
    if found.advice is None:
        return ()
    return (Section("How many calibration examples, and which", (found.advice.sentence,),
                    calibration_tables(found.advice)),)


def _parts(found: Diagnosis) -> tuple[Section, ...]:
    parts = part_table(found)
    if not parts:
        return ()
    return (Section("Parts that add up to the gap between PTQ and QAT", (), (parts,), ("parts",)),)


def _cuts(found: Diagnosis) -> tuple[Section, ...]:
    tables = tuple(cut_table(cut, MODELS[cut.file]) for cut in found.cuts if cut.parts)
    said = tuple(cut.sentence for cut in found.cuts if cut.back)
    return (Section("Weights or activations", said, tables, folded=True),) if tables or said else ()


def evidence(found: Diagnosis, cause: Cause, figures: tuple[str, ...]) -> Section:
    """What speaks for the primary cause beside the sentences of the card."""
    rule = cause.rule
    lines = {"Question": rule.question, "How it comes about": rule.cause, **_luck(found, cause)}
    return Section(f"{capital(rule.title)}: {word(found, cause)}", _lines(lines),
                   tuple(filter(None, (measure_table(cause),))),
                   tuple(kind for kind in figures if kind == rule.id), rule.code)


def section(found: Diagnosis, cause: Cause, figures: tuple[str, ...]) -> Section:
    """Everything that is known about one cause, folded."""
    rule = cause.rule
    lines = {"Evidence": cause.finding.sentence, "Question": rule.question,
             "Symptom": rule.symptom, "How it comes about": rule.cause, "Remedy": rule.remedy,
             **_applied(found, cause), **_luck(found, cause)}
    if cause.note:
        lines["Not tried" if cause.effect is None else "But"] = cause.note
    lines["Source"] = rule.source
    return Section(f"{rule.id}: {word(found, cause)}", _lines(lines),
                   tuple(filter(None, (measure_table(cause),))), figures, rule.code, folded=True)


def _drawn(found: Diagnosis, drawn: Mapping[str, Mapping[str, Draw]],
           first: list[Cause]) -> tuple[Section, ...]:
    """What the tables above say, as figures."""
    kinds = [kind for cause in first for kind in drawn[cause.rule.id] if kind != cause.rule.id]
    kinds += ["effects", "causes"] if _tried(found) else []
    if not kinds:
        return ()
    return (Section("What was measured and tried, as figures", figures=tuple(kinds), folded=True),)


def _grouped(found: Diagnosis, causes: list[Cause],
             drawn: Mapping[str, Mapping[str, Draw]]) -> Iterator[Section]:
    """The causes that do not lead, folded by verdict."""
    for verdict, words in CAUSES.items():
        own = [cause for cause in causes if found.verdict(cause) == verdict]
        if own:
            yield Section(f"{capital(words)}: {counted(len(own), 'cause')}", folded=True,
                          parts=tuple(section(found, cause, tuple(drawn[cause.rule.id]))
                                      for cause in own))


def _lines(lines: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{label}: {said}" for label, said in lines.items() if said)


def _applied(found: Diagnosis, cause: Cause) -> dict[str, str]:
    effect = cause.effect
    return {} if effect is None else {"Applied alone": f"{change(found, cause, effect)}."}


def _luck(found: Diagnosis, cause: Cause) -> dict[str, str]:
    effect, metric = cause.effect, found.focus.metric
    if effect is None:
        return {}
    if effect.once:
        return {"Luck": "this was trained once, so luck is not told apart: it supports, and does "
                        "not prove."}
    if not effect.runs or not effect.luck:
        return {}
    closed = math.copysign(1.0, found.focus.gap) * effect.luck
    word = "smaller" if closed > 0 else "larger"
    return {"Luck": f"the same training without the remedy makes the gap {word} by "
                    f"{metric.size(closed)}, which is not counted."}


def measure_table(cause: Cause) -> Table:
    """What was measured for a cause, by title, against its threshold."""
    def value(measure: Measure) -> str:
        return f"{text.plain(measure.value)} {measure.unit}".rstrip()

    def threshold(measure: Measure) -> str | None:
        if measure.threshold is None or isinstance(measure.threshold, bool):
            return None
        side = "from" if measure.side == "above" else "below"
        return f"{side} {text.plain(measure.threshold)} {measure.unit}".rstrip()

    speaks = {True: "for it", False: "against it", None: "-"}
    return table("", [m for m in cause.finding.measures if m.value is not None], {
        "what was measured": lambda measure: measure.title, "value": value,
        "speaks for it": threshold,
        "here it speaks": lambda measure: speaks[measure.speaks]})


def _others(found: Diagnosis, causes: list[Cause]) -> tuple[Section, ...]:
    lines = tuple(f"{c.rule.id}: {c.finding.sentence}" for c in causes
                  if c.verdict == "indicated" and c.rule.id != "noise" and not leads(found, c))
    return (Section(f"Also {CAUSES['indicated']}", lines),) if lines else ()


def _notes(found: Diagnosis) -> tuple[str, ...]:
    lines = list(found.data_notes)
    short = short_files(found.card)
    lines += [f"{short[model.file]} is {model.file}" for model in found.card.models
              if short[model.file] != model.file]
    lines += [f"first cut of {MODELS[cut.file]}: {note}" for cut in found.cuts
              for note in cut.notes]
    lines += [*_by_verdict(found), *filter(None, [found.lacks])]
    if found.late_seconds > 0:
        lines.append(f"an intervention ended {found.late_seconds:.0f} s after the time allowed; "
                     "those left were not started.")
    if not found.interventions:
        lines.append("no remedy was tried, so nothing is proved.")
    return tuple(lines)


def _by_verdict(found: Diagnosis) -> list[str]:
    """The other causes in few lines: those of each verdict, and what would test the rest."""
    causes, lines = found.ordered(), []
    there = [c.rule.id for c in causes if found.verdict(c) == "not_shown"]
    lines += [f"{CAUSES['not_shown']}: {', '.join(there)}."] if there else []
    out, off = (sum(found.verdict(c) == verdict for c in causes)
                for verdict in ("ruled_out", "does_not_apply"))
    if out + off:
        lines.append(f"{CAUSES['ruled_out']}: {counted(out, 'cause')}; "
                     f"{CAUSES['does_not_apply']}: {off}. The report lists each with its evidence.")
    why: dict[str, list[str]] = {}
    for cause in causes:
        if cause.verdict == "not_tried":
            why.setdefault(cause.finding.sentence.removeprefix("cannot tell: "), []).append(
                cause.rule.id)
        elif cause.note and cause.effect is None and cause.verdict == "indicated":
            why.setdefault(cause.note, []).append(f"the remedy of {cause.rule.id}")
    lines += [f"{CAUSES['not_tried']}: {', '.join(names)}; {reason}"
              for reason, names in why.items()]
    return [*lines, f"what a cause means, and what to do: {TELL_CAUSE} ID."]


def _overall(found: Diagnosis) -> dict[str, Draw]:
    metric = found.focus.metric
    values = pd.DataFrame([(MODELS[m.role], m.value, *m.interval) for m in found.card.models],
                          columns=["model", "value", "low", "high"])
    made: dict[str, Draw] = {"values": lambda: figures.accuracy_forest(values, metric)}
    tried = [cause for cause, _ in _tried(found)]
    if tried:
        made["effects"] = lambda: figures.effect_plot(_effects(found, tried),
                                                      abs(found.focus.gap), found.focus.metric)
        made["causes"] = lambda: figures.diagnosis_board(_effects(found, found.ordered()),
                                                         found.focus.metric)
    if found.parts:
        gap = found.gap("ptq", "qat")
        total = sum(p["diff_pp"] for p in found.parts) if gap is None else gap.gap
        made["parts"] = lambda: figures.waterfall(found.parts, total, found.focus.metric)
    return made


def _effects(found: Diagnosis, causes: list[Cause]) -> pd.DataFrame:
    nan = float("nan")
    return pd.DataFrame([
        {"name": c.rule.id, "title": c.rule.title, "verdict": found.verdict(c),
         "confirmed": c.confirmed, "effect": size, "low": low, "high": high}
        for c in causes
        for size, (low, high) in ((nan, (nan, nan)) if c.effect is None else
                                  closing(found.focus, c.effect),)
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
        layers.stored_against_observed(role)).about(MODELS[role])


def _profile(layers: Layers) -> Figure:
    name, found = list(layers.errors.items())[-1]
    return figures.sqnr_profile(found.errors).about(MODELS.get(name, name))


def _sizes(found: Diagnosis, cause: Cause) -> Draw | None:
    if found.focus.metric.scale != 100:
        return None  # the axis of that figure is in percent
    values = {role: value for gap in found.gaps
              for role, value in ((gap.a, gap.value_a), (gap.b, gap.value_b))}
    graphs = {role: graph for role in MODELS if (graph := found.case.graph(role)) is not None}
    frame = pd.DataFrame({"arm": [MODELS[role].lower() for role in graphs],
                          "bytes": [graph.size for graph in graphs.values()],
                          "accuracy": [values[role] for role in graphs],
                          "accuracy_low": float("nan"), "accuracy_high": float("nan")})
    return lambda: figures.accuracy_size(frame)


def _disagreement(found: Diagnosis, cause: Cause) -> Draw | None:
    gap = found.gap(*found.case.pair) or found.focus
    if gap.mcnemar_p is None:
        return None  # nothing is right or wrong
    row = (MODELS[gap.a], MODELS[gap.b], gap.a_only, gap.b_only)
    frame = pd.DataFrame([row], columns=["a", "b", "a_only", "b_only"])
    return lambda: figures.discordance(frame)


def _ties(found: Diagnosis, cause: Cause) -> Draw | None:
    numbers, keys = cause.finding.numbers, ("tied_share", "worst_pp", "best_pp")
    rows = [(MODELS[role], *(numbers[f"{role}_{key}"] for key in keys)) for role in MODELS
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
