"""Which operator of one network is compared with which of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from qinspect.errors import SpecError
from qinspect.schema import Graph, GraphMatch


class Pair(NamedTuple):
    """Operators of two networks that compute the same thing.

    Attributes
    ----------
    op_a, op_b : int
        Indices among the operators of the two main subgraphs.
    layer : str
        Name to show; that of file a's output tensor where it is empty.
    output_a, output_b : int
        Tensors to compare; the first output of the operator where it is -1.
    absorbed_a, absorbed_b : tuple of int
        Further operators of either file that belong to the layer, such as an activation that
        the other file has fused.
    """

    op_a: int
    op_b: int
    layer: str = ""
    output_a: int = -1
    output_b: int = -1
    absorbed_a: tuple[int, ...] = ()
    absorbed_b: tuple[int, ...] = ()


Pairs = GraphMatch | Sequence[Pair] | Sequence[tuple[int, int]]


def as_pairs(pairs: Pairs, graph_a: Graph, graph_b: Graph) -> list[Pair]:
    """Pairs with names and output tensors filled in.

    Parameters
    ----------
    pairs : GraphMatch, or sequence of Pair or of (int, int)
        What :func:`qinspect.tflite.match.match_graphs` gives, or operator indices.
    graph_a, graph_b : Graph
        The two networks.

    Raises
    ------
    SpecError
        If an index is not that of an operator of its network.
    """
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
