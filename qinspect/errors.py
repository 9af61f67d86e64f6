"""The exceptions a user of qinspect sees.

Each carries one sentence: what is wrong, the value, what is allowed or what to do.  The command
line prints that sentence and exits with code 2; a notebook shows it as the exception's message.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class QinspectError(Exception):
    """Base of every error that a user can cause and mend."""


class DataError(QinspectError):
    """A data set is missing, malformed or does not fit the model."""


class ModelFileError(QinspectError):
    """A model file cannot be read, or is not what the call needs."""


class TrainError(QinspectError):
    """A Keras model cannot be trained, quantized or converted."""


class SpecError(QinspectError):
    """An argument, option or specification has a value that is not allowed."""


class StoreError(QinspectError):
    """A study folder cannot be read or written."""


class MissingExtraError(QinspectError):
    """A part of qinspect needs packages that are not installed."""


def unknown_name(kind: str, name: str, allowed: Iterable[str]) -> SpecError:
    """Error for an unknown name of a kind, ``"data set"`` say, that lists the nearest allowed."""
    names = list(allowed)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"choose one of {', '.join(names)}."
    return SpecError(f"unknown {kind} {name!r}; {hint}")


def require_extra(package: str, extra: str, purpose: str) -> MissingExtraError:
    """Error for a missing optional package that names the extra to install."""
    return MissingExtraError(
        f"{purpose} needs the package {package!r}, which is not installed; "
        f"install it with: pip install 'qinspect[{extra}]'"
    )
