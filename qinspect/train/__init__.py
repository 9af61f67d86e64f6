"""Networks, float training, post-training quantization and quantization-aware training.

The only room that imports TensorFlow, and it does so when a function is called: importing
``qinspect.train`` itself costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "MODELS": "names",
    "PTQ_RECIPES": "names",
    "Recipe": "names",
    "build_model": "zoo",
    "check_model": "check",
    "convert": "conversion",
    "convert_qat": "qat",
    "fit": "training",
    "fit_qat": "qat",
    "has_batchnorm": "layers",
    "keep_in_float": "remedies",
    "load_keras": "files",
    "make_progress": "progress",
    "per_channel_dense_qat": "remedies",
    "predict": "training",
    "quantize_aware": "qat",
    "recalibrate": "remedies",
    "reestimate_batchnorm": "remedies",
    "reset": "keras",
    "robust_qat": "remedies",
    "save_keras": "files",
    "to_tf_keras": "keras3",
    "warm_start_observers": "remedies",
}

__all__ = [
    "MODELS",
    "PTQ_RECIPES",
    "Recipe",
    "build_model",
    "check_model",
    "convert",
    "convert_qat",
    "fit",
    "fit_qat",
    "has_batchnorm",
    "keep_in_float",
    "load_keras",
    "make_progress",
    "per_channel_dense_qat",
    "predict",
    "quantize_aware",
    "recalibrate",
    "reestimate_batchnorm",
    "reset",
    "robust_qat",
    "save_keras",
    "to_tf_keras",
    "warm_start_observers",
]

if TYPE_CHECKING:
    from qinspect.train.check import check_model
    from qinspect.train.conversion import convert
    from qinspect.train.files import load_keras, save_keras
    from qinspect.train.keras import reset
    from qinspect.train.keras3 import to_tf_keras
    from qinspect.train.layers import has_batchnorm
    from qinspect.train.names import MODELS, PTQ_RECIPES, Recipe
    from qinspect.train.progress import make_progress
    from qinspect.train.qat import convert_qat, fit_qat, quantize_aware
    from qinspect.train.remedies import (
        keep_in_float,
        per_channel_dense_qat,
        recalibrate,
        reestimate_batchnorm,
        robust_qat,
        warm_start_observers,
    )
    from qinspect.train.training import fit, predict
    from qinspect.train.zoo import build_model


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"qinspect.train.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'qinspect.train' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
