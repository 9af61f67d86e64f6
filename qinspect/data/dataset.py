"""Labelled examples, and their division into four parts."""

from __future__ import annotations

from dataclasses import dataclass

from qinspect.schema import Array


@dataclass(frozen=True)
class Dataset:
    """Labelled examples.

    Attributes
    ----------
    name : str
        Name of the data set, part of every example id.
    x : ndarray, shape (n, ...), float32 or integer
        What the float model takes, in the units of the model's input.
    y : ndarray of int64, shape (n,)
        Class labels, 0 <= y < num_classes; -1 where there is none.
    ids : ndarray of str, shape (n,)
        Stable, unique example ids.
    num_classes : int
    group : ndarray or None, shape (n,)
        Cluster of each example (frames of one video), if any.
    class_names : tuple of str
        Empty when they have none.
    part : ndarray of str or None, shape (n,)
        "train" or "test" where the publishers of the data set fixed the test images.
    """

    name: str
    x: Array
    y: Array
    ids: Array
    num_classes: int
    group: Array | None = None
    class_names: tuple[str, ...] = ()
    part: Array | None = None

    def __len__(self) -> int:
        return len(self.y)

    def split(self, **sizes: int) -> Splits:
        """Four disjoint parts, with the sizes and the seed of :func:`qinspect.data.split`."""
        from qinspect.data.splitting import split

        return split(self, **sizes)

    def take(self, index: Array) -> Dataset:
        """The examples at ``index`` (integer or boolean array), in that order."""
        group = None if self.group is None else self.group[index]
        part = None if self.part is None else self.part[index]
        return Dataset(self.name, self.x[index], self.y[index], self.ids[index],
                       self.num_classes, group, self.class_names, part)


@dataclass(frozen=True)
class Splits:
    """Four disjoint parts of one data set."""

    train: Dataset
    validation: Dataset
    calibration: Dataset
    test: Dataset
    seed: int
