"""Examples in one ``.npy`` file and their labels in another, read without ever unpickling."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from qinspect.data.dataset import Dataset
from qinspect.data.examples import examples_of
from qinspect.data.names import X_NAMES, Y_NAMES, listed, usual
from qinspect.errors import DataError
from qinspect.schema import Array


def read_npy(path: Path, *, x_key: str | None = None, y_key: str | None = None) -> Dataset:
    """Examples of ``x.npy``, with the labels of the file ``y_key`` or of ``y.npy`` beside it."""
    if x_key is not None:
        raise DataError(f"{path} holds one array; leave out --x-key.")
    labels = _beside(path) if y_key is None else Path(y_key)
    y = None if labels is None else read_npy_array(labels)
    notes: tuple[str, ...] = ()
    if y_key is None:
        notes = (f"{path}: the labels are those of {labels.name} beside it."
                 if labels else f"{path}: no file of labels beside it; --y-key names one.",)
    return examples_of(str(path), path.stem, read_npy_array(path, "r"), y, notes=notes,
                       y_name="y" if labels is None else labels.name)


def _beside(path: Path) -> Path | None:
    """The file of labels that belongs to a file of inputs by the usual names, if there is one."""
    base, part = usual(path.stem)
    if base not in X_NAMES:
        return None
    found = sorted(file for file in path.parent.glob("*.npy")
                   if usual(file.stem)[0] in Y_NAMES and usual(file.stem)[1] == part)
    if len(found) > 1:
        raise DataError(f"{path}: {listed([file.name for file in found])} beside it may each hold "
                        "the labels; choose one with --y-key.")
    return found[0] if found else None


def read_npy_array(path: Path, mapped: Literal["r"] | None = None) -> Array:
    """The one array of a ``.npy`` file, which is never unpickled."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the path of a .npy file.")
    try:
        # Mapped, what is large stays in the file until it is asked for.
        found = np.load(path, mmap_mode=mapped, allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, MemoryError) as error:
        why = str(error).strip().splitlines()
        raise DataError(f"{path}: not a readable .npy file of numbers or text "
                        f"({why[0].rstrip('.')[:120] if why else type(error).__name__}); write it "
                        "with numpy.save.") from error
    if not isinstance(found, np.ndarray):
        raise DataError(f"{path}: is an archive of several arrays; name it .npz.")
    return found
