"""The specs of a sweep: every combination of the values of its axes."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from qinspect.errors import SpecError, unknown_name
from qinspect.study.spec import StudySpec, make_spec

_MOST_SEEDS = 100_000


def grid(base: str | Mapping[str, Any] | None = None, **axes: Iterable[Any]) -> list[StudySpec]:
    """Every combination of the axes' values, the last axis changing fastest.

    Parameters
    ----------
    base : str, mapping or None
        What all runs share: the name of a preset, or settings of :class:`StudySpec`, which may
        hold a ``preset`` to start from.
    **axes : iterable
        Fields of :class:`StudySpec`, each with the values to try.

    Returns
    -------
    list of StudySpec

    Raises
    ------
    SpecError
        If a field, a value or the preset is unknown, an axis is empty or a single value, or a
        combination occurs twice.

    Examples
    --------
    >>> len(grid("one-epoch", dataset=["digits", "glyphs"], seed=range(20)))
    40
    """
    shared: dict[str, Any] = {"preset": base} if base is None or isinstance(base, str) else {**base}
    known = {field.name for field in dataclasses.fields(StudySpec)}
    values = {}
    for name, given in axes.items():
        if name not in known:
            raise unknown_name("study setting", name, known)
        if isinstance(given, str | bytes) or not isinstance(given, Iterable):
            raise SpecError(f"the axis {name} is {given!r}; give a list of values.")
        # NumPy scalars are not JSON; their Python values are.
        values[name] = [value.item() if hasattr(value, "item") else value for value in given]
        if not values[name]:
            raise SpecError(f"the axis {name} has no values; give at least one.")
    specs = [
        # None is a value here (the data set's own size, say), not "keep the preset's".
        dataclasses.replace(make_spec(**shared), **dict(zip(values, combination, strict=True)))
        for combination in itertools.product(*values.values())
    ]
    check_distinct(specs)
    return specs


def run_key(spec: StudySpec) -> str:
    """Name of a run's files: 16 hexadecimal digits that depend on every setting of the spec."""
    text = json.dumps(spec.to_dict(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_distinct(specs: list[StudySpec]) -> None:
    """Refuse an empty list, and the same spec twice.

    Raises
    ------
    SpecError
        In either case.
    """
    if not specs:
        raise SpecError("the sweep has no runs; give at least one spec.")
    keys = [run_key(spec) for spec in specs]
    if len(set(keys)) < len(keys):
        again = next(spec for spec, key in zip(specs, keys, strict=True) if keys.count(key) > 1)
        raise SpecError(
            f"the sweep has the same run twice ({again.dataset}, {again.model}, "
            f"seed {again.seed}); every combination may occur once."
        )


def parse_seeds(text: str) -> list[int]:
    """Seeds from text such as ``0-19`` or ``0,3,10-12``.

    Raises
    ------
    SpecError
        If the text is anything else.
    """
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,9})(?:\s*-\s*(\d{1,9}))?\s*", part, re.ASCII)
        if not found:
            raise SpecError(f"the seeds are {text!r}; write them as 0-19 or 0,3,10-12.")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first or last - first >= _MOST_SEEDS:
            raise SpecError(
                f"the seeds {part.strip()!r} are not a range from low to high of at most "
                f"{_MOST_SEEDS:,} seeds."
            )
        seeds += range(first, last + 1)
    if len(set(seeds)) < len(seeds):
        raise SpecError(f"the seeds {text!r} hold one seed twice.")
    return seeds
