"""Post-training quantization that leaves chosen layers in float."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from qinspect.errors import SpecError, TrainError
from qinspect.quiet import quiet
from qinspect.schema import Array
from qinspect.train.check import check_is_keras2
from qinspect.train.files import weighted_operators
from qinspect.train.keras import tensorflow
from qinspect.train.recipes import Recipe, find_recipe
from qinspect.train.training import check_examples
from qinspect.train.wrapped import WEIGHTED


def keep_in_float(model: Any, layers: Sequence[str], x: Array) -> bytes:
    """Quantize a float model to int8 after training, except for some layers.

    Parameters
    ----------
    model : tf_keras.Model
        Float model; it is not changed.
    layers : sequence of str
        Names of convolutions and dense layers to leave in float, at least one and not all.
    x : ndarray, shape (n, ...)
        Calibration examples in the units of the model's input.

    Returns
    -------
    bytes
        The content of a ``.tflite`` file in which these layers compute in float.

    Raises
    ------
    SpecError
        If there are no names, a name is not a layer with weights, or no layer would be left.
    DataError
        If the examples do not fit the model.
    TrainError
        If the converter fails, or left other layers in float than these.

    Notes
    -----
    The converter takes such a list only through its quantization debugger
    (``tf.lite.experimental.QuantizationDebugger``, ``denylisted_nodes``), which is used here.
    ``quantize_aware(model, skip_layers=...)`` is no substitute: it leaves out a layer's fake
    quantization in training, but the converter still quantizes one whose input and output are
    quantized (measured).  Of a float ``.tflite`` file, ``qinspect sensitivity`` makes such files
    without TensorFlow.
    """
    names = (layers,) if isinstance(layers, str) else tuple(layers)
    check_is_keras2(model)
    weighted = [layer.name for layer in model.layers if type(layer).__name__ in WEIGHTED]
    strange = [name for name in names if name not in weighted]
    if not names or strange or set(names) >= set(weighted):
        given = f"unknown to it is {strange[0]!r}" if strange else f"{len(set(names))} were given"
        raise SpecError(
            f"layers to keep in float must be some, not all, of {', '.join(weighted)}; {given}."
        )
    check_examples(model, x, "the calibration set")
    plain = weighted_operators(convert(model, "float32"))
    kept = [any(_is_of(operator.names, name) for name in names) for operator in plain]
    lite = tensorflow().lite
    converter = make_converter(model)
    converter.optimizations = [lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: one_by_one(x)
    options = lite.experimental.QuantizationDebugOptions(
        denylisted_nodes=[op.output for op, keep in zip(plain, kept, strict=True) if keep]
    )
    try:
        with quiet():
            debugger = lite.experimental.QuantizationDebugger(
                converter=converter, debug_dataset=lambda: one_by_one(x), debug_options=options
            )
            content = bytes(debugger.get_nondebug_quantized_model())
    # The converter raises its own ConverterError, but also ValueError, RuntimeError and others.
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise TrainError(f"the converter cannot quantize {model.name!r}: {reason}") from error
    if [not operator.is_integer for operator in weighted_operators(content)] != kept:
        raise TrainError(
            f"the converter left other layers of {model.name!r} in float than {', '.join(names)}; "
            "this version of TensorFlow names its operators in another way."
        )
    return content


def _is_of(names: str, layer: str) -> bool:
    """Whether an operator, of several names joined by semicolons, was made from a layer."""
    return any(f"/{layer}/" in f"/{part}/" for part in names.split(";"))


# --- a float Keras model to a ``.tflite`` file --------------------------------------------------


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
