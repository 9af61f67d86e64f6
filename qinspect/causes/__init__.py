"""The causes: one file each, or one a family, found by looking into this folder.

A file defines ``RULE``, or ``RULES``, in the form of :mod:`qinspect.diagnosis.rule`.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from qinspect.diagnosis.rule import Rule


@cache
def all_rules() -> dict[str, Rule]:
    """Every rule by id, those whose remedy changes least first."""
    found: list[Rule] = []
    for module in pkgutil.iter_modules(__path__):
        if module.name != "__main__":
            loaded = import_module(f"{__name__}.{module.name}")
            found += getattr(loaded, "RULES", None) or [loaded.RULE]
    by_id = {rule.id: rule for rule in sorted(found, key=lambda rule: (rule.rank, rule.id))}
    if len(by_id) < len(found):
        raise RuntimeError("two rules have the same id")
    return by_id
