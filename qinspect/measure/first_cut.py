"""The first cut: what the quantized weights of a file cost, and what its activations, each alone.

The file's stored weights are computed with in float, and the float weights with the file's stored
activation grids; both together in float arithmetic are the control that nothing else is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from qinspect import store
from qinspect.errors import ModelFileError, QinspectError
from qinspect.measure.activations import same_tensors
from qinspect.predictions import Results
from qinspect.schema import Array
from qinspect.stats import Comparison
from qinspect.tflite.ancestry import lineage
from qinspect.tflite.constants import constant_source, dequantized, producers_of, weights_of
from qinspect.tflite.graph import Graph, Operator, Tensor
from qinspect.tflite.match import GraphMatch
from qinspect.tflite.read import read_graph
from qinspect.tflite.requantize import check_float, replace_constants, round_activations

# Models of the results that a cut is made from, beside "float" and the file.
PARTS = {"weights": "its weights, float activations",
         "activations": "its activations, float weights",
         "together": "both, in float arithmetic"}
# One row a part, and the file: difference to float with its interval; ``share`` of the file's own
# difference, where that is real and the weights are those of the float file.
CUT = ("part", "title", "value", "to_float", "low", "high", "p", "share")
_NAMES = {"ptq": "PTQ", "qat": "QAT", "full": "the fully quantized file"}
# Multiply-accumulates for which a file is run, and the fewest and the most examples; chosen.
_WORK, _FEWEST, _MOST = 1e10, 200, 2_000


@dataclass(frozen=True)
class Halves:
    """A float network with the weights of a quantized file, with its activations, with both."""

    graphs: Mapping[str, Graph]  # by PARTS; what cannot be made is missing, and a note says why
    trained: bool  # the file's weights were trained on, not only rounded
    notes: tuple[str, ...]


def halves(graph: Graph, quantized: Graph, matched: GraphMatch) -> Halves:
    """Take the weights and the activations of a quantized file apart."""
    made: dict[str, Graph] = {}
    notes: list[str] = []
    try:
        check_float(graph)
        related = lineage(graph, quantized).verdict
        if related == "unrelated":
            raise ModelFileError("it is another network than the float file.")
        made["weights"] = like(graph, stored_weights(graph, quantized, matched))
    except QinspectError as error:
        return apart(error)
    trained = related == "fine-tuned from"
    grids: dict[int, Tensor] = {}
    for a, b in same_tensors(graph, quantized, matched):
        if quantized.main.tensors[b].stored_range is not None:
            grids.setdefault(a, quantized.main.tensors[b])
    if not grids:
        notes.append("the file stores no activations as integers, so only its weights are tried.")
    else:
        whole = {"together": made["weights"]} if trained else {
            "activations": graph, "together": made["weights"]}
        made |= {part: like(one, round_activations(one, grids)) for part, one in whole.items()}
    if trained:
        notes.append("its weights were trained on, so what rounding them cost is not in the file; "
                     "only its activations are tried.")
    return Halves(made, trained, tuple(notes))


def apart(error: QinspectError) -> Halves:
    """Nothing to cut, and why."""
    return Halves({}, False, (f"weights and activations cannot be told apart: {error}",))


def like(graph: Graph, content: bytes) -> Graph:
    """A file made from another one: with its name, and run where that is run."""
    return replace(read_graph(content), file=graph.file, guarded=graph.guarded)


def stored_weights(graph: Graph, quantized: Graph, matched: GraphMatch) -> bytes:
    """The float file with the constants of a quantized one in their place."""
    makers = producers_of(quantized.main)
    values: dict[int, Array] = {}
    for pair in matched.pairs:
        ours, theirs = graph.main.operators[pair.a], quantized.main.operators[pair.b]
        folded = [op for op in pair.absorbed_a if _reads_constants(graph, op)]
        if folded:
            raise ModelFileError(f"{pair.layer} holds in its weights what the float file computes "
                                 "on its own.")
        for at, index in enumerate(ours.inputs):
            if index < 0 or not _stored_floats(graph, index):
                continue
            other = theirs.inputs[at] if at < len(theirs.inputs) else -1
            found = constant_source(quantized.main, other, makers)
            if found is None or found[0].shape != graph.main.tensors[index].shape:
                raise ModelFileError(f"a constant of {pair.layer} has no counterpart.")
            values[index] = dequantized(quantized, found[0])
    left = [w for w in weights_of(graph.main) if w.tensor.index not in values]
    if left or len(graph.subgraphs) > 1:
        which = left[0].tensor.name if left else "other parts of the network"
        raise ModelFileError(f"the weights of {which!r} have no counterpart.")
    return replace_constants(graph, values)


def _stored_floats(graph: Graph, index: int) -> bool:
    tensor = graph.main.tensors[index]
    return tensor.constant and tensor.dtype == "float32"


def _reads_constants(graph: Graph, op: int) -> bool:
    operator: Operator = graph.main.operators[op]
    return any(i >= 0 and _stored_floats(graph, i) for i in operator.inputs)


def enough(graph: Graph) -> int:
    """How many examples a cut takes: fewer the more a network computes."""
    work = 0.0
    for weight in weights_of(graph.main):
        made = graph.main.tensors[weight.operator.outputs[0]].shape
        channels = max(1, made[-1]) if made else 1
        work += float(np.prod((*made, *weight.tensor.shape), dtype=float)) / channels
    return int(np.clip(_WORK / max(work, 1.0), _FEWEST, _MOST))


@dataclass(frozen=True)
class FirstCut:
    """What the weights of a file cost with float activations, and the other way round.

    ``loss``: the file minus float; ``parts``: of those of PARTS that could be made, minus float;
    ``between``: activations minus weights; ``rest``: the file minus the nearest thing in float
    arithmetic; ``back``: the file minus its own weights with float activations.  All are paired,
    on ``loss.n`` of ``total`` examples, each at its own level.
    """

    file: str
    loss: Comparison
    parts: tuple[Comparison, ...]
    between: Comparison | None
    rest: Comparison | None
    back: Comparison | None
    total: int
    trained: bool
    notes: tuple[str, ...]

    @property
    def frame(self) -> pd.DataFrame:
        """One row a part, then the file, columns ``CUT``."""
        shares = self.loss.significant and not self.trained
        titles = {**PARTS, self.file: "the file itself"}
        rows = [(c.b, titles[c.b], c.value_b, c.gap, *c.interval, c.p_single,
                 c.gap / self.loss.gap if shares else np.nan) for c in (*self.parts, self.loss)]
        return pd.DataFrame(rows, columns=list(CUT))

    @property
    def sentence(self) -> str:
        """Which of the two costs the metric, in words."""
        return _words(self)

    def to_json(self) -> dict[str, Any]:
        """The same as plain data; what is not defined is None."""
        metric = self.loss.metric
        found: dict[str, Any] = store.plain({
            "file": self.file, "metric": metric.id, "unit": metric.unit,
            "direction": metric.direction, "n": self.loss.n, "of": self.total,
            "confidence": self.loss.confidence, "loss_significant": self.loss.significant,
            "trained": self.trained, "parts": self.frame.to_dict("records"),
            "activations_minus_weights": _ends(self.between), "rest": _ends(self.rest),
            "file_minus_weights": _ends(self.back), "sentence": self.sentence,
            "notes": list(self.notes),
        })
        return found


def _ends(c: Comparison | None) -> dict[str, Any] | None:
    return None if c is None else {"gap": c.gap, "interval": list(c.interval), "p": c.p_single,
                                   "significant": c.significant}


def first_cut(results: Results, file: str, found: Halves, total: int,
              scored: Callable[[Graph], Any]) -> FirstCut:
    """Run the halves of a file and compare; ``scored``: what of a file the metric takes."""
    notes, answers = list(found.notes), {}
    for part, graph in found.graphs.items():
        try:
            answers[part] = scored(graph)
        except QinspectError as error:
            notes.append(f"{PARTS[part]}: {error}")
    results, made = results.with_outputs(**answers), list(answers)
    shown = [part for part in made if not found.trained]
    both = {"weights", "activations"} <= set(made)
    return FirstCut(
        file, results.comparison("float", file),
        tuple(results.comparison("float", part) for part in shown),
        results.comparison("weights", "activations") if both else None,
        results.comparison(made[-1], file) if made else None,
        results.comparison("weights", file) if "weights" in made else None,
        total, found.trained, tuple(notes),
    )


def _words(cut: FirstCut) -> str:
    loss, metric = cut.loss, cut.loss.metric
    name = _NAMES[cut.file]
    some = "" if loss.n == cut.total else f", {loss.n:,} of {cut.total:,} examples"

    if cut.back is None:
        return f"First cut of {name}: {' '.join(cut.notes)}"
    head = f"First cut of {name}{some}:"
    if cut.trained:
        said = (f"{head} against its own trained weights with float activations, its activations "
                f"alone make it {_moved(cut.back)}{metric.of}")
        said += ("" if cut.back.significant else ", which may be chance") + "."
    else:
        said = f"{head} {_shared(cut)}"
    if cut.rest is not None and cut.rest.significant and abs(cut.rest.gap) >= cut.rest.margin:
        said += (f" What lies in neither makes it {_moved(cut.rest)}: integer arithmetic, kernels, "
                 "activations quantized while running, or layers without a counterpart.")
    return said


def _moved(c: Comparison) -> str:
    """What b is beside a, such as ``worse by 4.20 points [2.10, 6.30]``."""
    better, _, by = c.metric.lead("a", "b", c.gap, c.interval)
    return f"{'better' if better == 'b' else 'worse'} by {by}"


def _shared(cut: FirstCut) -> str:
    loss, parts = cut.loss, {c.b: c for c in cut.parts}

    def of(part: str) -> str:
        gap = parts[part].gap
        share = f", {100 * gap / loss.gap + 0.0:.0f} % of it" if loss.significant else ""
        return f"{_moved(parts[part])}{share}"

    head = (f"it is {_moved(loss)}{loss.metric.of} than float" if loss.significant else
            f"no difference to float is shown (it is {_moved(loss)}{loss.metric.of})")
    said = f"{head}; its weights alone make it {of('weights')}"
    if "activations" not in parts:
        return f"{said}."
    said += f", its activations alone {of('activations')}"
    if not loss.significant:
        return f"{said}."
    assert cut.between is not None
    if not cut.between.significant:
        return f"{said}; which of the two matters more is not shown."
    larger = max(("weights", "activations"), key=lambda part: parts[part].gap / loss.gap)
    return f"{said}: the {larger} matter more."
