"""Small trained models that several test files share; each is made once a session."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from parts import need_package

from qinspect.data import load_dataset, split
from qinspect.data.dataset import Splits
from qinspect.tflite.run import evaluate

SHAPE = (8, 8, 1)


@cache
def digits() -> Splits:
    return split(load_dataset("digits"), seed=0)


@cache
def trained(name: str) -> Any:
    """A zoo model after four epochs; tests must not change it."""
    return fresh(name, epochs=4)


def fresh(name: str, *, epochs: int, seed: int = 0, bn_momentum: float = 0.9) -> Any:
    """A zoo model of one's own."""
    need_package("tensorflow_model_optimization")
    from qinspect.train import build_model, fit, reset

    reset(seed)
    model = build_model(name, SHAPE, 10, seed=seed, bn_momentum=bn_momentum)
    fit(model, digits().train, None, epochs=epochs, learning_rate=2e-3, seed=seed)
    return model


@cache
def begun(name: str, bn_momentum: float = 0.9) -> Any:
    """A zoo model after one epoch; tests must not change it."""
    return fresh(name, epochs=1, bn_momentum=bn_momentum)


def copied(name: str) -> Any:
    """``trained(name)``, to be changed."""
    from qinspect.train import build_model

    model = build_model(name, SHAPE, 10)
    model.set_weights(trained(name).get_weights())
    return model


def uneven(factor: float = 200.0) -> Any:
    """``mlp`` with half the channels of its first layer made smaller, the function unchanged."""
    model = copied("mlp")
    first, second = model.get_layer("dense1"), model.get_layer("dense2")
    by = np.where(np.arange(96) % 2, 1.0, 1 / factor).astype(np.float32)
    kernel, bias = first.get_weights()
    first.set_weights([kernel * by, bias * by])
    kernel, bias = second.get_weights()
    second.set_weights([kernel / by[:, np.newaxis], bias])
    return model


def keras_accuracy(model: Any) -> float:
    from qinspect.train import predict

    return float(np.mean(predict(model, digits().test.x).argmax(axis=1) == digits().test.y))


def file_accuracy(content: bytes) -> float:
    return float(np.mean(evaluate(content, digits().test.x).prediction == digits().test.y))
