"""A seed gives the same files on any number of cores, and says where it may not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from parts import need_package, other_process

STUDY = """
import os, sys
if sys.argv[2] == "one":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
if sys.argv[2] == "used":
    import tensorflow
    tensorflow.zeros(3) + 1
import qinspect as qi
qi.study("digits", model=sys.argv[3], train_size=320, test_size=100, float_epochs=1, qat_epochs=1,
         recipes=(), repeats=1, out=sys.argv[1])
"""


def run(out: Path, how: str, model: str) -> tuple[dict[str, bytes], dict, str]:
    """The files, the summary and the messages of a study in a process of its own."""
    need_package("tensorflow_model_optimization")
    done = subprocess.run([sys.executable, "-c", STUDY, str(out), how, model], capture_output=True,
                          text=True, timeout=300, check=False, env=other_process())
    assert done.returncode == 0, done.stderr
    files = {path.name: path.read_bytes() for path in (out / "models").glob("*.tflite")}
    return files, json.loads((out / "summary.json").read_text()), done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a process cannot be pinned here")
def test_the_same_files_on_one_core_and_on_all(tmp_path: Path) -> None:
    one, summary, _ = run(tmp_path / "one", "one", "bn_cnn")
    every, *_ = run(tmp_path / "every", "every", "bn_cnn")
    assert one == every
    assert len(one) == 9
    training = summary["environment"]["training"]
    assert training["threads"] == [[1, 1]]
    assert training["cpu_features"]
    assert not any("one thread" in note for note in summary["notes"])


@pytest.mark.slow
def test_a_process_that_used_tensorflow_before_is_told_so(tmp_path: Path) -> None:
    _, summary, said = run(tmp_path / "used", "used", "mlp")
    assert summary["environment"]["training"]["threads"] == [[0, 0]]
    assert "Not all of this was trained on one thread" in summary["notes"][0]
    assert summary["notes"][0] in said
