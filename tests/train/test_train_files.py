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

from qinspect.errors import ModelFileError, QinspectError, StoreError, TrainError
from qinspect.train import (
    compiled_with,
    flatten_model,
    learning_rate_of,
    load_keras,
    predict,
    quantize_aware,
    save_keras,
)

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


def keras3() -> Any:
    from qinspect.train.keras import tensorflow

    tensorflow()
    import keras

    return keras


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_keras3_file_gives_what_keras3_gives(tmp_path: Path, suffix: str) -> None:
    keras = keras3()
    layers, path = keras.layers, tmp_path / f"three{suffix}"
    inside = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(4, 3, name="conv"),
         layers.LayerNormalization(name="norm")], name="backbone")
    image = keras.Input((8, 8, 1))
    outputs = layers.Dense(3, activation="softmax")(layers.Flatten()(inside(image)))
    model = keras.Model(image, outputs)
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy", ["accuracy"])
    model.save(path)
    assert learning_rate_of(path) == pytest.approx(0.02)
    x = digits().test.x[:20]
    loaded = load_keras(path)
    np.testing.assert_allclose(predict(loaded, x), model.predict(x, verbose=0), atol=1e-5)
    flat = flatten_model(loaded)
    assert [layer.name for layer in flat.layers][1:3] == ["conv", "norm"]
    np.testing.assert_allclose(predict(flat, x), model.predict(x, verbose=0), atol=1e-5)
    quantize_aware(flat, skip_layers=("norm",))
    assert "sparse_categorical_crossentropy" in str(compiled_with(path)["loss"])


def test_code_in_a_keras3_file_is_not_executed(tmp_path: Path) -> None:
    keras, path = keras3(), tmp_path / "three.keras"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="dense")]).save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for module, kind, words in (
        ("keras.layers", "Lambda", "would execute"), ("os", "system", "wants to import"),
        ("keras.utils", "get_file", "wants to import"),
        ("keras.src.utils.file_utils", "get_file", "wants to import"),
        ("keras.layers", "TorchModuleWrapper", "no counterpart"),
    ):
        config = json.loads(members["config.json"])
        config["config"]["layers"][1] |= {"module": module, "class_name": kind}
        bad = tmp_path / f"bad-{kind}.keras"
        with zipfile.ZipFile(bad, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, json.dumps(config) if name == "config.json" else content)
        with pytest.raises(QinspectError, match=words):
            load_keras(bad)


def test_a_saved_model_comes_back_without_its_graph(tmp_path: Path) -> None:
    from qinspect.train.keras import tensorflow, tf_keras

    model, folder = trained("bn_cnn"), tmp_path / "saved"
    model.save(folder, save_format="tf")
    # Nothing of the graph is needed, so nothing of it runs.
    (folder / "saved_model.pb").write_bytes(b"")
    x = digits().test.x
    np.testing.assert_array_equal(predict(load_keras(folder), x), predict(model, x))
    (folder / "keras_metadata.pb").write_bytes(b"\xff\xff")
    with pytest.raises(ModelFileError, match="not a Keras model file"):
        load_keras(folder)
    keras = tf_keras()
    layers = [keras.layers.Input((2,)), keras.layers.Lambda(lambda x: x, name="bad")]
    keras.Sequential(layers).save(tmp_path / "code", save_format="tf")
    with pytest.raises(ModelFileError, match="Lambda"):
        load_keras(tmp_path / "code")
    tensorflow().saved_model.save(model, str(tmp_path / "plain"))
    with pytest.raises(ModelFileError, match=r"without the Keras layers.*model\.keras"):
        load_keras(tmp_path / "plain")


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
