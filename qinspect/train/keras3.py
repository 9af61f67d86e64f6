"""A Keras 3 model rebuilt as a ``tf_keras`` model, and checked to compute the same."""

from __future__ import annotations

from typing import Any

import numpy as np

from qinspect.errors import TrainError
from qinspect.train.check import is_keras3
from qinspect.train.keras import tf_keras
from qinspect.train.training import predict

_TOLERANCE = 1e-5
_CHECKED_EXAMPLES = 8
# Settings that say how weights were made, not what is computed; the weights are copied.
_NOT_COMPUTED = ("initializer", "regularizer", "constraint")
# Settings of Keras 3 alone; the check of the outputs tells when they mattered.
_NEW = {"dtype", "quantization_config", "lora_rank", "lora_alpha", "renorm", "renorm_clipping",
        "renorm_momentum"}
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
