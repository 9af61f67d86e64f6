"""check_model: its answer is tfmot's, but says which layer and what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from parts import need_package
from train_models import SHAPE

from qinspect.errors import TrainError
from qinspect.train import (
    build_model,
    check_model,
    layers_not_taken,
    predict,
    quantize_aware,
    reset,
    to_tf_keras,
)

need_package("tensorflow_model_optimization")

# Bodies between an 8x8x1 image and a dense softmax layer; True where tfmot takes them.
BODIES: dict[str, tuple[Callable[[Any, Any], Any], bool]] = {
    "conv relu": (lambda k, x: k.Conv2D(4, 3, activation="relu")(x), True),
    "conv bn": (lambda k, x: k.BatchNormalization()(k.Conv2D(4, 3)(x)), True),
    "depthwise bn relu6": (
        lambda k, x: k.ReLU(6.0)(k.BatchNormalization()(k.DepthwiseConv2D(3)(x))), True),
    "separable": (lambda k, x: k.SeparableConv2D(4, 3)(x), True),
    "separable bn": (lambda k, x: k.BatchNormalization()(k.SeparableConv2D(4, 3)(x)), True),
    "separable 1d": (lambda k, x: k.SeparableConv1D(4, 3)(k.Reshape((8, 8))(x)), False),
    "dense bn": (lambda k, x: k.BatchNormalization()(k.Dense(4)(k.Flatten()(x))), True),
    "conv reshape bn": (
        lambda k, x: k.BatchNormalization()(k.Reshape((36, 4))(k.Conv2D(4, 3)(x))), False),
    "transpose": (lambda k, x: k.Conv2DTranspose(4, 3)(x), True),
    "pool": (lambda k, x: k.MaxPooling2D()(k.AveragePooling2D()(x)), True),
    "dropout": (lambda k, x: k.SpatialDropout2D(0.1)(k.Dropout(0.1)(x)), True),
    "leaky": (lambda k, x: k.LeakyReLU()(x), True),
    "activation relu6": (lambda k, x: k.Activation("relu6")(x), True),
    "concatenate": (lambda k, x: k.Concatenate()([k.Conv2D(2, 1)(x), k.Conv2D(2, 1)(x)]), True),
    "conv relu6": (lambda k, x: k.Conv2D(4, 3, activation="relu6")(x), False),
    "conv elu": (lambda k, x: k.Conv2D(4, 3, activation="elu")(x), False),
    "elu": (lambda k, x: k.ELU()(x), False),
    "bn first": (lambda k, x: k.BatchNormalization()(x), False),
    "conv relu bn": (
        lambda k, x: k.BatchNormalization()(k.Conv2D(4, 3, activation="relu")(x)), False),
    "rescaling": (lambda k, x: k.Rescaling(1 / 255)(x), False),
    "normalization": (lambda k, x: k.Normalization(mean=0.0, variance=1.0)(x), False),
    "flip": (lambda k, x: k.RandomFlip()(x), False),
    "multiply": (lambda k, x: k.Multiply()([x, x]), False),
    "maximum": (lambda k, x: k.Maximum()([x, k.ReLU()(x)]), False),
    "operator": (lambda k, x: x * 2.0 + 1.0, False),
    "noise": (lambda k, x: k.GaussianNoise(0.1)(x), False),
    "layer norm": (lambda k, x: k.LayerNormalization()(x), False),
    "conv1d": (lambda k, x: k.Conv1D(4, 3)(k.Reshape((8, 8))(x)), False),
}


def make(body: Callable[[Any, Any], Any]) -> Any:
    from qinspect.train.keras import tf_keras

    reset(0)
    keras = tf_keras()
    image = keras.Input(SHAPE)
    x = keras.layers.Flatten()(body(keras.layers, image))
    return keras.Model(image, keras.layers.Dense(3, activation="softmax")(x))


@pytest.mark.parametrize("name", BODIES)
def test_the_answer_is_that_of_tfmot(name: str) -> None:
    from qinspect.train.keras import tfmot

    body, supported = BODIES[name]
    model = make(body)
    try:
        tfmot().quantization.keras.quantize_model(model)
        accepted = True
    except (ValueError, RuntimeError, TypeError, AttributeError, KeyError):
        accepted = False
    assert accepted == supported, "tfmot has changed"
    if supported:
        check_model(model)
    else:
        with pytest.raises(TrainError, match="layer '"):
            check_model(model)
        with pytest.raises(TrainError):
            quantize_aware(model)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (BODIES["rescaling"][0], "'rescaling'.*apply the same to the data"),
        (BODIES["operator"][0], "TFOpLambda.*replace it by a Keras layer"),
        (BODIES["elu"][0], "'elu' .*skip_layers=\\('elu',\\)"),
        (BODIES["conv relu6"][0], "'relu6'.*separate ReLU\\(6.0\\) layer"),
        (BODIES["bn first"][0], "'batch_normalization'.*behind 'input_1'"),
    ],
)
def test_the_error_names_the_layer_and_the_way_out(body: Any, words: str) -> None:
    with pytest.raises(TrainError, match=words):
        check_model(make(body))


def test_the_way_out_works() -> None:
    model = make(BODIES["elu"][0])
    assert layers_not_taken(model) == ("elu",)
    check_model(model, skip_layers=("elu",))
    assert predict(quantize_aware(model, skip_layers=("elu",)), np.zeros((1, *SHAPE))).shape == (
        1,
        3,
    )


def test_models_of_other_kinds_are_refused() -> None:
    from qinspect.train.keras import tf_keras

    keras = tf_keras()

    class Own(keras.Model):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x

    with pytest.raises(TrainError, match=r"\(Own\) is a subclassed model.*Functional"):
        check_model(Own(name="own"))
    with pytest.raises(TrainError, match="a str was given"):
        check_model("model.h5")
    with pytest.raises(TrainError, match="no fixed input shape"):
        check_model(keras.Sequential([keras.layers.Dense(3)]))
    part = build_model("mlp", SHAPE, 3)
    with pytest.raises(TrainError, match=r"layer 'mlp' .*is a model inside the model"):
        check_model(keras.Sequential([part]))


# --- Keras 3 ---------------------------------------------------------------------------------


def keras3_model() -> Any:
    """Every setting away from its default, so that a lost one shows in the outputs."""
    from qinspect.train.keras import tensorflow

    tensorflow()
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(1)
    image = keras.Input(SHAPE, name="image")
    x = layers.Conv2D(8, (3, 2), strides=2, padding="same", use_bias=False, name="conv")(image)
    x = layers.BatchNormalization(epsilon=0.1, name="bn")(x)
    x = layers.ReLU(max_value=1.5, name="relu")(x)
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.Add(name="add")([x, y])
    x = layers.LeakyReLU(negative_slope=0.2, name="leaky")(x)
    x = layers.Dropout(0.5, name="dropout")(layers.AveragePooling2D(2, name="pool")(x))
    x = layers.Dense(9, activation="relu", kernel_regularizer="l2", name="dense")(
        layers.Flatten(name="flatten")(x)
    )
    model = keras.Model(image, layers.Dense(3, activation="softmax", name="out")(x), name="three")
    rng = np.random.default_rng(0)
    # No two weights alike: a swapped pair shows, too.
    model.set_weights([rng.uniform(0.1, 1.0, w.shape) * 0.7 for w in model.get_weights()])
    return model


def test_keras3_is_refused_for_qat_and_converted_exactly() -> None:
    model = keras3_model()
    for call in (check_model, quantize_aware):
        with pytest.raises(TrainError, match=r"'three' is a Keras 3 model.*to_tf_keras"):
            call(model)
    rebuilt = to_tf_keras(model)
    assert [layer.name for layer in rebuilt.layers] == [layer.name for layer in model.layers]
    x = np.random.default_rng(2).random((20, *SHAPE)).astype(np.float32)
    np.testing.assert_allclose(predict(rebuilt, x), model.predict(x, verbose=0), atol=1e-5)
    quantize_aware(rebuilt)


def test_keras3_sequential_is_converted_and_the_rest_refused() -> None:
    from qinspect.train.keras import tensorflow

    tensorflow()
    import keras

    layers = keras.layers
    simple = keras.Sequential(
        [keras.Input(SHAPE), layers.Flatten(), layers.Dense(2)], name="simple"
    )
    assert to_tf_keras(simple).output_shape == (None, 2)
    for layer, words in (
        (layers.RMSNormalization(name="rms"), "'rms' .*no counterpart"),
        (layers.Lambda(lambda x: x, name="code"), "'code' .*no counterpart"),
    ):
        with pytest.raises(TrainError, match=words):
            to_tf_keras(keras.Sequential([keras.Input((4,)), layer]))
    with pytest.raises(TrainError, match="cannot be rebuilt"):
        to_tf_keras(keras.Sequential([layers.Dense(2)]))
    with pytest.raises(TrainError, match="must be a Keras 3 model"):
        to_tf_keras(build_model("mlp", SHAPE, 2))
