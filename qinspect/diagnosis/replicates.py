"""Remedies that train anew, judged against the same training made again without them.

Another run of one and the same training moves accuracy by more than other examples do, so a remedy
is run several times, each time with another batch order, and so is its sham: the same again with
nothing changed.  What counts is by how much the runs with the remedy close the gap beyond those
without.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from qinspect.diagnosis.answer import CLOSED_SHARE, Effect
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.rule import Trial
from qinspect.predictions import Results
from qinspect.schema import Array
from qinspect.stats import Comparison, mean_interval, pseudo_values
from qinspect.stats.seeds import runs_interval, welch_part

# Runs after which is decided, each time by an interval that errs half as often as is allowed in all
# (docs/intervals.md: shams that pass, remedies that are found, coverage).
LOOKS = (3, 4, 5, 6)
# Runs of remedy and sham have other batch orders, and other ones for each cause.
_APART = 1_000


def measure_replicates(
    evidence: Evidence, focus: Comparison, trial: Trial, *, cause: str, deadline: float,
    say: Callable[[str], None],
) -> Effect | str:
    """What a remedy that trains closes of a gap, beyond the same training again; or why not told.

    Looks after 3, 4, 5 and 6 runs of each; it ends where the remedy is shown, or is too weak to
    explain a good part of the gap.
    """
    assert trial.again is not None
    assert trial.sham is not None
    base = _APART + zlib.crc32(cause.encode()) % _APART * (2 * _APART)
    confidence, scale = evidence.case.confidence, focus.metric.scale
    with_remedy: list[Array] = []
    without: list[Array] = []
    values: dict[str, float] = {}
    found: Closed | None = None
    for number in range(1, LOOKS[-1] + 1):
        if time.perf_counter() >= deadline:
            break
        say(f"run {number} of at most {LOOKS[-1]}: {trial.done}, and the same without it")
        mended = trial.again(base + number)
        values |= {f"score_{role}_mended_run_{number}": _value(evidence, answers)
                   for role, answers in mended.items()}
        with_remedy.append(_closing(evidence, focus, mended))
        without.append(_closing(evidence, focus, trial.sham(base + _APART + number)))
        if number in LOOKS:
            found = closed(np.stack(with_remedy), np.stack(without), focus.gap / scale, confidence,
                           **_of_examples(evidence, focus, mended))
            if found.ends:
                break
    if found is None:
        return (f"{trial.done} was run {len(without)} times of the {LOOKS[0]} that it takes to "
                "tell it from luck, for lack of time")
    luck = scale * _means(without[:found.runs])
    beside = f" against {found.runs} of the same without it" if luck.std() > 0 else ""
    spread = mean_interval(luck, confidence)
    return Effect(
        done=f"{trial.done} ({found.runs} runs{beside})",
        amount=scale * found.amount,
        interval=(scale * found.interval[0], scale * found.interval[1]),
        closed_share=found.share,
        confirmed=found.confirmed,
        runs=found.runs,
        luck=float(luck.mean()),
        numbers={**trial.numbers, **values, "runs": found.runs,
                 f"same_again{evidence.suffix}": float(luck.mean()),
                 f"same_again_low{evidence.suffix}": spread[0],
                 f"same_again_high{evidence.suffix}": spread[1],
                 f"of_each_run{evidence.suffix}":
                     [scale * value for value in found.of_each_run]},
    )


@dataclass(frozen=True)
class Closed:
    """What the runs so far say of a remedy, all in shares or the unit of single scores."""

    amount: float
    interval: tuple[float, float]
    share: float
    confirmed: bool
    of_each_run: tuple[float, ...]

    @property
    def runs(self) -> int:
        """Runs of the remedy, and as many without it."""
        return len(self.of_each_run)

    @property
    def ends(self) -> bool:
        """Whether further runs are of no use: shown, or too weak to explain a good part."""
        return self.confirmed or self.share < CLOSED_SHARE / 2


def closed(
    remedy: Array, sham: Array, gap: float, confidence: float, *, groups: Array | None = None,
    bound: float | None = None,
) -> Closed:
    """What runs with the remedy (runs, n) close of a gap beyond those without, after a look.

    The interval is for new runs and new examples and holds at whichever look it ends: each has a
    level that errs half as often.  Confirmed where it leaves out zero, by a good part of the gap.
    """
    difference = remedy - sham
    low, high = runs_interval(
        difference, 1 - (1 - confidence) / 2, groups, bound=bound,
        of_runs=welch_part(remedy.mean(axis=1), sham.mean(axis=1)))
    amount = float(difference.mean())
    share = amount / gap
    return Closed(amount, (low, high), share, (low > 0 or high < 0) and share >= CLOSED_SHARE,
                  tuple(difference.mean(axis=1).tolist()))


def _of_examples(
    evidence: Evidence, focus: Comparison, swaps: dict[str, Any]
) -> dict[str, Any]:
    """Groups of the examples, and the largest size of a value where they are right or wrong."""
    own = evidence.results()
    if own.metric.kind == "set":
        return {}
    roles = len({focus.a, focus.b} & set(swaps))
    return {"groups": own.groups, "bound": float(roles) if own.right_or_wrong else None}


def _closing(evidence: Evidence, focus: Comparison, swaps: dict[str, Any]) -> Array:
    """Of each example what of the gap b - a is closed by other answers of some files, as scores.

    Of a statistic of a set, blocks of examples stand for the examples.
    """
    own = evidence.results()
    total: Array = np.zeros(1)
    for role, sign in ((focus.b, 1.0), (focus.a, -1.0)):
        if role in swaps:
            changed = own.with_outputs(**{role: evidence.scorable(swaps[role])})
            before = evidence.once(("parts", role), partial(_parts, own, role))
            total = total + sign * (before - _parts(changed, role))
    return total


def _parts(results: Results, role: str) -> Array:
    """Values whose mean is the metric: of each example, or of each block of them."""
    if results.metric.kind == "set":
        return pseudo_values(results.metric, results.y, results.outputs[role],
                             groups=results.groups, seed=results.seed)
    scores: Array = results.scores(role).astype(np.float64)
    return scores


def _value(evidence: Evidence, answers: Any) -> float:
    return evidence.results().with_outputs(mended=evidence.scorable(answers)).value("mended")


def _means(runs: list[Array]) -> Array:
    return np.array([run.mean() for run in runs])
