"""The answer of a diagnosis on one card: models, gap, cause, how sure, its remedy, what to do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qinspect.diagnosis.rule import MODELS
from qinspect.metrics import Metric, towards
from qinspect.stats import Comparison
from qinspect.stats.words import better_by
from qinspect.tflite.identity import scheme_of
from qinspect.tflite.recorded import recorded_name
from qinspect.verdicts import ANSWERS, CAUSES, examples

if TYPE_CHECKING:
    from qinspect.diagnosis.answer import Cause, Diagnosis, Effect

# A gap is said to be too large, for being chosen, where so much of it is luck in the mean; chosen.
_LUCKY_SHARE = 0.1
# From this share on a remedy is said to do more than close the gap; chosen.
_ALL = 1.05
# Remarks that come before everything else: what was measured may be worth nothing.
_FIRST = ("recorded-outputs", "input-units", "no-answer", "all-near-chance")
# What tells more of a cause, with or without a checkout.
TELL_CAUSE = "python -m qinspect.causes"


@dataclass(frozen=True)
class Model:
    """One of the files: its name, format and size in bytes, its value with an interval."""

    role: str
    file: str
    format: str
    size: int
    value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Card:
    """What to know first; sentences, empty where there is nothing to say.

    ``gap`` of the models in focus and ``gaps`` of the others; ``sure`` begins with a word of
    ``verdicts``; ``change`` is what the remedy does to models and gap, ``left`` what remains.
    """

    models: tuple[Model, ...]
    first: str
    gap: str
    gaps: str
    cause: str
    sure: str
    evidence: str
    change: str
    left: str
    advice: str
    more: str

    @property
    def rows(self) -> tuple[tuple[str, str], ...]:
        """Labels and sentences, in the order in which they are read."""
        cause, sure = (self.cause, self.sure) if self.cause else (self.sure, "")
        told = {"Careful": self.first, "Gap": self.gap, "Also": self.gaps, "Cause": cause,
                "How sure": sure, "Evidence": self.evidence, "Its remedy": self.change,
                "What is left": self.left, "What to do": self.advice, "More": self.more}
        return tuple((label, said if label == "More" else capital(said))
                     for label, said in told.items() if said)

    @property
    def sentence(self) -> str:
        """Gap, cause, how sure and what the remedy changes, as running text."""
        cause = (f"Cause: {self.cause.rstrip('.')}: {self.sure}" if self.cause else
                 capital(self.sure))
        return " ".join(filter(None, (
            self.first, self.gap, cause, self.change or self.evidence, self.left)))


def card_of(found: Diagnosis) -> Card:
    """The card of a diagnosis."""
    cause = found.leading
    effect = None if cause is None else cause.effect
    named = None if found.primary == "noise" else cause
    return Card(
        models=_models(found),
        first=_first(found),
        gap=_gap(found),
        gaps=" ".join(f"{capital(better(gap))}." for gap in found.gaps
                      if gap is not found.focus),
        cause="" if named is None else f"{named.rule.title} ({named.rule.id}).",
        sure=_sure(found, named),
        evidence="" if named is None else capital(named.finding.sentence),
        change="" if cause is None or effect is None else capital(
            change(found, cause, effect)) + ".",
        left="" if cause is None or effect is None else capital(_left(found, cause, effect)),
        advice=_advice(found, cause),
        more="" if cause is None else f"{TELL_CAUSE} {cause.rule.id}",
    )


def capital(said: str) -> str:
    """The same with a capital at the start."""
    return said[:1].upper() + said[1:]


# --- models and gaps -----------------------------------------------------------------------------


def _models(found: Diagnosis) -> tuple[Model, ...]:
    values = {role: (value, interval) for gap in found.gaps for role, value, interval in
              ((gap.a, gap.value_a, gap.interval_a), (gap.b, gap.value_b, gap.interval_b))}
    files = {role: graph.file for role in found.case.roles
             if (graph := found.case.graph(role)) is not None}
    short = {role: Path(file).name for role, file in files.items()}
    if len(set(short.values())) < len(short):
        short = files
    short |= {role: recorded_name(short[role]) for role in found.case.recorded}
    return tuple(Model(role, short[role], scheme_of(graph), graph.size, *values[role])
                 for role in found.case.roles
                 if role in values and (graph := found.case.graph(role)) is not None)


def better(gap: Comparison, what: str = "") -> str:
    """Which of the two is better, and by how much."""
    return better_by(gap.verdict, MODELS[gap.a], MODELS[gap.b], gap.gap, gap.interval,
                     margin=gap.margin, metric=gap.metric, what=what)


def _gap(found: Diagnosis) -> str:
    gap, metric = found.focus, found.focus.metric
    what = metric.of + (" (lower is better)" if metric.better < 0 else "")
    said = [f"{capital(better(gap, what))}, on {examples(gap.n)}"
            + (f" in {gap.groups:,} groups" if gap.groups is not None else "") + "."]
    if gap.significant and gap.within_margin:
        said.append(f"It is real but smaller than the margin of {metric.limit(gap.margin)}.")
    if abs(gap.gap) - abs(gap.unselected) > _LUCKY_SHARE * abs(gap.gap):
        said.append("As it is looked at because it is significant, the likeliest true value is "
                    f"{metric.size(gap.unselected)}.")
    if found.primary == "noise" and not gap.significant and not math.isnan(gap.detectable):
        said.append(f"A difference of {metric.size(gap.detectable)} would be needed to be found in "
                    "four of five tries.")
    if found.primary in ANSWERS and not gap.significant:
        said.append(_cancelling(found))
    return " ".join(filter(None, said))


def _cancelling(found: Diagnosis) -> str:
    """Parts of the gap that are real, but of opposite sign."""
    real = [p for p in found.parts if p["ci_pp"][0] > 0 or p["ci_pp"][1] < 0]
    if len({p["diff_pp"] > 0 for p in real}) < 2:
        return ""
    metric = found.focus.metric
    listed = "; ".join(
        f"{p['title']} {metric.size(p['diff_pp'])} for "
        f"{MODELS['qat' if metric.better * p['diff_pp'] > 0 else 'ptq']}" for p in real)
    return f"But it hides parts that cancel: {listed}."


def _first(found: Diagnosis) -> str:
    said = [f"{MODELS[one.file] + ': ' if one.file else ''}{one.sentence}"
            for one in found.remarks
            if one.id in _FIRST or (one.id, one.file) == ("near-chance", "float")]
    return capital(" ".join(said))


# --- the cause and its remedy --------------------------------------------------------------------


def _sure(found: Diagnosis, cause: Cause | None) -> str:
    if cause is None:
        more = ("on these files it is real, but another run of the training does not have it"
                if found.primary == "noise" and found.focus.significant else "")
        return f"{ANSWERS[found.primary]}{': ' if more else ''}{more}."
    said = CAUSES[found.verdict(cause)]
    if found.proved:
        return f"{said}."
    why = cause.note or ("no remedy was tried." if not found.interventions else "")
    return f"{said}: {why}" if why else f"{said}."


def change(found: Diagnosis, cause: Cause, effect: Effect) -> str:
    """What the remedy, applied alone, does to the files and to the gap, without a full stop."""
    if cause.rule.every_file:
        return effect.done.rstrip(",")
    metric = found.focus.metric
    done = f"{effect.done.rstrip(',')}{',' if ',' in effect.done else ''}"
    if effect.left is not None:
        left = better(effect.left)
        told = left.startswith(("No gap", "Cannot tell"))
        return (f"{done} leaves {examples(effect.left.n)}, on which "
                f"{left[0].lower() if told else left[0]}{left[1:]}")
    return f"{done} {files_change(effect, metric)}{gap_change(found, effect)}"


def files_change(effect: Effect, metric: Metric) -> str:
    """What a remedy does to the files it changes, such as ``makes QAT better by 1.80 points``."""
    made, left = [], []
    for role in sorted(effect.lifts, key=list(MODELS).index):
        size, low, high = effect.lifts[role]
        by = metric.by(abs(size), towards(size, (low, high)))
        if metric.size(size) == metric.size(0.0):
            left.append(f"{MODELS[role]} as good as it was ({by})")
        else:
            made.append(f"{MODELS[role]} {'better' if size > 0 else 'worse'} by {by}")
    return " and ".join(f"{verb} {' and '.join(said)}"
                        for verb, said in (("makes", made), ("leaves", left)) if said)


def gap_change(found: Diagnosis, effect: Effect) -> str:
    """What a remedy does to the gap; after what it does to the files, if that is known."""
    metric, gap = found.focus.metric, found.focus
    size, ends = closing(gap, effect)
    if not gap.significant and not effect.confirmed:
        return ""
    share = f"{100 * effect.closed_share:.0f} %"
    one = len(effect.lifts) == 1
    told = f"the gap {metric.closing(size, ends)}"
    if one and metric.size(size) == metric.size(0.0):
        return ""
    if size <= 0:
        return ", which makes the gap larger" if one else _and(effect, told)
    turned = effect.closed_share > _ALL
    if one:
        (lift, *_), = effect.lifts.values()
        spoils = ", by spoiling the better file" if lift < 0 else ""
        return f", which is {share} of the gap{spoils}" if not turned else (
            f", which is more than the gap ({share} of it){spoils}")
    lifted = max((lift[1] for lift in effect.lifts.values()), default=0.0)
    more = ", which is more than the gap" if lifted > max(abs(gap.gap), gap.margin) else ""
    told = f"{told}, {share} of it"
    if turned:
        told = f"closes more than the gap: {metric.by(size, ends)}, {share} of it"
        return f", and {told}" if effect.lifts else told
    return more + (_and(effect, told))


def _and(effect: Effect, told: str) -> str:
    return f", and {told}" if effect.lifts else f"makes {told}"


def closing(gap: Comparison, effect: Effect) -> tuple[float, tuple[float, float]]:
    """By how much a remedy makes the gap smaller, with its interval, whichever way the gap is."""
    sign = math.copysign(1.0, gap.gap)
    return sign * effect.amount, towards(sign, effect.interval)


def _left(found: Diagnosis, cause: Cause, effect: Effect) -> str:
    """What of the gap remains once the remedy is applied, and whether that is explained."""
    gap, metric = found.focus, found.focus.metric
    if cause.rule.every_file:
        return "What the files differ by can be asked once that is put right."
    if effect.left is not None or not gap.significant:
        return ""
    size = (gap.gap - effect.amount) * math.copysign(1.0, gap.gap)
    others = [f"{other.rule.title} ({other.rule.id})" for other in found.causes
              if other.confirmed and other is not cause]
    explained = (f"the remedy of another closes a part of the gap, too: {'; '.join(others)}."
                 if others else "")
    if not found.proved:
        return explained
    share = f"{100 * size / abs(gap.gap):.0f} % of the gap"
    if effect.rest is None:
        low, high = closing(gap, effect)[1]
        if low <= abs(gap.gap) <= high:
            return f"Nothing of the gap is shown to be left. {capital(explained)}".strip()
        if size < 0:
            return f"The gap is turned round: by {metric.size(size)}. {capital(explained)}".strip()
        return f"{metric.size(size)}, {share}: {explained or 'unexplained.'}"
    rest, *ends = effect.rest
    ahead, other, by = metric.lead(MODELS[gap.a], MODELS[gap.b], rest, ends)
    if metric.size(rest) == metric.size(0.0):
        return f"No gap is left: they differ by {by}. {capital(explained)}".strip()
    if ends[0] <= 0 <= ends[1]:
        said = f"{ahead} is then better than {other} by {by}, which may be chance."
        return f"{said} {capital(explained)}".strip()
    if size < 0:
        return (f"{ahead} is then better than {other} by {by}: the gap is turned round. "
                f"{capital(explained)}").strip()
    return f"{ahead} is still better by {by}, {share}: {explained or 'unexplained.'}"


# --- what to do ----------------------------------------------------------------------------------


def _advice(found: Diagnosis, cause: Cause | None) -> str:
    gap = found.focus
    if cause is not None and found.primary != "noise":
        said = [cause.rule.remedy]
        if cause.rule.makes:
            said.append("As a script that runs: --write-fix fix.py, or .write_fix(\"fix.py\").")
        if found.recipe:
            said.append(f"In one line: {found.recipe}")
        return " ".join(said)
    if cause is not None and gap.significant:
        return "Repeat the training over several seeds before anything is concluded from one run."
    if found.primary == "none":
        return "Choose by size, speed or effort: on these examples the files are worth the same."
    if found.primary in ("undecided", "noise"):
        more = f"{gap.next.words} would find {gap.metric.size(gap.next.finds)}" if gap.next else ""
        return capital(f"{more or 'evaluate on more examples'}; until then choose by size, speed "
                       "or effort.")
    open_ = [cause for cause in found.causes if cause.effect is None and cause.may_explain(gap)
             and (cause.verdict == "not_tried" or cause.there)]
    missing = dict.fromkeys(
        need for cause in open_ for need in (
            *cause.finding.facts.get("missing", ()),
            *(one for remedy in cause.rule.remedies if remedy.trains
              for one in found.case.missing(remedy.requires))))
    if missing:
        return f"Give what more causes could be tested with: {', '.join(missing)}."
    return ("Compare the layers of the two files (qinspect compare, qinspect sensitivity): the "
            "cause is none of those that are known here.")
