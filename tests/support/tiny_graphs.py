"""Graphs of one operator, for what no converter would write."""

from __future__ import annotations

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as fb
from flatbuffers import flexbuffers


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
        kept.data = constant.reshape(-1).view(np.uint8)
        kind = fb.TensorType.FLOAT32 if constant.dtype == np.float32 else fb.TensorType.INT32
        tensor.name, tensor.shape, tensor.type = "constant", constant.shape, kind
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


def detection_head(anchors: np.ndarray, classes: int, most: int) -> bytes:
    """TFLite_Detection_PostProcess alone: inputs offsets (1, n, 4) and scores (1, n, classes + 1).

    ``anchors`` (n, 4) hold the middle (y, x), height and width; scores begin with the background.
    """
    options = flexbuffers.Builder()
    with options.Map():
        for key, whole in (("max_detections", most), ("max_classes_per_detection", 1),
                           ("num_classes", classes), ("detections_per_class", most)):
            options.Int(key, whole)
        for key, real in (("nms_score_threshold", 0.1), ("nms_iou_threshold", 0.6),
                          ("y_scale", 10.0), ("x_scale", 10.0), ("h_scale", 5.0),
                          ("w_scale", 5.0)):
            options.Float(key, real)
        options.Bool("use_regular_nms", False)
    n, real = len(anchors), fb.TensorType.FLOAT32
    outputs = [("boxes", (1, most, 4), real), ("classes", (1, most), real),
               ("scores", (1, most), real), ("count", (1,), real)]
    inputs = [("offsets", (1, n, 4), real), ("each", (1, n, classes + 1), real)]
    content = one_operator(fb.BuiltinOperator.CUSTOM, inputs, outputs,
                           custom="TFLite_Detection_PostProcess",
                           constant=anchors.astype(np.float32))
    model = fb.ModelT.InitFromPackedBuf(content, 0)
    model.subgraphs[0].operators[0].customOptions = np.frombuffer(options.Finish(), np.uint8)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def custom_operator(name: str) -> bytes:
    """An operator that LiteRT does not have."""
    real = fb.TensorType.FLOAT32
    return one_operator(fb.BuiltinOperator.CUSTOM, [("a", (1, 4), real)], [("b", (1, 4), real)],
                        custom=name)
