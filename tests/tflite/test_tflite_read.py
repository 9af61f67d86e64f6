"""Reading flatbuffers: right values, and one clear sentence for every damaged file."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as fb
from hypothesis import given, settings
from hypothesis import strategies as st
from small_net import examples, small_net

from qinspect.errors import ModelFileError
from qinspect.tflite import constant, dequantized, evaluate, inspect_file, read_graph


def pack(model: fb.ModelT) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def unpack(content: bytes) -> fb.ModelT:
    return fb.ModelT.InitFromPackedBuf(content, 0)


def one_constant(kind: int, shape: list[int], data: bytes, **quantization: object) -> bytes:
    """A file with a single constant."""
    model, graph, tensor, buffer = fb.ModelT(), fb.SubGraphT(), fb.TensorT(), fb.BufferT()
    buffer.data = np.frombuffer(data, np.uint8)
    tensor.name, tensor.type, tensor.shape, tensor.buffer = "constant", kind, shape, 1
    if quantization:
        tensor.quantization = fb.QuantizationParametersT()
        for key, value in quantization.items():
            setattr(tensor.quantization, key, value)
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [tensor], [], [], []
    model.version, model.subgraphs, model.operatorCodes = 3, [graph], []
    model.buffers = [fb.BufferT(), buffer]
    return pack(model)


def only(content: bytes):
    graph = read_graph(content)
    return graph, graph.main.tensors[0]


def test_constants_equal_those_of_the_interpreter(data_dir: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    for name in ("resnet8/int8", "resnet8/float32", "odd/seanet_conv0_int16x8"):
        path = data_dir / "tflite" / f"{name}.tflite"
        graph = read_graph(path)
        interpreter = Interpreter(
            model_path=str(path), num_threads=1, experimental_preserve_all_tensors=True
        )
        interpreter.allocate_tensors()
        details = {d["index"]: d for d in interpreter.get_tensor_details()}
        seen = 0
        for tensor in graph.main.tensors:
            detail = details[tensor.index]
            assert tuple(detail["shape"]) == tensor.shape
            assert detail["name"] == tensor.name
            parameters = detail["quantization_parameters"]
            if tensor.quantization is not None:
                # Allocation repeats a single scale for each channel of a dense layer.
                shape = parameters["scales"].shape
                np.testing.assert_allclose(
                    parameters["scales"], np.broadcast_to(tensor.quantization.scale, shape)
                )
                np.testing.assert_array_equal(
                    np.broadcast_to(parameters["zero_points"], shape),
                    np.broadcast_to(tensor.quantization.zero_point, shape),
                )
            if tensor.constant:
                expected = interpreter.get_tensor(tensor.index)
                np.testing.assert_array_equal(constant(graph, tensor), expected)
                seen += 1
        assert seen >= 2


@given(st.lists(st.integers(-8, 7), min_size=1, max_size=40))
@settings(max_examples=50, deadline=None)
def test_int4_is_unpacked_in_order(values: list[int]) -> None:
    nibbles = [v & 15 for v in values] + [0] * (len(values) % 2)
    data = bytes(low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2], strict=True))
    graph, tensor = only(one_constant(fb.TensorType.INT4, [len(values)], data))
    np.testing.assert_array_equal(constant(graph, tensor), values)


def test_bfloat16_and_strings() -> None:
    values = np.array([1.0, -2.5, 0.15625], np.float32)
    data = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    np.testing.assert_array_equal(
        constant(*only(one_constant(fb.TensorType.BFLOAT16, [3], data))), values
    )
    text = struct.pack("<iiii", 2, 16, 18, 21) + b"abcde"
    assert constant(*only(one_constant(fb.TensorType.STRING, [2], text))).tolist() == [
        b"ab",
        b"cde",
    ]


def test_dequantized_per_channel_by_hand() -> None:
    stored = np.array([[1, -2], [3, 4], [5, 6]], np.int8)
    graph, tensor = only(
        one_constant(
            fb.TensorType.INT8, [3, 2], stored.tobytes(),
            scale=[0.5, 0.25], zeroPoint=[0, 2], quantizedDimension=1,
        )
    )
    np.testing.assert_allclose(
        dequantized(graph, tensor), [[0.5, -1.0], [1.5, 0.5], [2.5, 1.0]], atol=0
    )


def test_blockwise_file_dequantizes(odd_dir: Path) -> None:
    graph = read_graph(odd_dir / "qwen_fc_blockwise_quantized.tflite")
    weight = next(t for t in graph.main.tensors if t.quantization and t.quantization.blockwise)
    real, stored = dequantized(graph, weight), constant(graph, weight)
    size = weight.quantization.block_size
    scales = constant(graph, graph.main.tensors[weight.quantization.block_scales]).reshape(-1)
    assert real.shape == weight.shape == stored.shape
    # Second computation, one block at a time.
    for block in (0, 7, len(scales) - 1):
        part = stored.reshape(-1)[block * size : (block + 1) * size]
        np.testing.assert_allclose(
            real.reshape(-1)[block * size : (block + 1) * size], part * float(scales[block]),
            rtol=1e-6,
        )


def test_data_behind_the_flatbuffer_are_found() -> None:
    values = np.arange(6, dtype=np.float32)
    model = unpack(one_constant(fb.TensorType.FLOAT32, [6], values.tobytes()))
    model.buffers[1].data = None
    model.buffers[1].offset, model.buffers[1].size = 10_000, values.nbytes
    content = pack(model)
    assert len(content) < 10_000
    content = content.ljust(10_000, b"\0") + values.tobytes()
    np.testing.assert_array_equal(constant(*only(content)), values)
    with pytest.raises(ModelFileError, match="after the end of the file"):
        read_graph(content[:-1])


def test_operators_and_options_are_read() -> None:
    graph = read_graph(small_net())
    conv = graph.main.operators[0]
    assert (conv.code, conv.activation) == ("CONV_2D", "RELU")
    assert conv.options["stride_w"] >= 1
    assert conv.options["padding"] in ("SAME", "VALID")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "HTML page"),
        (b"<html lang='en'>", "HTML page"),
        (b"PK\x03\x04" + bytes(40), "zip archive"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5"),
        (b"hello world, this is text", "not a TensorFlow Lite model"),
        (bytes(range(256)) * 4, "not a TensorFlow Lite model"),
        (b"\x18\0\0\0TFL3", "truncated"),
        (b"\xff\xff\xff\x7fTFL3" + bytes(100), "truncated"),
    ],
)
def test_what_is_no_model_says_so(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "file.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=words) as caught:
        read_graph(path)
    assert "file.tflite" in str(caught.value)


def edited(change) -> bytes:
    model = unpack(small_net())
    change(model, model.subgraphs[0])
    return pack(model)


def _schema_4(model, graph):
    model.version = 4


def _no_subgraph(model, graph):
    model.subgraphs = []


def _tensor_index(model, graph):
    graph.operators[0].inputs = [0, 999, 2]


def _negative_output(model, graph):
    graph.operators[0].outputs = [-1]


def _graph_input(model, graph):
    graph.inputs = [12345]


def _buffer_index(model, graph):
    graph.tensors[1].buffer = 4000


def _operator_code(model, graph):
    graph.operators[0].opcodeIndex = 77


def _type(model, graph):
    graph.tensors[0].type = 99


def _shape(model, graph):
    graph.tensors[0].shape = [1, -5, 8, 2]


def _axis(model, graph):
    q = graph.tensors[1].quantization = fb.QuantizationParametersT()
    q.scale, q.zeroPoint, q.quantizedDimension = [0.1] * 6, [0] * 6, 9


def _channels(model, graph):
    q = graph.tensors[1].quantization = fb.QuantizationParametersT()
    q.scale, q.zeroPoint, q.quantizedDimension = [0.1] * 5, [0] * 5, 0


def _zero_points(model, graph):
    q = graph.tensors[1].quantization = fb.QuantizationParametersT()
    q.scale, q.zeroPoint, q.quantizedDimension = [0.1] * 6, [0] * 4, 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_schema_4, "schema version 4"),
        (_no_subgraph, "no subgraph"),
        (_tensor_index, "an input of operator 0 is tensor 999"),
        (_negative_output, "an output of operator 0 is tensor -1"),
        (_graph_input, "an input of subgraph 0 is tensor 12345"),
        (_buffer_index, "buffer 4000"),
        (_operator_code, "operator code 77"),
        (_type, "unknown type 99"),
        (_shape, "has the shape"),
    ],
)
def test_contradictions_are_named(change, words: str) -> None:
    with pytest.raises(ModelFileError, match=words):
        read_graph(edited(change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_axis, "tensor 1 has the quantized dimension 9, but only "),
        (_channels, "tensor 1 has 5 scales for the 1 channels"),
        (_zero_points, "tensor 1 has 6 scales but 4 zero points"),
    ],
)
def test_a_flaw_of_one_tensor_costs_a_warning(change, words: str, tmp_path: Path) -> None:
    file = tmp_path / "flawed.tflite"
    file.write_bytes(edited(change))
    assert read_graph(file).main.tensors[1].quantization is None
    found = inspect_file(file)
    assert found["runs"] == "refused"
    assert words in found["warnings"][0]
    assert len([line for line in found["warnings"] if words in line]) == 1
    with pytest.raises(ModelFileError, match=f"flawed.tflite is damaged: {words}"):
        evaluate(read_graph(file), examples(2))


def test_missing_path_and_wrong_buffer_size(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="No such file"):
        read_graph(tmp_path / "absent.tflite")
    graph, tensor = only(one_constant(fb.TensorType.FLOAT32, [5], bytes(16)))
    with pytest.raises(ModelFileError, match="has 16 bytes"):
        constant(graph, tensor)
    graph, tensor = only(one_constant(fb.TensorType.FLOAT32, [2**31 - 1] * 8, bytes(16)))
    with pytest.raises(ModelFileError, match="has 16 bytes"):
        constant(graph, tensor)


def test_every_truncation_is_an_error_or_a_graph() -> None:
    content = small_net()
    refused = 0
    for length in range(0, len(content), 37):
        try:
            read_graph(content[:length])
        except ModelFileError:
            refused += 1
    assert refused > len(content) // 37 // 2


def test_a_300_kB_file_reads_in_milliseconds(data_dir: Path) -> None:
    path = data_dir / "tflite" / "vww" / "vww_96_int8.tflite"
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        read_graph(path)
        best = min(best, time.perf_counter() - start)
    assert best < 0.1
