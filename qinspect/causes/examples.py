"""duplicate-examples and train-in-evaluation: examples that tell less than their number says."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import numpy as np

from qinspect.data.dataset import digests
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.rule import (
    EVALUATION,
    Finding,
    Measure,
    Remedy,
    Rule,
    Trial,
    indicated,
    not_shown,
    ruled_out,
)
from qinspect.schema import Array

_COPIES = Measure(
    "design_effect", "examples for one observation, by their copies", threshold=1.1, side="above",
    basis="sum of squared numbers of copies over n; chosen: intervals are 5 % too narrow",
)
_LEAKED = Measure(
    "leaked_share", "share of evaluation examples in the training data", threshold=0.02,
    side="above", basis="chosen",
)


def _digests(evidence: Evidence) -> list[bytes]:
    return evidence.once(("digests",), lambda: digests(evidence.data.x))


# --- duplicate-examples -----------------------------------------------------------------------


def _first(evidence: Evidence) -> Array:
    """Index of the first example of each content; another label makes another example."""
    found: dict[bytes, int] = {}
    for at, key in enumerate(_contents(evidence)):
        found.setdefault(key, at)
    return np.array(sorted(found.values()))


def _contents(evidence: Evidence) -> list[bytes]:
    y = evidence.data.y
    if y is None:
        return _digests(evidence)
    return [key + np.asarray(y[at]).tobytes() for at, key in enumerate(_digests(evidence))]


def _check_copies(evidence: Evidence) -> Finding:
    n = len(evidence.data)
    kept = _first(evidence)
    copies = np.array(list(Counter(_contents(evidence)).values()))
    facts = {"examples": n, "distinct_examples": len(kept),
             "distinct_inputs": len(set(_digests(evidence))), "most_copies": int(copies.max())}
    share = _COPIES.of(float(np.sum(copies**2)) / n)
    if not share.speaks:
        return ruled_out(f"{len(kept):,} of {n:,} evaluation examples are distinct.", [share],
                         facts)
    words = (f"the {n:,} evaluation examples are {len(kept):,} distinct ones, some of them up to "
             f"{facts['most_copies']:,} times")
    if _alike_by_chance(evidence):
        return not_shown(f"{words}; but inputs of so few values are alike by chance, too.",
                         [share], facts)
    if evidence.data.group is not None:
        groups = dict(zip(_digests(evidence), evidence.data.group, strict=True))
        inside = all(groups[key] == group for key, group in
                     zip(_digests(evidence), evidence.data.group, strict=True))
        if inside:
            return not_shown(f"{words}; the groups that were given keep copies together, so that "
                             "intervals and p are right.", [share], facts)
    return indicated(f"{words}: intervals are too narrow and p is too small.", [share], facts,
                     strength=0.8 - 0.5 / float(share.value or 1))


def _alike_by_chance(evidence: Evidence) -> bool:
    """Whether there are so few different inputs that as many examples must often be alike."""
    x = evidence.data.x
    # By the birthday problem n examples of n^2 possible ones are alike in every second set.
    enough = 2 * math.log2(len(evidence.data))
    bits = 0.0
    for one in x.values() if isinstance(x, Mapping) else (x,):
        for column in np.asarray(one).reshape(len(one), -1).T:
            bits += math.log2(len(np.unique(column)))
            if bits > enough:
                return False
    return True


def _each_once(evidence: Evidence, finding: Finding) -> Trial | None:
    if finding.verdict != "indicated":
        return None
    return Trial("counting each example once", {}, kept=_first(evidence), copies=True)


# --- train-in-evaluation ----------------------------------------------------------------------


def _leaked(evidence: Evidence) -> Array:
    """Which evaluation examples are in the training data."""
    assert evidence.case.train is not None
    known = set(digests(evidence.case.train.x))
    return np.array([key in known for key in _digests(evidence)])


def _is_leaked(evidence: Evidence) -> Array:
    return evidence.once(("leaked",), lambda: _leaked(evidence))


def _check_leaked(evidence: Evidence) -> Finding:
    leaked = _is_leaked(evidence)
    n, count = len(leaked), int(np.count_nonzero(leaked))
    share = _LEAKED.of(count / n)
    facts: dict[str, object] = {"examples": n, "leaked_examples": count}
    if not share.speaks:
        return ruled_out(f"{count:,} of {n:,} evaluation examples are in the training data.",
                         [share], facts)
    words = f"{count:,} of {n:,} evaluation examples are in the training data"
    if count == n:
        return not_shown(f"{words}: what the files do on other examples is not known.", [share],
                         facts)
    metric = evidence.metric
    parts = {"leaked": leaked, "other": ~leaked}
    for name, part in parts.items():
        some = evidence.results().take(part)
        facts |= {f"{role}_on_{name}": some.value(role) for role in evidence.case.roles}
    listed = ", ".join(
        f"{role} {metric.words(float(str(facts[f'{role}_on_leaked'])))} against "
        f"{metric.words(float(str(facts[f'{role}_on_other'])))}" for role in evidence.case.roles)
    return indicated(f"{words} ({metric.title} on them against the others: {listed}).", [share],
                     facts, strength=min(0.7, 0.3 + count / n / 2))


def _without_leaked(evidence: Evidence, finding: Finding) -> Trial | None:
    if finding.verdict != "indicated":
        return None
    kept = np.flatnonzero(~_is_leaked(evidence))
    return Trial("leaving out what is in the training data", {}, kept=kept)


RULES = (
    Rule(
        id="duplicate-examples",
        title="the same examples are counted many times",
        question="How many of the evaluation examples are distinct?",
        requires=("data",),
        check=_check_copies,
        rank=EVALUATION,
        symptom="A small difference is significant that does not come back on other data.",
        cause=(
            "Copies of an example (an oversampled class, a file read twice, a generator that was "
            "repeated) all agree, so that there are fewer observations than rows."
        ),
        remedy="Count each example once, or give copies as one group.",
        code=(
            "from qinspect.data.dataset import digests\n"
            "once = {one: i for i, one in enumerate(digests(x))}  # the last of each\n"
            "data = data.take(sorted(once.values()))"
        ),
        makes="evaluation",
        met=(
            "PlantSeg v7: 265 groups of equal files among 7,774 images, 13 of them inside the "
            "test part (https://github.com/tqwei05/PlantSeg/issues/11)",
            "Fashion-MNIST: 43 images stand twice in the training set, 1 in the test set "
            "(https://github.com/zalandoresearch/fashion-mnist/issues/44)",
        ),
        source="Barz & Denzler 2020, arXiv:1902.00423 (duplicates in CIFAR's test sets)",
        measures=(_COPIES,),
        remedies=(Remedy("each example once", ("data",), _each_once),),
        note="Copies have equal inputs and equal labels, bit by bit. It explains a gap that may be "
        "chance, or is much smaller, once each is counted once.",
    ),
    Rule(
        id="train-in-evaluation",
        title="evaluation examples were trained on",
        question="Are evaluation examples in the training data?",
        requires=("data", "train"),
        check=_check_leaked,
        rank=EVALUATION,
        symptom="The model that was trained longer is ahead, here and nowhere else.",
        cause="What a network has seen it may know by heart; that tells nothing of new examples.",
        remedy="Evaluate on examples that no training has seen.",
        code=(
            "from qinspect.data.dataset import digests\n"
            "known = set(digests(train_x))\n"
            "data = data.take([at for at, one in enumerate(digests(x)) if one not in known])"
        ),
        makes="evaluation",
        met=(
            "RIAWELC: all 2,443 test images are in the training set; 93 % as published, about 82 "
            "% without them (https://github.com/stefyste/RIAWELC/issues/2)",
            "Fashion-MNIST: 10 training images stand in the test set as well "
            "(https://github.com/zalandoresearch/fashion-mnist/issues/44)",
        ),
        source="Barz & Denzler 2020, arXiv:1902.00423 (duplicates in CIFAR's test sets)",
        measures=(_LEAKED,),
        remedies=(Remedy("the evaluation without them", ("data", "train"), _without_leaked),),
        note="Inputs that are equal bit by bit; changed copies are not noticed. It explains a gap "
        "that is smaller on the other examples, beyond chance.",
    ),
)
