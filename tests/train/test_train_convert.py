"""PTQ recipes: what the files really are, and that they compute what the model computes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parts import need_package
from train_models import digits, trained

from qinspect.errors import DataError, SpecError, TrainError
from qinspect.tflite.identity import scheme_of
from qinspect.tflite.read import read_graph
from qinspect.tflite.run import evaluate
from qinspect.train import (
    MODELS,
    PTQ_RECIPES,
    convert,
    convert_qat,
    load_keras,
    predict,
    quantize_aware,
    save_keras,
    warm_start_observers,
)

need_package("tensorflow_model_optimization")

# (scheme, type of input and output) that each recipe has to give.
EXPECTED = {
    "float32": ("float32", "float32"),
    "float16": ("float16", "float32"),
    "dynamic_range": ("dynamic_range", "float32"),
    "int8": ("int8", "float32"),
    "int8_io": ("int8", "int8"),
    "uint8_io": ("int8", "uint8"),
    "int16x8": ("int16x8", "float32"),
    "int8_per_tensor": ("int8", "float32"),
}


def weights_of(content: bytes) -> list[Any]:
    main = read_graph(content).main
    return [
        main.tensors[operator.inputs[1]] for operator in main.operators
        if operator.code in {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
    ]


@cache
def answers(name: str) -> np.ndarray:
    return predict(trained(name), digits().test.x)


def check_recipe(name: str, recipe: str) -> None:
    content = convert(trained(name), recipe, digits().calibration.x)
    main = read_graph(content).main
    scheme, io = EXPECTED[recipe]
    assert scheme_of(read_graph(content)) == scheme
    assert main.tensors[main.inputs[0]].dtype == io
    assert main.tensors[main.outputs[0]].dtype == io
    for weights in weights_of(content):
        channels = weights.quantization.scale.size if weights.quantization else 0
        if recipe == "int8_per_tensor":
            assert channels == 1
        elif recipe in {"int8", "int8_io", "uint8_io", "int16x8"}:
            assert channels == max(weights.shape[0], weights.shape[-1] * (weights.shape[0] == 1))
    wanted, y = answers(name), digits().test.y
    got = evaluate(content, digits().test.x)
    # Float arms agree with Keras to rounding, 8-bit ones to a few steps of 1/256 in most examples.
    far = {"float32": 1e-5, "float16": 5e-3}.get(recipe, 0.1)
    assert np.quantile(np.abs(got.outputs - wanted).max(axis=1), 0.9) < far
    assert abs(np.mean(got.prediction == y) - np.mean(wanted.argmax(axis=1) == y)) < 0.03


@pytest.mark.parametrize("name", [
    name if name == "bn_cnn" else pytest.param(name, marks=pytest.mark.slow) for name in MODELS])
@pytest.mark.parametrize("recipe", [
    name if name == "int8" else pytest.param(name, marks=pytest.mark.slow) for name in PTQ_RECIPES])
def test_every_recipe_gives_the_file_it_names(name: str, recipe: str) -> None:
    check_recipe(name, recipe)


@pytest.mark.slow
def test_the_file_is_that_of_the_official_keras_path() -> None:
    """``from_keras_model`` is the documented, slower way to the same network."""
    from qinspect.quiet import quiet
    from qinspect.train.keras import tensorflow

    tf, model = tensorflow(), trained("plain_cnn")
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    x = digits().calibration.x[:50]
    converter.representative_dataset = lambda: ([example[None]] for example in x)
    with quiet():
        official = read_graph(bytes(converter.convert())).main
    mine = read_graph(convert(model, "int8", x)).main
    assert [op.code for op in mine.operators] == [op.code for op in official.operators]
    for one, other in zip(mine.tensors, official.tensors, strict=True):
        assert (one.name, one.dtype, one.shape) == (other.name, other.dtype, other.shape)
        if one.quantization is not None and other.quantization is not None:
            np.testing.assert_array_equal(one.quantization.scale, other.quantization.scale)


@pytest.mark.slow
def test_files_are_converted_as_what_is_in_them(tmp_path: Path) -> None:
    model, x = trained("mlp"), digits().calibration.x[:20]
    save_keras(model, tmp_path / "model.h5")
    np.savez(tmp_path / "calibration.npz", x=x)
    assert convert(tmp_path / "model.h5", "int8", str(tmp_path / "calibration.npz")) == (
        convert(load_keras(tmp_path / "model.h5"), "int8", x)
    )
    aware = quantize_aware(model)
    warm_start_observers(aware, x)
    save_keras(aware, tmp_path / "aware.h5")
    assert convert(tmp_path / "aware.h5") == convert_qat(load_keras(tmp_path / "aware.h5"))


@pytest.mark.slow
def test_wider_calibration_data_widens_the_input_range() -> None:
    x = digits().calibration.x[:20]
    scales = [
        read_graph(convert(trained("mlp"), "int8_io", factor * x)).main.tensors[0]
        for factor in (1.0, 4.0)
    ]
    narrow, wide = (float(tensor.quantization.scale[0]) for tensor in scales)
    assert wide == pytest.approx(4 * narrow, rel=1e-5)


def test_conversion_leaves_the_model_alone_and_prints_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    model = trained("mlp")
    before = model.get_weights()
    convert(model, "float16")
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert capfd.readouterr().out == ""


def test_what_cannot_be_converted_is_refused() -> None:
    model = trained("mlp")
    with pytest.raises(SpecError, match="did you mean int8"):
        convert(model, "int8s")
    with pytest.raises(TrainError, match="needs calibration examples"):
        convert(model, "int8")
    with pytest.raises(DataError, match=r"\(3, 3, 1\)"):
        convert(model, "int8", np.zeros((5, 3, 3, 1), np.float32))
    with pytest.raises(DataError, match="NaN"):
        convert(model, "int8", np.full((5, 8, 8, 1), np.nan, np.float32))


def test_the_reason_of_a_failed_conversion_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    from qinspect.train.keras import tf_keras

    layers = tf_keras().layers
    # There is no int8 operator for it.
    model = tf_keras().Sequential([
        layers.Input((8,)), layers.Lambda(lambda x: __import__("tensorflow").math.erfinv(x)),
    ])
    with pytest.raises(TrainError, match="cannot convert model"):
        convert(model, "int8", np.zeros((4, 8), np.float32))
    assert capfd.readouterr().out == ""
