"""Remedies that train anew, judged against the same training made again without them.

Another run of one and the same training moves accuracy by more than other examples do, so a remedy
is run several times, each time with another batch order, and so is its sham: the same again with
nothing changed.  What counts is by how much the runs with the remedy close the gap beyond those
without.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy.special import stdtr

from qinspect.diagnosis.answer import CLOSED_SHARE, Effect
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.rule import Trial
from qinspect.predictions import Results
from qinspect.schema import Array
from qinspect.stats import Comparison, crossed_interval, mean_interval, pseudo_values
from qinspect.stats.groups import linearised

# Runs after which is decided, each time at a one-sided level of a quarter of 5 %.  Simulated with
# the spread of runs that one-epoch studies have, a standard deviation of 3.9 points: 2.6 % of
# shams pass, 92 % of remedies worth 10 points.
LOOKS = (3, 4, 5, 6)
LEVEL = 0.0125
# Runs of remedy and sham have other batch orders, and other ones for each cause.
_APART = 1_000


def measure_replicates(
    evidence: Evidence, focus: Comparison, trial: Trial, *, cause: str, deadline: float,
    say: Callable[[str], None] = lambda text: None,
) -> Effect | str:
    """What a remedy that trains closes of a gap, beyond the same training again; or why not told.

    Looks after 3, 4, 5 and 6 runs of each; it ends where the remedy is shown, or is too weak to
    explain a good part of the gap.
    """
    assert trial.again is not None
    assert trial.sham is not None
    toward = math.copysign(1.0, focus.gap)
    base = _APART + zlib.crc32(cause.encode()) % _APART * (2 * _APART)
    with_remedy: list[Array] = []
    without: list[Array] = []
    values: dict[str, float] = {}
    confirmed = False
    for number in range(1, LOOKS[-1] + 1):
        if time.perf_counter() >= deadline:
            break
        say(f"run {number} of at most {LOOKS[-1]}: {trial.done}, and the same without it")
        mended = trial.again(base + number)
        values |= {f"score_{role}_mended_run_{number}": _value(evidence, found)
                   for role, found in mended.items()}
        with_remedy.append(_closing(evidence, focus, mended))
        without.append(_closing(evidence, focus, trial.sham(base + _APART + number)))
        if number in LOOKS:
            more = toward * (_means(with_remedy) - _means(without))
            confirmed = decided(toward * _means(with_remedy), toward * _means(without))
            share = more.mean() / abs(focus.gap)
            confirmed &= bool(share >= CLOSED_SHARE)
            if confirmed or share < CLOSED_SHARE / 2:
                break
    done = len(with_remedy)
    if done < LOOKS[0]:
        return (f"{trial.done} was run {done} times of the {LOOKS[0]} that it takes to tell it "
                "from luck, for lack of time")
    difference = np.stack(with_remedy) - np.stack(without)
    low, high = crossed_interval(difference, evidence.case.confidence)
    luck = _means(without)
    beside = f" against {done} of the same without it" if luck.std() > 0 else ""
    spread = mean_interval(luck, evidence.case.confidence)
    return Effect(
        done=f"{trial.done} ({done} runs{beside})",
        amount=float(difference.mean()),
        interval=(low, high),
        closed_share=float(difference.mean() / focus.gap),
        confirmed=confirmed,
        runs=done,
        luck=float(luck.mean()),
        numbers={**trial.numbers, **values, "runs": done,
                 f"same_again{evidence.suffix}": float(luck.mean()),
                 f"same_again_low{evidence.suffix}": spread[0],
                 f"same_again_high{evidence.suffix}": spread[1],
                 f"of_each_run{evidence.suffix}": difference.mean(axis=1).tolist()},
    )


def decided(remedy: Array, sham: Array) -> bool:
    """Whether runs with the remedy close more than those without: Welch's t, one-sided.

    References
    ----------
    Welch (1947), Biometrika 34, 28-35; looks at fixed numbers of runs, each at a quarter of the
    level: Bonferroni.
    """
    n = len(remedy)
    parts = np.array([remedy.var(ddof=1), sham.var(ddof=1)]) / n
    variance, gap = float(parts.sum()), float(remedy.mean() - sham.mean())
    if variance == 0:
        return gap > 0
    freedom = variance**2 / float((parts**2).sum()) * (n - 1)
    return bool(1 - stdtr(freedom, gap / math.sqrt(variance)) <= LEVEL)


def _closing(evidence: Evidence, focus: Comparison, swaps: dict[str, Any]) -> Array:
    """Of each example what of the gap b - a is closed by other answers of some files, in its unit.

    Of a statistic of a set, blocks of examples stand for the examples.
    """
    own = evidence.results()
    total: Array = np.zeros(1)
    for role, sign in ((focus.b, 1.0), (focus.a, -1.0)):
        if role in swaps:
            changed = own.with_outputs(**{role: evidence.scorable(swaps[role])})
            before = evidence.once(("parts", role), partial(_parts, own, role))
            total = total + sign * (before - _parts(changed, role))
    return own.metric.scale * total


def _parts(results: Results, role: str) -> Array:
    """Values whose mean is the metric: of each example, or of each block of them."""
    if results.metric.kind == "set":
        return pseudo_values(results.metric, results.y, results.outputs[role],
                             groups=results.groups, seed=results.seed)
    scores = results.scores(role).astype(np.float64)
    return scores if results.groups is None else linearised(scores, results.groups)


def _value(evidence: Evidence, answers: Any) -> float:
    return evidence.results().with_outputs(mended=evidence.scorable(answers)).value("mended")


def _means(runs: list[Array]) -> Array:
    return np.array([run.mean() for run in runs])
