"""A published data set that is nowhere: one sentence that names both ways to get it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from parts import ROOT, need_package

CODE = """
from qinspect.data import load_dataset
from qinspect.errors import DataError
try:
    load_dataset("cifar10")
except DataError as error:
    print(error)
"""


@pytest.mark.slow
def test_without_file_and_network_both_ways_are_said(tmp_path: Path) -> None:
    need_package("tf_keras")
    # A proxy that refuses every connection is a network that is down, wherever the test runs.
    env = os.environ | {
        "https_proxy": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "no_proxy": "",
        "NO_PROXY": "",
        "QINSPECT_DATA": str(tmp_path),
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=env, capture_output=True, text=True, timeout=120
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert len(lines) == 1
    for word in ("cifar10.npz does not exist", "QINSPECT_DATA", "network", "could not be"):
        assert word in lines[0]


@pytest.mark.slow
def test_the_copy_in_the_cache_of_keras_is_used(tmp_path: Path) -> None:
    """Fashion-MNIST has no checksum in Keras, so a small stand-in shows that it is read."""
    need_package("tf_keras")
    import gzip

    folder = tmp_path / ".keras" / "datasets" / "fashion-mnist"
    folder.mkdir(parents=True)
    y = np.arange(20) % 10
    for prefix, n in (("train", 20), ("t10k", 10)):
        with gzip.open(folder / f"{prefix}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(bytes(8) + y[:n].astype(np.uint8).tobytes())
        with gzip.open(folder / f"{prefix}-images-idx3-ubyte.gz", "wb") as file:
            file.write(bytes(16) + np.full((n, 28, 28), 51, np.uint8).tobytes())
    code = (
        "from qinspect.data import load_dataset\n"
        "d = load_dataset('fashion_mnist')\n"
        "print(d.x.shape, d.x.max(), d.ids[0], d.ids[-1])"
    )
    env = os.environ | {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    env.pop("QINSPECT_DATA", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    expected = "(30, 28, 28, 1) 0.2 fashion_mnist-train-00000 fashion_mnist-test-00009"
    assert done.stdout.strip() == expected
