"""Numbers and names as text: one way to write a difference, an interval, a p-value, a size."""

from __future__ import annotations

from collections.abc import Sequence

from qinspect.verdicts import difference_words as verdict
from qinspect.verdicts import p_value

__all__ = ["interval", "p_value", "percent", "percent_interval", "points", "printable", "size",
           "verdict"]


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


def size(n_bytes: int) -> str:
    """A file size in kB (1,000 bytes)."""
    return f"{n_bytes / 1000:,.1f} kB"


def printable(name: str) -> str:
    """A name from a file with control characters replaced, safe for a terminal."""
    return "".join(c if c.isprintable() else "?" for c in name)
