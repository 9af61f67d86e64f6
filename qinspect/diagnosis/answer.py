"""The answer of a diagnosis: verdicts, effects, and the same as plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qinspect.diagnosis.rule import Finding, Outcome, Rule
from qinspect.stats import Comparison

# From this share of a gap on an effect is said to turn it round: what is left is as large.
_TURNED = 2.0
_NAMES = {"float": "the float model", "ptq": "PTQ", "qat": "QAT"}


@dataclass(frozen=True)
class Effect:
    """What the remedy of one cause, applied alone, did to the gap.

    Attributes
    ----------
    done : str
        What was done.
    effect_pp, ci_pp : float, (float, float)
        Comparison before minus gap after, percentage points, with its paired interval.
    closed_share : float
        Effect over gap; 1 closes it exactly, more than 1 turns it round.
    confirmed : bool
        Whether the effect is beyond zero in the direction of the gap and a good part of it.
    numbers : dict
        Further values.
    seconds : float
        Wall-clock time it took.
    late_seconds : float
        How long after the time allowed for interventions it ended; 0 where in time.
    """

    done: str
    effect_pp: float
    ci_pp: tuple[float, float]
    closed_share: float
    confirmed: bool
    numbers: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    late_seconds: float = 0.0


@dataclass(frozen=True)
class Cause:
    """One rule's verdict, after its intervention if there was one."""

    rule: Rule
    finding: Finding
    verdict: Outcome
    effect: Effect | None = None
    note: str | None = None

    @property
    def confirmed(self) -> bool:
        """Whether an intervention closed a significant part of the gap."""
        return self.effect is not None and self.effect.confirmed

    def may_explain(self, gap: Comparison) -> bool:
        """Whether the cause hurts the worse of the two files (or might hurt either)."""
        return not self.finding.harms or gap.worse in self.finding.harms

    def row(self) -> dict[str, Any]:
        """The cause as plain data."""
        effect = self.effect
        evidence: dict[str, Any] = dict(self.finding.numbers)
        if effect is not None:
            evidence |= effect.numbers
        return {
            "id": self.rule.id,
            "title": self.rule.title,
            "question": self.rule.question,
            "verdict": self.verdict,
            "confirmed_by_intervention": None if effect is None else effect.confirmed,
            "effect_pp": None if effect is None else effect.effect_pp,
            "ci_pp": None if effect is None else list(effect.ci_pp),
            "closed_share": None if effect is None else effect.closed_share,
            "intervention": None if effect is None else effect.done,
            "not_tried": self.note,
            "sentence": self.finding.sentence,
            "evidence": evidence,
            "symptom": self.rule.symptom,
            "cause": self.rule.cause,
            "remedy": self.rule.remedy,
            "code": self.rule.code,
            "source": self.rule.source,
        }


