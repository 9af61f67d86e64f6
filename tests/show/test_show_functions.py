"""What the widgets call: clipping, quantizers, subsamples, flips, tables; no widget here."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import need_package
from PIL import Image
from show_study import HOSTILE, write_study

from qinspect.affine import affine_parameters, fake_quantize
from qinspect.errors import DataError, SpecError
from qinspect.measure.clipping import Binned, clip_effect, method_range
from qinspect.measure.layer_tables import Layers, layer_tables
from qinspect.measure.quantizers import CHANNELS, DISTRIBUTIONS, draw_numbers, quantize_numbers
from qinspect.measure.streaming import Histogram
from qinspect.predictions import results
from qinspect.show.views.layers import shortened
from qinspect.studies.stored import Study
from qinspect.tflite import read_graph


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return write_study(tmp_path_factory.mktemp("show") / "study")


@pytest.fixture(scope="module")
def tables(study: Study) -> Layers:
    return study.layers()


# --- a range tried on values ------------------------------------------------------------------


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [3, 8])
def test_effect_of_a_range_agrees_with_quantizing_the_values(bits: int, symmetric: bool) -> None:
    x = np.random.default_rng(0).normal(size=200_000).astype(np.float32)
    found = clip_effect(Binned.values(x), -2.0, 2.5, bits=bits, symmetric=symmetric)
    affine = affine_parameters(-2.0, 2.5, bits, symmetric=symmetric)
    error = fake_quantize(x, affine) - x
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=0.01)
    assert found["sqnr_db"] == pytest.approx(10 * np.log10(np.mean(x**2) / np.mean(error**2)),
                                             abs=0.1)
    half = affine.scale[0] / 2
    outside = (x < affine.real_low[0] - half) | (x > affine.real_high[0] + half)
    assert found["clipped_share"] == pytest.approx(outside.mean(), abs=0.001)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=60), st.integers(2, 8))
def test_the_least_error_range_is_no_worse_than_the_whole(values: list[float], bits: int) -> None:
    if not any(values):
        values[0] = 1.0
    binned = Binned.values(np.array(values))
    rmse = {
        method: clip_effect(binned, *method_range(binned, method, bits=bits), bits=bits)["rmse"]
        for method in ("minmax", "mse")
    }
    assert rmse["mse"] <= rmse["minmax"] * (1 + 1e-9)


def test_wider_range_clips_less() -> None:
    binned = Binned.values(np.random.default_rng(1).normal(size=5000))
    shares = [clip_effect(binned, -w, w)["clipped_share"] for w in (0.5, 1, 2, 3, 6)]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == 0


def test_percentile_range() -> None:
    x = np.random.default_rng(2).normal(size=100_000)
    low, high = method_range(Binned.values(x), "percentile", percentile=90)
    assert (low, high) == pytest.approx(tuple(np.percentile(x, [5, 95])), abs=0.01)


def test_binned_edges() -> None:
    histogram = Histogram()
    with pytest.raises(DataError, match="no finite"):
        Binned.of(histogram)
    binned = Binned.values(np.array([-1.0, 0.0, 3.0]))
    assert binned.counts.sum() == 3
    assert binned.low <= -1 < 3 < binned.high
    with pytest.raises(SpecError, match="bits"):
        clip_effect(binned, -1, 1, bits=16)
    with pytest.raises(SpecError, match="method"):
        method_range(binned, "guess")


# --- playground -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_numbers_are_drawn_as_asked(name: str) -> None:
    x = draw_numbers(name, 800, 3)
    assert x.shape == (CHANNELS, 100)
    np.testing.assert_array_equal(x, draw_numbers(name, 800, 3))
    assert not np.array_equal(x, draw_numbers(name, 800, 4))


def test_an_unknown_distribution_names_the_nearest() -> None:
    with pytest.raises(SpecError, match="normal"):
        draw_numbers("normale", 100)


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "kmeans"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_levels_and_error(method: str, per_channel: bool) -> None:
    x = draw_numbers("channels of unequal size", 1600)
    found = quantize_numbers(x, method, bits=3, per_channel=per_channel)
    assert found.levels <= 8 * (CHANNELS if per_channel else 1)
    frame = found.values
    noise = ((frame["quantized"] - frame["value"]) ** 2).sum()
    assert found.sqnr_db == pytest.approx(10 * np.log10((frame["value"] ** 2).sum() / noise))
    assert frame["value"].is_monotonic_increasing
    if per_channel:
        # A range of its own is what saves the smallest channel.
        together = quantize_numbers(x, method, bits=3)
        assert found.worst_channel_db > together.worst_channel_db + 3


def test_by_hand_is_one_range() -> None:
    x = draw_numbers("normal", 800)
    assert quantize_numbers(x, "by hand", by_hand=(-1, 1)).clipped_share > 0.2
    with pytest.raises(SpecError, match="per tensor"):
        quantize_numbers(x, "by hand", per_channel=True)


# --- flips ------------------------------------------------------------------------------------


def test_flips_by_enumeration() -> None:
    found = results({"a": np.array([0, 0, 1, 1, 1]), "b": np.eye(3)[[0, 1, 0, 1, 2]]},
                    np.zeros(5, int), ids=np.array(list("vwxyz")))
    assert [list(found.flips("a", "b", which)["id"]) for which in ("a", "b", "differ")] == [
        ["w"], ["x"], ["z"],
    ]
    assert found.flips("a", "b", "differ")[["y", "a", "b"]].values.tolist() == [[0, 1, 2]]
    with pytest.raises(SpecError, match="which"):
        found.flips("a", "b", "c")


def test_picture_keeps_the_pixels() -> None:
    need_package("ipywidgets")
    from qinspect.show.widgets.flips import picture

    x = np.linspace(0, 1, 64).reshape(8, 8, 1)
    source = picture(x, 0.0, 1.0)
    assert source is not None
    image = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
    pixels = np.asarray(image)[::14, ::14]
    np.testing.assert_allclose(pixels, 255 * x[..., 0], atol=1)
    assert picture(np.zeros((8, 8, 2)), 0, 1) is None
    assert picture(np.zeros(10), 0, 1) is None


def test_top_outputs() -> None:
    need_package("ipywidgets")
    from qinspect.show.widgets.flips import top_outputs

    assert top_outputs(np.array([0.1, 0.7, 0.2]), ("a", "b")) == "b (0.7), 2 (0.2)"
    assert top_outputs(np.array([-128, 127], np.int8), ()) == "1 (127), 0 (-128)"


# --- tables of layers -------------------------------------------------------------------------


def test_every_file_has_the_same_layers(tables: Layers) -> None:
    assert tables.models == ("float", "ptq_int8", "qat")
    assert HOSTILE in tables.layers
    for model in tables.models:
        assert set(tables.of("activation", model)["layer"]) == set(tables.layers)


def test_weight_rows_hold_the_weights(tables: Layers) -> None:
    frame = tables.of("weight")
    for (model, layer), values in tables.weights.items():
        rows = frame[(frame["file"] == model) & (frame["layer"] == layer)].set_index("channel")
        assert list(rows.index) == list(range(-1, len(values)))
        assert rows.loc[-1, "min"] == values.min()
        np.testing.assert_array_equal(rows.loc[0:, "max"], values.max(axis=1))
        if model == "float":
            assert rows["stored_min"].isna().all()
        else:
            assert (rows["stored_max"] >= rows["max"] - 1e-6).all()


def test_stored_ranges_of_the_stale_file_are_its_own(tables: Layers) -> None:
    # Pooling and softmax have ranges fixed by their kind.
    stale = tables.stored_against_observed("qat").set_index("layer")
    for layer in (HOSTILE, "$x$", "dense"):
        assert stale.loc[layer, "stored_max"] == pytest.approx(6, abs=0.05)
        observed = tables.of("activation", "float").set_index("layer")
        assert stale.loc[layer, "max"] == observed.loc[layer, "max"]


def test_histograms_count_every_value(tables: Layers) -> None:
    for (model, layer), histogram in tables.activations.items():
        rows = tables.of("activation", model)
        assert histogram.count == rows.loc[rows["layer"] == layer, "count"].item()


def test_without_the_data_set_the_weights_are_still_there(study: Study, tmp_path) -> None:
    from dataclasses import replace

    gone = replace(study, spec=replace(study.spec, dataset=str(tmp_path / "gone.npz")))
    found = gone.layers()
    assert found.activations == {}
    assert found.weights
    assert any("gone.npz" in note for note in found.notes)


def test_the_first_file_must_be_float(study: Study) -> None:
    with pytest.raises(DataError, match="float32"):
        layer_tables({"qat": read_graph(study.file("qat"))}, None)


def test_comparing_on_fewer_examples(study: Study) -> None:
    need_package("ipywidgets")
    from qinspect.show.widgets.significance import luck_sentence, sample_sizes

    results, pair = study.results, ("ptq_int8", "qat")
    whole, part = (results.drawn(n, 3) for n in (800, 100))
    assert whole is results
    assert part.n == 100
    np.testing.assert_array_equal(part.ids, results.drawn(100, 3).ids)
    assert not np.array_equal(part.ids, results.drawn(100, 4).ids)
    assert set(part.ids) < set(results.ids)
    low, high = part.comparison(*pair).interval
    wide = whole.comparison(*pair).interval
    assert high - low > wide[1] - wide[0]
    assert sum(results.luck(*pair, 100)) == pytest.approx(1)
    assert results.luck(*pair, 800) in {(1, 0, 0), (0, 1, 0), (0, 0, 1)}
    assert results.power(*pair, 100) < results.power(*pair, 800)
    assert "Other draws of 100" in luck_sentence(results, *pair, 100)
    resampled = part.resampled(*pair)
    assert resampled.mean() == pytest.approx(part.comparison(*pair).gap, abs=0.15)
    with pytest.raises(SpecError, match="2 to 800"):
        results.drawn(801, 0)
    sizes = [size for _, size in sample_sizes(800)]
    assert sizes[0] == 2
    assert sizes[-1] == 800
    assert sizes == sorted(set(sizes))


def test_what_stored_ranges_clip(tables: Layers) -> None:
    rows = tables.clipping()
    assert set(rows["file"]) == {"ptq_int8", "qat"}
    found = rows[(rows["file"] == "qat") & (rows["layer"] == "dense")].set_index("kind")
    effect = clip_effect(tables.binned("float", "dense", "activation"),
                         *found.loc["activation", ["stored_min", "stored_max"]])
    assert found.loc["activation", "clipped_share"] == effect["clipped_share"] > 0
    assert found.loc["weight", "clipped_share"] == 0


def test_a_figure_is_asked_for_by_the_name_that_was_given(tables: Layers) -> None:
    long = shortened(tables, {model: f"{model}, a long name" for model in tables.models})
    for model in long.models[1:]:
        for kind in ("ranges", "error"):
            assert long.figure(f"{kind} of {model}").sentence


def test_layers_as_frame_sentence_and_json(tables: Layers) -> None:
    local = tables.frame.query("reference == 'local' and file == 'qat'")
    worst = local.loc[local["sqnr_db"].idxmin(), "layer"]
    assert f"qat adds most error in {worst}" in tables.sentence
    assert len(tables.to_json()["errors"]) == len(tables.frame)
