"""Files of predictions as people keep them, read without ever unpickling."""

from __future__ import annotations

import csv
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from qinspect.errors import DataError
from qinspect.schema import Array
from qinspect.stats.paired import as_correct

# Columns of a file that describe an example and are no model's results.
_RESERVED = ("y", "id", "ids", "group")
# Starts the name of a column that says which examples are right.
CORRECT = "correct_"
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Table:
    """What a file holds: of each model labels or, as booleans, which examples are right."""

    outputs: dict[str, Array]
    y: Array
    ids: Array | None = None
    groups: Array | None = None


def read_table(file: Path) -> Table:
    """The columns in a file of predictions."""
    if not file.is_file():
        raise DataError(f"there is no file {file}.")
    readers = {".npz": _read_npz, ".csv": _read_csv}
    if file.suffix.lower() not in readers:
        raise DataError(f"{file} ends in {file.suffix or 'nothing'!r}; give an .npz or a .csv.")
    columns = readers[file.suffix.lower()](file)
    if "y" not in columns:
        listed = ", ".join(columns) or "nothing"
        raise DataError(f"{file} has no column y with the true labels; it holds {listed}.")
    y = _labels(columns["y"], "y", file)
    n = len(y)
    outputs: dict[str, Array] = {}
    for column, values in columns.items():
        if column in _RESERVED:
            continue
        if values.shape != (n,):
            raise DataError(
                f"{file}: {column} has shape {values.shape} but y has {n} labels; "
                "every model needs one value an example."
            )
        name = column.removeprefix(CORRECT) or column
        if name in outputs:
            raise DataError(f"{file} has two columns for the model {name!r}; rename one.")
        if values.dtype == bool or column.startswith(CORRECT):
            outputs[name] = as_correct(values, f"{column} in {file}")
        else:
            outputs[name] = _predictions(values, y, column, file)
    if len(outputs) < 2:
        found = f"only {next(iter(outputs))}" if outputs else "none"
        raise DataError(f"{file} must hold at least two models besides y, but holds {found}.")
    group = None
    if "group" in columns:
        group = _labels(columns["group"], "group", file)
        if len(group) != n:
            raise DataError(f"{file}: group has {len(group)} values but y has {n} labels.")
    ids = columns.get("id", columns.get("ids"))
    if ids is not None and ids.shape != (n,):
        raise DataError(f"{file}: the ids have shape {ids.shape} but y has {n} labels.")
    return Table(outputs, y, ids, group)


def _read_npz(file: Path) -> dict[str, Array]:
    columns = {}
    try:
        archive = np.load(file, allow_pickle=False)
        # A renamed .npy.
        if isinstance(archive, np.ndarray):
            raise DataError(f"{file} is not an .npz archive but a single array.")
        with archive:
            for name in archive.files:
                try:
                    columns[name] = np.asarray(archive[name])
                except ValueError as error:
                    if "allow_pickle" not in str(error):
                        raise
                    raise DataError(
                        f"{file}: {name} is an object array, which could run code when loaded; "
                        "save it as plain numbers, booleans or text."
                    ) from None
    except (ValueError, OSError, EOFError, KeyError, RuntimeError, *_BROKEN_ZIP) as error:
        raise DataError(f"{file} cannot be read as .npz: {error}.") from None
    return columns


def _read_csv(file: Path) -> dict[str, Array]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
        separator = max(",;\t", key=first.count)
        header = [name.strip() for name in next(csv.reader([first], delimiter=separator), [])]
        with warnings.catch_warnings():
            # A row with more fields than the header is an error, not a shift of the columns.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                file,
                sep=separator,
                encoding="utf-8-sig",
                index_col=False,
                skipinitialspace=True,
                low_memory=False,
            )
    except (ValueError, OSError, csv.Error, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{file} cannot be read as .csv: {reason.rstrip('.')}.") from None
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{file} has more than one column {twice[0]!r}; rename one.")
    if len(header) != frame.shape[1]:
        raise DataError(f"{file} has a header line that cannot be split into columns.")
    columns = {}
    for name, column in zip(header, frame.columns, strict=True):
        if name == "":
            # The nameless first column of a data frame's own index.
            continue
        values = frame[column]
        if values.isna().any():
            missing = values.isna().to_numpy()
            # Header is line 1.
            raise DataError(
                f"{file}: {name} has {int(missing.sum())} missing values, the first in line "
                f"{int(np.argmax(missing)) + 2}; fill or remove them."
            )
        columns[name] = (
            values.to_numpy() if values.dtype.kind in "biuf" else values.to_numpy(dtype=str)
        )
    return columns


def _labels(values: Array, name: str, file: Path) -> Array:
    """Labels as whole numbers or text."""
    if values.ndim != 1:
        raise DataError(
            f"{file}: {name} has shape {values.shape}; it must be one label an example "
            "(take the arg max of class scores first)."
        )
    if values.size == 0:
        raise DataError(f"{file}: {name} is empty; at least one example is needed.")
    if values.dtype.kind == "f":
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            raise DataError(
                f"{file}: {name} has {bad} NaN or infinite values; remove or mend them."
            )
        broken = values != np.round(values)
        if broken.any():
            raise DataError(
                f"{file}: {name} holds {values[broken][0]:g}, which is no class label; "
                "give predicted classes, not scores."
            )
    elif values.dtype.kind not in "biuUS":
        raise DataError(f"{file}: {name} is of type {values.dtype}; labels are numbers or text.")
    return np.char.decode(values, "utf-8", "replace") if values.dtype.kind == "S" else values


def _predictions(values: Array, y: Array, name: str, file: Path) -> Array:
    """Predicted labels of the kind of y."""
    found = _labels(values, name, file)
    if (found.dtype.kind == "U") != (y.dtype.kind == "U"):
        kinds = ["text" if array.dtype.kind == "U" else "numbers" for array in (found, y)]
        raise DataError(
            f"{file}: {name} holds {kinds[0]} but y holds {kinds[1]}; they cannot be compared."
        )
    return found
