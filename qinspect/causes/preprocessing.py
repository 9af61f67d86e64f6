"""preprocessing-mismatch: all files are given other inputs than the network was trained on.

A short list of what people do to images is undone, each by itself; what helps most on some examples
has to help every file on others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from qinspect.causes.evaluation import UNITS, stored_input
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.rule import (
    EVALUATION,
    MODELS,
    Finding,
    Measure,
    Remedy,
    Rule,
    Trial,
    does_not_apply,
    indicated,
    not_shown,
    not_tried,
    ruled_out,
    speaking,
    together,
)
from qinspect.errors import QinspectError
from qinspect.metrics import AGREEMENT, DIFFERENCE
from qinspect.predictions import Results
from qinspect.schema import Array

# Examples that choose, and examples that judge.
_CHOOSE = 256
_JUDGE = 1_000
# Of fewer nothing can be chosen.
_FEWEST = 40
# Two ranges are the same where their ends are as near as this share of the width; chosen.
_NEAR = 0.05
# Means and deviations are the same within this share of a deviation; chosen.
_ALIKE = 0.1
# Share of the errors that goes where values are rescaled: up to 43 % in networks whose batch norm
# lags (measured on two one-epoch studies), more only with the right scale; and where they are moved
# to other places, which nothing else explains (chosen).
_RESCALED, _MOVED = 0.6, 0.25
# Channels' mean and standard deviation over ImageNet in 0..1, and means in 0..255 of files of
# Caffe, whose channels are blue, green, red.
_IMAGENET = (np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))
_CAFFE = np.array([103.939, 116.779, 123.68])

_GAIN = Measure(
    "gain_low_margins", "gain by other inputs at least (first file), in margins", threshold=2.0,
    side="above", basis="lower end of an interval for all that were tried together; chosen",
)
_REMOVED = Measure(
    "errors_gone_share", "share of the first file's errors gone with them", side="above",
    basis="together with the gain; from 60 % where values are rescaled (measured: up to 43 % where "
    "batch norm lags), from 25 % where they are moved to other places (chosen)",
)


@dataclass(frozen=True)
class Candidate:
    """Inputs as another preprocessing would have made them, words, and the least that they mend."""

    words: str
    x: Array
    least: float


def candidates(evidence: Evidence, x: Array) -> Iterator[Candidate]:
    """The fixed list, without the scales where the files or the training show the right one."""
    real = np.asarray(x, dtype=np.float64)
    whole = evidence.data.array
    low, high = float(whole.min()), float(whole.max())
    if high <= low:
        return
    trained = _as_trained(evidence)
    if not trained and not _in_range(evidence, "qat"):
        for words, other in _rescaled(evidence, real, low, high):
            yield Candidate(words, other, _RESCALED)
    if not trained:
        yield Candidate("inputs turned light to dark", low + high - real, _RESCALED)
    if real.ndim in (3, 4) and real.shape[1] == real.shape[2]:
        yield Candidate("images with rows and columns exchanged", real.swapaxes(1, 2), _MOVED)
    if real.ndim == 4 and real.shape[-1] == 3:
        yield Candidate("the order of the channels reversed", real[..., ::-1], _MOVED)


def _as_trained(evidence: Evidence) -> bool:
    """Whether the training data have the mean and the standard deviation of the evaluation."""
    train, here = evidence.case.train, evidence.data.array
    if train is None or isinstance(train.x, Mapping):
        return False
    there = np.asarray(evidence.examples("train"), dtype=np.float64)
    width = float(there.std())
    return (abs(float(here.mean()) - there.mean()) < _ALIKE * width
            and abs(float(here.std()) - width) < _ALIKE * width)


def _in_range(evidence: Evidence, role: str) -> bool:
    """Whether the inputs fill the range that a file stores for them."""
    ends = stored_input(evidence, role) if role in evidence.case.roles else None
    x = evidence.data.array
    return ends is not None and max(abs(ends[0] - x.min()), abs(ends[1] - x.max())) <= (
        _NEAR * (ends[1] - ends[0]))


def _rescaled(
    evidence: Evidence, real: Array, low: float, high: float
) -> Iterator[tuple[str, Array]]:
    whole = evidence.data.array
    if low < 0:
        names: tuple[str, ...] = ("scaled from -1..1", "not halved")
    elif high > 1.5:
        names = ("scaled twice", "halved")
    else:
        names = ("not scaled", "scaled to -1..1", "scaled from -1..1")
    for name in names:
        words, factor, offset = UNITS[name]
        yield words, real * factor + offset
    for role in ("ptq", "qat"):
        ends = stored_input(evidence, role) if role in evidence.case.roles else None
        if ends is not None and not _in_range(evidence, role):
            yield (f"inputs brought to {ends[0]:.3g} to {ends[1]:.3g}, the range that the "
                   f"{role.upper()} file stores",
                   (real - low) / (high - low) * (ends[1] - ends[0]) + ends[0])
            break
    mean, deviation = (float(one(dtype=np.float64)) for one in (whole.mean, whole.std))
    yield "inputs brought to mean 0 and standard deviation 1", (real - mean) / deviation
    train = evidence.case.train
    if train is not None and not isinstance(train.x, Mapping):
        wanted = np.asarray(evidence.examples("train"), dtype=np.float64)
        yield ("inputs brought to the mean and standard deviation of the training data",
               (real - mean) / deviation * wanted.std() + wanted.mean())
    if real.ndim == 4 and real.shape[-1] == 3 and low >= 0:
        unit = real / (255 if high > 1.5 else 1)
        yield ("inputs less ImageNet's mean, over its standard deviation",
               (unit - _IMAGENET[0]) / _IMAGENET[1])
        yield ("channels reversed and less their means (as Caffe has it)",
               255 * unit[..., ::-1] - _CAFFE)


@dataclass(frozen=True)
class _Best:
    """The preprocessing that helps the first file most: its number, words, gain and what is due."""

    at: int
    words: str
    gain: float
    low: float
    gone: float
    least: float
    tried: int


def _halves(evidence: Evidence) -> tuple[Array, Array]:
    """Index of the examples that choose and of those that judge."""
    order = evidence.rng(8).permutation(len(evidence.data))
    size = min(_CHOOSE, len(order) // 2)
    return np.sort(order[:size]), np.sort(order[size : size + _JUDGE])


def _fed(evidence: Evidence, role: str, x: Array, index: Array) -> Results:
    """A file's own results on some examples, and those with other inputs as ``other``."""
    found = evidence.answers_to(evidence.graph(role), x.astype(np.float32))
    some = evidence.results(own=True).take(index)
    return some.with_outputs(other=evidence.scorable(found, index))


