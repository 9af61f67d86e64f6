"""Which layers the cost of quantization comes from: one at a time, and all but one."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from qinspect import store
from qinspect.data.dataset import Dataset, take
from qinspect.errors import ModelFileError, QinspectError, SpecError
from qinspect.measure.activations import ObservedRanges, observe_ranges, stored_ranges
from qinspect.measure.calibration_sets import CalibrationAdvice, calibration_advice
from qinspect.measure.error_metrics import error_metrics
from qinspect.measure.first_cut import FirstCut, first_cut, halves
from qinspect.measure.size_curve import Candidate, SizeCurve, size_curve, two_halves
from qinspect.metrics import ACCURACY, Metric
from qinspect.metrics.classes import same_class
from qinspect.predictions import Results
from qinspect.progress import Progress, late_progress, no_progress
from qinspect.schema import Array, Arrays
from qinspect.shown import Shown
from qinspect.tflite.ancestry import lineage
from qinspect.tflite.graph import Graph
from qinspect.tflite.inputs import Examples, Preprocessing, load_examples, prepare
from qinspect.tflite.match import match_graphs
from qinspect.tflite.read import read_graph
from qinspect.tflite.requantize import (
    PRECISIONS,
    Precision,
    QuantizableOperator,
    Ranges,
    quantizable_operators,
    quantize_file,
    recipe_of,
)
from qinspect.tflite.run import Evaluation, evaluate
from qinspect.tflite.runner import Model
from qinspect.tflite.sandbox import open_model
from qinspect.tflite.task import Task, labels_of_float, metric_against_float, task_of
from qinspect.verdicts import counted

# One row a layer and variant ("only" it quantized, "all_but" it), or a point of the curve ("keep");
# agreement: share of examples classified as the float file does.  Differences are to the float file
# and to the fully quantized one, in the unit of the metric; they and its score are NaN without
# labels, the agreement where outputs are no class scores.
SENSITIVITY = (
    "variant", "layer", "op", "kept", "bytes", "sqnr_db", "agreement", "score",
    "to_float", "to_float_low", "to_float_high", "to_float_p",
    "to_full", "to_full_low", "to_full_high", "to_full_p",
)
# Keys of JSON that hold points, and the columns they are of.
_IN_POINTS = {f"{name}_pp": name for name in SENSITIVITY
              if name.startswith("to_") and not name.endswith("_p")}


@dataclass(frozen=True)
class Variant:
    """One mixed-precision file, evaluated: output SQNR against the float file, classes (n,).

    ``scored`` is what the metric takes.
    """

    kind: Literal["float", "full", "only", "all_but", "keep"]
    layers: tuple[QuantizableOperator, ...]  # that `kind` speaks of
    bytes: int
    sqnr_db: float
    prediction: Array
    scored: Any
    order_db: float  # the same SQNR on the examples that choose


class MixedFiles:
    """Makes mixed-precision versions of one float file and evaluates them on the same examples."""

    def __init__(
        self,
        graph: Graph,
        ranges: Ranges,
        x: Arrays,
        *,
        precision: Precision = "int8",
        keep: Precision = "float32",
        task: Task | None = None,
        choose: Array | None = None,
        num_threads: int | None = None,
        show: Progress = no_progress,
    ) -> None:
        for option, value in (("precision", precision), ("keep", keep)):
            if value not in PRECISIONS:
                raise SpecError(f"{option} is {value!r}; choose one of {', '.join(PRECISIONS)}.")
        if precision == "float32" or keep == precision:
            raise SpecError(
                f"layers cannot be quantized to {precision} and kept as {keep}; choose int8 or "
                "int16x8, and another precision for those that are kept."
            )
        self.graph, self.ranges, self.x = graph, ranges, x
        self.precision, self.keep, self.num_threads = precision, keep, num_threads
        self.task, self.choose = task, slice(None) if choose is None else choose
        self.layers = quantizable_operators(graph, precision)
        if not self.layers:
            raise SpecError(f"{graph.file} has no layer that can be quantized to {precision}.")
        self._show, self._made = show, 0
        self._reference = self._evaluate(graph)
        self.float = self._variant("float", (), graph.content, self._reference)
        self.full = self._make("full", (), self.keep, self.precision)

    def one_at_a_time(self) -> list[Variant]:
        """For each layer two variants: "only" it quantized, and "all_but" it."""
        return [
            variant
            for layer in self.layers
            for variant in (self._make("only", (layer,), self.precision, "float32"),
                            self._make("all_but", (layer,), self.keep, self.precision))
        ]

    def keep_curve(self, order: Sequence[QuantizableOperator]) -> list[Variant]:
        """For k = 1, 2, ... the variant that keeps the first k layers of ``order``."""
        return [self._make("keep", tuple(order[:k]), self.keep, self.precision)
                for k in range(1, len(order) + 1)]

    def _make(
        self, kind: Any, layers: tuple[QuantizableOperator, ...], own: Precision, others: Precision
    ) -> Variant:
        # The fully quantized file, two of each layer, and the curve.
        total = 1 + 3 * len(self.layers)
        self._show("mixed files", self._made, total, ", ".join(layer.name for layer in layers[:1]))
        self._made += 1
        content = quantize_file(self.graph, self.ranges, others, dict.fromkeys(_at(layers), own))
        return self._variant(kind, layers, content, self._evaluate(content))

    def _evaluate(self, model: Model) -> Evaluation:
        # A mixed file has the outputs of the float one, under the same names.
        output = 0 if self.task is None else next(iter(self.task.outputs.values()))
        return evaluate(model, self.x, num_threads=self.num_threads, output=output)

    def _variant(
        self, kind: Any, layers: tuple[QuantizableOperator, ...], content: bytes, result: Evaluation
    ) -> Variant:
        sqnr, order = (error_metrics(self._reference.outputs[part], result.outputs[part])["sqnr_db"]
                       for part in (slice(None), self.choose))
        graph = self.graph if content is self.graph.content else read_graph(content)
        return Variant(kind, layers, len(content), sqnr, result.prediction,
                       self._scored(graph, result), order)

    def _scored(self, graph: Graph, result: Evaluation) -> Any:
        if self.task is None:
            return result.outputs
        return self.task.scored(next(iter(self.task.outputs)), graph, self.x, result)

    def scored(self, graph: Graph) -> Any:
        """What the metric takes of another file of this network."""
        return self._scored(graph, self._evaluate(graph))


def _at(layers: Sequence[QuantizableOperator]) -> list[int]:
    return [layer.index for layer in layers]


def sensitivity_order(variants: Sequence[Variant]) -> list[QuantizableOperator]:
    """Layers from the most to the least sensitive: by the output SQNR with only it quantized."""
    # On the examples that choose, so that the others can confirm what follows from the order.
    # "All but" is no use for this: a tensor that two layers share stays quantized when one of them
    # is kept, so neither seems to matter.
    alone = [v for v in variants if v.kind == "only"]
    return [v.layers[0] for v in sorted(alone, key=lambda v: v.order_db)]


@dataclass(frozen=True)
class Sensitivity(Shown):
    """What each layer costs, and what keeping the worst ones buys.

    Attributes
    ----------
    layers : DataFrame
        Columns ``SENSITIVITY``: the rows "float" and "full", then two rows a layer in the order of
        execution.
    curve : DataFrame
        Same columns: row k keeps the first k layers of ``order``; the row "full" (k = 0) first.
        With all layers kept the file's input and output are still integers.
    order : tuple of QuantizableOperator
        Layers from the most to the least sensitive.
    precision, keep : str
        Of quantized layers, and of those that are kept.
    n : int
        Examples.
    confidence : float
        Of the intervals, each on its own: they are not corrected for the number of layers.
    margin : float
        Loss that would matter, in the metric's unit.
    metric : Metric or None
        What outputs were scored by; None without labels.
    cut : FirstCut
        What the weights of the fully quantized file cost, and what its activations; without labels
        against the float file's own answers.
    advice : CalibrationAdvice or None
        How many calibration examples, and which; where it was asked for.
    sizes : SizeCurve or None
        Size against the metric, chosen on one half of the examples and confirmed on the other; None
        without labels.
    notes : tuple of str
        What the reader should know about how it was made.
    first : tuple of str
        What is said before any number: that a file gives no answer for some examples.
    """

    layers: pd.DataFrame = field(repr=False)
    curve: pd.DataFrame = field(repr=False)
    order: tuple[QuantizableOperator, ...]
    precision: Precision
    keep: Precision
    n: int
    confidence: float
    margin: float
    notes: tuple[str, ...]
    graph: Graph = field(repr=False)
    ranges: Ranges = field(repr=False)
    metric: Metric | None = ACCURACY
    cut: FirstCut | None = None
    advice: CalibrationAdvice | None = None
    sizes: SizeCurve | None = None
    first: tuple[str, ...] = ()

    @property
    def labelled(self) -> bool:
        """Whether the examples had labels."""
        return self.metric is not None

    @property
    def frame(self) -> pd.DataFrame:
        """Rows of the layers, then those of the curve."""
        return pd.concat([self.layers, self.curve.iloc[1:]], ignore_index=True)

    @property
    def sentence(self) -> str:
        """How many layers to keep."""
        return " ".join((*self.first, self._proposed))

    @property
    def _proposed(self) -> str:
        if not self.labelled:
            worst = f"{self.order[0].name} ({self.order[0].op})"
            return f"Without labels only outputs are compared; {worst} disturbs them most."
        level = f"{100 * self.confidence:g} % interval"
        margin = (self.metric or ACCURACY).limit(self.margin)
        kept = self.proposal()
        if kept is None:
            return (f"No point of the curve is shown to lose less than {margin} against float with "
                    f"{counted(self.n, 'example')}.")
        if kept == 0:
            return (f"No layer needs to be kept: with all of them in {self.precision} the loss "
                    f"against float is below {margin} ({level}).")
        return (f"Proposal: keep {counted(kept, 'layer')} in {self.keep}; the loss against float "
                f"is then below {margin} ({level}). It was chosen on these examples: confirm it on "
                "others.")

    def to_json(self) -> dict[str, Any]:
        """The same as ``qinspect sensitivity --json``; what is not defined is None."""
        found: dict[str, Any] = store.plain({
            "n": self.n, "precision": self.precision, "keep": self.keep,
            "confidence": self.confidence, "layers": self._rows(self.layers),
            "curve": self._rows(self.curve),
            "first_cut": None if self.cut is None else self.cut.to_json(),
            "calibration": None if self.advice is None else self.advice.to_json(),
            "sizes": None if self.sizes is None else self.sizes.to_json(),
            "order": [layer.name for layer in self.order],
            "proposal": self.proposal(), "margin": self.margin,
            "margin_pp": self.margin if self._unit == "points" else None, "notes": self.notes,
            "metric": None if self.metric is None else self.metric.id, "unit": self._unit,
            "direction": "higher" if self.metric is None else self.metric.direction,
        })
        return found

    def _rows(self, frame: pd.DataFrame) -> list[dict[str, Any]]:
        """Rows of JSON, which has keys of their own for points and accuracies."""
        right, points = self.metric is ACCURACY, self._unit == "points"
        return [{**{str(key): value for key, value in row.items()},
                 "accuracy": row["score"] if right else None,
                 **{key: row[name] if points else None for key, name in _IN_POINTS.items()}}
                for row in frame.to_dict("records")]

    @property
    def _unit(self) -> str:
        return "points" if self.metric is None else self.metric.unit

    def proposal(self, margin: float | None = None) -> int | None:
        """Fewest layers to keep so that the loss against float stays below a margin, or None."""
        # The first row of the curve whose interval stays above -margin.  It is chosen on the
        # examples it is judged by.
        margin = self.margin if margin is None else margin
        if not margin > 0:
            raise SpecError(f"the margin is {margin:g} {self._unit}; it must be above 0.")
        if self.metric is None:
            return None
        lower = self.metric.direction == "lower"
        worst = -self.curve["to_float_high"] if lower else self.curve["to_float_low"]
        good = np.flatnonzero((worst > -margin).to_numpy())
        return int(self.curve["kept"].iloc[good[0]]) if len(good) else None

    def mixed_file(self, kept: int) -> bytes:
        """The file of row ``kept`` of the curve."""
        return quantize_file(self.graph, self.ranges, self.precision, self._kept(kept))

    def _kept(self, kept: int) -> dict[int, Precision]:
        if not 0 <= kept <= len(self.order):
            raise SpecError(
                f"{kept} layers cannot be kept of {len(self.order)}; choose 0 to {len(self.order)}."
            )
        return dict.fromkeys(_at(self.order[:kept]), self.keep)

    def recipe(self, kept: int) -> list[dict[str, Any]]:
        """The recipe of row ``kept`` of the curve, as litert-quantizer loads it."""
        return recipe_of(self.graph, self.ranges.per_tensor, self.precision, self._kept(kept))

    def write_recipe(self, path: str | os.PathLike[str], kept: int | None = None) -> int:
        """Write the recipe (JSON) of the file that :meth:`write_mixed` writes; no ranges in it."""
        number = self._number(kept)
        store.write_json(Path(path), self.recipe(number))
        return number

    def write_mixed(self, path: str | os.PathLike[str], kept: int | None = None) -> int:
        """Write the file that keeps the ``kept`` most sensitive layers, or as many as proposed."""
        number = self._number(kept)
        store.write_bytes(Path(path), self.mixed_file(number))
        return number

    def _number(self, kept: int | None) -> int:
        number = self.proposal() if kept is None else kept
        if number is None:
            raise SpecError(
                "there is no proposal to write (no labels, or no point of the curve is good "
                "enough); say how many layers to keep with --keep."
            )
        return number


def sensitivity(
    float_file: str | os.PathLike[str] | Graph,
    data: Examples,
    *,
    calibration: Examples | None = None,
    like: str | os.PathLike[str] | Graph | None = None,
    precision: Precision = "int8",
    keep: Precision = "float32",
    preprocessing: Preprocessing | None = None,
    metric: Metric | str | None = None,
    output: str | None = None,
    confidence: float = 0.95,
    margin: float | None = None,
    advise: bool = False,
    seed: int = 0,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> Sensitivity:
    """Quantize one layer at a time, and all but one, from a float ``.tflite`` file alone.

    Parameters
    ----------
    float_file : path or Graph
        The float32 file; a path is first tried in a child process.
    data : path, Dataset, array or (x, y)
        Evaluation examples as the float model takes them, in groups where a data set has some;
        without labels only output SQNR and agreement are measured.
    calibration : path, Dataset or array, optional
        Calibration examples; ranges are their minimum and maximum.
    like : path or Graph, optional
        A quantized file; its stored ranges and weight granularity are used instead, and those of
        ``calibration`` only where it has none.
    precision : {"int8", "int16x8"}
        Of quantized layers.
    keep : {"float32", "int16x8"}
        Of layers kept from it.
    preprocessing : Preprocessing, optional
        Of both ``x``.
    confidence : float
        Level of the paired intervals.
    metric : Metric or str, optional
        What outputs are scored by; guessed where there is only one reading.
    output : str, optional
        Name or position of the output that counts, where the file has several.
    margin : float, optional
        Loss that would matter, in the metric's unit; of accuracy 1 point.
    advise : bool
        Calibrate with disjoint subsets of the calibration examples, too: how many are needed, and
        which set the ranges.  Without calibration examples a random half of ``data`` takes their
        place, and the other half is evaluated.
    seed : int
        Of all that is drawn.
    num_threads : int, optional
        Interpreters of each file side by side, of one thread each; one a core unless given.
    progress : callable, optional
        ``progress(phase, done, total, message)``; a terminal or notebook shows it unless given.

    Returns
    -------
    Sensitivity

    Raises
    ------
    SpecError
        If neither ``calibration`` nor ``like`` is given, or an option is not allowed.
    DataError
        If the examples or labels do not fit.
    ModelFileError
        If a file is not what it should be.

    Examples
    --------
    >>> found = sensitivity("float.tflite", "data.npz", like="int8.tflite")
    >>> found.curve["kept"].tolist()
    [0, 1, 2, 3, 4, 5]
    >>> found.write_mixed("mixed.tflite", kept=1)
    1
    """
    graph = open_model(float_file)
    quantized = None if like is None else open_model(like)
    how = preprocessing or Preprocessing()
    shown = [one for one in (quantized, graph) if one is not None]
    examples = load_examples(data, shown, [how] * len(shown))
    x, said = _real(examples.x, graph, quantized, how)
    observed, fed = None, None
    if calibration is not None:
        given = load_examples(calibration, shown, [how] * len(shown))
        fed = replace(given, x=_real(given.x, graph, quantized, how)[0])
        observed = observe_ranges(graph, fed.x, num_threads=num_threads)
    ranges, notes = _ranges(graph, observed, quantized)
    task = task_of({"float": graph}, {"float": x}, examples, metric=metric, output=output,
                   ways=[how])
    parts = two_halves(len(examples), examples.group, seed)
    show = progress or late_progress()
    files = MixedFiles(graph, ranges, x, precision=precision, keep=keep, task=task,
                       choose=parts[0], num_threads=num_threads, show=show)
    variants = [files.float, files.full, *files.one_at_a_time()]
    order = sensitivity_order(variants)
    results = None
    if task.metric is not None:
        y = examples.labels + how.label_offset if task.metric.classes else task.y
        results = Results(
            {"float": files.float.scored, "full": files.full.scored}, y, groups=examples.group,
            metric=task.metric, confidence=confidence, margin=margin,
        )

    paired = results or _unlabelled(files, task, confidence)

    def frame(found: list[Variant]) -> pd.DataFrame:
        rows = [_row(variant, files.float, results, classes=task.classes) for variant in found]
        return pd.DataFrame(rows, columns=list(SENSITIVITY))

    curve = [files.full, *files.keep_curve(order)]
    made = len(variants) + len(curve) - 2
    show("mixed files", made, made, f"{made} files made of {len(order)} layers")
    sizes, why = _sizes(files, results, curve, parts)
    return Sensitivity(
        frame(variants), frame(curve), tuple(order), precision,
        keep, len(examples), confidence, 1.0 if results is None else results.limit,
        (*examples.notes, *said, *notes, *task.notes, *why), graph, ranges, task.metric,
        _cut(files, paired),
        _advice(files, paired, fed, observed, examples.ids, parts, seed) if advise else None,
        sizes, paired.silent(paired.models),
    )


def _unlabelled(files: MixedFiles, task: Task, confidence: float) -> Results:
    """Results held against the float file's own answers."""
    metric = metric_against_float(files.graph, next(iter(task.outputs.values())))
    return Results({"float": files.float.scored, "full": files.full.scored},
                   labels_of_float(metric, files.float.prediction, files.float.scored),
                   metric=metric, confidence=confidence)


