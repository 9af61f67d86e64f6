"""Match the operators of two ``.tflite`` files, whatever was fused, folded, inserted or moved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qinspect.tflite.align import align_in_order, best_name, layer_matches
from qinspect.tflite.constants import constant_source, producers_of
from qinspect.tflite.graph import Graph, Operator, Subgraph
from qinspect.tflite.network import WeightedLayer, graph_layers, layer_names

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class OperatorMatch:
    """An operator of file a and the one of file b that does the same work.

    Attributes
    ----------
    layer, code : str
        Unique name for people; operator in file a.
    a, b : int
        Operator indices in the first subgraphs.
    output_a, output_b : int
        Tensors that hold the same quantity in both files, activation included.
    absorbed_a, absorbed_b : tuple of int
        Further operators whose work the other file does inside this one (a separate activation,
        padding or batch normalization).
    cosine : float
        As in :class:`LayerMatch`; NaN for operators without weights.
    """

    layer: str
    code: str
    a: int
    b: int
    output_a: int
    output_b: int
    absorbed_a: tuple[int, ...] = ()
    absorbed_b: tuple[int, ...] = ()
    cosine: float = float("nan")


@dataclass(frozen=True)
class Unmatched:
    """An operator without a counterpart, and why."""

    operator: int
    code: str
    layer: str
    reason: str


@dataclass(frozen=True)
class GraphMatch:
    """Operators matched in the order of file a, all others with the reason, and input tensors."""

    pairs: tuple[OperatorMatch, ...]
    only_a: tuple[Unmatched, ...]
    only_b: tuple[Unmatched, ...]
    inputs: tuple[tuple[int, int], ...]

    @property
    def frame(self) -> pd.DataFrame:
        """One row a pair, in the order of file a: layer, operator, its index in both, cosine."""
        import pandas as pd

        return pd.DataFrame([(p.layer, p.code, p.a, p.b, p.cosine) for p in self.pairs],
                            columns=["layer", "operator", "a", "b", "cosine"])

    @property
    def unmatched(self) -> pd.DataFrame:
        """One row an operator that only one file has, and why it has no counterpart."""
        import pandas as pd

        rows = [(file, one.layer, one.code, one.reason)
                for file, found in (("a", self.only_a), ("b", self.only_b)) for one in found]
        return pd.DataFrame(rows, columns=["only in", "layer", "operator", "reason"])


_CONVERSIONS = frozenset({"QUANTIZE", "DEQUANTIZE", "FAKE_QUANT"})
_ACTIVATIONS = {
    "RELU": "RELU",
    "RELU6": "RELU6",
    "RELU_N1_TO_1": "RELU_N1_TO_1",
    "RELU_0_TO_1": "RELU_0_TO_1",
    "TANH": "TANH",
}
# Operators that do the same work under another name.
_FAMILY = {
    "AVERAGE_POOL_2D": "average",
    "MEAN": "average",
    "RESHAPE": "reshape",
    "SQUEEZE": "reshape",
    "EXPAND_DIMS": "reshape",
    "FULLY_CONNECTED": "dense",
    "BATCH_MATMUL": "dense",
    "PAD": "pad",
    "PADV2": "pad",
    "MIRROR_PAD": "pad",
}
_ANCHOR_SCORE = 100.0


@dataclass(frozen=True)
class _Node:
    """A computing operator with what matters to match it."""

    operator: Operator
    family: str
    shape: tuple[int, ...]
    sources: tuple[int, ...]
    name: str
    kernel: tuple[int, ...] | None


class _View:
    """One file's first subgraph without conversions and constant folding."""

    def __init__(self, subgraph: Subgraph, layers: tuple[WeightedLayer, ...]) -> None:
        self.subgraph = subgraph
        self.kernels = {i: layer.kernel.shape for layer in layers for i in layer.operators}
        self.producers = producers_of(subgraph)
        self.names = layer_names(subgraph)
        self.nodes: dict[int, _Node] = {}
        self.skipped: dict[int, str] = {}
        for op in subgraph.operators:
            self._add(op)
        self.users: dict[int, list[int]] = {}
        for index, node in self.nodes.items():
            for source in node.sources:
                self.users.setdefault(source, []).append(index)

    def _add(self, op: Operator) -> None:
        if op.code in _CONVERSIONS:
            self.skipped[op.index] = "converts between float and integer, and computes nothing"
            return
        if not op.outputs:
            self.skipped[op.index] = "has no output"
            return
        inputs = [i for i in op.inputs if i >= 0]
        if inputs and all(self._is_constant(i) for i in inputs):
            self.skipped[op.index] = "works on constants only"
            return
        sources = tuple(
            source
            for source in (self.source(i) for i in inputs if not self._is_constant(i))
            if source is not None
        )
        shape = self.subgraph.tensors[op.outputs[0]].shape
        family = _FAMILY.get(op.code, op.custom or op.code)
        self.nodes[op.index] = _Node(
            op, family, shape, sources, self.names[op.index], self.kernels.get(op.index)
        )

    def _is_constant(self, tensor: int) -> bool:
        return constant_source(self.subgraph, tensor, self.producers) is not None

    def source(self, tensor: int) -> int | None:
        """The computing operator behind a tensor, conversions skipped; None for an input."""
        for _ in range(len(self.subgraph.operators) + 1):
            producer = self.producers.get(tensor)
            if producer is None:
                return None
            if producer.code not in _CONVERSIONS:
                return producer.index
            tensor = producer.inputs[0]
        return None

    def order(self) -> list[int]:
        """Operators in an order that depends on the graph alone: depth first from the outputs."""
        done: dict[int, None] = {}
        roots = [s for s in map(self.source, self.subgraph.outputs) if s is not None]
        stack = [(root, False) for root in reversed(roots)]
        open_: set[int] = set()
        while stack:
            index, finished = stack.pop()
            if index in done or index not in self.nodes:
                continue
            if finished:
                done[index] = None
                continue
            if index in open_:  # a cycle, which only a damaged file has
                continue
            open_.add(index)
            stack.append((index, True))
            stack.extend((s, False) for s in reversed(self.nodes[index].sources))
        done.update(dict.fromkeys(i for i in self.nodes if i not in done))
        return list(done)


