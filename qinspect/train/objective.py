"""What a network is trained for: its loss, the metric it is judged by, and what it should give."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from qinspect.data.dataset import Dataset
from qinspect.errors import DataError, TrainError, unknown_name
from qinspect.schema import Array
from qinspect.train.keras import inner, tf_keras
from qinspect.train.recipes import LOSSES

# The metric of a loss where none is named, and the loss of a metric.
_METRIC_OF = {"crossentropy": "accuracy", "binary-crossentropy": "binary-accuracy", "mae": "mae",
              "mse": "mse", "huber": "mae"}
_LOSS_OF = {"accuracy": "crossentropy", "top5": "crossentropy",
            "binary-accuracy": "binary-crossentropy", "auc": "binary-crossentropy", "mae": "mae",
            "relative-error": "mae", "mse": "mse", "r2": "mse", "anomaly-auc": "mse",
            "reconstruction": "mse"}
# Metrics of networks that are to give their own input.
RECONSTRUCTING = ("anomaly-auc", "reconstruction")
# Keras' names, in small letters and without underscores.
_KERAS_LOSSES = {
    "sparsecategoricalcrossentropy": "crossentropy", "categoricalcrossentropy": "crossentropy",
    "binarycrossentropy": "binary-crossentropy", "bce": "binary-crossentropy",
    "meanabsoluteerror": "mae", "mae": "mae", "meansquarederror": "mse", "mse": "mse",
    "huber": "huber", "huberloss": "huber",
}
_KERAS_METRICS = {
    "meanabsoluteerror": "mae", "mae": "mae", "meansquarederror": "mse", "mse": "mse",
    "rootmeansquarederror": "mse", "r2score": "r2", "auc": "auc",
}


@dataclass(frozen=True)
class Objective:
    """Loss, metric and target of a training; ``why`` says where they come from."""

    loss: str
    metric: str
    target: Literal["y", "x"] = "y"
    why: str = ""

    def of(self, data: Dataset) -> Dataset:
        """The examples to train on: of a network that gives its own input, the normal ones."""
        if self.target == "y":
            return data
        if data.y is not None and self.metric == "anomaly-auc":
            data = data.take(np.flatnonzero(data.y == 0))
        return replace(data, y=data.array, num_classes=0)


def choose_objective(
    model: Any, x: Array, y: Array | None, *, loss: str | None = None, metric: str | None = None,
    compiled: dict[str, Any] | None = None,
) -> Objective:
    """What to train for: as named, else as the model was compiled, else as its output says.

    Raises
    ------
    TrainError
        If there is more than one reading, or the loss it was compiled with is not known here.
    """
    why = "as named"
    compiled = compiled or {}
    if loss is None and metric is None and compiled.get("loss"):
        loss, why = _known_loss(compiled["loss"]), "as the model was compiled"
        metric = _known_metric(compiled.get("metrics"), loss)
    if loss is None and metric is not None:
        loss = _LOSS_OF.get(metric) or (
            "binary-crossentropy" if model.output_shape[-1] == 1 else "crossentropy")
    if loss is None:
        loss, why = _guessed_loss(model, x, y), "from the shape of the output and the labels"
    if loss not in LOSSES:
        raise unknown_name("loss", loss, LOSSES)
    own_input = metric in RECONSTRUCTING or (
        metric is None and not loss.endswith("crossentropy") and _may_give_input(model, x, y))
    if metric is None:
        metric = _METRIC_OF[loss]
        if own_input:
            metric = "reconstruction" if y is None else "anomaly-auc"
    return Objective(loss, metric, "x" if own_input else "y", why)


def keras_loss(model: Any, loss: str) -> Any:
    """The Keras loss of that name, of probabilities or logits as the model gives them."""
    losses = tf_keras().losses
    if loss == "crossentropy":
        return losses.SparseCategoricalCrossentropy(from_logits=gives_logits(model))
    if loss == "binary-crossentropy":
        return losses.BinaryCrossentropy(from_logits=gives_logits(model, "sigmoid"))
    kinds = {"mae": losses.MeanAbsoluteError, "mse": losses.MeanSquaredError,
             "huber": losses.Huber}
    if loss not in kinds:
        raise unknown_name("loss", loss, LOSSES)
    return kinds[loss]()


def keras_metrics(model: Any, loss: str) -> list[Any]:
    """What the history's ``accuracy`` is: of classes, of one sigmoid at 0.5; else there is none."""
    metrics = tf_keras().metrics
    if loss == "crossentropy":
        return [metrics.SparseCategoricalAccuracy(name="accuracy")]
    if loss == "binary-crossentropy":
        threshold = 0.0 if gives_logits(model, "sigmoid") else 0.5
        return [metrics.BinaryAccuracy(name="accuracy", threshold=threshold)]
    return []


