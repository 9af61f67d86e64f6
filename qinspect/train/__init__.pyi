from .check import check_model, layers_not_taken
from .conversion import convert, convert_qat, keep_in_float, make_converter, run_converter
from .files import compiled_with, learning_rate_of, load_keras, save_keras
from .keras import THREADS, has_batchnorm, machine, reset, threads
from .monitor import QATMonitor
from .objective import Objective, choose_objective
from .observers import warm_start_observers
from .qat import fit_qat, quantize_aware
from .rebuild import flatten_model, one_output, to_tf_keras
from .recipes import LOSSES, MODELS, PTQ_RECIPES, Recipe
from .remedies import per_channel_dense_qat, recalibrate, reestimate_batchnorm
from .robust import RobustQat, robust_qat
from .training import fit, predict
from .zoo import build_autoencoder, build_model

__all__ = [
    "LOSSES",
    "MODELS",
    "PTQ_RECIPES",
    "THREADS",
    "Objective",
    "QATMonitor",
    "Recipe",
    "RobustQat",
    "build_autoencoder",
    "build_model",
    "check_model",
    "choose_objective",
    "compiled_with",
    "convert",
    "convert_qat",
    "fit",
    "fit_qat",
    "flatten_model",
    "has_batchnorm",
    "keep_in_float",
    "layers_not_taken",
    "learning_rate_of",
    "load_keras",
    "machine",
    "make_converter",
    "one_output",
    "per_channel_dense_qat",
    "predict",
    "quantize_aware",
    "recalibrate",
    "reestimate_batchnorm",
    "reset",
    "robust_qat",
    "run_converter",
    "save_keras",
    "threads",
    "to_tf_keras",
    "warm_start_observers",
]
