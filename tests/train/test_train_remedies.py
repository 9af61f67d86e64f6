"""Remedies one by one: each does what it says and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from parts import need_package
from train_models import (
    begun,
    digits,
    file_accuracy,
    fresh,
    keras_accuracy,
    trained,
    uneven,
)

from qinspect.data.streams import stream
from qinspect.errors import DataError, SpecError, TrainError
from qinspect.tflite.constants import constant
from qinspect.tflite.identity import scheme_of
from qinspect.tflite.read import read_graph
from qinspect.tflite.run import evaluate
from qinspect.train import (
    build_model,
    convert,
    convert_qat,
    fit,
    fit_qat,
    keep_in_float,
    load_keras,
    per_channel_dense_qat,
    predict,
    quantize_aware,
    recalibrate,
    reset,
    robust_qat,
    save_keras,
    warm_start_observers,
)
from qinspect.train.observers import observers

need_package("tensorflow_model_optimization")
pytestmark = pytest.mark.slow


def dense_scales(content: bytes) -> list[int]:
    """Number of weight scales of each dense operator; 0 in float."""
    graph = read_graph(content)
    found = []
    for op in graph.main.operators:
        if op.code == "FULLY_CONNECTED":
            quantization = graph.main.tensors[op.inputs[1]].quantization
            found.append(0 if quantization is None else quantization.scale.size)
    return found


def dense_kernels(content: bytes) -> list[np.ndarray]:
    """Real weights of each dense operator, shape (outputs, inputs)."""
    graph = read_graph(content)
    found = []
    for op in graph.main.operators:
        if op.code == "FULLY_CONNECTED":
            tensor = graph.main.tensors[op.inputs[1]]
            assert tensor.quantization is not None
            scale = np.reshape(tensor.quantization.scale, (-1, 1))
            found.append(np.asarray(constant(graph, tensor), dtype=np.float64) * scale)
    return found


def widths(content: bytes) -> dict[str, float]:
    """Width of the range of every int8 activation."""
    graph = read_graph(content)
    found = {}
    for tensor in graph.main.tensors:
        bounds = None if tensor.constant else tensor.stored_range
        if bounds is not None:
            found[tensor.name] = bounds[1] - bounds[0]
    return found


# --- per-channel dense layers ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp", "bn_cnn", "depthwise_cnn"])
def test_every_dense_output_gets_a_scale_and_keras_agrees_with_the_file(name: str) -> None:
    model = trained(name)
    assert set(dense_scales(convert_qat(_warm(quantize_aware(model))))) == {1}
    qat_model = per_channel_dense_qat(model)
    fit_qat(
        qat_model, digits().train, None, epochs=1, learning_rate=1e-3, seed=1,
        warm_start_x=digits().calibration.x,
    )
    content = convert_qat(qat_model)
    units = [
        layer.units for layer in model.layers if type(layer).__name__ == "Dense"
    ]
    assert dense_scales(content) == units
    assert scheme_of(read_graph(content)) == "int8"
    x = digits().test.x
    difference = np.abs(evaluate(content, x).outputs - predict(qat_model, x))
    # The file's output has a step of 1/256, Keras' has not; a rounding step inside moves some.
    assert difference.mean() < 1 / 256
    assert difference.max() < 0.1


def test_the_file_holds_the_fake_quantized_kernels_of_the_layers() -> None:
    """Second implementation: TensorFlow's own fake quantization of the kernel."""
    from qinspect.train.keras import tensorflow

    model = trained("mlp")
    qat_model = _warm(per_channel_dense_qat(model))
    stored = dense_kernels(convert_qat(qat_model))
    for layer, found in zip(("dense1", "dense2", "logits"), stored, strict=True):
        kernel = model.get_layer(layer).get_weights()[0]
        ends = np.abs(kernel).max(axis=0)
        expected = tensorflow().quantization.fake_quant_with_min_max_vars_per_channel(
            kernel, -ends, ends, narrow_range=True
        )
        np.testing.assert_allclose(found, np.asarray(expected).T, atol=1e-6 * ends.max())


