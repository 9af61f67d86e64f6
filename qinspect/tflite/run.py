"""Run a ``.tflite`` file over many examples, with the integer input and output done right."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from qinspect.errors import DataError, ModelFileError, SpecError
from qinspect.schema import Array


@dataclass(frozen=True)
class Evaluation:
    """Raw results of running one model over examples.

    Attributes
    ----------
    outputs : ndarray of float32, shape (n, classes)
        Dequantized output.
    raw : ndarray, shape (n, classes)
        Output as the file gives it (int8, uint8, int16 or float32).
    prediction : ndarray of int64, shape (n,)
        Arg max of ``raw`` (ties: lowest index, as the hardware would).
    tied : ndarray of bool, shape (n,)
        True where the greatest raw output is reached by more than one class.
    batched : bool
        False when the file could not be resized and ran one example at a time.
    notes : tuple of str
        What the user should know about how it ran.
    """

    outputs: Array
    raw: Array
    prediction: Array
    tied: Array
    batched: bool
    notes: tuple[str, ...] = ()

Kernels = Literal["default", "builtin", "reference"]
KERNELS: tuple[str, ...] = ("default", "builtin", "reference")

# One-by-one and batched outputs of float kernels may differ by the order of summation.
_FLOAT_TOLERANCE = 1e-5


def read_model(model: str | os.PathLike[str] | bytes | bytearray) -> tuple[bytes, str]:
    """Bytes of a model given as a path or as bytes, and the name to use for it in messages.

    Raises
    ------
    ModelFileError
        If the path cannot be read.
    """
    if isinstance(model, (bytes, bytearray)):
        return bytes(model), "model"
    path = Path(model)
    try:
        return path.read_bytes(), path.name
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ModelFileError(f"cannot read the model file {str(path)!r}: {reason}.") from error


def make_interpreter(
    content: bytes,
    name: str = "model",
    *,
    num_threads: int = 2,
    kernels: Kernels = "default",
    preserve_all_tensors: bool = False,
) -> Any:
    """A LiteRT interpreter for ``content``, not yet allocated.

    Parameters
    ----------
    content : bytes
        The flatbuffer.
    name : str
        Name of the file in messages.
    num_threads : int
        Threads for each kernel, at least 1.
    kernels : {"default", "builtin", "reference"}
        ``default`` applies the XNNPACK delegate, ``builtin`` the optimised kernels without
        it, ``reference`` the plain reference kernels.
    preserve_all_tensors : bool
        Keep every intermediate tensor readable after ``invoke``.

    Raises
    ------
    ModelFileError
        If LiteRT refuses the file.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    if kernels not in KERNELS:
        raise SpecError(f"kernels is {kernels!r}; choose one of {', '.join(KERNELS)}.")
    resolver = {
        "default": OpResolverType.AUTO,
        "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        "reference": OpResolverType.BUILTIN_REF,
    }[kernels]
    try:
        interpreter = Interpreter(
            model_content=content,
            num_threads=num_threads,
            experimental_op_resolver_type=resolver,
            experimental_preserve_all_tensors=preserve_all_tensors,
        )
    except (ValueError, RuntimeError) as error:
        raise ModelFileError(f"LiteRT cannot open {name}: {_one_line(error)}") from error
    if kernels == "default":
        _let_delegate_announce_itself(interpreter)
    return interpreter


_announced = False


def _let_delegate_announce_itself(interpreter: Any) -> None:
    """Allocate once where nobody reads, because XNNPACK reports its creation on standard error.

    It does so once a process.  An error is left for the caller's own allocation to raise.
    """
    global _announced
    if _announced:
        return
    _announced = True
    from qinspect.quiet import quiet

    with quiet(), contextlib.suppress(ValueError, RuntimeError):
        interpreter.allocate_tensors()


