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

from qinspect.data.dataset import count, take
from qinspect.errors import DataError, ModelFileError, SpecError
from qinspect.measure.activations import ObservedRanges
from qinspect.measure.error_metrics import error_metrics
from qinspect.measure.probe import Pairs, as_pairs
from qinspect.measure.weights import weight_tensor
from qinspect.schema import Array, Arrays
from qinspect.tflite.ancestry import lineage
from qinspect.tflite.constants import dequantized
from qinspect.tflite.graph import Graph
from qinspect.tflite.match import match_graphs
from qinspect.tflite.requantize import quantize_file, replace_constants
from qinspect.tflite.run import evaluate
from qinspect.verdicts import p_words

# Of the central range of random gains, and of the interval of p.
_CONFIDENCE = 0.95
# Below this the p-value cannot be below 0.01.
_FEWEST_DRAWS = 100
# The factor is found on few examples and few draws; the null itself reports what it reached.
_MATCH_EXAMPLES = 500
_MATCH_DRAWS = 11
_MATCH_ROUNDS = 8
_MATCH_DB = 0.2


@dataclass(frozen=True)
class PerturbationTest:
    """An observed gain, percentage points, against the gains of random perturbations."""

    observed_pp: float
    draws: int
    mean_pp: float
    sd_pp: float
    range_pp: tuple[float, float]  # central 95 %
    percentile: float  # share of random gains below the observed one, ties counted half, in 0..1
    p: float  # one-sided: (1 + those at least as great) / (1 + draws)
    p_ci: tuple[float, float]  # what the limited number of draws leaves open
    sentence: str


@dataclass(frozen=True)
class PerturbationNull:
    """The gain of a quantized network against those of two kinds of random networks."""

    # Against weight noise that gives the *output* SQNR of the quantized network: the test to go by,
    # because quantization disturbs activations as well as weights.
    output: PerturbationTest
    # Against weight noise with the SQNR of the quantized weights, layer by layer: what rounding the
    # weights alone would do.  p is too small where activations carry a good part of the error.
    weights: PerturbationTest
    factor: float  # amplitude of the noise in `output` against that in `weights`
    output_sqnr_db: float  # of the quantized network against the float one
    null_sqnr_db: Array  # of each random network in `output`, (draws,)
    null_gain_pp: Array
    layers: int  # whose weights were perturbed


@dataclass(frozen=True)
class WeightNoise:
    """What quantization did to the weights of one layer."""

    layer: str
    tensor: int  # of the float weights in the float file
    weights: Array
    energy: Array  # sum of squared errors by group that shares a scale; broadcasts to `weights`
    sqnr_db: float


@dataclass(frozen=True)
class Draws:
    """Random networks on the same examples: classes (draws, n) and output SQNR (draws,)."""

    prediction: Array
    sqnr_db: Array


def perturbation_null(
    float_graph: Graph,
    quantized: Graph,
    x: Arrays,
    y: Array,
    *,
    draws: int = 200,
    seed: int = 0,
    num_threads: int | None = None,
) -> PerturbationNull:
    """Test the gain of a quantized file against at least 100 perturbations of its float parent."""
    # It conditions on these examples and this float network: it does not speak of other examples
    # (the paired comparison does) nor of training again (seeds do).
    if count(x) != len(y):
        raise DataError(f"there are {count(x)} examples but {len(y)} labels.")
    related = lineage(float_graph, quantized).verdict
    if not related.startswith("same weights"):
        raise ModelFileError(
            f"{quantized.file} does not have the weights of {float_graph.file} (verdict: "
            f"{related}), so what lies between them is not quantization error alone."
        )
    noise = weight_noise(float_graph, quantized, match_graphs(float_graph, quantized))
    reference = evaluate(float_graph, x, num_threads=num_threads)
    studied = evaluate(quantized, x, num_threads=num_threads)
    sqnr = error_metrics(reference.outputs, studied.outputs)["sqnr_db"]
    if not np.isfinite(sqnr):
        raise DataError(
            f"the outputs of {quantized.file} and {float_graph.file} have an SQNR of {sqnr:g} dB; "
            "there is no quantization error to compare with."
        )
    base = float(np.mean(reference.prediction == y))
    gain = 100 * (float(np.mean(studied.prediction == y)) - base)
    streams = np.random.default_rng(seed).spawn(3)
    factor = matching_factor(float_graph, noise, x, sqnr, rng=streams[0], num_threads=num_threads)
    drawn = [
        perturb(float_graph, noise, x, draws=draws, factor=amplitude, rng=stream,
                num_threads=num_threads)
        for amplitude, stream in ((factor, streams[1]), (1.0, streams[2]))
    ]
    gains = [100 * ((found.prediction == y).mean(axis=1) - base) for found in drawn]
    return PerturbationNull(
        output=perturbation_test(gain, gains[0]),
        weights=perturbation_test(gain, gains[1]),
        factor=factor,
        output_sqnr_db=sqnr,
        null_sqnr_db=drawn[0].sqnr_db,
        null_gain_pp=gains[0],
        layers=len(noise),
    )


