"""Examples as rows of a table: one column a feature, one of labels."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from qinspect.data.dataset import Dataset
from qinspect.data.examples import examples_of
from qinspect.data.names import BESIDE, Y_NAMES, listed
from qinspect.errors import DataError


def read_columns_file(
    path: Path, *, x_key: str | None = None, y_key: str | None = None,
    shape: tuple[int, ...] = (),
) -> Dataset:
    """Rows of a ``.csv`` or ``.parquet`` file; ``shape``: that of an example, where it is known.

    ``x_key``: the columns of features, separated by commas; all but y, id and group otherwise.
    """
    # Its statistics of predictions would load SciPy for every data set.
    from qinspect.data.tables import present, read_columns

    columns = read_columns(path)
    origin, names = str(path), list(columns)
    features = x_key.split(",") if x_key else None
    for key in (*(features or ()), *filter(None, [y_key])):
        if key not in columns:
            raise DataError(f"{origin} has no column {key!r}; it has {listed(names)}.")
    notes = []
    found = [key for key in names if key.casefold() in Y_NAMES and key not in (features or ())]
    # Labels among the features would be no features.
    if len({*found, *filter(None, [y_key])}) > 1 and (y_key is None or features is None):
        raise DataError(f"{origin}: the columns {listed(found)} may each be y; choose one with "
                        "--y-key, and the features with --x-key.")
    y = y_key
    if y is None:
        y = found[0] if found else None
        if y is None:
            notes.append(f"{origin}: no column was taken for y; --y-key names one.")
        elif y != "y":
            notes.append(f"{origin}: the column {y!r} was taken for y.")
    if features is None:
        # A column without a name, as pandas calls it, is the number of the row.
        features = [key for key in names
                    if key not in (*BESIDE, y) and not key.startswith("Unnamed: ")]
    if not features:
        raise DataError(f"{origin} has no column of features; it has {listed(names)}.")
    chosen = {key: present(columns[key]) for key in features}
    text = [key for key, one in chosen.items() if one.dtype.kind not in "biuf"]
    if text:
        raise DataError(f"{origin}: {listed(text)} hold text, not numbers; choose the columns of "
                        "features with --x-key, and that of the labels with --y-key.")
    beside = {key: present(columns[key]) for key in (*BESIDE, y) if key in columns}
    # Whole numbers stay such: they may be pixels 0 to 255, which is then noticed.
    whole = all(one.dtype.kind in "iu" for one in chosen.values())
    x = np.stack([one.astype(np.int64 if whole else np.float32) for one in chosen.values()], axis=1)
    # Only what is an image or a sequence to the model is put in shape.
    solid = [size for size in shape if size != 1]
    if len(solid) > 1 and -1 not in shape and math.prod(shape) == len(features):
        x = x.reshape(len(x), *shape)
        notes.append(f"{origin}: {len(features)} columns were read as {shape}, row by row.")
    return examples_of(origin, path.stem, x, beside.get(y or ""), beside.get("id"),
                       beside.get("group"), y_name=y or "y", notes=tuple(notes))
