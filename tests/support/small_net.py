"""A small float ``.tflite`` network written with the flatbuffer schema: no TensorFlow needed."""

from __future__ import annotations

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as fb

CLASSES = 4
SHAPE = (8, 8, 2)


def small_net(
    seed: int = 0,
    *,
    spread: float = 1.0,
    signature: bool = True,
    channels: int = SHAPE[2],
    deeper: int = 0,
    batchnorm: bool = False,
) -> bytes:
    """Convolution + ReLU, depthwise convolution, pooling, dense, softmax.

    ``spread`` multiplies the weights of the first channel of the convolution and divides what the
    next layer makes of it: with a large one a scale per tensor loses the other channels.
    ``deeper`` more 1x1 convolutions stand before the dense layer.  With ``batchnorm`` the bias of
    the convolution is named as the converter names one that a batch norm was folded into.
    """
    rng = np.random.default_rng(seed)
    conv = rng.normal(0, 0.4, (6, 3, 3, channels)).astype(np.float32)
    depthwise = rng.normal(0, 0.5, (1, 3, 3, 6)).astype(np.float32)
    conv[0] *= spread
    depthwise[..., 0] /= spread
    model = fb.ModelT()
    model.version = 3
    model.description = "small net"
    model.buffers = [fb.BufferT()]
    model.operatorCodes, graph = [], fb.SubGraphT()
    graph.name, graph.tensors, graph.operators = "main", [], []
    model.subgraphs = [graph]

    def tensor(name: str, shape: tuple[int, ...], data: np.ndarray | None = None) -> int:
        item = fb.TensorT()
        item.name, item.shape = name, list(shape)
        item.type = fb.TensorType.FLOAT32
        if data is not None:
            buffer = fb.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            item.buffer = len(model.buffers)
            item.type = fb.TensorType.INT32 if data.dtype == np.int32 else fb.TensorType.FLOAT32
            model.buffers.append(buffer)
        graph.tensors.append(item)
        return len(graph.tensors) - 1

    def constant(name: str, data: np.ndarray) -> int:
        return tensor(name, data.shape, data)

    def operator(code: int, options: object, inputs: list[int], output: int) -> None:
        opcode = fb.OperatorCodeT()
        opcode.builtinCode = opcode.deprecatedBuiltinCode = code
        opcode.version = 1
        model.operatorCodes.append(opcode)
        item = fb.OperatorT()
        item.opcodeIndex = len(model.operatorCodes) - 1
        item.inputs, item.outputs = inputs, [output]
        item.builtinOptionsType = getattr(
            fb.BuiltinOptions, type(options).__name__.removesuffix("T")
        )
        item.builtinOptions = options
        graph.operators.append(item)

    relu = fb.ActivationFunctionType.RELU
    x = tensor("x", (1, *SHAPE[:2], channels))
    a = tensor("conv/Relu", (1, 8, 8, 6))
    options = fb.Conv2DOptionsT()
    options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
    options.fusedActivationFunction = relu
    bias = rng.normal(0, 0.1, 6).astype(np.float32)
    operator(fb.BuiltinOperator.CONV_2D, options,
             [x, constant("conv/weights", conv),
              constant("bn/FusedBatchNormV3;conv/bias" if batchnorm else "conv/bias", bias)], a)
    b = tensor("depthwise/Relu", (1, 4, 4, 6))
    options = fb.DepthwiseConv2DOptionsT()
    options.strideW = options.strideH = 2
    options.dilationWFactor = options.dilationHFactor = options.depthMultiplier = 1
    options.fusedActivationFunction = relu
    zero = np.zeros(6, np.float32)
    operator(fb.BuiltinOperator.DEPTHWISE_CONV_2D, options,
             [a, constant("depthwise/weights", depthwise), constant("depthwise/bias", zero)],
             b)
    c = tensor("pool", (1, 2, 2, 6))
    options = fb.Pool2DOptionsT()
    options.padding = fb.Padding.VALID
    options.strideW = options.strideH = options.filterWidth = options.filterHeight = 2
    operator(fb.BuiltinOperator.AVERAGE_POOL_2D, options, [b], c)
    for i in range(deeper):
        below, c = c, tensor(f"deep{i}/Relu", (1, 2, 2, 6))
        kernel = (np.eye(6) + rng.normal(0, 0.05, (6, 6))).astype(np.float32)
        options = fb.Conv2DOptionsT()
        options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
        options.fusedActivationFunction = relu
        operator(fb.BuiltinOperator.CONV_2D, options,
                 [below, constant(f"deep{i}/weights", kernel.reshape(6, 1, 1, 6)),
                  constant(f"deep{i}/bias", zero)], c)
    d = tensor("dense", (1, CLASSES))
    # Every channel sums to zero over the positions, so that no class is favoured from the start.
    weights = rng.normal(0, 1, (CLASSES, 4, 6))
    weights = (weights - weights.mean(axis=1, keepdims=True)).reshape(CLASSES, 24).astype("f4")
    bias = rng.normal(0, 0.1, CLASSES).astype(np.float32)
    operator(fb.BuiltinOperator.FULLY_CONNECTED, fb.FullyConnectedOptionsT(),
             [c, constant("dense/weights", weights), constant("dense/bias", bias)], d)
    out = tensor("probabilities", (1, CLASSES))
    options = fb.SoftmaxOptionsT()
    options.beta = 1.0
    operator(fb.BuiltinOperator.SOFTMAX, options, [d], out)
    graph.inputs, graph.outputs = [x], [out]
    if signature:
        model.signatureDefs = [_signature(x, out)]
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _signature(x: int, out: int) -> fb.SignatureDefT:
    found = fb.SignatureDefT()
    found.signatureKey, found.subgraphIndex = "serving_default", 0
    found.inputs, found.outputs = [], []
    for name, index, where in (("x", x, found.inputs), ("y", out, found.outputs)):
        item = fb.TensorMapT()
        item.name, item.tensorIndex = name, index
        where.append(item)
    return found


def examples(n: int, seed: int = 1, *, channels: int = SHAPE[2]) -> np.ndarray:
    """Standard normal inputs, float32."""
    shape = (n, *SHAPE[:2], channels)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def half(content: bytes) -> bytes:
    """The same network with float16 constants behind DEQUANTIZE, as the converter writes them."""
    model = fb.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    code = fb.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = fb.BuiltinOperator.DEQUANTIZE
    code.version = 3
    model.operatorCodes.append(code)
    unpacking = []
    for index, tensor in enumerate(list(graph.tensors)):
        data = model.buffers[tensor.buffer].data
        if data is None or tensor.type != fb.TensorType.FLOAT32:
            continue
        packed, operator = fb.TensorT(), fb.OperatorT()
        packed.name, packed.shape = f"{bytes(tensor.name).decode()}/half", tensor.shape
        packed.type, packed.buffer = fb.TensorType.FLOAT16, tensor.buffer
        rounded = data.view(np.float32).astype(np.float16)
        model.buffers[tensor.buffer].data = rounded.view(np.uint8)
        tensor.buffer = 0
        operator.opcodeIndex = len(model.operatorCodes) - 1
        operator.inputs, operator.outputs = [len(graph.tensors)], [index]
        graph.tensors.append(packed)
        unpacking.append(operator)
    graph.operators = [*unpacking, *graph.operators]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
