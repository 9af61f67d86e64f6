"""What files are scored by: which metric, on which of their outputs, against what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qinspect.data.dataset import Dataset, count, take
from qinspect.errors import DataError, ModelFileError, unknown_name
from qinspect.metrics import ACCURACY, AGREEMENT, DIFFERENCE, Metric
from qinspect.metrics import metric as named_metric
from qinspect.metrics.classes import NO_ANSWER
from qinspect.schema import Array, Arrays
from qinspect.tflite.graph import RESHAPING, Graph
from qinspect.tflite.inputs import Preprocessing
from qinspect.tflite.ports import Port, match_outputs, ports_of
from qinspect.tflite.run import Evaluation, evaluate_files
from qinspect.tflite.runner import Kernels, run_files
from qinspect.verdicts import examples

# Examples whose outputs tell which output of one file is which of another.
_MATCHED = 64
_PASSED = {*RESHAPING, "QUANTIZE", "DEQUANTIZE"}


@dataclass(frozen=True)
class Task:
    """How files are scored.

    Attributes
    ----------
    metric : Metric or None
        None where there is nothing to score the outputs against.
    outputs : mapping of str to str
        Name of the output that counts, by file.
    y : ndarray or None
        Labels or targets, as the data hold them.
    notes : tuple of str
        What was chosen without being told.
    """

    metric: Metric | None
    outputs: Mapping[str, str]
    y: Array | None
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> bool:
        """Whether outputs are one score a class, or may be (nothing says what else)."""
        return self.metric is None or self.metric.classes

    def run(
        self, graphs: Mapping[str, Graph], x: Mapping[str, Arrays], *,
        num_threads: int | None = None, kernels: Kernels = "default", sequence: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, tuple[Evaluation, Any]]:
        """Files in one pass over examples, and what of outputs is scored (before label offsets)."""
        found = evaluate_files(graphs, x, self.outputs, workers=num_threads, kernels=kernels,
                               sequence=sequence, progress=progress)
        return {name: (result, self.scored(name, graphs[name], x[name], result, kernels=kernels))
                for name, result in found.items()}

    def scored(self, name: str, graph: Graph, x: Arrays, result: Evaluation, *,
               kernels: Kernels = "default") -> Any:
        """What of a file's outputs is scored."""
        metric = self.metric
        if metric is None or metric.reduce is None:
            return result.outputs
        if metric.all_outputs:
            run = run_files({name: graph}, x, kernels=kernels)[name]
            return metric.reduce(x, {key: run.real(key) for key in run.outputs})
        return metric.reduce(_only(x, metric), result.outputs)


def task_of(
    graphs: Mapping[str, Graph], fed: Mapping[str, Arrays], data: Dataset, *,
    metric: Metric | str | None = None, output: str | None = None,
    ways: Sequence[Preprocessing] = (),
) -> Task:
    """Decide what files are scored by; a metric is guessed only where there is one reading.

    Parameters
    ----------
    graphs, fed : mapping by name of the file
        The files, and what each is given.
    data : Dataset
        Whose ``y`` the outputs are scored against.
    metric : Metric or str, optional
        Otherwise: accuracy for one output of several numbers and whole-number labels below their
        count; accuracy at 0.5 for one output that ends in LOGISTIC and labels 0 and 1; mean
        absolute error for one number and targets that are not whole; reconstruction error for an
        output shaped like the input and no labels.
    output : str, optional
        Name or position (from 0) of the output of the first file; those of the others are found by
        name, shape and values.
    ways : sequence of Preprocessing
        Of the files, for the label offset of each.

    Raises
    ------
    DataError
        If there is more than one reading, naming the options; or labels that are no class.
    ModelFileError
        If a file has no input or no output.
    """
    chosen = named_metric(metric) if isinstance(metric, str) else metric
    outputs, notes = _outputs(graphs, fed, output, data, chosen)
    first, graph = next(iter(graphs.items()))
    port = output_port(graph, outputs[first])
    if chosen is None:
        chosen, why = _guess(first, graph, port, data)
        if why:
            notes.append(why)
    if chosen is not None and chosen.classes:
        for at, (name, one) in enumerate(graphs.items()):
            offset = ways[at].label_offset if at < len(ways) else 0
            numbers = _numbers(output_port(one, outputs[name]))
            if numbers == 1 and chosen.id == ACCURACY.id:
                raise DataError(f"{name} gives one number an example, of which arg max says "
                                "nothing; choose --metric binary-accuracy or auc for yes or no, "
                                "mae for a quantity.")
            # One number is the probability of yes, of which a metric says itself what it takes.
            if numbers != 1:
                check_labels(name, numbers, data.labels + offset)
    elif chosen is not None and any(how.label_offset for how in ways):
        raise DataError(f"{chosen.id} is not about classes, so there is no label offset; leave it "
                        "out.")
    if chosen is not None and data.y is None and chosen.needs_y:
        raise DataError(f"{chosen.id} needs labels or targets y, and {data.name} has none.")
    return Task(chosen, outputs, data.y, tuple(notes))


