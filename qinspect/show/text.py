"""Numbers and names as text: one way to write a difference, an interval, a p-value, a size."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count, product
from string import ascii_uppercase
from typing import Any

from qinspect.metrics import Metric
from qinspect.verdicts import difference_words as verdict
from qinspect.verdicts import p_value

__all__ = [
    "bounds_of", "capital", "decibels", "elided", "escaped", "gap_axis", "gap_of",
    "headed", "inert", "interval", "interval_of", "lower", "missing", "number", "or_lower",
    "p_value", "percent", "percent_interval", "plain", "plus", "points", "printable", "remarks",
    "renamed", "share", "short_names", "signed", "size", "span", "value_of", "verdict",
]

# Longest names that a table keeps as they are: several, and one alone.
_SHORT, _ALONE = 16, 28
# Longest name of an axis on one line.
_AXIS = 60
NONE = "-"


def missing(value: Any) -> bool:
    """Whether there is nothing to show: None, NaN, or a pair of these."""
    if isinstance(value, (tuple, list)):
        return not value or all(missing(item) for item in value)
    return value is None or (isinstance(value, float) and math.isnan(value))


def points(value: float) -> str:
    """A difference in percentage points, always with its sign."""
    return f"{value:+.2f}" if abs(value) >= 0.005 else "0.00"


def interval(bounds: Sequence[float]) -> str:
    """An interval of a difference in percentage points."""
    return f"[{points(bounds[0])}, {points(bounds[1])}]"


def percent(share: float) -> str:
    """A share in 0..1 as a percentage."""
    return f"{100 * share:.2f} %"


def share(part: float) -> str:
    """A share in 0..1 as a percentage for a sentence: no more digits than it deserves."""
    value = 100 * part
    if value == 0 or value >= 10:
        return f"{value:.0f} %"
    return f"{value:.1f} %" if value >= 1 else f"{value:.2g} %" if value >= 0.01 else "<0.01 %"


def percent_interval(bounds: Sequence[float]) -> str:
    """An interval of a share in 0..1 as percentages."""
    return f"{100 * bounds[0]:.1f}-{100 * bounds[1]:.1f}"


def size(n_bytes: int) -> str:
    """A file size in kB (1,000 bytes)."""
    return f"{n_bytes / 1000:,.1f} kB"


def decibels(value: float) -> str:
    """A signal to noise ratio; without noise it is infinite."""
    return f"{value:.1f} dB" if math.isfinite(value) else "no error" if value > 0 else "no signal"


def number(value: float) -> str:
    """A number to four significant figures, without an exponent where it can do without."""
    if not math.isfinite(value):
        return "infinite" if value > 0 else "-infinite"
    if value == 0 or 1e-6 <= abs(value) < 1e6:
        digits = 0 if value == 0 else max(0, 3 - math.floor(math.log10(abs(value))))
        text = f"{value:,.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.3e}"


def span(bounds: Sequence[float]) -> str:
    """A range of values."""
    return f"{number(bounds[0])} to {number(bounds[1])}"


# --- what a metric is worth ----------------------------------------------------------------------


def value_of(metric: Metric) -> Callable[[float], str]:
    """How values of a metric are written."""
    return percent if metric.scale == 100 else number


def bounds_of(metric: Metric) -> Callable[[Sequence[float]], str]:
    """How an interval of a metric's value is written."""
    return percent_interval if metric.scale == 100 else span


def gap_of(metric: Metric) -> Callable[[float], str]:
    """How differences of a metric are written, in its unit and with their sign."""
    return points if metric.scale == 100 else _signed


def interval_of(metric: Metric) -> Callable[[Sequence[float]], str]:
    """How an interval of a difference of a metric is written."""
    form = gap_of(metric)
    return lambda bounds: f"[{form(bounds[0])}, {form(bounds[1])}]"


def _signed(value: float) -> str:
    return f"+{number(value)}" if value > 0 else number(value)


def headed(what: str, unit: str) -> str:
    """A head with its unit, if there is one."""
    return f"{what}, {unit}" if unit else what


def plus(metric: Metric, better: str = "") -> str:
    """What the sign of a difference says, such as ``+: b better``."""
    return f"{'+' if metric.better > 0 else '-'}: {f'{better} better'.strip()}"


