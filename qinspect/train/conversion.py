"""Keras models to ``.tflite`` files: by a PTQ recipe, from QAT, and with layers left in float."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from qinspect.errors import SpecError, TrainError
from qinspect.progress import Progress, late_progress
from qinspect.quiet import quiet
from qinspect.schema import Array
from qinspect.tflite import read_graph
from qinspect.tflite.constants import INTEGER_KINDS, Weight, weights_of
from qinspect.tflite.inputs import Examples, load_examples
from qinspect.train.check import check_is_keras2
from qinspect.train.files import model_of
from qinspect.train.keras import RECURRENT, WEIGHTED, inner, is_quantized, is_wrapped, tensorflow
from qinspect.train.per_channel import one_range_each, store_channel_scales
from qinspect.train.recipes import Recipe, find_recipe
from qinspect.train.training import check_examples

# Operators that layers with weights become.
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


def convert(
    model: Any, recipe: str | Recipe = "int8", calibration: Examples | None = None, *,
    progress: Progress | None = None,
) -> bytes:
    """Convert a Keras model to a ``.tflite`` file by a recipe.

    Parameters
    ----------
    model : tf_keras.Model or path
        A model, or its ``.h5`` or ``.keras`` file.  One with fake quantization in it has its
        ranges and needs no calibration: :func:`convert_qat`.
    recipe : str or Recipe
        A name in ``qinspect.train.PTQ_RECIPES``, or a recipe of your own.
    calibration : path of an .npz, Dataset or ndarray of shape (n, ...), optional
        Representative examples in the units of the model's input, all of which are shown to the
        converter one by one; choosing them is the caller's part.
    progress : callable, optional
        ``progress(phase, done, total, message)``; a terminal or notebook shows it unless given.

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

    Examples
    --------
    >>> from qinspect.train import build_model
    >>> x = np.random.default_rng(0).random((20, 8, 8, 1), dtype=np.float32)
    >>> content = convert(build_model("mlp", (8, 8, 1), 10), "int8", x)
    >>> [weight.kind for weight, _ in converted_weights(content)]
    ['int8', 'int8', 'int8']
    """
    recipe, show = find_recipe(recipe), progress or late_progress()
    show("convert", 0, 1, "loading TensorFlow and the model")
    model = model_of(model)
    check_is_keras2(model)
    x = None if calibration is None else load_examples(calibration).array
    if recipe.name == "int8" and x is None and is_quantized(model):
        return convert_qat(model)
    tf = tensorflow()
    converter = make_converter(model)
    if recipe.weights != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if recipe.weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if recipe.activations != "float32":
        converter.target_spec.supported_ops = [_operators(tf, recipe.activations)]
    if recipe.needs_calibration:
        if x is None:
            raise TrainError(f"recipe {recipe.name!r} needs calibration examples to find "
                             "activation ranges; pass calibration.")
        check_examples(model, x, "the calibration set")
        converter.representative_dataset = lambda: _counted(x, show)
    converter.inference_input_type = getattr(tf, recipe.io)
    converter.inference_output_type = getattr(tf, recipe.io)
    if not recipe.per_channel:
        # Private switches of the converter; what they did is checked on the file.
        converter._experimental_disable_per_channel = True
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    content = run_converter(converter, f"model {model.name!r} by recipe {recipe.name!r}")
    if not recipe.per_channel:
        _check_per_tensor(content)
    show("convert", 1, 1, f"{len(content):,} bytes")
    return content


def _counted(x: Array, show: Progress) -> Iterator[list[Array]]:
    """The same as :func:`one_by_one`, told as it is taken."""
    for done, example in enumerate(one_by_one(x)):
        show("convert", done, len(x), f"calibrating, example {done + 1} of {len(x)}")
        yield example


def convert_qat(qat_model: Any) -> bytes:
    """Convert a QAT model to an int8 ``.tflite`` file with float input and output.

    Parameters
    ----------
    qat_model : tf_keras.Model
        From :func:`quantize_aware`, trained or warm-started.

    Returns
    -------
    bytes
        The content of the file.  The ranges in it are those of the model; no calibration.

    Raises
    ------
    TrainError
        If the model is not a QAT model, the converter fails, or no layer came out in integers.

    Warns
    -----
    UserWarning
        If some layers that tfmot wrapped came out in float; with TensorFlow 2.21 a
        transposed convolution with ReLU does.
    """
    if not is_quantized(qat_model):
        raise TrainError(
            f"model {qat_model.name!r} has no quantized layers, so it would be converted to "
            "something else than asked for; use convert with a recipe."
        )
    with one_range_each(qat_model):
        converter = make_converter(qat_model)
        converter.optimizations = [tensorflow().lite.Optimize.DEFAULT]
        content = run_converter(converter, f"QAT model {qat_model.name!r}")
    content = store_channel_scales(qat_model, content)
    _check_integers(qat_model, content)
    return content


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
    plain = converted_weights(convert(model, "float32"))
    kept = [any(_is_of(found, output, name) for name in names) for found, output in plain]
    lite = tensorflow().lite
    converter = make_converter(model)
    converter.optimizations = [lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: one_by_one(x)
    options = lite.experimental.QuantizationDebugOptions(
        denylisted_nodes=[output for (_, output), keep in zip(plain, kept, strict=True) if keep]
    )

    def quantized() -> bytes:
        return bytes(lite.experimental.QuantizationDebugger(
            converter=converter, debug_dataset=lambda: one_by_one(x), debug_options=options
        ).get_nondebug_quantized_model())

    content = _without_chatter(quantized, f"model {model.name!r} with layers in float")
    if [weight.kind not in INTEGER_KINDS for weight, _ in converted_weights(content)] != kept:
        raise TrainError(
            f"the converter left other layers of {model.name!r} in float than {', '.join(names)}; "
            "this version of TensorFlow names its operators in another way."
        )
    return content


def _is_of(weight: Weight, output: str, layer: str) -> bool:
    """Whether an operator was made from a layer: its names hold those of several, by semicolons."""
    return any(f"/{layer}/" in f"/{part}/" for part in f"{weight.tensor.name};{output}".split(";"))


def converted_weights(content: bytes) -> list[tuple[Weight, str]]:
    """Weights of the convolutions and dense layers of a file, with their operators' outputs."""
    graph = read_graph(content).main
    return [(weight, graph.tensors[weight.operator.outputs[0]].name)
            for weight in weights_of(graph) if weight.operator.code in _WEIGHTED]


