"""Run a ``.tflite`` file over many examples, with the integer input and output done right."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from qinspect.affine import quantize
from qinspect.errors import DataError, ModelFileError, SpecError
from qinspect.quiet import quiet
from qinspect.schema import Array
from qinspect.tflite.graph import Quantization, Tensor
from qinspect.tflite.ports import real_values
from qinspect.tflite.read import read_content

# Types of inputs that numbers can be put into.
_NUMBERS = {"float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16",
            "uint32", "uint64"}


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


# XNNPACK, where it can; the optimised kernels without it; the plain reference kernels.
Kernels = Literal["default", "builtin", "reference"]
KERNELS: tuple[str, ...] = ("default", "builtin", "reference")

# One-by-one and batched outputs of float kernels may differ by the order of summation.
_FLOAT_TOLERANCE = 1e-5


def make_interpreter(
    content: bytes,
    name: str = "model",
    *,
    num_threads: int = 2,
    kernels: Kernels = "default",
    preserve_all_tensors: bool = False,
) -> Any:
    """A LiteRT interpreter, not yet allocated; ``name`` names the file in messages."""
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
        raise ModelFileError(f"LiteRT cannot open {name}: {one_line(error)}") from error
    if kernels == "default":
        _let_delegate_announce_itself(interpreter)
    return interpreter


_announced = False


def _let_delegate_announce_itself(interpreter: Any) -> None:
    """Allocate once where nobody reads: XNNPACK reports its creation on standard error."""
    # Once a process.  An error is left for the caller's own allocation to raise.
    global _announced
    if _announced:
        return
    _announced = True
    with quiet(), contextlib.suppress(ValueError, RuntimeError):
        interpreter.allocate_tensors()


def feed(x: Array, tensor: Tensor, name: str) -> Array:
    """Examples in the dtype of an input tensor, quantized with its own scale; ``name`` the file."""
    if tensor.dtype not in _NUMBERS:
        raise ModelFileError(f"{name} takes inputs of type {tensor.dtype}, not numbers.")
    fits = len(x.shape) == len(tensor.shape) and all(
        want == got or sign == -1
        for want, got, sign in zip(tensor.shape[1:], x.shape[1:], tensor.shape_signature[1:],
                                   strict=True)
    )
    if not fits:
        raise DataError(
            f"each example has shape {tuple(x.shape[1:])}, but {name} takes {tensor.shape[1:]}."
        )
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        bad = int(np.count_nonzero(~np.isfinite(x).reshape(len(x), -1).all(axis=1)))
        raise DataError(f"{bad} of {len(x)} examples hold NaN or infinite values; remove them.")
    affine = tensor.affine
    if affine is None:
        # An integer input without quantization takes the integers themselves (token ids).
        return np.ascontiguousarray(x, dtype=tensor.dtype)
    return quantize(np.asarray(x, dtype=np.float64), affine)


def _described(detail: dict[str, Any]) -> Tensor:
    """An input or output as the interpreter describes it."""
    scale, zero_point = detail["quantization"]
    found = Quantization(np.array([scale], np.float64), np.array([zero_point], np.int64))
    return Tensor(
        index=int(detail["index"]), name=detail["name"],
        shape=tuple(int(d) for d in detail["shape"]),
        shape_signature=tuple(int(d) for d in detail.get("shape_signature", detail["shape"])),
        dtype=np.dtype(detail["dtype"]).name, constant=False, buffer=0,
        quantization=found if scale > 0 else None,
    )


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
    content = read_content(model)
    name = "model" if isinstance(model, bytes) else Path(model).name
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
    if len(x) == 0:
        raise DataError("there are no examples to evaluate (x is empty).")
    fed = feed(np.asarray(x), _described(detail), name)
    notes: list[str] = []
    raw = None
    if len(fed) > 1 and batch_size > 1:
        raw = _run_batched(interpreter, detail, fed, batch_size, output_index)
        if raw is not None and not _agrees_one_by_one(
            content, name, fed[:2], raw[:2], num_threads, kernels, output_index
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
        raw = _run_single(interpreter, detail, fed, output_index, name)

    outputs = real_values(_described(interpreter.get_output_details()[output_index]), raw)
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


def _run_batched(
    interpreter: Any, detail: dict[str, Any], fed: Array, batch_size: int, output_index: int
) -> Array | None:
    """All outputs, or None where the graph does not take a batch of this size."""
    batch = min(batch_size, len(fed))
    index = detail["index"]
    try:
        interpreter.resize_tensor_input(index, (batch, *fed.shape[1:]))
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError):
        return None
    out_index = interpreter.get_output_details()[output_index]["index"]
    results = []
    for start in range(0, len(fed), batch):
        part = fed[start : start + batch]
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
    interpreter: Any, detail: dict[str, Any], fed: Array, output_index: int, name: str
) -> Array:
    index = detail["index"]
    out_index = interpreter.get_output_details()[output_index]["index"]
    results = []
    try:
        interpreter.resize_tensor_input(index, (1, *fed.shape[1:]))
        interpreter.allocate_tensors()
        for example in fed:
            interpreter.set_tensor(index, example[None])
            interpreter.invoke()
            results.append(interpreter.get_tensor(out_index))
    except (ValueError, RuntimeError) as error:
        raise cannot_run(name, error) from error
    stacked = np.stack(results)
    # Outputs usually carry a batch axis of one; a scalar output has none.
    return stacked[:, 0] if stacked.ndim > 1 and stacked.shape[1] == 1 else stacked


def _agrees_one_by_one(
    content: bytes,
    name: str,
    fed: Array,
    batched: Array,
    num_threads: int,
    kernels: Kernels,
    output_index: int,
) -> bool:
    """Whether the first examples give the same output alone as they gave within the batch."""
    interpreter = make_interpreter(content, name, num_threads=num_threads, kernels=kernels)
    detail = interpreter.get_input_details()[0]
    single = _run_single(interpreter, detail, fed, output_index, name)
    if single.shape != batched.shape:
        return False
    if np.issubdtype(single.dtype, np.floating):
        largest = float(np.nanmax(np.abs(single), initial=1.0))
        return bool(np.allclose(single, batched, rtol=0, atol=_FLOAT_TOLERANCE * largest,
                                equal_nan=True))
    return bool(np.array_equal(single, batched))


def one_line(error: Exception) -> str:
    """What an error of a foreign library says, on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def cannot_run(name: str, error: Exception) -> ModelFileError:
    """The error to raise where LiteRT does not run a file."""
    return ModelFileError(f"LiteRT cannot run {name}: {one_line(error)}")