def quantize_input(x: Array, dtype: Any, scale: float, zero_point: int) -> Array:
    """Real values as the integers that an integer input tensor takes.

    ``q = clip(round(x / scale) + zero_point)``, the TensorFlow Lite quantization specification.

    Parameters
    ----------
    x : ndarray of float
        Values in the units of the float model's input.
    dtype : numpy dtype
        Integer type of the input tensor.
    scale : float
        Positive scale of the input tensor.
    zero_point : int
        Zero point of the input tensor.

    Returns
    -------
    ndarray of ``dtype``, same shape as ``x``
    """
    info = np.iinfo(dtype)
    q = np.rint(np.asarray(x, dtype=np.float64) / scale) + zero_point
    return np.clip(q, info.min, info.max).astype(dtype)


def dequantize_output(raw: Array, scale: float, zero_point: int) -> Array:
    """Integers of an output tensor as real values, ``scale * (raw - zero_point)``, float32."""
    return ((raw.astype(np.float64) - zero_point) * scale).astype(np.float32)


def evaluate(
    model: str | os.PathLike[str] | bytes,
    x: Array,
    *,
    batch_size: int = 128,
    num_threads: int = 2,
    kernels: Kernels = "default",
    output_index: int = 0,
) -> Evaluation:
    """Outputs and predictions of a ``.tflite`` model for every example.

    Float, dynamic-range, float16, int8, uint8 and int16x8 files are all given the same ``x``, in
    the units of the *float* model's input; where the file takes integers they are made with the
    file's own scale and zero point.

    Parameters
    ----------
    model : path or bytes
        The ``.tflite`` file.
    x : ndarray, shape (n, ...)
        Examples as the float model takes them.
    batch_size : int
        Examples for each invocation.
    num_threads : int
        Threads for each kernel.
    kernels : {"default", "builtin", "reference"}
        See :func:`make_interpreter`.
    output_index : int
        Which output to keep where the model has several.

    Returns
    -------
    Evaluation
        Outputs in the order of ``x``.  A file whose batch cannot be changed, or whose batched
        result differs from its one-by-one result, is run one example at a time, and
        ``notes`` says so.

    Raises
    ------
    DataError
        If ``x`` is empty, holds NaN or infinities, or does not fit the input's shape.
    ModelFileError
        If the file cannot be run, has several inputs, or takes strings.
    """
    content, name = read_model(model)
    interpreter = make_interpreter(content, name, num_threads=num_threads, kernels=kernels)
    details = interpreter.get_input_details()
    if len(details) != 1:
        raise ModelFileError(
            f"{name} has {len(details)} inputs; only models with one input can be evaluated."
        )
    detail = details[0]
    n_outputs = len(interpreter.get_output_details())
    if not 0 <= output_index < n_outputs:
        raise ModelFileError(f"{name} has {n_outputs} outputs; output {output_index} is not there.")
    feed = _prepare_input(np.asarray(x), detail, name)

    notes: list[str] = []
    raw = None
    if len(feed) > 1 and batch_size > 1:
        raw = _run_batched(interpreter, detail, feed, batch_size, output_index)
        if raw is not None and not _agrees_one_by_one(
            content, name, feed[:2], raw[:2], num_threads, kernels, output_index
        ):
            raw = None
        if raw is None:
            notes.append(
                f"{name} cannot run in batches (its graph fixes the batch size); "
                "it was run one example at a time."
            )
            interpreter = make_interpreter(content, name, num_threads=num_threads, kernels=kernels)
    batched = raw is not None
    if raw is None:
        raw = _run_single(interpreter, detail, feed, output_index, name)

    out_detail = interpreter.get_output_details()[output_index]
    scale, zero_point = out_detail["quantization"]
    outputs = (
        dequantize_output(raw, scale, zero_point)
        if np.issubdtype(raw.dtype, np.integer) and scale > 0
        else raw.astype(np.float32)
    )
    bad = int(np.count_nonzero(~np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)))
    if bad:
        notes.append(f"{bad} of {len(outputs)} examples have a NaN or infinite output.")
    flat = raw.reshape(len(raw), -1)
    top = flat.max(axis=1, keepdims=True)
    return Evaluation(
        outputs=outputs,
        raw=raw,
        prediction=flat.argmax(axis=1).astype(np.int64),
        tied=np.count_nonzero(flat == top, axis=1) > 1,
        batched=batched,
        notes=tuple(notes),
    )


