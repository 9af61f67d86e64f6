"""The way in: whatever there is, in the dashboard that belongs to it."""

from __future__ import annotations

import os
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from qinspect import store
from qinspect.diagnosis.answer import Diagnosis
from qinspect.diagnosis.cases import Case, case
from qinspect.diagnosis.loose import is_loose, loose_files
from qinspect.errors import DataError, SpecError
from qinspect.loading import load
from qinspect.shown import Shown
from qinspect.studies.stored import Study, Sweep


def explore(*what: Any, **given: Any) -> Any:
    """Open the dashboard: in a notebook, as the last line of a cell.

    What is missing in it, such as measured layers or a diagnosis, has a button that makes it.

    Parameters
    ----------
    *what : str, path, or a result
        The folder of a study, of a sweep or of loose files; or loose files, which are told apart by
        their names as in such a folder; or a study that ships (``forum_puzzle``); or what a verb
        has returned: a study, a sweep, a case, a diagnosis, layers, results.
    **given
        Loose files by name, and whatever else :func:`qinspect.case` takes: ``float``, ``ptq``,
        ``qat``, ``data``, ``calibration``, ``train``, ``metric`` and so on.

    Returns
    -------
    widget
        Needs the extra ``lab``.

    Raises
    ------
    DataError, ModelFileError, SpecError, StoreError
        If there is nothing to open, or it cannot be read; one sentence each.

    Examples
    --------
    >>> board = explore("study")
    >>> list(board.pages)[:3]
    ['Overview', 'Diagnosis', 'Ranges']
    >>> board = explore(float="float.tflite", ptq="ptq.tflite", data="data.npz")
    >>> board.measured.state
    'to do'
    """
    from qinspect.show import widgets

    found = subject(*what, **given)
    if isinstance(found, Study | Case | Diagnosis):
        return widgets.Dashboard(found)
    return found.explore()


def subject(*what: Any, **given: Any) -> Shown:
    """What the dashboard is about; see :func:`explore`."""
    if len(what) == 1 and isinstance(what[0], Shown):
        if given:
            raise SpecError(f"a result was given, so {', '.join(given)} cannot be used; give "
                            "files, or the result alone.")
        return what[0]
    strange = [one for one in what if not isinstance(one, str | os.PathLike)]
    if strange:
        raise SpecError(f"{type(strange[0]).__name__} cannot be opened; give one result, or paths.")
    paths = [Path(one) for one in what]
    if len(paths) == 1 and not given and not _loose(paths[0]):
        there = store.is_folder(paths[0])
        # Of other names it would be said that no data set has them.
        with nullcontext() if there else suppress(DataError, SpecError):
            found = load(what[0])
            if isinstance(found, Study | Sweep):
                return found
        raise SpecError(f"{store.shown(paths[0])!r} is not there, or neither a study, a sweep, a "
                        "folder of .tflite files nor such a file; give one of these.")
    if len(paths) == 1 and store.is_folder(paths[0]):
        return case(paths[0], **given)
    if not paths:
        return case(**given)
    return case(**loose_files(paths[0].parent, given, paths).arguments(given))


def _loose(path: Path) -> bool:
    if path.suffix.lower() == ".tflite":
        return True
    return is_loose(path) and not store.is_folder(path / "runs")
