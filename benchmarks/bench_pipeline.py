"""What a pipeline waits for: the gate on resnet8, and QAT watched by `QATMonitor` or by nothing.

The gate is the command in a process of its own, start included. Watched and unwatched training
begin at the same weights and see the same batches; conversions for the gap between Keras and
TFLite, which have a budget of their own, are taken off the time of the watched one.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bench import ROOT, Row, met, need, paired, resnet8, span

# Share of the training time that watching may take.
_OVERHEAD = 0.10


def rows() -> Iterator[Row | str]:
    yield from gates()
    need("tensorflow_model_optimization")
    for name, epochs in (("mlp", 5), ("bn_cnn", 1), ("bn_cnn", 5), ("bn_cnn", 50)):
        yield watched(name, epochs)


def gates() -> Iterator[Row]:
    """float32 against int8, with files and with predictions kept of the old one."""
    from qinspect.gating import CODES
    from qinspect.verdicts import GATE

    words = {code: GATE[verdict] for verdict, code in CODES.items()}
    files, x, y = resnet8(2000)
    old, new = files / "float32.tflite", files / "int8.tflite"
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        data, kept, junit = folder / "eval.npz", folder / "old.npz", folder / "gate.xml"
        np.savez(data, x=x, y=y)

        def gate(*options: object) -> int:
            command = [sys.executable, "-m", "qinspect", "gate", *map(str, options), "--data",
                       str(data), "--margin", "1", "--junit", str(junit)]
            return subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode

        gate(old, new, "--write-baseline", kept)
        timed = paired({"both files": lambda: gate(old, new),
                        "a baseline": lambda: gate(new, "--baseline", kept)})
        suite = ET.parse(junit).getroot()
        cases = list(suite.iter("testcase"))
        said = f"JUnit: {len(cases)} test, {len(list(suite.iter('failure')))} failed"
        for way, code in timed.found.items():
            yield Row(f"gate resnet8 float32 and int8, 2,000 images, from {way}",
                      span(timed.median(way)),
                      check=f"exit code {code}, {words.get(code, 'an error')}; {said}")


def watched(name: str, epochs: int) -> Row:
    """QAT of a network of the zoo on digits, with the monitor and without."""
    from qinspect.data import load_dataset, split
    from qinspect.train import QATMonitor, build_model, fit, fit_qat, quantize_aware, reset

    parts = split(load_dataset("digits"), seed=0)
    reset(0)
    model = build_model(name, parts.train.x.shape[1:], 10, seed=0)
    fit(model, parts.train, None, epochs=1, learning_rate=2e-3, seed=0)
    options: dict[str, Any] = {"epochs": epochs, "learning_rate": 3e-4, "seed": 0}
    gaps: list[float] = []

    def unwatched() -> Any:
        qat = quantize_aware(model)
        fit(qat, parts.train, None, phase="qat", **options)
        return qat.get_weights()

    def with_monitor() -> Any:
        qat = quantize_aware(model)
        monitor = QATMonitor(parts.calibration.x, check=parts.validation, notify=lambda text: None)
        fit_qat(qat, parts.train, None, monitor=monitor, **options)
        gaps.append(monitor.gap_seconds)
        return qat.get_weights()

    timed = paired({"watched": with_monitor, "unwatched": unwatched}, 7)
    for one, other in zip(*timed.found.values(), strict=True):
        assert np.array_equal(one, other)
    without = (timed.seconds["watched"] - np.array(gaps)) / timed.seconds["unwatched"] - 1
    low, share, high = np.percentile(without, [25, 50, 75])
    return Row(
        f"QAT of {name} on digits, {epochs} epoch{'s' * (epochs > 1)}, watched",
        span(timed.median("watched")), "unwatched", span(timed.median("unwatched")),
        f"takes {100 * share:.1f} % more [{100 * low:.1f}, {100 * high:.1f}] without conversions, "
        f"which take {span(float(np.median(gaps)))}",
        f"at most {100 * _OVERHEAD:.0f} % more: {met(share <= _OVERHEAD)}", "the same weights")
