"""Which operators of two networks belong together, and examples batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from qinspect.data.dataset import count
from qinspect.errors import DataError, SpecError
from qinspect.schema import Arrays
from qinspect.tflite.graph import Graph
from qinspect.tflite.match import GraphMatch


class Pair(NamedTuple):
    """Operators of two networks that compute the same thing."""

    op_a: int
    op_b: int
    layer: str = ""  # that of file a's output tensor where it is empty
    output_a: int = -1  # the first output of the operator where it is -1
    output_b: int = -1
    # Further operators of the layer, such as an activation that the other file has fused.
    absorbed_a: tuple[int, ...] = ()
    absorbed_b: tuple[int, ...] = ()


Pairs = GraphMatch | Sequence[Pair] | Sequence[tuple[int, int]]


def as_pairs(pairs: Pairs, graph_a: Graph, graph_b: Graph) -> list[Pair]:
    """Pairs with names and output tensors filled in."""
    if isinstance(pairs, GraphMatch):
        given = [
            Pair(m.a, m.b, m.layer, m.output_a, m.output_b, m.absorbed_a, m.absorbed_b)
            for m in pairs.pairs
        ]
    else:
        given = [Pair(*pair) for pair in pairs]
    named = []
    for pair in given:
        for op, graph in ((pair.op_a, graph_a), (pair.op_b, graph_b)):
            if not 0 <= op < len(graph.main.operators):
                raise SpecError(
                    f"there is no operator {op} in {graph.file}, which has "
                    f"{len(graph.main.operators)}."
                )
        if pair.output_a < 0:
            pair = pair._replace(output_a=graph_a.main.operators[pair.op_a].outputs[0])
        if pair.output_b < 0:
            pair = pair._replace(output_b=graph_b.main.operators[pair.op_b].outputs[0])
        named.append(pair._replace(layer=pair.layer or graph_a.main.tensors[pair.output_a].name))
    return named


def batches(x: Arrays | Iterable[Arrays], batch_size: int) -> Iterator[Arrays]:
    """Batches of at most ``batch_size`` examples of arrays, or of an iterable of arrays."""
    seen = False
    for part in [x] if isinstance(x, (np.ndarray, Mapping)) else x:
        for start in range(0, count(part), batch_size):
            seen = True
            rows = slice(start, start + batch_size)
            if isinstance(part, Mapping):
                yield {key: np.asarray(values[rows]) for key, values in part.items()}
            else:
                yield np.asarray(part[rows])
    if not seen:
        raise DataError("there are no examples to measure (x is empty).")
