"""The answer of a diagnosis: verdicts, effects, and the same as plain data."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from qinspect import store
from qinspect.diagnosis.card import Card, card_of
from qinspect.diagnosis.cases import NEEDS, OPTIONS, Case
from qinspect.diagnosis.rule import Finding, Rule
from qinspect.measure.calibration_sets import CalibrationAdvice
from qinspect.measure.first_cut import FirstCut
from qinspect.shown import Shown
from qinspect.stats import Comparison
from qinspect.tflite.remarks import Remark
from qinspect.verdicts import CauseVerdict

# An intervention closes a good part of the gap from this share on; chosen.
CLOSED_SHARE = 0.3
# From the verdict that says most about a gap to the one that says least.
_ORDER = ("explains", "indicated", "not_shown", "not_tried", "ruled_out", "does_not_apply")


@dataclass(frozen=True)
class Effect:
    """What the remedy of one cause, applied alone, did to the gap.

    ``amount`` is the gap before minus the gap after, in the metric's unit, ``interval`` its paired
    interval; ``closed_share`` is effect over gap (1 closes it exactly, more turns it round);
    ``confirmed``: the effect is in the direction of the gap, beyond zero and beyond what the gap is
    too large by for being chosen, and a good part of it.
    ``runs``: how often a remedy that trains was run, and the same without it; ``luck``: what the
    latter closed by itself.  ``once``: it was trained once, so that luck is not told apart.
    ``shown``: whether the trial itself has shown the cause, where it can, whatever the gap does.
    ``doubt``: why closing the gap is no proof all the same, and what would make it one.
    ``left``: what is compared then, where examples were left out.
    ``rest``: the gap b - a that remains, with its interval, where it is of the same examples.
    ``lifts``: by how much the remedy makes each file of the gap better, in the metric's unit, with
    its interval.  ``seen``: applying it showed the cause itself.  ``mends``: other causes that the
    remedy takes away as well.
    ``late_seconds``: how long after the time allowed for interventions it ended.
    """

    done: str
    amount: float
    interval: tuple[float, float]
    closed_share: float
    confirmed: bool
    numbers: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    late_seconds: float = 0.0
    runs: int = 0
    luck: float | None = None
    once: bool = False
    shown: bool | None = None
    doubt: str = ""
    left: Comparison | None = None
    rest: tuple[float, float, float] | None = None
    lifts: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    seen: bool = False
    mends: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cause:
    """One rule's verdict, after its intervention if there was one."""

    rule: Rule
    finding: Finding
    verdict: CauseVerdict
    effect: Effect | None = None
    note: str | None = None

    @property
    def confirmed(self) -> bool:
        """Whether evidence speaks for it and its intervention closed a good part of the gap.

        A remedy that closes a gap proves nothing of a cause that nobody saw.
        """
        return self.closed and self.seen

    @property
    def seen(self) -> bool:
        """Whether something speaks for the cause itself, be it only once its remedy was applied."""
        applied = self.effect is not None and self.effect.seen
        return applied or self.finding.verdict == "indicated"

    @property
    def closed(self) -> bool:
        """Whether its intervention closed a good part of the gap."""
        return self.effect is not None and self.effect.confirmed

    @property
    def doubted(self) -> bool:
        """Whether the files themselves show it, and a remedy that does more closes the gap."""
        return (self.verdict == "indicated" and self.finding.strength >= 1.0
                and self.effect is not None and bool(self.effect.doubt))

    def lift(self, gap: Comparison) -> float:
        """What its remedy surely gives the file of a gap that gains most; 0 where not seen."""
        if self.effect is None or not self.seen or self.effect.doubt:
            return 0.0
        return max((self.effect.lifts[role][1] for role in (gap.a, gap.b)
                    if role in self.effect.lifts), default=0.0)

    @property
    def there(self) -> bool:
        """Whether something was seen of it, whether or not it moved this gap."""
        seen = self.finding.strength > 0 and self.verdict in ("indicated", "not_shown")
        return self.confirmed or seen

    def may_explain(self, gap: Comparison) -> bool:
        """Whether the cause hurts the worse of the two files (or might hurt either), and enough.

        What is wrong with a third file explains nothing.
        """
        for files in (self.rule.acts_on, self.finding.of):
            if files and not {gap.a, gap.b} & set(files):
                return False
        most = self.finding.most.get(gap.worse)
        if most is not None and most < CLOSED_SHARE * abs(gap.gap):
            return False
        return not self.finding.hurts or gap.worse in self.finding.hurts

    def row(self) -> dict[str, Any]:
        """The cause as plain data."""
        effect = self.effect
        return {
            "id": self.rule.id,
            "title": self.rule.title,
            "question": self.rule.question,
            "verdict": self.verdict,
            "confirmed_by_intervention": None if effect is None else effect.confirmed,
            "effect": None if effect is None else effect.amount,
            "interval": None if effect is None else list(effect.interval),
            "runs": None if effect is None else effect.runs,
            "luck": None if effect is None else effect.luck,
            "closed_share": None if effect is None else effect.closed_share,
            "intervention": None if effect is None else effect.done,
            "not_tried": self.note,
            "sentence": self.finding.sentence,
            "evidence": self.finding.numbers | ({} if effect is None else effect.numbers),
            "measures": [
                {"id": m.id, "title": m.title, "value": m.value, "threshold": m.threshold,
                 "side": m.side, "unit": m.unit}
                for m in self.finding.measures
            ],
            "symptom": self.rule.symptom,
            "cause": self.rule.cause,
            "remedy": self.rule.remedy,
            "code": self.rule.code,
            "source": self.rule.source,
        }


