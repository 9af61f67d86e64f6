"""Keras files: read without running what is in them, written in one piece."""

from __future__ import annotations

import ctypes
import io
import json
import lzma
import math
import os
import threading
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qinspect.errors import ModelFileError, StoreError, TrainError
from qinspect.quiet import quiet
from qinspect.store import write_bytes
from qinspect.train.keras import tensorflow, tf_keras, tfmot
from qinspect.train.rebuild import old_config, to_tf_keras

# A configuration is text; anything larger is not one.
_LARGEST_CONFIG = 50_000_000
# Weights hardly compress; an array that grows more than this is none of a model.
_MOST_GROWTH = 200
# Variables that a file need not hold, such as the state of a dropout's generator.
_NOT_STORED = 1_000_000
# Seconds that Keras may take to build a model.
_LONGEST = 300.0
_CODE_LAYERS = {"Lambda", "__lambda__"}
_KERAS = {"keras", "tf_keras"}
# What a configuration needs of Keras; its utilities (a download, a file) are not among it.
_KERAS_PARTS = {"activations", "constraints", "dtype_policies", "engine", "initializers", "layers",
                "losses", "metrics", "mixed_precision", "models", "optimizers", "regularizers"}
_TRUSTED_MODULES = {*_KERAS, "tensorflow_model_optimization"}
_TRUSTED_TF_SYMBOLS = ("math.", "nn.", "__operators__.")
_TRUSTED_TF_NAMES = {"cast", "concat", "reshape", "transpose", "expand_dims", "squeeze", "stack",
                     "clip_by_value", "identity", "split", "tile"}


def load_keras(path: str | os.PathLike[str]) -> Any:
    """Load a Sequential or Functional Keras model, float or QAT, without running code from it.

    Parameters
    ----------
    path : path
        An ``.h5`` or ``.keras`` file, or the folder of a SavedModel that Keras 2 saved.

    Returns
    -------
    tf_keras.Model
        Not compiled.  One that Keras 3 saved is rebuilt by :func:`qinspect.train.to_tf_keras`.

    Raises
    ------
    ModelFileError
        If the file cannot be read, is not a Keras model, holds a QAT model in ``.keras`` format
        or no layers, or names code that loading or calling it would run.
    TrainError
        If a model of Keras 3 has no exact counterpart in Keras 2.

    Notes
    -----
    ``load_model(path, safe_mode=True)`` executes the byte code of Lambda layers in ``.h5`` files
    all the same, so the configuration is read and judged first.
    """
    path = Path(path)
    saved = _read_config(path)
    _refuse_code(path, saved.config)
    if path.is_dir():
        return _of_saved_model(path, saved)
    if saved.version.split(".")[0] not in {"", "1", "2"}:
        return _of_keras3(path, saved)
    if path.suffix == ".keras" and _mentions(saved.config, "QuantizeWrapper"):
        raise ModelFileError(
            f"{path.name!r} is a QAT model in .keras format, which tfmot cannot load again; save "
            "it as .h5 with qinspect.train.save_keras where it was trained."
        )
    return _built(path, saved, saved.config,
                  lambda: tf_keras().models.load_model(path, compile=False))


def model_of(model: Any) -> Any:
    """A model as it is, or that of a Keras file."""
    return load_keras(model) if isinstance(model, str | os.PathLike) else model


def compiled_with(path: str | os.PathLike[str]) -> dict[str, Any]:
    """``loss`` and ``metrics`` that a saved model was compiled with, as Keras wrote them."""
    return _read_config(Path(path)).compiled


@dataclass(frozen=True)
class _Saved:
    """What a file says of its model, read without Keras."""

    config: dict[str, Any]
    version: str  # of its Keras
    compiled: dict[str, Any]
    values: int  # numbers that it holds, an upper limit


def _of_keras3(path: Path, saved: _Saved) -> Any:
    """A model that Keras 3 saved, rebuilt; only one whose layers are all known is loaded at all."""
    kind = str(saved.config.get("class_name"))
    if kind not in {"Sequential", "Functional"}:
        raise ModelFileError(
            f"{path.name!r} holds a model of the class {kind!r}, whose layers are not in the "
            "file; only Sequential and Functional models can be rebuilt."
        )
    try:
        old = old_config(saved.config["config"])
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, RecursionError) as error:
        raise ModelFileError(
            f"{path.name!r} has a configuration that is not one of Keras 3; save it again with "
            "model.save."
        ) from error
    tensorflow()

    def load() -> Any:
        import keras

        return keras.models.load_model(path, compile=False, safe_mode=True)

    return to_tf_keras(_built(path, saved, old, load))


