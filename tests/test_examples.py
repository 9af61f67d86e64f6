"""The examples in docstrings run: in a folder with the files that they speak of."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import numpy as np
import pytest
from parts import ROOT, need_package
from show_study import write_study
from small_net import examples, small_net

from qinspect.measure.activations import observe_ranges
from qinspect.tflite.read import read_graph
from qinspect.tflite.requantize import quantize_file
from qinspect.tflite.run import evaluate

MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "qinspect").rglob("*.py"))
    if ">>> " in path.read_text()
]
TRAINING = ("qinspect.studies.run", "qinspect.studies.sweeping", "qinspect.train.monitor",
            "qinspect.train.robust")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``float.tflite``, ``int8.tflite`` made from it, and ``data.npz`` that both classify.

    ``ptq.tflite`` is calibrated in other units; ``study`` is a finished study.
    """
    path = tmp_path_factory.mktemp("examples")
    graph, x = read_graph(small_net()), examples(100)
    (path / "float.tflite").write_bytes(graph.content)
    (path / "int8.tflite").write_bytes(quantize_file(graph, observe_ranges(graph, x).over()))
    bounds = observe_ranges(graph, x * np.float32(0.1)).over()
    (path / "ptq.tflite").write_bytes(quantize_file(graph, bounds))
    write_study(path / "study", n=400)
    np.savez(path / "data.npz", x=x, y=evaluate(graph.content, x).prediction)
    return path


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.slow) if name in TRAINING else name for name in MODULES])
def test_examples_give_what_they_say(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name.startswith("qinspect.train."):
        need_package("tensorflow")
    monkeypatch.chdir(folder)
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted
    assert not found.failed
