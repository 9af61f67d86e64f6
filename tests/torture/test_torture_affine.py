"""The affine arithmetic against the kernels of LiteRT, over random parameters."""

from __future__ import annotations

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as fb
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_graphs import one_operator

from qinspect.affine import LIMITS, Affine, dequantize, quantize

TYPES = {"int8": fb.TensorType.INT8, "uint8": fb.TensorType.UINT8, "int16": fb.TensorType.INT16}
KERNELS = {"default": OpResolverType.AUTO,
           "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
           "reference": OpResolverType.BUILTIN_REF}
scales = st.floats(2.0**-20, 2.0**10, width=32)


def converter(code: int, dtype: str, affine: Affine, size: int) -> bytes:
    """A file of one QUANTIZE or DEQUANTIZE operator."""
    into = code == fb.BuiltinOperator.QUANTIZE
    kinds = (fb.TensorType.FLOAT32, TYPES[dtype]) if into else (TYPES[dtype], fb.TensorType.FLOAT32)
    content = one_operator(code, [("x", (1, size), kinds[0])], [("y", (1, size), kinds[1])])
    model = fb.ModelT.InitFromPackedBuf(content, 0)
    found = fb.QuantizationParametersT()
    found.scale, found.zeroPoint = [float(affine.scale[0])], [int(affine.zero_point[0])]
    model.subgraphs[0].tensors[int(into)].quantization = found
    # Version 1 of both knows 8 bits only.
    model.operatorCodes[0].version = 3
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def run(content: bytes, x: np.ndarray, kernels: str) -> np.ndarray:
    interpreter = Interpreter(model_content=content,
                              experimental_op_resolver_type=KERNELS[kernels], num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x[None])
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])


def parameters(dtype: str, scale: float, share: float) -> Affine:
    low, high = LIMITS[dtype]
    zero_point = 0 if dtype == "int16" else round(low + share * (high - low))
    return Affine(np.array([scale]), np.array([zero_point]), low, high)


@given(st.sampled_from(sorted(TYPES)), scales, st.floats(0, 1), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_quantize(dtype, scale, share, seed) -> None:
    """Ties and their neighbours, both ends and beyond."""
    affine = parameters(dtype, scale, share)
    steps = np.random.default_rng(seed).uniform(-1.5, 1.5, 200) * (affine.high - affine.low)
    ties = ((np.round(steps) + 0.5) * scale).astype(np.float32)
    x = np.concatenate([ties, np.nextafter(ties, np.float32(0)), np.nextafter(ties, ties * 2),
                        (steps * scale).astype(np.float32), np.float32([0, -0.0, 1e-42, -1e-42])])
    content = converter(fb.BuiltinOperator.QUANTIZE, dtype, affine, x.size)
    np.testing.assert_array_equal(quantize(x, affine, rounding="half_away"),
                                  run(content, x, "reference"))
    # The other kernels multiply with the reciprocal; one step away, and only beside a tie.
    tie = np.abs(np.abs(x / scale) % 1 - 0.5) <= 4 * np.finfo(np.float32).eps * np.abs(x / scale)
    for kernels in ("default", "builtin"):
        away = np.abs(quantize(x, affine).astype(int) - run(content, x, kernels).astype(int))
        assert away.max() <= 1
        assert not away[~tie].any()


@given(st.sampled_from(sorted(TYPES)), scales, st.floats(0, 1))
@settings(max_examples=60)
def test_dequantize(dtype, scale, share) -> None:
    """Every stored integer of 8 bits, and many of 16."""
    affine = parameters(dtype, scale, share)
    q = np.unique(np.linspace(affine.low, affine.high, 5000).round()).astype(dtype)
    content = converter(fb.BuiltinOperator.DEQUANTIZE, dtype, affine, q.size)
    ours = dequantize(q, affine)
    np.testing.assert_array_equal(ours, run(content, q, "reference"))
    np.testing.assert_array_equal(ours, run(content, q, "default"))
    # The optimised kernels subtract two rounded products.
    largest = affine.scale[0] * (np.abs(q.astype(int)) + abs(int(affine.zero_point[0])))
    away = np.abs(ours.astype(np.float64) - run(content, q, "builtin"))
    assert (away <= np.finfo(np.float32).eps * largest).all()
