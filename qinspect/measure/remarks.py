"""What outputs on data tell that people should hear, and nobody asked: a sentence each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from qinspect.errors import DataError
from qinspect.metrics.classes import NO_ANSWER
from qinspect.schema import Array, Arrays
from qinspect.stats import Comparison
from qinspect.stats.exact import binomial_cdf
from qinspect.tflite.constants import producers_of
from qinspect.tflite.graph import Graph
from qinspect.tflite.inputs import input_fit
from qinspect.tflite.remarks import FIXED_RANGE, Remark, file_remarks, stored_output
from qinspect.verdicts import no_answer, p_words

# Values at an end of the stored range are told from this share on; chosen.
_STUCK_SHARE = 0.01
# Of fewer examples nothing is known about what a part of an output may hold; chosen.
_FEWEST = 10
# Accuracy is near chance where guessing as well is not rarer than this; the usual level.
_CHANCE = 0.05
# Another numbering is proposed only where it cannot be luck; chosen.
_SURE = 0.001


def output_remarks(
    graph: Graph, outputs: Array, reference: Array | None = None, file: str | None = None,
    output: int = 0,
) -> tuple[Remark, ...]:
    """Values stuck at an end of the stored range, and parts of an output below one step.

    ``outputs`` are real values (n, ...) of a file, ``reference`` those of the float file on the
    same examples; ``file`` is what the file is called.
    """
    main = graph.main
    found = stored_output(main, producers_of(main), main.outputs[output])
    told = file_remarks(graph, file)
    if found is None or (found[1] is not None and found[1].code in FIXED_RANGE):
        return told
    stored, made = found
    if reference is not None and reference.shape != outputs.shape:
        reference = None
    low, high = stored.stored_range or (0.0, 0.0)
    step = float(stored.quantization.scale[0])  # type: ignore[union-attr]
    bounded = made is not None and made.activation != "NONE"
    stuck = _stuck(outputs, reference, (low, high), step, bounded, file)
    if reference is not None and not any(remark.numbers["output"] == output for remark in told):
        told = (*told, *_below_step(outputs, reference, step, file, output))
    return (*told, *stuck)


def _stuck(
    outputs: Array, reference: Array | None, ends: tuple[float, float], step: float,
    bounded: bool, file: str | None,
) -> tuple[Remark, ...]:
    low, high = ends
    at_low, at_high = outputs <= low + step / 2, outputs >= high - step / 2
    if reference is not None:
        # What the float file puts there, too, is not cut off.
        at_low &= (reference < low - step) & np.isfinite(reference)
        at_high &= (reference > high + step) & np.isfinite(reference)
    else:
        # Zero, and the ends of a ReLU6, are where values may well pile up.
        at_low &= low != 0 and not bounded
        at_high &= high != 0 and not bounded
    share = float(np.mean(at_low | at_high))
    if share < _STUCK_SHARE or np.count_nonzero(at_low | at_high) < 2:
        return ()
    numbers = {"share": share, "share_low": float(at_low.mean()), "low": low, "high": high,
               "share_high": float(at_high.mean()), "reference_low": None, "reference_high": None}
    said = (f"{100 * share:.1f} % of its output values are stuck at an end of the stored range "
            f"({low:.4g} to {high:.4g})")
    if reference is not None:
        finite = reference[np.isfinite(reference)]
        least, most = float(finite.min()), float(finite.max())
        numbers |= {"reference_low": least, "reference_high": most}
        said += f", where the float file gives values from {least:.4g} to {most:.4g}"
    return (Remark("stuck-output", f"{said}: the range is too narrow and cuts them off.", numbers,
                   file),)


def _below_step(
    outputs: Array, reference: Array, step: float, file: str | None, output: int
) -> tuple[Remark, ...]:
    if len(outputs) < _FEWEST:
        return ()
    for axis in range(outputs.ndim - 1, 0, -1):
        others = tuple(i for i in range(outputs.ndim) if i != axis)
        width = np.ptp(reference, axis=others)
        lost = (width > 0) & (width < step) & (np.ptp(outputs, axis=others) < 1.5 * step)
        if not lost.any() or lost.all():
            continue
        at = np.flatnonzero(lost)
        part = reference.take(at, axis)
        low, high = float(part.min()), float(part.max())
        return (Remark(
            "below-step",
            f"entries {_spans(at)} of axis {axis} of its output lie within {low:.4g} to {high:.4g} "
            f"in the float file, and each varies by less than one step ({step:.4g}) of the scale "
            "that it shares with the rest, so one or two values are left of it. Convert the model "
            "with an output of its own for them.",
            {"output": output, "axis": axis, "entries": at.tolist(), "step": step, "low": low,
             "high": high}, file),)
    width = np.ptp(reference, axis=0)
    if width.any() and (width < step).all() and (np.ptp(outputs, axis=0) < 1.5 * step).all():
        low, high = float(reference.min()), float(reference.max())
        return (Remark(
            "below-step",
            f"its output lies within {low:.4g} to {high:.4g} in the float file, and no entry "
            f"varies by one step ({step:.4g}), so one or two values are left of each. Calibrate "
            "with typical examples, or leave the output in float.",
            {"output": output, "axis": None, "entries": None, "step": step, "low": low,
             "high": high}, file),)
    return ()


def _spans(numbers: Array) -> str:
    """Sorted whole numbers with runs written as ``3 to 7``, the first few of them."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    said = [f"{run[0]}" if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs[:4]]
    return ", ".join(said) + (" and others" if len(runs) > 4 else "")