def targets(model: Any, data: Dataset, loss: str) -> Array:
    """What the model should give for the examples, in its shape, or one sentence why not."""
    shape = model.output_shape
    if isinstance(shape, list):
        raise DataError(
            f"model {model.name!r} has {len(shape)} outputs "
            f"({', '.join(model.output_names)}); choose one to train and judge with --output."
        )
    if data.y is None:
        raise DataError(f"{data.name} has no labels y, which the loss {loss!r} needs.")
    if loss == "crossentropy":
        return _classes(model, data)
    y = data.y
    if y.ndim == 1 and shape[1:] == (1,):
        y = y[:, np.newaxis]
    if y.shape[1:] != tuple(shape[1:]):
        raise DataError(
            f"{data.name} has targets of shape {y.shape[1:]}, but model {model.name!r} gives "
            f"{tuple(shape[1:])} for each example; the loss {loss!r} compares value by value."
        )
    if not np.isfinite(y).all():
        raise DataError(f"{data.name} has targets that are NaN or infinite; repair or remove them.")
    if loss == "binary-crossentropy" and not np.isin(y, (0, 1)).all():
        raise DataError(
            f"{data.name} has labels from {y.min():g} to {y.max():g}; binary-crossentropy takes "
            "0 and 1 alone."
        )
    return y.astype(np.float32)


def gives_logits(model: Any, squashed: str = "softmax") -> bool:
    """Whether the model's output still lacks a softmax (or a sigmoid)."""
    last = inner(model.get_layer(model.output_names[0]))
    name = "softmax" if type(last).__name__ == "Softmax" else activation_of(last)
    if name not in {"linear", squashed}:
        raise TrainError(
            f"model {model.name!r} ends in the activation {name!r}; a classifier must end in "
            f"{squashed}, or in none."
        )
    return name == "linear"


def activation_of(layer: Any) -> str:
    """Name of a layer's activation; ``linear`` where it has none."""
    activation = getattr(layer, "activation", None)
    # During QAT the activation is wrapped by tfmot.
    activation = getattr(activation, "activation", activation)
    return str(getattr(activation, "__name__", "linear"))


def _classes(model: Any, data: Dataset) -> Array:
    outputs = model.output_shape
    if len(outputs) != 2:
        raise DataError(
            f"model {model.name!r} gives outputs of shape {outputs}; a classifier gives one "
            "vector of class scores."
        )
    y = data.labels
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= outputs[1]:
        raise DataError(
            f"{data.name} has labels from {low} to {high}, but model {model.name!r} has "
            f"{outputs[1]} outputs; labels must be 0 to {outputs[1] - 1}."
        )
    return y.astype(np.int64)


def _guessed_loss(model: Any, x: Array, y: Array | None) -> str:
    """The loss where outputs and labels leave one reading."""
    if _may_give_input(model, x, y):
        return "mse"
    shape = tuple(model.output_shape[1:])
    last = activation_of(inner(model.get_layer(model.output_names[0])))
    whole = y is not None and y.ndim == 1 and bool((y == np.round(y)).all())
    if y is not None and len(shape) == 1 and y.ndim == 1:
        if shape[0] > 1 and whole and y.max() < shape[0]:
            return "crossentropy"
        if shape == (1,) and last == "sigmoid" and whole and set(np.unique(y)) <= {0, 1}:
            return "binary-crossentropy"
        if shape == (1,) and not whole and last != "sigmoid":
            return "mae"
    labels = "no labels" if y is None else "whole-number labels" if whole else "real labels"
    raise TrainError(
        f"model {model.name!r} gives {shape} for each example, its last activation is {last!r}, "
        f"and there are {labels}, which leaves open what it is trained for; name it with --loss "
        f"({', '.join(LOSSES)})."
    )


def _may_give_input(model: Any, x: Array, y: Array | None) -> bool:
    """Whether the output is shaped like the input and no labels speak for another target."""
    shape = tuple(model.output_shape[1:])
    return (shape == tuple(x.shape[1:]) and shape != (1,)
            and (y is None or (y.ndim == 1 and bool(np.isin(y, (0, 1)).all()))))


def _known_loss(given: Any) -> str:
    """A loss of Keras by our name."""
    names = _names(given)
    if len(set(names)) != 1 or names[0] not in _KERAS_LOSSES:
        raise TrainError(
            f"the model was compiled with the loss {_shown(given)}, which is not known here; name "
            f"one with --loss ({', '.join(LOSSES)})."
        )
    return _KERAS_LOSSES[names[0]]


def _known_metric(given: Any, loss: str) -> str | None:
    """The first compiled metric that is known and fits the loss; None takes the loss' own."""
    fitting = {"crossentropy": (), "binary-crossentropy": ("auc",)}.get(loss, ("mae", "mse", "r2"))
    for name in _names(given):
        if "accuracy" in name and loss.endswith("crossentropy"):
            return None
        if _KERAS_METRICS.get(name) in fitting:
            return _KERAS_METRICS[name]
    return None


def _names(given: Any) -> list[str]:
    """Names in a compiled loss or list of metrics, in Keras' several ways of writing them."""
    return [name.lower().replace("_", "") for name in _found(given)]


def _found(given: Any) -> Iterable[str]:
    if isinstance(given, str):
        yield given
    elif isinstance(given, list):
        for one in given:
            yield from _found(one)
    elif isinstance(given, dict) and "class_name" in given:
        inside = given.get("config")
        # A function has its name in ``config``, a MeanMetricWrapper in ``config["fn"]``.
        if isinstance(inside, str):
            yield inside
        elif isinstance(inside, dict) and isinstance(inside.get("fn"), str):
            yield inside["fn"]
        else:
            yield str(given["class_name"])
    elif isinstance(given, dict):
        for one in given.values():
            yield from _found(one)


def _shown(given: Any) -> str:
    return repr(", ".join(_found(given)) or str(given)[:60])
