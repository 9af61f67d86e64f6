"""Are two model files one network?  Their weights compared layer by layer.

The thresholds come from a measured distribution, see ``docs/lineage.md``.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass

import numpy as np

from qinspect.affine import decibels
from qinspect.schema import Array
from qinspect.tflite.align import LayerMatch, channel_cosines, layer_matches
from qinspect.tflite.graph import Graph
from qinspect.tflite.keras_file import KerasModelTable, read_keras
from qinspect.tflite.network import WeightedLayer, graph_layers, keras_layers
from qinspect.tflite.read import read_graph
from qinspect.verdicts import counted

LINEAGES: tuple[str, ...] = (
    "same weights",
    "same weights, different batch-norm statistics",
    "same weights, different biases",
    "fine-tuned from",
    "unrelated",
)


@dataclass(frozen=True)
class LineageLayer:
    """One matched layer's weights in two models, real values, b against a.

    Attributes
    ----------
    layer, kind, a, b : str
        As in :class:`LayerMatch`.
    state : str
        ``identical`` (but for rounding), ``rescaled`` (identical but for a factor for each output
        channel), ``moved``, ``unrelated``, ``unmatched`` or ``unreadable`` (NaN, infinite).
    cosine, cosine_low : float
        Median and 5 % quantile over output channels of the cosine between the kernels.
    sqnr_db, rescaled_sqnr_db : float
        Of the kernel, plainly, and after the best factor for each channel.
    rounding_sqnr_db : float
        What rounding alone would give with the steps of both files.
    factor_spread : float
        Greatest deviation from 1 of a channel's factor (5 % to 95 % quantile).
    bias_sqnr_db : float
        Of the biases; infinite where equal, NaN where both files have none.
    bias_differs : bool
        Whether biases differ by more than rounding.
    """

    layer: str
    kind: str
    a: str | None
    b: str | None
    state: str
    cosine: float
    cosine_low: float
    sqnr_db: float
    rescaled_sqnr_db: float
    rounding_sqnr_db: float
    factor_spread: float
    bias_sqnr_db: float
    bias_differs: bool


@dataclass(frozen=True)
class Lineage:
    """Whether two models are one network: one of :data:`LINEAGES`, and in words why."""

    a: str
    b: str
    verdict: str
    layers: tuple[LineageLayer, ...]
    reasons: tuple[str, ...]


Model = str | os.PathLike[str] | Graph | KerasModelTable

# Median channel cosine from which two kernels have a common ancestor.
RELATED_COSINE = 0.6
# A difference of up to this many times the expected rounding error is rounding.  The margin for
# small kernels covers the scatter of a root mean square of few values, 0.45 / sqrt(n) of it.
_ROUNDING_RATIO = 1.1
_ROUNDING_SCATTER = 2.0
# Biases have few values, so their rounding scatters more.
_BIAS_ROUNDING = 3.0
# Biases below this relative difference are equal whatever their stored step.
_BIAS_RELATIVE = 1e-3
_TINY = 1e-30


def lineage(a: Model, b: Model) -> Lineage:
    """Compare the weights and biases of two models.

    Parameters
    ----------
    a, b : path, Graph or KerasModelTable
        ``.tflite``, ``.h5`` or ``.keras`` files, in any combination.

    Returns
    -------
    Lineage
        The verdict is symmetric: it does not tell which of the two came first.

        - ``same weights``: every kernel and bias agrees but for the rounding of its format;
        - ``same weights, different biases``: kernels agree, biases do not;
        - ``same weights, different batch-norm statistics``: kernels agree but for one factor for
          each output channel, as a folded batch normalization gives;
        - ``fine-tuned from``: kernels point in the same direction, but have moved;
        - ``unrelated``: most kernels have nothing in common.

    Raises
    ------
    ModelFileError
        If a file cannot be read.
    """
    name_a, layers_a, unreadable_a = _layers(a)
    name_b, layers_b, unreadable_b = _layers(b)
    matches = layer_matches(layers_a, layers_b)
    by_a = {layer.name: layer for layer in layers_a}
    by_b = {layer.name: layer for layer in layers_b}
    rows = tuple(
        _unmatched(match)
        if match.a is None or match.b is None
        else _compare_layers(match.layer, by_a[match.a], by_b[match.b])
        for match in matches
    )
    verdict, reasons = _judge(rows)
    unreadable = unreadable_a | unreadable_b
    if unreadable:
        names = ", ".join(sorted(unreadable)[:5])
        reasons.append(f"the weights of {counted(len(unreadable), 'layer')} cannot be decoded: "
                       f"{names}")
    return Lineage(name_a, name_b, verdict, rows, tuple(reasons))


def _layers(model: Model) -> tuple[str, tuple[WeightedLayer, ...], set[str]]:
    """Name of a model, its weighted layers, and the names of those that cannot be decoded."""
    if isinstance(model, Graph):
        layers, unreadable = graph_layers(model)
        return model.file, layers, set(unreadable)
    if isinstance(model, KerasModelTable):
        return model.file, keras_layers(model), set()
    if os.fspath(model).lower().endswith((".h5", ".hdf5", ".keras")):
        return _layers(read_keras(model))
    return _layers(read_graph(model))


def _compare_layers(name: str, a: WeightedLayer, b: WeightedLayer) -> LineageLayer:
    """Compare two kernels of one shape, and their biases; batch normalization folded."""
    x, y = a.kernel.astype(np.float64), b.kernel.astype(np.float64)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        nan = float("nan")
        return LineageLayer(name, a.kind, a.name, b.name, "unreadable", nan, nan, nan, nan, nan,
                            nan, *_compare_biases(a, b))
    cosines = channel_cosines(x, y)
    known = cosines[np.isfinite(cosines)]
    cosine, low = (
        (float(np.median(known)), float(np.quantile(known, 0.05))) if known.size else (np.nan,) * 2
    )
    factor = _channel_factors(x, y)
    noise = np.sqrt(np.mean(a.noise**2 + b.noise**2))
    scaled_noise = np.sqrt(np.mean((factor * a.noise) ** 2 + b.noise**2))
    plain, rescaled = _rms(y - x), _rms(y - factor * x)
    limit = _ROUNDING_RATIO + _ROUNDING_SCATTER / np.sqrt(max(x.size, 1))
    bias_db, bias_differs = _compare_biases(a, b)
    alive = factor[np.abs(x).max(axis=1) > 0, 0] if x.size else factor[:0, 0]
    spread = float(np.abs(np.quantile(alive, [0.05, 0.95]) - 1).max()) if alive.size else 0.0
    if plain <= limit * noise or plain == 0:
        state = "identical"
    elif x.shape[1] > 1 and rescaled <= limit * scaled_noise and (factor >= 0).all():
        state = "rescaled"
    elif cosine >= RELATED_COSINE:
        state = "moved"
    else:
        state = "unrelated"
    return LineageLayer(
        layer=name,
        kind=a.kind,
        a=a.name,
        b=b.name,
        state=state,
        cosine=cosine,
        cosine_low=low,
        sqnr_db=decibels(_rms(x) ** 2, plain**2),
        rescaled_sqnr_db=decibels(_rms(factor * x) ** 2, rescaled**2),
        rounding_sqnr_db=decibels(_rms(x) ** 2, float(noise) ** 2),
        factor_spread=spread,
        bias_sqnr_db=bias_db,
        bias_differs=bias_differs,
    )


def _channel_factors(x: Array, y: Array) -> Array:
    """Least-squares factor of each channel of x that gives y; 1 for a dead channel."""
    energy = (x * x).sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(energy > _TINY, (x * y).sum(axis=1, keepdims=True) / energy, 1.0)


def _compare_biases(a: WeightedLayer, b: WeightedLayer) -> tuple[float, bool]:
    if a.bias is None and b.bias is None:
        return float("nan"), False
    zeros = np.zeros(len(a.kernel))
    x = zeros if a.bias is None else a.bias
    y = zeros if b.bias is None else b.bias
    if x.shape != y.shape or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return float("nan"), True
    difference = _rms(y - x)
    noise = float(np.sqrt(np.mean(a.bias_noise**2) + np.mean(b.bias_noise**2)))
    scale = max(_rms(x), _rms(y))
    differs = difference > _BIAS_ROUNDING * noise + _BIAS_RELATIVE * scale + 1e-7
    return decibels(_rms(x) ** 2, difference**2), differs


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values * values))) if values.size else 0.0


def _unmatched(match: LayerMatch) -> LineageLayer:
    nan = float("nan")
    return LineageLayer(match.layer, match.kind, match.a, match.b, "unmatched",
                        nan, nan, nan, nan, nan, nan, nan, False)


def _judge(rows: tuple[LineageLayer, ...]) -> tuple[str, list[str]]:
    counts = Counter(row.state for row in rows)
    matched = len(rows) - counts["unmatched"]
    if matched == 0:
        return "unrelated", ["no layer of one file has the kernel size of a layer of the other"]
    reasons = [
        f"{counted(matched, 'layer')} matched: "
        + ", ".join(f"{n} {state}" for state, n in counts.items() if state != "unmatched")
    ]
    cosines = [row.cosine for row in rows if np.isfinite(row.cosine)]
    if cosines:
        reasons.append(
            f"median channel cosine between kernels {np.median(cosines):.3f} "
            f"(lowest layer {min(cosines):.3f})"
        )
    if counts["unmatched"]:
        names = [row.layer for row in rows if row.state == "unmatched"]
        reasons.append(f"{counted(len(names), 'layer')} without a counterpart: "
                       f"{', '.join(names[:5])}")
    if counts["unmatched"] > matched:
        reasons.append("most layers have no counterpart: the architectures differ")
        return "unrelated", reasons
    if counts["unreadable"]:
        reasons.append(f"{counts['unreadable']} kernels hold NaN or infinite values")
    if 2 * (counts["unrelated"] + counts["unreadable"]) > matched:
        return "unrelated", reasons
    if counts["unrelated"]:
        names = [row.layer for row in rows if row.state == "unrelated"]
        reasons.append(f"replaced or trained anew: {', '.join(names[:5])}")
    different = [row.layer for row in rows if row.bias_differs]
    if different:
        reasons.append(f"biases differ in {counted(len(different), 'layer')}: "
                       f"{', '.join(different[:5])}")
    if counts["moved"] or counts["unrelated"] or counts["unreadable"]:
        return "fine-tuned from", reasons
    if counts["rescaled"]:
        spread = max(row.factor_spread for row in rows if row.state == "rescaled")
        reasons.append(f"output channels are rescaled by up to {spread:.0%}, directions unchanged")
        return "same weights, different batch-norm statistics", reasons
    if different:
        return "same weights, different biases", reasons
    reasons.append("what is left is the rounding of the formats")
    return "same weights", reasons
