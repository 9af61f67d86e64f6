"""Read, identify, run and match ``.tflite`` files, without TensorFlow.

Names are loaded on first use: reading a file needs neither the interpreter nor pandas.
``identify.identify`` and ``lineage.lineage`` are named like their modules and are imported from
there.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "constant": "qinspect.tflite.constants",
    "dequantized": "qinspect.tflite.constants",
    "ensure_runs": "qinspect.tflite.sandbox",
    "evaluate": "qinspect.tflite.run",
    "inspect_file": "qinspect.tflite.inspection",
    "match_graphs": "qinspect.tflite.match",
    "probe": "qinspect.tflite.sandbox",
    "read_graph": "qinspect.tflite.read",
    "read_keras": "qinspect.tflite.keras_file",
    "scheme_of": "qinspect.tflite.scheme",
}

__all__ = [
    "constant",
    "dequantized",
    "ensure_runs",
    "evaluate",
    "inspect_file",
    "match_graphs",
    "probe",
    "read_graph",
    "read_keras",
    "scheme_of",
]

if TYPE_CHECKING:
    from qinspect.tflite.constants import constant, dequantized
    from qinspect.tflite.inspection import inspect_file
    from qinspect.tflite.keras_file import read_keras
    from qinspect.tflite.match import match_graphs
    from qinspect.tflite.read import read_graph
    from qinspect.tflite.run import evaluate
    from qinspect.tflite.sandbox import ensure_runs, probe
    from qinspect.tflite.scheme import scheme_of


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'qinspect.tflite' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
