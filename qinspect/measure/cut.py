"""Cut single layers out of a float network and set them side by side in one new model.

Each layer keeps its own float weights and gets inputs of its own, so one invocation evaluates
every layer of a network on inputs that come from elsewhere.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as flat

from qinspect.errors import ModelFileError
from qinspect.schema import Graph, Subgraph

# Operators that run other subgraphs, or keep state between calls, mean nothing on their own.
_NOT_ALONE = frozenset(
    {"WHILE", "IF", "CALL", "CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE",
     "LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "RNN",
     "UNIDIRECTIONAL_SEQUENCE_RNN", "BIDIRECTIONAL_SEQUENCE_RNN", "SVDF"}
)  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """Operators to cut out together.

    Attributes
    ----------
    operators : tuple of int
        Operator indices in the order of execution; usually one.
    sources : dict of int to hashable
        For each tensor that the layer reads from outside, constants apart: a name of its source.
        Tensors of one name share one input of the new model, so they must have one shape.
    output : int
        Tensor to return.
    """

    operators: tuple[int, ...]
    sources: Mapping[int, Hashable]
    output: int


@dataclass(frozen=True)
class CutModel:
    """A model of independent layers.

    Attributes
    ----------
    content : bytes
        The flatbuffer.
    inputs : dict of hashable to int
        Tensor index in the new model of every source.
    outputs : dict of hashable to int
        Tensor index of the output of every layer.
    """

    content: bytes
    inputs: dict[Hashable, int]
    outputs: dict[Hashable, int]


def constant_tensors(subgraph: Subgraph) -> dict[int, int | None]:
    """Tensors that do not depend on the input, with the operator that computes them if any.

    Float16 weights reach their layer through a DEQUANTIZE of a constant, for example.
    """
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
    if any(subgraph.tensors[i].variable for i in operator.inputs if i >= 0):
        return "it keeps state"
    return None


def cut_layers(graph: Graph, layers: Mapping[Hashable, Layer]) -> CutModel:
    """A model of chosen layers of the main subgraph, side by side.

    Parameters
    ----------
    graph : Graph
        The float network.
    layers : mapping of hashable to Layer
        What to cut out, under names of the caller's choice.

    Returns
    -------
    CutModel
        Its outputs have the names of ``layers``.
    """
    original = flat.ModelT.InitFromPackedBuf(graph.content, 0)
    model = flat.ModelT()
    model.version = original.version
    model.operatorCodes = original.operatorCodes
    model.buffers = [flat.BufferT()]
    builder = _Builder(original, model, constant_tensors(graph.main))
    inputs: dict[Hashable, int] = {}
    outputs: dict[Hashable, int] = {}
    for name, layer in layers.items():
        known = {-1: -1}
        for index, source in layer.sources.items():
            if source not in inputs:
                inputs[source] = builder.activation(index)
            known[index] = inputs[source]
        for op in layer.operators:
            operator = original.subgraphs[0].operators[op]
            wired = [known[i] if i in known else builder.constant(i) for i in operator.inputs]
            known |= {int(i): builder.activation(i) for i in operator.outputs}
            builder.operator(operator, wired, [known[i] for i in operator.outputs])
        outputs[name] = known[layer.output]
    subgraph = builder.subgraph
    subgraph.inputs, subgraph.outputs = list(inputs.values()), list(outputs.values())
    model.subgraphs = [subgraph]
    packer = flatbuffers.Builder(len(graph.content))
    packer.Finish(model.Pack(packer), b"TFL3")
    return CutModel(bytes(packer.Output()), inputs, outputs)


class _Builder:
    """The new model's only subgraph while it grows."""

    def __init__(self, original: Any, model: Any, constants: dict[int, int | None]) -> None:
        self.original, self.model, self.computed = original, model, constants
        self.subgraph = flat.SubGraphT()
        self.subgraph.name = "cut"
        self.subgraph.tensors = []
        self.subgraph.operators = []
        self._constants: dict[int, int] = {}

    def _tensor(self, index: int, buffer: int) -> int:
        source = self.original.subgraphs[0].tensors[index]
        tensor = flat.TensorT()
        tensor.name = f"t{len(self.subgraph.tensors)}"
        tensor.shape = source.shape
        tensor.shapeSignature = source.shapeSignature
        tensor.hasRank = source.hasRank
        tensor.type = source.type
        tensor.quantization = source.quantization
        tensor.sparsity = source.sparsity
        tensor.buffer = buffer
        self.subgraph.tensors.append(tensor)
        return len(self.subgraph.tensors) - 1

    def activation(self, index: int) -> int:
        return self._tensor(index, 0)

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
        operator = flat.OperatorT()
        operator.opcodeIndex = source.opcodeIndex
        operator.builtinOptionsType = source.builtinOptionsType
        operator.builtinOptions = source.builtinOptions
        operator.builtinOptions2Type = source.builtinOptions2Type
        operator.builtinOptions2 = source.builtinOptions2
        operator.mutatingVariableInputs = source.mutatingVariableInputs
        operator.inputs, operator.outputs = inputs, outputs
        self.subgraph.operators.append(operator)