def signed(what: str, metric: Metric, better: str = "") -> str:
    """A head of signed differences with their unit: which sign is good, or who is better then."""
    return f"{headed(what, metric.unit)} ({plus(metric, better)})"


def remarks(metric: Metric, *said: str) -> str:
    """What stands behind the name of an axis of a metric, in brackets."""
    found = [*said, *(["lower is better"] if metric.better < 0 else [])]
    return f" ({'; '.join(found)})" if found else ""


def gap_axis(what: str, metric: Metric, *said: str) -> str:
    """Name of an axis of differences, in full; a long one in two lines."""
    unit = "percentage points" if metric.unit == "points" else metric.unit
    name, rest = headed(what, unit), remarks(metric, *said)
    return name + rest if len(name) + len(rest) <= _AXIS else f"{name}\n{rest.strip()}"


def lower(metric: Metric) -> str:
    """What is said below a table of a metric of which less is better."""
    return "Lower is better." if metric.better < 0 else ""


def or_lower(metric: Metric) -> str:
    """The same at the end of a sentence."""
    return "; lower is better" if metric.better < 0 else ""


def capital(said: str) -> str:
    """The same with a capital at the start; the rest, such as ``AUC``, is kept."""
    return said[:1].upper() + said[1:]


def plain(value: Any) -> str:
    """Any value as text: numbers by their kind, lists with commas."""
    if missing(value):
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, (tuple, list)):
        return ", ".join(map(plain, value))
    return printable(str(value))


def printable(name: str) -> str:
    """A name from a file with control characters replaced, safe for a terminal."""
    return "".join(c if c.isprintable() else "?" for c in name)


def escaped(value: object) -> str:
    """A value as text that no browser takes for markup."""
    return html.escape(printable(str(value)), quote=True)


def elided(name: str, longest: int) -> str:
    """A name with its middle left out where it is too long."""
    text = printable(name)
    half = (longest - 1) // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Names that fit into a table: as they are, else what tells them apart, else A, B, C.

    Where the parts that differ are long, too, their beginnings are taken, or else their ends.
    """
    found = list(dict.fromkeys(names))
    # As a terminal prints them: what is not printable may be all that tells two apart.
    shown = list(map(printable, found))
    if len(found) == 1:
        return {found[0]: found[0] if len(found[0]) <= _ALONE else elided(found[0], _ALONE)}
    apart = len(set(shown)) == len(shown)
    if apart and all(len(name) <= _SHORT for name in found):
        return {name: name for name in found}
    parts = [re.split(r"(?<=[/\\_.\- ])", name) for name in shown]
    for end in (0, -1):
        while all(parts) and len({part[end] for part in parts}) == 1:
            for part in parts:
                del part[end]
    for length in (None, *range(1, max(map(len, parts), default=0) + 1)):
        rest = ["".join(part[:length]).strip("/\\_.- ") for part in parts]
        if all(rest) and len(set(rest)) == len(rest) and max(map(len, rest)) <= _SHORT:
            return dict(zip(found, rest, strict=True))
    whole = ["".join(part).strip("/\\_.- ") for part in parts]
    for cut in (lambda name: f"…{name[1 - _SHORT:]}", lambda name: f"{name[:_SHORT - 1]}…"):
        rest = [name if len(name) <= _SHORT else cut(name) for name in whole]
        if all(rest) and len(set(rest)) == len(rest):
            return dict(zip(found, rest, strict=True))
    letters = ("".join(word) for n in count(1) for word in product(ascii_uppercase, repeat=n))
    return dict(zip(found, letters, strict=False))


def renamed(said: str, names: Mapping[str, str]) -> str:
    """A sentence with the short names of :func:`short_names` in it."""
    changed = sorted((name for name in names if names[name] != name), key=len, reverse=True)
    if not changed:
        return said
    return re.sub("|".join(map(re.escape, changed)), lambda found: names[found[0]], said)


def inert(value: object) -> str:
    """A value as text that Markdown and HTML in it leave alone."""
    said = printable(str(value)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    said = re.sub(r"([\\`*_\[\]|#~$])", r"\\\1", said)
    # A mention would send somebody a message.
    return said.replace("@", "@\u200b")