def _cut(files: MixedFiles, results: Results) -> FirstCut:
    """The fully quantized file, its weights and its activations apart."""
    full = read_graph(quantize_file(files.graph, files.ranges, files.precision))
    found = halves(files.graph, full, match_graphs(files.graph, full))
    return first_cut(results, "full", found, results.n, files.scored)


def _sizes(files: MixedFiles, results: Results | None, curve: list[Variant],
           parts: tuple[Array, Array]) -> tuple[SizeCurve | None, tuple[str, ...]]:
    """Size against the metric, or why it cannot be said."""
    if results is None:
        return None, ()
    found = [Candidate(len(v.layers), v.layers[-1].name if v.layers else "", v.bytes, v.scored)
             for v in curve]
    try:
        return size_curve(results, found, files.float.bytes, parts), ()
    except QinspectError as error:  # too few of one kind in a half, say
        return None, (f"size against the metric: {error}",)


def _advice(
    files: MixedFiles, results: Results, fed: Dataset | None, observed: ObservedRanges | None,
    ids: Array, parts: tuple[Array, Array], seed: int,
) -> CalibrationAdvice:
    """Advice on the calibration examples, or on half of the evaluated ones."""
    index = np.arange(results.n)
    x, names = (files.x, ids) if fed is None else (fed.x, fed.ids)
    if observed is None:
        own, index = parts
        x, names = take(x, own), ids[own]
        observed = observe_ranges(files.graph, x, num_threads=files.num_threads)

    def scored(ranges: Ranges) -> Any:
        content = quantize_file(files.graph, replace(files.ranges, bounds=ranges.bounds),
                                files.precision)
        return files.scored(read_graph(content))[index]

    part = results.take(index).with_outputs(full=scored(observed.over()))
    return calibration_advice(observed, x, names, take(files.x, index), part, scored, seed=seed)