def test_channels_of_uneven_size_survive_only_with_a_range_each() -> None:
    model = uneven()
    coarse = file_accuracy(convert_qat(_warm(quantize_aware(model))))
    fine = file_accuracy(convert_qat(_warm(per_channel_dense_qat(model))))
    ptq = file_accuracy(convert(model, "int8", digits().calibration.x))
    assert abs(fine - ptq) < 0.02
    assert coarse < fine - 0.05


def test_a_dense_layer_in_front_of_batch_norm_stays_as_tfmot_makes_it() -> None:
    from qinspect.train.keras import tf_keras

    layers = tf_keras().layers
    reset(0)
    model = tf_keras().Sequential([
        layers.Input((8, 8, 1)), layers.Flatten(), layers.Dense(16, name="folded"),
        layers.BatchNormalization(momentum=0.5), layers.ReLU(),
        layers.Dense(10, activation="softmax", name="plain", use_bias=False),
    ])
    fit(model, digits().train, None, epochs=2, learning_rate=3e-3, seed=0)
    qat_model = _warm(per_channel_dense_qat(model))
    ranges = {(seen.layer, seen.tensor): seen.variables["max_var"].shape
              for seen in observers(qat_model) if seen.kind == "weight"}
    assert ranges["plain", "kernel"] == (10,)
    assert ranges["folded", "kernel"] == ()
    # With TensorFlow 2.21 the converter leaves such a layer in float, per channel or not.
    with pytest.warns(UserWarning, match="only 1 came out in integers"):
        content = convert_qat(qat_model)
    assert dense_scales(content) == [0, 10]
    assert abs(file_accuracy(content) - keras_accuracy(qat_model)) < 0.02


def test_a_per_channel_model_comes_back_from_disk(tmp_path: Any) -> None:
    qat_model = _warm(per_channel_dense_qat(trained("mlp")))
    save_keras(qat_model, tmp_path / "qat.h5")
    loaded = load_keras(tmp_path / "qat.h5")
    x = digits().test.x
    np.testing.assert_array_equal(
        evaluate(convert_qat(loaded), x).outputs, evaluate(convert_qat(qat_model), x).outputs
    )


def test_conversion_leaves_the_qat_model_as_it_was() -> None:
    qat_model = _warm(per_channel_dense_qat(trained("mlp")))
    before = predict(qat_model, digits().test.x)
    convert_qat(qat_model)
    np.testing.assert_array_equal(predict(qat_model, digits().test.x), before)


# --- recalibration ---------------------------------------------------------------------------


def test_a_percentile_narrows_ranges_that_an_outlier_stretched() -> None:
    model, x = trained("mlp"), digits().calibration.x.copy()
    x[7] *= 40.0
    plain = widths(recalibrate(model, digits().calibration.x, percentile=99.99))
    stretched = widths(recalibrate(model, x, percentile=99.99))
    trimmed = widths(recalibrate(model, x, percentile=98.0))
    assert max(stretched.values()) > 5 * max(plain.values())
    hidden = [name for name in plain if plain[name] > 0.01 and name in trimmed]
    assert all(trimmed[name] <= stretched[name] for name in hidden)
    assert max(trimmed.values()) < 1.2 * max(plain.values())
    coarse = file_accuracy(recalibrate(model, x))
    assert file_accuracy(recalibrate(model, x, percentile=98.0)) >= coarse


def test_warm_ranges_are_percentiles_of_the_examples_extremes() -> None:
    from qinspect.train.keras import tf_keras

    model, x = trained("mlp"), digits().calibration.x
    qat_model = quantize_aware(model)
    warm_start_observers(qat_model, x, batch_size=13, percentile=90.0)
    part = tf_keras().Model(model.inputs, model.get_layer("dense1").output)
    expected = np.percentile(predict(part, x).max(axis=1), 90.0)
    found = {(seen.layer, seen.tensor): seen.range for seen in observers(qat_model)}
    assert found["dense1", "post_activation"] == pytest.approx((0.0, expected), rel=1e-5)


def test_recalibration_without_options_is_the_converters() -> None:
    model, x = trained("bn_cnn"), digits().calibration.x
    assert recalibrate(model, x) == convert(model, "int8", x)


