"""Ask every rule, try the remedies one at a time, and say which cause explains the gap."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from qinspect.diagnosis import thresholds as t
from qinspect.diagnosis.answer import Cause, Diagnosis, Effect, summarise
from qinspect.diagnosis.cases import Case
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.registry import all_rules
from qinspect.diagnosis.rule import Finding, Remedy, Rule, Trial, cannot_tell
from qinspect.errors import DataError, QinspectError
from qinspect.stats import Comparison

# Shares of the budget are not planned: what does not start in time is reported as not tried.
BUDGET_SECONDS = 150.0


@dataclass(frozen=True)
class _Tried:
    """What came of the remedies of one cause."""

    effect: Effect | None
    note: str | None


def diagnose(
    case: Case,
    *,
    interventions: bool = True,
    training: bool = True,
    rules: Iterable[str] | None = None,
    budget_seconds: float = BUDGET_SECONDS,
    num_threads: int = 2,
    progress: Callable[[str], None] | None = None,
) -> Diagnosis:
    """Name the cause of the difference between a case's files.

    Parameters
    ----------
    case : Case
    interventions : bool
        Apply the remedy of each possible cause alone and measure what it changes.
    training : bool
        Also those that need TensorFlow.
    rules : iterable of str, optional
        Causes to ask about; all when not given.
    budget_seconds : float
        No intervention is started later than this.  One that is running is not stopped; by how
        much the last one ended too late is part of the answer.
    num_threads : int
        Of every interpreter.
    progress : callable, optional
        Told in a few words what is being done.

    Returns
    -------
    Diagnosis

    Raises
    ------
    DataError
        If there are no labelled evaluation examples.
    ModelFileError
        If a file cannot be run on them.
    """
    if case.data is None or bool((case.data.y < 0).any()):
        raise DataError("a diagnosis needs evaluation examples with labels: x and y.")
    started = time.perf_counter()
    deadline = started + budget_seconds
    say = progress or (lambda text: None)
    evidence = Evidence(case, num_threads)
    gaps = _gaps(evidence)
    focus = _focus(gaps)
    known = all_rules()
    chosen = known if rules is None else {name: known[name] for name in rules}
    causes = []
    for rule in chosen.values():
        say(f"asking: {rule.question}")
        finding = _check(rule, evidence)
        causes.append(Cause(rule, finding, finding.verdict))
    if interventions and focus.significant:
        for at, cause in enumerate(causes):
            if not _worth_trying(cause, focus):
                continue
            say(f"trying: {cause.rule.remedy}")
            tried = _try_remedies(cause, evidence, focus, training=training, deadline=deadline)
            causes[at] = replace(cause, effect=tried.effect, note=tried.note)
        if not any(cause.confirmed for cause in causes):
            causes = [_other_seed(cause, evidence, focus, training, deadline) for cause in causes]
    causes = [_judge(cause, focus) for cause in causes]
    if any(cause.confirmed for cause in causes):
        # What was not tried cannot stand beside what was proved.
        causes = [_only_there(cause) for cause in causes]
    primary, proved = _primary(causes, focus)
    found = Diagnosis(
        name=case.name,
        gaps=gaps,
        focus=focus,
        causes=tuple(causes),
        primary=primary,
        proved=proved,
        parts=case.parts if {focus.a, focus.b} == {"ptq", "qat"} else (),
        interventions=interventions,
        seconds=time.perf_counter() - started,
    )
    return replace(found, summary=summarise(found))


# --- the gap -----------------------------------------------------------------------------------


def _gaps(evidence: Evidence) -> tuple[Comparison, ...]:
    """The differences among the files that there are: QAT - PTQ, then those to float."""
    roles = evidence.case.roles
    wanted = (("ptq", "qat"), ("float", "ptq"), ("float", "qat"))
    return tuple(
        evidence.comparison(a, b) for a, b in wanted if a in roles and b in roles
    )


def _focus(gaps: tuple[Comparison, ...]) -> Comparison:
    """The gap to explain: the first, unless only the loss of PTQ to float is real and large."""
    first = gaps[0]
    if first.significant:
        return first
    for gap in gaps[1:]:
        if gap.b == "ptq" and gap.significant and abs(gap.diff_pp) >= t.PTQ_LOSS_PP:
            return gap
    return first


# --- rules and remedies -------------------------------------------------------------------------


def _check(rule: Rule, evidence: Evidence) -> Finding:
    missing = evidence.case.missing(rule.requires)
    if missing:
        return cannot_tell(f"cannot tell: needs {' and '.join(missing)}.", {"missing": missing})
    try:
        return rule.check(evidence)
    except QinspectError as error:
        return cannot_tell(f"cannot tell: {error}")


def _worth_trying(cause: Cause, focus: Comparison) -> bool:
    """A refuted cause is not tried, nor one that hurts only the better of the two files."""
    if cause.finding.verdict == "refuted" or not cause.rule.remedies:
        return False
    return cause.may_explain(focus)


def _other_seed(
    cause: Cause, evidence: Evidence, focus: Comparison, training: bool, deadline: float
) -> Cause:
    """Where nothing else explains a gap, ask whether another run of the training has it too."""
    if cause.rule.id != "noise":
        return cause
    tried = _try_remedies(cause, evidence, focus, training=training, deadline=deadline)
    return replace(cause, effect=tried.effect, note=tried.note)


def _try_remedies(
    cause: Cause, evidence: Evidence, focus: Comparison, *, training: bool, deadline: float
) -> _Tried:
    """The first remedy that can be applied, measured; or why none could."""
    reasons = []
    for remedy in cause.rule.remedies:
        missing = evidence.case.missing(remedy.requires)
        if missing:
            reasons.append(f"{remedy.title} needs {' and '.join(missing)}")
        elif remedy.trains and not training:
            reasons.append(f"{remedy.title} needs TensorFlow, which was not to be used")
        elif time.perf_counter() >= deadline:
            reasons.append(f"{remedy.title} was not tried for lack of time")
        else:
            applied = _apply(remedy, cause, evidence, focus)
            if isinstance(applied, Effect):
                late = max(0.0, time.perf_counter() - deadline)
                return _Tried(replace(applied, late_seconds=late), None)
            reasons.append(applied)
    return _Tried(None, "; ".join(dict.fromkeys(reasons)) + ".")


def _apply(remedy: Remedy, cause: Cause, evidence: Evidence, focus: Comparison) -> Effect | str:
    begun = time.perf_counter()
    try:
        trial = remedy.apply(evidence, cause.finding)
        if trial is None or not {focus.a, focus.b} & set(trial.swaps):
            return f"{remedy.title} does not apply to this gap"
        measured = measure_effect(evidence, focus, trial)
    except QinspectError as error:
        return f"{remedy.title} failed: {error}"
    return replace(measured, seconds=time.perf_counter() - begun)


def measure_effect(evidence: Evidence, focus: Comparison, trial: Trial) -> Effect:
    """How much of a gap disappears when some files' predictions are replaced.

    Parameters
    ----------
    evidence : Evidence
    focus : Comparison
        b - a.
    trial : Trial

    Returns
    -------
    Effect
        ``effect_pp`` is the gap before minus the gap after, with a paired score interval.
    """
    results, signs = evidence.results(), dict[str, float]()
    if trial.index is not None:
        results = results.take(trial.index)
    mended = {role: evidence.right(found, trial.index) for role, found in trial.swaps.items()}
    for role, sign in ((focus.b, 1.0), (focus.a, -1.0)):
        if role not in trial.swaps:
            continue
        results = results.with_outputs(**{f"{role}, mended": mended[role]})
        if role in trial.controls:
            control = evidence.right(trial.controls[role], trial.index)
            results = results.with_outputs(**{role: control})
        signs |= {role: sign, f"{role}, mended": -sign}
    estimate, low, high = results.contrast(signs)
    toward = (low, high) if focus.diff_pp > 0 else (-high, -low)
    closed = estimate / focus.diff_pp if focus.diff_pp else 0.0
    return Effect(
        done=trial.done,
        effect_pp=estimate,
        ci_pp=(low, high),
        closed_share=closed,
        confirmed=toward[0] > 0 and closed >= t.CLOSED_SHARE,
        numbers={
            **trial.numbers,
            **{f"accuracy_{role}_mended": float(right.mean()) for role, right in mended.items()},
        },
    )


# --- verdicts ----------------------------------------------------------------------------------


def _judge(cause: Cause, focus: Comparison) -> Cause:
    """Supported becomes present where there is no gap, or the remedy does not close it."""
    verdict = cause.finding.verdict
    if cause.rule.id == "noise" and not cause.confirmed:
        return cause
    if cause.effect is not None and cause.effect.confirmed:
        return replace(cause, verdict="supported")
    if verdict == "supported" and (
        not focus.significant or cause.effect is not None or not cause.may_explain(focus)
    ):
        return replace(cause, verdict="present")
    if verdict == "cannot_tell" and cause.effect is not None:
        return replace(cause, verdict="refuted")
    return cause


def _only_there(cause: Cause) -> Cause:
    untested = cause.verdict == "supported" and not cause.confirmed
    return replace(cause, verdict="present") if untested else cause


def _primary(causes: list[Cause], focus: Comparison) -> tuple[str, bool]:
    """Id of the cause that explains the gap, and whether an intervention proved it."""
    if not focus.significant:
        claimed = abs(focus.diff_pp) >= t.NOTICEABLE_PP and not focus.equivalent
        return ("noise" if claimed else "none"), True
    confirmed = [c for c in causes if c.confirmed]
    if confirmed:
        return min(confirmed, key=lambda c: (c.rule.rank, -_share(c))).rule.id, True
    left = [c for c in causes if c.verdict == "supported" and c.rule.id != "noise"]
    if left:
        best = max(left, key=lambda c: (round(c.finding.strength, 3), -c.rule.rank))
        return best.rule.id, False
    return "unexplained", False


def _share(cause: Cause) -> float:
    assert cause.effect is not None
    return cause.effect.closed_share
