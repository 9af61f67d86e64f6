"""The networks of the fault benchmark: kinds of layers, tasks and data, and which half each is in.

Whole architectures are held out.  Thresholds and rules may be set by looking at the calibration
half; nothing is changed by looking at the scored one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qinspect.data import load_dataset
from qinspect.data.dataset import Dataset
from qinspect.data.npz import read_arrays
from qinspect.schema import Array

# Called with Keras' layers, the input and the number of outputs; gives the output.
Body = Callable[[Any, Any, int], Any]
# What a fault may ask of a network: class labels; batch norm; hidden activations that are scaled by
# any factor when what is before them is (ReLU; ReLU6 nearly), with two weighted layers in a row;
# images of 0 to 1.
CLASSES, BATCHNORM, SCALABLE, IMAGES = "classes", "batchnorm", "scalable", "images"


@dataclass(frozen=True)
class Architecture:
    """One kind of network, what it is trained on and what can be asked of it.

    ``body`` is None for a network of :data:`qinspect.train.MODELS`.  ``epochs``: at 1e-3 and at
    2e-4, before a study goes on at a small rate.  ``skip_layers``: those that tfmot does not take.
    """

    half: str  # ``calibration`` or ``scored``
    data: str  # a name of SOURCES
    traits: frozenset[str]
    body: Body | None = None
    epochs: tuple[int, int] = (8, 4)
    skip_layers: tuple[str, ...] = ()
    loss: str | None = None
    metric: str | None = None


def _conv(k: Any, x: Any, filters: int, act: str, *, size: int = 3, strides: int = 1) -> Any:
    """Convolution, batch norm, activation (none where it is empty)."""
    x = k.Conv2D(filters, size, strides=strides, padding="same", use_bias=False)(x)
    x = k.BatchNormalization(momentum=0.9)(x)
    return _active(k, x, act)


def _active(k: Any, x: Any, act: str) -> Any:
    if act == "relu6":
        return k.ReLU(6.0)(x)
    return k.Activation(act)(x) if act else x


def _classes(k: Any, x: Any, outputs: int) -> Any:
    return k.Dense(outputs, activation="softmax", name="probabilities")(x)


def _residual(k: Any, x: Any, outputs: int) -> Any:
    """Two residual blocks (He et al. 2016), the second with a projection."""
    x = _conv(k, x, 12, "relu", strides=2)
    for filters, strides in ((12, 1), (24, 2)):
        short = x if strides == 1 else _conv(k, x, filters, "", size=1, strides=strides)
        x = _conv(k, _conv(k, x, filters, "relu", strides=strides), filters, "")
        x = k.ReLU()(k.Add()([x, short]))
    return _classes(k, k.GlobalAveragePooling2D()(x), outputs)


def _inverted_residual(k: Any, x: Any, outputs: int) -> Any:
    """Expansion, depthwise convolution with ReLU6, linear bottleneck (Sandler et al. 2018)."""
    x = _conv(k, x, 12, "relu6", strides=2)
    for filters, strides in ((12, 1), (20, 2), (20, 1)):
        inner = _conv(k, x, 3 * int(x.shape[-1]), "relu6", size=1)
        inner = k.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(inner)
        inner = k.ReLU(6.0)(k.BatchNormalization(momentum=0.9)(inner))
        inner = _conv(k, inner, filters, "", size=1)
        x = k.Add()([x, inner]) if int(x.shape[-1]) == filters and strides == 1 else inner
    return _classes(k, k.GlobalAveragePooling2D()(x), outputs)


def _swish(k: Any, x: Any, outputs: int) -> Any:
    """Convolutions with SiLU, whose negative tail needs a part of the range."""
    for filters, strides in ((12, 2), (16, 1), (24, 2)):
        x = _conv(k, x, filters, "swish", strides=strides)
    return _classes(k, k.GlobalAveragePooling2D()(x), outputs)


def _squeeze_excite(k: Any, x: Any, outputs: int) -> Any:
    """Channels weighted by a sigmoid of their own means (Hu et al. 2018)."""
    x = _conv(k, x, 16, "relu", strides=2)
    for number, strides in enumerate((1, 2), 1):
        x = _conv(k, x, 24, "relu", strides=strides)
        gate = k.GlobalAveragePooling2D(keepdims=True)(x)
        gate = k.Conv2D(6, 1, activation="relu")(gate)
        gate = k.Conv2D(24, 1, activation="sigmoid")(gate)
        x = k.Multiply(name=f"excite{number}")([x, gate])
    return _classes(k, k.GlobalAveragePooling2D()(x), outputs)


def _conv1d(k: Any, x: Any, outputs: int) -> Any:
    """Convolutions over a sequence: the rows of an image, one after the other."""
    for number, (filters, strides) in enumerate(((24, 1), (32, 2), (32, 2)), 1):
        x = k.Conv1D(filters, 3, strides=strides, padding="same", name=f"conv{number}")(x)
        x = k.ReLU(name=f"relu{number}")(x)
    return _classes(k, k.GlobalAveragePooling1D()(x), outputs)


def _dense(k: Any, x: Any, outputs: int) -> Any:
    """Dense layers on a row of numbers."""
    for units in (64, 48):
        x = k.ReLU()(k.Dense(units)(x))
    return _classes(k, x, outputs)


def _two_branches(k: Any, x: Any, outputs: int) -> Any:
    """Small and large kernels side by side, put together by Concatenate."""
    x = k.Concatenate()([_conv(k, x, 8, "relu", strides=2),
                         _conv(k, x, 8, "relu", size=5, strides=2)])
    x = k.Concatenate()([_conv(k, x, 12, "relu", strides=2),
                         _conv(k, _conv(k, x, 8, "relu", size=1), 12, "relu", strides=2)])
    return _classes(k, k.GlobalAveragePooling2D()(x), outputs)


def _pixels(k: Any, x: Any, outputs: int) -> Any:
    """A plain network of batch norm and ReLU, of colours from 0 to 255."""
    for filters in (12, 20, 32):
        x = _conv(k, x, filters, "relu", strides=2)
    return _classes(k, k.GlobalAveragePooling2D()(x), outputs)


def _mobilenet_v2(k: Any, x: Any, outputs: int) -> Any:
    """MobileNetV2 of ``tf_keras.applications``, a third as wide, from random weights."""
    from qinspect.train.keras import tf_keras

    known = tf_keras().applications.MobileNetV2(
        input_tensor=x, alpha=0.35, include_top=False, weights=None, pooling="avg")
    for layer in known.layers:
        if isinstance(layer, k.BatchNormalization):
            # Its own 0.999 asks for thousands of steps.
            layer.momentum = 0.9
    return _classes(k, known.output, outputs)


def _lstm(k: Any, x: Any, outputs: int) -> Any:
    """An LSTM over the rows of an image, which the converter makes one operator of."""
    return _classes(k, k.ReLU()(k.Dense(24)(k.LSTM(32, name="lstm")(x))), outputs)


def _regression(k: Any, x: Any, outputs: int) -> Any:
    """An angle in degrees from an image."""
    for filters in (8, 16):
        x = k.ReLU()(k.Conv2D(filters, 3, strides=2, padding="same")(x))
    x = k.ReLU()(k.Dense(32)(k.Flatten()(x)))
    return k.Dense(outputs, name="angle")(x)


def _autoencoder(k: Any, x: Any, outputs: int) -> Any:
    """Image to image by way of a few channels."""
    size = int(x.shape[-1])
    for units in (48, 12, 48):
        x = k.ReLU()(k.Dense(units)(x))
    return k.Dense(size, activation="sigmoid", name="decoded")(x)


def _binary(k: Any, x: Any, outputs: int) -> Any:
    """One sigmoid: worn above the waist or not."""
    for filters in (8, 16):
        x = _conv(k, x, filters, "relu", strides=2)
    return k.Dense(1, activation="sigmoid", name="probability")(k.GlobalAveragePooling2D()(x))


_CONV = frozenset({CLASSES, BATCHNORM, SCALABLE, IMAGES})
_ROWS = frozenset({CLASSES, SCALABLE})
_CURVED = frozenset({CLASSES, BATCHNORM, IMAGES})
_CALIBRATION, _SCORED = HALVES = "calibration", "scored"
ARCHITECTURES: Mapping[str, Architecture] = {
    # The three on which the rules were first set.
    "plain_cnn": Architecture(_CALIBRATION, "digits", _CONV - {BATCHNORM}, epochs=(25, 10)),
    "bn_cnn": Architecture(_CALIBRATION, "fashion", _CONV),
    "depthwise_cnn": Architecture(_CALIBRATION, "digits", _CONV, epochs=(25, 10)),
    "residual": Architecture(_CALIBRATION, "fashion", _CONV, _residual),
    "swish": Architecture(_CALIBRATION, "fashion", _CURVED, _swish),
    "conv1d": Architecture(_CALIBRATION, "mnist-rows", _ROWS, _conv1d, (25, 8),
                           ("conv1", "relu1", "conv2", "relu2", "conv3", "relu3")),
    "pixels": Architecture(_CALIBRATION, "cifar-255", _CONV - {IMAGES}, _pixels, (12, 4)),
    "regression": Architecture(_CALIBRATION, "angles", frozenset({SCALABLE, IMAGES}), _regression,
                               (25, 8), loss="mae", metric="mae"),
    "binary": Architecture(_CALIBRATION, "fashion-binary", _CONV - {CLASSES}, _binary,
                           loss="binary-crossentropy", metric="binary-accuracy"),
    "inverted_residual": Architecture(_SCORED, "fashion", _CONV, _inverted_residual),
    "squeeze_excite": Architecture(_SCORED, "fashion", _CURVED, _squeeze_excite,
                                   skip_layers=("excite1", "excite2")),
    "two_branches": Architecture(_SCORED, "mnist", _CONV, _two_branches),
    "dense": Architecture(_SCORED, "mnist-flat", _ROWS, _dense, (12, 4)),
    "mobilenet_v2": Architecture(_SCORED, "fashion-rgb", _CONV, _mobilenet_v2, (6, 3)),
    "lstm": Architecture(_SCORED, "mnist-rows", frozenset({CLASSES}), _lstm, (20, 6), ("lstm",)),
    "autoencoder": Architecture(_SCORED, "digits-flat", frozenset({SCALABLE}), _autoencoder,
                                (60, 15), loss="mse", metric="reconstruction"),
}


def build(name: str, input_shape: tuple[int, ...], outputs: int, seed: int) -> Any:
    """An untrained network of an architecture; ``seed`` decides its weights."""
    from qinspect.train import build_model, reset
    from qinspect.train.keras import tf_keras

    body = ARCHITECTURES[name].body
    if body is None:
        return build_model(name, input_shape, outputs, seed=seed)
    reset(seed)
    keras = tf_keras()
    inputs = keras.Input(input_shape, name="input")
    return keras.Model(inputs, body(keras.layers, inputs, outputs), name=name)


def _fashion() -> Dataset:
    return _drawn("fashion_mnist")


def _drawn(name: str) -> Dataset:
    """Some thousand examples of a published data set, glyphs where it is not at hand."""
    folder = os.environ.get("QINSPECT_DATA", "")
    if not folder or not (Path(folder) / f"{name}.npz").exists():
        return load_dataset("glyphs")
    return load_dataset(name, limit=4_000)


def _rows(data: Dataset) -> Dataset:
    return replace(data, x=data.array[..., 0])


def _flat(data: Dataset) -> Dataset:
    return replace(data, x=data.array.reshape(len(data), -1))


def _rgb(data: Dataset) -> Dataset:
    """Padded to 32 pixels, three times the same colour."""
    short = 32 - data.array.shape[1]
    ends = (short // 2, short - short // 2)
    x = np.pad(data.array, ((0, 0), ends, ends, (0, 0)))
    return replace(data, x=np.repeat(x, 3, axis=-1))


def _above_the_waist(data: Dataset) -> Dataset:
    """T-shirt, pullover, dress, coat, shirt; of glyphs every other one."""
    return replace(data, y=np.isin(data.labels, (0, 2, 3, 4, 6)).astype(np.int64), num_classes=2)


def _cifar() -> Dataset:
    """Colour photographs, values from 0 to 255; coloured glyphs where they are not at hand."""
    path = Path(os.environ.get("QINSPECT_DATA", "")) / "tflite" / "resnet8" / "cifar_eval.npz"
    if not path.is_file():
        glyphs = load_dataset("glyphs", input_range="0-255")
        return replace(glyphs, x=np.repeat(glyphs.array, 3, axis=-1))
    arrays = read_arrays(path, ("x", "y"))
    return Dataset("cifar", arrays["x"].astype(np.float32), arrays["y"].astype(np.int64),
                   np.array([f"cifar-{i:04d}" for i in range(len(arrays["y"]))]), 10)


# Examples by name: how to make them, and how many are for training and for evaluation.
SOURCES: Mapping[str, tuple[Callable[[], Dataset], int, int]] = {
    "digits": (lambda: load_dataset("digits"), 700, 700),
    "digits-flat": (lambda: replace(_flat(load_dataset("digits")), y=None, num_classes=0),
                    700, 700),
    "fashion": (_fashion, 1_500, 1_500),
    "fashion-binary": (lambda: _above_the_waist(_fashion()), 1_500, 1_500),
    "fashion-rgb": (lambda: _rgb(_fashion()), 1_500, 1_500),
    "mnist": (lambda: _drawn("mnist"), 1_500, 1_500),
    "mnist-rows": (lambda: _rows(_drawn("mnist")), 1_500, 1_500),
    "mnist-flat": (lambda: _flat(_drawn("mnist")), 1_500, 1_500),
    "cifar-255": (_cifar, 800, 800),
    "angles": (lambda: load_dataset("angles"), 1_000, 1_000),
}


def examples(name: str) -> dict[str, Array]:
    """The examples of a source as the arrays of a file: ``x``, ``id`` and ``y`` if there is any."""
    data = SOURCES[name][0]()
    labels = {} if data.y is None else {"y": data.y}
    return {"x": data.array.astype(np.float32), "id": data.ids, **labels}
