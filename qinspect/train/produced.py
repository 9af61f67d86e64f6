"""Look into a file that was just converted, to make sure that it is what was asked for."""

from __future__ import annotations

from dataclasses import dataclass

_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


@dataclass(frozen=True)
class WeightedOperator:
    """An operator with constant weights.

    Attributes
    ----------
    code : str
        Operator code, such as ``CONV_2D``.
    weights, output : str
        Names of its weights and of its output tensor.
    input_type, weights_type : str
    scales : int
        Number of scales of the weights.
    """

    code: str
    weights: str
    output: str
    input_type: str
    weights_type: str
    scales: int

    @property
    def names(self) -> str:
        """All names that the layers it was made from have left, joined by semicolons."""
        return f"{self.weights};{self.output}"

    @property
    def is_integer(self) -> bool:
        """Whether it computes in integers."""
        return self.weights_type in {"INT8", "UINT8"} and self.input_type != "FLOAT32"


def weighted_operators(content: bytes) -> list[WeightedOperator]:
    """The convolutions and dense layers of a ``.tflite`` file, in the order they run."""
    from ai_edge_litert import schema_py_generated as schema

    code_names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    type_names = {value: name for name, value in vars(schema.TensorType).items()}
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    found = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        name = code_names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if name not in _WEIGHTED:
            continue
        # A transposed convolution takes (output shape, weights, input).
        source = graph.tensors[operator.inputs[2 if name == "TRANSPOSE_CONV" else 0]]
        weights = graph.tensors[operator.inputs[1]]
        scale = weights.quantization.scale if weights.quantization is not None else None
        found.append(
            WeightedOperator(
                name, weights.name.decode("utf-8", "replace"),
                graph.tensors[operator.outputs[0]].name.decode("utf-8", "replace"),
                type_names[source.type],
                type_names[weights.type], 0 if scale is None else len(scale),
            )
        )  # fmt: skip
    return found
