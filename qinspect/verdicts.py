"""The verdicts, their words, and the one way in which a p-value is written."""

from __future__ import annotations

from typing import Literal

Difference = Literal["a_better", "b_better", "equivalent", "no_gap_seen", "cannot_tell"]
CauseVerdict = Literal[
    "explains", "indicated", "not_shown", "ruled_out", "does_not_apply", "not_tried"]

# Of a difference.  ``no_gap_seen``: the test does not reject, the interval holds zero, and it is
# not shown that the two are equivalent.  ``cannot_tell``: test and interval contradict each other,
# or with so few examples no difference, however large, could be found.
DIFFERENCES: dict[str, str] = {
    "a_better": "A better",
    "b_better": "B better",
    "equivalent": "equivalent",
    "no_gap_seen": "no gap seen",
    "cannot_tell": "cannot tell",
}
# Of a cause.  ``explains``: confirmed by its intervention.  ``indicated``: evidence, not proved.
# ``not_shown``: tried without effect, inconclusive, or there but not shown to move this gap.
# ``not_tried``: inputs are missing, or there was no time.
CAUSES: dict[str, str] = {
    "explains": "explains it",
    "indicated": "indicated, not proved",
    "not_shown": "not shown",
    "ruled_out": "ruled out",
    "does_not_apply": "does not apply",
    "not_tried": "not tried",
}


def difference_words(verdict: str, a: str, b: str) -> str:
    """A verdict on a difference with the models' names in it."""
    named = {"a_better": f"{a} better", "b_better": f"{b} better"}
    return named.get(verdict) or DIFFERENCES[verdict]


def p_value(p: float) -> str:
    """A p-value for a table; the very small ones as a bound."""
    return "<0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


def p_words(p: float) -> str:
    """A p-value for a sentence, such as ``p = 0.0123``."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p_value(p)}"
