"""Post-training quantization that leaves chosen layers in float."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qinspect.errors import SpecError, TrainError
from qinspect.schema import Array
from qinspect.train.check import check_is_keras2
from qinspect.train.conversion import convert, make_converter, one_by_one
from qinspect.train.keras import tensorflow
from qinspect.train.layers import WEIGHTED
from qinspect.train.produced import weighted_operators
from qinspect.train.quiet import quiet
from qinspect.train.training import check_examples


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
