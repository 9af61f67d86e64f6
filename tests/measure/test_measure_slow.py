"""Against TensorFlow's own debugger, and constant memory: the benchmarks at a smaller size."""

from __future__ import annotations

import importlib.util
import sys

import pytest
from parts import ROOT, need_package

BENCHMARKS = ROOT / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_local_error_agrees_with_tensorflows_debugger(data_dir):
    need_package("tensorflow")
    result = load("bench_debugger").compare(examples=100, calibration=50, repeats=1)
    own = result["table"][result["table"]["own_scale"]]
    assert len(own) == 14
    assert (own["ratio"] - 1).abs().max() < 0.02
    assert (own["debugger"] > 0.1).all()  # the debugger did measure something


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("what", ["activations", "layer errors"])
def test_memory_does_not_grow_with_the_number_of_examples(data_dir, what):
    bench = load("bench_memory")
    few, many = bench.measure(what, 500, depth=4), bench.measure(what, 8000, depth=4)
    assert (few["examples"], many["examples"]) == (500, 8000)
    assert many["peak_kib"] <= 1.1 * few["peak_kib"]
