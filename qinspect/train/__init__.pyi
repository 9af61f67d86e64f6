from .check import check_model, to_tf_keras
from .conversion import convert, convert_qat, keep_in_float, make_converter, run_converter
from .files import load_keras, save_keras
from .keras import has_batchnorm, reset
from .observers import warm_start_observers
from .progress import make_progress
from .qat import fit_qat, quantize_aware
from .recipes import MODELS, PTQ_RECIPES, Recipe
from .remedies import per_channel_dense_qat, recalibrate, reestimate_batchnorm
from .robust import RobustQat, robust_qat
from .training import fit, predict
from .zoo import build_model

__all__ = [
    "MODELS", "PTQ_RECIPES", "Recipe", "RobustQat", "build_model", "check_model", "convert",
    "convert_qat", "fit", "fit_qat", "has_batchnorm", "keep_in_float", "load_keras",
    "make_converter", "make_progress", "per_channel_dense_qat", "predict", "quantize_aware",
    "recalibrate", "reestimate_batchnorm", "reset", "robust_qat", "run_converter", "save_keras",
    "to_tf_keras", "warm_start_observers",
]
