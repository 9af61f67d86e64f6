"""Writes one small network in every format into a folder: ``python converted.py FOLDER``.

Run as a script in a process of its own, because TensorFlow stays in the one that imports it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

RECIPES = (
    "float32",
    "float16",
    "dynamic_range",
    "int8",
    "uint8_io",
    "int16x8",
    "int8_per_tensor",
)


def main(folder: Path) -> None:
    import numpy as np
    import tensorflow as tf
    import tensorflow_model_optimization as tfmot
    import tf_keras as keras
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, y = (digits.images / 16).astype("float32")[:600, ..., None], digits.target[:600]
    layers = keras.layers

    def build(seed: int):
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed)
        inputs = layers.Input((8, 8, 1))
        h = layers.Conv2D(16, 3, padding="same", use_bias=False, name="stem")(inputs)
        h = layers.BatchNormalization(momentum=0.9, name="stem_bn")(h)
        skip = h = layers.ReLU(name="stem_relu")(h)
        h = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="dw")(h)
        h = layers.BatchNormalization(momentum=0.9, name="dw_bn")(h)
        h = layers.ReLU(6.0, name="dw_relu")(h)
        h = layers.Conv2D(16, 1, name="pw")(h)
        h = layers.BatchNormalization(momentum=0.9, name="pw_bn")(h)
        h = layers.ReLU(name="add_relu")(layers.Add(name="add")([skip, h]))
        h = layers.MaxPooling2D(name="pool")(h)
        h = layers.Conv2D(24, 3, activation="relu", name="conv3")(h)
        h = layers.Flatten(name="flat")(h)
        h = layers.Dense(16, activation="relu", name="fc1")(h)
        return keras.Model(inputs, layers.Dense(10, activation="softmax", name="fc2")(h))

    def train(model, rate: float = 1e-3, epochs: int = 2):
        model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
        model.fit(x, y, epochs=epochs, batch_size=32, verbose=0)
        return model

    def convert(model, recipe: str, name: str = "") -> None:
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if recipe != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if recipe == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if "int" in recipe:
            converter.representative_dataset = lambda: ([one[None]] for one in x[:64])
            ops = tf.lite.OpsSet
            converter.target_spec.supported_ops = [
                ops.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
                if recipe == "int16x8"
                else ops.TFLITE_BUILTINS_INT8
            ]
            converter._experimental_disable_per_channel = recipe == "int8_per_tensor"
        if recipe.endswith("_io"):
            converter.inference_input_type = converter.inference_output_type = tf.uint8
        (folder / f"{name or recipe}.tflite").write_bytes(converter.convert())

    net = train(build(0))
    net.save(folder / "net.h5")
    net.save(folder / "net.keras")
    for recipe in RECIPES:
        convert(net, recipe)

    # Batch-norm statistics drift, no weight touched.
    drifted = keras.models.load_model(folder / "net.h5")
    rng = np.random.default_rng(0)
    for layer in drifted.layers:
        if isinstance(layer, layers.BatchNormalization):
            spread = rng.uniform(0.5, 2, layer.moving_variance.shape)
            layer.moving_variance.assign(layer.moving_variance * spread)
            layer.moving_mean.assign(layer.moving_mean + rng.normal(0, 0.1, spread.shape))
    convert(drifted, "int8", "drifted_int8")
    tuned = train(keras.models.load_model(folder / "net.h5"), 1e-4, 1)
    convert(tuned, "int8", "tuned_int8")
    convert(build(7), "int8", "stranger_int8")

    quantized = tfmot.quantization.keras.quantize_model(net)
    convert(quantized, "qat", "qat_untrained")
    train(quantized, 1e-4, 1)
    quantized.save(folder / "qat.h5")
    convert(quantized, "qat")
    convert(quantized, "float32", "qat_float")
    annotate = tfmot.quantization.keras.quantize_annotate_layer
    partly = keras.models.clone_model(
        net, clone_function=lambda one: annotate(one) if one.name in ("conv3", "fc1") else one
    )
    partly = train(tfmot.quantization.keras.quantize_apply(partly), 1e-4, 1)
    partly.save(folder / "qat_part.h5")
    convert(partly, "qat", "qat_part")

    small = keras.Sequential([layers.Input((8,)), layers.Dense(8, name="tiny")])
    convert(small, "dynamic_range", "dynamic_range_tiny")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
