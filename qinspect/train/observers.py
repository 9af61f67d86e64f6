"""The ranges that tfmot's fake quantization uses: where they are kept, and a log of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from qinspect.schema import OBSERVERS
from qinspect.train.layers import is_wrapped

# Optimizer steps logged besides the end of each epoch, while the start values fade.
_EARLY_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


@dataclass(frozen=True)
class Observer:
    """One fake-quantized tensor.

    Attributes
    ----------
    layer : str
        Name of the layer, without tfmot's prefix.
    tensor : str
        ``kernel`` and the like, or ``input``, ``pre_activation``, ``post_activation``,
        ``output``.
    kind : {"weight", "activation"}
    variables : dict
        ``min_var`` and ``max_var``, TensorFlow variables.
    """

    layer: str
    tensor: str
    kind: str
    variables: dict[str, Any]

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest end; of all channels, where there is one range for each."""
        low = np.asarray(self.variables["min_var"])
        high = np.asarray(self.variables["max_var"])
        return float(low.min()), float(high.max())


def observers(model: Any) -> list[Observer]:
    """All fake-quantized tensors of a QAT model, in the order they are computed.

    Notes
    -----
    tfmot has no public way to ask for these; the attributes read here are those of
    ``QuantizeWrapper`` and ``QuantizeLayer`` in tfmot 0.8.
    """
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
