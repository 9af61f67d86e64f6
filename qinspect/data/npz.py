"""The user's own ``.npz`` files, read without ever unpickling."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from qinspect.data.dataset import Dataset
from qinspect.data.examples import examples_of
from qinspect.errors import DataError
from qinspect.schema import Array


def load_npz(path: str | Path) -> Dataset:
    """Load examples from a ``.npz`` file with pickling off.

    Parameters
    ----------
    path : str or Path
        File with the array ``x`` (n, ...) of numbers, in the units of the model's input, and
        optional ``y`` (n,) of class labels or (n, ...) of other targets, ``id`` (n,), text or
        integers, unique, and ``group`` (n,), the cluster of each example.

    Returns
    -------
    Dataset
        ``x`` keeps an integer type and becomes float32 otherwise.  Without ``id`` the ids are
        the file's stem and the position: ``stem-000012``.  ``y`` is None where there is none.

    Raises
    ------
    DataError
        One sentence for each way in which a file can be wrong.
    """
    path = Path(path)
    arrays = read_arrays(path, ("x",), ("y", "id", "group"))
    return examples_of(str(path), path.stem, arrays["x"], arrays.get("y"), arrays.get("id"),
                       arrays.get("group"))


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
