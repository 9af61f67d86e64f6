"""The small network with swish behind its convolution instead of ReLU."""

from __future__ import annotations

from copy import copy

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as fb
from small_net import small_net


def swish_net(seed: int = 0, factor: float = 1.0) -> bytes:
    """``small_net``, whose convolution, times a factor, is followed by x times sigmoid(x)."""
    model = fb.ModelT.InitFromPackedBuf(small_net(seed), 0)
    main = model.subgraphs[0]
    conv = main.operators[0]
    kernel = model.buffers[main.tensors[conv.inputs[1]].buffer]
    kernel.data = (factor * kernel.data.view(np.float32)).astype(np.float32).view(np.uint8)
    conv.builtinOptions.fusedActivationFunction = fb.ActivationFunctionType.NONE
    out = conv.outputs[0]
    for name in ("conv/linear", "conv/sigmoid"):
        tensor = copy(main.tensors[out])
        tensor.name = name
        main.tensors.append(tensor)
    linear, sigmoid = len(main.tensors) - 2, len(main.tensors) - 1
    conv.outputs = [linear]
    made = []
    for code, inputs, output in ((fb.BuiltinOperator.LOGISTIC, [linear], sigmoid),
                                 (fb.BuiltinOperator.MUL, [linear, sigmoid], out)):
        opcode, operator = fb.OperatorCodeT(), fb.OperatorT()
        opcode.builtinCode = opcode.deprecatedBuiltinCode = code
        opcode.version = 1
        operator.opcodeIndex = len(model.operatorCodes)
        model.operatorCodes.append(opcode)
        operator.inputs, operator.outputs = inputs, [output]
        made.append(operator)
    made[1].builtinOptionsType = fb.BuiltinOptions.MulOptions
    made[1].builtinOptions = fb.MulOptionsT()
    main.operators[1:1] = made
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