def _prepare_input(x: Array, detail: dict[str, Any], name: str) -> Array:
    dtype = np.dtype(detail["dtype"])
    if dtype.kind not in "fiu":
        raise ModelFileError(f"{name} takes inputs of type {dtype}, not numbers.")
    if len(x) == 0:
        raise DataError("there are no examples to evaluate (x is empty).")
    signature = tuple(int(d) for d in detail.get("shape_signature", detail["shape"]))
    expected = tuple(int(d) for d in detail["shape"])
    fits = len(x.shape) == len(expected) and all(
        want == got or sign == -1
        for want, got, sign in zip(expected[1:], x.shape[1:], signature[1:], strict=True)
    )
    if not fits:
        raise DataError(
            f"each example has shape {tuple(x.shape[1:])}, but {name} takes {expected[1:]}."
        )
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        bad = int(np.count_nonzero(~np.isfinite(x).reshape(len(x), -1).all(axis=1)))
        raise DataError(f"{bad} of {len(x)} examples hold NaN or infinite values; remove them.")
    if dtype.kind == "f":
        return np.ascontiguousarray(x, dtype=dtype)
    scale, zero_point = detail["quantization"]
    if scale <= 0:
        # An integer input without quantization takes the integers themselves (token ids).
        return np.ascontiguousarray(x, dtype=dtype)
    return quantize_input(x, dtype, float(scale), int(zero_point))


def _run_batched(
    interpreter: Any, detail: dict[str, Any], feed: Array, batch_size: int, output_index: int
) -> Array | None:
    """All outputs, or None where the graph does not take a batch of this size."""
    batch = min(batch_size, len(feed))
    index = detail["index"]
    try:
        interpreter.resize_tensor_input(index, (batch, *feed.shape[1:]))
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError):
        return None
    out_index = interpreter.get_output_details()[output_index]["index"]
    results = []
    for start in range(0, len(feed), batch):
        part = feed[start : start + batch]
        count = len(part)
        if count < batch:
            # Repeat the last example rather than allocate anew for one partial batch.
            part = np.concatenate([part, np.repeat(part[-1:], batch - count, axis=0)])
        interpreter.set_tensor(index, part)
        try:
            interpreter.invoke()
        except (ValueError, RuntimeError):
            return None
        out = interpreter.get_tensor(out_index)
        if out.ndim == 0 or out.shape[0] != batch:
            return None
        results.append(out[:count])
    return np.concatenate(results)


def _run_single(
    interpreter: Any, detail: dict[str, Any], feed: Array, output_index: int, name: str
) -> Array:
    index = detail["index"]
    out_index = interpreter.get_output_details()[output_index]["index"]
    results = []
    try:
        interpreter.resize_tensor_input(index, (1, *feed.shape[1:]))
        interpreter.allocate_tensors()
        for example in feed:
            interpreter.set_tensor(index, example[None])
            interpreter.invoke()
            results.append(interpreter.get_tensor(out_index))
    except (ValueError, RuntimeError) as error:
        raise ModelFileError(f"LiteRT cannot run {name}: {_one_line(error)}") from error
    stacked = np.stack(results)
    # Outputs usually carry a batch axis of one; a scalar output has none.
    return stacked[:, 0] if stacked.ndim > 1 and stacked.shape[1] == 1 else stacked


def _agrees_one_by_one(
    content: bytes,
    name: str,
    feed: Array,
    batched: Array,
    num_threads: int,
    kernels: Kernels,
    output_index: int,
) -> bool:
    """Whether the first examples give the same output alone as they gave within the batch."""
    interpreter = make_interpreter(content, name, num_threads=num_threads, kernels=kernels)
    detail = interpreter.get_input_details()[0]
    single = _run_single(interpreter, detail, feed, output_index, name)
    if single.shape != batched.shape:
        return False
    if np.issubdtype(single.dtype, np.floating):
        largest = float(np.nanmax(np.abs(single), initial=1.0))
        return bool(np.allclose(single, batched, rtol=0, atol=_FLOAT_TOLERANCE * largest,
                                equal_nan=True))
    return bool(np.array_equal(single, batched))


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:300] if text else type(error).__name__
