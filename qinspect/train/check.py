"""Can tfmot quantize a model, and what to do if not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qinspect.errors import TrainError
from qinspect.train.keras import inner, is_wrapped, sources, tf_keras, tfmot

_PREPROCESSING = {
    "Rescaling", "Normalization", "Resizing", "CenterCrop", "RandomFlip", "RandomRotation",
    "RandomZoom", "RandomCrop", "RandomTranslation", "RandomContrast", "RandomBrightness",
    "RandomHeight", "RandomWidth", "CategoryEncoding", "Discretization",
}
# tfmot rewrites these into layers that it supports.  (SeparableConv1D, too, but by way of a Lambda
# layer that Keras then refuses to load.)
_REWRITTEN = {"SeparableConv2D"}
_BEFORE_BATCHNORM = {"Conv2D", "DepthwiseConv2D", "Dense", *_REWRITTEN}


def check_model(model: Any, *, skip_layers: tuple[str, ...] = ()) -> None:
    """Make sure that a model can be trained, quantized by tfmot and converted.

    Parameters
    ----------
    model : object
        Should be a built Sequential or Functional ``tf_keras`` model.
    skip_layers : tuple of str
        Layers that get no fake quantization, and so need no support.

    Raises
    ------
    TrainError
        If it is a Keras 3 model, a subclassed model, an unbuilt one, holds another model as a
        layer, or has a layer that tfmot does not support; the message names the layer and the
        way out.

    Notes
    -----
    The rules are those of tfmot 0.8's default 8-bit scheme: its registry of layers, and batch norm
    only right behind a convolution or dense layer without activation.
    """
    check_is_keras2(model)
    for layer, problem in _problems(model):
        if layer.name not in skip_layers:
            raise TrainError(f"layer {layer.name!r} ({type(layer).__name__}) {problem}")


def layers_not_taken(model: Any) -> tuple[str, ...]:
    """Names of the layers of a ``tf_keras`` model that tfmot does not take."""
    check_is_keras2(model)
    return tuple(layer.name for layer, _ in _problems(model))


def _problems(model: Any) -> Iterator[tuple[Any, str]]:
    for layer in model.layers:
        if not is_wrapped(layer) and (problem := _problem(layer)):
            yield layer, problem


def check_is_keras2(model: Any) -> None:
    """Refuse what is not a built Sequential or Functional ``tf_keras`` model."""
    keras = tf_keras()
    if is_keras3(model):
        raise TrainError(
            f"model {getattr(model, 'name', '?')!r} is a Keras 3 model, which tfmot does not take; "
            "convert it with qinspect.train.to_tf_keras(model), or build it with tf_keras."
        )
    if not isinstance(model, keras.Model):
        raise TrainError(
            f"a {type(model).__name__} was given; it must be a Sequential or Functional tf_keras "
            "model."
        )
    if not (isinstance(model, keras.Sequential) or getattr(model, "_is_graph_network", False)):
        raise TrainError(
            f"model {model.name!r} ({type(model).__name__}) is a subclassed model, whose layers "
            "tfmot cannot see; rebuild it with tf_keras.Sequential or the Functional API and copy "
            "the weights with set_weights."
        )
    if not model.built or not getattr(model, "inputs", None):
        raise TrainError(
            f"model {model.name!r} has no fixed input shape yet; give its first layer an "
            "input_shape, or call model.build(input_shape)."
        )


def is_keras3(model: Any) -> bool:
    """Whether an object is a model or layer of Keras 3, without importing Keras 3."""
    modules = {base.__module__.split(".")[0] for base in type(model).__mro__}
    return "keras" in modules


def _problem(layer: Any) -> str | None:
    """What is wrong with a layer and what to do, or None."""
    keras, kind = tf_keras(), type(layer).__name__
    if isinstance(layer, keras.layers.InputLayer):
        return None
    if isinstance(layer, keras.Model):
        return (
            "is a model inside the model, which tfmot does not take; rebuild the network from "
            "the inner model's layers with qinspect.train.flatten_model."
        )
    if kind in _PREPROCESSING:
        return (
            "is preprocessing, which tfmot does not quantize; remove it and apply the same to the "
            "data instead, before training, calibration and evaluation."
        )
    if kind in {"Lambda", "TFOpLambda", "SlicingOpLambda"}:
        return (
            "is an operation without a layer of its own, which tfmot does not quantize; replace "
            "it by a Keras layer (Add, Concatenate, Reshape, ReLU ...)."
        )
    if isinstance(layer, keras.layers.BatchNormalization):
        return _batchnorm_problem(layer)
    registry = tfmot().quantization.keras.default_8bit.Default8BitQuantizeRegistry()
    if kind not in _REWRITTEN and not registry.supports(layer):
        return (
            "is not supported by tfmot; leave it out of quantization-aware training with "
            f"skip_layers=({layer.name!r},) (--skip-layers {layer.name}), or replace it."
        )
    return _activation_problem(layer)


def _batchnorm_problem(layer: Any) -> str | None:
    before = [inner(source) for source in sources(layer)]
    for source in before:
        activation = getattr(getattr(source, "activation", None), "__name__", "linear")
        if type(source).__name__ in _BEFORE_BATCHNORM and activation == "linear":
            continue
        return (
            f"comes behind {source.name!r}, but tfmot takes batch norm only right behind a Conv2D, "
            "DepthwiseConv2D or Dense layer without activation; move it there, or leave it "
            f"out with skip_layers=({layer.name!r},) (--skip-layers {layer.name})."
        )
    return None


def _activation_problem(layer: Any) -> str | None:
    activation = getattr(layer, "activation", None)
    if activation is None:
        return None
    name = getattr(activation, "__name__", type(activation).__name__)
    allowed = {"linear", "relu", "swish", "gelu", "softmax", "sigmoid", "tanh"}
    if type(layer).__name__ == "Activation":
        allowed |= {"relu6"}
    if name in allowed:
        return None
    way = "use a separate ReLU(6.0) layer" if name == "relu6" else "choose one of these"
    return (
        f"has the activation {name!r}, but tfmot takes only {', '.join(sorted(allowed))}; {way}, "
        f"or leave the layer out with skip_layers=({layer.name!r},) (--skip-layers {layer.name})."
    )
