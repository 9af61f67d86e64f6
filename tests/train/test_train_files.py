"""Keras files: nothing in them is executed, and writing leaves all or nothing."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from parts import need_package
from train_models import digits, trained

from qinspect.errors import ModelFileError, StoreError, TrainError
from qinspect.train import load_keras, predict, quantize_aware, save_keras

need_package("tensorflow_model_optimization")


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the configuration in an ``.h5`` file, as an attacker would."""
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_saved_model_comes_back(tmp_path: Path, suffix: str) -> None:
    model, path = trained("bn_cnn"), tmp_path / f"model{suffix}"
    if suffix == ".h5":
        save_keras(model, path)
    else:
        model.save(path)
    x = digits().test.x
    np.testing.assert_array_equal(predict(load_keras(path), x), predict(model, x))


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_code_in_a_lambda_is_not_executed(tmp_path: Path, suffix: str) -> None:
    from qinspect.train.keras import tf_keras

    mark = tmp_path / "executed"
    keras, path = tf_keras(), tmp_path / f"bad{suffix}"
    layers = [keras.layers.Input((2,)), keras.layers.Lambda(_touch(str(mark)), name="evil")]
    keras.Sequential(layers).save(path)
    mark.unlink(missing_ok=True)
    with pytest.raises(ModelFileError, match=r"'evil'.*would execute"):
        load_keras(path)
    assert not mark.exists()
    # The danger is real: Keras' own loading of .h5, in its safe mode, runs it.
    if suffix == ".h5":
        keras.models.load_model(path, compile=False, safe_mode=True)
        assert mark.exists()


def _touch(path: str) -> Callable[[Any], Any]:
    return lambda x: (open(path, "w").close(), x)[1]  # byte code is stored  # noqa: PTH123


def test_a_hidden_lambda_is_found(tmp_path: Path) -> None:
    from qinspect.train.keras import tf_keras

    keras, path = tf_keras(), tmp_path / "nested.h5"
    inside = keras.Sequential([keras.layers.Input((2,)), keras.layers.Lambda(lambda x: x)])
    keras.Sequential([keras.layers.Input((2,)), inside]).save(path)
    with pytest.raises(ModelFileError, match="Lambda"):
        load_keras(path)


@pytest.mark.parametrize(
    ("module", "kind"), [("os", "system"), ("builtins", "exec"), ("tests.evil", "Dense"), (7, "x")]
)
def test_foreign_modules_are_not_imported(tmp_path: Path, module: Any, kind: str) -> None:
    path = tmp_path / "model.h5"
    save_keras(trained("mlp"), path)

    def change(config: dict[str, Any]) -> None:
        layer = config["config"]["layers"][-1]
        layer["config"]["kernel_initializer"] = {
            "module": module, "class_name": kind, "config": {}, "registered_name": None,
        }

    rewrite(path, change)
    with pytest.raises(ModelFileError, match="wants to import"):
        load_keras(path)


def test_tensorflow_functions_are_limited_to_harmless_ones(tmp_path: Path) -> None:
    from qinspect.train.keras import tf_keras

    keras, path = tf_keras(), tmp_path / "op.h5"
    image = keras.Input((2,))
    keras.Model(image, image * 2.0).save(path)
    assert load_keras(path).output_shape == (None, 2)

    def change(config: dict[str, Any]) -> None:
        config["config"]["layers"][-1]["config"]["function"] = "io.write_file"

    rewrite(path, change)
    with pytest.raises(ModelFileError, match=r"io\.write_file"):
        load_keras(path)


def test_a_qat_model_in_keras_format_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "qat.keras"
    quantize_aware(trained("mlp")).save(path)
    with pytest.raises(ModelFileError, match=r"QAT model in \.keras format.*\.h5"):
        load_keras(path)


def test_a_keras3_file_is_named_as_such(tmp_path: Path) -> None:
    from qinspect.train.keras import tensorflow

    tensorflow()
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    for name in ("three.keras", "three.h5"):
        model.save(tmp_path / name)
        with pytest.raises(ModelFileError, match=r"saved by Keras 3.*to_tf_keras"):
            load_keras(tmp_path / name)


def _only_weights(path: Path) -> None:
    trained("mlp").save_weights(path)


def _no_config_in_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other.json", "{}")


def _list_as_config(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = "[1, 2]"


def _nonsense_config(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": {"a": 1}})


def _cut_in_half(path: Path) -> None:
    save_keras(trained("mlp"), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("none.h5", lambda path: None, "does not exist"),
        ("none.keras", lambda path: None, "does not exist"),
        ("text.h5", lambda path: path.write_text("hello"), "not a Keras model file"),
        ("text.keras", lambda path: path.write_text("hello"), "not a Keras model file"),
        ("empty.h5", lambda path: path.write_bytes(b""), "not a Keras model file"),
        ("folder.h5", lambda path: path.mkdir(), "not a Keras model file"),
        ("half.h5", _cut_in_half, "not a Keras model file"),
        ("weights.weights.h5", _only_weights, "only weights"),
        ("zip.keras", _no_config_in_zip, "no model configuration"),
        ("list.h5", _list_as_config, "not an object"),
        ("nonsense.h5", _nonsense_config, "Keras cannot load"),
        ("model.tflite", lambda path: path.write_text("x"), r"must end in \.h5 or \.keras"),
    ],
)
def test_what_is_not_a_model_gets_one_clear_sentence(
    tmp_path: Path, name: str, make: Callable[[Path], Any], words: str
) -> None:
    make(tmp_path / name)
    with pytest.raises(ModelFileError, match=words) as caught:
        load_keras(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    save_keras(trained("mlp"), path)
    before = path.read_bytes()

    class Unsavable:
        name = "unsavable"

        def save(self, *_: Any, **__: Any) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="No space left"):
        save_keras(Unsavable(), path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["model.h5"]


def test_saving_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"must end in \.h5"):
        save_keras(trained("mlp"), tmp_path / "model.keras")
    with pytest.raises(StoreError, match="No such file"):
        save_keras(trained("mlp"), tmp_path / "absent" / "model.h5")