@dataclass(frozen=True)
class Diagnosis:
    """The answer.

    Attributes
    ----------
    gaps : tuple of Comparison
        QAT - PTQ first where both files are there.
    focus : Comparison
        The one that was explained.
    causes : tuple of Cause
        One of each rule.
    primary : str
        Id of a cause; ``noise``: a gap that might be chance; ``none``: no gap;
        ``unexplained``: a real gap for which nothing was found.
    proved : bool
        Whether the primary cause was confirmed by an intervention.
    parts : tuple of dict
        Parts that add up to the gap, from a study.
    interventions : bool
        Whether remedies were tried.
    seconds : float
        Wall-clock time.
    summary : str
        One or two sentences.
    """

    name: str
    gaps: tuple[Comparison, ...]
    focus: Comparison
    causes: tuple[Cause, ...]
    primary: str
    proved: bool
    parts: tuple[dict[str, Any], ...]
    interventions: bool
    seconds: float
    summary: str = ""

    @property
    def late_seconds(self) -> float:
        """How long after the time allowed the last intervention ended; 0 where all were in time."""
        return max((c.effect.late_seconds for c in self.causes if c.effect), default=0.0)

    def gap(self, a: str, b: str) -> Comparison | None:
        """The gap b - a, if both files are there."""
        return next((gap for gap in self.gaps if (gap.a, gap.b) == (a, b)), None)

    def cause(self, name: str) -> Cause:
        """The cause of that id."""
        return next(cause for cause in self.causes if cause.rule.id == name)

    def ordered(self) -> list[Cause]:
        """Primary first, then by what their interventions closed, then by verdict."""
        order = {"supported": 0, "present": 1, "cannot_tell": 2, "refuted": 3}

        def key(cause: Cause) -> tuple[Any, ...]:
            size = 0.0 if cause.effect is None else abs(cause.effect.effect_pp)
            return (cause.rule.id != self.primary, order[cause.verdict], -size,
                    -cause.finding.strength)

        return sorted(self.causes, key=key)

    def to_dict(self) -> dict[str, Any]:
        """The answer as numbers, strings, lists and dicts, fit for JSON.

        Returns
        -------
        dict
            ``gap_pp`` (QAT minus PTQ), ``gap_ptq_float_pp``, ``gap_qat_float_pp``: None where a
            file is missing; ``focus``, the gap that was explained, and its ``ci_pp``; ``causes``;
            ``primary``, ``proved``, ``summary``; ``decomposition``: effects of interventions
            alone, the largest first (they overlap and need not add up); ``parts``: parts of the
            gap that do; ``ruled_out``; ``not_testable`` with the inputs that would allow it.
        """
        qat = self.gap("ptq", "qat")
        ptq, of_qat = self.gap("float", "ptq"), self.gap("float", "qat")
        rows = [cause.row() for cause in self.ordered()]
        tried = [row for row in rows if row["effect_pp"] is not None]
        return _plain(
            {
                "gap_pp": None if qat is None else qat.diff_pp,
                "gap_ptq_float_pp": None if ptq is None else ptq.diff_pp,
                "gap_qat_float_pp": None if of_qat is None else of_qat.diff_pp,
                "ci_pp": list(self.focus.ci_pp),
                "n": self.focus.n,
                "focus": {
                    "a": self.focus.a,
                    "b": self.focus.b,
                    "accuracy_a": self.focus.accuracy_a,
                    "accuracy_b": self.focus.accuracy_b,
                    "diff_pp": self.focus.diff_pp,
                    "p": self.focus.p_single,
                    "p_adjusted": self.focus.p_adjusted,
                    "mde_pp": self.focus.mde_pp,
                    "significant": self.focus.significant,
                    "verdict": self.focus.verdict,
                    "metric": self.focus.metric,
                    "gap": self.focus.gap,
                    "unit": self.focus.unit,
                    "direction": self.focus.direction,
                },
                "causes": rows,
                "primary": self.primary,
                "proved": self.proved,
                "summary": self.summary,
                "decomposition": [
                    {key: row[key] for key in
                     ("id", "title", "effect_pp", "ci_pp", "closed_share",
                      "confirmed_by_intervention")}
                    for row in sorted(tried, key=lambda row: -abs(row["effect_pp"]))
                ],
                "parts": sorted(self.parts, key=lambda part: -abs(part["diff_pp"])),
                "ruled_out": [row["id"] for row in rows if row["verdict"] == "refuted"],
                "not_testable": [
                    {"id": row["id"], "needs": row["evidence"].get("missing", []),
                     "reason": row["sentence"]}
                    for row in rows if row["verdict"] == "cannot_tell"
                ],
                "interventions": self.interventions,
                "seconds": self.seconds,
                "late_seconds": self.late_seconds,
            }
        )


def summarise(found: Diagnosis) -> str:
    """One or two sentences for people."""
    gap = found.focus
    level = f"[{gap.ci_pp[0]:+.2f}, {gap.ci_pp[1]:+.2f}]"
    what = (
        f"{_NAMES[gap.b]} minus {_NAMES[gap.a]} is {gap.diff_pp:+.2f} points {level} on "
        f"{gap.n:,} examples"
    )
    what = what[0].upper() + what[1:]
    if found.primary == "none":
        return f"{what}: there is no gap to explain.{_cancelling(found)}"
    if found.primary == "noise":
        return (
            f"{what}: that may be chance; a difference of {gap.mde_pp:.1f} points would be needed "
            f"to be found in four of five tries.{_cancelling(found)}"
        )
    if found.primary == "unexplained":
        return f"{what}; it is real, but none of the causes that could be tested explains it."
    cause = found.cause(found.primary)
    if found.proved and cause.effect is not None:
        e = cause.effect
        text = (
            f"{what}. Cause: {cause.rule.title}: {e.done} changes the gap by {-e.effect_pp:+.2f} "
            f"points [{-e.ci_pp[1]:+.2f}, {-e.ci_pp[0]:+.2f}]"
            f"{', which turns it round' if e.closed_share >= _TURNED else ''}."
        )
        others = [c.rule.title for c in found.causes if c.confirmed and c is not cause]
        if others:
            text += f" It is also closed in part by the remedy of: {'; '.join(others)}."
        return text
    how = "not proved by an intervention"
    return (
        f"{what}. The evidence supports best: {cause.rule.title} ({how}). "
        f"{cause.finding.sentence[0].upper()}{cause.finding.sentence[1:]}"
    )


def _cancelling(found: Diagnosis) -> str:
    """Parts of the gap that are real, but of opposite sign."""
    real = [p for p in found.parts if p["ci_pp"][0] > 0 or p["ci_pp"][1] < 0]
    if len({p["diff_pp"] > 0 for p in real}) < 2:
        return ""
    listed = ", ".join(f"{p['title']} {p['diff_pp']:+.2f}" for p in real)
    return f" But it hides parts that cancel: {listed} points."


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
