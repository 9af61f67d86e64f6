"""JavaScript modules, for widgets and for reports."""

from __future__ import annotations

from importlib import resources


def source(name: str) -> str:
    """Text of a module of this folder, such as ``histogram.js``."""
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
