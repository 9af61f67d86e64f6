"""Where examples are kept: one way in for files, folders and functions."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qinspect import store
from qinspect.data.columns import read_columns_file
from qinspect.data.dataset import Dataset
from qinspect.data.folders import read_folder
from qinspect.data.functions import is_function, read_function
from qinspect.data.npy import read_npy
from qinspect.data.npz import load_npz
from qinspect.errors import DataError


@dataclass(frozen=True)
class Source:
    """A place where examples are kept, and which arrays or columns of it to take.

    ``path``: ``.npz``, ``.npy`` (labels in a second file), ``.csv``, ``.parquet``, a folder with a
    folder of images a class, or ``module:function``.  ``x_key`` and ``y_key`` name arrays or
    columns, several separated by commas; of ``.npy``, ``y_key`` is the file of the labels.
    """

    path: str | os.PathLike[str]
    x_key: str | None = None
    y_key: str | None = None


_FILES: dict[str, Callable[..., Dataset]] = {
    ".npz": load_npz, ".npy": read_npy, ".csv": read_columns_file, ".parquet": read_columns_file,
}


def read(source: Source, *, inputs: int = 1, shape: tuple[int, ...] = ()) -> Dataset:
    """Examples of any source.

    ``inputs``: how many the model has; with several, ``x`` is a mapping.  ``shape``: of one example
    of a model with one input, -1 where it is open; empty where it is not known.
    """
    name, path = str(source.path), Path(source.path)
    keys = {"x_key": source.x_key, "y_key": source.y_key}
    if is_function(name) and not store.is_file(path):
        if any(keys.values()):
            raise DataError(f"{name} gives x and y itself; leave out --x-key and --y-key.")
        return read_function(name)
    if store.is_folder(path):
        if any(keys.values()):
            raise DataError(f"{name} is a folder of images, whose classes are its folders; leave "
                            "out --x-key and --y-key.")
        return read_folder(path, shape)
    reader = _FILES.get(path.suffix.lower())
    if reader is None and store.is_file(path):
        raise DataError(f"{name} ends in {path.suffix or 'nothing'!r}; examples are read from "
                        f"{', '.join(_FILES)}, a folder of images with one folder a class, or "
                        "module:function.")
    if reader is None or not store.is_file(path):
        raise DataError(f"{store.shown(path)}: no such file; give the path of a file "
                        f"({', '.join(_FILES)}), of a folder of images, or module:function.")
    if reader is load_npz:
        return load_npz(path, **keys, inputs=inputs)
    if reader is read_npy:
        return read_npy(path, **keys)
    return read_columns_file(path, **keys, shape=shape)
