"""Recorded outputs of a file beside those that it gives here: what differs, and whether it can."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qinspect.affine import Affine
from qinspect.metrics.classes import same_class
from qinspect.schema import Array
from qinspect.stats.agreement import cohen_kappa
from qinspect.tflite.graph import Graph
from qinspect.tflite.ports import Port
from qinspect.tflite.recorded import Recording
from qinspect.tflite.run import Evaluation
from qinspect.verdicts import examples

# From which mean difference on, as a share of that to the outputs of other examples, outputs are no
# longer those of the same examples; from which on their order may be lost; and the share of rows
# that both must hold then.  Chosen.
_APART, _DISORDER, _SAME_ROWS = 0.8, 0.1, 0.9
# Outputs are those of another file where they are nearer to it by this factor, and as good as equal
# on this share of the examples; chosen.
_NEARER, _AS_EQUAL = 0.25, 0.9
# Classes alone say less: so alike must their numbers be where only their order is lost; chosen.
_SAME_COUNTS, _DISORDERED_CLASSES = 0.98, 0.5
# What int8 is apart from uint8, in steps.
_SIGN = 128
_ROWS = 2_000
# Units of a difference.
STEPS, REAL = "steps", "in the output's unit"
_PIECE = 1 << 20  # numbers
_OPEN = ("another order, other inputs, another file, or a device that computes an operator quite "
         "wrongly")


def in_steps(value: float, unit: str) -> str:
    """A difference with its unit."""
    said = f"{value:.3g}"
    return f"{said} {'step' if (said, unit) == ('1', STEPS) else unit}"


@dataclass(frozen=True)
class Beside:
    """Recorded outputs of a file beside its own, on the same examples.

    ``differ``: examples with any other output, ``largest`` by how much, in ``unit`` (both None
    where classes alone were recorded); ``flips``: examples of another class, None where outputs
    are no scores of classes.  ``unlike``: what shows that they are not this file's outputs of
    these examples; ``unrelated``: that they have nothing to do with these, which a wrong feeding
    and a device that fails alike may bring about.  Both are empty where nothing shows it.
    """

    n: int
    differ: int | None
    largest: float | None
    unit: str
    flips: int | None
    unlike: str = ""
    unrelated: str = ""

    @property
    def most(self) -> str:
        """The largest difference with its unit; empty where classes alone were recorded."""
        if self.largest is None:
            return ""
        return in_steps(self.largest, self.unit)

    @property
    def sentence(self) -> str:
        """What differs, in numbers."""
        if self.unlike or self.unrelated:
            return f"the recorded outputs {self.unlike or self.unrelated}."
        said = []
        if self.flips is not None:
            said.append(f"{self.flips:,} of {self.n:,} predictions differ between the recording "
                        "and the file run here")
        if self.differ is not None and self.largest is not None:
            by = f", by up to {self.most}" if self.largest else ""
            said.append(f"outputs of {self.differ:,} of {examples(self.n)} differ{by}")
        return f"{'; '.join(said)}."


def step_of(graph: Graph, port: Port) -> Affine | None:
    """The grid that an output's values lie on, also where they are handed out as floats."""
    tensor = port.tensor
    for op in graph.main.operators:
        if op.code == "DEQUANTIZE" and tensor.index in op.outputs:
            tensor = graph.main.tensors[op.inputs[0]]
            break
    affine = None if tensor.constant else tensor.affine
    return affine if affine is not None and affine.scale.size == 1 else None


def beside(
    recording: Recording, own: Evaluation, graph: Graph, port: Port, *, classes: bool,
    others: Mapping[str, Evaluation] | None = None,
) -> Beside:
    """Hold a recording against the file's own outputs; ``others``: those of other files."""
    n = len(own.raw)
    flips = (int(n - np.count_nonzero(same_class(recording.prediction, own.prediction)))
             if classes else None)
    affine = step_of(graph, port)
    differ, largest = None, None
    if recording.result is not None:
        step = 1.0 if affine is None else float(affine.scale[0])
        differ, largest = _gap(recording.result.outputs, own.outputs)
        largest /= step
    some = np.linspace(0, n - 1, min(n, _ROWS)).astype(int)
    unlike = unrelated = ""
    if recording.same_file is False:
        unlike = "are those of another file, by its checksum"
    elif recording.labels:
        unlike = "are the labels of the examples, not what a file gave"
    elif differ != 0 and n > 1:
        near = {name: one.take(some) for name, one in (others or {}).items()}
        if recording.result is not None:
            unlike, unrelated = _unlike(recording.result.take(some), own.take(some), near, affine,
                                        classes)
        else:
            unlike, unrelated = _unlike_classes(recording.prediction[some], own.take(some), near)
    return Beside(n, differ, largest, REAL if affine is None else STEPS, flips, unlike, unrelated)


