"""The ranges that tfmot's fake quantization uses: read, logged, and set from data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from qinspect.errors import SpecError, TrainError
from qinspect.schema import OBSERVERS, Array
from qinspect.train.keras import is_quantized, is_wrapped, tensorflow
from qinspect.train.training import check_examples

# Optimizer steps logged besides the end of each epoch, while the start values fade.
_EARLY_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
# A tensor that never leaves zero keeps its range: a range of width zero cannot be quantized to.
_NARROWEST = 1e-8


@dataclass(frozen=True)
class Observer:
    """One fake-quantized tensor of a layer, named without tfmot's prefix."""

    layer: str
    tensor: str  # ``kernel`` and the like, ``input``, ``pre_`` or ``post_activation``, ``output``
    kind: str  # ``weight`` or ``activation``
    variables: dict[str, Any]  # ``min_var`` and ``max_var``, TensorFlow variables

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest end; of all channels, where there is one range for each."""
        low = np.asarray(self.variables["min_var"])
        high = np.asarray(self.variables["max_var"])
        return float(low.min()), float(high.max())


def observers(model: Any) -> list[Observer]:
    """All fake-quantized tensors of a QAT model, in the order they are computed."""
    # tfmot has no public way to ask for these; the attributes read below are those of
    # ``QuantizeWrapper`` and ``QuantizeLayer`` in tfmot 0.8.
    return [observer for layer in model.layers for observer in _of_layer(layer)]


def _of_layer(layer: Any) -> Iterator[Observer]:
    if not is_wrapped(layer):
        # tfmot's QuantizeLayer stands behind the model's input.
        if getattr(layer, "quantizer", None) is not None and layer.quantizer_vars:
            yield Observer(layer.name, "input", "activation", layer.quantizer_vars)
        return
    name = layer.layer.name
    for weight, _, variables in layer._weight_vars:
        if variables:
            tensor = weight.name.split(":")[0].split("/")[-1]
            yield Observer(name, tensor, "weight", variables)
    for activation in layer._quantize_activations:
        for tensor in ("pre_activation", "post_activation"):
            variables = getattr(activation, f"_{tensor}_vars", None)
            if variables:
                yield Observer(name, tensor, "activation", variables)
    if layer._output_quantizers and layer._output_quantizer_vars:
        yield Observer(name, "output", "activation", layer._output_quantizer_vars)


class ObserverLog:
    """Records ranges at step 0, at a few early steps and after each epoch."""

    def __init__(self, model: Any) -> None:
        self._observers = observers(model)
        self._rows: list[tuple[int, str, str, str, float, float]] = []
        self._step = 0
        self._last = -1
        self.record()

    def record(self) -> None:
        """Add the current ranges, once a step."""
        if self._step == self._last:
            return
        self._last = self._step
        self._rows += [
            (self._step, seen.layer, seen.tensor, seen.kind, *seen.range)
            for seen in self._observers
        ]

    def after_step(self) -> None:
        """Count an optimizer step."""
        self._step += 1
        if self._step in _EARLY_STEPS:
            self.record()

    def frame(self) -> pd.DataFrame:
        """``schema.OBSERVERS``: one row a range and logged step."""
        return pd.DataFrame(self._rows, columns=list(OBSERVERS))


def warm_start_observers(
    qat_model: Any, x: Array, batch_size: int = 256, *, percentile: float = 100.0
) -> None:
    """Set activation ranges from a calibration pass and weight ranges from the weights, in place.

    Parameters
    ----------
    qat_model : tf_keras.Model
        From :func:`qinspect.train.quantize_aware`.
    x : ndarray, shape (n, ...)
        Calibration examples in the units of the model's input.
    batch_size : int
        Examples run at once; the result does not depend on it beyond float rounding.
    percentile : float
        Percentile, above 50 and up to 100, of the examples' largest values that an activation
        range ends at, and its mirror image for the smallest ones: 99 lets one example in a
        hundred be clipped at each end.  100 takes the extremes.

    Raises
    ------
    TrainError
        If the model is not a QAT model.
    SpecError
        If the percentile is out of range.
    DataError
        If the examples do not fit the model.

    Notes
    -----
    tfmot starts ranges at [-6, 6] (the input's at [0, 0]) and moves those of activations by a
    moving average with decay 0.999, so that after n steps a share 0.999^n of the start value is
    left.  Here the network runs once in inference mode with all fake quantization switched off, so
    no range is distorted by another one that is still wrong; each activation range becomes the
    smallest and largest value seen, widened to hold 0.  This is what the TFLite converter's
    calibration does, too.  Weight ranges are set by the layer's own quantizer, as the first
    training step would.
    """
    for variables, low, high in calibrated_ranges(qat_model, x, batch_size, percentile):
        variables["min_var"].assign(low)
        variables["max_var"].assign(high)
    for layer in qat_model.layers:
        if is_wrapped(layer):
            for weight, quantizer, variables in layer._weight_vars:
                quantizer(weight, True, weights=variables)


def calibrated_ranges(
    qat_model: Any, x: Array, batch_size: int = 256, percentile: float = 100.0
) -> list[tuple[dict[str, Any], float, float]]:
    """Variables of each activation's range, and the range that calibration would give it."""
    if not is_quantized(qat_model):
        raise TrainError(
            f"model {qat_model.name!r} has no quantized layers; call quantize_aware on it first."
        )
    if not 50 < percentile <= 100:
        raise SpecError(f"percentile is {percentile}; it must be above 50 and at most 100.")
    check_examples(qat_model, x, "the calibration set")
    with _recording(qat_model) as recorders:
        for start in range(0, len(x), batch_size):
            batch = np.asarray(x[start : start + batch_size], dtype=np.float32)
            # Called eagerly, so that the recorders see values and nothing is traced with them.
            qat_model(batch, training=False)
    return [found for recorder in recorders for found in recorder.ranges(percentile)]


class _Recorder:
    """Stands in for a quantizer: lets the tensor pass and remembers each example's extremes."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[dict[str, Any], list[Array], list[Array]]] = {}

    def __call__(self, inputs: Any, training: bool, weights: Any, **_: Any) -> Any:
        if weights:
            _, lows, highs = self._seen.setdefault(id(weights["min_var"]), (weights, [], []))
            values = np.asarray(inputs).reshape(len(inputs), -1)
            lows.append(values.min(axis=1))
            highs.append(values.max(axis=1))
        return inputs

    def ranges(self, percentile: float) -> Iterator[tuple[dict[str, Any], float, float]]:
        for variables, lows, highs in self._seen.values():
            low = min(0.0, float(np.percentile(np.concatenate(lows), 100 - percentile)))
            high = max(0.0, float(np.percentile(np.concatenate(highs), percentile)))
            if high - low > _NARROWEST:
                yield variables, low, high


class _PassThrough:
    """Stands in for a weight's quantizer."""

    def __call__(self, inputs: Any, training: bool, weights: Any, **_: Any) -> Any:
        return tensorflow().identity(inputs)


@contextmanager
def _recording(model: Any) -> Iterator[list[_Recorder]]:
    """Swap every quantizer for a recorder, and put them back whatever happens."""
    recorders: list[_Recorder] = []

    def recorder() -> _Recorder:
        recorders.append(_Recorder())
        return recorders[-1]

    with ExitStack() as stack:

        def swap(owner: Any, name: str, value: Any) -> None:
            before = getattr(owner, name)
            # Past Keras' own __setattr__, which would start to track what is put there.
            object.__setattr__(owner, name, value)
            stack.callback(object.__setattr__, owner, name, before)

        for layer in model.layers:
            if is_wrapped(layer):
                swap(layer, "_weight_vars", [
                    (weight, _PassThrough(), variables)
                    for weight, _, variables in layer._weight_vars
                ])
                for activation in layer._quantize_activations:
                    swap(activation, "quantizer", recorder())
                if layer._output_quantizers:
                    swap(layer, "_output_quantizers", [recorder()])
            elif getattr(layer, "quantizer", None) is not None:
                swap(layer, "quantizer", recorder())
        yield recorders
