"""Evaluate: files, contents of files and data sets in; results out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_net import examples, small_net

from qinspect.data.dataset import Dataset
from qinspect.errors import DataError
from qinspect.evaluation import evaluate
from qinspect.tflite import evaluate as run_file


def test_content_stands_for_its_file(tmp_path: Path) -> None:
    content, x = small_net(), examples(40)
    y = np.arange(len(x)) % 3
    file = tmp_path / "net.tflite"
    file.write_bytes(content)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    data = Dataset("toy", x, y, np.array([f"toy-{i}" for i in range(len(x))]), 3)
    by_path = evaluate(file, tmp_path / "data.npz")
    by_content = evaluate({"net": content}, data)
    plain = run_file(content, x)
    for found, name in ((by_path, "net.tflite"), (by_content, "net")):
        assert found.models == (name,)
        np.testing.assert_array_equal(found.outputs[name], plain.outputs)
        np.testing.assert_array_equal(found.scores(name), plain.prediction == y)


def test_without_labels_it_is_said_what_to_add() -> None:
    x = examples(10)
    data = Dataset("toy", x, None, np.arange(len(x)), 0)
    with pytest.raises(DataError, match=r"toy has no labels y; add them as y, or .* --y-key; "):
        evaluate({"net": small_net()}, data)
