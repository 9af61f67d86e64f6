"""Questions about a Keras model's layers, whether or not tfmot has wrapped them."""

from __future__ import annotations

from typing import Any

from qinspect.train.keras import tf_keras, tfmot

# Layers that become operators with weights; separable ones are rewritten by tfmot.
WEIGHTED = ("Conv2D", "DepthwiseConv2D", "Conv2DTranspose", "Dense")


def is_wrapped(layer: Any) -> bool:
    """Whether tfmot's quantization wrapper is around the layer."""
    return isinstance(layer, tfmot().quantization.keras.QuantizeWrapper)


def inner(layer: Any) -> Any:
    """The layer inside tfmot's wrapper, or the layer itself."""
    return layer.layer if is_wrapped(layer) else layer


def is_quantized(model: Any) -> bool:
    """Whether the model was prepared for quantization-aware training."""
    return any(is_wrapped(layer) for layer in model.layers)


def batchnorm_layers(model: Any) -> list[Any]:
    """Batch-norm layers or their wrappers, in the order they are computed."""
    kind = tf_keras().layers.BatchNormalization
    return [layer for layer in model.layers if isinstance(inner(layer), kind)]


def has_batchnorm(model: Any) -> bool:
    """Whether a Keras model has batch normalization, inside tfmot's wrappers too."""
    return bool(batchnorm_layers(model))


def sources(layer: Any) -> list[Any]:
    """Layers whose output goes into the layer."""
    found: list[Any] = []
    for node in layer.inbound_nodes:
        before = node.inbound_layers
        found += before if isinstance(before, (list, tuple)) else [before]
    return found
