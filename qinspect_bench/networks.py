"""Float networks changed on purpose: the function stays (nearly) the same, quantizing it does not.

All edits are made in a Keras file, so that every file of a case can be made from the changed model.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from qinspect import store
from qinspect.errors import SpecError
from qinspect.schema import Array
from qinspect.train.keras import sources
from qinspect_bench.architectures import build

_WEIGHTED = ("Conv2D", "Conv1D", "DepthwiseConv2D", "Dense")
# Layers through which channels go one by one, and that scale with what they are given.
_THROUGH = ("BatchNormalization", "ReLU", "Activation", "MaxPooling2D", "AveragePooling2D",
            "GlobalAveragePooling2D", "GlobalAveragePooling1D", "ZeroPadding2D", "Dropout")


def edited(source: Path, folder: Path, name: str, edit: Callable[[Any], None]) -> Path:
    """A copy of a Keras file, changed by ``edit``; its name tells what it was made from."""
    from qinspect.train import load_keras, reset, save_keras

    target = folder / f"{name}-{source.stem}.h5"
    if not target.exists():
        reset(0)
        model = load_keras(source)
        edit(model)
        save_keras(model, target)
    return target


def unsettled(model: Any, share: float) -> None:
    """Batch-norm statistics of a moving average in which ``share`` of the start is left."""
    # Keras starts at mean 0 and variance 1.
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.moving_mean.assign((1 - share) * layer.moving_mean)
            layer.moving_variance.assign((1 - share) * layer.moving_variance + share)


def small_activations(model: Any, factor: float) -> None:
    """Every hidden activation multiplied by ``factor`` below 1, the output unchanged."""
    # Exact with ReLU; with ReLU6 up to values that were cut at 6.
    for layer in _weighted(model):
        if not _reads_input(layer):
            _scale_kernel(layer, 1 / factor)
        if not _gives_output(layer):
            _scale_output(layer, factor)


def wide_activation(model: Any, ratio: float, x: Array) -> None:
    """One channel behind the first layer ``ratio`` times as large as the others, and not used."""
    # The other channels are made smaller and what the next layer makes of them larger; the channel
    # that matters least on the examples keeps its size and is left out by the next layer.  The one
    # range of that activation is then set by a channel that tells nothing.
    first, second = _in_a_row(model)
    peaks = _peaks(model, second, x)
    # One that is hardly ever active would set no range.
    useless = _least_useful(model, second, x, np.flatnonzero(peaks >= np.median(peaks)))
    channels = _inputs(second)
    factors = np.full(channels, 1 / ratio)
    factors[useless] = 1.0
    _scale_output(first, factors)
    back = np.full(channels, ratio)
    back[useless] = 0.0
    _scale_kernel(second, back.reshape(-1, 1))


def wide_weights(model: Any, ratio: float, x: Array) -> None:
    """One channel of the first layer with weights ``ratio`` times as large, and never active."""
    # Its bias keeps it below zero, so that ReLU gives nothing, whatever the weights are.  One scale
    # for all channels is then set by weights that tell nothing.
    first, second = _in_a_row(model)
    dead = _least_useful(model, second, x, np.arange(_inputs(second)))
    norm = _norm_behind(first)
    factors = np.ones(_inputs(second))
    factors[dead] = ratio
    _scale_output(first, factors)
    owner, name = (first, "bias") if norm is None else (norm, "beta")
    offset = np.array(getattr(owner, name))
    # No input as large as those can lift the channel above zero.
    largest = float(np.abs(_values_into(model, first, x)).max())
    offset[dead] = -2 * _largest_sum(first, norm, dead, largest)
    getattr(owner, name).assign(offset)


def exported(qat: Path, source: Path, target: Path) -> Path:
    """The weights that QAT learned, put back into the plain float network."""
    from qinspect.train import load_keras, reset, save_keras

    if not target.exists():
        reset(0)
        wrapped = {layer.name: layer for layer in load_keras(qat).layers}
        model = load_keras(source)
        for layer in model.layers:
            learned = wrapped.get(f"quant_{layer.name}")
            if not layer.weights:
                continue
            if learned is None:
                # Left out of quantization-aware training, trained all the same.
                layer.set_weights(wrapped[layer.name].get_weights())
                continue
            values = {_plain_name(w.name): np.array(w) for w in learned.layer.weights}
            # tfmot keeps a quantized kernel beside the layer's other weights.
            values |= {_plain_name(w.name): np.array(w) for w, _, _ in learned._weight_vars}
            for weight in layer.weights:
                weight.assign(values[_plain_name(weight.name)])
        save_keras(model, target)
    return target


def first_layers(source: Path, *, whole: bool) -> tuple[str, ...]:
    """Names of all layers up to the second with weights in a row, or up to the last but one."""
    from qinspect.train import load_keras, reset

    reset(0)
    model = load_keras(source)
    last = _weighted(model)[-2] if whole else _in_a_row(model)[1]
    names = [layer.name for layer in model.layers if type(layer).__name__ != "InputLayer"]
    return tuple(names[: names.index(last.name) + 1])


def save_stranger(like: Path, target: Path, seed: int) -> Path:
    """An untrained network of the same architecture with other initial weights."""
    from qinspect.train import load_keras, reset, save_keras

    if not target.exists():
        store.prepare_folder(target.parent, ())
        reset(seed)
        model = load_keras(like)
        made = build(model.name, model.input_shape[1:], model.output_shape[-1], seed)
        save_keras(made, target)
    return target


def _weighted(model: Any) -> list[Any]:
    return [layer for layer in model.layers if type(layer).__name__ in _WEIGHTED]


def _kernel(layer: Any) -> Any:
    return layer.depthwise_kernel if type(layer).__name__ == "DepthwiseConv2D" else layer.kernel


def _inputs(layer: Any) -> int:
    """Channels that a layer takes; the last but one axis of every kind of kernel."""
    return int(_kernel(layer).shape[-2])


def _behind(layer: Any) -> list[Any]:
    """The layers that read what a layer gives."""
    return [node.layer for node in layer.outbound_nodes]


def _norm_behind(layer: Any) -> Any | None:
    behind = _behind(layer)
    return behind[0] if [type(one).__name__ for one in behind] == ["BatchNormalization"] else None


def _in_a_row(model: Any) -> tuple[Any, Any]:
    """The first weighted layer that a single one reads, channel by channel, and that one."""
    for first in _weighted(model):
        behind = _behind(first)
        while len(behind) == 1 and type(behind[0]).__name__ in _THROUGH:
            behind = _behind(behind[0])
        if len(behind) == 1 and type(behind[0]).__name__ in _WEIGHTED:
            return first, behind[0]
    raise SpecError(f"model {model.name!r} has no two weighted layers in a row; take another.")


def _reads_input(layer: Any) -> bool:
    """Whether the network's own input comes to a layer without a weighted one between."""
    return any(
        type(source).__name__ == "InputLayer"
        or (type(source).__name__ not in _WEIGHTED and _reads_input(source))
        for source in sources(layer)
    )


