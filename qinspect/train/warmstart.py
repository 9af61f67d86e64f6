"""Set the ranges of a QAT model from data, instead of tfmot's start values of -6 and 6."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from qinspect.errors import SpecError, TrainError
from qinspect.schema import Array
from qinspect.train.keras import tensorflow
from qinspect.train.layers import is_quantized, is_wrapped
from qinspect.train.training import check_examples

# A tensor that never leaves zero keeps its range: a range of width zero cannot be quantized to.
_NARROWEST = 1e-8


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
    for recorder in recorders:
        recorder.store(percentile)
    for layer in qat_model.layers:
        if is_wrapped(layer):
            for weight, quantizer, variables in layer._weight_vars:
                quantizer(weight, True, weights=variables)


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

    def store(self, percentile: float) -> None:
        for variables, lows, highs in self._seen.values():
            low = min(0.0, float(np.percentile(np.concatenate(lows), 100 - percentile)))
            high = max(0.0, float(np.percentile(np.concatenate(highs), percentile)))
            if high - low > _NARROWEST:
                variables["min_var"].assign(low)
                variables["max_var"].assign(high)


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
                ])  # fmt: skip
                for activation in layer._quantize_activations:
                    swap(activation, "quantizer", recorder())
                if layer._output_quantizers:
                    swap(layer, "_output_quantizers", [recorder()])
            elif getattr(layer, "quantizer", None) is not None:
                swap(layer, "quantizer", recorder())
        yield recorders
