"""Metrics of classifiers: of one class among several, of yes or no, and of several labels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qinspect.errors import DataError
from qinspect.metrics.numbers import without_nan
from qinspect.schema import Array

# A probability of 0 would cost an infinite log loss; Keras clips at the same value.
_LEAST = 1e-7
# Rows of quantized probabilities need not add up to 1 exactly.
_SUM = (0.9, 1.1)
_BINS = 15


# In the place of a class: no answer.
NO_ANSWER = -1


def class_of(scores: Any) -> Array:
    """The class that each example's scores (n, ...) answer: the greatest, ties to the lowest index.

    Scores with a NaN are no answer, ``NO_ANSWER``.
    """
    found = np.asarray(scores)
    flat = found.reshape(len(found), math.prod(found.shape[1:]))
    # Arg max stops at the first NaN.
    best = flat.argmax(axis=1).astype(np.int64)
    if flat.dtype.kind == "f":
        best[np.isnan(flat[np.arange(len(flat)), best])] = NO_ANSWER
    return np.asarray(best)


def same_class(a: Array, b: Array) -> Array:
    """Where two models answer the same class; where neither answers they do not."""
    return np.asarray((a == b) & (a != NO_ANSWER))


def right(y: Array, output: Any) -> Array:
    """Which examples are classified right, from labels (n,) or scores (n, classes)."""
    found = np.asarray(output)
    if found.ndim == 2 and found.shape[1] == 1:
        raise DataError("outputs hold one number an example, of which arg max says nothing; take "
                        "binary-accuracy or auc for yes or no, mae for a quantity.")
    if found.ndim == 2:
        if y.dtype.kind in "iuf" and len(y) and (y.min() < 0 or y.max() >= found.shape[1]):
            raise DataError(f"labels run from {y.min():g} to {y.max():g}, but there are scores of "
                            f"{found.shape[1]} classes.")
        found = class_of(found)
    if found.shape != y.shape:
        raise DataError(f"outputs have shape {np.shape(output)}; {len(y)} labels need one class "
                        "or one row of class scores an example.")
    return np.asarray(found == y)


def in_top(y: Array, output: Any, k: int) -> Array:
    """Whether the label is among the k highest scores; ties go to the lowest index."""
    scores = _class_scores(y, output)
    if scores.shape[1] <= k:
        raise DataError(f"top{k} is always right with {scores.shape[1]} classes; choose a smaller "
                        "number or accuracy.")
    own = scores[np.arange(len(y)), y][:, None]
    earlier = np.arange(scores.shape[1]) < y[:, None]
    ahead = (scores > own) | ((scores == own) & earlier)
    return np.asarray(ahead.sum(axis=1) < k)


def binary_right(y: Array, output: Any, threshold: float | None = None) -> Array:
    """Which yes-or-no answers are right, of one probability or the greater of two scores.

    A threshold is one of the probability of yes, else of the score, of two scores of how much
    greater the second is.
    """
    wanted = _yes_no(y)
    return np.asarray((_yes_score(output, threshold, wanted) > 0) == wanted)


def auc(y: Array, output: Any, weights: Array | None = None) -> Any:
    """Area under the ROC curve: how often a positive scores above a negative, ties by half.

    References
    ----------
    Hanley and McNeil (1982), Radiology 143, 29-36.
    """
    wanted = _yes_no(y)
    if wanted.all() or not wanted.any():
        raise DataError(f"all {len(wanted)} labels are {int(wanted[0])}; the area under the curve "
                        "needs both 0 and 1.")
    score = _one_score(output, len(wanted))
    level = np.unique(score, return_inverse=True)[1]
    counts = np.ones((1, len(wanted))) if weights is None else np.asarray(weights, dtype=float)
    ends = np.concatenate([[0], np.cumsum(np.bincount(level))])[:-1]
    order = np.argsort(level, kind="stable")
    sorted_counts, sorted_wanted = counts[:, order], wanted[order]
    positive = np.add.reduceat(sorted_counts * sorted_wanted, ends, axis=1)
    negative = np.add.reduceat(sorted_counts * ~sorted_wanted, ends, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    won = (positive * (below + negative / 2)).sum(axis=1)
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    # A resample may hold one class alone, of which nothing can be said.
    found = np.divide(won, pairs, out=np.full(len(won), np.nan), where=pairs > 0)
    return float(found[0]) if weights is None else found


def f1(y: Array, output: Any, weights: Array | None = None, *,
       threshold: float | None = None) -> Any:
    """F1: of the positives for yes or no, else the mean over labels or classes.

    One of several labels that neither occurs nor is predicted counts as 0, such a class is left
    out, as in scikit-learn.
    """
    wanted, found = _label_table(y, output, threshold)
    if weights is None and not wanted.any():
        raise DataError(f"all {wanted.size} labels are 0; F1 needs some that are 1.")
    counts = np.ones((1, len(wanted))) if weights is None else np.asarray(weights, dtype=float)
    both = counts @ (wanted & found)
    either = counts @ wanted.astype(float) + counts @ found.astype(float)
    each = np.divide(2 * both, either, out=np.zeros_like(both), where=either > 0)
    counted = np.sum(either > 0, axis=1) if np.ndim(y) == 1 else wanted.shape[1]
    mean = each.sum(axis=1) / np.maximum(counted, 1)
    return float(mean[0]) if weights is None else mean


def log_loss(y: Array, output: Any) -> Array:
    """Minus the logarithm of the probability of the label."""
    probability = _probabilities(y, output)
    own = probability[np.arange(len(y)), np.asarray(y).astype(np.int64).reshape(-1)]
    return np.asarray(-np.log(np.clip(own, _LEAST, 1)))


def brier(y: Array, output: Any) -> Array:
    """Squared error of the probabilities; of yes or no, of the one probability.

    References
    ----------
    Brier (1950), Monthly Weather Review 78, 1-3.
    """
    probability = _probabilities(y, output)
    labels = np.asarray(y).astype(np.int64).reshape(-1)
    missed = probability - (np.arange(probability.shape[1]) == labels[:, None])
    one_number = np.asarray(output).reshape(len(labels), -1).shape[1] == 1
    return np.asarray((missed**2).sum(axis=1) / (2 if one_number else 1))


def ece(y: Array, output: Any, weights: Array | None = None) -> Any:
    """Expected calibration error: distance of confidence from accuracy over 15 bins.

    References
    ----------
    Guo et al. (2017), On Calibration of Modern Neural Networks, equation 3.
    """
    probability = _probabilities(y, output)
    labels = np.asarray(y).astype(np.int64).reshape(-1)
    sure = probability.max(axis=1)
    hit = probability.argmax(axis=1) == labels
    bins = np.clip(np.ceil(sure * _BINS).astype(int) - 1, 0, _BINS - 1)
    member = (bins[:, None] == np.arange(_BINS)).astype(float)
    counts = np.ones((1, len(labels))) if weights is None else np.asarray(weights, dtype=float)
    gap = np.abs(counts @ (member * (hit - sure)[:, None])).sum(axis=1) / counts.sum(axis=1)
    return float(gap[0]) if weights is None else gap


def _class_scores(y: Array, output: Any) -> Array:
    scores, labels = _rows(output, len(y)), np.asarray(y)
    if labels.shape != (len(scores),) or labels.dtype.kind not in "iub":
        raise DataError(f"labels have shape {labels.shape} and type {labels.dtype}; one whole "
                        "number an example is needed.")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise DataError(f"labels run from {labels.min()} to {labels.max()}, but there are scores "
                        f"of {scores.shape[1]} classes.")
    return scores


def _yes_no(y: Array) -> Array:
    """Labels 0 and 1 as booleans, (n,)."""
    labels = np.asarray(y)
    if labels.size != len(labels):
        raise DataError(f"labels have shape {labels.shape}; a yes-or-no metric needs one label an "
                        "example. Take f1 for several labels.")
    return _zeros_and_ones(labels.reshape(-1))


def _zeros_and_ones(labels: Array) -> Array:
    other = labels[(labels != 0) & (labels != 1)]
    if other.size:
        raise DataError(f"labels hold {other[0]:g}, and yes or no needs 0 and 1; take accuracy or "
                        "f1 for several classes, mae for a quantity.")
    return np.asarray(labels == 1)


def _rows(output: Any, n: int) -> Array:
    """The numbers of each example, (n, numbers), refused where they are maps."""
    scores = without_nan(output)
    if len(scores) != n or np.count_nonzero(np.array(scores.shape[1:]) != 1) > 1:
        raise DataError(f"outputs have shape {scores.shape}; {n} labels need one row of scores an "
                        "example. Take miou or pixel-accuracy for maps.")
    return scores.reshape(n, -1)


def _one_score(output: Any, n: int) -> Array:
    """One number an example that grows with yes: the one there is, or second minus first."""
    scores = _rows(output, n).astype(float)
    if scores.shape[1] == 1:
        return scores[:, 0]
    if scores.shape[1] == 2:
        return np.asarray(scores[:, 1] - scores[:, 0])
    raise DataError(f"outputs hold {scores.shape[1]} numbers an example; a yes-or-no metric needs "
                    "one or two.")


def _yes_score(output: Any, threshold: float | None, wanted: Array) -> Array:
    score = _one_score(output, len(wanted))
    both = _rows(output, len(wanted))
    if both.shape[1] == 2:
        if threshold is None:
            return score
        # A softmax of two: the probability of yes.
        if (both >= 0).all() and (np.abs(both.sum(axis=1) - 1) <= _SUM[1] - 1).all():
            score = both[:, 1].astype(float)
    return score - _threshold(score, threshold, "binary-accuracy@0 for logits")


def _threshold(values: Array, threshold: float | None, example: str) -> float:
    """The threshold of a score: that which was given, 0.5 of probabilities."""
    low, high = float(values.min()), float(values.max())
    probabilities = low >= 0 and high <= 1
    if threshold is None:
        if not probabilities:
            raise DataError(f"outputs run from {low:g} to {high:g}, which are no probabilities; "
                            f"give the threshold with the name of the metric, such as {example}.")
        return 0.5
    if probabilities and not 0 < threshold < 1:
        raise DataError(f"outputs run from {low:g} to {high:g}, as probabilities do, of which a "
                        f"threshold of {threshold:g} says nothing; choose one between 0 and 1.")
    return threshold


def _label_table(y: Array, output: Any, threshold: float | None) -> tuple[Array, Array]:
    """Wanted and found labels as booleans, (n, labels)."""
    labels = np.asarray(y)
    scores = without_nan(output)
    if labels.ndim == 2 and labels.shape[1] > 1:
        if scores.shape != labels.shape:
            raise DataError(f"outputs have shape {scores.shape}, labels {labels.shape}; several "
                            "labels need one score each.")
        return _zeros_and_ones(labels.reshape(-1)).reshape(labels.shape), scores > _threshold(
            scores, threshold, "f1@0 for logits")
    if _rows(scores, len(labels)).shape[1] <= 2:
        wanted = _yes_no(labels)
        return wanted[:, None], _yes_score(scores, threshold, wanted)[:, None] > 0
    classes = _class_scores(labels, scores)
    if threshold is not None:
        raise DataError(f"a threshold of {threshold:g} means nothing of {classes.shape[1]} "
                        "classes, of which the greatest score is the answer; leave it out.")
    each = np.arange(classes.shape[1])
    return labels[:, None] == each, classes.argmax(axis=1)[:, None] == each


def _probabilities(y: Array, output: Any) -> Array:
    """Probabilities (n, classes) whose rows add up to 1; one number is the probability of yes."""
    values = _rows(output, len(y)).astype(float)
    low, high = float(values.min()), float(values.max())
    sums = values.sum(axis=1)
    if values.shape[1] == 1:
        whole, values = True, np.column_stack([1 - values[:, 0], values[:, 0]])
        _yes_no(y)
    else:
        whole = bool((sums >= _SUM[0]).all() and (sums <= _SUM[1]).all())
        _class_scores(np.asarray(y), values)
    if low < 0 or high > 1 or not whole:
        raise DataError(f"outputs run from {low:g} to {high:g}"
                        + ("" if whole else f" and rows add up to {sums.min():.3g} to "
                           f"{sums.max():.3g}")
                        + ", which are no probabilities; this metric needs a softmax or a sigmoid "
                          "at the end.")
    return np.asarray(values / values.sum(axis=1, keepdims=True))
