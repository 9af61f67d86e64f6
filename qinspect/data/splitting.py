"""Parts of a data set, stratified by class or in whole groups, and calibration subsets."""

from __future__ import annotations

import numpy as np

from qinspect.data.dataset import Dataset, Splits
from qinspect.data.streams import stream
from qinspect.errors import DataError, SpecError, unknown_name
from qinspect.schema import Array


def quotas(counts: Array, total: int, *, each: bool = False) -> Array:
    """``total`` divided over strata of ``counts`` by largest remainder, ties to the lower index.

    References
    ----------
    The method of largest remainders (Hamilton).
    """
    # No quota exceeds its count: ceil(total * c / n) <= c for total <= n.  `each`: at least one for
    # every stratum that is not empty, if `total` allows.
    counts = np.asarray(counts, dtype=np.int64)
    n = int(counts.sum())
    if n == 0:
        return np.zeros_like(counts)
    # Integers throughout: floats would let rounding decide ties differently between machines.
    quota, remainder = np.divmod(counts * total, n)
    short = total - int(quota.sum())
    quota[np.argsort(-remainder, kind="stable")[:short]] += 1
    present = counts > 0
    if each and total >= int(present.sum()):
        for stratum in np.flatnonzero(present & (quota == 0)):
            quota[np.argmax(quota)] -= 1
            quota[stratum] = 1
    return quota


def draw(strata: Array, total: int, rng: np.random.Generator, *, each: bool = False) -> Array:
    """Positions of a random sample of ``total`` examples, proportional by stratum, shuffled."""
    taken = quotas(np.bincount(strata), total, each=each)
    shuffled = rng.permutation(len(strata))
    # Rank of each shuffled example within its stratum.
    by_stratum = np.argsort(strata[shuffled], kind="stable")
    counts = np.bincount(strata)
    start = np.concatenate(([0], np.cumsum(counts)[:-1]))
    rank = np.empty(len(strata), dtype=np.int64)
    rank[by_stratum] = np.arange(len(strata)) - np.repeat(start, counts)
    return shuffled[rank < taken[strata[shuffled]]]


# Order of drawing: the test part first, so that it depends on its own size and the seed alone;
# train second, so that a rare class reaches it before the two small parts.
_DRAWN = ("test", "train", "validation", "calibration")
_SHARE = {"validation": 0.10, "calibration": 0.10, "test": 0.25}
_CALIBRATION_CAP = 500


def split(
    dataset: Dataset,
    *,
    train: int | None = None,
    validation: int | None = None,
    calibration: int | None = None,
    test: int | None = None,
    seed: int = 0,
) -> Splits:
    """Divide a data set into four disjoint parts, stratified by class where ``y`` holds classes.

    Parameters
    ----------
    dataset : Dataset
    train, validation, calibration, test : int, optional
        Examples in each part.  Defaults: test 25 % (all official test images where the data set
        has them), validation 10 %, calibration 10 % but at most 500, and train the rest.
    seed : int
        Same data set, sizes and seed: same ids in the same order, on any machine.

    Returns
    -------
    Splits
        Parts in shuffled order.

    Raises
    ------
    SpecError
        If a size is not a positive integer or the sizes do not fit the data set.
    DataError
        If a class is missing from the train or the test part.

    Notes
    -----
    Where ``dataset.part`` marks official test images, the test part is drawn from these only and
    the other parts never touch them.  Where ``dataset.group`` is given, every group lies in one
    part as a whole; sizes are then met as nearly as the groups allow, and the classes are
    balanced greedily.  Validation and calibration may lack a class when they are small.
    """
    y = dataset.strata
    if len(y) == 0:
        raise DataError(f"data set {dataset.name} is empty; it needs examples to be split.")
    everything = np.arange(len(y))
    pools: list[tuple[Array, tuple[str, ...]]] = [(everything, _DRAWN)]
    if dataset.part is not None:
        official = np.asarray(dataset.part) == "test"
        pools = [(everything[official], _DRAWN[:1]), (everything[~official], _DRAWN[1:])]
    asked = {"train": train, "validation": validation, "calibration": calibration, "test": test}
    rng = np.random.default_rng(seed)
    index: dict[str, Array] = {}
    for pool, names in pools:
        sizes = _sizes(dataset.name, len(pool), {name: asked[name] for name in names})
        if dataset.group is None:
            index |= _by_class(y, pool, sizes, rng)
        else:
            index |= _by_group(y, np.asarray(dataset.group), pool, sizes, rng)
    _check(dataset, index)
    return Splits(**{part: dataset.take(chosen) for part, chosen in index.items()}, seed=seed)


