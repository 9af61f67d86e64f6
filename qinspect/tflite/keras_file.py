"""Read the layer table of a Keras model file (``.h5`` or ``.keras``) without Keras.

Only JSON and arrays are read: no object is unpickled and no code in the file, such as that of a
Lambda layer, is run.
"""

from __future__ import annotations

import io
import json
import lzma
import os
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from qinspect.errors import ModelFileError
from qinspect.schema import Array


@dataclass(frozen=True)
class KerasLayer:
    """One layer of a Keras model file, nested models flattened.

    Attributes
    ----------
    name : str
        Path of the layer, ``model/layer`` for a nested one, without tfmot's ``quant_`` prefix.
    kind : str
        Keras class, of the wrapped layer where tfmot wraps it.
    wrapped : bool
        Whether it is wrapped for quantization-aware training.
    config : dict of str to Any
        Plain values of the configuration that matter for the arithmetic.
    inbound : tuple of str
        Names of the layers whose outputs it takes.
    uses : int
        How often the model calls it.
    weights : dict of str to ndarray
        ``kernel``, ``bias``, ``gamma``, ...; ranges of QAT wrappers as ``kernel_min``, ...
    """

    name: str
    kind: str
    wrapped: bool
    config: dict[str, Any]
    inbound: tuple[str, ...]
    uses: int
    weights: dict[str, Array] = field(repr=False)


@dataclass(frozen=True)
class KerasModelTable:
    """Layers of a ``.h5`` or ``.keras`` file in the order of its configuration."""

    file: str
    keras_version: str
    layers: tuple[KerasLayer, ...]
    warnings: tuple[str, ...]


_MAX_CONFIG = 64 << 20
_MAX_WEIGHTS = 8 << 30
# Real weights hardly compress; a member that grows more than this is a decompression bomb.
_MAX_RATIO = 200
_MAX_DEPTH = 20
_CONFIG = (
    "activation", "use_bias", "strides", "padding", "dilation_rate", "epsilon", "momentum",
    "filters", "units", "kernel_size", "groups", "depth_multiplier", "max_value",
    "negative_slope", "axis", "rate", "pool_size", "center", "scale",
)
_MODELS = frozenset({"Functional", "Model", "Sequential"})
_WRAPPERS = frozenset({"QuantizeWrapper", "QuantizeWrapperV2", "QuantizeAnnotate"})
_PREFIX = "quant_"


@dataclass(frozen=True)
class _Entry:
    """A layer as the configuration has it, before its weights are known."""

    layer: KerasLayer
    own_name: str
    group: str  # that holds its weights in a .keras archive
    top: str  # top-level layer, whose HDF5 group holds the weights of nested ones too


