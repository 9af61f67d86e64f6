"""The user's own ``.npz`` files, read without ever unpickling."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from qinspect.data.dataset import Dataset
from qinspect.errors import DataError
from qinspect.schema import Array


def load_npz(
    path: str | Path, *, num_classes: int | None = None, require_labels: bool = True
) -> Dataset:
    """Load labelled examples from a ``.npz`` file with pickling off.

    Parameters
    ----------
    path : str or Path
        File with the arrays ``x`` (n, ...) of numbers, in the units of the model's input, and
        ``y`` (n,) of class labels; optional ``id`` (n,), text or integers, unique, and ``group``
        (n,), the cluster of each example.
    num_classes : int, optional
        Number of classes; by default the greatest label plus one.
    require_labels : bool
        When False, ``y`` may be absent and is then filled with -1.

    Returns
    -------
    Dataset
        ``x`` keeps an integer type and becomes float32 otherwise.  Without ``id`` the ids are
        the file's stem and the position: ``stem-000012``.

    Raises
    ------
    DataError
        One sentence for each way in which a file can be wrong.
    """
    path = Path(path)
    arrays = read_arrays(path, ("x", "y") if require_labels else ("x",), ("y", "id", "group"))
    x = _check_inputs(path, arrays["x"])
    n = len(x)
    for key in ("y", "id", "group"):
        if key in arrays and arrays[key].shape != (n,):
            raise DataError(f"{path}: {key!r} has shape {arrays[key].shape}; it must be ({n},), "
                            "one value for each example of 'x'.")
    if "y" in arrays:
        y = _check_labels(path, arrays["y"], num_classes)
        classes = int(y.max()) + 1 if num_classes is None else num_classes
    else:
        y = np.full(n, -1, dtype=np.int64)
        classes = 0 if num_classes is None else num_classes
    ids = np.array([f"{path.stem}-{i:06d}" for i in range(n)])
    if "id" in arrays:
        ids = _check_ids(path, arrays["id"])
    return Dataset(path.stem, x, y, ids, classes, arrays.get("group"))


def read_arrays(
    path: Path, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, Array]:
    """Named arrays of a ``.npz`` file; other keys stay untouched, objects are refused."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the path of a .npz file with the arrays "
                        f"{_listed(required)}.")
    try:
        archive = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a readable .npz file ({_why(error)}); write it with "
                        "numpy.savez.") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise DataError(f"{path}: holds a single array, not a .npz archive; write it with "
                        "numpy.savez(path, x=..., y=...).")
    arrays = {}
    with archive:
        if absent := [key for key in required if key not in archive.files]:
            raise DataError(f"{path}: no array {_listed(absent)}; the file has "
                            f"{_listed(archive.files) or 'no arrays'}.")
        for key in dict.fromkeys((*required, *optional)):
            if key not in archive.files:
                continue
            try:
                arrays[key] = archive[key]
            except ValueError as error:
                if "allow_pickle" in str(error):
                    raise DataError(f"{path}: {key!r} is an array of Python objects, which is "
                                    "not read because unpickling can run code; store it with a "
                                    "numeric or text dtype.") from error
                raise _damaged(path, key, error) from error
            except (OSError, EOFError, MemoryError, NotImplementedError, RuntimeError,
                    zipfile.BadZipFile, zlib.error) as error:
                raise _damaged(path, key, error) from error
    return arrays


def _damaged(path: Path, key: str, error: BaseException) -> DataError:
    return DataError(f"{path}: {key!r} cannot be read ({_why(error)}); the file is damaged or "
                     "incomplete, write it again.")


def _why(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".")[:120] if lines else type(error).__name__


def _listed(keys: tuple[str, ...] | list[str]) -> str:
    # A file can hold any number of keys of any length.
    shown = ", ".join(repr(key)[:40] for key in keys[:10])
    return shown + (f" and {len(keys) - 10} more" if len(keys) > 10 else "")


def _check_inputs(path: Path, x: Array) -> Array:
    if x.ndim < 2:
        raise DataError(f"{path}: 'x' has shape {x.shape}; it needs one row for each example and "
                        "at least two dimensions, (n, ...).")
    if x.size == 0:
        raise DataError(f"{path}: 'x' has shape {x.shape}, so it is empty; it needs at least one "
                        "example.")
    if x.dtype.kind not in "fiu":
        raise DataError(f"{path}: 'x' has dtype {x.dtype}; it must be floating point or integer.")
    if x.dtype.kind in "iu":
        return x
    with np.errstate(over="ignore"):
        narrow = x.astype(np.float32, copy=False)
    finite = np.isfinite(narrow)
    if not finite.all():
        flat = int(np.argmin(finite))
        first = tuple(int(i) for i in np.unravel_index(flat, x.shape))
        raise DataError(f"{path}: 'x' has {x.size - np.count_nonzero(finite)} values that are "
                        f"NaN, infinite or beyond float32, the first ({x[first]}) at index "
                        f"{first}; repair or remove these examples.")
    return narrow


def _check_labels(path: Path, y: Array, num_classes: int | None) -> Array:
    whole = y.dtype.kind in "iu" or (
        y.dtype.kind == "f" and bool(np.isfinite(y).all()) and bool((y == np.round(y)).all())
    )
    if not whole:
        odd = y[~np.equal(y, np.round(y))][:1].tolist() if y.dtype.kind == "f" else y[:1].tolist()
        raise DataError(f"{path}: 'y' has dtype {y.dtype} and values that are not whole numbers "
                        f"(the first is {odd[0]!r}); labels must be integers 0, 1, 2, "
                        "....")
    top = np.iinfo(np.int64).max if num_classes is None else num_classes - 1
    wrong = np.flatnonzero((y < 0) | (y > top))
    if len(wrong):
        allowed = "0 or greater" if num_classes is None else f"between 0 and {top}"
        raise DataError(f"{path}: label {y[wrong[0]]} at index {wrong[0]} is out of range "
                        f"({len(wrong)} such labels); labels must be {allowed}.")
    labels = y.astype(np.int64)
    # One label by mistake (a timestamp, an id) would make a model with that many outputs.
    if num_classes is None and labels.max() >= 1_000_000:
        raise DataError(f"{path}: label {labels.max()} is too great to be a class number; labels "
                        "must be 0, 1, 2, ... without large holes.")
    return labels


def _check_ids(path: Path, ids: Array) -> Array:
    if ids.dtype.kind not in "iuU":
        raise DataError(f"{path}: 'id' has dtype {ids.dtype}; it must be text or integers.")
    text = ids.astype(str)
    values, first, counts = np.unique(text, return_index=True, return_counts=True)
    if len(values) < len(text):
        one = int(np.argmax(counts > 1))
        raise DataError(f"{path}: id {str(values[one])[:60]!r} occurs {counts[one]} times, first "
                        f"at index {first[one]}; ids must be unique.")
    return text
