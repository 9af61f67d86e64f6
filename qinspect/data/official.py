"""Published data sets whose test images are fixed: Fashion-MNIST, MNIST, CIFAR-10.

Read from ``<name>.npz`` in the folder that the environment variable ``QINSPECT_DATA`` names, or
else through Keras, which downloads them once into its own cache.

Sources: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, arXiv:1708.07747 (2017).  Y. LeCun,
C. Cortes, C. Burges, The MNIST database of handwritten digits (1998).  A. Krizhevsky, Learning
Multiple Layers of Features from Tiny Images, technical report, University of Toronto (2009).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from qinspect.data.npz import read_arrays
from qinspect.errors import DataError, QinspectError
from qinspect.schema import Array, Dataset

_CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker",
            "Bag", "Ankle boot")  # fmt: skip
_THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
           "truck")  # fmt: skip
_CLASS_NAMES = {"fashion_mnist": _CLOTHES, "mnist": tuple("0123456789"), "cifar10": _THINGS}
_KEYS = ("x_train", "y_train", "x_test", "y_test")
OFFICIAL: tuple[str, ...] = tuple(_CLASS_NAMES)


def load_official(name: str) -> Dataset:
    """Load train and test images of a published data set.

    Parameters
    ----------
    name : {"fashion_mnist", "mnist", "cifar10"}

    Returns
    -------
    Dataset
        ``x`` uint8 of shape (n, height, width) or (n, height, width, 3), train images first, and
        ``part`` "train" or "test".  Ids are ``mnist-train-00012``: origin and position there.

    Raises
    ------
    DataError
        If neither the file nor the network gives the data set, saying both ways, or if the
        file's arrays are not what they should be.
    """
    folder = os.environ.get("QINSPECT_DATA")
    path = Path(folder) / f"{name}.npz" if folder else None
    if path is not None and path.is_file():
        arrays, origin = read_arrays(path, _KEYS), str(path)
    else:
        arrays, origin = _from_keras(name, path), "the copy that Keras downloaded"
    return _assembled(name, arrays, origin)


def _from_keras(name: str, path: Path | None) -> dict[str, Array]:
    try:
        from qinspect.train.download import download

        return dict(zip(_KEYS, download(name), strict=True))
    except (ImportError, QinspectError) as error:
        tried = f"{path} does not exist" if path else "QINSPECT_DATA is not set"
        why = str(error).split(";")[0].rstrip(".")
        raise DataError(
            f"data set {name} is not at hand: {tried} and Keras could not provide it ({why}); put "
            f"{name}.npz with the arrays {', '.join(_KEYS)} in a folder and name that folder in "
            "QINSPECT_DATA, or install qinspect[train] and connect to the network."
        ) from error


def _assembled(name: str, arrays: dict[str, Array], origin: str) -> Dataset:
    for part in ("train", "test"):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        # Keras keeps the labels of CIFAR-10 as a column.
        y = y.reshape(len(y)) if y.ndim == 2 and y.shape[1] == 1 else y
        if x.dtype != np.uint8 or x.ndim not in (3, 4) or y.shape != (len(x),) or not len(x):
            raise DataError(f"{origin}: {part} images of {name} are {x.dtype} {x.shape} with "
                            f"labels {y.shape}; they must be uint8 (n, height, width[, 3]) with "
                            "labels (n,).")  # fmt: skip
        if y.dtype.kind not in "iu" or y.min() < 0 or y.max() > 9:
            raise DataError(f"{origin}: {part} labels of {name} must be integers 0..9.")
        arrays[f"y_{part}"] = y
    if arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
        raise DataError(f"{origin}: train and test images of {name} differ in size.")
    counts = {part: len(arrays[f"y_{part}"]) for part in ("train", "test")}
    origins = np.repeat(list(counts), list(counts.values()))
    ids = np.array([f"{name}-{part}-{i:05d}" for part in counts for i in range(counts[part])])
    x = np.concatenate([arrays["x_train"], arrays["x_test"]])
    y = np.concatenate([arrays["y_train"], arrays["y_test"]]).astype(np.int64)
    return Dataset(name, x, y, ids, 10, None, _CLASS_NAMES[name], origins)
