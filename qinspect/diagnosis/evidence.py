"""Evidence that several rules share, measured once and only when somebody asks for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from qinspect.data.dataset import Dataset, count, take
from qinspect.data.streams import stream
from qinspect.diagnosis.cases import Case
from qinspect.errors import ModelFileError, QinspectError
from qinspect.families import Comparisons
from qinspect.measure.activations import (
    ObservedRanges,
    activation_statistics,
    observe_ranges,
    stored_ranges,
)
from qinspect.measure.debugger import read_debugger
from qinspect.measure.first_cut import like, stored_weights
from qinspect.measure.remarks import output_remarks
from qinspect.measure.weights import weight_errors
from qinspect.metrics import ACCURACY, AGREEMENT, Metric
from qinspect.predictions import Results
from qinspect.schema import Array, Arrays
from qinspect.stats import Comparison
from qinspect.tflite import evaluate, match_graphs
from qinspect.tflite.ancestry import Lineage, lineage
from qinspect.tflite.beside import Beside, beside
from qinspect.tflite.graph import Graph
from qinspect.tflite.identity import Identification, identify
from qinspect.tflite.match import GraphMatch
from qinspect.tflite.read import read_graph
from qinspect.tflite.recorded import Recording, read_recorded
from qinspect.tflite.remarks import FIXED_RANGE, Remark
from qinspect.tflite.requantize import Ranges
from qinspect.tflite.run import Evaluation
from qinspect.tflite.runner import Model
from qinspect.tflite.task import Task, output_like, output_port, task_of

T = TypeVar("T")

# Stored range against the range seen: wider by this factor is one bit; chosen.
WIDE_RATIO = 2.0
OWN_EXAMPLES = 256
# What lineage says of one network; clipped or corrected biases make no other.
SAME_WEIGHTS = frozenset({"same weights", "same weights, different biases"})
# Schemes of files that store ranges of activations.
WITH_RANGES = frozenset({"int8", "uint8", "int16x8", "mixed"})
_RANGE_EXAMPLES = 1_000
# One row a tensor: ``kind`` is "input" or "activation"; ends stored and seen (widened to hold 0);
# ``ratio`` of the stored width to the one seen, ``bits_lost`` its base-2 logarithm; share of
# examples that leave the stored range by more than one stored step.
RANGES = ("tensor", "kind", "stored_low", "stored_high", "low", "high", "ratio", "bits_lost",
          "beyond_share")


class Evidence:
    """A case and everything measured on it so far; ``num_threads`` side by side."""

    def __init__(self, case: Case, num_threads: int | None = None) -> None:
        self.case = case
        self.num_threads = num_threads
        self._kept: dict[tuple[Any, ...], Any] = {}

    def once(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        """The value under ``key``, made at the first call."""
        if key not in self._kept:
            self._kept[key] = make()
        found: T = self._kept[key]
        return found

    def knows(self, key: tuple[Any, ...]) -> bool:
        """Whether the value under ``key`` was made."""
        return key in self._kept

    def rng(self, number: int) -> np.random.Generator:
        """A generator that depends on the case's seed and the number alone."""
        return stream(self.case.seed, "evidence", number)

    # --- files ------------------------------------------------------------------------------

    def graph(self, role: str) -> Graph:
        """The file of a role; an error if there is none."""
        graph = self.case.graph(role)
        if graph is None:
            raise ModelFileError(f"the case has no {role} file.")
        return graph

    def identification(self, role: str) -> Identification:
        """What the file of a role is."""
        return self.once(("identify", role), lambda: identify(self.graph(role)))

    def lineage(self, a: str, b: str) -> Lineage:
        """Whether two files are one network."""
        return self.once(("lineage", a, b), lambda: lineage(self.graph(a), self.graph(b)))

    def match(self, a: str, b: str) -> GraphMatch:
        """Operators of two files that do the same."""
        return self.once(("match", a, b), lambda: match_graphs(self.graph(a), self.graph(b)))

    def weights(self, role: str) -> pd.DataFrame:
        """Errors of the weights of a quantized file against the float file, a row a channel."""
        return self.once(
            ("weights", role),
            lambda: weight_errors(
                self.graph("float"), self.graph(role), self.match("float", role)
            ),
        )

    # --- predictions ------------------------------------------------------------------------

    @property
    def data(self) -> Dataset:
        """The evaluation examples."""
        assert self.case.data is not None
        return self.case.data

    def evaluation(self, role: str) -> Evaluation:
        """The file of a role, run correctly on the evaluation examples."""
        return self.once(
            ("evaluate", role), lambda: evaluate(
                self.graph(role), self.data.x, num_threads=self.num_threads,
                output=self.task.outputs[role])
        )

    def output_remarks(self, role: str) -> tuple[Remark, ...]:
        """What the outputs of a file tell unasked, beside those of the float file."""
        return self.once(("output remarks", role), lambda: self._output_remarks(role))

    def _output_remarks(self, role: str) -> tuple[Remark, ...]:
        graph, reference = self.graph(role), None
        if role != "float" and "float" in self.case.roles:
            with suppress(QinspectError):  # every rule that needs the file says why it fails
                reference = self.evaluation("float").outputs
        return output_remarks(graph, self.evaluation(role).outputs, reference, role,
                              self.output_number(role))

    def output_number(self, role: str) -> int:
        """Number of the output that is scored, among those of the file."""
        graph = self.graph(role)
        port = output_port(graph, self.task.outputs[role])
        return graph.main.outputs.index(port.tensor.index)

    def run(self, model: Model, x: Arrays) -> Evaluation:
        """Any file of this network on any examples."""
        graph = model if isinstance(model, Graph) else read_graph(model)
        first = self.case.roles[0]
        output = output_like(self.graph(first), self.task.outputs[first], graph, x)
        return evaluate(graph, x, num_threads=self.num_threads, output=output)

    # --- what is scored ---------------------------------------------------------------------

    @property
    def task(self) -> Task:
        """Metric and output that the files are scored by."""
        graphs = {role: self.graph(role) for role in self.case.roles}
        return self.once(("task",), lambda: task_of(
            graphs, dict.fromkeys(graphs, self.data.x), self.data, metric=self.case.metric,
            output=self.case.output))

    @property
    def metric(self) -> Metric:
        """What the files are scored by."""
        assert self.task.metric is not None
        return self.task.metric

    @property
    def suffix(self) -> str:
        """End of the name of a number that is in the metric's unit."""
        return "_pp" if self.metric.unit == "points" else ""

    @property
    def of_classes(self) -> bool:
        """Whether each example has one class, which is right or wrong."""
        return self.metric in (ACCURACY, AGREEMENT)

    def answers(self, model: Model, index: Array | None = None) -> Any:
        """What of a file's outputs on evaluation examples is scored: of accuracy the classes."""
        return self.answers_to(model, self.data.x if index is None else take(self.data.x, index))

    def answers_to(self, model: Model, x: Arrays) -> Any:
        """The same when a file is given other inputs in the place of evaluation examples."""
        graph = model if isinstance(model, Graph) else read_graph(model)
        return self._answers(graph, x, self.run(graph, x))

    def own_answers(self, role: str) -> Any:
        """The same of the file of a role, when it is run correctly."""
        return self.once(("answers", role), lambda: self._answers(
            self.graph(role), self.data.x, self.evaluation(role)))

    def _answers(self, graph: Graph, x: Arrays, result: Evaluation) -> Any:
        return result.prediction if self.of_classes else self.task.scored("file", graph, x, result)

    # --- what was recorded elsewhere --------------------------------------------------------

    def recording(self, role: str) -> Recording:
        """What was recorded of the file of a role elsewhere."""
        return self.once(("recorded", role), lambda: read_recorded(
            self.case.recorded[role], role, self.graph(role), self.task, self.evaluation(role),
            self.data))

    def beside(self, role: str) -> Beside:
        """The same held against the file's own outputs, and those of the other files."""
        port = output_port(self.graph(role), self.task.outputs[role])
        others = [other for other in self.case.roles if other != role]
        return self.once(("beside", role), lambda: beside(
            self.recording(role), self.evaluation(role), self.graph(role), port,
            classes=self.of_classes, others={other: self.evaluation(other) for other in others}))

    def debugger(self, role: str) -> pd.DataFrame:
        """What LiteRT's accuracy debugger found in the file of a role, columns ``DEVICE``."""
        return self.once(("debugger", role), lambda: read_debugger(
            Path(self.case.debugger[role]), self.graph(role))[0])

    def recorded_answers(self, role: str) -> Any:
        """What of recorded outputs is scored: of accuracy the classes."""
        found = self.recording(role)
        return found.prediction if self.of_classes else found.scored(
            self.task, role, self.graph(role), self.data.x)

    def scorable(self, answers: Any, index: Array | None = None) -> Any:
        """Answers as results take them: of accuracy, which evaluation examples are right."""
        if not self.of_classes:
            return answers
        y = self.data.labels if index is None else self.data.labels[index]
        return np.asarray(answers == y)

    def claim_pairs(self, role: str) -> bool:
        """Whether there is a claim for the role with one prediction for each example."""
        claim = self.case.claims.get(role)
        return (claim is not None and self.of_classes
                and len(claim.prediction) == len(self.data))

    def put(self, role: str) -> Any:
        """What counts in the puzzle as it was put: what was recorded, or claimed.

        The claim is scored as whoever made it did: against its own labels if it has any, else
        by position.
        """
        if role in self.case.recorded:
            return self.scorable(self.recorded_answers(role))
        if not self.claim_pairs(role):
            return self.scorable(self.own_answers(role))
        claim = self.case.claims[role]
        y = self.data.labels if claim.y is None else claim.y
        return np.asarray(claim.prediction == y)

    def results(self, *, own: bool = False) -> Results:
        """The files' results, as the puzzle was put or as they are when run correctly."""
        case = self.case

        def entry(role: str) -> Any:
            return self.scorable(self.own_answers(role)) if own else self.put(role)

        return self.once(("results", own), lambda: Results(
            {role: entry(role) for role in case.roles}, self.data.y, self.data.ids,
            self.data.group, metric=self.metric, confidence=case.confidence, margin=case.margin,
            seed=case.seed))

    def comparison(self, a: str, b: str, *, own: bool = False) -> Comparison:
        """Paired comparison b - a; those with float are corrected together."""
        return self.once(("compared", own),
                         lambda: self._compared(self.results(own=own))).pair(a, b)

    def comparison_of(self, index: Array, a: str, b: str) -> Comparison:
        """The same on some of the evaluation examples."""
        return self._compared(self.results().take(index)).pair(a, b)

    def _compared(self, results: Results) -> Comparisons:
        families = []
        if {"ptq", "qat"} <= set(results.models):
            families.append(results.compare([("ptq", "qat")]))
        if "float" in results.models:
            families.append(results.compare(reference="float"))
        return sum(families[1:], families[0])

    # --- ranges -----------------------------------------------------------------------------

    def examples(self, source: str) -> Arrays:
        """Examples of ``evaluation``, ``calibration`` or ``train``, a random part of many."""
        if source == "calibration":
            assert self.case.calibration_x is not None
            return self.case.calibration_x
        x = self.data.x if source == "evaluation" else self.case.train.x  # type: ignore[union-attr]
        if count(x) <= _RANGE_EXAMPLES:
            return x
        chosen = self.rng(1).choice(count(x), _RANGE_EXAMPLES, replace=False)
        return take(x, np.sort(chosen))

    def observed(self, source: str, weights: str = "float") -> ObservedRanges:
        """Ranges of the float network's activations for each example, with a file's weights."""
        graph = self.in_float(weights)
        whose = "float" if graph is self.graph("float") else weights
        return self.once(
            ("observed", source, whose),
            lambda: observe_ranges(graph, self.examples(source), num_threads=self.num_threads),
        )

    def in_float(self, role: str) -> Graph:
        """The float network with the weights of a file: the float file where they are its own."""
        return self.once(("in float", role), lambda: self._in_float(role))

    def _in_float(self, role: str) -> Graph:
        graph = self.graph("float")
        if role == "float" or self.lineage("float", role).verdict in SAME_WEIGHTS:
            return graph
        return self.holding(role)

    def holding(self, role: str) -> Graph:
        """The float network with all constants that a quantized file stores in their place.

        An error where the two files do not have the same layers.
        """
        graph = self.graph("float")
        return like(graph, stored_weights(graph, self.graph(role), self.match("float", role)))

    def calibrated_tensors(self, role: str) -> dict[str, tuple[float, float]]:
        """Stored ranges of a quantized file by the name of the float file's tensor.

        Outputs whose range the format fixes (softmax and the like) are left out.
        """
        return self.once(("calibrated", role), lambda: self._calibrated(role))

    def one_scale(self, role: str) -> frozenset[int]:
        """The float file's operators whose weights have one scale in a quantized file."""
        return self._stored(role)[0].per_tensor

    def _stored(self, role: str) -> tuple[Ranges, tuple[str, ...]]:
        return self.once(("stored", role), lambda: stored_ranges(
            self.graph("float"), self.graph(role), self.match("float", role),
            self.observed("evaluation").over()))

    def _calibrated(self, role: str) -> dict[str, tuple[float, float]]:
        graph = self.graph("float")
        ranges, borrowed = self._stored(role)
        fixed = {
            graph.main.tensors[i].name
            for op in graph.main.operators
            if op.code in FIXED_RANGE
            for i in op.outputs
        }
        skipped = fixed | set(borrowed)
        return {name: ends for name, ends in ranges.bounds.items() if name not in skipped}

    def input_name(self) -> str:
        """Name of the float file's input tensor."""
        main = self.graph("float").main
        return main.tensors[main.inputs[0]].name

    def ranges(self, role: str, source: str) -> pd.DataFrame:
        """Stored ranges of a file against what flows in float with its weights: ``RANGES``."""
        return self.once(("ranges", role, source), lambda: self._ranges(role, source))

    def _ranges(self, role: str, source: str) -> pd.DataFrame:
        seen = self.observed(source, role)
        stored = self.calibrated_tensors(role)
        # Activations of 16 bits have no zero point, by design.
        symmetric = self.identification(role).scheme == "int16x8"
        rows = []
        for at, name in enumerate(seen.names):
            if name not in stored:
                continue
            low, high = min(0.0, float(seen.low[:, at].min())), float(seen.high[:, at].max())
            high = max(0.0, high)
            first, last = stored[name]
            if symmetric:
                low, high = min(low, -high), max(high, -low)
            if high - low <= 0 or last - first <= 0:
                continue
            step = (last - first) / 255
            beyond = (seen.low[:, at] < first - step) | (seen.high[:, at] > last + step)
            ratio = (last - first) / (high - low)
            kind = "input" if name == self.input_name() else "activation"
            rows.append((name, kind, first, last, low, high, ratio, float(np.log2(ratio)),
                         float(beyond.mean())))
        return pd.DataFrame(rows, columns=list(RANGES))

    def own_activations(self, role: str) -> pd.DataFrame:
        """``schema.TENSORS`` of a quantized file's own activations on some evaluation examples.

        Inputs and outputs whose range the format fixes are left out, as are float tensors.
        """
        return self.once(("own", role), lambda: self._own(role))

    def _own(self, role: str) -> pd.DataFrame:
        graph = self.graph(role)
        found = activation_statistics(
            graph, take(self.data.x, slice(OWN_EXAMPLES)), num_threads=self.num_threads
        ).tensors
        moved = {
            i
            for op in graph.main.operators
            if op.code not in FIXED_RANGE and op.code not in ("QUANTIZE", "DEQUANTIZE")
            for i in op.outputs
        }
        kept = found["stored_min"].notna() & found["index"].isin(moved)
        return found[kept].reset_index(drop=True)
