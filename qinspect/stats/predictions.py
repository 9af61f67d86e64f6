"""Predictions from anywhere: read a plain file and compare every pair of models in it."""

from __future__ import annotations

import csv
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qinspect.errors import DataError
from qinspect.schema import Array
from qinspect.stats.compare import as_correct, compare_paired, comparison_row
from qinspect.stats.many import compare_many

# Columns that describe an example and are no model's results.
_RESERVED = ("y", "id", "ids", "group")
_PREFIX = "correct_"
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Predictions:
    """Which examples each model of a file gets right.

    Attributes
    ----------
    file : str
        Path as given.
    n : int
        Examples.
    correct : dict of name -> ndarray of bool, shape (n,)
        Models in the order of the file.
    read_as : dict of name -> str
        ``predictions`` or ``correctness``, how each column was understood.
    group : ndarray or None, shape (n,)
        Cluster of each example, if the file has a column ``group``.
    """

    file: str
    n: int
    correct: dict[str, Array]
    read_as: dict[str, str]
    group: Array | None = None


def read_predictions(path: str | Path) -> Predictions:
    """Read labels and the results of two or more models.

    The file holds ``y`` and one column a model: predicted labels, compared with ``y``, or
    correctness.  A column is correctness only if it is boolean (``True`` and ``False`` in a
    ``.csv``) or its name starts with ``correct_``; that prefix is left out of the model's name.
    A column ``group`` holds the cluster of each example; ``id`` and ``ids`` are passed over.

    Parameters
    ----------
    path : str or Path
        An ``.npz`` with one-dimensional arrays, or a ``.csv`` with a header line, separated by
        commas, semicolons or tabs.

    Returns
    -------
    Predictions

    Raises
    ------
    DataError
        When the file is missing or of another kind, has no ``y`` or fewer than two models, is
        empty, or holds object arrays, arrays of unequal length, missing values or values that
        cannot be labels.
    """
    file = Path(path)
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
    correct: dict[str, Array] = {}
    read_as: dict[str, str] = {}
    for column, values in columns.items():
        if column in _RESERVED:
            continue
        if values.shape != (n,):
            raise DataError(
                f"{file}: {column} has shape {values.shape} but y has {n} labels; "
                "every model needs one value an example."
            )
        is_correctness = values.dtype == bool or column.startswith(_PREFIX)
        name = column.removeprefix(_PREFIX) or column
        if name in correct:
            raise DataError(f"{file} has two columns for the model {name!r}; rename one.")
        if is_correctness:
            correct[name] = as_correct(values, f"{column} in {file}")
        else:
            correct[name] = _compare_labels(_labels(values, column, file), y, column, file)
        read_as[name] = "correctness" if is_correctness else "predictions"
    if len(correct) < 2:
        found = f"only {next(iter(correct))}" if correct else "none"
        raise DataError(f"{file} must hold at least two models besides y, but holds {found}.")
    group = None
    if "group" in columns:
        group = _labels(columns["group"], "group", file)
        if len(group) != n:
            raise DataError(f"{file}: group has {len(group)} values but y has {n} labels.")
    return Predictions(str(path), n, correct, read_as, group)


def significance_report(
    path: str | Path,
    *,
    confidence: float = 0.95,
    margin_pp: float = 1.0,
    n_resamples: int = 9999,
    rng: int | np.random.Generator = 0,
) -> dict[str, Any]:
    """Compare every pair of models in a file of predictions.

    Parameters
    ----------
    path : str or Path
        As for :func:`read_predictions`.
    confidence, margin_pp, n_resamples, rng
        As for :func:`qinspect.stats.compare_paired`.

    Returns
    -------
    dict
        JSON-able: ``file``, ``n``, ``models`` (``name``, ``accuracy``, ``read_as``),
        ``comparisons`` (as :func:`qinspect.stats.comparison_row`, one a pair in the order of the
        file) and, for three or more models, ``cochran_q``; p-values are then Holm-adjusted in
        ``p_adjusted``.

    Raises
    ------
    DataError, SpecError
        As for :func:`read_predictions` and :func:`qinspect.stats.compare_paired`.
    """
    predictions = read_predictions(path)
    correct = predictions.correct
    options: Mapping[str, Any] = {
        "confidence": confidence,
        "margin_pp": margin_pp,
        "n_resamples": n_resamples,
        "groups": predictions.group,
        "rng": rng,
    }
    report: dict[str, Any] = {
        "file": predictions.file,
        "n": predictions.n,
        "models": [
            {
                "name": name,
                "accuracy": float(values.mean()),
                "read_as": predictions.read_as[name],
            }
            for name, values in correct.items()
        ],
    }
    if len(correct) > 2:
        report["cochran_q"], pairs = compare_many(correct, **options)
    else:
        pairs = [
            compare_paired(correct[a], correct[b], a=a, b=b, **options)
            for a, b in combinations(correct, 2)
        ]
    report["comparisons"] = [comparison_row(pair) for pair in pairs]
    return report


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


def _compare_labels(prediction: Array, y: Array, name: str, file: Path) -> Array:
    if (prediction.dtype.kind == "U") != (y.dtype.kind == "U"):
        kinds = ["text" if array.dtype.kind == "U" else "numbers" for array in (prediction, y)]
        raise DataError(
            f"{file}: {name} holds {kinds[0]} but y holds {kinds[1]}; they cannot be compared."
        )
    return np.asarray(prediction == y)
