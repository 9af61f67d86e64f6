from .data import load_dataset, load_npz, split
from .diagnosis.cases import case
from .diagnosis.engine import diagnose
from .errors import QinspectError
from .stats import compare_paired
from .studies.run import run_study
from .studies.spec import StudySpec
from .studies.stored import load_study
from .tflite import evaluate

__version__: str

__all__ = [
    "QinspectError", "StudySpec", "case", "compare_paired", "diagnose", "evaluate", "load_dataset",
    "load_npz", "load_study", "run_study", "split",
]
