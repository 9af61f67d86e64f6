"""Align the weighted layers of two models by the values and shapes of their kernels."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from qinspect.schema import Array
from qinspect.tflite.network import WeightedLayer


@dataclass(frozen=True)
class LayerMatch:
    """One weighted layer of two models, or of only one of them."""

    layer: str  # name for people: that of the Keras layer where known
    kind: str  # conv, depthwise, dense, transpose_conv, other
    a: str | None  # names in the two files
    b: str | None
    operators_a: tuple[int, ...]  # that use the layer; empty for a Keras model
    operators_b: tuple[int, ...]
    cosine: float  # median over output channels; NaN without a counterpart
    reason: str  # how it was matched, or why it was not


# Kernels that point in the same direction at least this much are the same layer wherever it is.
ANCHOR = 0.8
# Enough of a kernel to tell layers apart; the reported cosine uses all of it.
_SAMPLE_CHANNELS = 24
_SAMPLE_VALUES = 256
_WEIGHT_SCORE = 4.0
_NAME_SCORE = 1.0
_KIND_SCORE = 0.5
# Names of operators rather than of layers.
_GENERIC = frozenset({
    "conv_2d", "depthwise_conv_2d", "fully_connected", "transpose_conv", "batch_matmul", "softmax",
    "add", "reshape", "mean", "average_pool_2d", "max_pool_2d", "concatenation", "pad", "logistic",
})


def _align_layers(
    a: tuple[WeightedLayer, ...], b: tuple[WeightedLayer, ...]
) -> list[tuple[int, int, str]]:
    """Pairs of layers as (index in a, index in b, "weights" or "position and shape")."""
    if not a or not b:
        return []
    # Kernels that agree are paired first, wherever they stand; the rest in order by their size, so
    # that two models of one architecture match even if no weight is alike.
    similarity = _similarities(a, b)
    fixed = _anchors(similarity, a, b)
    score = np.where(
        _equal([layer.kernel.shape for layer in a], [layer.kernel.shape for layer in b]),
        1.0
        + _WEIGHT_SCORE * np.maximum(0.0, similarity)
        + _NAME_SCORE * _equal([layer.name for layer in a], [layer.name for layer in b])
        + _KIND_SCORE * _equal([layer.kind for layer in a], [layer.kind for layer in b]),
        -np.inf,
    )
    for i, j in fixed.items():
        own = score[i, j]
        score[i, :] = score[:, j] = -np.inf
        score[i, j] = own
    pairs = fixed | dict(align_in_order(score))
    return [
        (i, j, "weights" if similarity[i, j] >= ANCHOR else "position and shape")
        for i, j in sorted(pairs.items())
    ]


def _equal(a: Sequence[Hashable], b: Sequence[Hashable]) -> Array:
    """Whether each element of a equals each element of b, shape (len(a), len(b))."""
    numbers = {value: number for number, value in enumerate(dict.fromkeys((*a, *b)))}
    return np.equal.outer([numbers[value] for value in a], [numbers[value] for value in b])


def align_in_order(score: Array) -> list[tuple[int, int]]:
    """Pairs, increasing in both, of the greatest sum of scores (n, m); -inf must not be paired.

    References
    ----------
    Global sequence alignment (Needleman and Wunsch 1970) with free gaps.
    """
    # Without a gap cost each row of the table is a running maximum.
    n, m = score.shape
    best = np.zeros((n + 1, m + 1))
    for i in range(n):
        paired = best[i, :-1] + score[i]
        best[i + 1, 1:] = np.maximum.accumulate(np.maximum(best[i, 1:], paired))
    pairs = []
    i, j = n, m
    while i and j:
        if best[i, j] == best[i - 1, j]:
            i -= 1
        elif best[i, j] == best[i, j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            pairs.append((i, j))
    return pairs[::-1]


def channel_cosines(a: Array, b: Array) -> Array:
    """Cosine between two kernels (channels, values), by channel; NaN where one is all zeros."""
    # A channel of one value has the cosine +-1 whatever the value: compared as one vector.
    if a.shape[1] == 1:
        a, b = a.reshape(1, -1), b.reshape(1, -1)
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        norm = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
        return np.where(norm > 0, (x * y).sum(axis=1) / norm, np.nan)


def _median_cosine(a: Array, b: Array) -> float:
    """Median of :func:`channel_cosines` over the channels that have one; NaN if none has."""
    cosines = channel_cosines(a, b)
    known = cosines[np.isfinite(cosines)]
    return float(np.median(known)) if known.size else float("nan")


def layer_matches(
    a: tuple[WeightedLayer, ...], b: tuple[WeightedLayer, ...]
) -> tuple[LayerMatch, ...]:
    """Matched layers in the order of a, then what is left of a and of b with the reason."""
    pairs = _align_layers(a, b)
    rows = [
        LayerMatch(
            layer=best_name(a[i].name, b[j].name),
            kind=a[i].kind,
            a=a[i].name,
            b=b[j].name,
            operators_a=a[i].operators,
            operators_b=b[j].operators,
            cosine=_median_cosine(a[i].kernel, b[j].kernel),
            reason=f"matched by {how}",
        )
        for i, j, how in pairs
    ]
    used_a, used_b = {i for i, _, _ in pairs}, {j for _, j, _ in pairs}
    nan = float("nan")
    for i, layer in enumerate(a):
        if i not in used_a:
            why = _why_not(layer, b)
            rows.append(LayerMatch(layer.name, layer.kind, layer.name, None, layer.operators, (),
                                   nan, why))
    for j, layer in enumerate(b):
        if j not in used_b:
            why = _why_not(layer, a)
            rows.append(LayerMatch(layer.name, layer.kind, None, layer.name, (), layer.operators,
                                   nan, why))
    return tuple(rows)


def best_name(a: str, b: str) -> str:
    """The name that tells more: a layer's own one rather than that of an operator."""
    generic_a, generic_b = (name.split("#")[0] in _GENERIC for name in (a, b))
    return b if generic_a and not generic_b else a


