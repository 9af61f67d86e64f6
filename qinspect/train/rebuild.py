"""A model made again of other layers or in another Keras, and checked to give the same."""

from __future__ import annotations

from typing import Any

import numpy as np

from qinspect.errors import TrainError, unknown_name
from qinspect.schema import Array
from qinspect.train.check import check_is_keras2, is_keras3
from qinspect.train.keras import tf_keras

# A rebuilt model's outputs may differ by this share of the largest one.
_TOLERANCE = 1e-5
_CHECKED_EXAMPLES = 8
_MODELS = ("Sequential", "Functional")
# Settings that say how weights were made, not what is computed; the weights are copied.
_NOT_COMPUTED = ("initializer", "regularizer", "constraint")
# Settings of Keras 3 alone; the check of the outputs tells when they mattered.
_NEW = {"dtype", "quantization_config", "lora_rank", "lora_alpha", "renorm", "renorm_clipping",
        "renorm_momentum", "rms_scaling", "use_cudnn"}
# Those that Keras 3 gives to layers which had none.
_NEW_OF = {"LSTM": {"seed"}, "GRU": {"seed"}, "SimpleRNN": {"seed"}}
_RENAMED = {"LeakyReLU": {"negative_slope": "alpha"}}


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
    if kind not in _MODELS or not getattr(model, "built", False):
        raise TrainError(
            f"model {model.name!r} ({kind}) cannot be rebuilt from its configuration; only built "
            "Sequential and Functional models can."
        )
    config = old_config(model.get_config())
    keras = tf_keras()
    try:
        if kind == "Sequential":
            rebuilt = keras.Sequential.from_config(config)
            rebuilt.build((None, *model.input_shape[1:]))
        else:
            rebuilt = keras.Model.from_config(config)
        _copy_weights(model, rebuilt)
    # Keras raises whatever an unknown layer or setting leads to.
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise TrainError(f"model {model.name!r} cannot be rebuilt in tf_keras: {reason}") from error
    _check_same(model, rebuilt)
    return rebuilt


def _copy_weights(model: Any, rebuilt: Any) -> None:
    """Weights by the names of layers, since the versions may list those of a model differently."""
    for layer in rebuilt.layers:
        original = model.get_layer(layer.name)
        if isinstance(layer, tf_keras().Model):
            _copy_weights(original, layer)
        else:
            # Keras 3 counts the state of a dropout's generator among a layer's variables.
            layer.set_weights([np.asarray(weight) for weight in original.weights])


def _check_same(model: Any, rebuilt: Any) -> None:
    """Make sure that two models give the same on random inputs."""
    rng = np.random.default_rng(0)
    x = []
    for one in rebuilt.inputs:
        sizes = [_CHECKED_EXAMPLES if size is None else size for size in one.shape[1:]]
        x.append(rng.standard_normal((_CHECKED_EXAMPLES, *sizes)).astype(np.float32))
    given = x if len(x) > 1 else x[0]
    for wanted, got in zip(_listed(model.predict(given, verbose=0)),
                           _listed(rebuilt.predict(given, verbose=0)), strict=True):
        difference = float(np.abs(wanted - got).max() / max(1.0, float(np.abs(wanted).max())))
        # Written so that NaN counts as different.
        if not difference <= _TOLERANCE:
            raise TrainError(
                f"model {model.name!r} rebuilt in tf_keras gives outputs that differ by "
                f"{difference:.2g} from the original's, more than {_TOLERANCE:g}; rebuild it by "
                "hand."
            )


def _listed(outputs: Any) -> list[Array]:
    """Outputs of a model in the order in which it has them."""
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    return [np.asarray(one) for one in (outputs if isinstance(outputs, list) else [outputs])]


