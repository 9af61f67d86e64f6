"""Small classifiers of five kinds, each chosen for what it shows about quantization."""

from __future__ import annotations

from typing import Any

import numpy as np

from qinspect.errors import SpecError, unknown_name
from qinspect.train.keras import tf_keras
from qinspect.train.recipes import AUTOENCODER, MODELS


def build_model(
    name: str,
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    bn_momentum: float = 0.9,
    seed: int = 0,
    activation: str | None = "softmax",
) -> Any:
    """An untrained ``tf_keras`` Functional model, a classifier unless told otherwise.

    Parameters
    ----------
    name : str
        ``mlp`` (dense layers), ``plain_cnn`` (Conv-ReLU, no batch norm), ``bn_cnn``
        (Conv-BN-ReLU), ``depthwise_cnn`` (MobileNet blocks with ReLU6, Howard et al. 2017) or
        ``resnet_tiny`` (residual adds, He et al. 2016).
    input_shape : tuple of int
        (height, width, channels), at least 8x8; ``mlp`` takes any shape.
    num_classes : int
        Number of outputs, at least 2 of a classifier.
    bn_momentum : float
        Momentum of the batch-norm moving statistics, 0 <= momentum < 1.  Keras' own default of
        0.99 needs several hundred steps to settle.
    seed : int
        Decides the initial weights, whatever state the global generators are in.
    activation : str or None
        Of the outputs; None for a regression.

    Raises
    ------
    SpecError
        If the name, the shape, the number of classes or the momentum is not allowed.
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    if num_classes < (2 if activation == "softmax" else 1):
        raise SpecError(f"num_classes is {num_classes}; a classifier needs at least 2.")
    if not 0.0 <= bn_momentum < 1.0:
        raise SpecError(f"bn_momentum is {bn_momentum}; it must be at least 0 and below 1.")
    shape = tuple(int(size) for size in input_shape)
    if name != "mlp" and (len(shape) != 3 or min(shape[:2]) < 8):
        raise SpecError(
            f"model {name!r} got inputs of shape {shape}; it takes images of at least 8x8 as "
            "(height, width, channels), only 'mlp' takes other shapes."
        )
    make = _Maker(tf_keras().layers, bn_momentum, seed)
    inputs = tf_keras().Input(shape, name="input")
    # Two halvings at most on 8x8 images, three from 16x16 on.
    deep = min(shape[:2]) >= 16 if len(shape) == 3 else False
    body = {
        "mlp": _mlp, "plain_cnn": _plain_cnn, "bn_cnn": _bn_cnn,
        "depthwise_cnn": _depthwise_cnn, "resnet_tiny": _resnet_tiny,
    }[name](make, inputs, deep)
    outputs = make.dense(body, num_classes, "logits", activation=activation)
    return tf_keras().Model(inputs, outputs, name=name)


def build_autoencoder(input_shape: tuple[int, ...], *, seed: int = 0) -> Any:
    """An untrained network of dense layers that gives its own input by way of eight numbers."""
    size = int(np.prod(input_shape))
    if len(input_shape) != 1:
        raise SpecError(
            f"model {AUTOENCODER!r} got inputs of shape {tuple(input_shape)}; it takes rows of "
            f"numbers, so reshape the examples to ({size},)."
        )
    make = _Maker(tf_keras().layers, 0.9, seed)
    x = inputs = tf_keras().Input(tuple(input_shape), name="input")
    for number, units in enumerate((32, 8, 32), start=1):
        x = make.dense(x, units, f"dense{number}", activation="relu")
    return tf_keras().Model(inputs, make.dense(x, size, "decoded"), name=AUTOENCODER)


class _Maker:
    """Layers with fixed names and seeded initialisers."""

    def __init__(self, layers: Any, momentum: float, seed: int) -> None:
        self.layers = layers
        self.momentum = momentum
        self.seed = seed
        self.made = 0

    def init(self) -> Any:
        self.made += 1
        return tf_keras().initializers.GlorotUniform(seed=self.seed * 1000 + self.made)

    def conv(self, x: Any, filters: int, name: str, *, size: int = 3, strides: int = 1,
             bias: bool = True) -> Any:
        return self.layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=bias,
                                  kernel_initializer=self.init(), name=name)(x)

    def depthwise(self, x: Any, name: str, *, strides: int = 1) -> Any:
        return self.layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False,
                                           depthwise_initializer=self.init(),
                                           name=name)(x)

    def bn(self, x: Any, name: str) -> Any:
        return self.layers.BatchNormalization(momentum=self.momentum, name=name)(x)

    def relu(self, x: Any, name: str, *, top: float | None = None) -> Any:
        return self.layers.ReLU(max_value=top, name=name)(x)

    def pool(self, x: Any, name: str) -> Any:
        return self.layers.MaxPooling2D(2, name=name)(x)

    def dense(self, x: Any, units: int, name: str, activation: str | None = None) -> Any:
        return self.layers.Dense(units, activation=activation, kernel_initializer=self.init(),
                                 name=name)(x)

    def conv_bn_relu(self, x: Any, filters: int, number: str, **options: Any) -> Any:
        x = self.conv(x, filters, f"conv{number}", bias=False, **options)
        return self.relu(self.bn(x, f"bn{number}"), f"relu{number}")


def _mlp(make: _Maker, x: Any, deep: bool) -> Any:
    x = make.layers.Flatten(name="flatten")(x)
    x = make.dense(x, 96, "dense1", activation="relu")
    return make.dense(x, 48, "dense2", activation="relu")


def _plain_cnn(make: _Maker, x: Any, deep: bool) -> Any:
    for number, filters in enumerate((16, 32, 32) if deep else (16, 32), start=1):
        x = make.relu(make.conv(x, filters, f"conv{number}"), f"relu{number}")
        x = make.pool(x, f"pool{number}")
    x = make.layers.Flatten(name="flatten")(x)
    return make.dense(x, 32, "dense1", activation="relu")


def _bn_cnn(make: _Maker, x: Any, deep: bool) -> Any:
    for number, filters in enumerate((16, 32, 32) if deep else (16, 32), start=1):
        x = make.pool(make.conv_bn_relu(x, filters, str(number)), f"pool{number}")
    x = make.layers.Flatten(name="flatten")(x)
    return make.dense(x, 32, "dense1", activation="relu")


def _depthwise_cnn(make: _Maker, x: Any, deep: bool) -> Any:
    x = make.conv(x, 16, "conv1", strides=2 if deep else 1, bias=False)
    x = make.relu(make.bn(x, "bn1"), "relu1", top=6.0)
    for number, (filters, strides) in enumerate(((32, 2), (32, 1), (64, 2), (64, 1)), start=1):
        x = make.depthwise(x, f"depthwise{number}", strides=strides)
        x = make.relu(make.bn(x, f"bn_dw{number}"), f"relu_dw{number}", top=6.0)
        x = make.conv(x, filters, f"pointwise{number}", size=1, bias=False)
        x = make.relu(make.bn(x, f"bn_pw{number}"), f"relu_pw{number}", top=6.0)
    return make.layers.GlobalAveragePooling2D(name="average")(x)


def _resnet_tiny(make: _Maker, x: Any, deep: bool) -> Any:
    x = make.conv_bn_relu(x, 16, "0", strides=2 if deep else 1)
    for number, (filters, strides) in enumerate(((16, 1), (32, 2)), start=1):
        y = make.conv_bn_relu(x, filters, f"{number}a", strides=strides)
        y = make.bn(make.conv(y, filters, f"conv{number}b", bias=False), f"bn{number}b")
        if strides != 1:
            x = make.conv(x, filters, f"shortcut{number}", size=1, strides=strides)
        x = make.relu(make.layers.Add(name=f"add{number}")([x, y]), f"relu{number}b")
    return make.layers.GlobalAveragePooling2D(name="average")(x)
