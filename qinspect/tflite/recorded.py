"""Outputs of a file recorded elsewhere, on a phone or a chip: read, and brought in order."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qinspect import store
from qinspect.data.dataset import Dataset
from qinspect.data.names import listed
from qinspect.data.npy import read_npy_array
from qinspect.errors import DataError, SpecError
from qinspect.metrics import ACCURACY, AGREEMENT
from qinspect.metrics.classes import NO_ANSWER
from qinspect.schema import Array, Arrays
from qinspect.tflite.graph import Graph
from qinspect.tflite.ports import Port
from qinspect.tflite.run import Evaluation, evaluation_of
from qinspect.tflite.task import Task, output_port
from qinspect.verdicts import examples

Place = str | os.PathLike[str] | Array | Mapping[str, Array]

# What stands behind the name of a file.
RECORDED = ", recorded"
RAW = (".bin", ".raw")
# Checksum of the file that ran there, as a gate's baseline names it.
_SHA = "model_sha256"
_IDS, _CLASSES, _OUTPUTS = ("ids", "id"), ("predictions", "prediction"), ("outputs", "output")
# Real values of a quantized output may leave its stored range by so many times its width before
# they are taken for something else; a delegate may compute in float.  Chosen.
_BEYOND = 1.0
# Labels were recorded for outputs where the file misses so many of them; chosen.
_MISSED = 5


def recorded_name(name: str) -> str:
    """What the recorded outputs of a file are called beside it."""
    return name + RECORDED


@dataclass(frozen=True)
class Recording:
    """What a file gave elsewhere, an entry an example, in the order of the data.

    ``result`` is None where classes alone were recorded; ``said``: where they come from, and how
    they were brought to the examples; ``same_file``: whether the file that ran there was this one,
    by its checksum, None where that was not recorded; ``labels``: whether they are the examples'
    labels, of which the file misses more than a few.
    """

    prediction: Array
    result: Evaluation | None
    said: str
    same_file: bool | None = None
    labels: bool = False

    def scored(self, task: Task, name: str, graph: Graph, x: Arrays) -> Any:
        """What of them the metric takes."""
        metric = task.metric
        if metric is not None and metric.all_outputs:
            raise DataError(f"{metric.id} takes all outputs of {name}, and one was recorded; "
                            "compare by another metric.")
        if self.result is not None:
            return task.scored(name, graph, x, self.result)
        if metric not in (ACCURACY, AGREEMENT, None):
            raise DataError(f"of {name} classes alone were recorded, and {metric.id} takes "
                            "outputs; record these.")
        return self.prediction


def given_by_name(recorded: Mapping[str, Place | None] | None) -> dict[str, Place]:
    """Recorded outputs by the names that they were given with."""
    if not isinstance(recorded, Mapping | None):
        raise SpecError(f"recorded outputs are {type(recorded).__name__}; give them by the name of "
                        "the file, such as recorded={'ptq': 'ptq_phone.npz'}.")
    return {store.text_of(str(name)): place for name, place in (recorded or {}).items()
            if place is not None}


def by_model(recorded: Mapping[str, Place] | None, names: Collection[str]) -> dict[str, Place]:
    """Recorded outputs by the name of the model, which may be given without folder and ending."""
    found: dict[str, Place] = {}
    for key, place in given_by_name(recorded).items():
        path = Path(key)
        fits = [name for name in names if name == key] or [
            name for name in names if path.name in (Path(name).name, Path(name).stem)]
        if len(fits) != 1:
            raise SpecError(f"outputs were recorded of {key[:60]!r}, which is "
                            f"{'none' if not fits else 'more than one'} of the files; name one "
                            f"of {listed(list(names))}.")
        if fits[0] in found:
            raise SpecError(f"there is more than one recording of {fits[0]}; give one.")
        found[fits[0]] = place
    return found


def places(options: Sequence[str], what: str = "--recorded") -> dict[str, str]:
    """What options name for a file: ``qat=qat_phone.npz``."""
    found: dict[str, str] = {}
    for option in options:
        name, equals, path = option.partition("=")
        if not (equals and name and path):
            raise SpecError(f"{what} {option[:60]!r} does not say what is of which file; write it "
                            f"as {what} qat=PATH.")
        if name in found:
            raise SpecError(f"{what} is given more than once for {name}; give one.")
        found[name] = path
    return found


def read_recorded(
    place: Place, name: str, graph: Graph, task: Task, own: Evaluation, data: Dataset
) -> Recording:
    """Recorded outputs of a file, checked against what it gives here for the same examples."""
    port = output_port(graph, task.outputs[name])
    where = store.shown(Path(place)) if isinstance(place, str | os.PathLike) else (
        f"the recording of {name}")
    place = _arrays(place, where)
    found = _read(place, where, port, own, data.ids)
    values = (_classes(found.values, where, own) if found.classes else
              _outputs(found.values, where, name, port, own))
    if len(values) != len(data):
        raise DataError(f"{where} holds {examples(len(values))}, and the data hold "
                        f"{len(data):,}; record all of them, or give those that were recorded as "
                        "--data.")
    if found.ids is not None:
        order, joined = _order(found.ids, len(values), where, data)
        values = values[order]
    else:
        joined = f"taken in the order of the data{found.how}"
    said = (f"{where}: {'classes' if found.classes else 'outputs'} of {name}{found.left}, "
            f"{joined}.")
    same = found.sha256.lower() == hashlib.sha256(graph.content).hexdigest() if (
        found.sha256) else None
    result = None if found.classes else evaluation_of(port, values, own.batched, ())
    given = values if result is None else result.prediction if task.classes else result.outputs
    labels = _are_labels(given, own.prediction if task.classes else own.outputs, data)
    if result is None:
        return Recording(values, None, said, same, labels)
    return Recording(result.prediction, result, " ".join((said, *result.notes)), same, labels)


def _are_labels(given: Array, own: Array, data: Dataset) -> bool:
    """Whether all that was recorded are labels, under whichever offset, which the file misses."""
    if data.y is None or data.y.dtype.kind not in "iuf" or (
            len(data.y) != len(given) or data.y.size != given.size):
        return False
    y = np.asarray(data.y, np.float32).reshape(len(given), -1)
    apart, missed = (one.astype(np.float32).reshape(y.shape) - y for one in (given, own))
    return bool((apart == apart[0]).all() and (y != y[0]).any()
                and np.count_nonzero((missed != apart[0]).any(axis=1)) >= _MISSED)


# --- files ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """What a recording holds; ``how``: what was guessed about its order."""

    values: Array
    ids: Array | None = None
    classes: bool = False
    how: str = ""
    sha256: str = ""
    left: str = ""


def _arrays(place: Any, where: str) -> Place:
    """A path or arrays; whatever else holds numbers becomes an array."""
    if isinstance(place, str | os.PathLike):
        return place
    if isinstance(place, Mapping):
        return {key: _numbers(one, f"{where}, {str(key)[:60]}") for key, one in place.items()}
    return _numbers(place, where)


def _numbers(values: Any, where: str) -> Array:
    if np.ma.isMaskedArray(values):
        raise DataError(f"{where} is a masked array; fill what was not recorded with NaN, or leave "
                        "these examples out here and in the data.")
    try:
        found = np.asarray(values)
        # Such as a column of a table, whose text is Python objects.
        found = np.array(found.tolist()) if found.dtype == object else found
    except ValueError:  # rows of different lengths
        found = np.array(None)
    if found.dtype == object:
        raise DataError(f"{where} is {type(values).__name__}, which is neither a path nor an array "
                        "of numbers or text; give one of these.")
    return found


def _read(place: Place, where: str, port: Port, own: Evaluation, known: Array) -> _Found:
    if isinstance(place, Mapping):
        return _chosen(place, where, port)
    if isinstance(place, np.ndarray):
        return _array(place, own)
    path = Path(place)
    suffix = path.suffix.lower()
    if store.is_folder(path):
        return _folder(path, where, port, own, known)
    if suffix == ".npz":
        names = store.array_names(path, DataError)
        wanted = _keys(port)
        found = store.read_arrays(path, [key for key in names if key in wanted], DataError)
        return _chosen(found, where, port, names)
    if suffix == ".npy":
        return _array(read_npy_array(path), own)
    if not store.is_file(path) or suffix not in RAW:
        raise DataError(f"{where} is no recording; give an .npz with outputs, an .npy, a file "
                        f"({', '.join(RAW)}) of the tensor's bytes, or a folder with one an "
                        "example.")
    return _Found(_tensors([path], port, own))


def _keys(port: Port) -> list[str]:
    return [port.name, *port.aliases, *_OUTPUTS, *_CLASSES, *_IDS, _SHA]


def _chosen(arrays: Mapping[str, Array], where: str, port: Port, names: Collection[str] = ()
            ) -> _Found:
    ids = next((arrays[key] for key in _IDS if key in arrays), None)
    there = [key for key in dict.fromkeys(_keys(port))
             if key in arrays and key not in (*_IDS, _SHA)]
    if there:
        key, *others = there
        left = f" ({key!r}; not read: {listed(others)})" if others else ""
        return _Found(arrays[key], ids, key in _CLASSES, "", _checksum(arrays.get(_SHA), where),
                      left)
    raise DataError(f"{where} has no array outputs, {port.name} or predictions; it has "
                    f"{listed(list(names or arrays)) or 'none'}.")


def _checksum(value: Array | None, where: str) -> str:
    """The checksum of the file that ran, in lower case; empty where none was recorded."""
    if value is None or (value.size == 1 and value.item() in ("", b"")):
        return ""
    only = value.item() if value.size == 1 else value.shape
    text = only.decode("ascii", "replace") if isinstance(only, bytes) else str(only)
    found = text.strip().lower().removeprefix("sha256:").strip()
    if not re.fullmatch(r"[0-9a-f]{64}", found):
        raise DataError(f"{where}: {_SHA} is {text[:60]!r}; it must be the 64 digits of the file's "
                        "SHA-256 (sha256sum FILE), or be left out.")
    return found


def _array(values: Array, own: Evaluation) -> _Found:
    """One whole number an example is its class where the file gives more than one number."""
    classes = values.ndim == 1 and values.dtype.kind in "iu" and own.raw[0].size > 1
    return _Found(values, classes=classes)


def _folder(folder: Path, where: str, port: Port, own: Evaluation, known: Array) -> _Found:
    """One file an example, found by the ids of the examples or put in order by their numbers."""
    files = [file for file in folder.iterdir()
             if file.suffix.lower() in RAW and not file.name.startswith(".")
             and store.is_file(file)]
    if not files:
        raise DataError(f"{where} holds no file that ends in {' or '.join(RAW)}; give one an "
                        "example.")
    files.sort(key=lambda file: [int(part) if part.isdecimal() else part
                                 for part in re.split(r"(\d+)", file.stem)])
    stems = np.array([file.stem for file in files])
    values = _tensors(files, port, own)
    if set(stems.tolist()) & set(known.tolist()):
        return _Found(values, stems)
    return _Found(values, how=f" by the numbers in the files' names, {files[0].name[:40]!r} to "
                              f"{files[-1].name[:40]!r}")


def _tensors(files: list[Path], port: Port, own: Evaluation) -> Array:
    """Bytes as little-endian values of the output, or as float32 where they are as many."""
    shape, dtype = own.raw.shape[1:], np.dtype(port.tensor.dtype).newbyteorder("<")
    size, real = int(np.prod(shape)), np.dtype("<f4")
    n = len(own.raw) if len(files) == 1 else 1
    lengths = [file.stat().st_size for file in files]  # before anything is read
    for one in (dtype, real):
        if all(length == n * size * one.itemsize for length in lengths):
            content = b"".join(file.read_bytes() for file in files)
            return np.frombuffer(content, one).reshape(-1, *shape)
    bad = next(at for at, length in enumerate(lengths) if length != n * size * dtype.itemsize)
    raise DataError(f"{store.shown(files[bad])} has {lengths[bad]:,} bytes; {examples(n)} of the "
                    f"output {port.name!r} are {n * size * dtype.itemsize:,} as {dtype.name}"
                    + (f" or {n * size * 4:,} as float32" if dtype.itemsize != 4 else "")
                    + ", without a header.")


# --- checks --------------------------------------------------------------------------------------


def _classes(values: Array, where: str, own: Evaluation) -> Array:
    numbers = own.raw[0].size
    if numbers == 1:
        raise DataError(f"{where} holds predictions, but the file gives one number for each "
                        "example, of which these were made; record that number as outputs.")
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise DataError(f"{where}: predictions have shape {values.shape} and type {values.dtype}; "
                        "they must be one whole number, the class, an example.")
    if len(values) and (values.min() < NO_ANSWER or values.max() >= numbers):
        raise DataError(f"{where}: predictions run from {values.min()} to {values.max()}, but the "
                        f"file has classes 0 to {numbers - 1}; number them as the file does.")
    return values.astype(np.int64)


def _outputs(values: Array, where: str, name: str, port: Port, own: Evaluation) -> Array:
    """Outputs as the file stores them, or as real numbers: the type says which."""
    shape, dtype = own.raw.shape[1:], np.dtype(port.tensor.dtype)
    if not values.ndim or [d for d in values.shape[1:] if d != 1] != [d for d in shape if d != 1]:
        raise DataError(f"{where} has shape {values.shape}; the output {port.name!r} of {name} has "
                        f"{list(shape)} for each example.")
    values = values.reshape(len(values), *shape)
    if values.dtype.kind != "f":
        if values.dtype.newbyteorder("=") != dtype:
            raise DataError(f"{where} holds {values.dtype}, but the output {port.name!r} of {name} "
                            f"is {dtype}; save what it stores as {dtype}, or real values as "
                            "float32.")
        return values.astype(dtype, copy=False)
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    ends = port.tensor.stored_range
    finite = values[np.isfinite(values)]
    if ends is not None and dtype.kind in "iu" and finite.size:
        low, high, width = float(finite.min()), float(finite.max()), ends[1] - ends[0]
        if low < ends[0] - _BEYOND * width or high > ends[1] + _BEYOND * width:
            raise DataError(f"{where} holds {low:g} to {high:g} as real numbers, but the output "
                            f"{port.name!r} of {name} reaches from {ends[0]:g} to {ends[1]:g}; "
                            f"save what it stores as {dtype}, without scaling it.")
    return values


def _order(ids: Array, n: int, where: str, data: Dataset) -> tuple[Array, str]:
    """Which recorded entry is of each example of the data, by ids."""
    ids = ids.reshape(-1) if ids.shape == (n, 1) else ids
    ids = np.char.decode(ids, "utf-8", "replace") if ids.dtype.kind == "S" else ids
    if ids.shape != (n,) or ids.dtype.kind not in "iuU":
        raise DataError(f"{where}: ids have shape {ids.shape} and type {ids.dtype}; they must be "
                        f"one text or whole number for each of {n:,} outputs.")
    text, known = ids.astype(str).tolist(), data.ids.tolist()
    at = {one: place for place, one in enumerate(text)}
    if len(at) < n:
        twice = next(one for one in text if text.count(one) > 1)
        raise DataError(f"{where}: the id {twice[:60]!r} occurs {text.count(twice)} times; an "
                        "example is recorded once.")
    numbers = [int(one) if one.isdecimal() and len(one) < 20 else -1 for one in text]
    if known == [f"{data.name}-{row:06d}" for row in range(len(known))] and (
            sorted(numbers) == list(range(len(known)))):
        # The data have no ids of their own.
        return np.argsort(numbers), "joined by the number of the row"
    missing, more = [one for one in known if one not in at], set(text) - set(known)
    if missing or more:
        first = (missing or sorted(more))[0]
        raise DataError(f"{where} and the data hold different examples by their ids: {len(missing)}"
                        f" are only in the data, {len(more)} only in the recording, such as "
                        f"{first[:60]!r}; give the same examples as --data, or leave the ids out "
                        "to take them in order.")
    return np.array([at[one] for one in known]), "joined by id"
