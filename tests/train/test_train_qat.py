"""QAT: what tfmot's wrapper starts from, what a warm start changes, and the file that comes out."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from parts import need_package, other_process
from train_models import SHAPE, digits, file_accuracy, fresh, keras_accuracy, trained

from qinspect.errors import DataError, SpecError, TrainError
from qinspect.schema import OBSERVERS
from qinspect.tflite.identity import scheme_of
from qinspect.tflite.read import read_graph
from qinspect.train import (
    MODELS,
    convert,
    convert_qat,
    fit,
    fit_qat,
    load_keras,
    predict,
    quantize_aware,
    reestimate_batchnorm,
    reset,
    save_keras,
    warm_start_observers,
)
from qinspect.train.observers import observers

need_package("tensorflow_model_optimization")
pytestmark = pytest.mark.slow

STEPS = 31  # an epoch of the digits training set


@cache
def qat_run(warm: bool) -> tuple[Any, pd.DataFrame, pd.DataFrame]:
    """Two epochs of QAT of ``bn_cnn``; tests must not change the model."""
    model = quantize_aware(trained("bn_cnn"))
    history, log = fit_qat(
        model, digits().train, None, epochs=2, learning_rate=3e-4, seed=5,
        warm_start_x=digits().calibration.x if warm else None,
    )
    return model, history, log


def ranges(model: Any) -> dict[tuple[str, str], tuple[float, float]]:
    return {(seen.layer, seen.tensor): seen.range for seen in observers(model)}


def test_the_copy_has_the_weights_and_the_original_does_not_change() -> None:
    model = trained("bn_cnn")
    before = model.get_weights()
    qat_model = quantize_aware(model)
    for layer in model.layers:
        copies = [w.shape for w in qat_model.get_layer(_renamed(layer.name)).weights]
        assert all(weight.shape in copies for weight in layer.weights)
    held = [weight.numpy().tobytes() for weight in qat_model.weights]
    assert all(weight.tobytes() in held for weight in before)
    qat_model.set_weights([np.full_like(weight, 7) for weight in qat_model.get_weights()])
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def _renamed(name: str) -> str:
    return name if name == "input" else f"quant_{name}"


def test_every_range_but_the_input_starts_at_minus_6_to_6() -> None:
    found = ranges(quantize_aware(trained("bn_cnn")))
    # The input's range alone is collected without a moving average, from nothing.
    assert found.pop(("quantize_layer", "input")) == (0.0, 0.0)
    assert set(found.values()) == {(-6.0, 6.0)}


def test_untrained_wrapper_is_at_chance_and_a_warm_start_brings_it_to_ptq() -> None:
    model = trained("bn_cnn")
    qat_model = quantize_aware(model)
    ptq = file_accuracy(convert(model, "int8", digits().calibration.x))
    assert file_accuracy(convert_qat(qat_model)) < 0.2  # 0.1 is chance
    warm_start_observers(qat_model, digits().calibration.x)
    assert abs(file_accuracy(convert_qat(qat_model)) - ptq) < 0.02
    assert abs(keras_accuracy(qat_model) - ptq) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if name != "bn_cnn"])
def test_warm_start_brings_every_model_to_ptq(name: str) -> None:
    qat_model = quantize_aware(trained(name))
    assert file_accuracy(convert_qat(qat_model)) < 0.3
    warm_start_observers(qat_model, digits().calibration.x)
    content = convert_qat(qat_model)
    ptq = file_accuracy(convert(trained(name), "int8", digits().calibration.x))
    assert abs(file_accuracy(content) - ptq) < 0.02
    assert scheme_of(read_graph(content)) == "int8"


def test_warm_ranges_are_the_extremes_of_the_float_model() -> None:
    """Checked layer by layer against the float model's own activations."""
    from qinspect.train.keras import tf_keras

    model, x = trained("bn_cnn"), digits().calibration.x[:100]
    qat_model = quantize_aware(model)
    # Wrong start values upstream must not distort ranges downstream, nor does the batch size.
    warm_start_observers(qat_model, x, batch_size=7)
    found = ranges(qat_model)
    for layer in ("relu1", "relu2"):
        part = tf_keras().Model(model.inputs, model.get_layer(layer).output)
        values = predict(part, x)
        assert found[layer, "output"] == pytest.approx((0.0, values.max()), rel=1e-5)
    part = tf_keras().Model(model.inputs, model.layers[-1].input)
    kernel, bias = model.layers[-1].get_weights()
    logits = predict(part, x) @ kernel + bias
    expected = (logits.min(), logits.max())
    assert found["logits", "pre_activation"] == pytest.approx(expected, rel=1e-4)
    # Weights: symmetric; each channel of a convolution, the whole of a dense kernel.
    width = np.abs(kernel).max()
    assert found["logits", "kernel"] == pytest.approx((-width, width), rel=1e-5)
    seen = next(s for s in observers(qat_model) if (s.layer, s.tensor) == ("conv1", "kernel"))
    channels = np.abs(model.get_layer("conv1").get_weights()[0]).max(axis=(0, 1, 2))
    np.testing.assert_allclose(seen.variables["max_var"].numpy(), channels, rtol=1e-5)


