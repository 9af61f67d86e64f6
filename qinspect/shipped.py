"""What ships beside the code: the notebooks, and the tables of results that they read."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING

from qinspect.errors import StoreError, unknown_name

if TYPE_CHECKING:
    import pandas as pd

# Folder of a checkout, and the package that a wheel carries the same files in.
_PACKAGES = {"notebooks": "qinspect.notebooks", "data": "qinspect.results"}


def shipped_files(kind: str, suffix: str) -> dict[str, Traversable]:
    """Files of one kind that belong to this installation, by file name.

    Parameters
    ----------
    kind : {"notebooks", "data"}
        The folder of a checkout.
    suffix : str
        How the names end, ``.csv`` for example.

    Raises
    ------
    StoreError
        If this installation has none.
    """
    root = Path(__file__).resolve().parents[1]
    folder: Traversable
    # Site-packages may hold a folder "data" of somebody else's; only a checkout has this file.
    if (root / "pyproject.toml").is_file():
        folder = root / kind
    else:
        try:
            folder = resources.files(_PACKAGES[kind])
        except ModuleNotFoundError as error:
            raise StoreError(
                f"this installation of qinspect has no {kind}; install it again."
            ) from error
    found = [item for item in folder.iterdir() if item.name.endswith(suffix)]
    return {item.name: item for item in sorted(found, key=lambda item: item.name)}


def shipped_table(name: str) -> pd.DataFrame:
    """A table of results that took long to make; ``data/README.md`` has the command of each.

    Parameters
    ----------
    name : str
        File name without ``.csv``, such as ``one_epoch_sweep``.

    Raises
    ------
    SpecError
        If there is no such table; the message lists the nearest ones.
    StoreError
        If this installation has no tables.
    """
    import pandas as pd

    tables: Mapping[str, Traversable] = shipped_files("data", ".csv")
    if f"{name}.csv" not in tables:
        raise unknown_name("table", name, [file.removesuffix(".csv") for file in tables])
    with tables[f"{name}.csv"].open("r", encoding="utf-8") as file:
        return pd.read_csv(file)
