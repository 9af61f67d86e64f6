"""Operators cut out: many into one model, each fed as its counterpart is, or one as it is."""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as flat

from qinspect.errors import ModelFileError
from qinspect.measure.probe import Pair
from qinspect.tflite.graph import Graph, Subgraph, Tensor
from qinspect.tflite.runner import Session

# Operators that run other subgraphs, or keep state between calls, mean nothing on their own.
_NOT_ALONE = frozenset(
    {"WHILE", "IF", "CALL", "CALL_ONCE", "STABLEHLO_COMPOSITE", "STABLEHLO_WHILE",
     "STABLEHLO_REDUCE", "STABLEHLO_REDUCE_WINDOW", "STABLEHLO_SORT", "VAR_HANDLE",
     "READ_VARIABLE", "ASSIGN_VARIABLE",
     "LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "RNN",
     "UNIDIRECTIONAL_SEQUENCE_RNN", "BIDIRECTIONAL_SEQUENCE_RNN", "SVDF"}
)
# In the place of the number of a code: the DEQUANTIZE that is added here.
_DEQUANTIZE = -1
# What DEQUANTIZE makes real numbers of, to the last bit those of `real_values`.
_STORED = ("int8", "uint8")


@dataclass(frozen=True)
class NetworkInput:
    """An input of the network, in real units, as a source of a cut operator."""

    tensor: int  # in the quantized network


@dataclass(frozen=True)
class CutOperators:
    """Operators to cut out together; ``sources`` names where each outside tensor comes from."""

    operators: tuple[int, ...]  # indices in the order of execution; usually one
    # Of all that is read from outside, constants apart.  Tensors of one name share one input of the
    # new model, so they must have one shape.
    sources: Mapping[int, Hashable]
    output: int


@dataclass(frozen=True)
class CutModel:
    """A model of independent operators, and its tensors by name of the source and of the output."""

    content: bytes
    inputs: dict[Hashable, int]
    outputs: dict[Hashable, int]
    stored: frozenset[Hashable] = frozenset()  # sources that are fed as the integers they are


def cut_session(cut: CutModel, graph: Graph, **options: Any) -> Session:
    """A cut model ready to run, as guarded as the network that it comes from."""
    return Session(cut.content, name=f"the operators of {graph.file}", how=None,
                   isolated=graph.guarded, **options)


def _try(cut: CutModel, graph: Graph) -> None:
    """Run a cut model once, on ones."""
    with cut_session(cut, graph, workers=1) as session:
        tensors = [port.tensor for port in session.ports.inputs]
        session.run({t.index: np.ones((1, *t.shape), t.dtype) for t in tensors})


def wire_pairs(
    float_graph: Graph, quant_graph: Graph, pairs: Sequence[Pair]
) -> tuple[CutModel, list[str]]:
    """The pairs' float operators, wired to the inputs of the quantized ones; what is left out."""
    # Sources are tensor indices of the quantized network, or its inputs; outputs are named by the
    # position of the pair.
    layers: dict[Hashable, CutOperators] = {}
    notes: list[str] = []
    constants = (set(constant_tensors(float_graph.main)), set(constant_tensors(quant_graph.main)))
    network_inputs = _network_inputs(quant_graph)
    for at, pair in enumerate(pairs):
        found = _layer(float_graph, quant_graph, pair, constants, network_inputs)
        if isinstance(found, str):
            notes.append(f"no local error of {pair.layer}: {found}.")
        else:
            layers[at] = found
    stored: dict[Hashable, Tensor] = {
        t.index: t for t in quant_graph.main.tensors
        if t.dtype in _STORED and t.affine is not None and t.affine.scale.size == 1
    }
    cut = cut_operators(float_graph, layers, stored)
    if not layers:
        return cut, notes
    try:
        _try(cut, float_graph)
    except ModelFileError:
        # One operator that cannot run must not take the others with it.
        for key, layer in list(layers.items()):
            try:
                _try(cut_operators(float_graph, {key: layer}, stored), float_graph)
            except ModelFileError as error:
                del layers[key]
                notes.append(f"no local error of {pairs[cast(int, key)].layer}: {error}")
        cut = cut_operators(float_graph, layers, stored)
    return cut, notes


def _network_inputs(graph: Graph) -> dict[int, NetworkInput]:
    """Tensors that hold an input of the network: the inputs, and QUANTIZE of them."""
    found = {i: NetworkInput(i) for i in graph.main.inputs}
    for operator in graph.main.operators:
        if operator.code in ("QUANTIZE", "CAST") and operator.inputs[0] in found:
            found |= dict.fromkeys(operator.outputs, found[operator.inputs[0]])
    return found