def test_warm_start_twice_is_warm_start_once_and_leaves_weights_alone() -> None:
    model = trained("plain_cnn")
    qat_model, x = quantize_aware(model), digits().calibration.x[:60]
    warm_start_observers(qat_model, x)
    first = qat_model.get_weights()
    warm_start_observers(qat_model, x)
    assert all(np.array_equal(a, b) for a, b in zip(first, qat_model.get_weights(), strict=True))


def test_a_tensor_that_stays_zero_keeps_its_range() -> None:
    qat_model = quantize_aware(trained("mlp"))
    before = ranges(qat_model)["quantize_layer", "input"]
    warm_start_observers(qat_model, np.zeros((3, *SHAPE), np.float32))
    assert ranges(qat_model)["quantize_layer", "input"] == before


def test_observer_log_follows_the_moving_average() -> None:
    _, history, log = qat_run(False)
    assert tuple(log.columns) == OBSERVERS
    assert history["steps"].tolist() == [STEPS, 2 * STEPS]
    assert sorted(log["step"].unique()) == [0, 1, 2, 5, 10, 20, STEPS, 50, 2 * STEPS]
    assert set(log["kind"]) == {"weight", "activation"}
    relu = log[(log["layer"] == "relu1") & (log["tensor"] == "output")].set_index("step")
    # ReLU's lower end is pulled to 0 by a factor of 0.999 a step and by nothing else.
    for step, low in relu["min"].items():
        assert low == pytest.approx(-6.0 * 0.999**step, rel=1e-4)  # type: ignore[operator]
    kernel = log[(log["layer"] == "conv1") & (log["kind"] == "weight")].set_index("step")
    assert kernel.loc[0, "max"] == 6.0
    assert kernel.loc[1, "max"] < 1.0  # weights take the range of the last step


def test_warm_log_starts_at_the_calibrated_ranges() -> None:
    _, _, log = qat_run(True)
    start = log[log["step"] == 0]
    assert not ((start["min"] == -6.0) & (start["max"] == 6.0)).any()
    assert (start.loc[start["layer"].str.startswith("relu"), "min"] == 0.0).all()


def test_qat_file_is_int8_with_float_ends_and_agrees_with_keras() -> None:
    qat_model, _, _ = qat_run(True)
    content = convert_qat(qat_model)
    graph = read_graph(content)
    assert scheme_of(graph) == "int8"
    assert {graph.main.tensors[i].dtype for i in graph.main.inputs + graph.main.outputs} == {
        "float32"
    }
    weighted = {"CONV_2D", "FULLY_CONNECTED"}
    assert {
        graph.main.tensors[op.inputs[1]].dtype for op in graph.main.operators if op.code in weighted
    } == {"int8"}
    assert abs(file_accuracy(content) - keras_accuracy(qat_model)) < 0.02