def old_config(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration in the form that Keras 2 reads."""
    # Keras 2 counts the making of a model inside as its node 0, Keras 3 does not of a Sequential.
    first = {layer["config"]["name"]: 1 for layer in config["layers"]
             if layer["class_name"] == "Sequential"}
    layers = [_old_layer(layer, first) for layer in config["layers"]]
    old = {"name": config["name"], "layers": layers}
    for end in ("input_layers", "output_layers"):
        if end in config:
            ends = config[end]
            # Keras 3 writes one [name, node, tensor] without the list around it.
            ends = [ends] if ends and isinstance(ends[0], str) else ends
            old[end] = [_old_history(one, first) for one in ends]
    return old


def _old_layer(layer: dict[str, Any], first: dict[str, int]) -> dict[str, Any]:
    kind, config = str(layer["class_name"]), dict(layer["config"])
    if kind in _MODELS:
        inside = old_config(config)
        old = {"class_name": kind, "config": inside, "name": config["name"]}
        if "inbound_nodes" in layer:
            old["inbound_nodes"] = _old_nodes(config["name"], layer, first)
        return old
    known = getattr(tf_keras().layers, kind, None)
    if known is None or kind == "Lambda" or layer.get("registered_name"):
        raise TrainError(
            f"layer {config.get('name', '?')!r} ({kind}) has no counterpart in tf_keras that it "
            "could be rebuilt from; replace it by a layer that both have."
        )
    config = {
        _RENAMED.get(kind, {}).get(name, name): value
        for name, value in config.items()
        if not name.endswith(_NOT_COMPUTED) and name not in _NEW | _NEW_OF.get(kind, set())
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
        old["inbound_nodes"] = _old_nodes(config["name"], layer, first)
    return old


def _old_nodes(
    name: str, layer: dict[str, Any], first: dict[str, int]
) -> list[list[list[Any]]]:
    return [_old_node(name, node, first) for node in layer["inbound_nodes"]]


def _old_node(name: str, node: dict[str, Any], first: dict[str, int]) -> list[list[Any]]:
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
        sources.append([*_old_history(history, first), {}])
    return sources


def _old_history(history: Any, first: dict[str, int]) -> list[Any]:
    """Layer, node and tensor that a value comes from."""
    name, node, tensor = history
    return [name, node + first.get(name, 0), tensor]


def flatten_model(model: Any) -> Any:
    """The same network with the layers of models inside it as its own, since tfmot takes no other.

    A layer whose name is taken gets that of its model before it.  A model without models inside is
    returned as it is.

    Raises
    ------
    TrainError
        If it is no Sequential or Functional ``tf_keras`` model, or has a subclassed one inside.
    """
    check_is_keras2(model)
    if not any(isinstance(layer, tf_keras().Model) for layer in model.layers):
        return model
    copies: dict[int, tuple[Any, Any]] = {}
    inputs = [tf_keras().Input(one.shape[1:], dtype=one.dtype, name=name)
              for one, name in zip(model.inputs, model.input_names, strict=True)]
    outputs = _replayed(model, inputs, copies, set(model.input_names))
    flat = tf_keras().Model(inputs, outputs if len(outputs) > 1 else outputs[0], name=model.name)
    for original, copy in copies.values():
        copy.set_weights(original.get_weights())
    _check_same(model, flat)
    return flat


def _replayed(
    model: Any, inputs: list[Any], copies: dict[int, tuple[Any, Any]], names: set[str]
) -> list[Any]:
    """Outputs of copies of a model's layers, called in its order; a shared layer is copied once."""
    check_is_keras2(model)
    # As Keras itself runs a Functional model; a tensor is handed out once for each of its uses.
    uses = model._tensor_usage_count
    known = {str(id(tensor)): [value] * uses[str(id(tensor))]
             for tensor, value in zip(model.inputs, inputs, strict=True)}
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.is_input:
                continue
            arguments, options = node.map_arguments(known)
            if isinstance(node.layer, tf_keras().Model):
                given = arguments[0] if isinstance(arguments[0], list) else [arguments[0]]
                outputs = _replayed(node.layer, given, copies, names)
            else:
                copy = _copy(node.layer, model.name, copies, names)
                found = copy(*arguments, **options)
                outputs = found if isinstance(found, list) else [found]
            for key, value in zip(node.flat_output_ids, outputs, strict=True):
                known[key] = [value] * uses[key]
    return [known[str(id(tensor))].pop() for tensor in model.outputs]


def _copy(layer: Any, owner: str, copies: dict[int, tuple[Any, Any]], names: set[str]) -> Any:
    if id(layer) not in copies:
        name = layer.name if layer.name not in names else f"{owner}_{layer.name}"
        while name in names:
            name += "_"
        names.add(name)
        copy = type(layer).from_config({**layer.get_config(), "name": name})
        copies[id(layer)] = (layer, copy)
    return copies[id(layer)][1]


def one_output(model: Any, output: str | None) -> Any:
    """The part of a model that computes one of its outputs, by name or number; None keeps all."""
    if output is None:
        return model
    names = list(model.output_names)
    if output.isdecimal() and int(output) < len(names):
        output = names[int(output)]
    if output not in names:
        raise unknown_name("output", output, names)
    return tf_keras().Model(model.inputs, model.outputs[names.index(output)], name=model.name)