def _of_saved_model(path: Path, saved: _Saved) -> Any:
    """The layers of a SavedModel from its configuration, with its weights; no graph of it runs."""
    def load() -> Any:
        model = tf_keras().layers.deserialize(saved.config)
        restored = tensorflow().train.Checkpoint(root=model).read(
            str(path / "variables" / "variables"))
        restored.assert_existing_objects_matched().expect_partial()
        return model

    return _built(path, saved, saved.config, load)


class _Endless(BaseException):
    """Keras did not come to an end; no error of its own, so that nothing else catches it."""


def _built(path: Path, saved: _Saved, config: Any, load: Callable[[], Any]) -> Any:
    """What ``load`` builds, within the weights that the file holds and a time."""
    left = saved.values + _NOT_STORED

    def create(following: Callable[..., Any], **known: Any) -> Any:
        nonlocal left
        left -= _size(known)
        if left < 0:
            raise ValueError("too many weights")
        return following(**known)

    try:
        with _limited(_LONGEST):
            _refuse_circles(path, config)
            with (quiet(), tfmot().quantization.keras.quantize_scope(),
                  tensorflow().variable_creator_scope(create)):
                return load()
    except _Endless:
        raise ModelFileError(f"Keras does not build {path.name!r} within {_LONGEST:g} s; it is "
                             "malformed or too large.") from None
    except ModelFileError:
        raise
    # Keras raises whatever a malformed configuration leads to.
    except Exception as error:
        if left < 0:
            raise ModelFileError(f"{path.name!r} describes layers with more weights than the "
                                 f"{saved.values:,} numbers in it.") from error
        reason = " ".join(str(error).split())[:300]
        raise ModelFileError(f"Keras cannot load {str(path)!r}: {reason}") from error


def _size(known: dict[str, Any]) -> int:
    """Numbers of a variable that is to be made, found without making them."""
    shape = known.get("shape")
    if shape is None:
        value = known.get("initial_value")
        if not callable(value):
            return int(getattr(value, "size", 1))
        with tensorflow().Graph().as_default():
            shape = value().shape
    return math.prod(int(size) for size in shape)


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """End what Python computes in this thread after a time."""
    thread = ctypes.c_ulong(threading.get_ident())
    timer = threading.Timer(seconds, lambda: ctypes.pythonapi.PyThreadState_SetAsyncExc(
        thread, ctypes.py_object(_Endless)))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _refuse_circles(path: Path, config: Any) -> None:
    """Refuse layers that wait for one another or for none: Keras would wait for ever."""
    for found in _objects(config):
        layers = [one for one in _listed(found.get("layers")) if isinstance(one, dict)]
        kinds = {str(one.get("name")): str(one.get("class_name")) for one in layers}
        waiting = {str(one.get("name")): [list(_references(node)) for node
                                          in _listed(one.get("inbound_nodes"))]
                   for one in layers}
        done: Counter[str] = Counter()
        moved = True
        while moved:
            moved = False
            for name, nodes in waiting.items():
                while nodes and all(_made(*one, kinds, done) for one in nodes[0]):
                    done[name] += 1
                    moved = True
                    del nodes[0]
        for name, nodes in waiting.items():
            if nodes:
                raise ModelFileError(f"{path.name!r} has the layer {name!r}, whose input no other "
                                     "layer gives; save it again with model.save.")


def _made(name: str, node: Any, kinds: dict[str, str], done: Counter[str]) -> bool:
    """Whether a call of a layer, by its number, is among those that are done."""
    kind = kinds.get(name)
    if kind == "InputLayer":
        return True
    # The making of a model inside is its node 0, of a Sequential one not always.
    first = int(kind in ("Functional", "Model"))
    last = done[name] + int(first or kind == "Sequential")
    return isinstance(node, int) and first <= node < last


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _references(node: Any) -> Iterator[tuple[Any, Any]]:
    """Layers, and which of their calls, that a call takes values from."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list | tuple):
            if len(one) in (3, 4) and isinstance(one[0], str):
                if one[0] != "_CONSTANT_VALUE":
                    yield one[0], one[1]
                one = one[3:]
            waiting += one


def save_keras(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a model, float or QAT, as ``.h5`` so that a reader sees all of it or nothing.

    Raises
    ------
    TrainError
        If the name does not end in ``.h5``: a QAT model in another format cannot be loaded again.
    StoreError
        If the file cannot be written.
    """
    import h5py

    path = Path(path)
    if path.suffix != ".h5":
        raise TrainError(
            f"cannot save a model as {path.name!r}; the name must end in .h5, the only format in "
            "which QAT models can be loaded again."
        )
    try:
        # Made in memory: on a full disk the HDF5 library ends the process.
        with (h5py.File(f"{path.name}", "w", driver="core", backing_store=False) as file, quiet(),
              warnings.catch_warnings()):
            # Keras calls .h5 legacy; it is the format in which QAT models come back.
            warnings.simplefilter("ignore")
            model.save(file, save_format="h5", include_optimizer=False)
            file.flush()
            content = file.id.get_file_image()
    except OSError as error:
        raise StoreError(
            f"cannot write {str(path)!r}: {error.strerror or type(error).__name__}."
        ) from error
    write_bytes(path, content)