def metric_against_float(graph: Graph, output: str) -> Metric:
    """What examples without labels are scored by: the float file's answers take their place."""
    return AGREEMENT if ending(graph, output_port(graph, output)) == "SOFTMAX" else DIFFERENCE


def labels_of_float(metric: Metric, prediction: Array, outputs: Array) -> Array:
    """The float file's answers in the place of labels, refused where it has none."""
    labels = prediction if metric.classes else outputs
    missing = labels == NO_ANSWER if metric.classes else np.isnan(labels).reshape(
        len(labels), -1).any(axis=1)
    if bad := int(np.count_nonzero(missing)):
        raise DataError(f"without labels the float file's answers take their place, but it has "
                        f"none (NaN) for {bad:,} of {examples(len(labels))}; give labels y, mend "
                        "the file or leave these examples out.")
    return labels


def check_labels(name: str, classes: int | None, labels: Array) -> None:
    """Refuse labels that are no class of a file."""
    low, high = int(labels.min()), int(labels.max())
    if classes is not None and (low < 0 or high >= classes):
        raise DataError(f"labels run from {low} to {high}, but {name} has classes 0 to "
                        f"{classes - 1}; bridge them with --label-offset.")


# --- outputs -------------------------------------------------------------------------------------


def _outputs(
    graphs: Mapping[str, Graph], fed: Mapping[str, Arrays], output: str | None, data: Dataset,
    metric: Metric | None,
) -> tuple[dict[str, str], list[str]]:
    """The output that counts, by file."""
    ports = {name: {port.name: port for port in ports_of(graph).outputs}
             for name, graph in graphs.items()}
    for name, graph in graphs.items():
        if not graph.main.inputs or not ports[name]:
            raise ModelFileError(f"{name} ({graph.file}) has no input or no output, so there is "
                                 "nothing to score; give another file.")
    first, ours = next(iter(ports.items()))
    wanted = _named_output(first, list(ours.values()), output)
    whole = metric is not None and metric.all_outputs
    notes: list[str] = []
    if wanted is None and len(ours) > 1 and not whole:
        if data.y is not None:
            boxes = np.ndim(data.y) == 3 and np.shape(data.y)[2] == 5
            raise DataError(f"{first} has {len(ours)} outputs ({_listed(ours.values())}) and "
                            "nothing says which of them y is about; choose one with --output "
                            "(output=), by its name or position"
                            + (", or all with --metric map, if y holds boxes." if boxes else "."))
        notes.append(f"only the output {next(iter(ours))!r} is looked at; choose another with "
                     "--output.")
    name = wanted or next(iter(ours))
    found = {first: name}
    several = any(len(theirs) > 1 for theirs in ports.values())
    values = {file: _values(file, graphs[file], fed[file]) if several else None for file in graphs}
    for file, theirs in ports.items():
        if file == first:
            continue
        if len(ours) == len(theirs) == 1:
            # Classes may be counted otherwise.
            found[file] = next(iter(theirs))
            continue
        found[file], odd = _paired(name, first, ours, values[first], file, theirs, values[file])
        notes += [f"{file} against {first}: {text}" for text in odd]
    return found, notes


def _paired(
    name: str, first: str, ours: Mapping[str, Port], our_values: dict[str, Array] | None,
    file: str, theirs: Mapping[str, Port], their_values: dict[str, Array] | None,
) -> tuple[str, tuple[str, ...]]:
    """The output of a second file that is an output of the first."""
    pairs, odd = match_outputs(ours, theirs, our_values, their_values)
    if name not in pairs:
        raise DataError(f"{file} has no output that fits {name!r} {list(ours[name].shape[1:])} of "
                        f"{first}; it has {_listed(theirs.values())}.")
    return pairs[name], odd


def output_like(graph: Graph, name: str, made: Graph, x: Arrays) -> str:
    """The output of a file made from another one's network that is the output ``name`` of that."""
    ours, theirs = ({port.name: port for port in ports_of(one).outputs} for one in (graph, made))
    if len(theirs) == 1:
        return next(iter(theirs))
    files = Path(graph.file).name, Path(made.file).name
    return _paired(name, files[0], ours, _values(files[0], graph, x),
                   files[1], theirs, _values(files[1], made, x))[0]


