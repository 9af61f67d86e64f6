from . import exercises, stats, tflite, train
from .comparisons import compare
from .diagnosis.cases import case
from .diagnosis.engine import diagnose
from .errors import QinspectError
from .evaluation import evaluate
from .gathering import runs
from .gating import gate
from .loading import load
from .measure.layer_cost import sensitivity
from .measure.layer_tables import layers
from .measure.node_data import overlay
from .predictions import results
from .show.opening import explore
from .studies.run import study
from .studies.sweeping import sweep
from .tflite.identity import inspect
from .train.conversion import convert
from .train.robust import robust_qat

__version__: str

__all__ = [
    "QinspectError", "case", "compare", "convert", "diagnose", "evaluate", "exercises", "explore",
    "gate", "inspect", "layers", "load", "overlay", "results", "robust_qat", "runs", "sensitivity",
    "stats", "study", "sweep", "tflite", "train",
]
