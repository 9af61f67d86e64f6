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
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot write"):
        save_keras(trained("mlp"), tmp_path / "file" / "model.h5")
    save_keras(trained("mlp"), tmp_path / "new" / "model.h5")
    assert (tmp_path / "new" / "model.h5").is_file()


def wired() -> Any:
    """Layers used twice, models inside, calls by keyword, one part of several outputs."""
    from qinspect.train.keras import tensorflow, tf_keras

    keras, split = tf_keras(), tensorflow().split
    layers, image = keras.layers, keras.Input((8,), name="image")
    twice = layers.Dense(4, name="twice")
    inner = keras.Input((4,))
    model = keras.Model(inner, layers.Dense(4)(inner), name="inside")
    line = keras.Sequential([keras.Input((4,)), layers.Dense(4)], name="line")
    open_line = keras.Sequential([layers.Dense(4)], name="open_line")
    one = twice(image)
    two = open_line(line(model(twice(layers.Dense(8, name="before")(image)))))
    left, right = split(open_line(line(model(one))) + two, 2, axis=1)
    return keras.Model(image, layers.Dense(3, name="last")(left + right))


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_every_way_of_wiring_is_loaded(tmp_path: Path, suffix: str) -> None:
    model, path = wired(), tmp_path / f"wired{suffix}"
    model.save(path)
    x = np.random.default_rng(0).normal(size=(5, 8)).astype("f4")
    np.testing.assert_allclose(predict(load_keras(path), x), predict(model, x), atol=1e-6)


def reference(config: dict[str, Any], layer: str) -> list[Any]:
    """Where a layer takes its first input from: name, call, output, further arguments."""
    node = next(one for one in config["config"]["layers"] if one["name"] == layer)
    (found,) = node["inbound_nodes"]
    return found if isinstance(found[0], str) else found[0]


@pytest.mark.parametrize(("place", "value"), [
    (0, "nobody"), (0, "last"), (1, 7), (1, -1), (1, "0")])
def test_layers_that_wait_for_ever_are_refused(tmp_path: Path, place: int, value: Any) -> None:
    path = tmp_path / "model.h5"
    save_keras(wired(), path)
    rewrite(path, lambda config: reference(config, "last").__setitem__(place, value))
    with pytest.raises(ModelFileError, match="'last', whose input no other layer gives"):
        load_keras(path)


def test_what_keras_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An output that a layer does not have, in an argument by keyword: Keras tries again."""
    from qinspect.train import files

    monkeypatch.setattr(files, "_LONGEST", 1.0)
    path = tmp_path / "model.h5"
    save_keras(wired(), path)

    def change(config: dict[str, Any]) -> None:
        adding = reference(config, "last")[0]
        reference(config, adding)[3]["y"][2] = 9

    rewrite(path, change)
    with pytest.raises(ModelFileError, match="within 1 s"):
        load_keras(path)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_more_weights_than_the_file_has_are_never_made(tmp_path: Path, version: int, suffix: str
                                                       ) -> None:
    from qinspect.train.keras import tf_keras

    keras = tf_keras() if version == 2 else keras3()
    path = tmp_path / f"model{suffix}"
    keras.Sequential([keras.Input((8,)), keras.layers.Dropout(0.1),
                      keras.layers.Dense(4, name="large")]).save(path)

    def change(config: dict[str, Any]) -> None:
        config["config"]["layers"][-1]["config"]["units"] = 10**12

    change_saved(path, change)
    with pytest.raises(ModelFileError, match="more weights than the 36 numbers in it"):
        load_keras(path)


def change_saved(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    if path.suffix == ".h5":
        rewrite(path, change)
    else:
        members = members_of(path)
        config = json.loads(members["config.json"])
        change(config)
        write_members(path, members | {"config.json": json.dumps(config).encode()})


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_the_weights_in_an_archive_are_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    trained("mlp").save(path)
    members = members_of(path)
    (tmp_path / "secret.bin").write_bytes(b"secret..")

    def hostile(change: Callable[[h5py.File], None]) -> dict[str, bytes]:
        weights = tmp_path / "weights.h5"
        weights.write_bytes(members["model.weights.h5"])
        with h5py.File(weights, "r+") as file:
            change(file)
        return members | {"model.weights.h5": weights.read_bytes()}

    without = {name: content for name, content in members.items() if name[-3:] != ".h5"}
    for made, words in (
        (hostile(lambda file: file.create_dataset("x", (8,), "u1", external=[
            (str(tmp_path / "secret.bin"), 0, 8)])), "in another file"),
        (hostile(lambda file: file.__setitem__("x", h5py.ExternalLink("other.h5", "/x"))), "link"),
        (hostile(lambda file: file.create_dataset("x", (10**9,), "f4", chunks=(10**6,))), "claims"),
        (members | {"assets/x": bytes(10**9 // 16)}, "would unpack to"),
        (without, "no model.weights.h5"),
    ):
        write_members(path, made)
        with pytest.raises(ModelFileError, match=words):
            load_keras(path)
