"""A study's folder on disk: atomic files, one writer at a time, finished steps never redone."""

from __future__ import annotations

import hashlib
import json
import lzma
import math
import os
import shutil
import struct
import tempfile
import time
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from qinspect.errors import QinspectError, StoreError
from qinspect.schema import Array

if TYPE_CHECKING:
    import pandas as pd

# What zipfile, its decompressors and NumPy raise for an archive that is damaged or pretends sizes.
_DAMAGE = (OSError, ValueError, EOFError, LookupError, RuntimeError, MemoryError, OverflowError,
           SyntaxError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error, struct.error,
           lzma.LZMAError, tokenize.TokenError)

# End of the names of files that are being written.
_UNFINISHED = ".unfinished"
# Beginning of the names of folders for a while, and the age in seconds from which on their owner
# has had the time to lock them.
_SCRATCH, _SETTLED = "qinspect-scratch-", 60


def prepare_folder(
    path: str | os.PathLike[str], parts: tuple[str, ...] = ("models", "steps"),
    option: str = "--out",
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
            f"({error.strerror or type(error).__name__}); choose another one with {option}."
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
    except OSError as error:
        raise StoreError(f"cannot lock the folder {str(folder)!r} by its file .lock "
                         f"({error.strerror or type(error).__name__}); choose another one with "
                         "--out.") from error
    _clean(folder)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder; those that killed processes have left are removed."""
    for left in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        with suppress(OSError, Timeout):
            if not left.is_symlink() and time.time() - left.stat().st_mtime > _SETTLED:
                with FileLock(left / ".lock").acquire(timeout=0):
                    shutil.rmtree(left, ignore_errors=True)
    with (TemporaryDirectory(prefix=_SCRATCH, ignore_cleanup_errors=True) as folder,
          FileLock(Path(folder) / ".lock")):
        yield Path(folder)


def _clean(folder: Path) -> None:
    """Remove what killed runs were writing; nobody else writes while the folder is locked."""
    for place in (folder, folder / "models", folder / "steps"):
        for left in place.glob(f".*{_UNFINISHED}"):
            left.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Its folder is made where it is missing.
    """
    handle, temporary = -1, ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(_UNFINISHED, f".{path.name[:100]}.", path.parent)
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
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise StoreError(f"{str(path)!r} cannot be read as JSON: {_why(error)}.") from error


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as CSV atomically, with all digits."""
    write_text(path, frame.to_csv(index=False))


def read_frame(path: Path) -> pd.DataFrame:
    """Read a table written by :func:`write_frame`."""
    import pandas as pd

    try:
        return pd.read_csv(path, float_precision="round_trip")
    except (OSError, ValueError, MemoryError, OverflowError) as error:
        raise StoreError(f"cannot read the table {str(path)!r}: {_why(error)}.") from error


def write_arrays(path: Path, arrays: dict[str, Array]) -> None:
    """Write arrays as a compressed ``.npz`` atomically."""
    import io

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def read_arrays(
    path: Path, wanted: Collection[str] | None = None, kind: type[QinspectError] = StoreError
) -> dict[str, Array]:
    """Arrays of a ``.npz`` by name, all or those wanted that are there, without unpickling."""
    arrays: dict[str, Array] = {}
    with _archive(path, kind) as archive:
        for key in archive.files:
            if wanted is not None and key not in wanted:
                continue
            try:
                arrays[key] = archive[key]
            except _DAMAGE as error:
                if "allow_pickle" in str(error):
                    raise kind(f"{path}: {key!r} is an array of Python objects, which is not read "
                               "because unpickling can run code; store it with a numeric or text "
                               "dtype.") from error
                raise _damaged(path, key, _why(error), kind) from error
            if not isinstance(arrays[key], np.ndarray):
                raise _damaged(path, key, "it is no array", kind)
    return arrays


def array_names(path: Path, kind: type[QinspectError] = StoreError) -> list[str]:
    """Names of the arrays in a ``.npz``."""
    with _archive(path, kind) as archive:
        return list(archive.files)


def _archive(path: Path, kind: type[QinspectError]) -> np.lib.npyio.NpzFile:
    if not is_file(path):
        raise kind(f"{shown(path)}: no such file; give the path of a .npz file.")
    try:
        archive = np.load(path, allow_pickle=False)
    except _DAMAGE as error:
        raise kind(f"{path}: not a readable .npz file ({_why(error)}); write it with "
                   "numpy.savez.") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise kind(f"{path}: holds a single array, not a .npz archive; write it with "
                   "numpy.savez(path, x=..., y=...).")
    return archive


def _damaged(path: Path, key: str, why: str, kind: type[QinspectError]) -> QinspectError:
    return kind(f"{path}: {key!r} cannot be read ({why}); the file is damaged or incomplete, "
                "write it again.")


def _why(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".")[:120] if lines else type(error).__name__


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have is of none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether there is such a folder; a name that none can have is of none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def shown(path: Path) -> str:
    """A path for a message, cut where it is longer than any name can be."""
    name = str(path)
    return name if len(name) <= 200 else f"{name[:60]}... ({len(name)} characters)"


def text_of(path: str | os.PathLike[str]) -> str:
    """A path as text that any table and file can hold: what is no UTF-8 in it becomes ``?``."""
    return os.fspath(path).encode("utf-8", "replace").decode()


def digest(path: Path) -> str:
    """SHA-256 of a file, or a refusal to go on without it."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise StoreError(f"cannot read {str(path)!r}: {error.strerror}.") from error


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


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a frame as dicts with text keys."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]
