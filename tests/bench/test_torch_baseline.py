"""The PyTorch baseline: its table in data/, its errors, and, where PyTorch is, the training."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from parts import ROOT, need_package

from qinspect.errors import SpecError
from qinspect.predictions import results
from qinspect.studies.run import load_splits
from qinspect.studies.spec import StudySpec
from qinspect.studies.stored import Study
from qinspect_bench.torch_baseline import TFLITE_ARMS, torch_baseline

TABLE = ROOT / "data" / "torch_baseline.csv"


def study(**settings: object) -> Study:
    """A study that knows its test examples and has a stand-in for every TFLite arm."""
    spec = StudySpec(**{"model": "mlp", "float_epochs": 4, **settings})  # type: ignore[arg-type]
    test = load_splits(spec).test
    arrays = {"id": test.ids, "y": test.y} | {f"prediction__{arm}": test.y for arm in TFLITE_ARMS}
    empty = pd.DataFrame()
    return Study(
        Path("none"), spec, {}, pd.DataFrame({"arm": list(TFLITE_ARMS)}), empty, empty, arrays
    )


def test_the_table_is_read_by_significance() -> None:
    report = results(TABLE).compare().to_json()
    names = [model["name"] for model in report["models"]]
    assert names == ["torch_float", "torch_dynamic", *TFLITE_ARMS.values()]
    assert all(model["accuracy"] > 0.9 for model in report["models"])


def test_the_table_is_of_the_digits_split() -> None:
    test = load_splits(StudySpec(model="mlp")).test
    table = pd.read_csv(TABLE)
    assert table["id"].tolist() == test.ids.tolist()
    assert table["y"].tolist() == test.y.tolist()


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is here")
def test_without_torch_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qinspect_bench.torch_baseline"], capture_output=True, text=True,
        cwd=tmp_path, check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "pip install 'qinspect[torch]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_only_the_mlp_is_compared() -> None:
    other = dataclasses.replace(study(), spec=StudySpec(model="bn_cnn"))
    with pytest.raises(SpecError, match="bn_cnn"):
        torch_baseline(other)


def test_training_repeats_and_quantization_changes_little() -> None:
    need_package("torch")
    first, again = torch_baseline(study()), torch_baseline(study())
    pd.testing.assert_frame_equal(first, again)
    right = {name: (first[name] == first["y"]).mean() for name in ("torch_float", "torch_dynamic")}
    assert min(right.values()) > 0.8
    assert np.mean(first["torch_float"] == first["torch_dynamic"]) > 0.95


def test_the_layers_become_integers() -> None:
    need_package("torch")
    from qinspect_bench import torch_baseline as module

    quantized = module._quantize(module._network(64, 10).eval())
    names = [type(layer).__module__ for layer in quantized if "Linear" in type(layer).__name__]
    assert len(names) == 3
    assert all("quantized.dynamic" in name for name in names)
