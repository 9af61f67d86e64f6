"""The perturbation null: noise of the right size, valid p-values, random calibration sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats
from small_net import examples, small_net

from qinspect.errors import DataError, ModelFileError, SpecError
from qinspect.measure.activations import observe_ranges
from qinspect.measure.error_metrics import error_metrics
from qinspect.measure.perturbation import (
    calibration_draws,
    matching_factor,
    perturb,
    perturbation_null,
    perturbation_test,
    perturbed,
    weight_noise,
)
from qinspect.measure.weights import weight_tensor
from qinspect.tflite.constants import dequantized
from qinspect.tflite.graph import Graph
from qinspect.tflite.read import read_graph
from qinspect.tflite.requantize import Ranges, quantize_file
from qinspect.tflite.run import evaluate

PAIRS = [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]


@pytest.fixture(scope="module")
def graph() -> Graph:
    return read_graph(small_net())


@pytest.fixture(scope="module")
def quantized(graph: Graph) -> Graph:
    return read_graph(quantize_file(graph, observe_ranges(graph, examples(200)).over()))


def channel_error2(graph: Graph, other: Graph, op: int, axis: int) -> np.ndarray:
    true, given = weight_tensor(graph, op), weight_tensor(other, op)
    assert true is not None
    assert given is not None
    error = dequantized(other, given).astype(float) - dequantized(graph, true)
    return (error**2).sum(axis=tuple(i for i in range(error.ndim) if i != axis))


def test_noise_has_the_energy_of_the_quantization_error(graph: Graph, quantized: Graph) -> None:
    noise = weight_noise(graph, quantized, PAIRS)
    assert len(noise) == 3
    for factor in (1.0, 2.5):
        noisy = read_graph(perturbed(graph, noise, factor=factor, rng=3))
        for op, axis in ((0, 0), (1, 3), (3, 0)):
            wanted = channel_error2(graph, quantized, op, axis)
            assert channel_error2(graph, noisy, op, axis) == pytest.approx(
                factor**2 * wanted, rel=1e-4
            )
    # The layer's SQNR follows, as an independent formula gives it.
    noisy = read_graph(perturbed(graph, noise, rng=4))
    for layer in noise:
        values = dequantized(noisy, noisy.main.tensors[layer.tensor])
        assert error_metrics(layer.weights, values)["sqnr_db"] == pytest.approx(
            layer.sqnr_db, abs=0.01
        )


def test_noise_of_per_tensor_weights_is_matched_over_the_tensor(graph: Graph) -> None:
    ranges = observe_ranges(graph, examples(50)).over()
    coarse = read_graph(quantize_file(graph, Ranges(ranges.bounds, frozenset({0}))))
    noise = weight_noise(graph, coarse, PAIRS)
    assert noise[0].energy.size == 1
    assert noise[1].energy.size == 6
    noisy = read_graph(perturbed(graph, noise, rng=0))
    assert channel_error2(graph, noisy, 0, 0).sum() == pytest.approx(
        channel_error2(graph, coarse, 0, 0).sum(), rel=1e-4
    )


def test_seed_decides(graph: Graph, quantized: Graph) -> None:
    noise = weight_noise(graph, quantized, PAIRS)
    assert perturbed(graph, noise, rng=1) == perturbed(graph, noise, rng=1)
    assert perturbed(graph, noise, rng=1) != perturbed(graph, noise, rng=2)
    assert perturbed(graph, noise, factor=0.0, rng=1) == graph.content


def test_matching_reaches_the_output_sqnr(graph: Graph, quantized: Graph) -> None:
    x = examples(300, seed=9)
    noise = weight_noise(graph, quantized, PAIRS)
    for wanted in (25.0, 40.0):
        factor = matching_factor(graph, noise, x, wanted, rng=0)
        draws = perturb(graph, noise, x, draws=100, factor=factor, rng=1)
        assert np.median(draws.sqnr_db) == pytest.approx(wanted, abs=2)
    with pytest.raises(SpecError, match="finite"):
        matching_factor(graph, noise, x, np.inf)
    with pytest.raises(SpecError, match="at least 100"):
        perturb(graph, noise, x, draws=99)


def test_p_value_of_a_draw_from_the_null_is_valid() -> None:
    # By symmetry the observed gain has every rank with equal probability: P(p <= a) <= a.
    rng = np.random.default_rng(0)
    p = np.array([perturbation_test(g[0], g[1:]).p for g in rng.normal(size=(2000, 100)).round(1)])
    for level in (0.01, 0.05, 0.2, 0.5):
        assert np.mean(p <= level) <= level + 3 * np.sqrt(level * (1 - level) / len(p))
    continuous = np.array([perturbation_test(g[0], g[1:]).p for g in rng.normal(size=(2000, 100))])
    assert scipy_stats.kstest(continuous, "uniform").pvalue > 0.001


def test_perturbation_test_by_hand() -> None:
    null = np.array([-1.0] * 60 + [0.0] * 30 + [0.5] * 10)
    found = perturbation_test(0.5, null)
    assert found.p == pytest.approx(11 / 101)
    assert found.percentile == pytest.approx(0.95)
    exact = scipy_stats.binomtest(10, 100).proportion_ci(0.95, "exact")
    assert found.p_ci == pytest.approx((exact.low, exact.high), abs=1e-9)
    assert found.mean_pp == pytest.approx(null.mean())
    assert "not more than" in found.sentence
    far = perturbation_test(2.0, null)
    assert far.p == pytest.approx(1 / 101)
    assert far.percentile == 1
    assert far.p_ci[0] == 0
    assert "is more than" in far.sentence
    with pytest.raises(DataError, match="NaN"):
        perturbation_test(0.5, np.array([0.0, np.nan]))
    with pytest.raises(DataError, match="observed gain"):
        perturbation_test(np.nan, null)


def test_a_quantized_network_without_its_own_merit_is_not_called_lucky(
    graph: Graph, quantized: Graph
) -> None:
    x = examples(300, seed=5)
    y = evaluate(graph.content, x).prediction.copy()
    # A tenth of the labels is wrong, so that networks can gain as well as lose.
    wrong = np.random.default_rng(0).permutation(300)[:30]
    y[wrong] = (y[wrong] + 1) % 4
    result = perturbation_null(graph, quantized, x, y, draws=100, seed=2)
    assert result.output.draws == result.weights.draws == 100
    gain = 100 * (
        np.mean(evaluate(quantized.content, x).prediction == y)
        - np.mean(evaluate(graph.content, x).prediction == y)
    )
    assert result.output.observed_pp == pytest.approx(gain)
    assert result.output.p > 0.01
    # Activations add error, so matching the output takes more noise on the weights.
    assert result.factor > 1
    again = perturbation_null(graph, quantized, x, y, draws=100, seed=2)
    assert again.output == result.output


def test_labels_that_the_quantized_network_made_are_more_than_luck(graph: Graph) -> None:
    # Eight times too wide a range: it now differs enough to disagree with the float network.
    bounds = dict(observe_ranges(graph, examples(200)).over().bounds)
    low, high = bounds["pool"]
    coarse = Ranges({**bounds, "depthwise/Relu": (8 * low, 8 * high)})
    studied = read_graph(quantize_file(graph, coarse))
    x = examples(300, seed=5)
    y = evaluate(studied.content, x).prediction
    result = perturbation_null(graph, studied, x, y, draws=100, seed=0)
    assert result.output.observed_pp > 0
    assert result.output.p == result.weights.p == pytest.approx(1 / 101)


def test_unrelated_networks_are_refused(graph: Graph) -> None:
    other = read_graph(small_net(seed=9))
    x = examples(10)
    with pytest.raises(ModelFileError, match="verdict: unrelated"):
        perturbation_null(graph, other, x, np.zeros(10, int))
    with pytest.raises(ModelFileError, match="no layer of"):
        weight_noise(graph, graph, [(2, 2)])


def test_calibration_sets(graph: Graph) -> None:
    pool, x = examples(80, seed=1), examples(200, seed=2)
    observed = observe_ranges(graph, pool)
    few = calibration_draws(graph, observed, x, sets=8, size=2, rng=0)
    many = calibration_draws(graph, observed, x, sets=8, size=60, rng=0)
    # Two examples leave out what others reach: clipping costs more, and varies more.
    assert few.sqnr_db.mean() < many.sqnr_db.mean()
    assert few.sqnr_db.std() > many.sqnr_db.std()
    whole = calibration_draws(graph, observed, x, sets=2, size=80, rng=0)
    assert whole.sqnr_db[0] == whole.sqnr_db[1]
    with pytest.raises(SpecError, match="cannot be drawn from 80"):
        calibration_draws(graph, observed, x, sets=5, size=81)


@pytest.mark.slow
def test_resnet8(data_dir: Path) -> None:
    folder = data_dir / "tflite" / "resnet8"
    graph, converted = (read_graph(folder / f"{n}.tflite") for n in ("float32", "int8"))
    with np.load(folder / "cifar_eval.npz", allow_pickle=False) as arrays:
        x, y = arrays["x"][:200].astype(np.float32), arrays["y"][:200].astype(int)
    result = perturbation_null(graph, converted, x, y, draws=100, seed=0)
    assert result.layers == 10
    assert result.factor > 1
    assert result.output_sqnr_db == pytest.approx(np.median(result.null_sqnr_db), abs=2)
    assert result.output.p > 0.01