@dataclass(frozen=True)
class Diagnosis(Shown):
    """The cause of a gap, with its proof and everything else that was asked.

    Attributes
    ----------
    case : Case
        What was diagnosed.
    gaps : tuple of Comparison
        QAT - PTQ first where both files are there.
    focus : Comparison
        The one that was explained.
    causes : tuple of Cause
        One of each rule.
    primary : str
        Id of a cause; ``noise``: a gap that might be chance; ``none``: shown to be equivalent;
        ``undecided``: no gap seen, and not shown to be equivalent either; ``unexplained``: a real
        gap for which nothing was found.
    proved : bool
        Whether the primary cause was confirmed by an intervention.
    parts : tuple of dict
        Parts that add up to the gap, from a study.
    interventions : bool
        Whether remedies were tried.
    seconds : float
        Wall-clock time.
    remarks : tuple of Remark
        What files, outputs and accuracies tell unasked, by role.
    cuts : tuple of FirstCut
        Of each quantized file, where there is a float one: what its weights cost with float
        activations, and the other way round.
    advice : CalibrationAdvice, optional
        How many calibration examples, and which, where calibration explains the gap.

    Examples
    --------
    >>> from qinspect.diagnosis.engine import diagnose
    >>> found = diagnose("study", interventions=False)
    >>> found.primary, found.cause("undertrained").verdict
    ('noise', 'not_shown')
    """

    case: Case
    gaps: tuple[Comparison, ...]
    focus: Comparison
    causes: tuple[Cause, ...]
    primary: str
    proved: bool
    parts: tuple[dict[str, Any], ...]
    interventions: bool
    seconds: float
    remarks: tuple[Remark, ...] = ()
    cuts: tuple[FirstCut, ...] = ()
    advice: CalibrationAdvice | None = None

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
        """Primary first, then by verdict, by what their interventions closed, by strength."""

        def key(cause: Cause) -> tuple[Any, ...]:
            size = 0.0 if cause.effect is None else abs(cause.effect.amount)
            return (cause.rule.id != self.primary, _ORDER.index(cause.verdict), -size,
                    -cause.finding.strength)

        return sorted(self.causes, key=key)

    @property
    def frame(self) -> pd.DataFrame:
        """One row a cause: verdict, what its remedy alone closes, and the evidence in words."""
        rows = []
        for cause in self.ordered():
            effect = cause.effect
            low, high = (math.nan, math.nan) if effect is None else effect.interval
            rows.append({
                "id": cause.rule.id,
                "title": cause.rule.title,
                "verdict": self.verdict(cause),
                "effect": math.nan if effect is None else effect.amount,
                "low": low,
                "high": high,
                "closed_share": math.nan if effect is None else effect.closed_share,
                "evidence": cause.finding.sentence,
            })
        return pd.DataFrame(rows)

    @property
    def leading(self) -> Cause | None:
        """The primary cause, None where ``primary`` says that there is none."""
        return next((cause for cause in self.causes if cause.rule.id == self.primary), None)

    def verdict(self, cause: Cause) -> CauseVerdict:
        """The verdict on a cause in the answer: one whose remedy lifts more than the gap leads."""
        return "explains" if self.proved and cause.rule.id == self.primary else cause.verdict

    @property
    def card(self) -> Card:
        """What to know first: the models, the gap, its cause, how sure, and what to do."""
        return card_of(self)

    @property
    def sentence(self) -> str:
        """The gap and its cause, in a few sentences."""
        return self.card.sentence

    @property
    def data_notes(self) -> tuple[str, ...]:
        """How files and evaluation examples were read, where there was something to guess."""
        return (*self.case.notes, *(() if self.case.data is None else self.case.data.notes))

    def write_fix(self, path: str | os.PathLike[str]) -> Path:
        """Write the remedy of the primary cause as a script that runs on the files given.

        It reads the same files, marks what of the training had to be assumed, writes
        ``fixed.tflite`` beside itself and evaluates the files before and after.  A
        :class:`~qinspect.errors.SpecError` says why where there is nothing to write.
        """
        from qinspect.diagnosis.script import write_fix

        return write_fix(self, path)

    @property
    def recipe(self) -> str:
        """The one line that trains QAT without the known pitfalls, where QAT is the worse file."""
        told = self.case.told
        paths = [told.get(name) for name in ("keras_float", "train")]
        if self.focus.worse != "qat" or not self.focus.significant or not all(
                isinstance(path, str | os.PathLike) for path in paths):
            return ""
        model, train = (shlex.quote(os.fspath(path)) for path in paths)  # type: ignore[arg-type]
        return f"qinspect robust-qat {model} --train {train}"

    @property
    def lacks(self) -> str:
        """What would allow a remedy that trains, and the options that give it."""
        wanted = dict.fromkeys(
            need for cause in self.causes
            if cause.verdict == "indicated" and self.interventions
            and (cause.effect is None or cause.effect.doubt)
            for remedy in cause.rule.remedies if remedy.trains
            for need in remedy.requires if need in OPTIONS and not self.case.has(need))
        if not wanted:
            return ""
        listed = ", ".join(f"{NEEDS[need]} ({OPTIONS[need]})" for need in wanted)
        return f"to prove it by training again, give {listed}."

    def to_json(self) -> dict[str, Any]:
        """The answer as numbers, strings, lists and dicts, fit for JSON.

        Returns
        -------
        dict
            ``gap_pp`` (QAT minus PTQ), ``gap_ptq_float_pp``, ``gap_qat_float_pp``: None where a
            file is missing; ``focus``, the gap that was explained, and its ``ci_pp``;
            ``first_cut``: weights against activations, a quantized file each; ``calibration``:
            how many examples, and which, where that explains the gap; ``causes``;
            ``primary``, ``proved``, ``summary``; ``models`` and ``card``: what is shown first;
            ``decomposition``: effects of interventions
            alone, the largest first (they overlap and need not add up); ``parts``: parts of the
            gap that do; ``ruled_out`` (with those that do not apply); ``not_testable`` with the
            inputs that would allow it.
        """
        qat = self.gap("ptq", "qat")
        ptq, of_qat = self.gap("float", "ptq"), self.gap("float", "qat")
        metric = self.focus.metric
        points = metric.unit == "points"

        def in_points(gap: Comparison | None) -> float | None:
            return None if gap is None or not points else gap.gap

        rows = [{**row, "verdict": self.verdict(cause),
                 "effect_pp": row["effect"] if points else None,
                 "ci_pp": row["interval"] if points else None}
                for cause in self.ordered() for row in [cause.row()]]
        tried = [row for row in rows if row["effect"] is not None]
        right = self.focus.mcnemar_p is not None
        card = self.card
        answer: dict[str, Any] = store.plain({
            "metric": metric.id,
            "unit": metric.unit,
            "direction": metric.direction,
            "gap": None if qat is None else qat.gap,
            "gap_ptq_float": None if ptq is None else ptq.gap,
            "gap_qat_float": None if of_qat is None else of_qat.gap,
            "interval": list(self.focus.interval),
            "gap_pp": in_points(qat),
            "gap_ptq_float_pp": in_points(ptq),
            "gap_qat_float_pp": in_points(of_qat),
            "ci_pp": list(self.focus.interval) if points else None,
            "notes": list(self.data_notes),
            "n": self.focus.n,
            "focus": {
                "a": self.focus.a,
                "b": self.focus.b,
                "value_a": self.focus.value_a,
                "value_b": self.focus.value_b,
                "interval": list(self.focus.interval),
                "accuracy_a": self.focus.value_a if right else None,
                "accuracy_b": self.focus.value_b if right else None,
                "diff_pp": in_points(self.focus),
                "p": self.focus.p_single,
                "p_adjusted": self.focus.p_adjusted,
                "detectable": self.focus.detectable,
                "mde_pp": self.focus.detectable if points else None,
                "significant": self.focus.significant,
                "verdict": self.focus.verdict,
                "metric": metric.id,
                "gap": self.focus.gap,
                "gap_unselected": self.focus.unselected,
                "unit": metric.unit,
                "direction": metric.direction,
            },
            "first_cut": [cut.to_json() for cut in self.cuts],
            "calibration": None if self.advice is None else self.advice.to_json(),
            "causes": rows,
            "primary": self.primary,
            "proved": self.proved,
            "summary": card.sentence,
            "models": [asdict(model) for model in card.models],
            "card": [{"label": label, "said": said} for label, said in card.rows],
            "decomposition": [
                {key: row[key] for key in
                 ("id", "title", "effect", "interval", "effect_pp", "ci_pp", "closed_share",
                  "confirmed_by_intervention")}
                for row in sorted(tried, key=lambda row: -abs(row["effect"]))
            ],
            "parts": sorted(self.parts, key=lambda part: -abs(part["diff_pp"])),
            "ruled_out": [
                row["id"] for row in rows if row["verdict"] in ("ruled_out", "does_not_apply")
            ],
            "not_testable": [
                {"id": row["id"], "needs": row["evidence"].get("missing", []),
                 "reason": row["sentence"]}
                for row in rows if row["verdict"] == "not_tried"
            ],
            "interventions": self.interventions,
            "remarks": [asdict(remark) for remark in self.remarks],
            "seconds": self.seconds,
            "late_seconds": self.late_seconds,
        })
        return answer
