"""Which input each float operator gets when it is evaluated in place of a quantized one."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import cast

from qinspect.errors import ModelFileError
from qinspect.measure.cut import CutModel, Layer, constant_tensors, cut_layers, why_not_alone
from qinspect.measure.pairs import Pair
from qinspect.measure.probe import Probe
from qinspect.schema import Graph, Subgraph
from qinspect.tflite.run import Kernels

# The float network's own input, as a source of a cut operator.
NETWORK_INPUT = "network input"


def cut_probe(
    cut: CutModel, file: str, *, num_threads: int = 1, kernels: Kernels = "default"
) -> Probe:
    """A probe of all outputs of a cut model; ``file`` names its origin in messages."""
    outputs = tuple(cut.outputs.values())
    return Probe(cut.content, f"the operators of {file}", tuple(cut.inputs.values()), outputs,
                 preserve=False, num_threads=num_threads, kernels=kernels)  # fmt: skip


def wire_pairs(
    float_graph: Graph, quant_graph: Graph, pairs: Sequence[Pair]
) -> tuple[CutModel, list[str]]:
    """The float operators of the pairs, wired to the inputs of the quantized ones.

    Parameters
    ----------
    float_graph, quant_graph : Graph
        The two networks.
    pairs : sequence of Pair
        ``op_a`` counts in the float network, ``op_b`` in the quantized one.

    Returns
    -------
    CutModel
        Its sources are tensor indices of the quantized network, or :data:`NETWORK_INPUT`; its
        outputs are named by the position of the pair.
    list of str
        One sentence for each pair that is left out.
    """
    layers: dict[Hashable, Layer] = {}
    notes: list[str] = []
    constants = (set(constant_tensors(float_graph.main)), set(constant_tensors(quant_graph.main)))
    network_inputs = _network_inputs(quant_graph)
    for at, pair in enumerate(pairs):
        found = _layer(float_graph, quant_graph, pair, constants, network_inputs)
        if isinstance(found, str):
            notes.append(f"no local error of {pair.layer}: {found}.")
        else:
            layers[at] = found
    cut = cut_layers(float_graph, layers)
    try:
        cut_probe(cut, float_graph.file)
    except ModelFileError:
        # One operator that cannot run must not take the others with it.
        for key, layer in list(layers.items()):
            try:
                cut_probe(cut_layers(float_graph, {key: layer}), float_graph.file)
            except ModelFileError as error:
                del layers[key]
                notes.append(f"no local error of {pairs[cast(int, key)].layer}: {error}")
        cut = cut_layers(float_graph, layers)
    return cut, notes


def _network_inputs(graph: Graph) -> set[int]:
    """Tensors that hold the network input: the inputs, and QUANTIZE of them."""
    found = set(graph.main.inputs)
    for operator in graph.main.operators:
        if operator.code in ("QUANTIZE", "CAST") and operator.inputs[0] in found:
            found.update(operator.outputs)
    return found


def _layer(
    float_graph: Graph,
    quant_graph: Graph,
    pair: Pair,
    constants: tuple[set[int], set[int]],
    network_inputs: set[int],
) -> Layer | str:
    """The float operators of a pair with the source of each input, or why there is none."""
    a, b = float_graph.main.operators[pair.op_a], quant_graph.main.operators[pair.op_b]
    if a.code != b.code:
        return f"it is {a.code} in the float file and {b.code} in the quantized one"
    operators = tuple(sorted({pair.op_a, *pair.absorbed_a}))
    for op in operators:
        reason = why_not_alone(float_graph.main, op)
        if reason is not None:
            return reason
    needed = _outside_inputs(float_graph.main, operators, constants[0])
    given = _outside_inputs(quant_graph.main, sorted({pair.op_b, *pair.absorbed_b}), constants[1])
    if not needed:
        return "none of its inputs depends on the data"
    if len(needed) != len(given):
        return f"it has {len(needed)} inputs in the float file, {len(given)} in the quantized one"
    sources: dict[int, Hashable] = {}
    for index, other in zip(needed, given, strict=True):
        shapes = float_graph.main.tensors[index].shape, quant_graph.main.tensors[other].shape
        dtype = float_graph.main.tensors[index].dtype
        if dtype != "float32":
            return f"an input of the reference is {dtype}, not float32"
        if shapes[0] != shapes[1]:
            return f"an input has shape {shapes[0]} in one file, {shapes[1]} in the other"
        sources[index] = NETWORK_INPUT if other in network_inputs else other
    return Layer(operators, sources, pair.output_a)


def _outside_inputs(subgraph: Subgraph, operators: Sequence[int], constants: set[int]) -> list[int]:
    """Tensors that a group of operators reads but neither makes nor holds as constants."""
    made = {i for op in operators for i in subgraph.operators[op].outputs}
    read = [i for op in operators for i in subgraph.operators[op].inputs]
    return list(dict.fromkeys(i for i in read if i >= 0 and i not in made | constants))
