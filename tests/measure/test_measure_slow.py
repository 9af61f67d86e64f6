"""Against TensorFlow's own debugger, and constant memory: the benchmarks at a smaller size."""

from __future__ import annotations

import importlib
import sys

import pytest
from parts import ROOT, need_package


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


@pytest.mark.slow
def test_local_error_agrees_with_tensorflows_debugger(data_dir, load):
    need_package("tensorflow")
    layers = load("bench_layers")
    given = layers.setting(examples=100, calibration=50)
    own = layers.agreement(layers.debugged(given), layers.ours(given, accumulated=False))
    assert len(own) == 14
    assert (own["ratio"] - 1).abs().max() < 0.02
    assert (own["debugger"] > 0.1).all()  # the debugger did measure something


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("what", ["activations", "layers"])
def test_memory_does_not_grow_with_the_number_of_examples(tmp_path, load, what):
    bench = load("bench_memory")
    bench.write_files(tmp_path, 5, 20_000)
    few, many = (bench.measure(what, tmp_path, count) for count in (3000, 20_000))
    assert (few["examples"], many["examples"]) == (3000, 20_000)
    assert many["peak_kib"] <= 1.1 * few["peak_kib"]
