"""Name the cause of a difference: rules, interventions, sensitivity.

Names are loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "Case": "qinspect.diagnose.case",
    "Claim": "qinspect.diagnose.case",
    "Diagnosis": "qinspect.diagnose.answer",
    "TrainingFacts": "qinspect.diagnose.case",
    "all_rules": "qinspect.diagnose.registry",
    "diagnose": "qinspect.diagnose.engine",
}

__all__ = ["Case", "Claim", "Diagnosis", "TrainingFacts", "all_rules", "diagnose"]

if TYPE_CHECKING:
    from qinspect.diagnose.answer import Diagnosis
    from qinspect.diagnose.case import Case, Claim, TrainingFacts
    from qinspect.diagnose.engine import diagnose
    from qinspect.diagnose.registry import all_rules


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'qinspect.diagnose' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
