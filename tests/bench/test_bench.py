"""The harness of ``benchmarks/bench.py``, and that every subject can be imported."""

from __future__ import annotations

import importlib
import time

import numpy as np
import pytest
from parts import ROOT


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("bench")


def test_a_ratio_is_the_median_of_the_rounds_not_the_ratio_of_medians(bench):
    ours, theirs = np.array([1.0, 2.0, 4.0, 1.0, 1.0]), np.array([3.0, 2.0, 20.0, 4.0, 2.0])
    rounds = bench.Rounds({"ours": ours, "peer": theirs}, {})
    assert rounds.ratio("peer", "ours") == (3.0, 2.0, 4.0)  # of 3, 1, 5, 4 and 2
    row = rounds.row("work", "ours", "peer", target=2.5)
    assert (row.ratio, row.target) == ("3 [2, 4]", "at least 2.5: met")
    assert rounds.row("work", "peer", "ours", at_most=2).target.endswith("MISSED")


def test_rounds_take_turns_and_stop_when_they_take_too_long(bench):
    order = []
    ways = {name: lambda name=name: order.append(name) or name for name in "ab"}
    found = bench.paired(ways, 3)
    assert order == list("abbaab")
    assert found.found == {"a": "a", "b": "b"}
    assert len(bench.paired({"a": lambda: time.sleep(0.01)}, 5, longest=0).seconds["a"]) == 1


def test_the_exponent_of_a_power_is_found(bench):
    sizes = np.array([10.0, 100.0, 1000.0])
    assert bench.exponent(sizes, 3 * sizes**1.5) == pytest.approx(1.5)


def test_every_subject_has_its_file_and_its_purpose(bench):
    files = {path.stem.removeprefix("bench_") for path in (ROOT / "benchmarks").glob("bench_*.py")}
    assert files == set(bench.SUBJECTS)
    for subject in bench.SUBJECTS:
        module = importlib.import_module(f"bench_{subject}")
        assert callable(module.rows)
        assert module.__doc__