@dataclass(frozen=True)
class Scored:
    """Classes that a file predicts, the labels in its numbering, and how they were shifted."""

    prediction: Array
    y: Array
    classes: int
    label_offset: int = 0


def chance_remarks(scored: Mapping[str, Scored], *, by_file: bool = True) -> tuple[Remark, ...]:
    """Files that are right no more often than guessing, and a numbering that would explain it.

    ``by_file``: whether the command takes a label offset for each file.
    """
    near = {name: one for name, one in scored.items()
            if _p_of_chance(one, one.y) > _CHANCE and not _too_few(one)}
    tried = {name: _other_numbering(one) for name, one in near.items()}
    better = {name: one for name, one in tried.items() if one is not None}
    if len(near) == len(scored) > 1 and not better:
        rates = ", ".join(f"{100 * _right(one, one.y):.2f} %" for one in near.values())
        return (Remark(
            "all-near-chance",
            f"no file is right more often than guessing would be ({rates}): look at what they are "
            "given (units, preprocessing, order of the classes) before quantization.",
            {"accuracy": [_right(one, one.y) for one in near.values()]}),)
    common = len(better) == len(scored) and len({offset for offset, _ in better.values()}) == 1
    found: list[Remark] = []
    for number, (name, one) in enumerate(scored.items(), 1):
        if name not in near:
            continue
        p = _p_of_chance(one, one.y)
        said = (f"{100 * _right(one, one.y):.2f} % right is no more than guessing among "
                f"{one.classes:,} classes gives (exact binomial test, {p_words(p)})")
        numbers = {"accuracy": _right(one, one.y), "classes": one.classes, "p": p,
                   "label_offset": None, "accuracy_with_offset": None}
        if name in better:
            offset, right = better[name]
            more = one.classes - len(np.unique(one.y)) == 1
            why = "it has one class more than there are labels; " if more else ""
            given = f"--label-offset {offset}" if common else f"labels shifted by {offset}"
            if by_file and not common:
                given = f"--label-offset {number}={offset}"
            said += f"; {why}with {given} it would be {100 * right:.2f} %"
            numbers |= {"label_offset": offset, "accuracy_with_offset": right}
        found.append(Remark("near-chance", f"{said}.", numbers, name))
    return tuple(found)


def unit_remarks(
    graphs: Mapping[str, Graph], fed: Mapping[str, Arrays], origin: Callable[[str], str],
) -> tuple[Remark, ...]:
    """Files that store inputs in other units than they are given.

    Refused where a PTQ and a QAT file, as ``origin`` tells by name, agree on it: their ranges were
    found independently, so it is the data.
    """
    found: list[Remark] = []
    for name, graph in graphs.items():
        x = fed[name]
        if isinstance(x, Mapping):
            continue
        fit = input_fit(x, graph, graph.main.tensors[graph.main.inputs[0]])
        if fit is not None and fit.other_units:
            found.append(Remark("input-units", fit.sentence,
                                {"step": fit.step, "outside": fit.outside}, name))
    if {"ptq", "qat"} <= {origin(str(remark.file)) for remark in found}:
        raise DataError(f"the data do not fit the PTQ and the QAT file: {found[-1].sentence}")
    return tuple(found)


def answer_remarks(predictions: Mapping[str, Array]) -> tuple[Remark, ...]:
    """Files whose outputs are no answer, by their predicted classes."""
    bad = {name: int(np.count_nonzero(found == NO_ANSWER)) for name, found in predictions.items()}
    return tuple(Remark("no-answer", f"it {no_answer(some, len(predictions[name]))}.",
                        {"examples": some}, name) for name, some in bad.items() if some)


def _right(one: Scored, y: Array) -> float:
    return float(np.mean(one.prediction == y))


def _p_of_chance(one: Scored, y: Array) -> float:
    """Probability that guessing among the classes is right as often, exact binomial."""
    if one.classes < 2:
        return 0.0
    hits = int(np.count_nonzero(one.prediction == y))
    # At least so many hits are at most so many misses.
    return float(binomial_cdf(len(y) - hits, len(y), 1 - 1 / one.classes))


def _too_few(one: Scored) -> bool:
    """Whether even a file that is always right would look like guessing."""
    return one.classes > 1 and one.classes ** -float(len(one.y)) > _CHANCE


def _other_numbering(one: Scored) -> tuple[int, float] | None:
    """The label offset under which the file is far better than by chance, and its accuracy."""
    tried = [(_right(one, one.y + by), by) for by in (1, -1)
             if one.y.min() + by >= 0 and one.y.max() + by < one.classes]
    right, by = max(tried, default=(0.0, 0))
    if not tried or _p_of_chance(one, one.y + by) > _SURE:
        return None
    return one.label_offset + by, right


def float_worst(
    gaps: Iterable[Comparison], reference: str, after_training: Iterable[str]
) -> tuple[Remark, ...]:
    """That the float file is the worst of all, by more than the margin of every comparison.

    ``after_training`` are files from quantization-aware training, which may well be better.
    """
    better = {}
    for gap in gaps:
        if reference in (gap.a, gap.b):
            other, won = (gap.b, "b_better") if gap.a == reference else (gap.a, "a_better")
            better[other] = gap.verdict == won and abs(gap.gap) > gap.margin
    if not better or not all(better.values()) or better.keys() <= set(after_training):
        return ()
    return (Remark(
        "float-worst",
        "the float file is the worst, and quantization does not make a network better: look at "
        "what it is given (units, preprocessing), and whether the others were made from it.",
        {}, reference),)
