"""Faults that need Keras models, and some cases of the benchmark end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parts import need_package

from qinspect.tflite import evaluate
from qinspect_bench import networks
from qinspect_bench.architectures import ARCHITECTURES, SCALABLE, build, examples
from qinspect_bench.base import Cell
from qinspect_bench.benchmark import Plan, run_benchmark

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
    cell = Cell("plain_cnn", 0)
    chosen = [Plan("control", (), "study", cell, 0, "files"),
              Plan("single", ("calibration-outliers",), "strong", cell, 0, "all"),
              Plan("single", ("evaluation-mismatch",), "strong", cell, 0, "files")]
    told: list[dict[str, Any]] = []
    rows = run_benchmark(tmp_path, chosen, workers=1, on_row=told.append)
    assert len(rows) == 3
    assert rows["right"].all()
    assert set(rows["status"]) <= {"healthy", "opened"}
    assert [item["result"] for item in told] == ["3 of 3 cases"]
    # One row is missing: it alone is made again, and comes out the same.
    (tmp_path / "rows" / f"{chosen[1].key}.json").unlink()
    again = run_benchmark(tmp_path, chosen, workers=1, on_row=told.append)
    assert [item["result"] for item in told[1:]] == ["1 of 1 cases"]
    times = ["seconds", "cpu_seconds"]
    assert again.drop(columns=times).equals(rows.drop(columns=times))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_built_trained_and_converted(name: str, tmp_path: Path) -> None:
    """One epoch of 64 examples; the float file gives what Keras gives, the PTQ file runs."""
    need_package("tensorflow")
    from qinspect.data.npz import load_npz
    from qinspect.train import (
        choose_objective,
        convert,
        fit,
        load_keras,
        predict,
        quantize_aware,
        save_keras,
    )

    kind = ARCHITECTURES[name]
    np.savez(tmp_path / "data.npz", **{key: values[:64] for key, values in
                                       examples(kind.data).items()})
    data = load_npz(tmp_path / "data.npz")
    model = build(name, data.array.shape[1:], 10 if data.num_classes > 2 else 1, 0)
    aim = choose_objective(model, data.array, data.y, loss=kind.loss, metric=kind.metric)
    fit(model, aim.of(data), None, epochs=1, learning_rate=1e-3, seed=0, loss=aim.loss)
    quantize_aware(model, skip_layers=kind.skip_layers)
    given = predict(model, data.array)
    for recipe, most in (("float32", 1e-3), ("int8", np.inf)):
        found = evaluate(convert(model, recipe, data.array), data.array).outputs
        assert found.shape == given.shape
        assert np.isfinite(found).all()
        assert np.abs(found - given).max() <= most * max(1.0, float(np.abs(given).max()))
    if SCALABLE in kind.traits:
        save_keras(model, tmp_path / "model.h5")
        small = networks.edited(tmp_path / "model.h5", tmp_path, "small",
                                lambda m: networks.small_activations(m, 1 / 4))
        wide = networks.edited(tmp_path / "model.h5", tmp_path, "wide",
                               lambda m: networks.wide_weights(m, 300.0, data.array))
        for path in (small, wide):
            near = predict(load_keras(path), data.array)
            assert np.corrcoef(near.ravel(), given.ravel())[0, 1] > 0.9
