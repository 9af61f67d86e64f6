"""A study's folder on disk: atomic files, one writer at a time, finished steps never redone."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from qinspect.errors import StoreError
from qinspect.schema import Array

if TYPE_CHECKING:
    import pandas as pd


def prepare_folder(
    path: str | os.PathLike[str], parts: tuple[str, ...] = ("models", "steps")
) -> Path:
    """Make the folder and those in it, and prove that it can be written."""
    folder = Path(path)
    try:
        for part in parts:
            (folder / part).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StoreError(
            f"cannot write to the folder {str(folder)!r} "
            f"({error.strerror or type(error).__name__}); choose another one with --out."
        ) from error
    return folder


@contextmanager
def locked(folder: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the folder's lock; a second process waits until the first has ended."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0.1)
    except Timeout:
        on_wait(f"another process is working on {folder}; waiting for it to end.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part."""
    handle, temporary = -1, ""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes files private to the user; results are meant to be shared.
        os.chmod(temporary, 0o644)  # noqa: PTH101
        os.replace(temporary, path)  # noqa: PTH105
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise StoreError(
            f"cannot write {str(path)!r}: {error.strerror or type(error).__name__}."
        ) from error
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; NaN is refused, because JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StoreError(f"{str(path)!r} does not exist; is this a study folder?") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{str(path)!r} cannot be read as JSON: {error}.") from error


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as CSV atomically, with all digits."""
    write_text(path, frame.to_csv(index=False))


def read_frame(path: Path) -> pd.DataFrame:
    """Read a table written by :func:`write_frame`."""
    import pandas as pd

    try:
        return pd.read_csv(path, float_precision="round_trip")
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read the table {str(path)!r}: {error}.") from error


def write_arrays(path: Path, arrays: dict[str, Array]) -> None:
    """Write arrays as a compressed ``.npz`` atomically."""
    import io

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def read_arrays(path: Path) -> dict[str, Array]:
    """Read arrays written by :func:`write_arrays`, with pickling off."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read the arrays {str(path)!r}: {error}.") from error


def is_done(folder: Path, step: str) -> bool:
    """Whether a step has finished."""
    return (folder / "steps" / f"{step}.json").exists()


def mark_done(folder: Path, step: str, facts: dict[str, Any]) -> None:
    """Record, after all its files are in place, that a step has finished."""
    write_json(folder / "steps" / f"{step}.json", facts)


def plain(value: Any) -> Any:
    """The same fit for JSON: NumPy numbers as Python ones, None for what JSON has no number for."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
