"""Can tfmot quantize a model, and what to do if not; a Keras 3 model rebuilt in tf_keras."""

from __future__ import annotations

from typing import Any

import numpy as np

from qinspect.errors import TrainError
from qinspect.train.keras import inner, is_wrapped, sources, tf_keras, tfmot
from qinspect.train.training import predict

_PREPROCESSING = {
    "Rescaling", "Normalization", "Resizing", "CenterCrop", "RandomFlip", "RandomRotation",
    "RandomZoom", "RandomCrop", "RandomTranslation", "RandomContrast", "RandomBrightness",
    "RandomHeight", "RandomWidth", "CategoryEncoding", "Discretization",
}
# tfmot rewrites these into layers that it supports.  (SeparableConv1D, too, but by way of a Lambda
# layer that Keras then refuses to load.)
_REWRITTEN = {"SeparableConv2D"}
_BEFORE_BATCHNORM = {"Conv2D", "DepthwiseConv2D", "Dense", *_REWRITTEN}
# A rebuilt model's outputs may differ by this share of the largest one.
_TOLERANCE = 1e-5
_CHECKED_EXAMPLES = 8
# Settings that say how weights were made, not what is computed; the weights are copied.
_NOT_COMPUTED = ("initializer", "regularizer", "constraint")
# Settings of Keras 3 alone; the check of the outputs tells when they mattered.
_NEW = {"dtype", "quantization_config", "lora_rank", "lora_alpha", "renorm", "renorm_clipping",
        "renorm_momentum"}
_RENAMED = {"LeakyReLU": {"negative_slope": "alpha"}}


def check_model(model: Any, *, skip_layers: tuple[str, ...] = ()) -> None:
    """Make sure that a model can be trained, quantized by tfmot and converted.

    Parameters
    ----------
    model : object
        Should be a built Sequential or Functional ``tf_keras`` model.
    skip_layers : tuple of str
        Layers that will be left in float, and so need no support.

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
    for layer in model.layers:
        if layer.name in skip_layers or is_wrapped(layer):
            continue
        problem = _problem(layer)
        if problem:
            raise TrainError(f"layer {layer.name!r} ({type(layer).__name__}) {problem}")


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
            "the inner model's layers."
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
            "is not supported by tfmot; leave it in float with "
            f"skip_layers=({layer.name!r},), or replace it."
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
            "DepthwiseConv2D or Dense layer without activation; move it there, or leave it in "
            f"float with skip_layers=({layer.name!r},)."
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
        f"or leave the layer in float with skip_layers=({layer.name!r},)."
    )


def to_tf_keras(model: Any) -> Any:
    """Rebuild a Sequential or Functional Keras 3 model in ``tf_keras``, with the same weights.

    Parameters
    ----------
    model : keras.Model
        Built, of layers that both versions have.

    Returns
    -------
    tf_keras.Model
        With the same layer names.  Not compiled.

    Raises
    ------
    TrainError
        If it is no such model, a layer or setting does not exist in Keras 2, or the outputs of
        the two on random inputs (standard normal, 8 examples) differ by more than 1e-5 of the
        largest output.

    Notes
    -----
    The model is rebuilt from ``get_config``, which both versions document, layer by layer;
    regularizers and constraints are left out.
    """
    if not is_keras3(model):
        raise TrainError(f"a {type(model).__name__} was given; it must be a Keras 3 model.")
    kind = type(model).__name__
    if kind not in {"Sequential", "Functional"} or not getattr(model, "built", False):
        raise TrainError(
            f"model {model.name!r} ({kind}) cannot be rebuilt from its configuration; only built "
            "Sequential and Functional models can."
        )
    config = _old_config(model.get_config())
    keras = tf_keras()
    try:
        if kind == "Sequential":
            rebuilt = keras.Sequential.from_config(config)
            rebuilt.build((None, *model.input_shape[1:]))
        else:
            rebuilt = keras.Model.from_config(config)
        rebuilt.set_weights([np.asarray(weight) for weight in model.get_weights()])
    # Keras raises whatever an unknown layer or setting leads to.
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise TrainError(f"model {model.name!r} cannot be rebuilt in tf_keras: {reason}") from error
    _check_same(model, rebuilt)
    return rebuilt


def _check_same(model: Any, rebuilt: Any) -> None:
    shape = rebuilt.input_shape
    if isinstance(shape, list) or isinstance(rebuilt.output_shape, list):
        raise TrainError(
            f"model {model.name!r} has several inputs or outputs; one of each is taken."
        )
    sizes = [size if size is not None else 8 for size in shape[1:]]
    x = np.random.default_rng(0).standard_normal((_CHECKED_EXAMPLES, *sizes)).astype(np.float32)
    wanted, got = np.asarray(model.predict(x, verbose=0)), predict(rebuilt, x)
    difference = float(np.abs(wanted - got).max() / max(1.0, float(np.abs(wanted).max())))
    # Written so that NaN counts as different.
    if not difference <= _TOLERANCE:
        raise TrainError(
            f"model {model.name!r} rebuilt in tf_keras gives outputs that differ by "
            f"{difference:.2g} from the original's, more than {_TOLERANCE:g}; rebuild it by hand."
        )


def _old_config(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration in the form that Keras 2 reads."""
    layers = [_old_layer(layer) for layer in config["layers"]]
    old = {"name": config["name"], "layers": layers}
    for end in ("input_layers", "output_layers"):
        if end in config:
            ends = config[end]
            # Keras 3 writes one [name, node, tensor] without the list around it.
            old[end] = [ends] if ends and isinstance(ends[0], str) else ends
    return old


def _old_layer(layer: dict[str, Any]) -> dict[str, Any]:
    kind, config = layer["class_name"], dict(layer["config"])
    known = getattr(tf_keras().layers, kind, None)
    if known is None or kind == "Lambda" or layer.get("registered_name"):
        raise TrainError(
            f"layer {config.get('name', '?')!r} ({kind}) has no counterpart in tf_keras that it "
            "could be rebuilt from; replace it by a layer that both have."
        )
    config = {
        _RENAMED.get(kind, {}).get(name, name): value
        for name, value in config.items()
        if not name.endswith(_NOT_COMPUTED) and name not in _NEW
    }
    if kind == "InputLayer":
        config = {"batch_input_shape": config["batch_shape"], "name": config["name"]}
    for name, value in config.items():
        if isinstance(value, dict):
            raise TrainError(
                f"layer {config['name']!r} ({kind}) has a setting {name!r} that is an object of "
                "its own; rebuild the layer by hand."
            )
    old = {"class_name": kind, "config": config, "name": config["name"]}
    if "inbound_nodes" in layer:
        old["inbound_nodes"] = [_old_node(config["name"], node) for node in layer["inbound_nodes"]]
    return old


def _old_node(name: str, node: dict[str, Any]) -> list[list[Any]]:
    """One use of a layer: ``[[source, node, tensor, {}], ...]``."""
    # ``training`` false is what Keras 3 notes for a dropout; any other argument means something.
    if any(value not in (None, False) for value in node.get("kwargs", {}).values()):
        raise TrainError(
            f"layer {name!r} is called with arguments besides its input; rebuild it by hand."
        )
    arguments = node["args"]
    if len(arguments) == 1 and isinstance(arguments[0], list):
        arguments = arguments[0]
    sources = []
    for argument in arguments:
        history = argument.get("config", {}).get("keras_history") if isinstance(
            argument, dict) else None
        if history is None:
            raise TrainError(f"layer {name!r} is called with a constant; rebuild it by hand.")
        sources.append([*history, {}])
    return sources