def _why_not(layer: WeightedLayer, others: tuple[WeightedLayer, ...]) -> str:
    rows, columns = layer.kernel.shape
    same = [other for other in others if other.kernel.shape == layer.kernel.shape]
    if not same:
        return f"no layer of the other file has {rows} channels of {columns} weights"
    return (
        f"the {len(same)} layers of the other file with {rows} channels of {columns} weights "
        "belong to other layers"
    )


def _similarities(a: tuple[WeightedLayer, ...], b: tuple[WeightedLayer, ...]) -> Array:
    """Median channel cosine of every two kernels of one shape, from a sample of their values."""
    result = np.full((len(a), len(b)), -1.0)
    shapes = {layer.kernel.shape for layer in a} & {layer.kernel.shape for layer in b}
    for shape in shapes:
        rows = [i for i, layer in enumerate(a) if layer.kernel.shape == shape]
        columns = [j for j, layer in enumerate(b) if layer.kernel.shape == shape]
        x = np.stack([_sample(a[i].kernel) for i in rows])
        y = np.stack([_sample(b[j].kernel) for j in columns])
        cosines = np.matmul(x.transpose(1, 0, 2), y.transpose(1, 2, 0))
        # Dead channels are all zeros and point nowhere; a kernel of only those says nothing.
        known = np.isfinite(cosines)
        if known.all():
            medians = np.median(cosines, axis=0)
        else:
            medians = np.ma.median(np.ma.array(cosines, mask=~known), axis=0).filled(-1.0)
        result[np.ix_(rows, columns)] = medians
    return result


def _sample(kernel: Array) -> Array:
    """Some channels and values of a kernel, each channel scaled to length one."""
    if kernel.shape[1] == 1:
        kernel = kernel.reshape(1, -1)
    rows = np.linspace(0, len(kernel) - 1, min(len(kernel), _SAMPLE_CHANNELS)).astype(int)
    columns = np.linspace(0, kernel.shape[1] - 1, min(kernel.shape[1], _SAMPLE_VALUES)).astype(int)
    part = kernel[np.ix_(rows, columns)].astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return part / np.linalg.norm(part, axis=1, keepdims=True)


def _anchors(
    similarity: Array, a: tuple[WeightedLayer, ...], b: tuple[WeightedLayer, ...]
) -> dict[int, int]:
    """Layers that are each other's most similar one; of equal ones, those in equal order."""
    found: dict[int, int] = {}
    free = set(range(len(b)))
    for i in range(len(a)):
        row = similarity[i]
        candidates = [j for j in free if row[j] >= ANCHOR]
        if not candidates:
            continue
        j = min(
            candidates,
            key=lambda j, i=i, row=row: (  # type: ignore[misc]
                -round(float(row[j]), 3),
                b[j].name != a[i].name,
                abs(i - j),
            ),
        )
        rivals = [k for k in range(len(a)) if k not in found]
        if row[j] >= similarity[rivals, j].max() - 1e-3:
            found[i] = j
            free.remove(j)
    return found
