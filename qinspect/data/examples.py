"""Arrays of any source as examples: one check, and one reading of labels as people keep them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from qinspect.data.dataset import Dataset, count, pieces
from qinspect.errors import DataError
from qinspect.schema import Array, Arrays

# A timestamp or an id among the labels would make a classifier with that many outputs.
_MOST_CLASSES = 1_000_000


@dataclass(frozen=True)
class Targets:
    """What is known of ``y``: its values, how many classes (0: no class labels), their names."""

    y: Array | None = None
    num_classes: int = 0
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def examples_of(
    origin: str, name: str, x: Arrays, y: Array | None = None, ids: Array | None = None,
    group: Array | None = None, *, x_name: str = "x", y_name: str = "y",
    notes: tuple[str, ...] = (),
) -> Dataset:
    """A checked data set; ``origin`` and the names of the arrays are for messages."""
    if isinstance(x, Mapping):
        if not x:
            raise DataError(f"{origin}: there is no array for any input.")
        checked: Arrays = {key: _inputs(origin, key, one, several=True) for key, one in x.items()}
        sizes = {key: len(one) for key, one in x.items()}
        if len(set(sizes.values())) > 1:
            listed = ", ".join(f"{key!r} {size}" for key, size in sizes.items())
            raise DataError(f"{origin}: the inputs hold different numbers of examples: {listed}.")
    else:
        checked = _inputs(origin, x_name, x)
    n = count(checked)
    for key, one in (("id", ids), ("group", group)):
        if one is not None and one.shape != (n,):
            raise DataError(f"{origin}: {key!r} has shape {one.shape}; it must be ({n},), one "
                            f"value for each example of {x_name!r}.")
    if y is not None and (not y.ndim or len(y) != n):
        raise DataError(f"{origin}: {y_name!r} has shape {y.shape}; it must be ({n},) or "
                        f"({n}, ...), one entry for each example of {x_name!r}.")
    found = Targets() if y is None else targets_of(origin, y_name, y)
    named = (np.array([f"{name}-{i:06d}" for i in range(n)]) if ids is None
             else _checked_ids(origin, ids))
    return Dataset(name, checked, found.y, named, found.num_classes, group, found.class_names,
                   notes=notes + found.notes)


def targets_of(origin: str, key: str, y: Array) -> Targets:
    """Labels or targets in the form that everything else takes; what was read in is a note."""
    notes: tuple[str, ...] = ()
    if y.ndim == 2 and y.shape[1] == 1:
        notes = (f"{origin}: {key!r} is one column, shape {y.shape}; it was read as ({len(y)},).",)
        y = y[:, 0]
    if y.dtype.kind in "US":
        return _named_classes(origin, key, y, notes)
    if y.dtype.kind == "b":
        y = y.astype(np.int64)
    if y.dtype.kind not in "iuf":
        raise DataError(f"{origin}: {key!r} has dtype {y.dtype}; it must be numbers, or names of "
                        "classes as text.")
    if y.dtype.kind == "f":
        if bad := int(np.count_nonzero(~np.isfinite(y))):
            raise DataError(f"{origin}: {key!r} has {bad} values that are NaN or infinite; repair "
                            "or remove these examples.")
        y = y.astype(np.float32) if y.dtype.itemsize < 4 else y
    if y.ndim == 2 and _one_hot(y):
        said = (f"{origin}: {key!r} has one 1 in each row of {y.shape[1]}; it was read as one "
                "class label an example (one-hot).")
        return Targets(y.argmax(axis=1).astype(np.int64), y.shape[1], (), (*notes, said))
    if y.ndim > 1 or (y.dtype.kind == "f" and not (y == np.round(y)).all()):
        return Targets(y, 0, (), notes)
    if y.dtype.kind != "i" and y.max() > 2.0**62:
        raise DataError(f"{origin}: {key!r} reaches {y.max()}, which is beyond int64.")
    whole = y.astype(np.int64)
    labels = whole.min() >= 0 and whole.max() < _MOST_CLASSES
    return Targets(whole, int(whole.max()) + 1 if labels else 0, (), notes)


def _one_hot(y: Array) -> bool:
    ones = y == 1
    return bool((ones | (y == 0)).all() and (ones.sum(axis=1) == 1).all())


def _named_classes(origin: str, key: str, y: Array, notes: tuple[str, ...]) -> Targets:
    if y.ndim != 1:
        raise DataError(f"{origin}: {key!r} holds text in shape {y.shape}; give one name of a "
                        "class for each example.")
    try:
        text = np.char.decode(y, "utf-8") if y.dtype.kind == "S" else y
    except UnicodeDecodeError as error:
        raise DataError(f"{origin}: {key!r} holds bytes that are not UTF-8; store it as text or "
                        "numbers.") from error
    text = np.char.strip(text)
    if blank := int(np.count_nonzero(text == "")):
        raise DataError(f"{origin}: {key!r} is empty for {blank} of {len(y)} examples; name the "
                        "class of each or remove these examples.")
    names, labels = np.unique(text, return_inverse=True)
    try:
        # In the order of text 10 would come before 2.
        numbers = text.astype(np.float64)
    except ValueError:
        pass
    else:
        found = targets_of(origin, key, numbers)
        said = f"{origin}: {key!r} holds numbers as text; they were read as numbers."
        return replace(found, notes=(*notes, said, *found.notes))
    shown = ", ".join(f"{at} = {str(name)[:30]}" for at, name in enumerate(names[:10]))
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    said = f"{origin}: the names in {key!r} were numbered in sorted order: {shown}{more}."
    return Targets(labels.reshape(-1).astype(np.int64), len(names), tuple(map(str, names)),
                   (*notes, said))


def _inputs(origin: str, key: str, x: Array, *, several: bool = False) -> Array:
    # Beside other inputs one number an example is an input like any other.
    if x.ndim < (1 if several else 2):
        raise DataError(f"{origin}: {key!r} has shape {x.shape}; it needs one row for each example "
                        "and at least two dimensions, (n, ...).")
    if x.size == 0:
        raise DataError(f"{origin}: {key!r} has shape {x.shape}, so it is empty; it needs at least "
                        "one example.")
    if x.dtype.kind not in "fiu":
        raise DataError(f"{origin}: {key!r} has dtype {x.dtype}; it must be floating point or "
                        "integer.")
    if x.dtype.kind in "iu":
        return x
    with np.errstate(over="ignore"):
        narrow = x.astype(np.float32, copy=False)
    bad, start, first = 0, 0, None
    for part in pieces(narrow):
        finite = np.isfinite(part)
        if not finite.all():
            bad += int(np.count_nonzero(~finite))
            at = np.unravel_index(int(np.argmin(finite)), part.shape)
            first = first or (start + int(at[0]), *map(int, at[1:]))
        start += len(part)
    if first is not None:
        raise DataError(f"{origin}: {key!r} has {bad} values that are NaN, infinite or beyond "
                        f"float32, the first ({x[first]}) at index {first}; repair or remove these "
                        "examples.")
    return narrow


def _checked_ids(origin: str, ids: Array) -> Array:
    if ids.dtype.kind not in "iuU":
        raise DataError(f"{origin}: 'id' has dtype {ids.dtype}; it must be text or integers.")
    text = ids.astype(str)
    values, first, counts = np.unique(text, return_index=True, return_counts=True)
    if len(values) < len(text):
        one = int(np.argmax(counts > 1))
        raise DataError(f"{origin}: id {str(values[one])[:60]!r} occurs {counts[one]} times, first "
                        f"at index {first[one]}; ids must be unique.")
    return text
