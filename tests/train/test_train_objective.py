"""Losses and metrics: as named, as compiled, or as output and labels say; else refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parts import need_package

from qinspect.data.dataset import Dataset
from qinspect.errors import DataError, SpecError, TrainError
from qinspect.train import (
    choose_objective,
    compiled_with,
    convert,
    convert_qat,
    fit,
    fit_qat,
    one_output,
    predict,
    quantize_aware,
    reset,
)

need_package("tensorflow_model_optimization")


def net(units: int = 1, activation: str | None = None, *, inputs: int = 6) -> Any:
    from qinspect.train.keras import tf_keras

    reset(0)
    layers = tf_keras().layers
    return tf_keras().Sequential([
        layers.Input((inputs,)), layers.Dense(16, activation="relu"),
        layers.Dense(units, activation=activation),
    ])


def data(y: Any, classes: int = 0) -> Dataset:
    x = np.random.default_rng(0).random((len(y), 6), dtype=np.float32)
    return Dataset("made", x, np.asarray(y), np.arange(len(y)).astype(str), classes)


REAL = np.linspace(0, 3.7, 60)
BINARY = np.arange(60) % 2
CLASSES = np.arange(60) % 3


@pytest.mark.parametrize(
    ("units", "activation", "y", "found"),
    [
        (3, "softmax", CLASSES, ("crossentropy", "accuracy", "y")),
        (3, None, CLASSES, ("crossentropy", "accuracy", "y")),
        (1, "sigmoid", BINARY, ("binary-crossentropy", "binary-accuracy", "y")),
        (1, None, REAL, ("mae", "mae", "y")),
        (6, None, None, ("mse", "reconstruction", "x")),
        (6, None, BINARY, ("mse", "anomaly-auc", "x")),
    ],
)
def test_one_reading_is_taken(units: int, activation: Any, y: Any, found: tuple[str, ...]) -> None:
    x = data(REAL).array
    chosen = choose_objective(net(units, activation), x, y)
    assert (chosen.loss, chosen.metric, chosen.target) == found


@pytest.mark.parametrize(
    ("units", "activation", "y"),
    [(1, None, CLASSES), (1, "sigmoid", REAL), (2, None, CLASSES), (4, None, None)],
)
def test_two_readings_are_refused_with_the_option(units: int, activation: Any, y: Any) -> None:
    with pytest.raises(TrainError, match=r"leaves open.*--loss \(crossentropy"):
        choose_objective(net(units, activation), data(REAL).array, y)


@pytest.mark.parametrize(
    ("loss", "metrics", "found"),
    [
        ("mae", ["accuracy"], ("mae", "mae")),
        ("mse", ["mae"], ("mse", "mae")),
        ("mean_squared_error", None, ("mse", "mse")),
        ("Huber", ["MeanSquaredError"], ("huber", "mse")),
        ("binary_crossentropy", ["AUC"], ("binary-crossentropy", "auc")),
        ("binary_crossentropy", ["accuracy"], ("binary-crossentropy", "binary-accuracy")),
    ],
)
def test_what_a_model_was_compiled_with_is_read(
    tmp_path: Path, loss: str, metrics: Any, found: tuple[str, ...]
) -> None:
    from qinspect.train.keras import tf_keras

    model = net(activation="sigmoid" if "binary" in loss else None)
    made = getattr(tf_keras().losses, loss)() if loss[0].isupper() else loss
    model.compile("adam", made, [getattr(tf_keras().metrics, one)() if one[0].isupper() else one
                                 for one in metrics or []])
    model.fit(data(BINARY).array, BINARY, verbose=0)
    for suffix in (".h5", ".keras", ""):
        path = tmp_path / f"model{suffix}"
        model.save(path, **({} if suffix else {"save_format": "tf"}))
        chosen = choose_objective(model, data(REAL).array, BINARY, compiled=compiled_with(path))
        assert (chosen.loss, chosen.metric) == found, suffix
        # A name given wins.
        chosen = choose_objective(model, data(REAL).array, BINARY, loss="mae",
                                  compiled=compiled_with(path))
        assert (chosen.loss, chosen.metric, chosen.why) == ("mae", "mae", "as named"), suffix


def test_a_loss_of_ones_own_is_refused_by_name() -> None:
    with pytest.raises(TrainError, match=r"compiled with the loss 'my_loss'.*--loss"):
        choose_objective(net(), data(REAL).array, REAL, compiled={"loss": "my_loss"})
    with pytest.raises(SpecError, match="loss"):
        choose_objective(net(), data(REAL).array, REAL, loss="mea")


@pytest.mark.slow
def test_a_line_is_learnt_and_the_history_says_so() -> None:
    train = data(REAL)
    x = train.array
    train = replace(train, y=(3 * x[:, 0] - x[:, 1]).astype(np.float64))
    model = net()
    before = np.abs(predict(model, x)[:, 0] - train.y).mean()
    history = fit(model, train, train, epochs=60, learning_rate=1e-2, seed=0, loss="mae")
    after = np.abs(predict(model, x)[:, 0] - train.y).mean()
    assert after < before / 3
    # The loss is the mean absolute error itself; a column of outputs beside a row of targets
    # would give the mean over all pairs.
    assert history["val_loss"].iloc[-1] == pytest.approx(after, rel=1e-4)
    assert history["accuracy"].isna().all()


@pytest.mark.slow
def test_one_sigmoid_and_one_logit_learn_the_same() -> None:
    train = data((data(REAL).array[:, 0] > 0.5).astype(int), 2)
    for activation in ("sigmoid", None):
        history = fit(net(activation=activation), train, train, epochs=60, learning_rate=1e-2,
                      seed=0, loss="binary-crossentropy")
        assert history["val_accuracy"].iloc[-1] > 0.9


def test_an_autoencoder_is_trained_on_the_normal_examples() -> None:
    mixed = data(BINARY)
    chosen = choose_objective(net(6), mixed.array, BINARY)
    normal = chosen.of(mixed)
    np.testing.assert_array_equal(normal.y, mixed.array[BINARY == 0])
    history = fit(net(6), normal, None, epochs=2, learning_rate=1e-2, seed=0, loss=chosen.loss)
    assert history["loss"].is_monotonic_decreasing


@pytest.mark.parametrize(
    ("loss", "units", "y", "words"),
    [
        ("mae", 2, REAL, "value by value"),
        ("crossentropy", 3, REAL, "no class labels"),
        ("binary-crossentropy", 1, CLASSES, "0 and 1 alone"),
        ("mae", 1, np.where(REAL > 3, np.nan, REAL), "NaN or infinite"),
    ],
)
def test_targets_that_do_not_fit_the_loss(loss: str, units: int, y: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        fit(net(units), data(y), None, epochs=1, learning_rate=1e-3, seed=0, loss=loss)


def test_one_of_several_outputs_is_trained_alone() -> None:
    from qinspect.train.keras import tf_keras

    layers = tf_keras().layers
    image = layers.Input((6,))
    body = layers.Dense(8, activation="relu")(image)
    model = tf_keras().Model(image, [layers.Dense(3, name="digit")(body),
                                     layers.Dense(1, activation="sigmoid", name="parity")(body)])
    with pytest.raises(DataError, match=r"2 outputs \(digit, parity\).*--output"):
        fit(model, data(CLASSES, 3), None, epochs=1, learning_rate=1e-3, seed=0)
    x = data(REAL).array
    alone = one_output(model, "parity")
    np.testing.assert_allclose(predict(alone, x), model.predict(x, verbose=0)[1], rtol=1e-5)
    with pytest.raises(SpecError, match="digit"):
        one_output(model, "digits")


@pytest.mark.slow
def test_a_recurrent_layer_is_left_out_of_qat() -> None:
    from qinspect.tflite import read_graph
    from qinspect.tflite.network import graph_layers
    from qinspect.tflite.run import evaluate
    from qinspect.train.keras import tf_keras

    reset(0)
    layers = tf_keras().layers
    lstm = [layers.Input((8, 8)), layers.LSTM(6, name="lstm")]
    model = tf_keras().Sequential([
        *lstm, layers.Dense(16, activation="relu"), layers.Dense(3, activation="softmax"),
    ])
    train = data(CLASSES, 3)
    train = replace(train, x=np.random.default_rng(0).random((60, 8, 8), dtype=np.float32))
    with pytest.raises(TrainError, match=r"'lstm' \(LSTM\).*--skip-layers lstm"):
        quantize_aware(model)
    # An operator with several weights, which float16 files bring in behind DEQUANTIZE.
    named = [[layer.name for layer in graph_layers(read_graph(convert(model, recipe)))[0]]
             for recipe in ("float32", "float16")]
    assert named[0] == named[1]
    assert any(name.endswith("[1]") for name in named[0])
    qat = quantize_aware(model, skip_layers=("lstm",))
    fit_qat(qat, train, None, epochs=1, learning_rate=1e-3, seed=0)
    with pytest.warns(UserWarning, match="only 1 came out in integers"):
        content = convert_qat(qat)
    for made in (content, convert(model, "int8", train), convert(model, "float32")):
        outputs = evaluate(made, train.array).outputs
        assert outputs.shape == (60, 3)
    np.testing.assert_allclose(outputs, predict(model, train.array), atol=1e-4)
    alone = quantize_aware(tf_keras().Sequential([*lstm, layers.Dense(3)]), skip_layers=("lstm",))
    with pytest.raises(TrainError, match="skip fewer layers, or stay with"):
        convert_qat(alone)
