"""Sensitivity from files to files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from qinspect.data.npz import load_npz
from qinspect.diagnose.sensitivity import Sensitivity, sensitivity
from qinspect.errors import SpecError
from qinspect.schema import Array, Dataset, Graph
from qinspect.study import store
from qinspect.study.preprocess import Preprocessing, prepare
from qinspect.tflite import ensure_runs, read_graph
from qinspect.tflite.quantize import PRECISIONS, Precision


def sensitivity_of_files(
    float_file: str | os.PathLike[str],
    data: str | os.PathLike[str],
    calibration: str | os.PathLike[str] | None = None,
    quantized_file: str | os.PathLike[str] | None = None,
    *,
    precision: str = "int8",
    keep: str = "float32",
    preprocessing: Preprocessing | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Sensitivity:
    """Sensitivity of a float ``.tflite`` file, see :func:`qinspect.diagnose.sensitivity`.

    Parameters
    ----------
    float_file : path
        The float32 file; it is first tried in a child process.
    data : path
        ``.npz`` with ``x`` and, if known, ``y``.
    calibration : path, optional
        ``.npz`` with ``x``.
    quantized_file : path, optional
        A studied file whose stored ranges are used.
    precision, keep : str
        Of quantized layers, and of those that are kept.
    preprocessing : Preprocessing, optional
        Of both ``x``.
    on_step : callable, optional
        Called with the number of files evaluated and the number there will be.

    Raises
    ------
    DataError, ModelFileError, SpecError
        One sentence each.
    """
    graph = open_model(float_file)
    quantized = None if quantized_file is None else open_model(quantized_file)
    how = preprocessing or Preprocessing()
    examples, labelled = load_examples(data)
    x = _real(examples.x, graph, quantized, how)
    calibration_x = None
    if calibration is not None:
        loaded, _ = load_examples(calibration)
        calibration_x = _real(loaded.x, graph, quantized, how)
    return sensitivity(
        graph, x, examples.y + how.label_offset if labelled else None,
        calibration_x=calibration_x, quantized=quantized,
        precision=_precision("precision", precision), keep=_precision("keep", keep),
        on_step=on_step,
    )  # fmt: skip


def write_mixed(
    result: Sensitivity,
    path: str | os.PathLike[str],
    kept: int | None = None,
    *,
    margin_pp: float = 1.0,
) -> int:
    """Write the file that keeps the most sensitive layers, atomically.

    Parameters
    ----------
    result : Sensitivity
    path : path
        Where to write.
    kept : int, optional
        How many layers to keep; by default the proposal for ``margin_pp``.

    Returns
    -------
    int
        Layers kept.

    Raises
    ------
    SpecError
        If there is no proposal and no number, or the number is not possible.
    StoreError
        If the file cannot be written.
    """
    number = result.proposal(margin_pp) if kept is None else kept
    if number is None:
        raise SpecError(
            "there is no proposal to write (no labels, or no point of the curve is good enough); "
            "say how many layers to keep with --keep."
        )
    store.write_bytes(Path(path), result.mixed_file(number))
    return number


def open_model(path: str | os.PathLike[str]) -> Graph:
    """Read a ``.tflite`` file, after trying it in a child process.

    Raises
    ------
    ModelFileError
        If it cannot be read or run.
    """
    graph = read_graph(path)
    ensure_runs(path)
    return graph


def load_examples(path: str | os.PathLike[str]) -> tuple[Dataset, bool]:
    """Examples of an ``.npz`` file, and whether it has labels."""
    examples = load_npz(Path(path), require_labels=False)
    return examples, bool((examples.y >= 0).all())


def _real(x: Array, graph: Graph, quantized: Graph | None, how: Preprocessing) -> Array:
    """Examples as the float model takes them, checked against the quantized input if any."""
    real, _ = prepare(x, graph, how)
    if quantized is not None:
        prepare(real, quantized, Preprocessing())
    return real


def _precision(option: str, value: str) -> Precision:
    for known in PRECISIONS:
        if value == known:
            return known  # type: ignore[return-value]
    raise SpecError(f"{option} is {value!r}; choose one of {', '.join(PRECISIONS)}.")
