"""Everything ``qinspect inspect`` says about one file, as plain data."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from qinspect.tflite.identify import identify
from qinspect.tflite.read import read_graph
from qinspect.tflite.sandbox import TIMEOUT, probe


def inspect_file(path: str | os.PathLike[str], timeout: float = TIMEOUT) -> dict[str, Any]:
    """Identify a file and try to run it once in a child process.

    Parameters
    ----------
    path : path
        The ``.tflite`` file.
    timeout : float
        Seconds that the trial run may take.

    Returns
    -------
    dict
        The fields of :class:`qinspect.schema.Identification`, with ``runs`` (``ok``, ``refused``,
        ``crashed`` or ``timeout``) and, where it does not run, the reason among the warnings.
        Only strings, numbers, None, lists and dicts, fit for JSON.

    Raises
    ------
    ModelFileError
        If the file cannot be read.
    """
    graph = read_graph(path)
    result = probe(graph.content, timeout=timeout)
    described = _plain(asdict(identify(graph)))
    described["runs"] = result.status
    if result.message:
        described["warnings"].insert(0, f"the file {result.message}")
    return described


def _plain(value: Any) -> Any:
    """The same with lists for tuples and None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return None
    return value
