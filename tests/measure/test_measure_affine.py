"""Affine arithmetic against LiteRT's own kernels, exact small cases and properties."""

from __future__ import annotations

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as flat
from hypothesis import given, settings
from hypothesis import strategies as st

from qinspect.affine import Affine, affine_parameters, dequantize, fake_quantize, quantize
from qinspect.errors import DataError, SpecError
from qinspect.measure.ranges import choose_range, kmeans_codebook
from qinspect.measure.weights import weight_tensor
from qinspect.tflite import constant, dequantized, read_graph
from qinspect.tflite.runner import Session

finite = st.floats(-1e6, 1e6, allow_nan=False, width=32)


def quantize_model(scale: float, zero_point: int, size: int) -> bytes:
    """A file of one QUANTIZE operator, float32 to int8."""
    quantization = flat.QuantizationParametersT()
    quantization.scale, quantization.zeroPoint = [scale], [zero_point]
    tensors = []
    for name, dtype, parameters in (
        ("x", flat.TensorType.FLOAT32, None),
        ("q", flat.TensorType.INT8, quantization),
    ):
        tensor = flat.TensorT()
        tensor.name, tensor.shape, tensor.type = name, [size], dtype
        tensor.buffer, tensor.quantization = 0, parameters
        tensors.append(tensor)
    operator = flat.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0], [1]
    operator.builtinOptionsType = flat.BuiltinOptions.QuantizeOptions
    operator.builtinOptions = flat.QuantizeOptionsT()
    code = flat.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = flat.BuiltinOperator.QUANTIZE
    subgraph = flat.SubGraphT()
    subgraph.tensors, subgraph.operators = tensors, [operator]
    subgraph.inputs, subgraph.outputs = [0], [1]
    model = flat.ModelT()
    model.version, model.operatorCodes = 3, [code]
    model.subgraphs, model.buffers = [subgraph], [flat.BufferT()]
    packer = flatbuffers.Builder(0)
    packer.Finish(model.Pack(packer), b"TFL3")
    return bytes(packer.Output())


@pytest.mark.parametrize(
    ("kernels", "rounding"),
    [("default", "half_even"), ("builtin", "half_even"), ("reference", "half_away")],
)
@pytest.mark.parametrize(("scale", "zero_point"), [(1.0, 3), (0.5, 0), (0.1, -7), (0.037, 100)])
def test_quantize_equals_the_kernel(kernels, rounding, scale, zero_point):
    ties = (np.arange(-200, 200) + 0.5).astype(np.float32) * np.float32(scale)
    others = np.random.default_rng(0).normal(scale=60 * scale, size=600).astype(np.float32)
    x = np.concatenate([ties, others])
    with Session(quantize_model(scale, zero_point, x.size), kernels=kernels) as session:
        (stored,) = session.run(x[None]).values()
    affine = Affine(np.array([np.float64(np.float32(scale))]), np.array([zero_point]))
    same = quantize(x, affine, rounding=rounding) == stored[0]
    # Some kernels multiply with the rounded reciprocal of the scale: only there can the two part,
    # and only at what is a tie in exact arithmetic.
    tie = np.abs(np.abs(x / np.float64(scale)) % 1 - 0.5) < 1e-4
    assert (same | (tie if scale == 0.037 else False)).all()
    assert same[~tie].size > 500


def test_the_two_roundings_differ_at_ties_only():
    affine = Affine(np.array([1.0]), np.array([0]))
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.4, -1.6])
    np.testing.assert_array_equal(quantize(x, affine), [-2, -2, 0, 0, 2, 2, 0, -2])
    away = quantize(x, affine, rounding="half_away")
    np.testing.assert_array_equal(away, [-3, -2, -1, 1, 2, 3, 0, -2])


@given(finite, finite, st.integers(2, 16), st.booleans(), st.booleans())
@settings(deadline=None)
def test_zero_is_exact_and_the_range_is_covered(a, b, bits, symmetric, narrow):
    low, high = min(a, b), max(a, b)
    affine = affine_parameters(low, high, bits, symmetric=symmetric, narrow=narrow)
    assert fake_quantize(np.zeros(1), affine)[0] == 0
    assert affine.low <= affine.zero_point[0] <= affine.high
    ends = np.array([min(low, 0.0), max(high, 0.0)])
    # Nudging the zero point may cut half a step off either end.
    assert np.abs(fake_quantize(ends, affine) - ends).max() <= 0.5001 * affine.scale[0] + 1e-30


@given(st.lists(finite, min_size=1, max_size=50), st.integers(2, 8))
@settings(deadline=None)
def test_rounding_error_is_at_most_half_a_step_and_quantizing_twice_changes_nothing(values, bits):
    x = np.array(values, dtype=np.float32)
    affine = affine_parameters(x.min(), x.max(), bits)
    once = fake_quantize(x, affine)
    assert np.abs(once - x).max() <= affine.scale[0] * 0.5001 + 1e-30
    np.testing.assert_array_equal(quantize(once, affine), quantize(x, affine))
    np.testing.assert_allclose(dequantize(quantize(x, affine), affine), once, rtol=1e-6)


