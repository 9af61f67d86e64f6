"""Files that break the interpreter must not break the caller."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as fb
from small_net import SHAPE, small_net

from qinspect.errors import ModelFileError
from qinspect.tflite import ensure_runs, isolated, probe, read_graph
from qinspect.tflite.identity import identify

EXPECTED = {
    "blockwise_quantized": "refused",
    "custom_sinh": "refused",
    "dynamic_shapes": "ok",
    "empty_model": "ok",
    "multi_signatures": "ok",
    "no_subgraphs": "refused",
    "qwen_fc_blockwise_quantized": "ok",
    "seanet_conv0_int16x8": "ok",
    "sparse_tensor": "refused",
    "string_input_model": "ok",
    "test_model_broken": "refused",
    "test_model_redux_precision": "ok",
    "while_op_with_forwarding_input": "ok",
}


def test_every_odd_file_gets_its_status(odd_dir: Path) -> None:
    found = {path.stem: probe(path).status for path in sorted(odd_dir.glob("*.tflite"))}
    assert found == EXPECTED


def test_the_file_and_what_happened_are_named(odd_dir: Path, cases: Path) -> None:
    with pytest.raises(ModelFileError, match=r"crasher.*SIG.*allocating") as caught:
        ensure_runs(cases / "torture/crasher.tflite")
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelFileError, match=r"custom_sinh.*Sinh"):
        ensure_runs(odd_dir / "custom_sinh.tflite")
    ensure_runs(odd_dir / "dynamic_shapes.tflite")


def test_a_hanging_child_is_stopped() -> None:
    # No interpreter starts within 10 ms, which stands for one that never answers.
    isolated.end_spare()
    start = time.monotonic()
    result = probe(small_net(seed=11), timeout=0.01)
    assert result.status == "timeout"
    assert time.monotonic() - start < 5
    # A timeout is not remembered: the same file with more time is fine.
    assert probe(small_net(seed=11)).status == "ok"


def test_memory_is_limited() -> None:
    result = probe(small_net(seed=12), memory=8 << 20)
    assert result.status in ("refused", "crashed")
    assert "memory" in result.message or "starting" in result.message


def test_an_answer_is_remembered_by_content(tmp_path: Path) -> None:
    content = small_net(seed=13)
    first, second = tmp_path / "a.tflite", tmp_path / "b.tflite"
    first.write_bytes(content)
    second.write_bytes(content)
    assert probe(first).status == "ok"
    # No child could answer in this time.
    assert probe(second, timeout=0.001).status == "ok"


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"gone\.tflite.*No such file"):
        probe(tmp_path / "gone.tflite")


def test_the_child_needs_neither_qinspect_nor_tensorflow() -> None:
    child = Path(isolated.__file__).with_name("runner_child.py")
    code = (
        "import runpy, sys; "
        f"ns = runpy.run_path({str(child)!r}); "
        "import numpy as np; "
        f"engine = ns['Engine']({small_net()!r}, ns['Plan'](inputs=(0,), reads=())); "
        f"engine.settle(lambda a, b: [np.ones((1, *{SHAPE}), np.float32)], 1); "
        "print([m for m in ('qinspect', 'tensorflow', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- mutants ---------------------------------------------------------------------------------

MUTANTS = 600


def mutants(content: bytes, count: int, seed: int) -> list[bytes]:
    """Damaged copies: bytes and words overwritten, preferably in the structure, cut, spliced."""
    rng = np.random.default_rng(seed)
    extremes = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF, 4, 255)
    made = []
    for _ in range(count):
        data = bytearray(content)
        kind = rng.integers(5)
        # The structure sits at both ends, constants in between.
        near = min(len(data) - 8, 2000)
        for _ in range(int(rng.integers(1, 6))):
            at = int(rng.integers(8, near) if rng.random() < 0.5 else rng.integers(
                max(8, len(data) - 6000), len(data) - 4))
            if kind == 0:
                data[at] = int(rng.integers(256))
            elif kind == 1:
                value = int(rng.choice(extremes))
                data[at : at + 4] = value.to_bytes(4, "little")
            elif kind == 2:
                data[at] ^= 1 << int(rng.integers(8))
            elif kind == 3 and len(data) > 400:
                other = int(rng.integers(8, len(data) - 64))
                size = int(rng.integers(4, 64))
                data[at : at + size] = data[other : other + size]
            else:
                del data[max(len(data) // 2, at) :]
                break
        made.append(bytes(data))
    return made


def edited(content: bytes, count: int, seed: int) -> list[bytes]:
    """Valid flatbuffers whose content contradicts itself; these get past LiteRT's verifier."""
    rng = np.random.default_rng(seed)
    numbers = [-1, 0, 1, 2, 3, 7, 64, 255, 1 << 16, (1 << 31) - 1, -(1 << 31)]
    made = []
    while len(made) < count:
        model = fb.ModelT.InitFromPackedBuf(content, 0)
        for _ in range(int(rng.integers(1, 4))):
            graph = model.subgraphs[int(rng.integers(len(model.subgraphs)))]
            tensor = graph.tensors[int(rng.integers(len(graph.tensors)))]
            op = graph.operators[int(rng.integers(len(graph.operators)))]
            number = int(rng.choice(numbers))
            kind = int(rng.integers(8))
            if kind == 0 and tensor.shape is not None and len(tensor.shape):
                shape = [int(d) for d in tensor.shape]
                shape[int(rng.integers(len(shape)))] = number
                tensor.shape = shape
            elif kind == 1:
                tensor.type = int(rng.integers(0, 19))
            elif kind == 2:
                tensor.buffer = int(rng.integers(len(model.buffers) + 1))
            elif kind == 3:
                inputs = [int(i) for i in op.inputs]
                inputs[int(rng.integers(len(inputs)))] = int(rng.integers(-1, len(graph.tensors)))
                op.inputs = inputs
            elif kind == 4:
                op.outputs = [int(rng.integers(len(graph.tensors)))]
            elif kind == 5:
                code = model.operatorCodes[int(rng.integers(len(model.operatorCodes)))]
                code.builtinCode = int(rng.integers(0, 160))
                code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            elif kind == 6 and op.builtinOptions is not None:
                names = [k for k, v in vars(op.builtinOptions).items() if type(v) is int]
                if names:
                    value = number & 127 if "activation" in names[0].lower() else number
                    setattr(op.builtinOptions, str(rng.choice(names)), value)
            elif tensor.quantization is not None:
                tensor.quantization.scale = [0.0, float("nan"), -1.0][: int(rng.integers(1, 3))]
                tensor.quantization.zeroPoint = [number] * len(tensor.quantization.scale)
        try:
            builder = flatbuffers.Builder(1024)
            builder.Finish(model.Pack(builder), b"TFL3")
        except (TypeError, struct.error, ValueError):  # the number does not fit the field
            continue
        made.append(bytes(builder.Output()))
    return made


