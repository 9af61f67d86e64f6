"""The rules, found by looking into their folder: a new cause is one new file."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from qinspect import causes as folder
from qinspect.diagnosis.rule import Rule


@cache
def all_rules() -> dict[str, Rule]:
    """Every rule by id, those whose remedy changes least first.

    Each module in ``qinspect/diagnose/rules`` defines ``RULE`` or, where causes share their
    evidence, ``RULES``.
    """
    found: list[Rule] = []
    for module in pkgutil.iter_modules(folder.__path__):
        loaded = import_module(f"{folder.__name__}.{module.name}")
        found += getattr(loaded, "RULES", None) or [loaded.RULE]
    by_id = {rule.id: rule for rule in sorted(found, key=lambda rule: (rule.rank, rule.id))}
    if len(by_id) < len(found):
        raise RuntimeError("two rules have the same id")
    return by_id