def perturbation_test(observed_pp: float, null_pp: Array) -> PerturbationTest:
    """Is a gain greater than those of random perturbations of equal size, shape (draws,)?

    References
    ----------
    The p-value counts the observed network among the draws, which makes the test valid for any
    number of them (Phipson and Smyth 2010); its exact binomial interval is that of Clopper and
    Pearson (1934).
    """
    null = np.asarray(null_pp, dtype=np.float64)
    if null.ndim != 1 or null.size == 0:
        raise DataError(f"there must be a list of gains, not an array of shape {null.shape}.")
    if not np.isfinite(null).all():
        bad = int(np.count_nonzero(~np.isfinite(null)))
        raise DataError(f"{bad} of {null.size} gains are NaN or infinite.")
    if not np.isfinite(observed_pp):
        raise DataError(f"the observed gain is {observed_pp}; it must be a finite number.")
    n = len(null)
    # Accuracies are counts over n: differences within rounding error are ties.
    above = int(np.count_nonzero(null >= observed_pp - 1e-9))
    ties = int(np.count_nonzero(np.abs(null - observed_pp) <= 1e-9))
    p = (1 + above) / (1 + n)
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(null, [tail, 1 - tail])
    lucky = "more than" if p <= 1 - _CONFIDENCE else "not more than"
    return PerturbationTest(
        observed_pp=float(observed_pp),
        draws=n,
        mean_pp=float(np.mean(null)),
        sd_pp=float(np.std(null, ddof=1)) if n > 1 else math.nan,
        range_pp=(float(low), float(high)),
        percentile=(n - above + ties / 2) / n,
        p=p,
        p_ci=(0.0 if above == 0 else float(betaincinv(above, n - above + 1, tail)),
              1.0 if above == n else float(betaincinv(above + 1, n - above, 1 - tail))),
        sentence=(
            f"{_gain(observed_pp)} points is {lucky} what random weight noise of this size "
            f"does: in the mean of {n} random networks {_gain(float(np.mean(null))).lower()} "
            f"points, {100 * _CONFIDENCE:g} % of them between {_gain(low).lower()} and "
            f"{_gain(high).lower()}, and {above} gain at least as much ({p_words(p)})."
        ),
    )


def _gain(points: float) -> str:
    return f"A {'gain' if points >= 0 else 'loss'} of {abs(points):.2f}"


