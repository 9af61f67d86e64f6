"""The user's own ``.npz`` files, read without ever unpickling."""

from __future__ import annotations

from pathlib import Path

from qinspect import store
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
    >>> import numpy as np
    >>> np.savez("kept.npz", X_test=np.eye(3), y_test=[["cat"], ["ant"], ["cat"]])
    >>> data = load_npz("kept.npz")
    >>> data.labels.tolist(), data.class_names, len(data.notes)
    ([1, 0, 1], ('ant', 'cat'), 3)
    """
    path = Path(path)
    chosen = choose(str(path), store.array_names(path, DataError), x_key, y_key, inputs=inputs)
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


def read_arrays(
    path: Path, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, Array]:
    """Named arrays of a ``.npz`` file; other keys stay untouched, objects are refused."""
    names = store.array_names(path, DataError)
    if absent := [key for key in required if key not in names]:
        raise DataError(f"{path}: no array {listed(absent)}; the file has "
                        f"{listed(names) or 'no arrays'}.")
    return store.read_arrays(path, (*required, *optional), DataError)
