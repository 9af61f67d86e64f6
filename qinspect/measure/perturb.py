"""Random networks that are as far from the float one as the quantized one is.

They answer "is this gain more than luck?": a quantized network whose accuracy lies well within
what random noise of the same size does to the float network owes it to chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from qinspect.errors import DataError, ModelFileError, SpecError
from qinspect.measure.calibrate import ObservedRanges
from qinspect.measure.metrics import error_metrics
from qinspect.measure.pairs import Pair, as_pairs
from qinspect.measure.weights import weight_tensor
from qinspect.schema import Array, Graph
from qinspect.tflite.constants import dequantized
from qinspect.tflite.edit import replace_constants
from qinspect.tflite.quantize import quantize
from qinspect.tflite.run import evaluate

# The factor is found on few examples and few draws; the null itself reports what it reached.
_MATCH_EXAMPLES = 500
_MATCH_DRAWS = 11
_MATCH_ROUNDS = 8
_MATCH_DB = 0.2


@dataclass(frozen=True)
class WeightNoise:
    """What quantization did to the weights of one layer.

    Attributes
    ----------
    layer : str
        Name to show.
    tensor : int
        Index of the float weights in the float file.
    weights : ndarray of float32
        The float weights.
    energy : ndarray of float64
        Sum of squared errors of the quantized weights, one for each group that shares a scale,
        broadcastable to ``weights``.
    sqnr_db : float
        Of the quantized weights, over the layer.
    """

    layer: str
    tensor: int
    weights: Array
    energy: Array
    sqnr_db: float


@dataclass(frozen=True)
class Draws:
    """Random networks, evaluated on the same examples.

    Attributes
    ----------
    prediction : ndarray of int64, shape (draws, n)
        Predicted class of each example by each network.
    sqnr_db : ndarray of float64, shape (draws,)
        Output SQNR of each against the float network.
    """

    prediction: Array
    sqnr_db: Array


def weight_noise(
    float_graph: Graph, quant_graph: Graph, pairs: Sequence[Pair] | Sequence[tuple[int, int]]
) -> tuple[WeightNoise, ...]:
    """Size of the quantization error of the weights of every matched layer.

    Parameters
    ----------
    float_graph, quant_graph : Graph
        The float file and the file made from it.
    pairs : sequence of Pair or of (int, int)
        Matched operators; those without weights are left out.

    Returns
    -------
    tuple of WeightNoise
        One a float weight tensor.  Biases are left out: at 32 bits their error is negligible.

    Raises
    ------
    ModelFileError
        If no layer with weights is matched, or weights cannot be decoded.
    """
    found: dict[int, WeightNoise] = {}
    for pair in as_pairs(pairs, float_graph, quant_graph):
        first = weight_tensor(float_graph, pair.op_a)
        second = weight_tensor(quant_graph, pair.op_b)
        if first is None or second is None or first.shape != second.shape:
            continue
        weights = dequantized(float_graph, first)
        error2 = (dequantized(quant_graph, second).astype(np.float64) - weights) ** 2
        q = second.quantization
        axis = q.axis if q is not None and q.per_channel else None
        others = tuple(i for i in range(error2.ndim) if i != axis)
        metrics = error_metrics(weights, dequantized(quant_graph, second))
        found[first.index] = WeightNoise(
            pair.layer, first.index, weights, error2.sum(axis=others, keepdims=True),
            metrics["sqnr_db"],
        )  # fmt: skip
    if not found:
        raise ModelFileError(
            f"no layer of {float_graph.file} with weights has a counterpart in {quant_graph.file}."
        )
    return tuple(found.values())


def perturbed(
    graph: Graph,
    noise: Sequence[WeightNoise],
    *,
    factor: float = 1.0,
    rng: int | np.random.Generator = 0,
) -> bytes:
    """The float file with random noise of a given size on its weights.

    For each group of weights that shares a scale, normal noise is drawn and scaled so that its
    energy is *exactly* ``factor``^2 times that of the quantization error; with factor 1 every
    layer has the SQNR that quantization gave it.

    Parameters
    ----------
    graph : Graph
        The float file.
    noise : sequence of WeightNoise
        From :func:`weight_noise`.
    factor : float
        Amplitude against that of the quantization error, at least 0.
    rng : int or Generator
        Seed or generator.

    Returns
    -------
    bytes
    """
    if not (factor >= 0 and math.isfinite(factor)):
        raise SpecError(f"factor is {factor:g}; it must be at least 0.")
    generator = np.random.default_rng(rng)
    values = {}
    for layer in noise:
        drawn = np.asarray(generator.standard_normal(layer.weights.shape))
        grouped = tuple(i for i in range(drawn.ndim) if layer.energy.shape[i] == 1)
        energy = (drawn**2).sum(axis=grouped, keepdims=True)
        values[layer.tensor] = layer.weights + factor * drawn * np.sqrt(layer.energy / energy)
    return replace_constants(graph, values)


def perturb(
    graph: Graph,
    noise: Sequence[WeightNoise],
    x: Array,
    *,
    draws: int = 200,
    factor: float = 1.0,
    rng: int | np.random.Generator = 0,
    batch_size: int = 128,
    num_threads: int = 2,
    on_step: Callable[[int], None] | None = None,
) -> Draws:
    """Evaluate randomly perturbed versions of a float network.

    Parameters
    ----------
    graph : Graph
        The float file.
    noise : sequence of WeightNoise
        From :func:`weight_noise`.
    x : ndarray, shape (n, ...)
        Examples as the float model takes them.
    draws : int
        Number of random networks, at least 100: with fewer the p-value cannot be below 0.01.
    factor : float
        See :func:`perturbed`; :func:`matching_factor` finds one for a wanted output SQNR.
    rng : int or Generator
        Seed or generator.
    batch_size, num_threads : int
        Of the evaluation.
    on_step : callable, optional
        Called with the number of networks evaluated so far.

    Returns
    -------
    Draws

    Raises
    ------
    SpecError
        If ``draws`` is below 100.

    Notes
    -----
    The null is "the float network with noise on its weights, independent of everything and
    unstructured".  With factor 1 it lacks the error of activations, which quantization has in
    addition, so its accuracies spread less than they should and p-values come out too small.
    Matching the *output* SQNR instead makes up for the size of the activation error, though
    not for its kind: it is put on the weights, the same for every example.  Clipping, which
    is a bias rather than noise, is in neither.
    """
    if draws < 100:
        raise SpecError(f"draws is {draws}; choose at least 100.")
    generator = np.random.default_rng(rng)
    return _evaluate_all(
        graph, lambda: perturbed(graph, noise, factor=factor, rng=generator), draws, x,
        batch_size, num_threads, on_step,
    )  # fmt: skip


def matching_factor(
    graph: Graph,
    noise: Sequence[WeightNoise],
    x: Array,
    sqnr_db: float,
    *,
    rng: int | np.random.Generator = 0,
    batch_size: int = 128,
    num_threads: int = 2,
) -> float:
    """Amplitude of weight noise at which the median perturbed network has a given output SQNR.

    Output noise grows with the square of the amplitude as long as the network is nearly linear in
    it, so a few fixed-point steps with the same random directions find the factor.

    Parameters
    ----------
    graph, noise, x, batch_size, num_threads
        As in :func:`perturb`; at most 500 of the examples are used.
    sqnr_db : float
        Wanted output SQNR against the float network, finite.
    rng : int or Generator
        Seed or generator.

    Returns
    -------
    float

    Raises
    ------
    SpecError
        If ``sqnr_db`` is not finite.
    DataError
        If noise on the weights does not reach the outputs.
    """
    if not math.isfinite(sqnr_db):
        raise SpecError(f"the output SQNR to match is {sqnr_db:g} dB; it must be finite.")
    generator = np.random.default_rng(rng)
    seeds = generator.integers(2**32, size=_MATCH_DRAWS)
    if len(x) > _MATCH_EXAMPLES:
        x = x[np.sort(generator.choice(len(x), _MATCH_EXAMPLES, replace=False))]
    reference = evaluate(graph.content, x, batch_size=batch_size, num_threads=num_threads).outputs
    factor = 1.0
    for _ in range(_MATCH_ROUNDS):
        found = []
        for seed in seeds:
            content = perturbed(graph, noise, factor=factor, rng=int(seed))
            outputs = evaluate(content, x, batch_size=batch_size, num_threads=num_threads).outputs
            found.append(error_metrics(reference, outputs)["sqnr_db"])
        # The median: one network that noise has broken must not set the size for all.
        excess = float(np.median(found)) - sqnr_db
        if not math.isfinite(excess):
            raise DataError(
                f"noise on the weights of {graph.file} does not change its outputs, or makes "
                "them NaN."
            )
        if abs(excess) < _MATCH_DB:
            break
        factor *= 10 ** (excess / 20)
    return factor


def recalibrate(
    graph: Graph,
    observed: ObservedRanges,
    x: Array,
    *,
    sets: int = 100,
    size: int = 100,
    rng: int | np.random.Generator = 0,
    batch_size: int = 128,
    num_threads: int = 2,
    on_step: Callable[[int], None] | None = None,
) -> Draws:
    """Quantize a float network with random calibration sets, and evaluate each result.

    Parameters
    ----------
    graph : Graph
        The float file.
    observed : ObservedRanges
        Ranges of every example that may be drawn.
    x : ndarray, shape (n, ...)
        Evaluation examples.
    sets : int
        Number of calibration sets, at least 2.
    size : int
        Examples of each, drawn without replacement; at most those observed.
    rng : int or Generator
        Seed or generator.
    batch_size, num_threads, on_step
        As in :func:`perturb`.

    Returns
    -------
    Draws

    Raises
    ------
    SpecError
        If there are not enough examples or sets.

    Notes
    -----
    Sets from one pool overlap, the more the nearer ``size`` is to the number of examples
    observed; the spread is then smaller than that of sets drawn afresh.
    """
    if sets < 2:
        raise SpecError(f"sets is {sets}; choose at least 2.")
    if not 1 <= size <= len(observed):
        raise SpecError(f"sets of {size} examples cannot be drawn from {len(observed)}.")
    generator = np.random.default_rng(rng)

    def draw() -> bytes:
        chosen = generator.choice(len(observed), size, replace=False)
        return quantize(graph, observed.over(chosen))

    return _evaluate_all(graph, draw, sets, x, batch_size, num_threads, on_step)


def _evaluate_all(
    graph: Graph,
    draw: Callable[[], bytes],
    count: int,
    x: Array,
    batch_size: int,
    num_threads: int,
    on_step: Callable[[int], None] | None,
) -> Draws:
    reference = evaluate(graph.content, x, batch_size=batch_size, num_threads=num_threads).outputs
    predictions, quality = [], []
    for done in range(count):
        result = evaluate(draw(), x, batch_size=batch_size, num_threads=num_threads)
        predictions.append(result.prediction)
        quality.append(error_metrics(reference, result.outputs)["sqnr_db"])
        if on_step is not None:
            on_step(done + 1)
    return Draws(np.stack(predictions), np.array(quality))
