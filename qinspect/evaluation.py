"""Run ``.tflite`` files on examples, and keep what they gave as results to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qinspect.data.dataset import Dataset
from qinspect.data.sources import Source
from qinspect.errors import DataError, SpecError
from qinspect.measure.remarks import Scored, chance_remarks, unit_remarks
from qinspect.metrics import ACCURACY, Metric
from qinspect.predictions import Results
from qinspect.progress import Progress, late_progress
from qinspect.tflite.beside import beside
from qinspect.tflite.identity import identify
from qinspect.tflite.inputs import (
    File,
    Model,
    Preprocessing,
    load_examples,
    named_files,
    prepare_all,
)
from qinspect.tflite.recorded import Place, by_model, read_recorded, recorded_name
from qinspect.tflite.runner import Kernels
from qinspect.tflite.sandbox import open_model
from qinspect.tflite.task import output_port, task_of
from qinspect.verdicts import counted


def evaluate(
    files: File | Sequence[File] | Mapping[str, Model], data: File | Source | Dataset, *,
    kernels: Kernels = "default", preprocessing: Sequence[Preprocessing] | None = None,
    recorded: Mapping[str, Place] | None = None,
    metric: Metric | str | None = None, output: str | None = None, sequence: bool = False,
    confidence: float = 0.95, margin: float | None = None, seed: int = 0,
    num_threads: int | None = None, progress: Progress | None = None,
) -> Results:
    """Outputs of ``.tflite`` files for the same examples.

    Parameters
    ----------
    files : path, sequence of path, or mapping of name to path or bytes
        ``.tflite`` files, or their content; each is first tried in a child process.
    data : path, Source or Dataset
        ``.npz`` with ``x``, as the float model takes it, and if known ``y``, ``id``, ``group``; or
        anything else that :class:`qinspect.data.Source` reads.
    kernels : {"default", "builtin", "reference"}
        Kernels of the interpreter.
    preprocessing : sequence of Preprocessing, optional
        What to do to ``x`` for each file; nothing by default.
    recorded : mapping of file to path or array, optional
        Outputs of a file that were recorded elsewhere for the same examples, by its name; they
        are one more model, named ``"<file>, recorded"``.  See ``docs/device.md`` for the forms.
    metric : Metric or str, optional
        What outputs are scored by, as :func:`qinspect.metrics.metric` names it; guessed where there
        is only one reading.
    output : str, optional
        Name or position of the output that counts, where files have several; it is found in other
        files by name, shape and values.
    sequence : bool
        Whether examples follow each other, so that a file's state is kept from one to the next.
    confidence, margin, seed
        Of the comparisons that will be made.
    num_threads : int, optional
        Interpreters of each file side by side, of one thread each; one a core unless given.
    progress : callable, optional
        ``progress(phase, done, total, message)``; a terminal or notebook shows it unless given.

    Returns
    -------
    Results
        ``outputs`` holds the dequantized outputs, float32 (n, ...), by name; of a metric that needs
        the inputs too, such as a reconstruction error, what it made of them.

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
    offset = {how.label_offset for how in ways}
    if len(offset) > 1:
        raise SpecError("files with other labels cannot be compared in one set of results; "
                        "give them one label offset.")
    places = by_model(recorded, named)
    graphs = {name: open_model(file) for name, file in named.items()}
    examples = load_examples(data, list(graphs.values()), ways)
    fed, said = prepare_all(examples.x, graphs, ways)
    notes = [*examples.notes, *said]
    units = unit_remarks(graphs, fed, lambda name: identify(graphs[name]).origin.value)
    first = tuple(remark.line for remark in units)
    task = task_of(graphs, fed, examples, metric=metric, output=output, ways=ways)
    if task.metric is None:
        raise DataError(f"{examples.no_labels}; 'compare' says what can be said without.")
    notes += task.notes
    show = progress or late_progress()
    files = f"of {counted(len(graphs), 'file')}"
    ran = task.run(graphs, fed, num_threads=num_threads, kernels=kernels, sequence=sequence,
                   progress=lambda done, total: show("outputs", done, total, files))
    runs = {name: run for name, (run, _) in ran.items()}
    outputs = {}
    notes += [f"{name}: {note}" for name, run in runs.items() for note in run.notes]
    for name, (run, scored) in ran.items():
        outputs[name] = scored
        if name in places:
            graph = graphs[name]
            found = read_recorded(places[name], name, graph, task, run, examples)
            outputs[recorded_name(name)] = found.scored(task, name, graph, fed[name])
            others = {one: other for one, other in runs.items() if one != name}
            seen = beside(found, run, graph, output_port(graph, task.outputs[name]),
                          classes=task.classes, others=others)
            notes += [found.said, f"{recorded_name(name)}: {seen.sentence}"]
    shift = offset.pop()
    y = examples.labels + shift if task.metric.classes else task.y
    if task.metric is ACCURACY:
        chance = chance_remarks({
            name: Scored(run.prediction, examples.labels + shift, run.raw[0].size, shift)
            for name, run in runs.items()}, by_file=False)
        notes += [remark.line for remark in chance]
    return Results(outputs, y, examples.ids, examples.group, metric=task.metric,
                   confidence=confidence, margin=margin, seed=seed,
                   first=first,
                   notes=tuple(note for note in dict.fromkeys(notes) if note not in first))
