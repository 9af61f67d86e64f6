"""Float training: the history, the order of batches, and what it refuses."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from parts import need_package
from train_models import SHAPE, digits, keras_accuracy, trained

from qinspect.errors import DataError, SpecError, TrainError
from qinspect.schema import HISTORY
from qinspect.train import MODELS, build_model, fit, has_batchnorm, predict, reset

need_package("tensorflow_model_optimization")


def few(n: int = 70) -> Any:
    return digits().train.take(np.arange(n))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [(8, 8, 1), (16, 16, 1), (28, 28, 1), (32, 32, 3)])
def test_zoo_fits_every_data_set_in_size(name: str, shape: tuple[int, ...]) -> None:
    model = build_model(name, shape, 7)
    assert model.output_shape == (None, 7)
    # 4 bytes a parameter; the mlp on 32x32x3 is the largest.
    assert 20_000 < 4 * model.count_params() < (200_000 if name != "mlp" else 1_300_000)
    assert has_batchnorm(model) == (name in {"bn_cnn", "depthwise_cnn", "resnet_tiny"})
    # Keras numbers layers that are given no name.
    assert not [layer.name for layer in model.layers if "_1" in layer.name]


def test_outputs_are_probabilities() -> None:
    outputs = predict(build_model("bn_cnn", SHAPE, 10), digits().test.x[:50])
    assert outputs.dtype == np.float32
    assert outputs.shape == (50, 10)
    np.testing.assert_allclose(outputs.sum(axis=1), 1.0, rtol=1e-5)


def test_initial_weights_depend_on_the_seed_alone() -> None:
    first = build_model("depthwise_cnn", SHAPE, 10, seed=3).get_weights()
    np.random.default_rng().random()
    reset(99)
    again = build_model("depthwise_cnn", SHAPE, 10, seed=3).get_weights()
    other = build_model("depthwise_cnn", SHAPE, 10, seed=4).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    kernels = [i for i, w in enumerate(first) if w.ndim > 1]
    assert not any(np.array_equal(first[i], other[i]) for i in kernels)
    # A kernel of its own for each layer, not one repeated.
    assert len({first[i].ravel()[:9].tobytes() for i in kernels}) == len(kernels)


def test_momentum_reaches_every_batch_norm() -> None:
    model = build_model("resnet_tiny", SHAPE, 10, bn_momentum=0.99)
    momenta = [layer.momentum for layer in model.layers if hasattr(layer, "momentum")]
    assert momenta == [0.99] * len(momenta)
    assert momenta


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("bn_cn", SHAPE, 10), "bn_cnn"),
        (("bn_cnn", (4, 4, 1), 10), "8x8"),
        (("bn_cnn", (64,), 10), "height"),
        (("bn_cnn", SHAPE, 1), "at least 2"),
    ],
)
def test_the_zoo_refuses_what_it_cannot_build(arguments: tuple[Any, ...], word: str) -> None:
    with pytest.raises(SpecError, match=word):
        build_model(*arguments)


def test_history_has_one_row_an_epoch() -> None:
    reset(0)
    model = build_model("mlp", SHAPE, 10)
    calls: list[tuple[str, int, int, str]] = []
    history = fit(
        model, few(70), digits().validation, epochs=3, learning_rate=1e-3, batch_size=32, seed=0,
        phase="float_ft", progress=lambda *call: calls.append(call),
    )
    assert tuple(history.columns) == HISTORY
    assert history["phase"].unique().tolist() == ["float_ft"]
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history["steps"].tolist() == [3, 6, 9]  # the last batch of 6 examples counts
    assert history["learning_rate"].tolist() == [1e-3] * 3
    assert (history["seconds"] > 0).all()
    # The last validation figures are those of the finished model.
    outputs = predict(model, digits().validation.x)
    right = np.mean(outputs.argmax(axis=1) == digits().validation.y)
    chosen = outputs[np.arange(len(outputs)), digits().validation.y].astype(float)
    assert history["val_accuracy"].iloc[-1] == pytest.approx(right, abs=1e-6)
    assert history["val_loss"].iloc[-1] == pytest.approx(-np.log(chosen).mean(), rel=1e-4)
    assert calls[-1][:3] == ("float_ft", 9, 9)
    assert [call[1] for call in calls] == sorted(call[1] for call in calls)


def test_without_validation_its_columns_are_nan_and_zero_epochs_change_nothing() -> None:
    model = build_model("mlp", SHAPE, 10)
    before = model.get_weights()
    assert len(fit(model, few(), None, epochs=0, learning_rate=1e-3, seed=0)) == 0
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    history = fit(model, few(), None, epochs=1, learning_rate=1e-3, seed=0)
    assert history[["val_loss", "val_accuracy"]].isna().all().all()


@pytest.mark.slow
def test_batches_come_in_the_documented_order() -> None:
    """A second implementation: the same Adam steps on batches that the test cuts itself."""
    from qinspect.train.keras import tf_keras
    from qinspect.train.training import batch_order

    reset(0)
    model = build_model("mlp", SHAPE, 10, seed=1)
    twin = build_model("mlp", SHAPE, 10, seed=1)
    data = few(50)
    fit(model, data, None, epochs=2, learning_rate=1e-2, batch_size=16, seed=7)
    twin.compile(tf_keras().optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    for epoch in range(2):
        order = batch_order(50, 7, epoch)
        for start in range(0, 50, 16):
            index = order[start : start + 16]
            twin.train_on_batch(data.x[index], data.y[index])
    for mine, theirs in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


@pytest.mark.slow
def test_training_ignores_the_global_generators() -> None:
    weights = []
    for noise in (1, 2):
        reset(0)
        model = build_model("plain_cnn", SHAPE, 10)
        np.random.seed(noise)  # the global state is what is tested  # noqa: NPY002
        fit(model, few(), None, epochs=1, learning_rate=1e-3, seed=0)
        weights.append(model.get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))


def test_training_learns() -> None:
    assert keras_accuracy(trained("bn_cnn")) > 0.8


def test_frozen_batch_norm_keeps_its_statistics_and_can_train_again() -> None:
    model = build_model("bn_cnn", SHAPE, 10)
    names = [layer.name for layer in model.layers if layer.name.startswith("bn")]

    def state() -> list[np.ndarray]:
        return [weight for name in names for weight in model.get_layer(name).get_weights()]

    before, kernel = state(), model.get_layer("conv1").get_weights()[0]
    fit(model, few(), None, epochs=1, learning_rate=1e-3, seed=0, freeze_batchnorm=True)
    assert all(np.array_equal(a, b) for a, b in zip(before, state(), strict=True))
    assert not np.array_equal(kernel, model.get_layer("conv1").get_weights()[0])
    fit(model, few(), None, epochs=1, learning_rate=1e-3, seed=0)
    assert not any(np.array_equal(a, b) for a, b in zip(before, state(), strict=True))


def test_a_loss_that_is_not_a_number_is_reported() -> None:
    from qinspect.train.training import DivergedError

    model = build_model("mlp", SHAPE, 10)
    weights = model.get_weights()
    weights[-1][0] = np.nan  # past the last ReLU, some kernels of which turn NaN into 0
    model.set_weights(weights)
    with pytest.raises(DivergedError, match="nan at step 1 with learning rate") as caught:
        fit(model, few(), None, epochs=5, learning_rate=1e-3, seed=0)
    history = caught.value.history
    assert len(history) == 1
    assert np.isnan(history["loss"].iloc[0])


@pytest.mark.slow
def test_a_model_that_gives_logits_trains_as_one_that_gives_probabilities() -> None:
    from qinspect.train.keras import tf_keras

    model = build_model("mlp", SHAPE, 10, seed=5)
    twin = build_model("mlp", SHAPE, 10, seed=5)
    twin.layers[-1].activation = tf_keras().activations.linear
    twin = tf_keras().models.clone_model(twin)
    twin.set_weights(model.get_weights())
    first = fit(model, few(), None, epochs=2, learning_rate=1e-3, seed=0)
    second = fit(twin, few(), None, epochs=2, learning_rate=1e-3, seed=0)
    np.testing.assert_allclose(first["loss"], second["loss"], rtol=1e-4)


def test_a_model_that_ends_in_another_activation_is_refused() -> None:
    from qinspect.train.keras import tf_keras

    layers = tf_keras().layers
    model = tf_keras().Sequential(
        [layers.Input(SHAPE), layers.Flatten(), layers.Dense(10, activation="sigmoid")]
    )
    with pytest.raises(TrainError, match="ends in the activation 'sigmoid'"):
        fit(model, few(), None, epochs=1, learning_rate=1e-3, seed=0)


@pytest.mark.parametrize(
    ("changes", "options", "error", "word"),
    [
        ({"x": np.zeros((70, 4, 4, 1), np.float32)}, {}, DataError, r"\(4, 4, 1\)"),
        ({"x": np.full((70, 8, 8, 1), np.nan, np.float32)}, {}, DataError, "NaN"),
        ({"y": np.full(70, 10)}, {}, DataError, "labels from 10 to 10"),
        ({"y": np.full(70, -1)}, {}, DataError, "labels from -1"),
        ({"x": np.zeros((0, 8, 8, 1)), "y": np.zeros(0, int)}, {}, DataError, "no examples"),
        ({}, {"epochs": -1}, SpecError, "epochs is -1"),
        ({}, {"batch_size": 0}, SpecError, "batch_size is 0"),
        ({}, {"learning_rate": float("nan")}, SpecError, "learning_rate is nan"),
    ],
)
def test_bad_input_is_refused(
    changes: dict[str, Any], options: dict[str, Any], error: type[Exception], word: str
) -> None:
    data = dataclasses.replace(few(70), **changes)
    settings = {"epochs": 1, "learning_rate": 1e-3, "seed": 0, **options}
    with pytest.raises(error, match=word):
        fit(build_model("mlp", SHAPE, 10), data, None, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_default_training_is_above_90_percent_on_digits(name: str) -> None:
    reset(0)
    model = build_model(name, SHAPE, 10)
    fit(model, digits().train, None, epochs=12, learning_rate=1e-3, seed=0)
    assert keras_accuracy(model) > 0.9
