"""Data sets by name, and published ones whose test images are fixed.

These are read from ``<name>.npz`` in the folder that the environment variable ``QINSPECT_DATA``
names, or else through Keras, which downloads them once into its own cache.

References
----------
H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, arXiv:1708.07747 (2017).  Y. LeCun, C. Cortes,
C. Burges, The MNIST database of handwritten digits (1998).  A. Krizhevsky, Learning Multiple
Layers of Features from Tiny Images, technical report, University of Toronto (2009).
"""

from __future__ import annotations

import inspect
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from qinspect.data.characters import glyphs, turned_glyphs
from qinspect.data.dataset import Dataset
from qinspect.data.npz import read_arrays
from qinspect.data.sources import Source, read
from qinspect.data.splitting import draw
from qinspect.data.streams import stream
from qinspect.errors import DataError, QinspectError, SpecError, unknown_name
from qinspect.schema import Array

_CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker",
            "Bag", "Ankle boot")
_THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
           "truck")
_CLASS_NAMES = {"fashion_mnist": _CLOTHES, "mnist": tuple("0123456789"), "cifar10": _THINGS}
_KEYS = ("x_train", "y_train", "x_test", "y_test")
OFFICIAL: tuple[str, ...] = tuple(_CLASS_NAMES)
DATASETS: tuple[str, ...] = ("digits", "glyphs", "angles", "odd-digits", *OFFICIAL)
INPUT_RANGES = {"0-1": 1.0, "0-255": 255.0}
_GLYPHS = 4000
_KNOBS = tuple(inspect.signature(glyphs).parameters)


def _load_official(name: str) -> Dataset:
    """Images of a published data set, uint8 (n, height, width[, 3]), ``part`` train or test."""
    folder = os.environ.get("QINSPECT_DATA")
    path = Path(folder) / f"{name}.npz" if folder else None
    if path is not None and path.is_file():
        arrays, origin = read_arrays(path, _KEYS), str(path)
    else:
        arrays, origin = _from_keras(name, path), "the copy that Keras downloaded"
    return _assembled(name, arrays, origin)


def _from_keras(name: str, path: Path | None) -> dict[str, Array]:
    try:
        from qinspect.train.keras import download

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
                            "labels (n,).")
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


def load_dataset(
    name: str | Path,
    *,
    input_range: str = "0-1",
    limit: int | None = None,
    seed: int = 0,
    x_key: str | None = None,
    y_key: str | None = None,
    **knobs: Any,
) -> Dataset:
    """Load a data set by name, or the user's own file or folder by path.

    Parameters
    ----------
    name : str or Path
        One of :data:`DATASETS`, or what :class:`qinspect.data.Source` takes: a file, a folder of
        images, ``module:function``.
    input_range : {"0-1", "0-255"}
        Units of the pixels.
    limit : int, optional
        At most this many examples: of glyphs as many as this are made, otherwise a random subset
        with the proportions of classes (and of official train and test images) kept, in original
        order.
    seed : int
        Chooses the subset under ``limit``, and the images of glyphs.
    x_key, y_key : str, optional
        Of a user's file: names of its arrays or columns.
    **knobs
        For glyphs only: the keywords of :func:`qinspect.data.glyphs`.

    Returns
    -------
    Dataset
        ``x`` is float32 of shape (n, height, width, channels).  Of a user's file, uint8 is taken
        for pixels 0..255 and brought to ``input_range``, with a channel axis added to
        (n, height, width); every other type is already in the units of the model and only cast.

    Raises
    ------
    SpecError
        For an unknown name, range or knob, or a limit below 1.
    DataError
        If the data set is not at hand or the file is wrong.

    Notes
    -----
    digits: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine
    Learning Repository, 1998, doi:10.24432/C50P49, the 1,797 images (8 x 8, values 0..16) that
    scikit-learn ships.  odd-digits: the same as 64 numbers, ``y`` 1 for noughts.  angles: turned
    characters, ``y`` the angle in degrees.  The others are described in :mod:`qinspect.data.sets`
    and :mod:`qinspect.data.characters`.
    """
    name = str(name)
    if input_range not in INPUT_RANGES:
        raise unknown_name("input range", input_range, INPUT_RANGES)
    if limit is not None and limit < 1:
        raise SpecError(f"the limit is {limit}; it must be at least 1.")
    if knobs and name != "glyphs":
        raise SpecError(f"data set {name!r} has no option {min(knobs)!r}; only glyphs has options.")
    top = INPUT_RANGES[input_range]
    if name == "glyphs":
        if strange := set(knobs) - set(_KNOBS):
            raise unknown_name("option of glyphs", min(strange), _KNOBS)
        n = knobs.pop("n", limit or _GLYPHS)
        made = glyphs(n if limit is None else min(n, limit), seed=seed, **knobs)
        return made if top == 1.0 else replace(made, x=made.array * np.float32(top))
    if name == "angles":
        return _scaled(_limited(turned_glyphs(), limit, seed), 1.0, top)
    if name == "odd-digits":
        return _scaled(_limited(_odd_digits(), limit, seed), 16.0, top)
    if name == "digits":
        return _scaled(_limited(_digits(), limit, seed), 16.0, top)
    if name in OFFICIAL:
        return _scaled(_limited(_load_official(name), limit, seed), 255.0, top)
    if Path(name).suffix or Path(name).exists() or ":" in name:
        own = _limited(read(Source(name, x_key, y_key)), limit, seed)
        return _scaled(own, 255.0, top) if own.array.dtype == np.uint8 else _cast(own)
    raise unknown_name("data set", name, DATASETS)


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    ids = np.array([f"digits-{i:04d}" for i in range(len(bunch.target))])
    names = tuple("0123456789")
    return Dataset("digits", bunch.images, bunch.target.astype(np.int64), ids, 10, None, names)


def _odd_digits() -> Dataset:
    """The digits with ``y`` 1 for every nought: what a network for the others should find odd."""
    digits = _digits()
    x = digits.array.reshape(len(digits), -1)
    return replace(digits, name="odd-digits", x=x, y=(digits.labels == 0).astype(np.int64),
                   num_classes=2, class_names=("1 to 9", "0"),
                   ids=np.char.replace(digits.ids, "digits", "odd-digits"))


def _limited(dataset: Dataset, limit: int | None, seed: int) -> Dataset:
    if limit is None or limit >= len(dataset):
        return dataset
    strata = dataset.strata
    if dataset.part is not None:
        strata = 2 * strata + (dataset.part == "test")
    return dataset.take(np.sort(draw(strata, limit, stream(seed, "limit"))))


def _scaled(dataset: Dataset, native: float, top: float) -> Dataset:
    """Images of 0..``native`` as float32 of 0..``top`` with a channel axis."""
    x = dataset.array[..., None] if dataset.array.ndim == 3 else dataset.array
    x = x.astype(np.float32)
    if top != native:
        # Dividing, not multiplying by 1/255, gives the float32 that everybody's x / 255 gives.
        x *= np.float32(top)
        x /= np.float32(native)
    return replace(dataset, x=x)


def _cast(dataset: Dataset) -> Dataset:
    return replace(dataset, x=dataset.array.astype(np.float32, copy=False))
