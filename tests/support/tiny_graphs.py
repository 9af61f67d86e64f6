"""Graphs of one operator, for what no converter would write."""

from __future__ import annotations

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as fb


def one_operator(
    code: int,
    inputs: list[tuple[str, tuple[int, ...], int]],
    outputs: list[tuple[str, tuple[int, ...], int]],
    *,
    options: tuple[int, object] = (0, None),
    custom: str = "",
    constant: np.ndarray | None = None,
) -> bytes:
    """A file with one operator; tensors are (name, shape, type); a constant is its last input."""
    model, graph = fb.ModelT(), fb.SubGraphT()
    model.version, model.buffers, model.subgraphs = 3, [fb.BufferT()], [graph]
    kind, operator = fb.OperatorCodeT(), fb.OperatorT()
    kind.builtinCode, kind.deprecatedBuiltinCode, kind.version = code, min(code, 127), 1
    kind.customCode = custom or None
    graph.name, graph.tensors, graph.operators = "main", [], [operator]
    for name, shape, dtype in (*inputs, *outputs):
        tensor = fb.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), dtype
        graph.tensors.append(tensor)
    model.operatorCodes = [kind]
    operator.builtinOptionsType, operator.builtinOptions = options
    operator.inputs = graph.inputs = list(range(len(inputs)))
    operator.outputs = graph.outputs = list(range(len(inputs), len(graph.tensors)))
    if constant is not None:
        kept, tensor = fb.BufferT(), fb.TensorT()
        kept.data = constant.view(np.uint8)
        tensor.name, tensor.shape, tensor.type = "constant", constant.shape, fb.TensorType.INT32
        tensor.buffer = 1
        model.buffers.append(kept)
        graph.tensors.append(tensor)
        operator.inputs = [*graph.inputs, len(graph.tensors) - 1]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def floor_mod() -> bytes:
    """The remainder of two integers: zero is refused, the least by -1 stops an x86 process."""
    whole = fb.TensorType.INT32
    return one_operator(
        fb.BuiltinOperator.FLOOR_MOD, [("a", (1, 1), whole), ("b", (1, 1), whole)],
        [("rest", (1, 1), whole)],
        options=(fb.BuiltinOptions.FloorModOptions, fb.FloorModOptionsT()),
    )


def custom_operator(name: str) -> bytes:
    """An operator that LiteRT does not have."""
    real = fb.TensorType.FLOAT32
    return one_operator(fb.BuiltinOperator.CUSTOM, [("a", (1, 4), real)], [("b", (1, 4), real)],
                        custom=name)
