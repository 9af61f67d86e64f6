"""One experiment end to end: spec, store on disk, run, load; and sweeps over many.

Names are loaded on first use: a worker process of a sweep starts without SciPy and pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "PRESETS": "qinspect.study.spec",
    "Study": "qinspect.study.load",
    "StudySpec": "qinspect.study.spec",
    "grid": "qinspect.study.axes",
    "load_splits": "qinspect.study.run",
    "load_study": "qinspect.study.load",
    "load_sweep": "qinspect.study.sweep",
    "make_spec": "qinspect.study.spec",
    "parse_seeds": "qinspect.study.axes",
    "run_study": "qinspect.study.run",
    "run_sweep": "qinspect.study.sweep",
    "sweep_correct": "qinspect.study.sweep_pairs",
    "sweep_finding": "qinspect.study.sweep_sentences",
    "sweep_seeds": "qinspect.study.sweep_pairs",
}

__all__ = [
    "PRESETS",
    "Study",
    "StudySpec",
    "grid",
    "load_splits",
    "load_study",
    "load_sweep",
    "make_spec",
    "parse_seeds",
    "run_study",
    "run_sweep",
    "sweep_correct",
    "sweep_finding",
    "sweep_seeds",
]

if TYPE_CHECKING:
    from qinspect.study.axes import grid, parse_seeds
    from qinspect.study.load import Study, load_study
    from qinspect.study.run import load_splits, run_study
    from qinspect.study.spec import PRESETS, StudySpec, make_spec
    from qinspect.study.sweep import load_sweep, run_sweep
    from qinspect.study.sweep_pairs import sweep_correct, sweep_seeds
    from qinspect.study.sweep_sentences import sweep_finding


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'qinspect.study' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