def weight_noise(float_graph: Graph, quant_graph: Graph, pairs: Pairs) -> tuple[WeightNoise, ...]:
    """Size of the quantization error of every matched float weight tensor."""
    # Biases are left out: at 32 bits their error is negligible.
    found: dict[int, WeightNoise] = {}
    for pair in as_pairs(pairs, float_graph, quant_graph):
        first = weight_tensor(float_graph, pair.op_a)
        second = weight_tensor(quant_graph, pair.op_b)
        if first is None or second is None or first.shape != second.shape:
            continue
        weights, stored = dequantized(float_graph, first), dequantized(quant_graph, second)
        error2 = (stored.astype(np.float64) - weights) ** 2
        q = second.quantization
        axis = q.axis if q is not None and q.per_channel else None
        others = tuple(i for i in range(error2.ndim) if i != axis)
        found[first.index] = WeightNoise(
            pair.layer, first.index, weights, error2.sum(axis=others, keepdims=True),
            error_metrics(weights, stored)["sqnr_db"],
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
    """The float file with normal noise on its weights, ``factor`` times that of quantization."""
    if not (factor >= 0 and math.isfinite(factor)):
        raise SpecError(f"factor is {factor:g}; it must be at least 0.")
    generator = np.random.default_rng(rng)
    values = {}
    for layer in noise:
        drawn = np.asarray(generator.standard_normal(layer.weights.shape))
        # The energy of each group that shares a scale is *exactly* factor^2 times that of its
        # quantization error; with factor 1 every layer has the SQNR that quantization gave it.
        grouped = tuple(i for i in range(drawn.ndim) if layer.energy.shape[i] == 1)
        energy = (drawn**2).sum(axis=grouped, keepdims=True)
        values[layer.tensor] = layer.weights + factor * drawn * np.sqrt(layer.energy / energy)
    return replace_constants(graph, values)


def perturb(
    graph: Graph,
    noise: Sequence[WeightNoise],
    x: Arrays,
    *,
    draws: int = 200,
    factor: float = 1.0,
    rng: int | np.random.Generator = 0,
    num_threads: int | None = None,
) -> Draws:
    """Evaluate randomly perturbed versions of a float network."""
    # With factor 1 the null lacks the error of activations, which quantization has in addition, so
    # its accuracies spread less than they should and p-values come out too small.  Matching the
    # *output* SQNR instead makes up for the size of the activation error, though not for its kind:
    # it is put on the weights, the same for every example.  Clipping, a bias rather than noise, is
    # in neither.
    if draws < _FEWEST_DRAWS:
        raise SpecError(f"draws is {draws}; choose at least {_FEWEST_DRAWS}.")
    generator = np.random.default_rng(rng)
    return _evaluate_all(
        graph, lambda: perturbed(graph, noise, factor=factor, rng=generator), draws, x, num_threads
    )


def matching_factor(
    graph: Graph,
    noise: Sequence[WeightNoise],
    x: Arrays,
    sqnr_db: float,
    *,
    rng: int | np.random.Generator = 0,
    num_threads: int | None = None,
) -> float:
    """Amplitude of weight noise at which the median perturbed network has a given output SQNR."""
    if not math.isfinite(sqnr_db):
        raise SpecError(f"the output SQNR to match is {sqnr_db:g} dB; it must be finite.")
    generator = np.random.default_rng(rng)
    seeds = generator.integers(2**32, size=_MATCH_DRAWS)
    if count(x) > _MATCH_EXAMPLES:
        x = take(x, np.sort(generator.choice(count(x), _MATCH_EXAMPLES, replace=False)))
    reference = evaluate(graph, x, num_threads=num_threads).outputs
    factor = 1.0
    # Output noise grows with the square of the amplitude as long as the network is nearly linear in
    # it, so a few fixed-point steps with the same random directions find the factor.
    for _ in range(_MATCH_ROUNDS):
        found = []
        for seed in seeds:
            content = perturbed(graph, noise, factor=factor, rng=int(seed))
            outputs = evaluate(content, x, num_threads=num_threads).outputs
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
    x: Arrays,
    *,
    sets: int = 100,
    size: int = 100,
    rng: int | np.random.Generator = 0,
    num_threads: int | None = None,
) -> Draws:
    """Quantize a float file with random calibration sets out of ``observed``, evaluate each."""
    # Sets from one pool overlap, the more the nearer `size` is to the number of examples observed;
    # the spread is then smaller than that of sets drawn afresh.
    if sets < 2:
        raise SpecError(f"sets is {sets}; choose at least 2.")
    if not 1 <= size <= len(observed):
        raise SpecError(f"sets of {size} examples cannot be drawn from {len(observed)}.")
    generator = np.random.default_rng(rng)

    def draw() -> bytes:
        chosen = generator.choice(len(observed), size, replace=False)
        return quantize_file(graph, observed.over(chosen))

    return _evaluate_all(graph, draw, sets, x, num_threads)


def _evaluate_all(
    graph: Graph, draw: Callable[[], bytes], count: int, x: Arrays, num_threads: int | None
) -> Draws:
    reference = evaluate(graph, x, num_threads=num_threads).outputs
    predictions, quality = [], []
    for _ in range(count):
        result = evaluate(draw(), x, num_threads=num_threads)
        predictions.append(result.prediction)
        quality.append(error_metrics(reference, result.outputs)["sqnr_db"])
    return Draws(np.stack(predictions), np.array(quality))
