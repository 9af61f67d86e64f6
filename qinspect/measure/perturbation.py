"""Random networks that are as far from the float one as the quantized one is.

They answer "is this gain more than luck?": a quantized network whose accuracy lies well within
what random noise of the same size does to the float network owes it to chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from qinspect.errors import DataError, ModelFileError, SpecError
from qinspect.measure.activations import ObservedRanges
from qinspect.measure.error_metrics import error_metrics
from qinspect.measure.probe import Pair, as_pairs
from qinspect.measure.weights import weight_tensor
from qinspect.schema import Array
from qinspect.stats.intervals import check_confidence
from qinspect.tflite.ancestry import lineage
from qinspect.tflite.constants import dequantized
from qinspect.tflite.graph import Graph
from qinspect.tflite.match import match_graphs
from qinspect.tflite.requantize import quantize_file, replace_constants
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
        )
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
    )


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


def calibration_draws(
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
        return quantize_file(graph, observed.over(chosen))

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


# --- Where an observed gain lies among those of random networks, and the sp ---------------------


@dataclass(frozen=True)
class PerturbationTest:
    """An observed gain against the gains of random perturbations.

    Attributes
    ----------
    observed_pp : float
        The gain in question, percentage points.
    draws : int
        Random networks.
    mean_pp, sd_pp : float
        Mean and standard deviation of their gains.
    range_pp : tuple of float
        Central range of their gains, at ``confidence``.
    percentile : float
        Share of them below the observed gain, ties counted half, in 0..1.
    p : float
        One-sided: (1 + those at least as great) / (1 + draws).
    p_ci : tuple of float
        Interval of the probability that a random network gains at least as much: what the
        limited number of draws leaves open.
    confidence : float
        Of ``range_pp`` and ``p_ci``.
    sentence : str
        The result in words.
    """

    observed_pp: float
    draws: int
    mean_pp: float
    sd_pp: float
    range_pp: tuple[float, float]
    percentile: float
    p: float
    p_ci: tuple[float, float]
    confidence: float
    sentence: str


def perturbation_test(
    observed_pp: float, null_pp: Array, *, confidence: float = 0.95
) -> PerturbationTest:
    """Is a gain greater than what random perturbations of equal size bring?

    Parameters
    ----------
    observed_pp : float
        The gain of the quantized network over the float one, percentage points.
    null_pp : array_like, shape (draws,)
        Gains of randomly perturbed networks over the float one, on the same examples.
    confidence : float
        Level of the intervals; the sentence calls the gain more than luck if p is at most
        1 - confidence.

    Returns
    -------
    PerturbationTest

    Raises
    ------
    DataError
        If there are no gains, or one is not finite.

    Notes
    -----
    The p-value counts the observed network among the draws, which makes the test valid for any
    number of them (Phipson and Smyth 2010).  ``p_ci`` is the exact binomial interval of Clopper
    and Pearson (1934).
    """
    check_confidence(confidence)
    null = _finite(null_pp)
    if not np.isfinite(observed_pp):
        raise DataError(f"the observed gain is {observed_pp}; it must be a finite number.")
    n = len(null)
    # Accuracies are counts over n: differences within rounding error are ties.
    above = int(np.count_nonzero(null >= observed_pp - 1e-9))
    ties = int(np.count_nonzero(np.abs(null - observed_pp) <= 1e-9))
    p = (1 + above) / (1 + n)
    low, high = np.quantile(null, [(1 - confidence) / 2, (1 + confidence) / 2])
    percentile = (n - above + ties / 2) / n
    lucky = "more than" if p <= 1 - confidence else "not more than"
    sentence = (
        f"A gain of {observed_pp:+.2f} points is {lucky} what random weight noise of this size "
        f"does: {n} random networks gain {np.mean(null):+.2f} points on average, "
        f"{100 * confidence:g} % of them between {low:+.2f} and {high:+.2f}, and {above} gain at "
        f"least as much (p = {p:.3f})."
    )
    return PerturbationTest(
        observed_pp=float(observed_pp),
        draws=n,
        mean_pp=float(np.mean(null)),
        sd_pp=float(np.std(null, ddof=1)) if n > 1 else float("nan"),
        range_pp=(float(low), float(high)),
        percentile=percentile,
        p=p,
        p_ci=_clopper_pearson(above, n, confidence),
        confidence=confidence,
        sentence=sentence,
    )


def _finite(values: Array) -> Array:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or found.size == 0:
        raise DataError(f"there must be a list of results, not an array of shape {found.shape}.")
    if not np.isfinite(found).all():
        raise DataError(
            f"{int(np.count_nonzero(~np.isfinite(found)))} of {found.size} results are NaN or "
            "infinite."
        )
    return found


def _clopper_pearson(successes: int, n: int, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 1 - tail))
    return low, high


# --- Is "the quantized network is better than the float one" more than luck ---------------------


@dataclass(frozen=True)
class PerturbationNull:
    """The gain of a quantized network against those of random networks.

    Attributes
    ----------
    output : PerturbationTest
        Against weight noise that gives the *output* SQNR of the quantized network: the test to
        go by, because quantization disturbs activations as well as weights.
    weights : PerturbationTest
        Against weight noise with the SQNR of the quantized weights, layer by layer: what
        rounding the weights alone would do.  Its p-value is too small where activations carry
        a good part of the error.
    factor : float
        Amplitude of the noise in ``output`` against that in ``weights``.
    output_sqnr_db : float
        Of the quantized network against the float one.
    null_sqnr_db, null_gain_pp : ndarray of float64, shape (draws,)
        Of each random network in ``output``.
    layers : int
        Layers whose weights were perturbed.
    """

    output: PerturbationTest
    weights: PerturbationTest
    factor: float
    output_sqnr_db: float
    null_sqnr_db: Array
    null_gain_pp: Array
    layers: int


def perturbation_null(
    float_graph: Graph,
    quantized: Graph,
    x: Array,
    y: Array,
    *,
    draws: int = 200,
    seed: int = 0,
    confidence: float = 0.95,
    num_threads: int = 2,
    on_step: Callable[[int, int], None] | None = None,
) -> PerturbationNull:
    """Test the gain of a quantized network against random perturbations of its float parent.

    Parameters
    ----------
    float_graph, quantized : Graph
        The float32 file, and the one made from it.
    x : ndarray, shape (n, ...)
        Evaluation examples as the float model takes them.
    y : ndarray of int, shape (n,)
        Their labels.
    draws : int
        Random networks in each of the two nulls, at least 100.
    seed : int
        Seed of the noise.
    confidence : float
        Of the ranges, and of the sentence.
    num_threads : int
        Of the evaluation.
    on_step : callable, optional
        Called with the number of networks evaluated and the number there will be.

    Returns
    -------
    PerturbationNull

    Raises
    ------
    DataError
        If labels and examples do not fit, or the outputs of the two files are equal.
    SpecError
        If ``draws`` is below 100.
    ModelFileError
        If the two files do not have the same weights but for quantization.

    Notes
    -----
    What the null includes and lacks is said in :func:`qinspect.measure.perturb.perturb`.  It
    conditions on these examples and this float network: it does not speak of other examples
    (the paired comparison does) nor of training again (seeds do).
    """
    y = _labels(x, y)
    related = lineage(float_graph, quantized).verdict
    if not related.startswith("same weights"):
        raise ModelFileError(
            f"{quantized.file} does not have the weights of {float_graph.file} (verdict: "
            f"{related}), so what lies between them is not quantization error alone."
        )
    pairs = [Pair(m.a, m.b, m.layer) for m in match_graphs(float_graph, quantized).pairs]
    noise = weight_noise(float_graph, quantized, pairs)
    reference = evaluate(float_graph.content, x, num_threads=num_threads)
    studied = evaluate(quantized.content, x, num_threads=num_threads)
    sqnr = error_metrics(reference.outputs, studied.outputs)["sqnr_db"]
    if not np.isfinite(sqnr):
        raise DataError(
            f"the outputs of {quantized.file} and {float_graph.file} have an SQNR of {sqnr:g} dB; "
            "there is no quantization error to compare with."
        )
    base = float(np.mean(reference.prediction == y))
    gain = 100 * (float(np.mean(studied.prediction == y)) - base)
    streams = np.random.default_rng(seed).spawn(3)
    factor = matching_factor(
        float_graph, noise, x, sqnr, rng=streams[0], num_threads=num_threads
    )
    found = []
    for number, amplitude in enumerate((factor, 1.0)):
        counted = None if on_step is None else _shifted(on_step, number * draws, 2 * draws)
        drawn = perturb(
            float_graph, noise, x, draws=draws, factor=amplitude, rng=streams[1 + number],
            num_threads=num_threads, on_step=counted,
        )
        found.append((drawn, 100 * ((drawn.prediction == y).mean(axis=1) - base)))
    tests = [perturbation_test(gain, gains, confidence=confidence) for _, gains in found]
    return PerturbationNull(
        output=tests[0],
        weights=tests[1],
        factor=factor,
        output_sqnr_db=sqnr,
        null_sqnr_db=found[0][0].sqnr_db,
        null_gain_pp=found[0][1],
        layers=len(noise),
    )


def _labels(x: Array, y: Array) -> Array:
    if len(x) != len(y):
        raise DataError(f"there are {len(x)} examples but {len(y)} labels.")
    return np.asarray(y)


def _shifted(on_step: Callable[[int, int], None], before: int, total: int) -> Callable[[int], None]:
    return lambda done: on_step(before + done, total)
