"""Numbers and names as text: one way to write a difference, an interval, a p-value, a size."""

from __future__ import annotations

from collections.abc import Sequence


def points(value: float) -> str:
    """A difference in percentage points, always with its sign."""
    return f"{value:+.2f}" if abs(value) >= 0.005 else "0.00"


def interval(bounds: Sequence[float]) -> str:
    """An interval of a difference in percentage points."""
    return f"[{points(bounds[0])}, {points(bounds[1])}]"


def percent(share: float) -> str:
    """A share in 0..1 as a percentage."""
    return f"{100 * share:.2f} %"


def percent_interval(bounds: Sequence[float]) -> str:
    """An interval of a share in 0..1 as percentages."""
    return f"{100 * bounds[0]:.1f}-{100 * bounds[1]:.1f}"


def p_value(p: float) -> str:
    """A p-value; the very small ones as a bound."""
    return "<0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


def size(n_bytes: int) -> str:
    """A file size in kB (1,000 bytes)."""
    return f"{n_bytes / 1000:,.1f} kB"


VERDICT_WORDS = {
    "a_better": "A better",
    "b_better": "B better",
    "equivalent": "equivalent",
    "cannot_tell": "cannot tell",
}


def verdict(word: str, a: str, b: str) -> str:
    """A verdict with the models' names in it."""
    named = {"a_better": f"{a} better", "b_better": f"{b} better"}
    return named.get(word, VERDICT_WORDS[word])


def printable(name: str) -> str:
    """A name from a file with control characters replaced, safe for a terminal."""
    return "".join(c if c.isprintable() else "?" for c in name)
