"""qinspect: why is the quantized model better, or worse, than it should be?

Names are loaded on first use, so importing the package costs next to nothing and never imports
TensorFlow or even NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "load_dataset": "qinspect.data",
    "load_npz": "qinspect.data",
    "split": "qinspect.data",
    "evaluate": "qinspect.tflite",
    "compare_paired": "qinspect.stats",
    "StudySpec": "qinspect.study",
    "run_study": "qinspect.study",
    "load_study": "qinspect.study",
    "QinspectError": "qinspect.errors",
}

__all__ = [
    "QinspectError",
    "StudySpec",
    "__version__",
    "compare_paired",
    "evaluate",
    "load_dataset",
    "load_npz",
    "load_study",
    "run_study",
    "split",
]

if TYPE_CHECKING:
    from qinspect.data import load_dataset, load_npz, split
    from qinspect.errors import QinspectError
    from qinspect.stats import compare_paired
    from qinspect.study import StudySpec, load_study, run_study
    from qinspect.tflite import evaluate


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'qinspect' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