def _gives_output(layer: Any) -> bool:
    """Whether no weighted layer comes behind a layer."""
    return all(type(one).__name__ not in _WEIGHTED and _gives_output(one)
               for one in _behind(layer))


def _scale_kernel(layer: Any, factor: Array | float) -> None:
    _kernel(layer).assign(np.array(_kernel(layer)) * np.float32(factor))


def _scale_output(layer: Any, factor: Array | float) -> None:
    """Multiply what a layer, with its batch norm, puts out, channel by channel."""
    norm = _norm_behind(layer)
    parts = (_kernel(layer), layer.bias) if norm is None else (norm.gamma, norm.beta)
    for part in parts:
        part.assign(np.array(part) * np.float32(factor))


def _peaks(model: Any, layer: Any, x: Array) -> Array:
    """Largest value of each channel that goes into a layer."""
    values = _values_into(model, layer, x)
    return np.asarray(values.reshape(-1, values.shape[-1]).max(axis=0))


def _values_into(model: Any, layer: Any, x: Array) -> Array:
    from qinspect.train import predict

    return predict(model.__class__(model.inputs, layer.input), x)


def _least_useful(model: Any, layer: Any, x: Array, among: Array) -> int:
    """The one of some input channels of a layer without which the outputs change least."""
    from qinspect.train import predict

    kernel, true = np.array(_kernel(layer)), predict(model, x)
    changes = []
    for channel in among:
        without = kernel.copy()
        without[..., channel, :] = 0
        _kernel(layer).assign(without)
        changes.append(float(((predict(model, x) - true) ** 2).mean()))
    _kernel(layer).assign(kernel)
    return int(among[np.argmin(changes)])


def _largest_sum(layer: Any, norm: Any | None, channel: int, largest: float) -> float:
    """Bound of a channel's output for inputs of at most ``largest``."""
    reach = largest * float(np.abs(np.array(_kernel(layer))[..., channel]).sum())
    if norm is None:
        return reach + abs(float(layer.bias[channel]))
    deviation = float(np.sqrt(norm.moving_variance[channel] + norm.epsilon))
    mean = abs(float(norm.moving_mean[channel]))
    return (reach + mean) * abs(float(norm.gamma[channel])) / deviation


def _plain_name(name: str) -> str:
    return name.split("/")[-1].split(":")[0]