def make_converter(model: Any) -> Any:
    """A TFLite converter of a Keras model in inference mode, with default settings."""
    # ``TFLiteConverter.from_keras_model`` saves the model with all its layers, each of which is
    # traced several times; a module that holds nothing but the one function and its variables
    # gives the same network, names and signature in about a fifth of the time.
    tf = tensorflow()
    shape = model.inputs[0].shape
    if any(type(inner(layer)).__name__ in RECURRENT for layer in model.layers):
        # The converter fuses the loop over the sequence of a fixed batch only.
        shape = [1, *shape[1:]]
    spec = tf.TensorSpec(shape, model.inputs[0].dtype, name=model.input_names[0])

    @tf.function(input_signature=[spec])
    def serve(x: Any) -> dict[str, Any]:
        return {model.output_names[0]: model(x, training=False)}

    with quiet():
        function = serve.get_concrete_function()
        module = tf.Module()
        module.kept = list(model.weights)
        return tf.lite.TFLiteConverter.from_concrete_functions([function], module)


def run_converter(converter: Any, what: str) -> bytes:
    """Run a TFLite converter without its chatter."""
    return _without_chatter(converter.convert, what)


def _without_chatter(convert: Callable[[], bytes], what: str) -> bytes:
    try:
        with quiet():
            content = convert()
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
    for weight, _ in converted_weights(content):
        scales = weight.tensor.quantization.scale.size if weight.tensor.quantization else 0
        if scales != 1:
            raise TrainError(
                f"the converter gave {weight.tensor.name!r} {scales} scales although one was asked "
                "for; this version of TensorFlow ignores the switch for per-tensor weights."
            )


def _check_integers(qat_model: Any, content: bytes) -> None:
    wrapped = [layer for layer in qat_model.layers
               if is_wrapped(layer) and type(inner(layer)).__name__ in WEIGHTED]
    weights = [weight for weight, _ in converted_weights(content)]
    integer = sum(one.kind in INTEGER_KINDS for one in weights)
    if wrapped and integer == 0:
        raise TrainError(
            f"the file converted from QAT model {qat_model.name!r} has no integer layer although "
            f"{len(wrapped)} were quantized; one takes integers only behind a layer that was "
            "quantized, too, so skip fewer layers, or stay with post-training quantization."
        )
    if integer < len(wrapped):
        floats = ", ".join(repr(weight.tensor.name) for weight in weights
                           if weight.kind not in INTEGER_KINDS)
        warnings.warn(
            f"{len(wrapped)} layers of {qat_model.name!r} were quantized, but only {integer} came "
            f"out in integers; in float are {floats}.",
            stacklevel=3,
        )