def _layer(
    float_graph: Graph,
    quant_graph: Graph,
    pair: Pair,
    constants: tuple[set[int], set[int]],
    network_inputs: dict[int, NetworkInput],
) -> CutOperators | str:
    """The float operators of a pair with the source of each input, or why there is none."""
    a, b = float_graph.main.operators[pair.op_a], quant_graph.main.operators[pair.op_b]
    if a.code != b.code:
        return f"it is {a.code} in the float file and {b.code} in the quantized one"
    operators = tuple(sorted({pair.op_a, *pair.absorbed_a}))
    for op in operators:
        reason = why_not_alone(float_graph.main, op)
        if reason is not None:
            return reason
    needed = outside_inputs(float_graph.main, operators, constants[0])
    given = outside_inputs(quant_graph.main, sorted({pair.op_b, *pair.absorbed_b}), constants[1])
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
        sources[index] = network_inputs.get(other, other)
    return CutOperators(operators, sources, pair.output_a)


def outside_inputs(subgraph: Subgraph, operators: Sequence[int],
                   constants: Container[int]) -> list[int]:
    """Tensors that a group of operators reads but neither makes nor holds as constants."""
    made = {i for op in operators for i in subgraph.operators[op].outputs}
    read = [i for op in operators for i in subgraph.operators[op].inputs]
    return list(dict.fromkeys(i for i in read if i >= 0 and i not in made and i not in constants))


def constant_tensors(subgraph: Subgraph) -> dict[int, int | None]:
    """Tensors that do not depend on the input, with the operator that computes them if any."""
    # Float16 weights reach their layer through a DEQUANTIZE of a constant, for example.
    constants: dict[int, int | None] = {t.index: None for t in subgraph.tensors if t.constant}
    for operator in subgraph.operators:
        inputs = [i for i in operator.inputs if i >= 0]
        if inputs and all(i in constants for i in inputs):
            constants.update(dict.fromkeys(operator.outputs, operator.index))
    return constants


def why_not_alone(subgraph: Subgraph, op: int) -> str | None:
    """Reason why an operator cannot be evaluated on its own, or None if it can."""
    operator = subgraph.operators[op]
    if operator.custom is not None or operator.code == "CUSTOM":
        return "it is a custom operator"
    if operator.code in _NOT_ALONE:
        return f"{operator.code} runs other subgraphs or keeps state"
    read = [subgraph.tensors[i] for i in operator.inputs if i >= 0]
    if any(tensor.variable for tensor in read):
        return "it keeps state"
    if any(t.quantization is not None and t.quantization.blockwise for t in read):
        return "its weights have a scale a block, kept in another tensor"
    return None


def cut_operators(graph: Graph, layers: Mapping[Hashable, CutOperators],
                  stored: Mapping[Hashable, Tensor] = MappingProxyType({})) -> CutModel:
    """A model of chosen operators of the main subgraph, side by side, under names of the caller.

    Sources among ``stored`` are fed as 8-bit integers, a quarter of the bytes, and dequantized.
    """
    builder = _Builder(graph)
    inputs: dict[Hashable, int] = {}
    outputs: dict[Hashable, int] = {}
    real: dict[Hashable, int] = {}
    for name, layer in layers.items():
        known = {-1: -1}
        for index, source in layer.sources.items():
            if source not in inputs:
                real[source] = inputs[source] = builder.activation(index)
                if source in stored:
                    inputs[source] = builder.integers(real[source], stored[source])
            known[index] = real[source]
        for op in layer.operators:
            operator = builder.original.subgraphs[0].operators[op]
            wired = [known[i] if i in known else builder.constant(i) for i in operator.inputs]
            known |= {int(i): builder.activation(i) for i in operator.outputs}
            builder.operator(operator, wired, [known[i] for i in operator.outputs])
        outputs[name] = known[layer.output]
    return CutModel(builder.content(inputs.values(), outputs.values()), inputs, outputs,
                    frozenset(stored.keys() & inputs))


def cut_alone(graph: Graph, op: int) -> CutModel:
    """One operator of the main subgraph as a file, its constants, scales and names as they are.

    Inputs and outputs are named by the tensors of the network.
    """
    reason = why_not_alone(graph.main, op)
    builder = _Builder(graph, names=True)
    needed = outside_inputs(graph.main, [op], builder.computed)
    if reason is None and not needed:
        reason = "none of its inputs depends on the data"
    operator = builder.original.subgraphs[0].operators[op]
    if reason is not None:
        code = graph.main.operators[op].code
        raise ModelFileError(f"operator {op} ({code}) cannot stand alone: {reason}.")
    inputs: dict[Hashable, int] = {i: builder.activation(i) for i in needed}
    wired = [-1 if i < 0 else inputs[i] if i in inputs else builder.constant(int(i))
             for i in operator.inputs]
    outputs: dict[Hashable, int] = {int(i): builder.activation(int(i)) for i in operator.outputs}
    builder.operator(operator, wired, list(outputs.values()))
    return CutModel(builder.content(inputs.values(), outputs.values()), inputs, outputs)


