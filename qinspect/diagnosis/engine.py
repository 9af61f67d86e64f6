"""Ask every rule, try the remedies one at a time, and say which cause explains the gap."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np

from qinspect.diagnosis.advising import advised
from qinspect.diagnosis.answer import CLOSED_SHARE, Cause, Diagnosis, Effect
from qinspect.diagnosis.cases import Case, Claim, case
from qinspect.diagnosis.cutting import first_cuts
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.judging import judged, surely
from qinspect.diagnosis.replicates import LOOKS, measure_replicates
from qinspect.diagnosis.retrain import Maker, side_by_side
from qinspect.diagnosis.rule import (
    CALIBRATION,
    MODELS,
    Finding,
    Remedy,
    Rule,
    Trial,
    not_tried,
    speaking,
)
from qinspect.errors import DataError, QinspectError, unknown_name
from qinspect.measure.remarks import (
    Scored,
    answer_remarks,
    chance_remarks,
    float_worst,
    unit_remarks,
)
from qinspect.progress import Progress, make_progress
from qinspect.schema import Array
from qinspect.shown import tell
from qinspect.stats import Comparison
from qinspect.stats.paired import score_interval
from qinspect.studies.stored import Study
from qinspect.tflite.isolated import cores
from qinspect.tflite.remarks import Remark
from qinspect.tflite.task import labels_of_float, metric_against_float

# A gap to float that is so many times as large as that between PTQ and QAT is what has to be
# explained; chosen.
_LARGER = 5.0


@dataclass(frozen=True)
class _Tried:
    """What came of the remedies of one cause."""

    effect: Effect | None
    note: str | None = None
    later: bool = False  # a remedy that trains comes next


def diagnose(
    case_or_study: Case | Study | str | os.PathLike[str],
    *,
    causes: Iterable[str | Rule] | None = None,
    interventions: bool = True,
    training: bool = True,
    budget: float = 150.0,
    num_threads: int | None = None,
    progress: Progress | None = None,
    notify: Callable[[str], None] | None = None,
) -> Diagnosis:
    """Name the cause of the difference between float, PTQ and QAT, and prove it.

    Parameters
    ----------
    case_or_study : Case, Study or path
        What is known, from :func:`qinspect.case`; or a finished study or its folder.
    causes : iterable of str, optional
        Ids of the causes to ask about (``docs/causes.md``); all when not given.
    interventions : bool
        Apply the remedy of each possible cause alone and measure what it changes.
    training : bool
        Also those that need TensorFlow.
    budget : float
        Seconds after which no intervention and no training is started.  One that is running is not
        stopped, unless those that would have to follow it are not started any more; by how much the
        last one ended too late is part of the answer.
    num_threads : int, optional
        Interpreters of each file side by side, of one thread each, and processes that train; one a
        core unless given.
    progress : callable, optional
        ``progress(phase, done, total, message)``; chosen for terminal, notebook or log when not
        given.
    notify : callable, optional
        Told the answer so far, and what is left to be tried, before anything is trained; a line of
        standard error when not given.  Ctrl-C from then on ends with what is known.

    Returns
    -------
    Diagnosis

    Raises
    ------
    DataError
        If there are no evaluation examples; or none with labels and no float file, whose answers
        take their place.
    ModelFileError
        If a file cannot be run on them.
    SpecError
        If a cause is not known.

    Examples
    --------
    >>> from qinspect.diagnosis.cases import case
    >>> found = diagnose(case(float="float.tflite", ptq="ptq.tflite", data="data.npz"))
    >>> found.primary, found.proved
    ('calibration-shift', True)
    >>> found.frame.loc[0, ["id", "verdict"]].tolist()
    ['calibration-shift', 'explains']
    """
    given = case_or_study if isinstance(case_or_study, Case) else case(case_or_study)
    if given.data is None:
        raise DataError("a diagnosis needs evaluation examples: x and, if known, y.")
    started = time.perf_counter()
    deadline = started + budget
    show = progress or make_progress()
    evidence = Evidence(given, num_threads)
    # Refused here where files can be scored in more than one way.
    if evidence.task.metric is None:
        evidence = Evidence(against_float(evidence), num_threads)
        given, training = evidence.case, False
    given = evidence.case = _with_recorded(evidence)
    roles = {role: evidence.graph(role) for role in given.roles}
    units = unit_remarks(roles, dict.fromkeys(roles, evidence.data.x), str)
    gaps = _gaps_of_numbers(evidence)
    focus = _focus(gaps)
    rules = _rules(causes)
    show("evidence", 0, len(rules) + 1, "weights and activations apart")
    cuts = first_cuts(evidence)
    found = []
    for done, rule in enumerate(rules, 1):
        show("evidence", done, len(rules) + 1, rule.question)
        finding = _check(rule, evidence)
        found.append(Cause(rule, finding, finding.verdict))
    show("evidence", len(rules) + 1, len(rules) + 1, f"{len(rules)} causes asked about")
    remarks = (*_recorded_remarks(evidence), *units, *_remarks(evidence, gaps))

    def answer(found: list[Cause]) -> Diagnosis:
        causes, primary, proved = judged(found, focus)
        return Diagnosis(
            case=given,
            gaps=gaps,
            focus=focus,
            causes=causes,
            primary=primary,
            proved=proved,
            parts=given.parts if {focus.a, focus.b} == {"ptq", "qat"} else (),
            interventions=interventions,
            seconds=time.perf_counter() - started,
            remarks=remarks,
            cuts=cuts,
        )

    if interventions:
        # A look takes no more at once than its runs of remedy and sham.
        workers = min(num_threads or cores(), 2 * LOOKS[0])
        how = f"on {workers} processes" if workers > 1 else "one after the other"
        later = _without_training(found, evidence, focus, training, deadline, show)
        if later:
            titles = "; ".join(found[at].rule.remedy.rstrip(".") for at in later)
            (notify or tell)(
                f"So far, with nothing trained: {answer(found).sentence}\n"
                f"Next come remedies that train ({titles}): each {LOOKS[0]} to {LOOKS[-1]} times, "
                f"and as often the same without it, {how}. None is begun after "
                f"{max(0.0, deadline - time.perf_counter()):.0f} s.")
        _with_training(found, later, evidence, focus, training, deadline, show,
                       side_by_side(evidence, workers, notify or tell))
    told = answer(found)
    explains = interventions and told.primary in {cause.rule.id for cause in told.causes}
    if explains and told.cause(told.primary).rule.rank == CALIBRATION:
        show("calibration", 0, 1, "how many examples, and which")
        told = replace(told, advice=advised(evidence), seconds=time.perf_counter() - started)
        show("calibration", 1, 1, "calibrated with parts of the set")
    return told


def _without_training(
    found: list[Cause], evidence: Evidence, focus: Comparison, training: bool, deadline: float,
    show: Progress,
) -> list[int]:
    """Try what trains nothing, the effects put into ``found``; where a training comes next."""
    # What spoils the evaluation of every file is asked about first, with or without a gap.
    order = sorted((at for at, cause in enumerate(found) if _worth_trying(cause, focus)),
                   key=lambda at: not found[at].rule.every_file)
    later, spoilt = [], False
    for done, at in enumerate(order):
        cause = found[at]
        if spoilt:
            note = "the evaluation of all files has to be put right first."
            found[at] = replace(cause, note=note)
            continue
        show("remedies", done, len(order), cause.rule.remedy)
        tried = _try_remedies(cause, evidence, focus, training=training, deadline=deadline)
        found[at] = replace(cause, effect=tried.effect, note=tried.note)
        if tried.later:
            later.append(at)
            continue
        spoilt = cause.rule.every_file and (found[at].confirmed or _beyond_doubt(found[at]))
    if order:
        show("remedies", len(order), len(order), f"{len(order) - len(later)} tried")
    return later


def _with_training(
    found: list[Cause], later: list[int], evidence: Evidence, focus: Comparison, training: bool,
    deadline: float, show: Progress, makers: AbstractContextManager[Maker],
) -> None:
    """Try what trains; and where nothing explains a gap, whether another run has it at all."""

    def train(at: int, done: int, make: Maker) -> None:
        replicate = partial(measure_replicates, deadline=deadline, make=make,
                            say=partial(show, "training", done, len(later)))
        tried = _try_remedies(found[at], evidence, focus, training=training, deadline=deadline,
                              replicate=replicate)
        found[at] = replace(found[at], effect=tried.effect, note=tried.note)

    begun = 0
    try:
        with makers as make:
            for begun, at in enumerate(later):
                train(at, begun, make)
            begun = len(later)
            if focus.significant and not any(cause.confirmed for cause in found):
                for at in (at for at, cause in enumerate(found) if cause.rule.id == "noise"):
                    train(at, len(later), make)
    except KeyboardInterrupt:
        for at in later[begun:]:
            found[at] = replace(found[at], note="its training was stopped.")
    if later:
        show("training", len(later), len(later), "done")


def against_float(evidence: Evidence) -> Case:
    """The case of unlabelled examples, held against the float file's own answers.

    What trains a model anew moves it away from these for better or worse, so it is not tried.
    """
    given, task = evidence.case, evidence.task
    if given.float_graph is None or given.data is None:
        raise DataError("without labels y a diagnosis needs the float file, whose answers take "
                        "their place.")
    own = evidence.evaluation("float")
    metric = metric_against_float(given.float_graph, task.outputs["float"])
    data = replace(given.data, y=labels_of_float(metric, own.prediction, own.outputs),
                   num_classes=own.raw[0].size if metric.classes else 0)
    return replace(given, data=data, metric=metric)


def _with_recorded(evidence: Evidence) -> Case:
    """The case with recorded classes as claims, so that mistakes of making them are looked for."""
    given = evidence.case
    claims = {role: Claim(evidence.recording(role).prediction) for role in given.recorded
              if evidence.of_classes}
    for role in given.debugger:
        evidence.debugger(role)  # a table of another file is refused here
    return replace(given, claims={**given.claims, **claims})


def _recorded_remarks(evidence: Evidence) -> tuple[Remark, ...]:
    """That the gap is not that of the files run here, and where what was recorded comes from."""
    return tuple(Remark(
        "recorded-outputs", f"the gap is that of recorded outputs ({found.said.rstrip('.')}), not "
        f"of the file run here; {seen.sentence}", asdict(seen), role)
        for role in evidence.case.recorded
        for found, seen in [(evidence.recording(role), evidence.beside(role))])


# --- what should be heard unasked ---------------------------------------------------------------


def _remarks(evidence: Evidence, gaps: tuple[Comparison, ...]) -> list[Remark]:
    roles = evidence.case.roles
    runs = {}
    for role in roles:
        with suppress(QinspectError):  # every rule that needs the file says why it does not run
            runs[role] = evidence.evaluation(role)
    found = [remark for role in runs for remark in evidence.output_remarks(role)]
    if evidence.of_classes:
        found += answer_remarks({role: run.prediction for role, run in runs.items()})
        found += chance_remarks({role: Scored(run.prediction, evidence.data.labels,
                                              math.prod(run.raw.shape[1:]))
                                 for role, run in runs.items()}, by_file=False)
    return [*found, *float_worst(gaps, "float", ["qat"])]


# --- the gap -----------------------------------------------------------------------------------


def _gaps_of_numbers(evidence: Evidence) -> tuple[Comparison, ...]:
    """The differences; weights that are no numbers are named where they leave none to score."""
    from qinspect.causes.non_finite import told

    try:
        return _gaps(evidence)
    except QinspectError as error:
        for role in evidence.case.roles:
            if found := told(evidence.graph(role)):
                raise DataError(f"the {MODELS[role]} file holds {found}, so there is nothing to "
                                f"compare: {error}") from error
        raise


def _gaps(evidence: Evidence) -> tuple[Comparison, ...]:
    """The differences among the files that there are: QAT - PTQ, then those to float."""
    roles = evidence.case.roles
    wanted = (("ptq", "qat"), ("float", "ptq"), ("float", "qat"))
    return tuple(
        evidence.comparison(a, b) for a, b in wanted if a in roles and b in roles
    )


def _focus(gaps: tuple[Comparison, ...]) -> Comparison:
    """The gap to explain: the first, unless one to float is real and it is not, or far larger."""
    first = gaps[0]
    real = [gap for gap in gaps[1:] if gap.significant and abs(gap.gap) >= gap.margin]
    if first.significant:
        real = [gap for gap in real if abs(gap.gap) >= _LARGER * abs(first.gap)]
    # Where both are as far from float, PTQ is: nothing but quantization lies between the two.
    return max(real, key=lambda gap: (gap.b == "ptq", abs(gap.gap)), default=first)


# --- rules and remedies -------------------------------------------------------------------------


def _rules(causes: Iterable[str | Rule] | None) -> list[Rule]:
    from qinspect.causes import all_rules

    known = all_rules()
    chosen: Iterable[str | Rule] = known if causes is None else causes
    rules = []
    for cause in chosen:
        if isinstance(cause, str) and cause not in known:
            raise unknown_name("cause", cause, known)
        rules.append(known[cause] if isinstance(cause, str) else cause)
    return rules


def _check(rule: Rule, evidence: Evidence) -> Finding:
    missing = evidence.case.missing(rule.requires)
    if missing:
        return not_tried(f"cannot tell: needs {' and '.join(missing)}.", (), {"missing": missing})
    try:
        return rule.check(evidence)
    except QinspectError as error:
        return not_tried(f"cannot tell: {error}")


def _worth_trying(cause: Cause, focus: Comparison) -> bool:
    """A cause that is ruled out is not tried, nor one that hurts only the better of the two."""
    if cause.finding.verdict in ("ruled_out", "does_not_apply") or not cause.rule.remedies:
        return False
    if cause.rule.every_file:
        return cause.verdict == "indicated"
    return focus.significant and cause.may_explain(focus)


def _beyond_doubt(cause: Cause) -> bool:
    """Whether the files themselves show it, and no remedy has told what it does."""
    return cause.finding.strength >= 1.0 and cause.effect is None


def _try_remedies(
    cause: Cause, evidence: Evidence, focus: Comparison, *, training: bool, deadline: float,
    replicate: Callable[..., Effect | str] | None = None,
) -> _Tried:
    """The first remedy that can be applied, measured; or why none could.

    One that leaves a doubt holds until a later one leaves none.  Remedies that train wait for what
    measures these (``replicate``); then the others have been tried.
    """
    reasons: list[str] = []
    failed: list[str] = []
    doubted = cause.effect
    for remedy in cause.rule.remedies:
        if cause.effect is not None and not remedy.trains:
            continue  # tried before anything was trained
        missing = evidence.case.missing(remedy.requires)
        if missing:
            reasons.append(f"{remedy.title} needs {' and '.join(missing)}")
        elif remedy.trains and not training:
            reasons.append(f"{remedy.title} needs TensorFlow, which was not to be used")
        elif time.perf_counter() >= deadline:
            failed.append(f"{remedy.title} was not tried for lack of time")
        elif remedy.trains and replicate is None:
            return _Tried(doubted, later=True)
        else:
            applied = _apply(remedy, cause, evidence, focus, replicate)
            if isinstance(applied, Effect):
                late = max(0.0, time.perf_counter() - deadline)
                effect = replace(applied, late_seconds=late, mends=remedy.mends)
                if not effect.doubt:
                    return _Tried(effect)
                doubted = effect
            elif applied is None:
                reasons.append(f"{remedy.title} does not apply to this gap")
            else:
                failed.append(applied)
    # Beside a doubt stands only what went wrong with settling it.
    said = dict.fromkeys(failed if doubted else [*reasons, *failed])
    return _Tried(doubted, f"{'; '.join(said)}." if said else None)


def _apply(
    remedy: Remedy, cause: Cause, evidence: Evidence, focus: Comparison,
    replicate: Callable[..., Effect | str] | None,
) -> Effect | str | None:
    """What the remedy did, or in words why that is not known; None where it does not apply."""
    begun = time.perf_counter()
    try:
        trial = remedy.apply(evidence, cause.finding)
        if trial is None or (trial.kept is None and not {focus.a, focus.b} & trial.roles):
            return None
        if trial.kept is not None:
            measured: Effect | str = measure_fewer(evidence, focus, trial, trial.kept)
        elif not trial.again:
            measured = measure_effect(evidence, focus, trial)
        else:
            assert replicate is not None
            measured = replicate(evidence, focus, trial, cause=cause.rule.id)
        if isinstance(measured, str):
            return measured
    except QinspectError as error:
        return f"{remedy.title} failed: {str(error).rstrip('.')}"
    return replace(measured, seconds=time.perf_counter() - begun, seen=speaking(trial.seen),
                   numbers=measured.numbers | {m.id: m.value for m in trial.seen})


def measure_effect(evidence: Evidence, focus: Comparison, trial: Trial) -> Effect:
    """How much of a gap b - a disappears when some files' predictions are replaced."""
    results = evidence.results(own=not trial.claim)
    if trial.index is not None:
        results = results.take(trial.index)
    results = results.with_outputs(**{
        f"{role}, mended": evidence.scorable(found, trial.index)
        for role, found in trial.swaps.items()})
    instead = {role: f"{role}, mended" for role in {focus.a, focus.b} & set(trial.swaps)}
    controls = {role: evidence.scorable(trial.controls[role], trial.index)
                for role in instead if role in trial.controls}
    value = "accuracy" if evidence.of_classes else "score"
    # A control that loses more than the file itself has a fault that the file does not have.
    bases = [results.with_outputs(**controls), *([results] if controls else [])]
    (estimate, low, high), results = min(
        ((base.effect(focus.a, focus.b, instead), base) for base in bases),
        key=lambda found: math.copysign(1.0, focus.gap) * found[0][0])
    closed = estimate / focus.gap if focus.gap else 0.0
    confirmed = _closes(focus, closed, (low, high)) and not trial.once and not trial.doubt
    better = results.metric.better
    lifts = {role: results.contrast({mended: better, role: -better})
             for role, mended in instead.items()}
    whole = trial.index is None and not trial.controls
    return Effect(
        done=trial.done,
        amount=estimate,
        interval=(low, high),
        rest=results.contrast({instead.get(focus.b, focus.b): 1.0,
                               instead.get(focus.a, focus.a): -1.0}) if whole else None,
        closed_share=closed,
        confirmed=confirmed if trial.shown is None else trial.shown,
        once=trial.once,
        shown=trial.shown,
        doubt=trial.doubt,
        lifts=lifts,
        numbers={
            **trial.numbers,
            **{f"{value}_{role}_mended": results.value(f"{role}, mended")
               for role in trial.swaps},
        },
    )


