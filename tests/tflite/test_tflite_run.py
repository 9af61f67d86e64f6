"""Evaluation: batches equal single runs, integer input and output are done right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qinspect.errors import DataError, ModelFileError, SpecError
from qinspect.tflite.graph import Quantization, Tensor
from qinspect.tflite.inputs import Preprocessing
from qinspect.tflite.ports import Port, Ports, feeds_of, real_values
from qinspect.tflite.run import evaluate


@pytest.fixture(scope="module")
def cifar(data_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(data_dir / "tflite/resnet8/cifar_eval.npz", allow_pickle=False) as archive:
        return archive["x"][:301].astype(np.float32), archive["y"][:301].astype(np.int64)


@pytest.fixture(scope="module")
def resnet8(data_dir: Path) -> Path:
    return data_dir / "tflite" / "resnet8"


def one_by_one(path: Path, x: np.ndarray) -> np.ndarray:
    """The plainest possible loop, written without the code under test."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    inp, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    rows = []
    for example in x:
        if inp["dtype"] is np.int8:
            scale, zero = inp["quantization"]
            example = np.clip(np.round(example / scale) + zero, -128, 127).astype(np.int8)
        interpreter.set_tensor(inp["index"], example[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(out["index"])[0])
    return np.stack(rows)


@pytest.mark.parametrize("name", ["float32.tflite", "int8.tflite"])
@pytest.mark.parametrize("batch_size", [1, 7, 128])
def test_batches_equal_single_runs(resnet8, cifar, name, batch_size) -> None:
    x = cifar[0][:23]
    expected = one_by_one(resnet8 / name, x)
    result = evaluate(resnet8 / name, x, batch_size=batch_size)
    if expected.dtype == np.int8:
        np.testing.assert_array_equal(result.raw, expected)
    else:
        np.testing.assert_allclose(result.raw, expected, atol=1e-6)
    np.testing.assert_array_equal(result.prediction, expected.argmax(axis=1))
    assert result.batched == (batch_size > 1)


def test_known_accuracy_of_public_files(resnet8, data_dir) -> None:
    # SOURCES.md of the data folder: 1,885 and 1,879 of 2,000 right.
    with np.load(data_dir / "tflite/resnet8/cifar_eval.npz", allow_pickle=False) as archive:
        x, y = archive["x"].astype(np.float32), archive["y"]
    for name, right in (("float32.tflite", 1885), ("int8.tflite", 1879)):
        assert int((evaluate(resnet8 / name, x).prediction == y).sum()) == right


def test_threads_do_not_change_results(resnet8, cifar) -> None:
    one = evaluate(resnet8 / "int8.tflite", cifar[0][:64], num_threads=1)
    two = evaluate(resnet8 / "int8.tflite", cifar[0][:64], num_threads=2)
    np.testing.assert_array_equal(one.raw, two.raw)


def test_outputs_are_dequantized(resnet8, cifar) -> None:
    result = evaluate(resnet8 / "int8.tflite", cifar[0][:5])
    np.testing.assert_allclose(result.outputs, (result.raw.astype(float) + 128) / 256, atol=1e-7)
    assert np.all(np.abs(result.outputs.sum(axis=1) - 1) < 0.05)


def tensor(dtype: str, scale: float, zero_point: int) -> Tensor:
    found = Quantization(np.array([scale]), np.array([zero_point]))
    return Tensor(0, "t", (1, 1), (1, 1), dtype, False, 0, found)


def feed(x: np.ndarray, into: Tensor) -> np.ndarray:
    feeds = feeds_of(Ports((Port("t", into, ()),), ()), x, Preprocessing(), "file")
    return feeds.take(0, len(x))[0]


def test_rounding_and_clipping_of_integer_input() -> None:
    x = np.array([-1.0, 0.0, 0.49, 0.51, 1.0, 300.0])
    stored = feed(x[:, None], tensor("int8", 1.0, -128))
    assert stored.dtype == np.int8
    assert stored[:, 0].tolist() == [-128, -128, -128, -127, -127, 127]
    stored = feed(x[:, None], tensor("uint8", 0.5, 10))
    assert stored.dtype == np.uint8
    assert stored[:, 0].tolist() == [8, 10, 11, 11, 12, 255]


def test_dequantize_inverts_quantize_on_the_grid() -> None:
    q = np.arange(-128, 128, dtype=np.int8)[:, None]
    kept = tensor("int8", 0.037, 5)
    np.testing.assert_array_equal(feed(real_values(kept, q), kept), q)


def test_float16_file_runs(odd_dir) -> None:
    x = np.random.default_rng(0).normal(size=(4, 5, 5, 3)).astype(np.float32)
    result = evaluate(odd_dir / "test_model_redux_precision.tflite", x)
    assert result.outputs.shape[0] == 4


def test_int16x8_file_runs(odd_dir) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, size=(3, 8, 166, 2)).astype(np.float32)
    result = evaluate(odd_dir / "seanet_conv0_int16x8.tflite", x)
    assert result.raw.dtype == np.int16
    assert result.outputs.shape[0] == 3


def test_ties_of_a_real_file(resnet8, data_dir) -> None:
    with np.load(data_dir / "tflite/resnet8/cifar_eval.npz", allow_pickle=False) as archive:
        x = archive["x"].astype(np.float32)
    result = evaluate(resnet8 / "int8.tflite", x)
    sorted_raw = np.sort(result.raw, axis=1)
    np.testing.assert_array_equal(result.tied, sorted_raw[:, -1] == sorted_raw[:, -2])


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (np.zeros((0, 32, 32, 3)), DataError, "empty"),
        (np.zeros((2, 28, 28, 1)), DataError, "(28, 28, 1)"),
        (np.zeros((2, 3072)), DataError, "(32, 32, 3)"),
        (np.full((2, 32, 32, 3), np.nan), DataError, "2 of 2"),
    ],
)
def test_bad_input_is_refused(resnet8, x, error, words) -> None:
    with pytest.raises(error, match=None) as caught:
        evaluate(resnet8 / "int8.tflite", x)
    assert words in str(caught.value)


def test_bad_files_are_refused(odd_dir, tmp_path) -> None:
    x = np.zeros((1, 2), dtype=np.float32)
    with pytest.raises(ModelFileError, match=r"missing\.tflite"):
        evaluate(tmp_path / "missing.tflite", x)
    with pytest.raises(ModelFileError, match="not a TensorFlow Lite model"):
        evaluate(odd_dir / "test_model_broken.tflite", x)
    with pytest.raises(ModelFileError, match="not numbers"):
        evaluate(odd_dir / "string_input_model.tflite", np.zeros((1, 3)))
    with pytest.raises(DataError, match="3 inputs"):
        evaluate(odd_dir / "dynamic_shapes.tflite", x)


def test_unknown_kernels_are_refused(resnet8) -> None:
    with pytest.raises(SpecError, match="default, builtin, reference"):
        evaluate(resnet8 / "int8.tflite", np.zeros((1, 32, 32, 3)), kernels="fast")  # type: ignore[arg-type]
