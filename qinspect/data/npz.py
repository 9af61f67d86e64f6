"""The user's own ``.npz`` files, read without ever unpickling."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from qinspect.data.dataset import Dataset
from qinspect.data.examples import examples_of
from qinspect.data.names import BESIDE, choose, listed
from qinspect.errors import DataError
from qinspect.schema import Array, Arrays


def load_npz(
    path: str | Path, *, x_key: str | None = None, y_key: str | None = None, inputs: int = 1
) -> Dataset:
    """Load examples from a ``.npz`` file with pickling off.

    Parameters
    ----------
    path : str or Path
        File with the array ``x`` (n, ...) of numbers, in the units of the model's input, and
        optional ``y`` (n,) of class labels or (n, ...) of other targets, ``id`` (n,), text or
        integers, unique, and ``group`` (n,), the cluster of each example.
    x_key, y_key : str, optional
        Other names of ``x``, several separated by commas, and of ``y``; the usual ones
        (``X_test`` and ``y_test``, ``images`` and ``labels``) are found without.
    inputs : int
        With more than one all arrays but ``y``, ``id`` and ``group`` are taken, by name.

    Returns
    -------
    Dataset
        ``x`` keeps an integer type and becomes float32 otherwise.  Without ``id`` the ids are
        the file's stem and the position: ``stem-000012``.  ``y`` is None where there is none;
        one-hot rows, a column and names of classes become class labels, which ``notes`` say.

    Raises
    ------
    DataError
        One sentence for each way in which a file can be wrong.

    Examples
    --------
    >>> np.savez("kept.npz", X_test=np.eye(3), y_test=[["cat"], ["ant"], ["cat"]])
    >>> data = load_npz("kept.npz")
    >>> data.labels.tolist(), data.class_names, len(data.notes)
    ([1, 0, 1], ('ant', 'cat'), 3)
    """
    path = Path(path)
    chosen = choose(str(path), array_names(path), x_key, y_key, inputs=inputs)
    arrays = read_arrays(path, chosen.x, (*filter(None, [chosen.y]), *BESIDE))
    named = {key: arrays[key] for key in chosen.x}
    if x_key is None and inputs > 1:
        # What holds no number for each example is no input, whatever it is.
        n = max((len(one) for one in named.values() if one.ndim), default=0)
        named = {key: one for key, one in named.items()
                 if one.ndim and len(one) == n and one.dtype.kind in "fiub"}
    x: Arrays = named if inputs > 1 or len(named) > 1 else named[chosen.x[0]]
    return examples_of(str(path), path.stem, x, arrays[chosen.y] if chosen.y else None,
                       arrays.get("id"), arrays.get("group"), x_name=chosen.x[0],
                       y_name=chosen.y or "y", notes=chosen.notes)


def array_names(path: Path) -> list[str]:
    """Names of the arrays in a ``.npz`` file."""
    with _opened(path) as archive:
        return list(archive.files)


def read_arrays(
    path: Path, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, Array]:
    """Named arrays of a ``.npz`` file; other keys stay untouched, objects are refused."""
    arrays = {}
    with _opened(path) as archive:
        if absent := [key for key in required if key not in archive.files]:
            raise DataError(f"{path}: no array {listed(absent)}; the file has "
                            f"{listed(archive.files) or 'no arrays'}.")
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


def _opened(path: Path) -> np.lib.npyio.NpzFile:
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the path of a .npz file.")
    try:
        archive = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a readable .npz file ({_why(error)}); write it with "
                        "numpy.savez.") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise DataError(f"{path}: holds a single array, not a .npz archive; write it with "
                        "numpy.savez(path, x=..., y=...).")
    return archive


def _damaged(path: Path, key: str, error: BaseException) -> DataError:
    return DataError(f"{path}: {key!r} cannot be read ({_why(error)}); the file is damaged or "
                     "incomplete, write it again.")


def _why(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".")[:120] if lines else type(error).__name__