def _closes(focus: Comparison, closed: float, interval: tuple[float, float]) -> bool:
    """Whether an effect is in the direction of the gap, beyond luck, and a good part of it.

    By so much as the gap is too large for being chosen, any other answers would close it.
    """
    lucky = abs(focus.gap) - abs(focus.unselected)
    return surely(focus, interval) > lucky and closed >= CLOSED_SHARE


def measure_fewer(evidence: Evidence, focus: Comparison, trial: Trial, kept: Array) -> Effect:
    """What becomes of the gap when some examples are left out: it closes, or may be chance."""
    results = evidence.results()
    left = evidence.comparison_of(kept, focus.a, focus.b)
    amount = focus.gap - left.gap
    if results.metric.kind == "example":
        difference = results.scores(focus.b).astype(float) - results.scores(focus.a)
        weight = 1.0 - np.isin(np.arange(results.n), kept) * results.n / len(kept)
        away = (difference - difference[kept].mean()) * weight
        ends = score_interval(away, results.confidence, results.groups)
        interval = (results.metric.scale * ends[0], results.metric.scale * ends[1])
    else:
        drawn = (results.resampled(focus.a, focus.b)
                 - results.take(kept).resampled(focus.a, focus.b))
        outside = (1 - results.confidence) / 2
        low, high = np.quantile(drawn, (outside, 1 - outside))
        interval = (float(low), float(high))
    closed = amount / focus.gap if focus.gap else 0.0
    return Effect(
        done=trial.done, amount=amount, interval=interval, closed_share=closed, left=left,
        confirmed=_closes(focus, closed, interval) or (trial.copies and not left.significant),
        numbers={"left_gap": left.gap, "left_low": left.interval[0],
                 "left_high": left.interval[1], "left_p": left.p, "left_examples": left.n},
    )