def _real(x: Arrays, graph: Graph, quantized: Graph | None, how: Preprocessing
          ) -> tuple[Arrays, tuple[str, ...]]:
    """Examples as the float model takes them, checked against the quantized input, and notes."""
    real, notes = prepare(x, graph, how)
    if quantized is not None:
        prepare(real, quantized, Preprocessing())
    return real, notes


def _ranges(
    graph: Graph, observed: ObservedRanges | None, quantized: Graph | None
) -> tuple[Ranges, tuple[str, ...]]:
    """Ranges of a quantized file if there is one, else of calibration examples; and notes."""
    if quantized is None:
        if observed is None:
            raise SpecError(
                "ranges come from calibration examples or from a quantized file; give one of them."
            )
        return observed.over(), (
            f"ranges: minimum and maximum over {len(observed)} calibration examples.",
        )
    if lineage(graph, quantized).verdict == "unrelated":
        raise ModelFileError(
            f"{quantized.file} and {graph.file} are unrelated networks, so the ranges of one "
            "say nothing about the other."
        )
    ranges, borrowed = stored_ranges(
        graph, quantized, match_graphs(graph, quantized), observed.over() if observed else None
    )
    notes = [f"ranges and weight granularity: as stored in {quantized.file}."]
    if borrowed:
        notes.append(
            f"{len(borrowed)} tensors have no range there; theirs come from the calibration "
            f"examples: {', '.join(borrowed[:5])}{' and more' if len(borrowed) > 5 else ''}."
        )
    return ranges, tuple(notes)


def _row(
    variant: Variant, reference: Variant, results: Results | None, *, classes: bool
) -> dict[str, Any]:
    """A row of the frame: the variant paired with the float file and with the full one."""
    last = variant.layers[-1] if variant.layers else None
    row: dict[str, Any] = {
        "variant": variant.kind,
        "layer": last.name if last else "",
        "op": last.op if last else "",
        "kept": len(variant.layers) if variant.kind == "keep" else 0,
        "bytes": variant.bytes,
        "sqnr_db": variant.sqnr_db,
        "agreement": (float(same_class(variant.prediction, reference.prediction).mean()) if classes
                      else math.nan),
    }
    if results is not None:
        paired = results.with_outputs(variant=variant.scored)
        row["score"] = paired.value("variant")
        for name in ("float", "full"):
            c = paired.comparison(name, "variant")
            row |= {f"to_{name}": c.gap, f"to_{name}_low": c.interval[0],
                    f"to_{name}_high": c.interval[1], f"to_{name}_p": c.p}
    return row
