"""Widgets for notebooks: each wires controls to functions that are tested without it."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from qinspect.errors import require_extra

_PUBLIC = {
    "ClipHistogram": "histogram",
    "Dashboard": "dashboard",
    "DiagnosisBoard": "board",
    "ErrorExplorer": "errors",
    "FlipBrowser": "flips",
    "ObserverPlayer": "observers",
    "QuantizationPlayground": "playground",
    "RangeExplorer": "ranges",
    "SignificanceExplorer": "significance",
    "StudyOverview": "overview",
}

__all__ = [
    "ClipHistogram",
    "Dashboard",
    "DiagnosisBoard",
    "ErrorExplorer",
    "FlipBrowser",
    "ObserverPlayer",
    "QuantizationPlayground",
    "RangeExplorer",
    "SignificanceExplorer",
    "StudyOverview",
]

if TYPE_CHECKING:
    from qinspect.show.widgets.board import DiagnosisBoard
    from qinspect.show.widgets.dashboard import Dashboard
    from qinspect.show.widgets.errors import ErrorExplorer
    from qinspect.show.widgets.flips import FlipBrowser
    from qinspect.show.widgets.histogram import ClipHistogram
    from qinspect.show.widgets.observers import ObserverPlayer
    from qinspect.show.widgets.overview import StudyOverview
    from qinspect.show.widgets.playground import QuantizationPlayground
    from qinspect.show.widgets.ranges import RangeExplorer
    from qinspect.show.widgets.significance import SignificanceExplorer


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'qinspect.show.widgets' has no attribute {name!r}")
    for package in ("ipywidgets", "anywidget"):
        if find_spec(package) is None:
            raise require_extra(package, "lab", f"the widget {name}")
    return getattr(import_module(f"qinspect.show.widgets.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
