"""Widgets for notebooks: each wires controls to functions that are tested without it."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from qinspect.errors import require_extra

_HOME = {
    "ClipHistogram": "figure",
    "Dashboard": "dashboard",
    "DiagnosisBoard": "board",
    "ErrorExplorer": "errors",
    "FlipBrowser": "flips",
    "LayerExplorer": "dashboard",
    "ObserverPlayer": "observers",
    "QATWatch": "observers",
    "Overview": "dashboard",
    "QuantizationPlayground": "playground",
    "RangeExplorer": "ranges",
    "SignificanceExplorer": "significance",
    "SweepBoard": "dashboard",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'qinspect.show.widgets' has no attribute {name!r}")
    for package in ("ipywidgets", "anywidget"):
        if find_spec(package) is None:
            raise require_extra(package, "lab", f"the widget {name}")
    return getattr(import_module(f"qinspect.show.widgets.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOME)
