"""Examples that a function of the user's gives: arrays, or batches one after the other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from qinspect.data.dataset import Dataset
from qinspect.data.examples import examples_of
from qinspect.errors import DataError, QinspectError
from qinspect.named import named_object
from qinspect.schema import Array, Arrays

# A generator that never ends is noticed before it fills the memory.
_MOST_BYTES = 1 << 32


def is_function(name: str) -> bool:
    """Whether a text has the form ``module:function``."""
    return bool(re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name))


def read_function(name: str) -> Dataset:
    """Call ``module:function`` without arguments for a data set, x, (x, y), or batches of these."""
    try:
        given = named_object(name)()
        if isinstance(given, Dataset):
            return given
        if isinstance(given, tuple | Mapping) or hasattr(given, "shape"):
            x, y = _pair(given, name)
        else:
            x, y = _joined(given, name)
    except QinspectError:
        raise
    except Exception as error:  # whatever the user's code raises
        why = " ".join(str(error).split())[:200]
        raise DataError(f"{name} cannot give examples: {type(error).__name__}: "
                        f"{why.rstrip('.')}.") from error
    return examples_of(name, name.rpartition(":")[2], x, y)


def _pair(given: Any, name: str) -> tuple[Arrays, Array | None]:
    """Inputs and labels of one batch, None where it has none."""
    y = None
    if isinstance(given, tuple):
        if len(given) not in (1, 2):
            raise DataError(f"{name} gives {len(given)} values at once; give x, or x and y.")
        given, y = given[0], given[1] if len(given) == 2 else None
    elif isinstance(given, list):  # as a converter's representative data set has it
        if len(given) != 1:
            raise DataError(f"{name} gives a list of {len(given)} arrays; give a mapping from the "
                            "name of each input to its array.")
        given = given[0]
    x = ({str(key): np.asarray(one) for key, one in given.items()} if isinstance(given, Mapping)
         else np.asarray(given))
    return x, None if y is None else np.asarray(y)


def _joined(batches: Any, name: str) -> tuple[Arrays, Array | None]:
    """All batches one after the other."""
    xs: list[Arrays] = []
    ys: list[Array | None] = []
    size = 0
    for batch in batches:
        x, y = _pair(batch, name)
        size += sum(one.nbytes for one in (x.values() if isinstance(x, Mapping) else [x]))
        if size > _MOST_BYTES:
            raise DataError(f"{name} gave more than {_MOST_BYTES >> 30} GiB and goes on; let it "
                            "end, or give fewer examples.")
        xs.append(x)
        ys.append(y)
    if not xs:
        raise DataError(f"{name} gives no examples.")
    labels = [y for y in ys if y is not None]
    if labels and len(labels) < len(ys):
        raise DataError(f"{name} gives y with {len(labels)} of {len(ys)} batches; give it with all "
                        "or none.")
    named = [one for one in xs if isinstance(one, Mapping)]
    plain = [one for one in xs if not isinstance(one, Mapping)]
    if named and (plain or any(one.keys() != named[0].keys() for one in named)):
        raise DataError(f"{name} gives other inputs with one batch than with another.")
    joined = ({key: np.concatenate([one[key] for one in named]) for key in named[0]} if named
              else np.concatenate(plain))
    return joined, np.concatenate(labels) if labels else None
