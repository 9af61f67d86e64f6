"""Remedies that train anew, judged against the same training made again without them.

Another run of one and the same training moves accuracy by more than other examples do, so a remedy
is run several times, each time with another batch order, and so is its sham: the same again with
nothing changed.  What counts is by how much the runs with the remedy close the gap beyond those
without.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from qinspect.diagnosis.answer import CLOSED_SHARE, Effect
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.retrain import Maker, Training, unchanged
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
# What is made in a run, by role; None is the file itself.
_Run = dict[str, Training | None]


def measure_replicates(
    evidence: Evidence, focus: Comparison, trial: Trial, *, cause: str, deadline: float,
    say: Callable[[str], None], make: Maker,
) -> Effect | str:
    """What a remedy that trains closes of a gap, beyond the same training again; or why not told.

    Looks after 3, 4, 5 and 6 runs of each; it ends where the remedy is shown, or is too weak to
    explain a good part of the gap.
    """
    base = _APART + zlib.crc32(cause.encode()) % _APART * (2 * _APART)
    confidence, scale = evidence.case.confidence, focus.metric.scale
    with_remedy: list[Array] = []
    without: list[Array] = []
    values: dict[str, float] = {}
    found: Closed | None = None
    for done, look in pairwise((0, *LOOKS)):
        runs = [(_remedy(trial, base + number), _sham(evidence, trial, base + _APART + number))
                for number in range(done + 1, look + 1)]
        made = _made(evidence, runs, make, deadline, say, f"run {look} of at most {LOOKS[-1]}: "
                     f"{trial.done}, and the same without it")
        for number, (mended, same) in enumerate(made, done + 1):
            values |= {f"score_{role}_mended_run_{number}": _value(evidence, answers)
                       for role, answers in mended.items()}
            with_remedy.append(_closing(evidence, focus, mended))
            without.append(_closing(evidence, focus, same))
        if len(without) < look:
            break
        found = closed(np.stack(with_remedy), np.stack(without), focus.gap / scale, confidence,
                       **_of_examples(evidence, focus, trial))
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


def _remedy(trial: Trial, order: int) -> _Run:
    """The trainings of a run of the remedy, by role."""
    return {role: replace(one, seed_shift=order) for role, one in trial.again.items()}


def _sham(evidence: Evidence, trial: Trial, order: int) -> _Run:
    """The same without the remedy; where nothing is trained, None or what has no luck in it."""
    return {role: replace(trial.sham[role], seed_shift=order) if role in trial.sham
            else unchanged(evidence, role) for role in trial.again}


def _made(
    evidence: Evidence, runs: list[tuple[_Run, _Run]], make: Maker, deadline: float,
    say: Callable[[str], None], doing: str,
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Answers of all runs in their order, of remedy and sham; of those alone that were in time."""
    wanted = list(dict.fromkeys(one for both in runs for run in both for one in run.values()
                                if one is not None))
    made: dict[Training, Any] = {}

    def of(run: _Run) -> dict[str, Any]:
        return {role: evidence.own_answers(role) if one is None else made[one]
                for role, one in run.items()}

    with suppress(TimeoutError):
        say(f"0 of {len(wanted)} files to {doing}")
        for one, answers in make(wanted, deadline):
            made[one] = answers
            say(f"{len(made)} of {len(wanted)} files to {doing}")
    return [(of(mended), of(same)) for mended, same in runs
            if made.keys() >= {*mended.values(), *same.values()} - {None}]


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
    evidence: Evidence, focus: Comparison, trial: Trial
) -> dict[str, Any]:
    """Groups of the examples, and the largest size of a value where they are right or wrong."""
    own = evidence.results()
    if own.metric.kind == "set":
        return {}
    roles = len({focus.a, focus.b} & set(trial.again))
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
