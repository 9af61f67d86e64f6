"""Run ``.tflite`` files on examples, and keep what they gave as results to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qinspect.data.dataset import Dataset
from qinspect.errors import DataError, SpecError
from qinspect.predictions import Results
from qinspect.tflite import evaluate as run_file
from qinspect.tflite.inputs import (
    File,
    Model,
    Preprocessing,
    check_classes,
    load_examples,
    named_files,
    prepare,
)
from qinspect.tflite.runner import Kernels
from qinspect.tflite.sandbox import open_model


def evaluate(
    files: File | Sequence[File] | Mapping[str, Model], data: File | Dataset, *,
    kernels: Kernels = "default", preprocessing: Sequence[Preprocessing] | None = None,
    confidence: float = 0.95, margin: float = 1.0, seed: int = 0, num_threads: int = 2,
) -> Results:
    """Outputs of ``.tflite`` files for the same examples.

    Parameters
    ----------
    files : path, sequence of path, or mapping of name to path or bytes
        ``.tflite`` files, or their content; each is first tried in a child process.
    data : path or Dataset
        ``.npz`` with ``x``, as the float model takes it, and if known ``y``, ``id``, ``group``.
    kernels : {"default", "builtin", "reference"}
        Kernels of the interpreter.
    preprocessing : sequence of Preprocessing, optional
        What to do to ``x`` for each file; nothing by default.
    confidence, margin, seed
        Of the comparisons that will be made.
    num_threads : int
        Of every interpreter.

    Returns
    -------
    Results
        ``outputs`` holds the dequantized outputs, float32 (n, classes), by name.

    Raises
    ------
    DataError
        If examples or labels do not fit a file.
    ModelFileError
        If a file cannot be read or run.

    Examples
    --------
    >>> found = evaluate(["float.tflite", "int8.tflite"], "data.npz")
    >>> found.value("float.tflite")
    1.0
    """
    named = named_files(files)
    ways = list(preprocessing or [Preprocessing()] * len(named))
    if len(ways) != len(named):
        raise SpecError(f"there are {len(named)} files but {len(ways)} preprocessings.")
    examples = load_examples(data)
    if not examples.labelled:
        raise DataError("the examples have no labels y; 'compare' says what can be said without.")
    outputs, notes = {}, list(examples.notes)
    for (name, file), how in zip(named.items(), ways, strict=True):
        graph = open_model(file)
        check_classes(graph, examples.labels + how.label_offset, name)
        x, said = prepare(examples.x, graph, how)
        result = run_file(graph, x, num_threads=num_threads, kernels=kernels)
        outputs[name] = result.outputs
        notes += [f"{name}: {note}" for note in (*said, *result.notes)]
    offset = {how.label_offset for how in ways}
    if len(offset) > 1:
        raise SpecError("files with other labels cannot be compared in one set of results; "
                        "give them one label offset.")
    return Results(outputs, examples.labels + offset.pop(), examples.ids, examples.group,
                   confidence=confidence, margin=margin, seed=seed, notes=tuple(notes))