def test_size_and_preprocessing_choose_what_the_converter_sees() -> None:
    model, x = trained("mlp"), digits().calibration.x
    wrong = x * 255.0
    mended = recalibrate(model, wrong, preprocess=lambda given: given / 255.0)
    np.testing.assert_allclose(
        evaluate(mended, digits().test.x).outputs,
        evaluate(recalibrate(model, x), digits().test.x).outputs, atol=2 / 256,
    )
    assert file_accuracy(recalibrate(model, wrong)) < file_accuracy(mended) - 0.1
    small = recalibrate(model, x, size=3, seed=4)
    chosen = np.sort(stream(4, "recalibrate").permutation(len(x))[:3])
    np.testing.assert_array_equal(
        evaluate(small, digits().test.x).outputs,
        evaluate(recalibrate(model, x[chosen]), digits().test.x).outputs,
    )


# --- layers in float -------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("conv1",), ("logits",), ("conv2", "dense1")])
def test_exactly_the_named_layers_stay_in_float(names: tuple[str, ...]) -> None:
    model = trained("bn_cnn")
    before = model.get_weights()
    content = keep_in_float(model, names, digits().calibration.x)
    graph = read_graph(content)
    kinds = [
        graph.main.tensors[op.inputs[1]].dtype
        for op in graph.main.operators
        if op.code in {"CONV_2D", "FULLY_CONNECTED"}
    ]
    weighted = ("conv1", "conv2", "dense1", "logits")
    assert kinds == ["float32" if name in names else "int8" for name in weighted]
    assert abs(file_accuracy(content) - keras_accuracy(model)) < 0.02
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_a_layer_that_qat_skips_in_the_middle_is_quantized_by_the_converter_all_the_same() -> None:
    """Why keep_in_float goes another way."""
    qat_model = _warm(quantize_aware(trained("bn_cnn"), skip_layers=("conv2",)))
    graph = read_graph(convert_qat(qat_model))
    kinds = {
        graph.main.tensors[op.inputs[1]].dtype
        for op in graph.main.operators
        if op.code in {"CONV_2D", "FULLY_CONNECTED"}
    }
    assert kinds == {"int8"}


# --- all together ----------------------------------------------------------------------------


def test_a_learning_rate_that_falls_ends_near_zero() -> None:
    from qinspect.train.keras import tf_keras

    seen: list[float] = []
    model = fresh("mlp", epochs=0)
    watch = tf_keras().callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(float(model.optimizer.learning_rate))
    )
    fit(model, digits().train, None, epochs=2, learning_rate=1e-3, seed=0, callbacks=[watch],
        decay_from=0.5)
    steps = len(seen)
    expected = [1e-3 * min(1.0, (steps - step) / (steps / 2)) for step in range(steps)]
    np.testing.assert_allclose(seen, expected, rtol=1e-5)


def test_a_short_robust_run_has_the_mean_rate_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """31 steps: up over a fifth of them, down over two fifths, to a higher peak."""
    from qinspect.train import training

    seen: list[np.ndarray[Any, Any]] = []
    schedule = training._schedule

    def watched(peak: float, steps: int, warm_up: float, decay_from: float) -> Any:
        made = schedule(peak, steps, warm_up, decay_from)
        seen.append(np.array([float(made(step)) for step in range(steps)]))
        return made

    monkeypatch.setattr(training, "_schedule", watched)
    result = robust_qat(begun("mlp"), digits().train, learning_rate=1e-3)
    (rates,) = seen
    assert rates.mean() == pytest.approx(1e-3, rel=0.05)
    assert rates.max() == pytest.approx(result.record.peak_rate) == pytest.approx(1e-3 / 0.7)
    assert rates[0] < 0.3 * rates.max()
    assert rates[-1] < 0.1 * rates.max()
    assert rates.argmax() == pytest.approx(0.2 * len(rates), abs=1)
    longer = robust_qat(begun("mlp"), digits().train, epochs=4)
    assert (longer.record.peak_rate, longer.record.warm_up) == (1e-3, 0.0)
    assert longer.record.decay_from == 0.8


