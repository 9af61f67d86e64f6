"""Which of several named arrays are x and y, by the names that people use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from qinspect.errors import DataError

X_NAMES = ("x", "image", "images", "img", "imgs", "data", "input", "inputs", "feature", "features")
Y_NAMES = ("y", "label", "labels", "y_true", "true", "true_label", "target", "targets", "class",
           "truth", "ground_truth")
# What describes an example and is neither.
BESIDE = ("id", "group")
_PARTS = ("train", "training", "val", "valid", "validation", "dev", "test", "eval")


@dataclass(frozen=True)
class Chosen:
    """Names of the arrays that hold x, of one input or of several, and y; what was guessed."""

    x: tuple[str, ...]
    y: str | None
    notes: tuple[str, ...] = ()


def usual(name: str) -> tuple[str, str]:
    """A name without its part, and the part: ``X_test`` and ``test_x`` are x of test."""
    words = re.split(r"[_\-. ]+", name.casefold())
    for at in (-1, 0):
        if len(words) > 1 and words[at] in _PARTS:
            part = words.pop(at)
            return "_".join(words), part
    return "_".join(words), ""


def choose(
    origin: str, names: Sequence[str], x_key: str | None, y_key: str | None, *, inputs: int = 1
) -> Chosen:
    """Read names in the one way there is; a DataError names them where there are several ways."""
    asked = tuple(x_key.split(",")) if x_key else ()
    for key in (*asked, *filter(None, [y_key])):
        if key not in names:
            raise DataError(f"{origin} has no {key!r}; it has {listed(names)}.")
    if inputs == 1 and len(asked) < 2:
        x = asked[0] if asked else _one_x(origin, names, y_key)
        y = y_key or _one_y(origin, names, x)
        chosen: tuple[str, ...] = (x,)
    else:
        y = y_key or _one_y(origin, names, "")
        chosen = asked or tuple(key for key in names if key != y and key not in BESIDE)
    if y is None:
        rest = [key for key in names if key not in (*chosen, *BESIDE)]
        said = f"{origin}: none of {listed(rest)} was taken for y; --y-key names one."
        return Chosen(chosen, None, (said,) if rest else ())
    guessed = [f"{key!r} was taken for {what}" for key, what, given in
               ((chosen[0], "x", asked or len(chosen) > 1), (y, "y", y_key))
               if not given and key != what]
    return Chosen(chosen, y, (f"{origin}: {' and '.join(guessed)}.",) if guessed else ())


def _one_x(origin: str, names: Sequence[str], y_key: str | None) -> str:
    if "x" in names:
        return "x"
    found = [key for key in names if usual(key)[0] in X_NAMES]
    if not found:
        found = [key for key in names
                 if usual(key)[0] not in Y_NAMES and key not in (*BESIDE, y_key)]
        if len(found) != 1:
            raise DataError(f"{origin}: no array 'x'; the file has {listed(names) or 'no arrays'}; "
                            "name the one to take with --x-key.")
    if len(found) > 1:
        raise DataError(f"{origin}: {listed(found)} may each be x; choose one with --x-key, or "
                        "store it as 'x'.")
    return found[0]


def _one_y(origin: str, names: Sequence[str], x: str) -> str | None:
    if "y" in names and x in ("", "x"):
        return "y"
    found = [key for key in names if key != x and usual(key)[0] in Y_NAMES]
    part = usual(x)[1]
    # X_test goes with y_test where there is y_train as well.
    found = [key for key in found if usual(key)[1] == part] or [
        key for key in found if not part or not usual(key)[1]]
    if len(found) > 1:
        raise DataError(f"{origin}: {listed(found)} may each be y; choose one with --y-key, or "
                        "store it as 'y'.")
    return found[0] if found else None


def listed(keys: Sequence[str]) -> str:
    """Names for a message; a file can hold any number of them, of any length."""
    shown = ", ".join(repr(key)[:40] for key in keys[:10])
    return shown + (f" and {len(keys) - 10} more" if len(keys) > 10 else "")