def _gap(given: Array, own: Array) -> tuple[int, float]:
    """Examples with any other value, and the largest difference of finite ones."""
    differ, largest = 0, 0.0
    length = max(1, _PIECE // max(1, own[0].size))
    for start in range(0, len(own), length):
        a, b = (one[start : start + length].reshape(-1, own[0].size).astype(np.float64)
                for one in (given, own))
        other = (a != b) & ~(np.isnan(a) & np.isnan(b))
        differ += int(np.count_nonzero(other.any(axis=1)))
        with np.errstate(invalid="ignore"):
            gap = np.abs(a - b)[other]
        largest = max(largest, float(gap[np.isfinite(gap)].max(initial=0)))
    return differ, largest


def _unlike(given: Evaluation, own: Evaluation, others: Mapping[str, Evaluation],
            affine: Affine | None, classes: bool) -> tuple[str, str]:
    """What shows that outputs are others, and what only that they are unrelated."""
    rows, here = (_rows(one) for one in (given, own))
    finite = np.asarray(np.isfinite(rows).all(axis=1) & np.isfinite(here).all(axis=1))
    if not finite.any():
        return "", "are NaN or infinite for every example"
    rows, here = rows[finite], here[finite]
    if len(rows) > 1 and (rows == rows[0]).all() and (here != here[0]).any():
        return "", ("are the same for every example: nothing was computed from the inputs, or one "
                    "output was copied over and over")
    mean = float(np.abs(rows - here).mean())
    step = float(affine.scale[0]) if affine is not None else 1e-3 * float(here.std())
    for name, other in others.items():
        theirs = _rows(other)
        if theirs.shape != (len(finite), rows.shape[1]):
            continue
        gap = np.abs(rows - theirs[finite])
        if (gap.mean() < _NEARER * mean
                and (gap <= step * 1.001).all(axis=1).mean() >= _AS_EQUAL):
            return f"are those of {name}, not of this file", ""
    if affine is not None and (np.abs(np.abs(rows - here) / step - _SIGN) < 0.5).all(
            axis=1).mean() >= _AS_EQUAL:
        return (f"are the file's own, {_SIGN} steps apart: int8 was taken for uint8, or the zero "
                "point of the one for that of the other"), ""
    mixed = np.random.default_rng(0).permutation(len(here))
    spread = float(np.abs(here - here[mixed]).mean())
    apart = mean / spread if spread else 0.0
    both = _in_common(given.outputs[finite], own.outputs[finite])
    place = float((rows == here).all(axis=1).mean())
    if apart > _DISORDER and both >= _SAME_ROWS and place < _SAME_ROWS * both:
        return (f"are those of the file for {100 * both:.0f} % of the examples, but at other "
                f"examples (in place are {100 * place:.0f} %): their order was lost"), ""
    if apart > _APART and classes and cohen_kappa(given.prediction, own.prediction) > _APART:
        same = np.mean(same_class(given.prediction, own.prediction))
        return "", (f"have other values than the file's own, yet the same class for "
                    f"{100 * same:.0f} % of the examples: logits for probabilities, say, or "
                    "another scale")
    if apart > _APART:
        return "", (f"have no more to do with the file's own than with those of other examples "
                    f"(mean difference {mean:.3g}, to other examples {spread:.3g}): {_OPEN}")
    return "", ""


def _rows(one: Evaluation) -> Array:
    return one.outputs.reshape(len(one.outputs), -1).astype(np.float64)


def _in_common(a: Array, b: Array) -> float:
    """Share of rows that are in both, each as often as it is in both."""
    counts: list[dict[bytes, int]] = []
    for rows in (a, b):
        count: dict[bytes, int] = {}
        for row in rows:
            key = row.tobytes()
            count[key] = count.get(key, 0) + 1
        counts.append(count)
    return sum(min(times, counts[1].get(key, 0)) for key, times in counts[0].items()) / len(a)


def _unlike_classes(given: Array, own: Evaluation, others: Mapping[str, Evaluation]
                    ) -> tuple[str, str]:
    """The same of classes alone."""
    here = own.prediction
    same = float(np.mean(given == here))
    for name, other in others.items():
        theirs = float(np.mean(given == other.prediction))
        if 1 - theirs < _NEARER * (1 - same):
            return f"are those of {name}, not of this file", ""
    apart = given - here
    if (offset := int(np.median(apart))) and (
            np.mean(apart == offset) >= _AS_EQUAL and (here != here[0]).any()):
        return (f"are the file's own class {offset:+d} for "
                f"{100 * np.mean(apart == offset):.0f} % of the examples: classes are numbered "
                "otherwise"), ""
    if (given == given[0]).all() and (here != here[0]).any():
        return "", f"are class {given[0]} for every example"
    top = int(max(given.max(), here.max())) + 2
    counts = [np.bincount(one + 1, minlength=top) for one in (given, here)]
    alike = np.minimum(*counts).sum() / len(here)
    kappa = cohen_kappa(given, here)
    if alike >= _SAME_COUNTS and kappa < _DISORDERED_CLASSES:
        return (f"are the file's for {100 * same:.0f} % of the examples, yet each class occurs as "
                "often as in its own: their order was lost"), ""
    if kappa < 1 - _APART:
        return "", (f"agree with the file's own for {100 * same:.0f} % of the examples, hardly "
                    f"more than by chance: {_OPEN}")
    return "", ""