@pytest.mark.parametrize("name", ["bn_cnn", "plain_cnn"])
def test_robust_qat_leaves_its_input_alone_and_says_what_it_did(name: str) -> None:
    model = begun(name, 0.99)
    before = model.get_weights()
    result = robust_qat(model, digits().train, seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert result.record.kept == "trained"
    assert result.record.steps == result.history["steps"].iloc[-1] == 31
    assert result.record.batchnorm == ("re-estimated" if name == "bn_cnn" else "none")
    assert result.record.calibration_size == 500
    assert np.isnan(result.record.validation_after)
    assert 1 not in dense_scales(result.content)
    assert file_accuracy(result.content) > keras_accuracy(model)
    assert abs(file_accuracy(result.content) - keras_accuracy(result.model)) < 0.02


def test_the_same_seed_gives_the_same_file_and_another_does_not() -> None:
    first, again, other = (
        robust_qat(begun("mlp"), digits().train, seed=seed).content for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_training_that_harms_is_undone_on_validation_examples() -> None:
    model = trained("mlp")
    result = robust_qat(
        model, digits().train, digits().validation, learning_rate=3.0, decay_from=1.0,
        calibration=digits().calibration.x,
    )
    record = result.record
    assert record.kept == "untrained"
    assert record.validation_after < record.validation_before
    untrained = convert_qat(_warm(per_channel_dense_qat(model)))
    x = digits().test.x
    np.testing.assert_array_equal(
        evaluate(result.content, x).outputs, evaluate(untrained, x).outputs
    )


def test_frozen_batch_norm_keeps_the_first_estimate() -> None:
    from qinspect.train import reestimate_batchnorm

    settled = reestimate_batchnorm(fresh("bn_cnn", epochs=1, bn_momentum=0.99), digits().train.x)
    expected = settled.get_layer("bn1").get_weights()
    result = robust_qat(begun("bn_cnn", 0.99), digits().train, freeze_batchnorm=True)
    found = result.model.get_layer("quant_bn1").layer.get_weights()
    assert result.record.batchnorm == "frozen"
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_zero_epochs_are_ptq() -> None:
    model = trained("plain_cnn")
    result = robust_qat(model, digits().train, epochs=0, calibration=digits().calibration.x)
    ptq = convert(model, "int8", digits().calibration.x)
    assert result.record.steps == 0
    assert abs(file_accuracy(result.content) - file_accuracy(ptq)) < 0.02


def _bad_calls() -> list[tuple[str, Any, type[Exception], str]]:
    x = np.zeros((4, 8, 8, 1), np.float32)
    return [
        ("a size", lambda m: recalibrate(m, x, size=5), SpecError, "size is 5"),
        ("a percentile", lambda m: recalibrate(m, x, percentile=40), SpecError, "is 40"),
        ("a shape", lambda m: recalibrate(m, x[:, :4]), DataError, "takes"),
        ("no model", lambda m: recalibrate(3, x), TrainError, "int was given"),
        ("no layers", lambda m: keep_in_float(m, (), x), SpecError, "0 were given"),
        ("a layer", lambda m: keep_in_float(m, ("relu",), x), SpecError, "'relu'"),
        ("all layers", lambda m: keep_in_float(m, ("dense1", "dense2", "logits"), x),
         SpecError, "not all"),
        ("a skipped layer", lambda m: per_channel_dense_qat(m, skip_layers=("densee1",)),
         SpecError, "did you mean dense1"),
        ("epochs", lambda m: robust_qat(m, digits().train, epochs=-1), SpecError, "epochs is -1"),
        ("a decay", lambda m: robust_qat(m, digits().train, decay_from=2.0), SpecError,
         "decay_from is 2.0"),
        ("a warm-up", lambda m: fit(m, digits().train, None, epochs=1, learning_rate=1e-3, seed=0,
                                    warm_up=0.9, decay_from=0.5), SpecError, "warm_up is 0.9"),
        ("a calibration set", lambda m: robust_qat(m, digits().train, calibration=x * np.nan),
         DataError, "NaN"),
        ("a QAT model", lambda m: robust_qat(quantize_aware(m), digits().train), TrainError,
         "already"),
    ]


@pytest.mark.parametrize(("call", "kind", "words"), [case[1:] for case in _bad_calls()],
                         ids=[case[0] for case in _bad_calls()])
def test_bad_input_is_refused_in_one_sentence(call: Any, kind: type[Exception], words: str) -> None:
    reset(0)
    with pytest.raises(kind, match=words) as caught:
        call(build_model("mlp", (8, 8, 1), 10))
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith((".", "?"))


def _warm(qat_model: Any) -> Any:
    warm_start_observers(qat_model, digits().calibration.x)
    return qat_model
