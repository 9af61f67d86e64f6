"""Examples, and their division into four parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np

from qinspect.errors import DataError
from qinspect.schema import Array, Arrays

# Numbers in a piece of the examples.
_PIECE = 1 << 20


@dataclass(frozen=True)
class Dataset:
    """Examples, with labels or other targets where they are known.

    Attributes
    ----------
    name : str
        Name of the data set, part of every example id.
    x : ndarray, shape (n, ...), float32 or integer, or mapping of str to ndarray
        What the float model takes, in the units of the model's input; by the name of the input
        where a model has several.
    y : ndarray or None, shape (n,) or (n, ...)
        Class labels, int64 (n,), 0 <= y < num_classes; or other targets, whole or real numbers;
        None where nothing is known.
    ids : ndarray of str, shape (n,)
        Stable, unique example ids.
    num_classes : int
        0 where ``y`` holds no class labels.
    group : ndarray or None, shape (n,)
        Cluster of each example (frames of one video), if any.
    class_names : tuple of str
        Empty when they have none.
    part : ndarray of str or None, shape (n,)
        "train" or "test" where the publishers of the data set fixed the test images.
    notes : tuple of str
        How the data were read where there was something to guess.
    """

    name: str
    x: Arrays
    y: Array | None
    ids: Array
    num_classes: int
    group: Array | None = None
    class_names: tuple[str, ...] = ()
    part: Array | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return count(self.x)

    @property
    def labelled(self) -> bool:
        """Whether labels or other targets are known."""
        return self.y is not None

    @property
    def labels(self) -> Array:
        """``y`` where it holds class labels; otherwise a DataError."""
        if self.y is None:
            raise DataError(f"{self.no_labels}; they are needed here.")
        if not self.num_classes:
            raise DataError(
                f"y of {self.name} ({self.y.dtype}, shape {self.y.shape}) holds no class labels, "
                "which are needed here; labels must be whole numbers 0, 1, 2, ..., one an example."
            )
        return self.y

    @property
    def no_labels(self) -> str:
        """What to say where labels are needed and missing: how the data were read, what to do."""
        read = "; ".join(note.rstrip(".") for note in self.notes)
        return (f"{self.name} has no labels y{f' ({read})' if read else ''}; add them as y, or "
                "name them with --y-key")

    @property
    def strata(self) -> Array:
        """The class of each example, and 0 for all where ``y`` holds no class labels."""
        return self.labels if self.num_classes else np.zeros(len(self), dtype=np.int64)

    @property
    def array(self) -> Array:
        """``x`` of a model with one input; with several a DataError."""
        return one_array(self.x, self.name)

    def split(self, **sizes: int) -> Splits:
        """Four disjoint parts, with the sizes and the seed of :func:`qinspect.data.split`."""
        from qinspect.data.splitting import split

        return split(self, **sizes)

    def take(self, index: Array | slice) -> Dataset:
        """The examples at ``index`` (integers, booleans or a slice), in that order."""
        def of(values: Array | None) -> Array | None:
            return None if values is None else values[index]

        return replace(self, x=take(self.x, index), y=of(self.y), ids=self.ids[index],
                       group=of(self.group), part=of(self.part))


def count(x: Arrays) -> int:
    """How many examples there are, of one array or of several."""
    return len(next(iter(x.values()), ())) if isinstance(x, Mapping) else len(x)


def one_array(x: Arrays, name: str) -> Array:
    """``x`` where it is one array; with one for each of several inputs a DataError."""
    if isinstance(x, Mapping):
        raise DataError(f"{name} holds arrays for several inputs ({', '.join(map(repr, x))}), but "
                        "only a model with one input can be treated here.")
    return x


def take(x: Arrays, index: Array | slice) -> Arrays:
    """The examples at ``index``, of one array or of each of several."""
    return {key: one[index] for key, one in x.items()} if isinstance(x, Mapping) else x[index]


def pieces(x: Array) -> Iterator[Array]:
    """Examples a few at a time, so that what is computed from them stays small."""
    step = max(1, _PIECE // max(1, x[:1].size))
    return (x[start : start + step] for start in range(0, len(x), step))


def digests(x: Arrays) -> list[bytes]:
    """What the inputs of each example hold, as 16 bytes: equal where they are equal."""
    arrays = [x[key] for key in sorted(x)] if isinstance(x, Mapping) else [x]
    found = []
    for example in zip(*arrays, strict=True):
        digest = blake2b(digest_size=16)
        for part in example:
            # Added to zero, so that -0.0 is 0.0.
            digest.update((np.asarray(part, np.float64) + 0.0).tobytes())
        found.append(digest.digest())
    return found


@dataclass(frozen=True)
class Splits:
    """Four disjoint parts of one data set."""

    train: Dataset
    validation: Dataset
    calibration: Dataset
    test: Dataset
    seed: int