def _read_config(path: Path) -> _Saved:
    """What a saved model is, after a look at all that Keras would read."""
    if path.suffix not in {".h5", ".keras"} and not path.is_dir():
        raise ModelFileError(
            f"{str(path)!r} is not named like a Keras model; the name must end in .h5 or .keras, "
            "or be that of a SavedModel folder."
        )
    try:
        if path.is_dir():
            found = _read_saved_model(path)
        else:
            found = _read_archive(path) if path.suffix == ".keras" else _read_h5(path)
    except KeyError as error:
        raise ModelFileError(
            f"{str(path)!r} holds no model configuration, perhaps only weights; save the whole "
            "model with model.save."
        ) from error
    except FileNotFoundError as error:
        raise ModelFileError(f"the model file {str(path)!r} does not exist.") from error
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError, EOFError, MemoryError,
            zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise ModelFileError(
            f"{str(path)!r} is not a Keras model file, or is damaged; it must be .h5 or .keras."
        ) from error
    config, version, compiled, values = found
    if not isinstance(config, dict):
        raise ModelFileError(f"the model configuration in {path.name!r} is not an object.")
    version = version.decode() if isinstance(version, bytes) else str(version)
    return _Saved(config, version, compiled if isinstance(compiled, dict) else {}, values)


def learning_rate_of(file: str | os.PathLike[str]) -> float | None:
    """Learning rate of the optimizer that a model was saved with; None without, or of a schedule.

    Parameters
    ----------
    file : path
        As :func:`load_keras` takes it.

    Returns
    -------
    float or None

    Examples
    --------
    >>> from qinspect.train import build_model, save_keras
    >>> save_keras(build_model("mlp", (8, 8, 1), 10, seed=0), "mlp.h5")
    >>> learning_rate_of("mlp.h5") is None  # saved without an optimizer
    True
    """
    compiled = compiled_with(Path(file))
    saved = compiled.get("optimizer_config") or compiled.get("optimizer")
    config = saved.get("config") if isinstance(saved, dict) else None
    rate = config.get("learning_rate") if isinstance(config, dict) else None
    return float(rate) if isinstance(rate, int | float) and 0 < rate < math.inf else None


def _read_archive(path: Path) -> tuple[Any, Any, Any, int]:
    import h5py

    with zipfile.ZipFile(path) as archive:
        if archive.getinfo("config.json").file_size > _LARGEST_CONFIG:
            raise ModelFileError(f"the configuration in {path.name!r} is too large.")
        unpacked = sum(one.file_size for one in archive.infolist())
        if unpacked > _most_bytes(path):
            raise ModelFileError(f"{path.name!r} would unpack to {unpacked:,} bytes, which is more "
                                 "than a model can need.")
        config = json.loads(archive.read("config.json"))
        version = json.loads(archive.read("metadata.json")).get("keras_version", "")
        if "model.weights.h5" not in archive.namelist():
            raise ModelFileError(f"{path.name!r} holds no model.weights.h5; save it again with "
                                 "model.save.")
        with h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as file:
            values = _values(file, path)
    compiled = config.get("compile_config") if isinstance(config, dict) else None
    return config, version, compiled, values


def _most_bytes(path: Path) -> int:
    return max(_LARGEST_CONFIG, _MOST_GROWTH * path.stat().st_size)


def _read_h5(path: Path) -> tuple[Any, Any, Any, int]:
    import h5py

    with h5py.File(path, "r") as file:
        values = _values(file, path)
        config = json.loads(file.attrs["model_config"])
        compiled = json.loads(file.attrs.get("training_config", "{}"))
        return config, file.attrs.get("keras_version", ""), compiled, values


