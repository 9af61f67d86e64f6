"""The verdicts, their words, and the one way in which a p-value is written."""

from __future__ import annotations

from typing import Literal

Difference = Literal["a_better", "b_better", "equivalent", "not_worse", "no_gap_seen",
                     "cannot_tell"]
GateVerdict = Literal["not_worse", "worse", "cannot_tell"]
CauseVerdict = Literal[
    "explains", "indicated", "not_shown", "ruled_out", "does_not_apply", "not_tried"]

# Of a difference.  ``not_worse``: what was asked is whether b is not worse than a by more than the
# margin, and that is shown.  ``no_gap_seen``: the test does not reject, the interval holds zero,
# and neither is shown.  ``cannot_tell``: test and interval contradict each other, a pair differs by
# itself but not as one of its family, or so few examples could show no difference, however large.
DIFFERENCES: dict[str, str] = {
    "a_better": "A better",
    "b_better": "B better",
    "equivalent": "equivalent",
    "not_worse": "not worse by more than the margin",
    "no_gap_seen": "no gap seen",
    "cannot_tell": "cannot tell",
}
# Of a gate: may b take the place of a?
GATE: dict[GateVerdict, str] = {
    "not_worse": "not worse", "worse": "worse", "cannot_tell": "cannot tell"}
# Of a cause.  ``explains``: confirmed by its intervention.  ``indicated``: evidence, not proved.
# ``not_shown``: tried without effect, inconclusive, or there but not shown to move this gap.
# ``not_tried``: inputs are missing, or there was no time.
CAUSES: dict[str, str] = {
    "explains": "proved by its remedy",
    "indicated": "supported, not proved",
    "not_shown": "not shown to matter",
    "ruled_out": "ruled out",
    "does_not_apply": "does not apply",
    "not_tried": "not tried",
}
# Of a gap without a cause, by what ``Diagnosis.primary`` is then.
ANSWERS: dict[str, str] = {
    "none": "no gap to explain",
    "noise": "may be chance",
    "undecided": "cannot tell whether there is a gap",
    "unexplained": "unexplained: the gap is real, but none of the causes that could be tested "
                   "explains it",
}


def gate_verdict(verdict: str, not_worse_p: float, alpha: float) -> GateVerdict:
    """The decision on b from a comparison with a.

    A loss that is real and shown to be smaller than the margin passes.
    """
    if verdict == "b_better" or not_worse_p <= alpha:
        return "not_worse"
    return "worse" if verdict == "a_better" else "cannot_tell"


def difference_words(verdict: str, a: str, b: str) -> str:
    """A verdict on a difference with the models' names in it."""
    named = {"a_better": f"{a} better", "b_better": f"{b} better",
             "not_worse": f"{b} {DIFFERENCES['not_worse']}"}
    return named.get(verdict) or DIFFERENCES[verdict]


def p_value(p: float) -> str:
    """A p-value for a table; the very small ones as a bound."""
    return "<0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


def p_words(p: float) -> str:
    """A p-value for a sentence, such as ``p = 0.0123``."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p_value(p)}"


def counted(n: int, what: str) -> str:
    """A number of things, such as ``1 layer`` or ``2 layers``."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def examples(n: int) -> str:
    """A number of examples, such as ``1 example``."""
    return counted(n, "example")


def no_answer(bad: int, n: int) -> str:
    """That some outputs are no answer, as a predicate."""
    return f"has no answer (NaN) for {bad:,} of {examples(n)}, which count against it"
