"""Post-training quantization: a float Keras model to a ``.tflite`` file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from qinspect.errors import TrainError
from qinspect.schema import Array
from qinspect.train.keras import tensorflow
from qinspect.train.names import Recipe, find_recipe
from qinspect.train.produced import weighted_operators
from qinspect.train.quiet import quiet
from qinspect.train.training import check_examples


def convert(model: Any, recipe: str | Recipe, calibration_x: Array | None = None) -> bytes:
    """Convert a float Keras model by a recipe.

    Parameters
    ----------
    model : tf_keras.Model
    recipe : str or Recipe
        A name in ``qinspect.train.names.PTQ_RECIPES``, or a recipe of your own.
    calibration_x : ndarray or None, shape (n, ...)
        Representative examples in the units of the model's input, all of which are shown to the
        converter one by one; choosing them (``recipe.calibration_size`` and so on) is the
        caller's part.

    Returns
    -------
    bytes
        The content of the ``.tflite`` file.  Its batch size can be changed by
        ``resize_tensor_input``.

    Raises
    ------
    SpecError
        If the recipe is unknown.
    TrainError
        If the recipe needs calibration examples and got none, or the converter fails.
    DataError
        If the examples do not fit the model.
    """
    recipe = find_recipe(recipe)
    tf = tensorflow()
    converter = make_converter(model)
    if recipe.weights != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if recipe.weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if recipe.activations != "float32":
        converter.target_spec.supported_ops = [_operators(tf, recipe.activations)]
    if recipe.needs_calibration:
        if calibration_x is None:
            raise TrainError(
                f"recipe {recipe.name!r} needs calibration examples to find activation ranges; "
                "pass calibration_x."
            )
        check_examples(model, calibration_x, "calibration_x")
        converter.representative_dataset = lambda: one_by_one(calibration_x)
    converter.inference_input_type = getattr(tf, recipe.io)
    converter.inference_output_type = getattr(tf, recipe.io)
    if not recipe.per_channel:
        # Private switches of the converter; what they did is checked on the file.
        converter._experimental_disable_per_channel = True
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    content = run_converter(converter, f"model {model.name!r} by recipe {recipe.name!r}")
    if not recipe.per_channel:
        _check_per_tensor(content)
    return content


def make_converter(model: Any) -> Any:
    """A TFLite converter of a Keras model in inference mode, with default settings.

    Notes
    -----
    ``TFLiteConverter.from_keras_model`` saves the model with all its layers, each of which is
    traced several times; a module that holds nothing but the one function and its variables gives
    the same network, names and signature in about a fifth of the time.
    """
    tf = tensorflow()
    spec = tf.TensorSpec(model.inputs[0].shape, model.inputs[0].dtype, name=model.input_names[0])

    @tf.function(input_signature=[spec])
    def serve(x: Any) -> dict[str, Any]:
        return {model.output_names[0]: model(x, training=False)}

    with quiet():
        function = serve.get_concrete_function()
        module = tf.Module()
        module.kept = list(model.weights)
        return tf.lite.TFLiteConverter.from_concrete_functions([function], module)


def run_converter(converter: Any, what: str) -> bytes:
    """Run a TFLite converter without its chatter.

    Raises
    ------
    TrainError
        If it fails, with the last line it gave as the reason.
    """
    try:
        with quiet():
            content = converter.convert()
    # The converter raises its own ConverterError, but also ValueError, RuntimeError and others.
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0][:300] if lines else type(error).__name__
        raise TrainError(f"the TFLite converter cannot convert {what}: {reason}") from error
    return bytes(content)


def one_by_one(x: Array) -> Iterator[list[Array]]:
    """Examples as the converter takes a representative data set: batches of one."""
    for example in np.asarray(x, dtype=np.float32):
        yield [example[np.newaxis]]


def _operators(tf: Any, activations: str) -> Any:
    """The only operators allowed, so that nothing is left in float unnoticed."""
    sets = tf.lite.OpsSet
    if activations == "int8":
        return sets.TFLITE_BUILTINS_INT8
    return sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8


def _check_per_tensor(content: bytes) -> None:
    for operator in weighted_operators(content):
        if operator.scales != 1:
            raise TrainError(
                f"the converter gave {operator.weights!r} {operator.scales} scales although one "
                "was asked for; this version of TensorFlow ignores the switch for per-tensor "
                "weights."
            )