def test_qat_sees_the_batches_of_float_training() -> None:
    """With fake quantization made all but exact, QAT's loss is that of the float model."""
    float_model = fresh("mlp", epochs=1)
    qat_model = quantize_aware(float_model)
    settings: dict[str, Any] = {"epochs": 1, "learning_rate": 1e-4, "seed": 11}
    qat, _ = fit_qat(
        qat_model, digits().train, None, warm_start_x=digits().train.x, **settings
    )
    plain = fit(float_model, digits().train, None, **settings)
    assert qat["loss"].iloc[0] == pytest.approx(plain["loss"].iloc[0], rel=0.02)


def test_saved_and_loaded_it_converts_to_the_same_file(tmp_path: Any) -> None:
    qat_model, _, _ = qat_run(True)
    save_keras(qat_model, tmp_path / "qat.h5")
    loaded = load_keras(tmp_path / "qat.h5")
    np.testing.assert_array_equal(
        predict(loaded, digits().test.x), predict(qat_model, digits().test.x)
    )
    assert file_accuracy(convert_qat(loaded)) == file_accuracy(convert_qat(qat_model))
    assert ranges(loaded) == ranges(qat_model)


def test_same_seed_gives_the_same_bytes_whatever_ran_before() -> None:
    first = first_run("mlp")
    quantize_aware(trained("bn_cnn"))  # counts up Keras' layer numbers
    assert whole_run("mlp") == first


@pytest.mark.parametrize(("name", "before"), [
    ("depthwise_cnn", ""),
    # Keras 3 is there first, and changes nothing.
    ("mlp", "import tensorflow as tf\nassert tf.keras.__version__.startswith('3.')\n"),
])
def test_a_fresh_process_gives_the_same_bytes(name: str, before: str) -> None:
    code = (
        f"{before}import hashlib\n"
        "from test_train_qat import whole_run\n"
        f"print(*(hashlib.sha256(part).hexdigest() for part in whole_run({name!r})))"
    )
    clean = other_process(PYTHONHASHSEED="77")
    # Keras 2, which this process has loaded, leaves its mark in the environment.
    clean.pop("TF_USE_LEGACY_KERAS", None)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False,
        cwd=Path(__file__).parent, env=clean,
    )
    here = [hashlib.sha256(part).hexdigest() for part in first_run(name)]
    assert done.stdout.split() == here, done.stderr


@cache
def first_run(name: str) -> tuple[bytes, bytes]:
    return whole_run(name)


def whole_run(name: str) -> tuple[bytes, bytes]:
    """Train, quantize both ways, convert."""
    model = fresh(name, epochs=1)
    ptq = convert(model, "int8", digits().calibration.x)
    qat_model = quantize_aware(model)
    fit_qat(
        qat_model, digits().train, None, epochs=1, learning_rate=1e-3, seed=0,
        warm_start_x=digits().calibration.x,
    )
    return ptq, convert_qat(qat_model)


def test_skipped_layers_stay_in_float() -> None:
    qat_model = quantize_aware(trained("bn_cnn"), skip_layers=("conv1",))
    names = {layer.name for layer in qat_model.layers}
    # Batch norm behind it stays in float with it; the ReLU feeds a quantized layer.
    assert {"conv1", "bn1", "quant_relu1", "quant_conv2", "quant_bn2", "quant_logits"} <= names
    warm_start_observers(qat_model, digits().calibration.x)
    graph = read_graph(convert_qat(qat_model))
    assert scheme_of(graph) == "mixed"
    with pytest.raises(SpecError, match="did you mean conv1"):
        quantize_aware(trained("bn_cnn"), skip_layers=("conv11",))


def test_layers_that_came_out_in_float_are_named() -> None:
    from qinspect.train.keras import tf_keras

    layers = tf_keras().layers
    reset(0)
    model = tf_keras().Sequential([
        layers.Input((4, 4, 1)), layers.Conv2DTranspose(2, 3, activation="relu", name="up"),
        layers.Flatten(),
        layers.Dense(2, activation="softmax"),
    ])
    qat_model = quantize_aware(model)
    warm_start_observers(qat_model, np.random.default_rng(0).random((20, 4, 4, 1)))
    with pytest.warns(UserWarning, match="only 1 came out in integers; in float are '.*up"):
        content = convert_qat(qat_model)
    assert scheme_of(read_graph(content)) != "int8"