def read_keras(path: str | os.PathLike[str]) -> KerasModelTable:
    """Read a Keras model file.

    Parameters
    ----------
    path : path
        ``.h5`` written by Keras 2 or 3, or ``.keras`` (a zip archive).

    Returns
    -------
    KerasModelTable
        Nested models flattened; layers wrapped by tfmot under their own name.

    Raises
    ------
    ModelFileError
        If it is neither format, holds no architecture (weights only, or a subclassed model), or
        its parts contradict each other or exceed the size limits.
    """
    name = os.fspath(path)
    try:
        with Path(path).open("rb") as file:
            head = file.read(8)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ModelFileError(f"cannot read the model file {name!r}: {reason}.") from error
    try:
        if head.startswith(b"\x89HDF"):
            return _read_h5(path, name)
        if head.startswith(b"PK"):
            return _read_archive(path, name)
    except (OSError, KeyError, TypeError, ValueError, AttributeError, IndexError,
            RuntimeError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error,
            lzma.LZMAError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelFileError(f"{name} is not a Keras model that can be read: {reason}.") from error
    raise ModelFileError(
        f"{name} is neither an HDF5 (.h5) nor a .keras file; a SavedModel folder must be loaded "
        "with TensorFlow."
    )


def _read_h5(path: str | os.PathLike[str], name: str) -> KerasModelTable:
    with h5py.File(path, "r") as file:
        raw = file.attrs.get("model_config")
        if raw is None:
            raise ModelFileError(
                f"{name} holds no architecture (weights only?); save the whole model."
            )
        if len(raw) > _MAX_CONFIG:
            raise ModelFileError(f"{name} has a configuration of {len(raw):,} bytes.")
        config = json.loads(raw)
        version = file.attrs.get("keras_version", "")
        entries = list(_walk(config, name))
        limit = _Limit(Path(path).stat().st_size, name)
        groups = file["model_weights"]
        layers = [_with_weights(entry, _h5_weights(entry, groups, limit)) for entry in entries]
    return _table(name, version, layers)


def _h5_weights(entry: _Entry, groups: Any, limit: _Limit) -> dict[str, Array]:
    if entry.top not in groups:
        return {}
    group = _group(groups, entry.top, limit)
    found: dict[str, Array] = {}
    for raw in group.attrs.get("weight_names", ()):
        path = raw.decode() if isinstance(raw, bytes) else str(raw)
        parts = path.split("/")
        # Inside a wrapper the kernel is named after the wrapped layer, its ranges after itself.
        owner = parts[-2] if len(parts) > 1 else entry.own_name
        nested = entry.top != entry.own_name
        if nested and owner not in (entry.own_name, entry.own_name.removeprefix(_PREFIX)):
            continue
        found[parts[-1].removesuffix(":0")] = limit.array(_dataset(group, path, limit))
    return found


def _read_archive(path: str | os.PathLike[str], name: str) -> KerasModelTable:
    with zipfile.ZipFile(path) as archive:
        try:
            config = json.loads(_member(archive, "config.json", _MAX_CONFIG, name))
            metadata = json.loads(_member(archive, "metadata.json", _MAX_CONFIG, name))
            weights = _member(archive, "model.weights.h5", _MAX_WEIGHTS, name)
        except KeyError as error:
            raise ModelFileError(f"{name} is a zip archive, but no .keras model.") from error
    entries = list(_walk(config, name))
    with h5py.File(io.BytesIO(weights), "r") as file:
        limit = _Limit(len(weights), name)
        layers = [_with_weights(entry, _archive_weights(entry, file, limit)) for entry in entries]
    return _table(name, metadata.get("keras_version", ""), layers)


def _member(archive: zipfile.ZipFile, member: str, most: int, name: str) -> bytes:
    info = archive.getinfo(member)
    if info.file_size > most or info.file_size > _MAX_RATIO * max(info.compress_size, 4096):
        raise ModelFileError(
            f"{name}: its member {member} would unpack to {info.file_size:,} bytes, which is "
            "more than a model can need."
        )
    with archive.open(info) as file:
        return file.read(info.file_size)


def _archive_weights(entry: _Entry, file: Any, limit: _Limit) -> dict[str, Array]:
    group = file
    for part in entry.group.split("/"):
        if part not in group:
            return {}
        group = _group(group, part, limit)
    values: list[Array] = []
    for holder in (group, group.get("layer") if entry.layer.wrapped else None):
        if holder is None or "vars" not in holder:
            continue
        variables = _group(holder, "vars", limit)
        for key in sorted(variables, key=int):
            values.append(limit.array(_dataset(variables, key, limit)))
        if values:
            break
    return dict(zip(_variable_names(entry, len(values)), values, strict=True))


def _variable_names(entry: _Entry, count: int) -> list[str]:
    """A ``.keras`` archive numbers the variables in the order in which Keras makes them."""
    config = entry.layer.config
    if entry.layer.kind == "BatchNormalization":
        names = [n for n, key in (("gamma", "scale"), ("beta", "center")) if config.get(key, True)]
        names += ["moving_mean", "moving_variance"]
    elif entry.layer.kind.startswith("Separable"):
        names = ["depthwise_kernel", "pointwise_kernel", "bias"]
    else:
        names = ["kernel", "bias"]
    return [*names[:count], *(str(i) for i in range(len(names), count))]


def _walk(model: dict[str, Any], file: str) -> list[_Entry]:
    if model.get("class_name") not in _MODELS:
        raise ModelFileError(
            f"{file} holds a {model.get('class_name')!r}; only Sequential and Functional models "
            "have a layer table."
        )
    entries: list[_Entry] = []
    _walk_model(model, "", "", "", {}, entries, 0)
    return entries


def _walk_model(
    model: dict[str, Any],
    prefix: str,
    group: str,
    top: str,
    feeds: dict[str, tuple[str, ...]],
    entries: list[_Entry],
    depth: int,
) -> tuple[str, ...]:
    """Append the layers of a model and return the names of those that give its outputs."""
    if depth > _MAX_DEPTH:
        raise ValueError("models are nested too deeply")
    config = model["config"]
    layers = config["layers"] if isinstance(config, dict) else config
    sequential = model["class_name"] == "Sequential"
    numbers: Counter[str] = Counter()
    # What a reference to a layer of this model stands for: itself, or the outputs of a nested one.
    stands_for: dict[str, tuple[str, ...]] = {}
    previous: tuple[str, ...] = next(iter(feeds.values()), ())
    for layer in layers:
        kind, own = layer["class_name"], _own_name(layer)
        key = f"{group}layers/{_numbered(kind, numbers)}"
        wanted = list(_references(layer.get("inbound_nodes", [])))
        inbound = tuple(dict.fromkeys(n for w in wanted for n in stands_for.get(w, ())))
        if sequential:
            inbound = previous
        full = prefix + own.removeprefix(_PREFIX)
        outer = top or own
        if kind == "InputLayer" and prefix:
            stands_for[own] = feeds.get(own, next(iter(feeds.values()), ()))
            continue
        if kind in _MODELS:
            inputs = _input_names(layer, inbound)
            stands_for[own] = _walk_model(
                layer, f"{full}/", f"{key}/", outer, inputs, entries, depth + 1
            )
        else:
            inner = layer["config"].get("layer") if kind in _WRAPPERS else None
            described = inner if isinstance(inner, dict) else layer
            entries.append(
                _Entry(
                    KerasLayer(
                        name=full, kind=described["class_name"], wrapped=inner is not None,
                        config={k: described["config"][k] for k in _CONFIG
                                if k in described["config"]},
                        inbound=inbound, uses=max(1, len(layer.get("inbound_nodes", []))),
                        weights={},
                    ),
                    own, key, outer,
                )
            )
            stands_for[own] = (full,)
        previous = stands_for[own]
    outputs = [] if sequential else list(_references(config.get("output_layers", [])))
    named = tuple(dict.fromkeys(n for o in outputs for n in stands_for.get(o, ())))
    return named or previous


def _own_name(layer: dict[str, Any]) -> str:
    return str(layer.get("name") or layer["config"]["name"])


def _numbered(kind: str, numbers: Counter[str]) -> str:
    """Name of a layer's group in a ``.keras`` archive: its class in snake case, numbered."""
    snake = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", kind)).lower()
    numbers[snake] += 1
    return snake if numbers[snake] == 1 else f"{snake}_{numbers[snake] - 1}"


def _input_names(layer: dict[str, Any], inbound: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    config = layer["config"]
    inputs = list(_references(config.get("input_layers", []))) if isinstance(config, dict) else []
    if len(inputs) > 1 and len(inputs) == len(inbound):
        return {name: (source,) for name, source in zip(inputs, inbound, strict=True)}
    return dict.fromkeys(inputs, inbound) or {"": inbound}


def _references(node: Any, depth: int = 0) -> Iterator[str]:
    """Layer names that a part of the configuration refers to, in Keras 2 or Keras 3 notation."""
    if depth > 2 * _MAX_DEPTH:
        return
    if isinstance(node, dict):
        if "keras_history" in node:
            yield str(node["keras_history"][0])
            return
        for value in node.values():
            yield from _references(value, depth + 1)
    elif isinstance(node, list):
        if len(node) >= 3 and isinstance(node[0], str) and isinstance(node[1], int):
            yield node[0]
            node = node[3:]
        for value in node:
            yield from _references(value, depth + 1)


class _Limit:
    """Refuses arrays that claim more than the file can hold, and links that leave it."""

    def __init__(self, size: int, name: str) -> None:
        self.left = max(64 << 20, _MAX_RATIO * size)
        self.name = name

    def array(self, dataset: Any) -> Array:
        self.left -= dataset.nbytes
        if self.left < 0 or dataset.dtype.kind not in "fiub":
            raise ModelFileError(
                f"{self.name}: the array {dataset.name} of {dataset.shape} {dataset.dtype} "
                "cannot be in a file of this size."
            )
        return np.asarray(dataset[()])


def _inside(parent: Any, key: str, limit: _Limit) -> Any:
    """A member, but never through a link that leads to another file."""
    node = parent
    for part in key.split("/"):
        if not isinstance(node.get(part, getlink=True), h5py.HardLink):
            raise ModelFileError(f"{limit.name}: {key} is a link, which a model file never has.")
        node = node[part]
    return node


def _group(parent: Any, key: str, limit: _Limit) -> Any:
    node = _inside(parent, key, limit)
    if not isinstance(node, h5py.Group):
        raise ModelFileError(f"{limit.name}: {key} is not a group.")
    return node


def _dataset(parent: Any, key: str, limit: _Limit) -> Any:
    node = _inside(parent, key, limit)
    if not isinstance(node, h5py.Dataset) or node.external or node.is_virtual:
        raise ModelFileError(f"{limit.name}: {key} is not an array stored in this file.")
    return node


def _with_weights(entry: _Entry, weights: dict[str, Array]) -> KerasLayer:
    if "kernel" not in weights and entry.layer.kind.startswith("DepthwiseConv"):
        # Keras 2 calls it depthwise_kernel, Keras 3 kernel.
        weights = {("kernel" if k == "depthwise_kernel" else k): v for k, v in weights.items()}
    return replace(entry.layer, weights=weights)


def _table(name: str, version: Any, layers: list[KerasLayer]) -> KerasModelTable:
    lambdas = [layer.name for layer in layers if layer.kind == "Lambda"]
    warnings = []
    if lambdas:
        warnings.append(
            f"{len(lambdas)} Lambda layers hold code, which was not run: {', '.join(lambdas[:5])}."
        )
    text = version.decode() if isinstance(version, bytes) else str(version)
    return KerasModelTable(name, text, tuple(layers), tuple(warnings))