def _dequantize() -> Any:
    code = flat.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = flat.BuiltinOperator.DEQUANTIZE
    code.version = 2  # the first that takes int8
    return code


class _Builder:
    """The new model's only subgraph while it grows."""

    def __init__(self, graph: Graph, *, names: bool = False) -> None:
        self.original = flat.ModelT.InitFromPackedBuf(graph.content, 0)
        self.computed, self._names = constant_tensors(graph.main), names
        self.model = flat.ModelT()
        self.model.version = self.original.version
        self.model.operatorCodes = []
        self.model.buffers = [flat.BufferT()]
        self._codes: dict[int, int] = {}
        self.subgraph = flat.SubGraphT()
        self.subgraph.name = "cut"
        self.subgraph.tensors = []
        self.subgraph.operators = []
        self._constants: dict[int, int] = {}

    def _tensor(self, index: int, buffer: int) -> int:
        tensor = copy(self.original.subgraphs[0].tensors[index])
        tensor.buffer = buffer
        if not self._names:
            tensor.name = f"t{len(self.subgraph.tensors)}"
        self.subgraph.tensors.append(tensor)
        return len(self.subgraph.tensors) - 1

    def activation(self, index: int) -> int:
        return self._tensor(index, 0)

    def integers(self, real: int, like: Tensor) -> int:
        """A tensor of integers, and the operator that makes the real ones of them."""
        assert like.quantization is not None
        tensor = copy(self.subgraph.tensors[real])
        tensor.name = f"t{len(self.subgraph.tensors)}"
        tensor.type = getattr(flat.TensorType, like.dtype.upper())
        tensor.quantization = flat.QuantizationParametersT()
        tensor.quantization.scale = like.quantization.scale.astype(np.float32)
        tensor.quantization.zeroPoint = like.quantization.zero_point
        self.subgraph.tensors.append(tensor)
        operator = flat.OperatorT()
        operator.opcodeIndex = _DEQUANTIZE
        self.operator(operator, [len(self.subgraph.tensors) - 1], [real])
        return len(self.subgraph.tensors) - 1

    def constant(self, index: int) -> int:
        """A constant tensor, copied once, with the operator that computes it if there is one."""
        if index in self._constants:
            return self._constants[index]
        producer = self.computed[index]
        if producer is None:
            source = self.original.subgraphs[0].tensors[index]
            buffer = self.original.buffers[source.buffer]
            if buffer.data is None:
                raise ModelFileError(
                    f"the weights of tensor {index} are kept outside the flatbuffer, so its "
                    "layer cannot be cut out."
                )
            self.model.buffers.append(buffer)
            self._constants[index] = self._tensor(index, len(self.model.buffers) - 1)
        else:
            operator = self.original.subgraphs[0].operators[producer]
            wired = [-1 if i < 0 else self.constant(int(i)) for i in operator.inputs]
            made = [self.activation(int(i)) for i in operator.outputs]
            self._constants.update(zip((int(i) for i in operator.outputs), made, strict=True))
            self.operator(operator, wired, made)
        return self._constants[index]

    def operator(self, source: Any, inputs: list[int], outputs: list[int]) -> None:
        operator = copy(source)
        operator.inputs, operator.outputs = inputs, outputs
        operator.opcodeIndex = self._code(source.opcodeIndex)
        self.subgraph.operators.append(operator)

    def _code(self, index: int) -> int:
        """The number here of an operator code; one that is not used may not even exist."""
        if index not in self._codes:
            codes = self.model.operatorCodes
            codes.append(_dequantize() if index == _DEQUANTIZE
                         else self.original.operatorCodes[index])
            self._codes[index] = len(codes) - 1
        return self._codes[index]

    def content(self, inputs: Iterable[int], outputs: Iterable[int]) -> bytes:
        """The model as a file."""
        self.subgraph.inputs, self.subgraph.outputs = list(inputs), list(outputs)
        self.model.subgraphs = [self.subgraph]
        packer = flatbuffers.Builder(1024)
        packer.Finish(self.model.Pack(packer), b"TFL3")
        return bytes(packer.Output())
