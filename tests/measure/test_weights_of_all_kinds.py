"""Weights in 4 bits, in blocks, sparse or float16: each is shown, none ends in a traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as fb
from small_net import CLASSES, examples, half, small_net
from tiny_graphs import custom_operator, one_operator

import qinspect as qi
from qinspect.errors import QinspectError
from qinspect.tflite import evaluate, read_graph


def dense(change: Callable[[fb.ModelT, fb.TensorT, np.ndarray], None]) -> bytes:
    """The small network with another kernel in its dense layer."""
    model = fb.ModelT.InitFromPackedBuf(small_net(), 0)
    kernel = next(t for t in model.subgraphs[0].tensors if t.name == b"dense/weights")
    values = np.frombuffer(bytes(model.buffers[kernel.buffer].data), np.float32)
    change(model, kernel, values.reshape(CLASSES, -1))
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _packed(model: fb.ModelT, kernel: fb.TensorT, values: np.ndarray) -> np.ndarray:
    """Store the kernel in 4 bits; the scale of each channel."""
    scale = np.abs(values).max(axis=1) / 7
    four = np.rint(values / scale[:, None]).astype(np.int8).ravel() & 15
    model.buffers[kernel.buffer].data = (four[::2] | four[1::2] << 4).astype(np.uint8)
    kernel.type = fb.TensorType.INT4
    kernel.quantization = fb.QuantizationParametersT()
    return scale


def _int4(model: fb.ModelT, kernel: fb.TensorT, values: np.ndarray) -> None:
    scale = _packed(model, kernel, values)
    kernel.quantization.scale, kernel.quantization.zeroPoint = list(scale), [0] * CLASSES


def _blockwise(model: fb.ModelT, kernel: fb.TensorT, values: np.ndarray) -> None:
    scale = _packed(model, kernel, values)
    stored, scales, details = fb.BufferT(), fb.TensorT(), fb.BlockwiseQuantizationT()
    stored.data = scale.astype(np.float16).view(np.uint8)
    scales.name, scales.shape, scales.type = "scales", [CLASSES, 1], fb.TensorType.FLOAT16
    scales.buffer = len(model.buffers)
    model.buffers.append(stored)
    model.subgraphs[0].tensors.append(scales)
    details.scales, details.blockSize = len(model.subgraphs[0].tensors) - 1, values.shape[1]
    kernel.quantization.detailsType = fb.QuantizationDetails.BlockwiseQuantization
    kernel.quantization.details = details


def _sparse(model: fb.ModelT, kernel: fb.TensorT, values: np.ndarray) -> None:
    sparsity = kernel.sparsity = fb.SparsityParametersT()
    sparsity.traversalOrder, sparsity.dimMetadata = [0, 1], []
    for _ in range(2):
        part = fb.DimensionMetadataT()
        part.format, part.denseSize = fb.DimensionType.DENSE, 4
        sparsity.dimMetadata.append(part)


FILES = {"int4": dense(_int4), "blockwise": dense(_blockwise), "sparse": dense(_sparse),
         "float16": half(small_net())}


@pytest.mark.parametrize("kind", FILES)
def test_it_is_shown_or_refused(kind: str, tmp_path: Path) -> None:
    paths = {name: tmp_path / f"{name}.tflite" for name in ("float", kind)}
    paths["float"].write_bytes(small_net())
    paths[kind].write_bytes(FILES[kind])
    x = examples(60)
    np.savez(tmp_path / "data.npz", x=x, y=evaluate(read_graph(small_net()), x).prediction)
    files, data = list(paths.values()), tmp_path / "data.npz"
    (found,) = qi.inspect(paths[kind]).files
    assert found["weights"]["total"] == 3
    for ask in (
        lambda: qi.compare(files, data),
        lambda: qi.layers(files, data),
        lambda: qi.layers(files),
        lambda: qi.diagnose(qi.case(float=files[0], ptq=files[1], data=data)),
    ):
        if found["runs"] == "ok":
            repr(ask())
            continue
        with pytest.raises(QinspectError, match=f"{kind}.tflite") as refused:
            ask()
        assert str(refused.value).count("\n") == 0


def _strings() -> bytes:
    options = fb.ReshapeOptionsT()
    options.newShape = [1, 4]
    return one_operator(fb.BuiltinOperator.RESHAPE, [("words", (1, 4), fb.TensorType.STRING)],
                        [("out", (1, 4), fb.TensorType.STRING)],
                        options=(fb.BuiltinOptions.ReshapeOptions, options))


@pytest.mark.parametrize(("content", "inspected", "refused"), [
    (custom_operator("edgetpu-custom-op"), "compiled by the Edge TPU compiler",
     "was compiled by the Edge TPU compiler .* give the .tflite file that the compiler was given"),
    (custom_operator("ethos-u"), "compiled by Vela", "compiled by Vela for an Arm Ethos-U"),
    (custom_operator("FlexErf"), "Flex): FlexErf", "needs TensorFlow itself .* FlexErf"),
    (custom_operator("Sinh"), "where they are known: Sinh", "needs the custom operator Sinh"),
    (_strings(), "1 of 1 inputs are strings", "takes strings, not numbers; give the part"),
])
def test_what_cannot_run_here_is_named(
    content: bytes, inspected: str, refused: str, tmp_path: Path
) -> None:
    (tmp_path / "one.tflite").write_bytes(content)
    (tmp_path / "two.tflite").write_bytes(content)
    files = [tmp_path / "one.tflite", tmp_path / "two.tflite"]
    np.savez(tmp_path / "data.npz", x=np.ones((9, 4), np.float32), y=np.arange(9) % 4)
    data = tmp_path / "data.npz"
    assert any(inspected in line for line in qi.inspect(files[0]).files[0]["warnings"])
    for ask in (lambda: qi.compare(files, data), lambda: qi.evaluate(files, data),
                lambda: qi.diagnose(qi.case(float=files[0], ptq=files[1], data=data))):
        with pytest.raises(QinspectError, match=refused):
            ask()
