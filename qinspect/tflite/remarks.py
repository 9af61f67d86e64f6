"""What the file alone tells about its outputs that people should hear: a sentence each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qinspect.tflite.constants import producers_of
from qinspect.tflite.graph import RESHAPING, Graph, Operator, Subgraph, Tensor

# Of these the format fixes the range of the output, whatever the values are.
FIXED_RANGE = frozenset({"SOFTMAX", "LOGISTIC", "TANH", "L2_NORMALIZATION", "LOG_SOFTMAX"})
_HANDS_ON = RESHAPING | {"QUANTIZE", "DEQUANTIZE"}


@dataclass(frozen=True)
class Remark:
    """One thing worth hearing about a file, or about all of them where ``file`` is None."""

    id: str
    sentence: str
    numbers: dict[str, Any] = field(default_factory=dict)
    file: str | None = None


def stored_output(subgraph: Subgraph, index: int) -> tuple[Tensor, Operator | None] | None:
    """What an output is stored as where it has one scale, and the operator that computes it."""
    producers = producers_of(subgraph)
    chain = list(_chain(subgraph, producers, index))
    stored = next((tensor for tensor in chain if tensor.stored_range is not None), None)
    return None if stored is None else (stored, producers.get(chain[-1].index))


def _chain(subgraph: Subgraph, producers: dict[int, Operator], index: int) -> Iterator[Tensor]:
    """A tensor and those that it is handed on from, without being computed with."""
    # One step for each operator at most: a damaged file may hold a cycle.
    for _ in range(len(subgraph.operators) + 1):
        yield subgraph.tensors[index]
        made = producers.get(index)
        if made is None or made.code not in _HANDS_ON or not made.inputs or made.inputs[0] < 0:
            return
        index = made.inputs[0]


def file_remarks(graph: Graph, file: str | None = None) -> tuple[Remark, ...]:
    """Parts of an output that share a scale with greater ones, whose range is below one step."""
    main = graph.main
    producers = producers_of(main)
    found = []
    for number, index in enumerate(main.outputs):
        stored = stored_output(main, index)
        if stored is None or stored[1] is None or stored[1].code != "CONCATENATION":
            continue
        step = float(stored[0].quantization.scale[0])  # type: ignore[union-attr]
        for tensor, low, high, part in _parts(main, producers, stored[1]):
            if not high - low < step:
                continue
            levels = int(np.rint(high / step) - np.rint(low / step)) + 1
            left = "one value is" if levels == 1 else "two values are"
            name = main.tensors[index].name
            found.append(Remark(
                "below-step",
                f"of what the output {name!r} puts together, {part} come from {tensor.name!r}, "
                f"whose values lie within {low:.4g} to {high:.4g}, but they share a scale with the "
                f"rest, in steps of {step:.4g}: {left} left of them. Convert the model with "
                "an output of its own for each part.",
                {"output": number, "step": step, "low": low, "high": high, "levels": levels}, file))
    return tuple(found)


def _parts(
    subgraph: Subgraph, producers: dict[int, Operator], joined: Operator
) -> Iterator[tuple[Tensor, float, float, str]]:
    """What a CONCATENATION puts together: origin, the narrowest range it had, where it stands."""
    rank = len(subgraph.tensors[joined.outputs[0]].shape)
    axis = joined.options.get("axis", 0)
    start = 0
    for index in joined.inputs:
        shape = subgraph.tensors[index].shape if index >= 0 else ()
        size = shape[axis] if -len(shape) <= axis < len(shape) else 0
        ranges = [(tensor, ends) for tensor in _chain(subgraph, producers, index)
                  if (ends := tensor.stored_range) is not None and not tensor.constant
                  ] if index >= 0 else []
        if ranges and size:
            tensor, (low, high) = min(ranges, key=lambda one: one[1][1] - one[1][0])
            yield tensor, low, high, f"entries {start} to {start + size - 1} of axis {axis % rank}"
        start += size
