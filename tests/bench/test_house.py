"""The counts of ``benchmarks/house.py``."""

from __future__ import annotations

import importlib.util
import json
from types import ModuleType

import pytest
from parts import ROOT


@pytest.fixture(scope="module")
def house() -> ModuleType:
    spec = importlib.util.spec_from_file_location("house", ROOT / "benchmarks" / "house.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_code_is_what_is_neither_blank_nor_comment_nor_docstring(house: ModuleType) -> None:
    text = '''"""Module.

More.
"""

import os  # counted


class A:
    """Docstring."""

    # comment
    text = """two
    lines"""


def f(
    a,
):
    """Docstring
    of two lines."""
    return a
'''
    # import; class; the text of two lines; the signature of three; return.
    assert house.code_lines(text) == 8


def test_modules_are_counted_once_and_by_name(house: ModuleType) -> None:
    cells = ["import qinspect as qi\nfrom qinspect import stats, load\n%matplotlib inline",
             "from qinspect.stats import holm\nimport numpy as np", "# not code"]
    notebook = {"cells": [{"cell_type": kind, "source": [cell]} for cell, kind in
                          zip(cells, ("code", "code", "markdown"), strict=True)]}
    files = {"notebooks/a.ipynb": json.dumps(notebook), "qinspect/stats/__init__.py": "",
             "qinspect/__init__.py": ""}
    assert house.notebook_modules(files) == {"qinspect", "qinspect.stats"}


def test_what_is_named_is_found_in_its_files(house: ModuleType) -> None:
    rule = 'RULE = Rule(\n    id="far-away",\n)\n'
    files = {
        "qinspect/causes/far_away.py": rule, "tests/test_far.py": "far_away",
        "qinspect/causes/other.py": rule.replace("far-away", "near"),
        "docs/causes.md": "<!-- Made by `make docs` from here -->\nfar-away",
        "README.md": "far-away",
    }
    assert house.causes(files) == {"far-away", "near"}
    found = house.costs(files, "a cause", house.causes(files), r"\b({name}|{other})\b")
    assert found == {"files to add a cause, fewest": ["qinspect/causes/other.py"],
                     "files to add a cause, median": 2}
