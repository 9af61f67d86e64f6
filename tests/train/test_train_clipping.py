"""The cost of tfmot's start ranges where activations exceed them: pixels left at 0-255."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from parts import need_package

from qinspect.data import load_dataset, split
from qinspect.tflite.run import evaluate


@pytest.mark.slow
def test_warm_started_observers_beat_the_default_at_0_to_255(data_dir: Path) -> None:
    """Order of the medians over three seeds: 2,000 images, three float epochs, one of QAT."""
    need_package("tensorflow_model_optimization")
    from qinspect.train import build_model, convert_qat, fit, fit_qat, quantize_aware, reset

    data = load_dataset("fashion_mnist", input_range="0-255")
    accuracy: dict[bool, list[float]] = {False: [], True: []}
    for seed in range(3):
        parts = split(data, train=2_000, validation=100, calibration=200, test=2_000, seed=seed)
        reset(seed)
        model = build_model("plain_cnn", (28, 28, 1), 10, seed=seed)
        fit(model, parts.train, None, epochs=3, learning_rate=1e-3, seed=seed)
        reach: dict[bool, float] = {}
        for warm in (False, True):
            qat_model = quantize_aware(model)
            _, log = fit_qat(
                qat_model, parts.train, None, epochs=1, learning_rate=3e-4, seed=seed + 100,
                warm_start_x=parts.calibration.x if warm else None,
            )
            last = log[(log["step"] == log["step"].max()) & (log["layer"] == "relu1")]
            reach[warm] = float(last["max"].iloc[0])
            result = evaluate(convert_qat(qat_model), parts.test.x)
            accuracy[warm].append(float(np.mean(result.prediction == parts.test.y)))
        # The cause: after 63 steps 0.999^63 = 94 % of the start value is left, so the range of
        # the first layer still clips most of what comes.
        assert reach[False] < 0.5 * reach[True]
    assert np.median(accuracy[True]) > np.median(accuracy[False]), accuracy