def _gain(results: Results, role: str) -> tuple[float, float, float]:
    """How much better the other inputs are, in the metric's unit, with an interval."""
    better = results.metric.better
    amount, *ends = results.contrast({"other": 1.0, role: -1.0})
    low, high = sorted(better * end for end in ends)
    return better * amount, low, high


def _gone(results: Results, role: str) -> float:
    """Share of the errors that the other inputs take away; NaN where there are none to count."""
    own, other = results.value(role), results.value("other")
    if results.metric.better > 0:
        own, other = 1 - own, 1 - other
    return 1 - other / own if own > 0 else math.nan


def _best(evidence: Evidence) -> _Best | None:
    role, (index, _) = evidence.case.roles[0], _halves(evidence)
    x = evidence.data.array[index]
    listed = list(candidates(evidence, x))
    found = []
    for at, one in enumerate(listed):
        try:
            results = _fed(evidence, role, one.x, index)
            all_of_them = replace(results, confidence=1 - (1 - results.confidence) / len(listed))
            gain, low, _ = _gain(all_of_them, role)
        except QinspectError:  # units that the file refuses
            continue
        gone = _gone(results, role)
        found.append(_Best(at, one.words, gain, low, gone, one.least, len(listed)))
    return max(found, key=lambda one: one.gain, default=None)