def _values(file: Any, path: Path) -> int:
    """How many numbers are in a file, all of them its own: no link, no array kept elsewhere."""
    import h5py

    waiting: list[Any] = [file]
    seen = {file.id}
    size = values = 0
    while waiting:
        group = waiting.pop()
        for key in group:
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise ModelFileError(f"{path.name!r} has the link {key!r}, which a model file "
                                     "never has; save it again with model.save.")
            one = group[key]
            if isinstance(one, h5py.Dataset):
                if one.external or one.is_virtual:
                    raise ModelFileError(f"{path.name!r} keeps the array {key!r} in another file; "
                                         "save it again with model.save.")
                size, values = size + one.nbytes, values + one.size
                if size > _most_bytes(path):
                    raise ModelFileError(f"{path.name!r} claims {one.nbytes:,} bytes for the array "
                                         f"{key!r}, which cannot be in a file of its size.")
            if isinstance(one, h5py.Group) and one.id not in seen:
                seen.add(one.id)
                waiting.append(one)
    return values


def _read_saved_model(path: Path) -> tuple[Any, Any, Any, int]:
    if not (path / "saved_model.pb").is_file():
        raise ModelFileError(
            f"the folder {str(path)!r} is not a Keras model file or a SavedModel (it has no "
            "saved_model.pb); give an .h5 or .keras file."
        )
    described = path / "keras_metadata.pb"
    if not described.is_file():
        raise ModelFileError(
            f"the SavedModel {str(path)!r} holds computations without the Keras layers they came "
            "from, which cannot be trained; save the model with model.save('model.keras')."
        )
    tensorflow()
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tf_keras.protobuf import saved_metadata_pb2

    saved = saved_metadata_pb2.SavedMetadata()
    try:
        saved.ParseFromString(described.read_bytes())
    except DecodeError as error:
        raise ValueError("not a protocol buffer") from error
    root: dict[str, Any] = next(
        (json.loads(node.metadata) for node in saved.nodes if node.node_path == "root"), {})
    config = {"class_name": root["class_name"], "config": _tuples(root["config"])}
    stored = sum(one.stat().st_size for one in (path / "variables").glob("*"))
    return config, "2", _tuples(root.get("training_config")), stored


def _tuples(node: Any) -> Any:
    """A configuration whose tuples are written as objects."""
    if isinstance(node, list):
        return [_tuples(one) for one in node]
    if isinstance(node, dict):
        if node.get("class_name") in {"__tuple__", "TensorShape"}:
            return tuple(_tuples(one) for one in node["items"])
        return {name: _tuples(one) for name, one in node.items()}
    return node


def _refuse_code(path: Path, config: Any) -> None:
    """Refuse a configuration that would run or import what the file's author chose."""
    for found in _objects(config):
        kind, module = str(found.get("class_name")), found.get("module")
        inside = found.get("config")
        name = inside.get("name", "?") if isinstance(inside, dict) else "?"
        if kind in _CODE_LAYERS:
            raise ModelFileError(
                f"{path.name!r} holds code in layer {name!r} (Lambda), which loading would "
                "execute; rebuild the model with ordinary layers and copy the weights."
            )
        if kind in {"TFOpLambda", "SlicingOpLambda"} and isinstance(inside, dict):
            symbol = str(inside.get("function", ""))
            if not symbol.startswith(_TRUSTED_TF_SYMBOLS) and symbol not in _TRUSTED_TF_NAMES:
                raise ModelFileError(
                    f"{path.name!r} calls the TensorFlow function {symbol!r} in layer {name!r}, "
                    "which is not among the harmless ones; replace it by a Keras layer."
                )
        if module is not None and not _trusted(found):
            raise ModelFileError(
                f"{path.name!r} wants to import {str(module)!r} for {kind!r}; only the layers "
                "of Keras and tfmot are loaded."
            )


def _trusted(found: dict[str, Any]) -> bool:
    module = str(found["module"])
    if module == "builtins":
        # How Keras writes an activation function; the name is looked up among its own.
        return found.get("class_name") == "function" and hasattr(
            tf_keras().activations, str(found.get("config"))
        )
    first, *rest = module.split(".")
    if first in _KERAS and [part for part in rest if part != "src"][:1]:
        return next(part for part in rest if part != "src") in _KERAS_PARTS
    return first in _TRUSTED_MODULES


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object in a configuration."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting += one.values()
        elif isinstance(one, list | tuple):
            waiting += one


def _mentions(config: Any, word: str) -> bool:
    return any(word in str(found.get("class_name", "")) for found in _objects(config))
