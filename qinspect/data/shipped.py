"""What ships beside the code: the notebooks, and the results that they read."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import pandas as pd

from qinspect.errors import StoreError, unknown_name

# Folder of a checkout, and the package that a wheel carries the same files in.
_PACKAGES = {"notebooks": "qinspect.notebooks", "data": "qinspect.tables"}


def _folder(kind: str) -> Traversable:
    root = Path(__file__).resolve().parents[2]
    # Site-packages may hold a folder "data" of somebody else's; only a checkout has this file.
    if (root / "pyproject.toml").is_file():
        return root / kind
    try:
        return resources.files(_PACKAGES[kind])
    except ModuleNotFoundError as error:
        raise StoreError(f"this installation of qinspect has no {kind}; install it again."
                         ) from error


def shipped_files(kind: str, suffix: str) -> dict[str, Traversable]:
    """Files of this installation by name: ``notebooks`` or ``data``, ending in ``suffix``."""
    found = [item for item in _folder(kind).iterdir() if item.name.endswith(suffix)]
    return {item.name: item for item in sorted(found, key=lambda item: item.name)}


def shipped_folder(name: str) -> Path:
    """A folder of results below ``data``; an installation is a folder, never an archive."""
    return Path(str(_folder("data").joinpath(name)))


def shipped_table(name: str) -> pd.DataFrame:
    """A table of results that took long to make; ``data/README.md`` has the command of each."""
    tables: Mapping[str, Traversable] = shipped_files("data", ".csv")
    if f"{name}.csv" not in tables:
        raise unknown_name("table", name, [file.removesuffix(".csv") for file in tables])
    with tables[f"{name}.csv"].open("r", encoding="utf-8") as file:
        return pd.read_csv(file)