def _values(file: str, graph: Graph, x: Arrays) -> dict[str, Array]:
    """Real values of all outputs on the first examples."""
    run = run_files({file: graph}, take(x, slice(min(_MATCHED, count(x)))))[file]
    return {name: run.real(name) for name in run.outputs}


def _named_output(file: str, ports: Sequence[Port], output: str | None) -> str | None:
    if output is None:
        return ports[0].name if len(ports) == 1 else None
    if output.isdecimal() and int(output) < len(ports):
        return ports[int(output)].name
    for port in ports:
        if output == port.name or output in port.aliases:
            return port.name
    raise unknown_name(f"output of {file}", output, [port.name for port in ports])


def output_port(graph: Graph, name: str) -> Port:
    """The output of that name."""
    return next(port for port in ports_of(graph).outputs if port.name == name)


def _listed(ports: Any) -> str:
    return ", ".join(f"{port.name!r} {list(port.shape[1:])}" for port in ports)


# --- metrics -------------------------------------------------------------------------------------


def _guess(
    file: str, graph: Graph, port: Port, data: Dataset
) -> tuple[Metric | None, str | None]:
    """The one metric that outputs and labels can mean, and why; or an error with the options."""
    numbers, core = _numbers(port), _core(port.shape)
    like_input = [_core(one.shape) for one in ports_of(graph).inputs] == [core]
    if data.y is None:
        if like_input and core:
            return named_metric("reconstruction"), (
                f"metric: reconstruction error, because {file} gives an output shaped like its "
                "input and there are no labels.")
        return None, None
    options: str
    if len(core) > 1:
        what = f"gives an array {list(port.shape[1:])} for an example"
        options = "anomaly-auc, mse" if like_input and data.num_classes else "miou, pixel-accuracy"
    elif numbers is not None and numbers > 1:
        ends = ending(graph, port)
        # A classifier may happen to have as many features as classes; it then uses all of them.
        unlike = like_input and ends != "SOFTMAX" and data.num_classes < numbers
        if data.num_classes and not unlike:
            return named_metric("accuracy"), None
        what = f"gives {numbers} numbers for an example"
        if unlike:
            what += ", as many as it takes (as an autoencoder does)"
            options = "anomaly-auc, accuracy"
        else:
            options = "f1, mae, mse, cosine"
    elif numbers is None:
        if data.num_classes:
            return named_metric("accuracy"), None
        what, options = "gives an output of open size", "mae, mse"
    elif ending(graph, port) == "LOGISTIC" and data.num_classes == 2:
        return named_metric("binary-accuracy"), (
            f"metric: accuracy at 0.5, because {file} ends in one sigmoid and labels are 0 and 1; "
            "auc and log-loss are others (--metric).")
    elif np.ndim(data.y) == 1 and data.y.dtype.kind == "f" and (data.y != np.round(data.y)).any():
        return named_metric("mae"), (
            f"metric: mean absolute error, because {file} gives one number and y is not whole; "
            "mse, relative-error and r2 are others (--metric).")
    else:
        what = "gives one number for an example"
        options = ("mae, r2, binary-accuracy@0, auc" if data.num_classes == 2 else "mae, mse, r2")
    said = f"labels 0 to {data.num_classes - 1}" if data.num_classes else (
        f"y of shape {list(np.shape(data.y))}")
    raise DataError(f"{file} {what} and the data hold {said}, which can be scored in more than one "
                    f"way; choose with --metric (metric=), such as {options}.")


def ending(graph: Graph, port: Port) -> str:
    """Code of the operator that makes an output's values, past those that only carry them."""
    subgraph = graph.subgraphs[ports_of(graph).subgraph]
    made = {index: op for op in subgraph.operators for index in op.outputs}
    index = port.tensor.index
    for _ in subgraph.operators:
        op = made.get(index)
        if op is None:
            return ""
        if op.code not in _PASSED:
            return str(op.code)
        index = op.inputs[0]
    return ""


def _core(shape: Sequence[int]) -> list[int]:
    return [size for size in shape[1:] if size != 1]


def _numbers(port: Port) -> int | None:
    """How many numbers an example has in an output; None where the graph leaves it open."""
    sizes = _core(port.shape)
    return None if any(size < 0 for size in sizes) else int(np.prod(sizes, dtype=np.int64))


def _only(x: Arrays, metric: Metric) -> Array:
    if not isinstance(x, Mapping):
        return x
    if len(x) == 1:
        return next(iter(x.values()))
    raise DataError(f"{metric.id} compares the output with the input, and there are {len(x)} "
                    "inputs.")
