"""Models compared on the same examples: identity, lineage, accuracy, layers, kernels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qinspect.data.dataset import Dataset, take
from qinspect.data.sources import Source
from qinspect.data.streams import stream
from qinspect.errors import SpecError
from qinspect.families import Comparisons
from qinspect.measure.error_metrics import output_sqnr
from qinspect.measure.kernels import MOST, kernel_row, seconds_for
from qinspect.measure.layer_tables import EXAMPLES, Layers, layer_tables
from qinspect.measure.local import float_file, layer_rows
from qinspect.measure.remarks import (
    Scored,
    answer_remarks,
    chance_remarks,
    float_worst,
    output_remarks,
    unit_remarks,
)
from qinspect.measure.scales import scale_table
from qinspect.metrics import ACCURACY, Metric
from qinspect.metrics.classes import NO_ANSWER, same_class
from qinspect.predictions import Results, results
from qinspect.progress import Progress, late_progress
from qinspect.schema import Array, Arrays
from qinspect.shown import Shown
from qinspect.stats.agreement import cohen_kappa
from qinspect.store import plain, records
from qinspect.tflite import inspect_file, match_graphs, read_graph, scheme_of
from qinspect.tflite.ancestry import lineage
from qinspect.tflite.beside import Beside, beside
from qinspect.tflite.graph import Graph
from qinspect.tflite.identity import identify
from qinspect.tflite.inputs import (
    Preprocessing,
    file_names,
    load_examples,
    prepare,
    prepare_all,
    stored_input,
)
from qinspect.tflite.origin import origin_of
from qinspect.tflite.ports import ports_of
from qinspect.tflite.recorded import Place, Recording, by_model, read_recorded, recorded_name
from qinspect.tflite.remarks import Remark
from qinspect.tflite.run import Evaluation
from qinspect.tflite.runner import state_of
from qinspect.tflite.sandbox import open_model
from qinspect.tflite.task import Task, output_port, task_of

# Reference kernels and layer by layer errors cost far more than running the files.
DETAIL_EXAMPLES = 256
# Of large networks so many activations, of so many examples at least.
_VALUES = 5e8
_FEWEST = 16
# Examples that are named where two files score differently by more or less.
_LARGEST = 20


@dataclass(frozen=True)
class _Recorded:
    """What one file gave elsewhere on the same examples, beside its own outputs."""

    found: Recording
    scored: Any
    seen: Beside


@dataclass(frozen=True)
class _Model:
    """One file on the examples."""

    name: str
    path: Path
    graph: Graph
    how: Preprocessing
    x: Arrays
    y: Array | None
    result: Evaluation
    scored: Any
    recorded: _Recorded | None = None

    @property
    def answered(self) -> Array:
        """The classes as the labels number them."""
        return self.numbered(self.result.prediction)

    def numbered(self, found: Array) -> Array:
        """Classes as the labels number them; those before the first label stay below -1."""
        moved = found - self.how.label_offset
        moved = np.where(moved < 0, moved - 1, moved)
        return np.where(found == NO_ANSWER, NO_ANSWER, moved)

    @property
    def correct(self) -> Array:
        assert self.y is not None
        return np.asarray(self.result.prediction == self.y)


@dataclass(frozen=True)
class FileComparison(Shown):
    """What ``compare`` says of ``.tflite`` files on the same examples.

    Attributes
    ----------
    numbers : dict
        n, labelled, names, notes; files : as ``inspect --json``, with ``name``, and with labels
        ``score`` (of accuracy ``accuracy``); comparisons : every pair, or those with
        the reference (empty without labels);
        cochran_q : for three files or more; agreement : share of equal classes and output SQNR (dB;
        None where outputs are equal or have other shapes) of every pair; flips : ids of examples
        that only one gets right (without labels: that they classify differently; of scores that are
        not right or wrong, those with the largest differences); lineage : every pair; layers :
        local and accumulated error of each layer against the first float file; recipes : scales
        side by side, for files that are both quantized; kernels : default against reference
        kernels; ties : examples whose greatest output is reached by several classes, and the
        accuracy if all of them went well or badly; recorded : of each file with recorded outputs
        these beside its own (differ, largest, flips, unlike); remarks : what should be heard
        unasked (id, sentence, numbers, file).  Fit for JSON.
    comparisons : Comparisons or None
        Every pair's accuracies; None without labels.
    files : tuple of path
    data : path or Dataset
    preprocessing : tuple of Preprocessing
    """

    numbers: dict[str, Any] = field(repr=False)
    comparisons: Comparisons | None
    files: tuple[str | os.PathLike[str], ...]
    data: str | os.PathLike[str] | Source | Dataset
    preprocessing: tuple[Preprocessing, ...]

    @property
    def frame(self) -> pd.DataFrame:
        """One row a pair: accuracies where there are labels, else agreement of the outputs."""
        if self.comparisons is not None:
            return self.comparisons.frame
        return pd.DataFrame(self.numbers["agreement"])

    @property
    def sentence(self) -> str:
        """Verdicts, or how often the files agree."""
        if self.comparisons is not None:
            return self.comparisons.sentence
        same = [f"{row['a']} and {row['b']} give the same class for {100 * row['agreement']:.2f} %"
                for row in self.numbers["agreement"] if row["agreement"] is not None]
        first = [f"{row['file']}: {row['sentence']} " for row in self.numbers["remarks"]
                 if row["id"] in ("input-units", "no-answer")]
        return ("".join(first) + ("; ".join(same) or "the outputs cannot be compared")
                + f" of {self.numbers['n']:,}.")

    def to_json(self) -> dict[str, Any]:
        """The same as ``qinspect compare --json``."""
        return self.numbers

    def layers(self, examples: int = EXAMPLES) -> Layers | None:
        """Layers of the first float file and of those after it that take the same units.

        Measured on the first examples; None where there is no float file.
        """
        names = self.numbers["names"]
        graphs = {name: read_graph(file) for name, file in zip(names, self.files, strict=True)}
        ways = dict(zip(names, self.preprocessing, strict=True))
        first = float_file(graphs)
        if first is None:
            return None
        chosen = [first, *(name for name in names if name != first and ways[name] == ways[first])]
        some = take(load_examples(
            self.data, list(graphs.values()), self.preprocessing).x, slice(examples))
        x, _ = prepare(some, graphs[first], ways[first])
        return layer_tables({name: graphs[name] for name in chosen}, x)


def compare(
    what: Any, data: str | os.PathLike[str] | Source | Dataset | None = None,
    calibration: str | os.PathLike[str] | None = None, *,
    preprocessing: Sequence[Preprocessing] | None = None,
    recorded: Mapping[str, Place] | None = None,
    reference: str | os.PathLike[str] | None = None,
    metric: Metric | str | None = None, output: str | None = None, sequence: bool = False,
    confidence: float = 0.95, margin: float | None = None, margin_relative: float | None = None,
    non_inferior: bool = False, seed: int = 0, detail_examples: int = DETAIL_EXAMPLES,
    num_threads: int | None = None, by_class: bool = False, progress: Progress | None = None,
) -> Comparisons | FileComparison:
    """Compare models on the same examples: their predictions, or ``.tflite`` files and all of them.

    Parameters
    ----------
    what : Results, or what ``results`` takes, or a sequence of ``.tflite`` paths
        Files need ``data``.
    data : path or Dataset, optional
        ``.npz`` with ``x`` and, if known, ``y`` (and ``id``, ``group``), or anything else that
        :class:`qinspect.data.Source` reads.
    calibration : path, optional
        ``.npz`` with ``x``: its ranges are set beside the stored ones.
    preprocessing : sequence of Preprocessing, optional
        What to do to ``x`` and ``y`` for each file.
    recorded : mapping of file to path or array, optional
        Outputs of a file that were recorded elsewhere for the same examples, by its name: one more
        model, ``"<file>, recorded"``, in every comparison, and what differs from the file's own.
        See ``docs/device.md`` for the forms.
    reference : str or path, optional
        Compare all others with this model or file instead of every pair.
    metric : Metric or str, optional
        What outputs are scored by, as :func:`qinspect.metrics.metric` names it; guessed for files
        where there is only one reading, accuracy for predictions.
    output : str, optional
        Of files with several outputs, the name or position of the one that counts in the first;
        it is found in the others by name, shape and values.
    sequence : bool
        Whether examples follow each other, so that a file's state is kept from one to the next.
    confidence, margin, margin_relative, non_inferior, seed
        Level of the intervals, difference that would matter in the metric's unit (of accuracy 1)
        or relative, what is asked, seed; as :func:`qinspect.results` takes them.  Those that
        ``Results`` carry already count for them.
    detail_examples : int
        Leading examples for the errors of layers (fewer of large networks), and as many random ones
        at most for reference kernels, at least 1.
    num_threads : int, optional
        Interpreters of each file side by side, of one thread each; one a core unless given.
    by_class : bool
        Tell each pair class by class as well.
    progress : callable, optional
        Of files: ``progress(phase, done, total, message)``; a terminal or notebook shows it unless
        given.

    Returns
    -------
    Comparisons or FileComparison

    Raises
    ------
    DataError, SpecError, ModelFileError
        When examples, options or files do not fit.

    Examples
    --------
    >>> y = np.arange(300) % 10
    >>> compare({"ptq": np.where(y == 3, 0, y), "qat": y}, y).pair("ptq", "qat").verdict
    'b_better'
    """
    if recorded and (isinstance(what, Results | Mapping) or data is None):
        raise SpecError("recorded outputs stand beside .tflite files that are run here; give the "
                        "files and data, or make the recording one of the models.")
    if isinstance(what, Results):
        return what.compare(reference=_name(reference), by_class=by_class)
    if data is None or isinstance(what, Mapping):
        found = results(what, data, metric=metric, confidence=confidence, margin=margin, seed=seed,
                        margin_relative=margin_relative, non_inferior=non_inferior)
        return found.compare(reference=_name(reference), by_class=by_class)
    files = list(what)
    ways = list(preprocessing or [Preprocessing()] * len(files))
    report, pairs = _of_files(
        files, data, calibration, ways, recorded=recorded, reference=reference, metric=metric,
        output=output, sequence=sequence, detail_examples=detail_examples, num_threads=num_threads,
        by_class=by_class, show=progress or late_progress(),
        options={"confidence": confidence, "margin": margin, "margin_relative": margin_relative,
                 "non_inferior": non_inferior, "seed": seed})
    return FileComparison(report, pairs, tuple(files), data, tuple(ways))


def _name(reference: str | os.PathLike[str] | None) -> str | None:
    return None if reference is None else os.fspath(reference)


def _reference_of(
    reference: str | os.PathLike[str] | None, files: Sequence[str | os.PathLike[str]],
    names: Sequence[str],
) -> str | None:
    """The name of the file that all others are compared with."""
    if reference is None or os.fspath(reference) in names:
        return _name(reference)
    for file, name in zip(files, names, strict=True):
        if Path(file).resolve() == Path(reference).resolve():
            return name
    raise SpecError(f"the reference {os.fspath(reference)} is none of the files compared; choose "
                    f"one of {', '.join(os.fspath(file) for file in files)}.")


def _of_files(
    files: Sequence[str | os.PathLike[str]], data: str | os.PathLike[str] | Source | Dataset,
    calibration: str | os.PathLike[str] | None, hows: Sequence[Preprocessing], *,
    recorded: Mapping[str, Place] | None, reference: str | os.PathLike[str] | None,
    metric: Metric | str | None, output: str | None,
    sequence: bool, detail_examples: int, num_threads: int | None, by_class: bool,
    show: Progress, options: dict[str, Any],
) -> tuple[dict[str, Any], Comparisons | None]:
    """The report of a :class:`FileComparison` as plain data, and the comparisons behind it."""
    if len(files) < 2:
        raise SpecError(f"{len(files)} file was given; a comparison needs two or more.")
    if detail_examples < 1:
        raise SpecError(f"detail_examples is {detail_examples}; choose at least 1.")
    if len(hows) != len(files):
        raise SpecError(f"there are {len(files)} files but {len(hows)} preprocessings.")
    names, wanted = file_names(files), detail_examples
    against, places = _reference_of(reference, files, names), by_model(recorded, names)
    graphs = {name: open_model(file) for name, file in zip(names, files, strict=True)}
    examples = load_examples(data, list(graphs.values()), hows)
    fed, said = prepare_all(examples.x, graphs, hows)
    notes = [*examples.notes, *said]
    units = unit_remarks(graphs, fed, lambda name: identify(graphs[name]).origin.value)
    first = tuple(remark.line for remark in units)
    task = task_of(graphs, fed, examples, metric=metric, output=output, ways=hows)
    notes += task.notes
    models = []
    ran = task.run(
        graphs, fed, num_threads=num_threads, sequence=sequence,
        progress=lambda done, total: show("1/3 outputs", done, total, f"{len(graphs)} files"))
    for (name, graph), file, how in zip(graphs.items(), files, hows, strict=True):
        result, scored = ran[name]
        notes += [f"{name}: {note}" for note in result.notes]
        y = examples.y
        if task.metric is not None and task.metric.classes:
            y = examples.labels + how.label_offset
        models.append(_Model(name, Path(file), graph, how, fed[name], y, result, scored))
    models = [replace(m, recorded=_recorded(m, places[m.name], models, task, examples))
              if m.name in places else m for m in models]
    notes += [m.recorded.found.said for m in models if m.recorded]

    detail_examples = _affordable(graphs.values(), detail_examples)
    head = slice(0, detail_examples)
    calibration_x = (None if calibration is None
                     else load_examples(calibration, list(graphs.values()), hows).x)
    compared = None
    if task.metric is not None:
        compared = _compared(models, examples, task.metric, against, by_class,
                             {**options, "first": first})
    kernels = _kernel_rows(models, examples.ids, task, wanted, sequence=sequence,
                           seed=options["seed"], num_threads=num_threads, show=show)
    notes += [f"{row['file']}: {row['said']}" for row in kernels if row["said"]]
    layers, missing = layer_rows(
        [(m.name, m.graph, take(m.x, head), m.how) for m in models], calibration_x,
        num_threads=num_threads, show=show,
    )
    notes += missing
    x = examples.x
    if (not isinstance(x, Mapping) and x.dtype.kind in "iu"
            and not any(_takes_integers(m) for m in models)):
        notes.append(
            f"x holds integers from {x.min()} to {x.max()}, and every file takes "
            "floats, so nothing shows whether they are in the units the files expect."
        )
    if compared is None:
        notes.append("there are no labels, so only agreement and outputs are compared.")
    report = plain(
        {
            "n": len(examples),
            "labelled": compared is not None,
            "names": names,
            "files": [_file_row(m, compared) for m in models],
            "recorded": [_recorded_row(m, m.recorded, compared) for m in models if m.recorded],
            "comparisons": [one.to_json() for one in compared or ()],
            "cochran_q": compared and compared.cochran_q,
            "calibration": _calibration(models, task),
            "classes": (compared.classes.to_dict("records")
                        if compared is not None and compared.by_class else []),
            "agreement": [_agreement(a, b, task) for a, b in combinations(models, 2)],
            "flips": [_flips(a, b, examples.ids, task, compared)
                      for a, b in combinations(models, 2)],
            "lineage": [
                {**asdict(lineage(a.graph, b.graph)), "a": a.name, "b": b.name}
                for a, b in combinations(models, 2)
            ],
            "layers": layers,
            "recipes": _recipe_rows([(m.name, m.graph) for m in models]),
            "kernels": kernels,
            "ties": [_ties(m, examples.ids, task) for m in models],
            "remarks": [asdict(remark) for remark in (*units, *_remarks(models, compared, task))],
            "detail_examples": min(detail_examples, len(examples)),
            "notes": [note for note in dict.fromkeys(notes) if note not in first],
        }
    )
    return report, compared


def _recorded(
    model: _Model, place: Place, models: Sequence[_Model], task: Task, data: Dataset
) -> _Recorded:
    """What was recorded of a file, beside its own outputs and those of the other files."""
    found = read_recorded(place, model.name, model.graph, task, model.result, data)
    others = {one.name: one.result for one in models if one.name != model.name}
    port = output_port(model.graph, task.outputs[model.name])
    seen = beside(found, model.result, model.graph, port,
                  classes=task.classes and model.result.scores_of_classes, others=others)
    return _Recorded(found, found.scored(task, model.name, model.graph, model.x), seen)


def _affordable(graphs: Iterable[Graph], most: int) -> int:
    """Examples whose activations can be compared in reasonable time."""
    widest = max(sum(np.prod(np.maximum(t.shape, 1), dtype=np.float64)
                     for t in graph.main.tensors if not t.constant) for graph in graphs)
    return min(most, max(_FEWEST, int(_VALUES / max(1.0, widest))))


def _recipe_rows(models: Sequence[tuple[str, Graph]]) -> list[dict[str, Any]]:
    """How each two quantized files quantize the same layers, see ``measure.scale_table``."""
    quantized = [(name, graph) for name, graph in models if scheme_of(graph) != "float32"]
    rows: list[dict[str, Any]] = []
    for (a, first), (b, second) in combinations(quantized, 2):
        table = scale_table(first, second, match_graphs(first, second))
        rows += [{"a": a, "b": b, **row} for row in records(table)]
    return rows


def _kernel_rows(
    models: list[_Model], ids: Array, task: Task, most: int, *, sequence: bool, seed: int,
    num_threads: int | None, show: Progress,
) -> list[dict[str, Any]]:
    """Reference kernels of every file on the same random examples."""
    order = stream(seed, "kernels").permutation(len(ids))[: min(most, MOST)]
    seconds = seconds_for(m.result for m in models)
    usual = {m.name: m.result for m in models}
    if sequence:
        # Some of the examples are no sequence; each is run for itself by either kernels.
        kept = [m for m in models if state_of(m.graph)]
        again = task.run({m.name: m.graph for m in kept}, {m.name: m.x for m in kept},
                         num_threads=num_threads) if kept else {}
        usual |= {name: result for name, (result, _) in again.items()}
    rows = []
    for done, m in enumerate(models):
        show("2/3 reference kernels", done, len(models), m.name)
        rows.append(kernel_row(m.name, m.graph, m.x, m.y, ids, task=task, usual=usual[m.name],
                               order=order, seconds=seconds, num_threads=num_threads))
    show("2/3 reference kernels", len(models), len(models), f"{len(models)} files")
    return rows


def _remarks(models: list[_Model], compared: Comparisons | None, task: Task) -> list[Remark]:
    """What files, outputs and accuracies tell unasked."""
    chosen = {m.name: next(port.tensor.index for port in ports_of(m.graph).outputs
                           if port.name == task.outputs[m.name]) for m in models}
    first = next((m for m in models if scheme_of(m.graph) == "float32"), None)
    found = [remark for m in models for remark in output_remarks(
        m.graph, m.result.outputs, None if first in (m, None) else first.result.outputs, m.name,
        m.graph.main.outputs.index(chosen[m.name]))]
    found = [*answer_remarks({m.name: m.result.prediction for m in models if task.classes}), *found]
    if compared is None:
        return found
    if compared.results.metric is ACCURACY:
        found += chance_remarks({m.name: Scored(m.result.prediction, m.y, m.result.raw[0].size,
                                                m.how.label_offset)
                                 for m in models if m.y is not None})
    names = {m.name for m in models}
    pairs = [c for c in compared if {c.a, c.b} <= names]
    if first is not None and sum(first.name in (c.a, c.b) for c in pairs) == len(models) - 1:
        trained = [m.name for m in models
                   if origin_of(m.graph, scheme_of(m.graph)).value == "qat"]
        found += float_worst(pairs, first.name, trained)
    return found


def _takes_integers(model: _Model) -> bool:
    changed = (model.how.scale, model.how.offset) != (1.0, 0.0)
    main = model.graph.main
    return changed or stored_input(model.graph, main.tensors[main.inputs[0]])[0].dtype != "float32"


def _compared(
    models: list[_Model], examples: Dataset, metric: Metric, reference: str | None, by_class: bool,
    options: dict[str, Any],
) -> Comparisons:
    y, outputs = examples.y, dict[str, Any]()
    for m in models:
        # Classes may be numbered differently; what counts is the same class.
        outputs[m.name] = m.answered if metric is ACCURACY else m.scored
        if m.recorded:
            outputs[recorded_name(m.name)] = (m.numbered(m.recorded.found.prediction)
                                              if metric is ACCURACY else m.recorded.scored)
    if metric is not ACCURACY:
        offsets = {m.how.label_offset for m in models}
        if len(offsets) > 1:
            raise SpecError(f"{metric.id} needs one numbering of the classes; give all files the "
                            "same label offset.")
        if metric.classes:
            y = examples.labels + offsets.pop()
    return Results(outputs, y, examples.ids, examples.group, metric=metric,
                   **options).compare(reference=reference, by_class=by_class)


def _file_row(model: _Model, compared: Comparisons | None) -> dict[str, Any]:
    return {"name": model.name, **inspect_file(model.path), **_worth(model.name, compared)}


def _worth(name: str, compared: Comparisons | None) -> dict[str, Any]:
    """The metric of a model, in the columns of ``files``."""
    value, interval, metric = None, None, ACCURACY
    if compared is not None:
        metric = compared.results.metric
        value = compared.results.value(name)
        interval = list(compared.results.value_interval(name))
    right = metric is ACCURACY
    return {"accuracy": value if right else None, "accuracy_ci": interval if right else None,
            "score": value, "score_ci": interval, "metric": metric.id}


def _recorded_row(model: _Model, held: _Recorded, compared: Comparisons | None) -> dict[str, Any]:
    name = recorded_name(model.name)
    return {"file": model.name, "name": name, **_worth(name, compared), **asdict(held.seen),
            "most": held.seen.most, "said": held.found.said,
            "sentence": f"{model.name}: {held.seen.sentence}"}


def _agreement(a: _Model, b: _Model, task: Task) -> dict[str, Any]:
    # Classes may be numbered differently; what counts is the same class.
    said = [a.answered, b.answered]
    same, all_answer = same_class(*said), not any((one == NO_ANSWER).any() for one in said)
    comparable = task.classes and a.result.scores_of_classes and b.result.scores_of_classes
    return {
        "a": a.name,
        "b": b.name,
        "agreement": float(same.mean()) if comparable else None,
        "churn": float(1 - same.mean()) if comparable else None,
        "kappa": cohen_kappa(*said) if comparable and all_answer else None,
        "output_sqnr_db": output_sqnr(a.result.outputs, b.result.outputs),
        "outputs_equal": np.array_equal(a.result.outputs, b.result.outputs),
    }


def _calibration(models: list[_Model], task: Task) -> list[dict[str, Any]]:
    """Calibration error and Brier score of the files that give probabilities of classes."""
    rows: list[dict[str, Any]] = []
    for model in models:
        if model.y is not None and task.metric is ACCURACY and model.result.scores_of_classes:
            found = Results({model.name: model.result.outputs}, model.y)
            rows += plain(found.calibration.to_dict("records"))
    return rows


def _flips(
    a: _Model, b: _Model, ids: Array, task: Task, compared: Comparisons | None
) -> dict[str, Any]:
    row: dict[str, Any] = {"a": a.name, "b": b.name}
    if compared is None:
        if not (a.result.scores_of_classes and b.result.scores_of_classes):
            return row
        return {**row, "differ": ids[~same_class(a.answered, b.answered)]}
    found = compared.results
    if found.metric.kind == "set":
        return row
    sides = {side: ids[found.flips(a.name, b.name, side)["index"].to_numpy()]
             for side in ("a", "b")}
    if found.right_or_wrong:
        return {**row, "only_a": sides["a"], "only_b": sides["b"]}
    return {**row, "better_a": sides["a"][:_LARGEST], "better_b": sides["b"][:_LARGEST]}


def _ties(model: _Model, ids: Array, task: Task) -> dict[str, Any]:
    comparable = task.classes and model.result.scores_of_classes
    tied = model.result.tied if comparable else np.zeros(len(ids), dtype=bool)
    row: dict[str, Any] = {
        "file": model.name,
        "tied": int(tied.sum()),
        "share": float(tied.mean()),
        "ids": ids[tied],
        "accuracy": None,
        "accuracy_worst": None,
        "accuracy_best": None,
    }
    if model.y is not None and task.metric is ACCURACY:
        raw = model.result.raw.reshape(len(ids), -1)
        reached = raw[np.arange(len(ids)), model.y] == raw.max(axis=1)
        row["accuracy"] = float(model.correct.mean())
        row["accuracy_best"] = float((model.correct | (tied & reached)).mean())
        row["accuracy_worst"] = float((model.correct & ~tied).mean())
    return row
