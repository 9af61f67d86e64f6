"""Histograms, streaming statistics and error sums: properties and second implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qinspect.affine import Affine
from qinspect.errors import DataError, SpecError
from qinspect.measure.error_metrics import ErrorSums, error_metrics
from qinspect.measure.streaming import Histogram, StreamingStatistics

values = hnp.arrays(
    np.float64,
    st.integers(0, 60),
    elements=st.one_of(
        st.floats(-1e12, 1e12, allow_subnormal=False),
        st.sampled_from([0.0, -1e-9, 0.5, -0.5, 1.0, -1.0, 8.0, -8.0, np.nan, np.inf, -np.inf]),
    ),
)


def histogram(*parts, bins=16, finest=-4):
    result = Histogram(bins, finest)
    for part in parts:
        result.add(part)
    return result


def state(h):
    return h.exponent, h.counts.tolist(), h.nan, h.inf


@given(values, values, values)
@settings(deadline=None)
def test_histograms_merge_like_the_values_themselves(a, b, c):
    whole = histogram(np.concatenate([a, b, c]))
    ha, hb, hc = histogram(a), histogram(b), histogram(c)
    assert state(ha.merge(hb).merge(hc)) == state(whole)
    assert state(ha.merge(hb.merge(hc))) == state(whole)
    assert state(hb.merge(ha)) == state(ha.merge(hb))
    assert state(histogram(c, b, a)) == state(whole)
    assert whole.count + whole.nan + whole.inf == a.size + b.size + c.size


@given(values)
@settings(deadline=None)
def test_bins_hold_exactly_the_values_between_their_edges(a):
    h = histogram(a)
    finite = a[np.isfinite(a)]
    inside = (finite >= h.edges[:-1, None]) & (finite < h.edges[1:, None])
    np.testing.assert_array_equal(h.counts, inside.sum(axis=1))


def test_the_width_is_the_least_that_fits():
    for least, most, width in ((-8.0, 7.99, 1.0), (-8.01, 0, 2.0), (0, 8.0, 2.0), (0, 0.1, 0.0625)):
        assert histogram(np.array([least, most])).width == width


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_fast_path_of_256_bins_counts_the_same(dtype):
    x = np.random.default_rng(0).normal(size=100_000).astype(dtype)
    fast = histogram(x, bins=256)
    slow = histogram(*np.array_split(x, 50), bins=256)
    assert state(fast) == state(slow)
    np.testing.assert_array_equal(fast.counts, np.histogram(x, fast.edges.astype(dtype))[0])


@given(values, st.floats(0, 100))
@settings(deadline=None)
def test_percentiles_are_right_to_half_a_bin(a, q):
    finite = a[np.isfinite(a)]
    h = histogram(a, bins=256, finest=-30)
    if finite.size == 0:
        with pytest.raises(DataError):
            h.percentile(q)
        return
    true = np.percentile(finite, q, method="inverted_cdf")
    assert abs(h.percentile(q) - true) <= h.width / 2


def test_histograms_of_different_grids_do_not_merge():
    with pytest.raises(SpecError, match="cannot be merged"):
        Histogram(16).merge(Histogram(32))
    with pytest.raises(SpecError, match="power of two"):
        Histogram(20)


@given(values, st.lists(st.integers(0, 60), max_size=4))
@settings(deadline=None)
def test_statistics_do_not_depend_on_the_batches(a, cuts):
    whole, batched = StreamingStatistics(), StreamingStatistics()
    whole.add(a)
    for part in np.split(a, sorted(min(c, a.size) for c in cuts)):
        batched.add(part)
    finite = a[np.isfinite(a)]
    for s in (whole, batched):
        assert (s.count[0], s.nan[0], s.inf[0]) == (
            finite.size, np.isnan(a).sum(), np.isinf(a).sum(),
        )
        assert state(s.histogram) == state(whole.histogram)
        if finite.size == 0:
            assert np.isnan([s.minimum[0], s.maximum[0], s.mean[0], s.std[0]]).all()
            continue
        assert (s.minimum[0], s.maximum[0]) == (finite.min(), finite.max())
        size = np.abs(finite).max()
        np.testing.assert_allclose(s.mean[0], finite.mean(), rtol=1e-9, atol=1e-12 * size)
        np.testing.assert_allclose(s.std[0], finite.std(), rtol=1e-9, atol=1e-9 * size)


def test_standard_deviation_far_from_zero():
    x = 1e8 + np.random.default_rng(0).normal(size=10_000)
    s = StreamingStatistics()
    for part in np.array_split(x, 7):
        s.add(part)
    assert s.std[0] == pytest.approx(x.std(), rel=1e-7)


def test_channels_equal_each_channel_alone():
    x = np.random.default_rng(0).normal(size=(40, 5, 3)).astype(np.float32)
    x[0, 0, 1], x[1, 1, 2] = np.nan, np.inf
    together = StreamingStatistics(channels=3)
    for part in np.array_split(x, 6):
        together.add(part)
    for c in range(3):
        alone = StreamingStatistics()
        alone.add(x[..., c])
        for name in ("count", "nan", "inf", "minimum", "maximum"):
            assert getattr(together, name)[c] == getattr(alone, name)[0]
        assert together.mean[c] == pytest.approx(alone.mean[0])
        assert together.std[c] == pytest.approx(alone.std[0])
    with pytest.raises(SpecError, match="3 channels"):
        together.add(x[..., :2])


# --- errors ----------------------------------------------------------------------------------


def grid(scale):
    return Affine(np.array([scale]), np.array([0]))


def direct(ref, quant, affine):
    """The metrics written down once more, straight from their definitions."""
    err = quant - ref
    scale = affine.scale[0]
    outside = (ref < -128.5 * scale) | (ref > 127.5 * scale)
    return {
        "sqnr_db": 10 * np.log10(np.sum(ref**2) / np.sum(err**2)),
        "mse": np.mean(err**2),
        "rmse_over_scale": np.sqrt(np.mean(err**2)) / scale,
        "cosine": np.dot(ref, quant) / np.linalg.norm(ref) / np.linalg.norm(quant),
        "bias": err.mean(),
        "max_abs": np.abs(err).max(),
        "clipped_share": outside.mean(),
        "rounded_share": ((err != 0) & ~outside).mean(),
        "clipped_energy": np.sum(err[outside] ** 2) / np.sum(err**2),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batches", [1, 7])
def test_metrics_against_their_definitions(dtype, batches):
    ref = np.random.default_rng(0).normal(size=30_000).astype(dtype)
    affine = grid(0.02)
    quant = (np.clip(np.rint(ref / 0.02), -128, 127) * 0.02).astype(dtype)
    found = ErrorSums(affine, histograms=True)
    for part in zip(np.array_split(ref, batches), np.array_split(quant, batches), strict=True):
        found.add(*part)
    numbers = found.metrics()
    expected = direct(ref.astype(np.float64), quant.astype(np.float64), affine)
    tolerance = 1e-4 if dtype == np.float32 else 1e-9
    for name, value in expected.items():
        assert numbers[name] == pytest.approx(value, rel=tolerance, abs=tolerance * 0.01), name
    assert numbers["count"] == 30_000
    assert numbers["effective_bits"] == 8
    clipped = round(expected["clipped_share"] * 30_000)
    assert found.clipped_histogram.count == clipped
    assert found.rounded_histogram.count == 30_000 - clipped


@pytest.mark.parametrize("reach", [0.5, 3.0, 40.0])
def test_histograms_of_clipped_and_rounded_elements_are_those_of_each_alone(reach):
    """Few clipped or many, far out or near, and values that are no numbers."""
    rng = np.random.default_rng(0)
    ref = rng.normal(scale=reach, size=20_000).astype(np.float32)
    quant = (np.clip(np.rint(ref / 0.02), -128, 127) * 0.02).astype(np.float32)
    ref[[3, 900, 4_000]] = np.nan, np.inf, -np.inf
    sums = ErrorSums(grid(0.02), histograms=True)
    rounded, clipped = Histogram(256, -4), Histogram(256, -4)
    for part in np.array_split(np.arange(ref.size), 9):
        sums.add(ref[part], quant[part])
        error = quant[part] - ref[part]
        outside = (ref[part] < -128.5 * 0.02) | (ref[part] > 127.5 * 0.02)
        for histogram, values in ((clipped, error[outside]), (rounded, error[~outside])):
            if values.size:
                histogram.add(values, factor=1 / 0.02)
    assert state(sums.rounded_histogram) == state(rounded)
    assert state(sums.clipped_histogram) == state(clipped)
    assert rounded.nan == 1
    assert clipped.inf == 2


def test_ideal_rounding():
    ref = np.random.default_rng(0).uniform(-1, 1, 200_000)
    numbers = error_metrics(ref, np.rint(ref / 0.01) * 0.01, grid(0.01))
    assert numbers["rmse_over_scale"] == pytest.approx(1 / math.sqrt(12), rel=0.01)
    assert abs(numbers["bias"]) < 1e-4
    assert numbers["clipped_share"] == 0


def test_edge_cases_of_the_metrics():
    x = np.array([1.0, -2.0])
    same = error_metrics(x, x, grid(1.0))
    assert same["sqnr_db"] == math.inf
    assert same["cosine"] == pytest.approx(1)
    assert math.isnan(same["clipped_energy"])
    zero = error_metrics(np.zeros(2), x)
    assert zero["sqnr_db"] == -math.inf
    assert math.isnan(zero["cosine"])
    assert math.isnan(zero["rmse_over_scale"])
    assert error_metrics(np.zeros(2), np.zeros(2))["sqnr_db"] == math.inf
    assert math.isnan(error_metrics(np.zeros(0), np.zeros(0))["sqnr_db"])
    opposite = error_metrics(x, -x)
    assert opposite["cosine"] == pytest.approx(-1)
    with pytest.raises(SpecError, match="shape"):
        error_metrics(x, x[:1])
    with pytest.raises(SpecError, match="scale"):
        ErrorSums(grid(0.0))


def test_nan_stays_nan_and_is_counted():
    ref = np.array([1.0, np.nan, 3.0, np.inf], dtype=np.float32)
    quant = np.array([1.0, 2.0, 3.0, np.inf], dtype=np.float32)
    sums = ErrorSums(grid(1.0), histograms=True)
    sums.add(np.ones(3, np.float32), np.ones(3, np.float32))
    sums.add(ref, quant)
    numbers = sums.metrics()
    assert numbers["nan"] == 2  # NaN, and infinity minus infinity
    assert numbers["count"] == 7
    for name in ("sqnr_db", "mse", "rmse_over_scale", "cosine", "bias", "max_abs"):
        assert math.isnan(numbers[name]), name


def test_squares_too_large_for_float32_are_not_lost():
    ref = np.array([3e30, -3e30], dtype=np.float32)
    numbers = error_metrics(ref, ref * np.float32(0.5))
    assert numbers["sqnr_db"] == pytest.approx(10 * math.log10(4), rel=1e-5)
    assert numbers["nan"] == 0