def _check(evidence: Evidence) -> Finding:
    x, metric = evidence.data.x, evidence.metric
    if isinstance(x, Mapping) or np.asarray(x).dtype.kind not in "fiu" or np.ndim(x) < 3:
        return does_not_apply("the inputs are no images or series of one array.")
    if metric in (AGREEMENT, DIFFERENCE) or metric.reduce is not None:
        return does_not_apply(f"{metric.title} is measured against the files' own inputs or "
                              "answers.")
    if len(evidence.data) < _FEWEST:
        return not_tried(f"cannot tell from fewer than {_FEWEST} examples.")
    best = evidence.once(("preprocessing",), lambda: _best(evidence))
    if best is None:
        return ruled_out("the inputs have the scale that the files and the training show.")
    role = evidence.case.roles[0]
    gain = _GAIN.of(best.low / evidence.results(own=True).limit)
    facts: dict[str, object] = {
        "tried": best.tried, "best": best.words, f"{role}_gain{evidence.suffix}": best.gain,
        "x_low": float(x.min()), "x_high": float(x.max()),
    }
    measures = together(gain, _REMOVED.of(best.gone, threshold=best.least))
    if gain.speaks and not speaking(measures):
        return not_shown(
            f"the best of {best.tried} other ways to prepare the inputs, {best.words}, takes away "
            f"{100 * best.gone:.0f} % of the {role} file's errors; the right one would do more.",
            measures, facts)
    if not speaking(measures):
        return ruled_out(f"none of {best.tried} other ways to prepare the inputs makes the "
                         f"{role} file better by much.", measures, facts)
    return indicated(
        f"with {best.words} the {role} file is better by {metric.size(best.gain)} on "
        f"{len(_halves(evidence)[0])} examples that chose among {best.tried} ways to prepare "
        "them.", measures, facts, strength=0.95)


def _prepared(evidence: Evidence, finding: Finding) -> Trial | None:
    best = evidence.once(("preprocessing",), lambda: _best(evidence))
    if best is None or finding.verdict != "indicated":
        return None
    _, index = _halves(evidence)
    x = list(candidates(evidence, evidence.data.array[index]))[best.at].x
    swaps, said, every = {}, [], True
    for role in evidence.case.roles:
        results = _fed(evidence, role, x, index)
        every &= _gain(results, role)[1] > 0 and _gone(results, role) >= best.least
        words = results.metric.words
        said.append(f"of {MODELS[role]} from {words(results.value(role))} to "
                    f"{words(results.value('other'))}")
        swaps[role] = evidence.answers_to(evidence.graph(role), x.astype(np.float32))
    return Trial(
        f"evaluating with {best.words} (chosen on other examples) takes the "
        f"{evidence.metric.title} {', '.join(said)}", swaps, index, shown=every)


RULE = Rule(
    id="preprocessing-mismatch",
    title="the inputs are not prepared as in training",
    question="Are the files given what the network was trained on?",
    requires=("data",),
    check=_check,
    rank=EVALUATION,
    symptom="All files are near chance, or far below what training reported, or float is worst.",
    cause=(
        "Another scale (0 to 1, 0 to 255, -1 to 1), mean or standard deviation, order of channels, "
        "or rows and columns exchanged: the network sees what it was not trained on."
    ),
    remedy="Use one preprocessing function for training, calibration and evaluation.",
    code=(
        "import qinspect as qi\n"
        "# for a network trained on -1 to 1, where x holds 0 to 1\n"
        "print(qi.evaluate(files, (2 * x - 1, y)))"
    ),
    met=(
        "A tutorial trains on pixels of 0 to 1, its Android app feeds the file pixels of -1 to 1 "
        "(https://github.com/tensorflow/tensorflow/issues/39925)",
        "MobileNetV2 at 43.2 % top-1; the answer: it expects 0 to 1, by default the tool makes -1 "
        "to 1 (https://github.com/tensorflow/tensorflow/issues/60072)",
    ),
    source="Reddi et al. 2020, arXiv:1911.02549 (one preprocessing for all, MLPerf inference)",
    measures=(_GAIN, _REMOVED),
    remedies=(Remedy("another preprocessing", ("data",), _prepared),),
    note="A fixed list is tried: scales, the range that a file stores, mean and standard deviation "
    "(of the training data, of ImageNet), light to dark, rows and columns, order of channels; no "
    "scales where the range of the QAT file's input or the training data show that it is right. "
    "Some examples choose, and on others every file must be better by as much, beyond chance.",
    every_file=True,
)