def seeds(data_dir: Path) -> list[bytes]:
    folder = data_dir / "tflite"
    names = ("resnet8/int8", "odd/while_op_with_forwarding_input", "odd/string_input_model",
             "odd/seanet_conv0_int16x8", "odd/multi_signatures")
    return [small_net(), *((folder / f"{name}.tflite").read_bytes() for name in names)]


def all_mutants(data_dir: Path) -> list[bytes]:
    files = seeds(data_dir)
    half = MUTANTS // len(files) // 2
    return [
        mutant
        for number, content in enumerate(files)
        for mutant in (*mutants(content, half, number), *edited(content, half, number))
    ]


@pytest.mark.slow
def test_no_mutant_hurts_the_reader(data_dir: Path) -> None:
    refused, slowest = 0, 0.0
    for content in all_mutants(data_dir):
        start = time.perf_counter()
        try:
            identify(read_graph(content))
        except ModelFileError:
            refused += 1
        slowest = max(slowest, time.perf_counter() - start)
    # Some are refused and some only hit a constant, or the test would test nothing.
    assert 50 < refused < MUTANTS - 50
    assert slowest < 5


@pytest.mark.slow
def test_mutants_kill_only_children(data_dir: Path) -> None:
    """LiteRT runs each in a child; this process is still here, and every answer is a sentence."""
    found = [probe(content, timeout=10) for content in all_mutants(data_dir)]
    status = Counter(result.status for result in found)
    assert status["ok"] > 50
    assert status["refused"] > 50
    assert status["timeout"] < 20
    assert all(bool(result.message) == (result.status != "ok") for result in found)
    assert not [result for result in found if "\n" in result.message]