def _sizes(name: str, n: int, asked: dict[str, int | None]) -> dict[str, int]:
    """Size of each part of a pool of ``n`` examples, in the order of ``asked``."""
    sizes = {}
    for part, size in asked.items():
        if size is None:
            continue
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
            raise SpecError(f"the size of the {part} part is {size!r}; it must be a whole number "
                            "of at least 1.")
        sizes[part] = int(size)
    rest_part = "train" if "train" in asked else "test"
    for part in asked:
        if part not in sizes and part != rest_part:
            sizes[part] = round(_SHARE[part] * n)
            if part == "calibration":
                sizes[part] = min(sizes[part], _CALIBRATION_CAP)
    rest = n - sum(sizes.values())
    sizes.setdefault(rest_part, rest)
    if rest < 0 or min(sizes.values()) < 1:
        wanted = ", ".join(f"{part} {sizes[part]}" for part in asked)
        raise SpecError(f"data set {name} has {n} examples for the parts {wanted}; every part "
                        "needs at least one and together they must not exceed that.")
    return {part: sizes[part] for part in asked}


def _by_class(
    y: Array, pool: Array, sizes: dict[str, int], rng: np.random.Generator
) -> dict[str, Array]:
    """Draw the parts one after the other from what is left of the pool."""
    index = {}
    for part, size in sizes.items():
        chosen = draw(y[pool], size, rng, each=part in ("train", "test"))
        index[part] = pool[chosen]
        pool = np.delete(pool, chosen)
    return index


def _by_group(
    y: Array, group: Array, pool: Array, sizes: dict[str, int], rng: np.random.Generator
) -> dict[str, Array]:
    """Whole groups, large ones first, to the part that lacks their classes most.

    References
    ----------
    The greedy rule of scikit-learn's StratifiedGroupKFold, with parts of unequal size.
    """
    # The cost of a part is the squared distance to its class targets, relative to its size.
    _, inverse = np.unique(group[pool], return_inverse=True)
    table = np.zeros((inverse.max() + 1, int(y.max()) + 1))
    np.add.at(table, (inverse, y[pool]), 1)
    unused = len(pool) - sum(sizes.values())
    wanted = np.array([*sizes.values(), unused], dtype=float)
    missing = wanted[:, None] * table.sum(axis=0) / len(pool)
    weight = 1 / np.maximum(wanted, 0.5)[:, None]
    order = rng.permutation(len(table))
    order = order[np.argsort(-table[order].sum(axis=1), kind="stable")]
    owner = np.empty(len(table), dtype=np.int64)
    for one in order:
        gain = (weight * ((missing - table[one]) ** 2 - missing**2)).sum(axis=1)
        owner[one] = np.argmin(gain)
        missing[owner[one]] -= table[one]
    return {part: rng.permutation(pool[owner[inverse] == k]) for k, part in enumerate(sizes)}


def _check(dataset: Dataset, index: dict[str, Array]) -> None:
    """Refuse parts that nothing could be learnt from or measured on."""
    for part, chosen in index.items():
        if len(chosen) == 0:
            raise DataError(f"the {part} part of {dataset.name} is empty because its "
                            "groups are too few or too large; give more groups.")
    if dataset.group is not None and dataset.part is not None:
        group = np.asarray(dataset.group)
        seen = np.intersect1d(group[dataset.part == "test"], group[dataset.part != "test"])
        if len(seen):
            raise DataError(f"group {str(seen[0])!r} of {dataset.name} lies in both the official "
                            "train and test images; a group must be in one of them.")
    if not dataset.num_classes:
        return
    labels = dataset.labels
    counts = np.bincount(labels, minlength=dataset.num_classes)
    for part in ("train", "test"):
        here = np.bincount(labels[index[part]], minlength=dataset.num_classes)
        if len(absent := np.flatnonzero(here == 0)):
            label = absent[0]
            raise DataError(f"class {label} of {dataset.name} is missing from the {part} part "
                            f"({len(index[part])} examples; the class has {counts[label]} in "
                            "all); make the part larger or add examples of it.")


ORDERS: tuple[str, ...] = ("random", "first", "sorted_by_class")


def calibration_subset(
    dataset: Dataset, size: int, order: str = "random", *, seed: int = 0
) -> Dataset:
    """Choose ``size`` examples to calibrate with.

    Parameters
    ----------
    dataset : Dataset
        Usually the calibration part of :func:`qinspect.data.split`.
    size : int
        Examples to take, 1 <= size <= len(dataset).
    order : {"random", "first", "sorted_by_class"}
        "random": a random subset in random order.  "first": the leading examples as they come.
        "sorted_by_class": the leading examples of the set sorted by class, which is what a
        folder of one directory a class gives when it is read in order; a small size then sees
        only the first classes.
    seed : int
        For "random"; same seed: the smaller subset is the beginning of the larger one.

    Returns
    -------
    Dataset

    Raises
    ------
    SpecError
        If ``size`` or ``order`` is not allowed.
    """
    if order not in ORDERS:
        raise unknown_name("calibration order", order, ORDERS)
    if not 1 <= size <= len(dataset):
        raise SpecError(f"the calibration size is {size}; it must be between 1 and "
                        f"{len(dataset)}, the examples at hand.")
    if order == "random":
        index = stream(seed, "calibration").permutation(len(dataset))
    elif order == "sorted_by_class":
        index = np.argsort(dataset.labels, kind="stable")
    else:
        index = np.arange(len(dataset))
    return dataset.take(index[:size])