def match_graphs(a: Graph, b: Graph) -> GraphMatch:
    """Match every computing operator of the first subgraphs of two files.

    Operators with weights are matched by their weights first, the others by kind, output shape,
    name and neighbours along the data flow.  What one file does in an operator of its own and
    the other inside its neighbour (an activation, padding, batch normalization) is reported as
    absorbed, and the output tensors are those after it.

    Parameters
    ----------
    a, b : Graph
        For example a float file and its quantized version.

    Returns
    -------
    GraphMatch
    """
    layers_a, layers_b = graph_layers(a)[0], graph_layers(b)[0]
    left, right = _View(a.main, layers_a), _View(b.main, layers_b)
    rows = layer_matches(layers_a, layers_b)
    pairs: dict[int, int] = {}
    cosines: dict[int, float] = {}
    for row in rows:
        # An operator with several weights has a row for each; the first one decides.
        for i, j in zip(row.operators_a, row.operators_b, strict=False):
            if i in left.nodes and j in right.nodes and i not in pairs:
                if j not in pairs.values():
                    pairs[i] = j
                cosines.setdefault(i, row.cosine)
    _align(left, right, pairs)
    _follow_data(left, right, pairs)
    return _assemble(left, right, pairs, cosines)


def _compatible(x: _Node, y: _Node) -> bool:
    # A kernel of another size is another layer, whatever its output looks like.
    kernels = x.kernel is None or y.kernel is None or x.kernel == y.kernel
    return x.family == y.family and kernels and _same_shape(x.shape, y.shape)


def _same_shape(x: tuple[int, ...], y: tuple[int, ...]) -> bool:
    """Equal apart from the batch and axes of length one (MEAN keeps or drops them)."""
    return x == y or [d for d in x[1:] if d != 1] == [d for d in y[1:] if d != 1]


def _align(left: _View, right: _View, pairs: dict[int, int]) -> None:
    """Pair the remaining operators in order, around those that are paired already."""
    rows, columns = left.order(), right.order()
    taken = set(pairs.values())
    score = np.full((len(rows), len(columns)), -np.inf)
    by_family: dict[str, list[int]] = {}
    for c, j in enumerate(columns):
        by_family.setdefault(right.nodes[j].family, []).append(c)
    for r, i in enumerate(rows):
        x = left.nodes[i]
        for c in by_family.get(x.family, ()):
            j = columns[c]
            y = right.nodes[j]
            if i in pairs:
                if pairs[i] == j:
                    score[r, c] = _ANCHOR_SCORE
            elif j not in taken and _compatible(x, y):
                score[r, c] = (
                    1.0
                    + (x.operator.code == y.operator.code)
                    + (x.operator.activation == y.operator.activation)
                    + (x.name == y.name)
                    + _shared_sources(x, y, pairs)
                )
    for r, c in align_in_order(score):
        pairs.setdefault(rows[r], columns[c])


def _shared_sources(x: _Node, y: _Node, pairs: dict[int, int]) -> float:
    """Share of the operands that come from paired operators."""
    if not x.sources or not y.sources:
        return float(not x.sources and not y.sources)
    mapped = {pairs.get(source) for source in x.sources}
    return sum(source in mapped for source in y.sources) / max(len(x.sources), len(y.sources))


def _follow_data(left: _View, right: _View, pairs: dict[int, int]) -> None:
    """Pair what is left where the neighbours are paired: branches may be stored in any order."""
    changed = True
    while changed:
        changed = False
        taken = set(pairs.values())
        free = [j for j in right.nodes if j not in taken]
        for i, x in left.nodes.items():
            if i in pairs:
                continue
            for j in free:
                y = right.nodes[j]
                if _compatible(x, y) and (
                    _shared_sources(x, y, pairs) == 1 or _shared_users(left, right, i, j, pairs)
                ):
                    pairs[i] = j
                    free.remove(j)
                    changed = True
                    break


