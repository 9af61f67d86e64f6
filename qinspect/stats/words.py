"""The one form in which a difference is told: who is better, by how much, and how far it may be."""

from __future__ import annotations

from collections.abc import Sequence

from qinspect.metrics import Metric
from qinspect.verdicts import Difference


def better_by(
    verdict: Difference, a: str, b: str, gap: float, ends: Sequence[float], *, margin: float,
    metric: Metric, what: str | None = None,
) -> str:
    """A difference b - a as a sentence without its full stop: no sign has to be looked up.

    ``what`` stands behind the size, by default the metric where it is not accuracy.

    Examples
    --------
    >>> from qinspect.metrics import ACCURACY
    >>> better_by("a_better", "ptq", "qat", -4.2, (-6.3, -2.1), margin=1, metric=ACCURACY)
    'ptq is better than qat by 4.20 points [2.10, 6.30]'
    >>> better_by("no_gap_seen", "a", "b", 0.2, (-0.7, 1.1), margin=1, metric=ACCURACY)
    'No gap seen between a and b: b is better by 0.20 points [-0.70, 1.10], which may be chance'
    """
    what = metric.of if what is None else what
    better, other, by = metric.lead(a, b, gap, ends)
    if verdict in ("a_better", "b_better"):
        return f"{better} is better than {other} by {by}{what}"
    ahead = f"{better} is better by {by}{what}" if gap else f"they differ by {by}{what}"
    if verdict == "equivalent":
        return f"No gap: {a} and {b} are equivalent within {metric.limit(margin)}; {ahead}"
    if verdict == "not_worse":
        return f"{b} is not worse than {a} by more than {metric.limit(margin)}; {ahead}"
    seen = (f"No gap seen between {a} and {b}" if verdict == "no_gap_seen" else
            f"Cannot tell {a} and {b} apart")
    return f"{seen}: {ahead}{', which may be chance' if gap else ''}"
