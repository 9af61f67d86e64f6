"""Keras files: read without running what is in them, written in one piece."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qinspect.errors import ModelFileError, StoreError, TrainError
from qinspect.quiet import quiet
from qinspect.train.keras import tf_keras, tfmot

# A configuration is text; anything larger is not one.
_LARGEST_CONFIG = 50_000_000
_CODE_LAYERS = {"Lambda", "__lambda__"}
_TRUSTED_MODULES = {"keras", "tf_keras", "tensorflow_model_optimization"}
_TRUSTED_TF_SYMBOLS = ("math.", "nn.", "__operators__.")
_TRUSTED_TF_NAMES = {"cast", "concat", "reshape", "transpose", "expand_dims", "squeeze", "stack",
                     "clip_by_value", "identity", "split", "tile"}


def load_keras(path: str | os.PathLike[str]) -> Any:
    """Load a Sequential or Functional Keras 2 model, float or QAT, without running code from it.

    Parameters
    ----------
    path : path
        An ``.h5`` or ``.keras`` file.

    Returns
    -------
    tf_keras.Model
        Not compiled.

    Raises
    ------
    ModelFileError
        If the file cannot be read, is not a Keras model, was saved by Keras 3, or holds a QAT
        model in ``.keras`` format, or names code that loading or calling it would run.

    Notes
    -----
    ``load_model(path, safe_mode=True)`` executes the byte code of Lambda layers in ``.h5`` files
    all the same, so the configuration is read and judged first.
    """
    path = Path(path)
    config, version = _read_config(path)
    _refuse_code(path, config)
    if version.split(".")[0] not in {"", "1", "2"}:
        raise ModelFileError(
            f"{path.name!r} was saved by Keras {version}, which tfmot does not take; load it with "
            "keras.models.load_model, convert it with qinspect.train.to_tf_keras and save that."
        )
    if path.suffix == ".keras" and _mentions(config, "QuantizeWrapper"):
        raise ModelFileError(
            f"{path.name!r} is a QAT model in .keras format, which tfmot cannot load again; save "
            "it as .h5 with qinspect.train.save_keras where it was trained."
        )
    try:
        with quiet(), tfmot().quantization.keras.quantize_scope():
            return tf_keras().models.load_model(path, compile=False)
    # Keras raises whatever a malformed configuration leads to.
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelFileError(f"Keras cannot load {str(path)!r}: {reason}") from error


def model_of(model: Any) -> Any:
    """A model as it is, or that of a Keras file."""
    return load_keras(model) if isinstance(model, str | os.PathLike) else model


def save_keras(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a model, float or QAT, as ``.h5`` so that a reader sees all of it or nothing.

    Raises
    ------
    TrainError
        If the name does not end in ``.h5``: a QAT model in another format cannot be loaded again.
    StoreError
        If the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".h5":
        raise TrainError(
            f"cannot save a model as {path.name!r}; the name must end in .h5, the only format in "
            "which QAT models can be loaded again."
        )
    try:
        handle, name = tempfile.mkstemp(suffix=".h5", prefix=".saving-", dir=path.parent)
        os.close(handle)
        try:
            with quiet(), warnings.catch_warnings():
                # Keras calls .h5 legacy; it is the format in which QAT models come back.
                warnings.simplefilter("ignore")
                model.save(name, save_format="h5", include_optimizer=False)
            Path(name).chmod(0o666 & ~_umask())
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot write {str(path)!r}: {error.strerror or type(error).__name__}."
        ) from error


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _read_config(path: Path) -> tuple[dict[str, Any], str]:
    """Configuration of a saved model and the version of Keras that wrote it."""
    import h5py

    if path.suffix not in {".h5", ".keras"}:
        raise ModelFileError(
            f"{str(path)!r} is not named like a Keras model; the name must end in .h5 or .keras."
        )
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                if archive.getinfo("config.json").file_size > _LARGEST_CONFIG:
                    raise ModelFileError(f"the configuration in {path.name!r} is too large.")
                text: Any = archive.read("config.json")
                version = json.loads(archive.read("metadata.json")).get("keras_version", "")
        else:
            with h5py.File(path, "r") as file:
                text = file.attrs["model_config"]
                version = file.attrs.get("keras_version", "")
        config = json.loads(text)
    except KeyError as error:
        raise ModelFileError(
            f"{str(path)!r} holds no model configuration, perhaps only weights; save the whole "
            "model with model.save."
        ) from error
    except FileNotFoundError as error:
        raise ModelFileError(f"the model file {str(path)!r} does not exist.") from error
    except (OSError, ValueError, zipfile.BadZipFile, RecursionError) as error:
        raise ModelFileError(
            f"{str(path)!r} is not a Keras model file, or is damaged; it must be .h5 or .keras."
        ) from error
    if not isinstance(config, dict):
        raise ModelFileError(f"the model configuration in {path.name!r} is not an object.")
    return config, version.decode() if isinstance(version, bytes) else str(version)


def _refuse_code(path: Path, config: Any) -> None:
    """Refuse a configuration that would run or import what the file's author chose."""
    for found in _objects(config):
        kind, module = found.get("class_name"), found.get("module")
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
                f"{path.name!r} wants to import {str(module)!r} for {str(kind)!r}; only the layers "
                "of Keras and tfmot are loaded."
            )


def _trusted(found: dict[str, Any]) -> bool:
    module = str(found["module"])
    if module == "builtins":
        # How Keras writes an activation function; the name is looked up among its own.
        return found.get("class_name") == "function" and hasattr(
            tf_keras().activations, str(found.get("config"))
        )
    return module.split(".")[0] in _TRUSTED_MODULES


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object in a configuration."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def _mentions(config: Any, word: str) -> bool:
    return any(word in str(found.get("class_name", "")) for found in _objects(config))
