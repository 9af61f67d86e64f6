"""Is "the quantized network is better than the float one" more than luck?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qinspect.errors import DataError, ModelFileError, SpecError
from qinspect.measure.calibrate import observe_ranges
from qinspect.measure.metrics import error_metrics
from qinspect.measure.pairs import Pair
from qinspect.measure.perturb import matching_factor, perturb, recalibrate, weight_noise
from qinspect.schema import Array, Graph
from qinspect.stats.perturbation import PerturbationTest, perturbation_test, spread
from qinspect.tflite.lineage import lineage
from qinspect.tflite.match import match_graphs
from qinspect.tflite.run import evaluate


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
    )  # fmt: skip
    found = []
    for number, amplitude in enumerate((factor, 1.0)):
        counted = None if on_step is None else _shifted(on_step, number * draws, 2 * draws)
        drawn = perturb(
            float_graph, noise, x, draws=draws, factor=amplitude, rng=streams[1 + number],
            num_threads=num_threads, on_step=counted,
        )  # fmt: skip
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


def calibration_spread(
    float_graph: Graph,
    calibration_x: Array,
    x: Array,
    y: Array,
    *,
    sets: int = 100,
    size: int = 100,
    seed: int = 0,
    confidence: float = 0.95,
    num_threads: int = 2,
) -> dict[str, float]:
    """How much post-training accuracy depends on which calibration examples happened to be drawn.

    Parameters
    ----------
    float_graph : Graph
        A float32 file.
    calibration_x : ndarray, shape (m, ...)
        The pool to draw from, not the evaluation examples.
    x, y : ndarray
        Evaluation examples and labels.
    sets, size : int
        Number of calibration sets, and examples of each.
    seed : int
        Seed of the draws.
    confidence : float
        Of the ranges.
    num_threads : int
        Of the evaluation.

    Returns
    -------
    dict
        See :func:`qinspect.stats.perturbation.spread`; the reference is the float network, whose
        accuracy is added as ``float``.

    Raises
    ------
    DataError, ModelFileError, SpecError
        As the functions it calls.
    """
    y = _labels(x, y)
    if not 1 <= size <= len(calibration_x):
        raise SpecError(f"sets of {size} examples cannot be drawn from {len(calibration_x)}.")
    observed = observe_ranges(float_graph, calibration_x, num_threads=num_threads)
    drawn = recalibrate(
        float_graph, observed, x, sets=sets, size=size, rng=seed, num_threads=num_threads
    )
    prediction = evaluate(float_graph.content, x, num_threads=num_threads).prediction
    reference = float(np.mean(prediction == y))
    accuracies = (drawn.prediction == y).mean(axis=1)
    return {**spread(accuracies, reference, confidence=confidence), "float": reference}


def _labels(x: Array, y: Array) -> Array:
    if len(x) != len(y):
        raise DataError(f"there are {len(x)} examples but {len(y)} labels.")
    return np.asarray(y)


def _shifted(on_step: Callable[[int, int], None], before: int, total: int) -> Callable[[int], None]:
    return lambda done: on_step(before + done, total)
