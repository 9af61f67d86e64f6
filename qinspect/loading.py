"""One way in: a data set, a finished study or a sweep, by name or path."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from qinspect import store
from qinspect.data.dataset import Dataset
from qinspect.data.folders import holds_images
from qinspect.data.sets import load_dataset
from qinspect.data.shipped import shipped_folder, shipped_table
from qinspect.errors import DataError
from qinspect.predictions import Results, results
from qinspect.studies.stored import Study, Sweep, load_study, load_sweep

_SWEEPS = ("one_epoch_sweep", "little_data_sweep")
_PREDICTIONS = ("torch_baseline",)
_STUDIES = ("forum_puzzle",)


def load(
    what: str | os.PathLike[str], *, limit: int | None = None, **keys: Any
) -> Dataset | Study | Sweep | Results:
    """Load a data set, a finished study or a sweep, or results that ship with qinspect.

    Parameters
    ----------
    what : str or path
        Name of a data set (``digits``), the user's own (``.npz``, ``.npy``, ``.csv``,
        ``.parquet``, a folder of images, ``module:function``), the folder of a study or sweep,
        or ``forum_puzzle``, ``one_epoch_sweep``, ``little_data_sweep``, ``torch_baseline``: results
        that took long to make, see ``data/README.md``.
    limit : int, optional
        Of a data set: at most this many examples, proportions of classes kept.
    **keys
        Of a data set: ``input_range``, ``seed``, ``x_key``, ``y_key`` and what else
        :func:`qinspect.data.load_dataset` takes.

    Returns
    -------
    Dataset, Study, Sweep or Results

    Raises
    ------
    DataError, SpecError, StoreError
        When there is nothing of that name, or it cannot be read.

    Examples
    --------
    >>> data = load("digits", limit=100)
    >>> data.x.shape, data.num_classes
    ((100, 8, 8, 1), 10)
    """
    folder = Path(what)
    if what in _SWEEPS:
        return Sweep(shipped_table(str(what)))
    if what in _STUDIES:
        return load_study(shipped_folder(str(what)))
    if what in _PREDICTIONS:
        table = shipped_table(str(what))
        models = table.drop(columns=["id", "y"])
        return results(models.to_dict("series"), table["y"], ids=table["id"])
    if store.is_file(folder / "spec.json"):
        return load_study(folder)
    if store.is_folder(folder / "runs"):
        return load_sweep(folder)
    if not store.is_folder(folder) or holds_images(folder):
        return load_dataset(str(what), limit=limit, **keys)
    raise DataError(f"the folder {str(folder)!r} holds neither a study (spec.json), a sweep "
                    "(runs) nor images; 'qinspect diagnose' takes loose files by --float, --ptq "
                    "and --qat.")
