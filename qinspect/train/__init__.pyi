from .check import check_model
from .conversion import convert
from .files import load_keras, save_keras
from .keras import reset
from .keras3 import to_tf_keras
from .progress import make_progress
from .qat import convert_qat, fit_qat, quantize_aware
from .recipes import MODELS, PTQ_RECIPES, Recipe
from .remedies import (
    keep_in_float,
    per_channel_dense_qat,
    recalibrate,
    reestimate_batchnorm,
    robust_qat,
    warm_start_observers,
)
from .training import fit, predict
from .wrapped import has_batchnorm
from .zoo import build_model

__all__ = [
    "MODELS", "PTQ_RECIPES", "Recipe", "build_model", "check_model", "convert", "convert_qat",
    "fit", "fit_qat", "has_batchnorm", "keep_in_float", "load_keras", "make_progress",
    "per_channel_dense_qat", "predict", "quantize_aware", "recalibrate", "reestimate_batchnorm",
    "reset", "robust_qat", "save_keras", "to_tf_keras", "warm_start_observers",
]