def test_frozen_batch_norm_stays_frozen_inside_the_wrapper() -> None:
    qat_model = quantize_aware(trained("bn_cnn"))

    def statistics() -> list[np.ndarray]:
        return [w.numpy() for w in qat_model.weights if "moving_" in w.name]

    before = statistics()
    fit_qat(
        qat_model, digits().train, None, epochs=1, learning_rate=1e-3, seed=0, freeze_batchnorm=True
    )
    assert before
    assert all(np.array_equal(a, b) for a, b in zip(before, statistics(), strict=True))


def test_a_model_without_wrappers_is_refused() -> None:
    model = trained("mlp")
    for call in (
        lambda: convert_qat(model),
        lambda: warm_start_observers(model, digits().test.x),
        lambda: fit_qat(model, digits().train, None, epochs=1, learning_rate=1e-3, seed=0),
    ):
        with pytest.raises(TrainError, match="no quantized layers"):
            call()
    with pytest.raises(DataError, match="no examples"):
        warm_start_observers(quantize_aware(model), digits().test.x[:0])


# --- batch norm ------------------------------------------------------------------------------


@pytest.mark.parametrize("quantized", [False, True])
def test_reestimated_statistics_are_the_moments_of_each_input(quantized: bool) -> None:
    """Against one pass over all data at once, in float64; no other weight may move."""
    from qinspect.train.keras import batchnorm_layers, inner, tf_keras

    model, x = fresh("bn_cnn", epochs=1), digits().train.x[:300]
    if quantized:
        model = quantize_aware(model)
        warm_start_observers(model, x)
    others = {w.name: w.numpy() for w in model.weights if "moving_" not in w.name}
    assert reestimate_batchnorm(model, x, batch_size=64) is model
    for layer in batchnorm_layers(model):
        values = predict(tf_keras().Model(model.inputs, layer.input), x).astype(np.float64)
        axes = (0, 1, 2)
        np.testing.assert_allclose(inner(layer).moving_mean, values.mean(axes), atol=1e-5)
        np.testing.assert_allclose(
            inner(layer).moving_variance, values.var(axes), rtol=1e-4, atol=1e-6
        )
    for weight in model.weights:
        if weight.name in others:
            np.testing.assert_array_equal(weight.numpy(), others[weight.name])


def test_order_and_batch_size_do_not_matter() -> None:
    model, x = fresh("bn_cnn", epochs=1), digits().train.x[:300]
    reestimate_batchnorm(model, x, batch_size=300)
    whole = model.get_weights()
    reestimate_batchnorm(model, x[::-1], batch_size=11)
    for one, other in zip(whole, model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_a_lagging_batch_norm_recovers_over_three_seeds() -> None:
    """One epoch of 31 steps at Keras' momentum 0.99 keeps 0.99^31 = 73 % of the start values."""
    gains = []
    for seed in range(3):
        model = fresh("bn_cnn", epochs=1, seed=seed, bn_momentum=0.99)
        before = keras_accuracy(model)
        reestimate_batchnorm(model, digits().train.x)
        gains.append(keras_accuracy(model) - before)
    assert min(gains) > 0.05
    assert np.median(gains) > 0.15


def test_models_without_batch_norm_are_left_alone() -> None:
    model = trained("mlp")
    before = model.get_weights()
    reestimate_batchnorm(model, digits().train.x)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_batch_norm_used_twice_is_refused() -> None:
    from qinspect.train.keras import tf_keras

    layers = tf_keras().layers
    reset(0)
    image, norm = tf_keras().Input((4,)), layers.BatchNormalization(name="shared")
    model = tf_keras().Model(image, norm(layers.Dense(4)(norm(image))))
    with pytest.raises(TrainError, match="'shared' is used more than once"):
        reestimate_batchnorm(model, np.zeros((3, 4), np.float32))