def _shared_users(left: _View, right: _View, i: int, j: int, pairs: dict[int, int]) -> bool:
    users = {pairs.get(user) for user in left.users.get(i, ())} - {None}
    return bool(users) and users == set(right.users.get(j, ()))


def _assemble(
    left: _View, right: _View, pairs: dict[int, int], cosines: dict[int, float]
) -> GraphMatch:
    reasons_a: dict[int, str] = dict(left.skipped)
    reasons_b: dict[int, str] = dict(right.skipped)
    free_a = {i for i in left.nodes if i not in pairs}
    free_b = {j for j in right.nodes if j not in set(pairs.values())}
    matched = []
    names: set[str] = set()
    for i in sorted(pairs):
        j = pairs[i]
        x, y = left.nodes[i].operator, right.nodes[j].operator
        name = best_name(left.names[i], right.names[j])
        name = name if name not in names else f"{name}@{i}"
        names.add(name)
        absorbed_a = _absorb(left, i, free_a, y.activation, name, reasons_a)
        absorbed_b = _absorb(right, j, free_b, x.activation, name, reasons_b)
        matched.append(
            OperatorMatch(
                layer=name,
                code=x.code,
                a=i,
                b=j,
                output_a=_output(left, i, absorbed_a),
                output_b=_output(right, j, absorbed_b),
                absorbed_a=absorbed_a,
                absorbed_b=absorbed_b,
                cosine=cosines.get(i, float("nan")),
            )
        )
    _explain(left, free_a, right, reasons_a)
    _explain(right, free_b, left, reasons_b)
    inputs_a, inputs_b = left.subgraph.inputs, right.subgraph.inputs
    return GraphMatch(
        pairs=tuple(matched),
        only_a=_unmatched(left, reasons_a),
        only_b=_unmatched(right, reasons_b),
        inputs=tuple(zip(inputs_a, inputs_b, strict=False))
        if len(inputs_a) == len(inputs_b)
        else (),
    )


def _absorb(
    view: _View,
    index: int,
    free: set[int],
    wanted: str,
    name: str,
    reasons: dict[int, str],
) -> tuple[int, ...]:
    """Unpaired neighbours that do what the other file does inside its operator."""
    # In front: padding.  Behind, while there is a single user: multiplication and addition of
    # constants after a layer with weights (a batch normalization that was not folded), and the
    # activation.
    absorbed: list[int] = []
    node = view.nodes[index]
    for source in node.sources:
        if source in free and view.nodes[source].family == "pad":
            absorbed.append(source)
            reasons[source] = f"the other file pads inside {name}"
    current, activation = index, node.operator.activation
    while True:
        users = view.users.get(current, [])
        if len(users) != 1 or users[0] not in free:
            break
        after = view.nodes[users[0]].operator
        if node.kernel is not None and _is_constant_affine(view, users[0]):
            reasons[after.index] = f"the other file folds this constant factor or term into {name}"
            activation = after.activation
        elif _ACTIVATIONS.get(after.code) == wanted and activation == "NONE":
            reasons[after.index] = f"the other file applies this activation inside {name}"
            activation = wanted
        else:
            break
        absorbed.append(after.index)
        current = after.index
    free.difference_update(absorbed)
    return tuple(absorbed)


def _is_constant_affine(view: _View, index: int) -> bool:
    node = view.nodes[index]
    return node.operator.code in ("MUL", "ADD", "SUB") and len(node.sources) == 1


def _output(view: _View, index: int, absorbed: Iterable[int]) -> int:
    """The tensor after everything that was absorbed behind the operator."""
    last = index
    for other in absorbed:
        if view.nodes[other].family != "pad":
            last = other
    return view.nodes[last].operator.outputs[0]


def _explain(view: _View, free: set[int], other: _View, reasons: dict[int, str]) -> None:
    kinds = {node.family for node in other.nodes.values()}
    for index in free:
        node = view.nodes[index]
        if node.family not in kinds:
            why = f"the other file has no operator {node.operator.custom or node.operator.code}"
        elif not any(_compatible(node, o) for o in other.nodes.values()):
            why = f"no {node.operator.code} of the other file gives the shape {node.shape}"
        else:
            why = "every operator of this kind and shape in the other file belongs elsewhere"
        reasons[index] = why


def _unmatched(view: _View, reasons: dict[int, str]) -> tuple[Unmatched, ...]:
    operators = view.subgraph.operators
    return tuple(
        Unmatched(
            operator=index,
            code=operators[index].custom or operators[index].code,
            layer=view.names[index],
            reason=reasons[index],
        )
        for index in sorted(reasons)
    )