def test_edge_cases_of_the_parameters():
    zero = affine_parameters(0, 0)
    assert (zero.scale[0], zero.zero_point[0]) == (1.0, 0)
    positive = affine_parameters(2, 2)  # min = max: the range becomes [0, 2]
    assert positive.zero_point[0] == -128
    assert positive.real_high[0] == pytest.approx(2, rel=1e-6)
    weights = affine_parameters(-3, 1, symmetric=True, narrow=True)
    assert weights.scale[0] == pytest.approx(3 / 127)
    assert (weights.low, weights.zero_point[0]) == (-127, 0)
    relu6 = affine_parameters(0, 6)
    assert relu6.scale[0] == pytest.approx(6 / 255)
    for bad in ((1, -1), (np.nan, 1), (0, np.inf)):
        with pytest.raises(SpecError):
            affine_parameters(*bad)
    with pytest.raises(SpecError, match="axis"):
        affine_parameters([0, 0], [1, 2])
    with pytest.raises(SpecError, match="bits is 1"):
        affine_parameters(0, 1, 1)


def test_nan_stays_nan_and_has_no_integer():
    affine = affine_parameters(-1, 1)
    x = np.array([0.5, np.nan, np.inf, -np.inf])
    result = fake_quantize(x, affine)
    assert np.isnan(result[1])
    np.testing.assert_allclose(result[2:], [affine.real_high[0], affine.real_low[0]])
    with pytest.raises(DataError, match="1 of 4"):
        quantize(x, affine)


def test_per_channel_equals_each_channel_alone():
    x = np.random.default_rng(1).normal(size=(5, 4, 3)) * np.array([1, 10, 100])
    low, high = x.min(axis=(0, 1)), x.max(axis=(0, 1))
    together = fake_quantize(x, affine_parameters(low, high, axis=-1))
    for c in range(3):
        alone = fake_quantize(x[..., c], affine_parameters(low[c], high[c]))
        np.testing.assert_array_equal(together[..., c], alone)


def test_converter_weights_are_reproduced(data_dir):
    """Symmetric, narrow, per channel: the integers of a published file, rounding ties apart."""
    folder = data_dir / "tflite" / "resnet8"
    a, b = read_graph(folder / "float32.tflite"), read_graph(folder / "int8.tflite")
    checked = 0
    for op in range(len(a.main.operators)):
        first, second = weight_tensor(a, op), weight_tensor(b, op)
        if first is None or second.quantization.axis is None:
            continue
        w = dequantized(a, first)
        rest = tuple(range(1, w.ndim))
        affine = affine_parameters(
            w.min(axis=rest), w.max(axis=rest), symmetric=True, narrow=True, axis=0
        )
        np.testing.assert_allclose(affine.scale, second.quantization.scale, rtol=1e-6)
        gap = np.abs(quantize(w, affine).astype(int) - constant(b, second))
        assert gap.max() <= 1
        assert np.count_nonzero(gap) <= 1e-4 * gap.size
        checked += 1
    assert checked == 9


def error(x, span, bits):
    affine = affine_parameters(min(span[0], 0), max(span[1], 0), bits)
    return np.mean((fake_quantize(x, affine) - x) ** 2)


def test_ranges_with_an_outlier():
    x = np.append(np.random.default_rng(2).normal(size=5000), 300.0)
    assert choose_range(x) == (x.min(), 300.0)
    low, high = choose_range(x, "percentile", percentile=99)
    assert (low, high) == tuple(np.percentile(x, [0.5, 99.5]))
    assert error(x, choose_range(x, "mse", bits=4), 4) <= error(x, choose_range(x), 4)
    assert choose_range(x, "kmeans", bits=4)[1] <= 300.0
    with pytest.raises(DataError, match="1 of 2"):
        choose_range(np.array([1.0, np.nan]))
    with pytest.raises(SpecError, match="percentile"):
        choose_range(x, "percentile", percentile=0)


@pytest.mark.parametrize("k", [2, 4, 16])
def test_kmeans_is_at_least_as_good_as_even_steps(k):
    x = np.random.default_rng(3).exponential(size=4000)
    even = np.linspace(x.min(), x.max(), k)
    even_error = np.mean((x - even[np.abs(x[:, None] - even).argmin(axis=1)]) ** 2)
    book = kmeans_codebook(x, k)
    assert np.mean((book.apply(x) - x) ** 2) < even_error
    # Each centre is the mean of what it stands for: the condition of Lloyd and Max.
    for centre in book.centres:
        assert x[book.apply(x) == centre].mean() == pytest.approx(centre, rel=0.02)


def test_kmeans_of_few_values_is_exact():
    x = np.array([3.0, -1.0, 3.0, 7.0])
    np.testing.assert_array_equal(kmeans_codebook(x, 4).centres, [-1, 3, 7])
    np.testing.assert_array_equal(kmeans_codebook(x, 4).apply(x), x)
    assert np.isnan(kmeans_codebook(x, 4).apply(np.array([np.nan]))[0])
