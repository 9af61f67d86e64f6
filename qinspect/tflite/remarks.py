"""What the file alone tells about its outputs that people should hear: a sentence each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from qinspect.tflite.constants import producers_of
from qinspect.tflite.graph import MOST_HANDING_ON, RESHAPING, Graph, Operator, Subgraph, Tensor

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

    @property
    def line(self) -> str:
        """The sentence with the name of the file, if it is about one."""
        return self.sentence if self.file is None else f"{self.file}: {self.sentence}"


def stored_output(
    subgraph: Subgraph, producers: dict[int, Operator], index: int
) -> tuple[Tensor, Operator | None] | None:
    """What an output is stored as where it has one scale, and the operator that computes it."""
    chain = list(_chain(subgraph, producers, index))
    stored = next((tensor for tensor in chain if _ends(tensor) is not None), None)
    return None if stored is None else (stored, producers.get(chain[-1].index))


def _ends(tensor: Tensor) -> tuple[float, float] | None:
    """Ends of what a tensor can hold where it has one scale, and that is a step."""
    q = tensor.quantization
    sound = q is not None and q.scale.size == 1 and 0 < q.scale[0] < np.inf
    return tensor.stored_range if sound else None


def _chain(subgraph: Subgraph, producers: dict[int, Operator], index: int) -> Iterator[Tensor]:
    """A tensor and those that it is handed on from, without being computed with."""
    for _ in range(MOST_HANDING_ON):
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
    narrowest = cache(lambda index: _narrowest(main, producers, index))
    for index in dict.fromkeys(main.outputs):
        stored = stored_output(main, producers, index)
        if stored is None or stored[1] is None or stored[1].code != "CONCATENATION":
            continue
        step = float(stored[0].quantization.scale[0])  # type: ignore[union-attr]
        for at, span in _parts(main, stored[1]):
            part = narrowest(at)
            if part is None or part[2] - part[1] >= step:
                continue
            tensor, low, high = part
            levels = int(np.rint(high / step) - np.rint(low / step)) + 1
            left = "one value is" if levels == 1 else "two values are"
            name = main.tensors[index].name
            found.append(Remark(
                "below-step",
                f"of what the output {name!r} puts together, {span} come from {tensor.name!r}, "
                f"whose values lie within {low:.4g} to {high:.4g}, but they share a scale with the "
                f"rest, in steps of {step:.4g}: {left} left of them. Convert the model with "
                "an output of its own for each part.",
                {"output": main.outputs.index(index), "step": step, "low": low, "high": high,
                 "levels": levels}, file))
    return tuple(found)


def _parts(subgraph: Subgraph, joined: Operator) -> Iterator[tuple[int, str]]:
    """What a CONCATENATION puts together, and where each part stands."""
    axis, start = joined.options.get("axis", 0), 0
    for index in joined.inputs:
        shape = subgraph.tensors[index].shape if index >= 0 else ()
        if not -len(shape) <= axis < len(shape):
            return
        size = shape[axis]
        yield index, f"entries {start} to {start + size - 1} of axis {axis % len(shape)}"
        start += size


def _narrowest(
    subgraph: Subgraph, producers: dict[int, Operator], index: int
) -> tuple[Tensor, float, float] | None:
    """The narrowest stored range of what a tensor is handed on from, unless it is a constant."""
    ranges = [(tensor, *ends) for tensor in _chain(subgraph, producers, index)
              if (ends := _ends(tensor)) is not None and not tensor.constant]
    return min(ranges, key=lambda one: one[2] - one[1], default=None)
