"""Which cause explains a gap, once remedies were tried: verdicts, and the one that leads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from qinspect.diagnosis.answer import CLOSED_SHARE, Cause
from qinspect.diagnosis.card import capital
from qinspect.stats import Comparison

# A gap below this share of the margin (of accuracy a point) is not one that a person would claim;
# chosen.
NOTICEABLE = 0.5
# A remedy closes as much as another from this share of it on; chosen.
_AS_MUCH = 2 / 3


def judged(found: Iterable[Cause], focus: Comparison) -> tuple[tuple[Cause, ...], str, bool]:
    """The causes with their verdicts, the id of the primary one, and whether it was proved."""
    causes = [_judge(cause, focus) for cause in found]
    if any(cause.confirmed for cause in causes):
        # What was not tried cannot stand beside what was proved.
        causes = [_only_there(cause) for cause in causes]
    return tuple(causes), *_primary(causes, focus)


def surely(focus: Comparison, interval: tuple[float, float]) -> float:
    """The least of an effect's interval, in the direction of the gap."""
    return interval[0] if focus.gap > 0 else -interval[1]


def _judge(cause: Cause, focus: Comparison) -> Cause:
    """The verdict after the intervention, and in view of the gap that was explained."""
    if cause.confirmed:
        return replace(cause, verdict="explains")
    if cause.closed:
        note = ("another run has another gap." if cause.rule.id == "noise" else
                "the remedy closes the gap, but nothing of the cause itself was seen.")
        return replace(cause, verdict="indicated", note=note)
    if cause.rule.id == "noise" or (cause.rule.every_file and cause.effect is None):
        return cause
    tried, effect = cause.effect is not None, cause.effect
    if (effect is not None and cause.verdict == "indicated" and not effect.runs
            and effect.shown is None and effect.closed_share >= CLOSED_SHARE
            and surely(focus, effect.interval) > 0):
        note = ("the remedy closes the gap, but not by more than a gap that was chosen for being "
                "significant is too large by luck.")
        if effect.doubt:
            note = f"{effect.doubt} {capital(cause.note or '')}".rstrip()
        return cause if effect.once else replace(cause, note=note)
    if cause.verdict == "indicated" and (
        tried or not focus.significant or not cause.may_explain(focus)
    ):
        return replace(cause, verdict="not_shown")
    if cause.verdict == "not_tried" and tried:
        return replace(cause, verdict="not_shown")
    return cause


def _only_there(cause: Cause) -> Cause:
    open_ = cause.verdict == "indicated" and not cause.doubted
    return replace(cause, verdict="not_shown") if open_ else cause


def _primary(causes: list[Cause], focus: Comparison) -> tuple[str, bool]:
    """Id of the cause that explains the gap, and whether an intervention proved it."""
    for cause in causes:
        if cause.rule.every_file and cause.verdict in ("explains", "indicated"):
            return cause.rule.id, cause.confirmed
    if not focus.significant:
        if focus.equivalent:
            return "none", False
        claimed = abs(focus.gap) >= NOTICEABLE * focus.margin
        return ("noise" if claimed else "undecided"), False
    # What makes a file better by more than the whole gap matters more than the gap.
    above = max(abs(focus.gap), focus.margin)
    most = max(causes, key=lambda c: c.lift(focus), default=None)
    if most is not None and most.lift(focus) > above:
        return most.rule.id, True
    confirmed = [c for c in causes if c.confirmed]
    if confirmed:
        best = _narrowest([*confirmed, *(c for c in causes if c.doubted)])
        return best.rule.id, best.confirmed
    if any(c.closed and c.rule.id == "noise" for c in causes):
        return "noise", False
    left = [c for c in causes if c.verdict == "indicated" and c.rule.id != "noise"]
    # So little may come of anything; evidence alone does not tell of what.
    if left and not focus.within_margin:
        best = max(left, key=lambda c: (c.closed, round(c.finding.strength, 3), -c.rule.rank))
        return best.rule.id, False
    return "unexplained", False


def _narrowest(confirmed: list[Cause]) -> Cause:
    """Of the causes whose remedies close about as much, the one whose remedy changes least."""
    left = [c for c in confirmed if _share(c) >= _AS_MUCH * max(map(_share, confirmed))]
    narrow = [c for c in left if not any(_mends(c, o) and not _mends(o, c) for o in left)]
    return min(narrow or left, key=lambda c: (c.rule.rank, -_share(c)))


def _mends(cause: Cause, other: Cause) -> bool:
    """Whether the remedy of one cause takes the other away as well."""
    return cause.effect is not None and other.rule.id in cause.effect.mends


def _share(cause: Cause) -> float:
    """What of the gap the remedy closes; all where it turns it round or leaves chance."""
    assert cause.effect is not None
    left = cause.effect.left
    return 1.0 if left is not None and not left.significant else min(cause.effect.closed_share, 1.0)
