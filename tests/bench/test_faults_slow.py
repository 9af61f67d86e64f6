"""Faults that need Keras models, and some cases of the benchmark end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parts import need_package

from qinspect_bench import networks
from qinspect_bench.benchmark import plans, run_benchmark

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["plain_cnn", "depthwise_cnn"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_package("tensorflow")
    from qinspect.train import build_model, reestimate_batchnorm, save_keras

    made = build_model(request.param, (8, 8, 1), 10, seed=0)
    reestimate_batchnorm(made, pixels())
    path = tmp_path_factory.mktemp(request.param) / "float.h5"
    save_keras(made, path)
    return path


def pixels() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).random((200, 8, 8, 1)).astype(np.float32)


def outputs(path: Path) -> np.ndarray[Any, Any]:
    from qinspect.train import load_keras, predict

    return predict(load_keras(path), pixels())


def hidden_ranges(path: Path) -> list[float]:
    """Largest activation behind each ReLU."""
    from qinspect.train import load_keras

    found = load_keras(path)
    relus = [layer for layer in found.layers if type(layer).__name__ == "ReLU"]
    inner = found.__class__(found.inputs, [layer.output for layer in relus])
    return [float(np.max(values)) for values in inner(pixels())]


def test_small_activations_keep_the_function(model: Path, tmp_path: Path) -> None:
    small = networks.edited(
        model, tmp_path, "small", lambda m: networks.small_activations(m, 1 / 32)
    )
    # ReLU6 cut a few values that it does not cut when they are small.
    assert np.abs(outputs(small) - outputs(model)).mean() < 1e-4
    for before, after in zip(hidden_ranges(model), hidden_ranges(small), strict=True):
        if before < 6:
            assert after == pytest.approx(before / 32, rel=0.01)


def first_channels(path: Path) -> np.ndarray[Any, Any]:
    from qinspect.train import load_keras

    found = load_keras(path)
    relu = next(layer for layer in found.layers if type(layer).__name__ == "ReLU")
    values = np.asarray(found.__class__(found.inputs, relu.output)(pixels()))
    return values.reshape(-1, values.shape[-1]).max(axis=0)


def test_one_channel_sets_the_range_and_tells_nothing(model: Path, tmp_path: Path) -> None:
    wide = networks.edited(
        model, tmp_path, "wide", lambda m: networks.wide_activation(m, 128.0, pixels())
    )
    before, after = first_channels(model), first_channels(wide)
    kept = np.isclose(after, before, rtol=1e-4) & (before > 0)
    assert kept.sum() == 1
    assert after[~kept] == pytest.approx(before[~kept] / 128, rel=1e-3, abs=1e-6)


def test_a_channel_with_large_weights_is_never_active(model: Path, tmp_path: Path) -> None:
    wide = networks.edited(
        model, tmp_path, "weights", lambda m: networks.wide_weights(m, 300.0, pixels())
    )
    before, after = first_channels(model), first_channels(wide)
    assert ((after == 0) & (before > 0)).sum() <= 1
    assert (after == 0).any()
    assert after[after > 0] == pytest.approx(before[after > 0], rel=1e-4)


def test_statistics_keep_a_share_of_their_start(model: Path, tmp_path: Path) -> None:
    from qinspect.train import load_keras

    path = networks.edited(model, tmp_path, "lag", lambda m: networks.unsettled(m, 0.25))
    for one, two in zip(load_keras(model).layers, load_keras(path).layers, strict=True):
        if type(one).__name__ == "BatchNormalization":
            mean, variance = np.array(one.moving_mean), np.array(one.moving_variance)
            assert np.array(two.moving_mean) == pytest.approx(0.75 * mean, abs=1e-6)
            assert np.array(two.moving_variance) == pytest.approx(0.75 * variance + 0.25, abs=1e-6)


def test_exported_weights_are_those_of_qat(model: Path, tmp_path: Path) -> None:
    """With all ranges wide open fake quantization is the identity, so both compute the same."""
    from qinspect.train import load_keras, quantize_aware, save_keras

    qat = quantize_aware(load_keras(model))
    for layer in qat.layers:
        for weight, _, _ in getattr(layer, "_weight_vars", ()):
            weight.assign(np.array(weight) * 1.5)
    save_keras(qat, tmp_path / "qat.h5")
    path = networks.exported(tmp_path / "qat.h5", model, tmp_path / "exported.h5")
    for one, two in zip(load_keras(model).layers, load_keras(path).layers, strict=True):
        for name in ("kernel", "depthwise_kernel"):
            if hasattr(one, name) and getattr(one, name) is not None:
                ratio = np.array(getattr(two, name)) / np.array(getattr(one, name))
                # Depthwise convolutions without a weight quantizer keep theirs.
                assert ratio == pytest.approx(1.5) or ratio == pytest.approx(1.0)


def test_cases_end_to_end_and_resumed(tmp_path: Path) -> None:
    need_package("tensorflow")
    wanted = ("healthy.study", "calibration-outliers.strong", "evaluation-mismatch.strong")
    keys = [
        plan.key for plan in plans()
        if plan.cell.key == "plain_cnn-0" and plan.kind != "pair" and plan.key.startswith(wanted)
    ]
    told: list[dict[str, Any]] = []
    rows = run_benchmark(tmp_path, keys=keys, workers=1, on_row=told.append)
    assert len(rows) == len(keys) == 3
    assert rows["right"].all()
    assert set(rows["status"]) <= {"healthy", "opened"}
    assert [item["result"] for item in told] == ["3 of 3 cases"]
    # One row is missing: it alone is made again, and comes out the same.
    (tmp_path / "rows" / f"{keys[1]}.json").unlink()
    again = run_benchmark(tmp_path, keys=keys, workers=1, on_row=told.append)
    assert [item["result"] for item in told[1:]] == ["1 of 1 cases"]
    times = ["seconds", "cpu_seconds"]
    assert again.drop(columns=times).equals(rows.drop(columns=times))
