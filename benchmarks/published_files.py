"""Published .tflite files through ``qinspect inspect`` and ``qinspect compare``, without labels.

Every file is inspected, and compared on random inputs with a copy of itself and with an int8 copy,
each command in a process of its own, as a user starts it.  A row says how it ended: ok, refused
(exit code 2 and one sentence) or FAULT (anything else); the script fails where there is a FAULT or
where a copy differs from its original.

    pip download --no-deps basic-pitch mediapipe==0.10.9
    python benchmarks/published_files.py FOLDER_OR_WHEEL_OR_FILE... [--examples 4]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as fb
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from qinspect.errors import QinspectError
from qinspect.measure.activations import observe_ranges
from qinspect.tflite import read_graph
from qinspect.tflite.ports import ports_of
from qinspect.tflite.requantize import quantize_file
from qinspect.tflite.sandbox import open_model

Array = np.ndarray[Any, Any]
PLAIN = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES


@dataclass(frozen=True)
class Ended:
    """How one command ended."""

    how: str
    seconds: float
    sentence: str = ""


def files_of(paths: list[Path], folder: Path) -> Iterator[Path]:
    """The .tflite files in folders and wheels."""
    for path in paths:
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                for name in wheel.namelist():
                    if name.endswith(".tflite"):
                        yield Path(wheel.extract(name, folder / path.stem))
        elif path.is_dir():
            yield from sorted(path.rglob("*.tflite"))
            yield from files_of(sorted(path.rglob("*.whl")), folder)
        else:
            yield path


def inputs_of(file: Path, examples: int) -> dict[str, Array]:
    """Random values for every input, between 0 and 1, as images and sounds mostly are."""
    rng = np.random.default_rng(0)
    found = {}
    for port in ports_of(read_graph(file)).inputs:
        shape = (examples, *(max(size, 1) for size in port.shape[1:]))
        values = rng.uniform(0, 1, shape)
        found[port.name] = values.astype(port.tensor.dtype if port.tensor.dtype != "string"
                                         else "float32")
    return {"x": next(iter(found.values()))} if len(found) == 1 else found


def with_float_constants(content: bytes) -> bytes:
    """The same network with the results of DEQUANTIZE and DENSIFY of constants as constants."""
    model = fb.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    known = {i for i, t in enumerate(graph.tensors) if model.buffers[t.buffer].data is not None}
    unpacking = []
    for operator in graph.operators:
        kind = model.operatorCodes[operator.opcodeIndex]
        code = max(kind.builtinCode, kind.deprecatedBuiltinCode)
        if code in (fb.BuiltinOperator.DEQUANTIZE, fb.BuiltinOperator.DENSIFY) and (
                operator.inputs[0] in known):
            unpacking.append(operator)
            known.update(operator.outputs)
    made = [operator.outputs[0] for operator in unpacking]
    kept, ends = [o for o in graph.operators if o not in unpacking], (graph.inputs, graph.outputs)
    # They run alone, without XNNPACK, which would unpack them in memory of its own; not every whole
    # file runs without it.
    graph.operators, graph.inputs, graph.outputs, model.signatureDefs = unpacking, [], made, None
    run = Interpreter(model_content=packed(model), experimental_op_resolver_type=PLAIN)
    run.allocate_tensors()
    run.invoke()
    graph.operators, (graph.inputs, graph.outputs) = kept, ends
    used = {i for operator in kept for i in operator.inputs}
    for index, tensor in enumerate(graph.tensors):
        if index in made and index in used:
            buffer = fb.BufferT()
            buffer.data = np.frombuffer(run.get_tensor(index).tobytes(), np.uint8)
            tensor.buffer = len(model.buffers)
            model.buffers.append(buffer)
        elif index in known - used:
            # Nothing reads it any more; what it held must not count as a float16 weight.
            tensor.type, tensor.buffer, tensor.sparsity = fb.TensorType.INT32, 0, None
            tensor.shape, tensor.shapeSignature = [], None
    return packed(model)


def packed(model: fb.ModelT) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def quantized(file: Path, x: dict[str, Array]) -> bytes:
    """An int8 copy, calibrated on the same inputs; raises QinspectError where there is none."""
    graph = open_model(file)
    if any(t.dtype == "float16" for t in graph.main.tensors):
        content = with_float_constants(graph.content)
        graph = replace(read_graph(content), file=graph.file)
    values = x.get("x", x)
    return quantize_file(graph, observe_ranges(graph, values).over())


def command(*arguments: str | Path) -> tuple[Ended, dict[str, Any]]:
    """Run ``qinspect`` and judge how it ended."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "qinspect", *map(str, arguments), "--json"],
                          capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    last = (done.stderr.strip().splitlines() or [""])[-1]
    if "Traceback" in done.stderr or done.returncode not in (0, 2):
        return Ended("FAULT", seconds, f"exit code {done.returncode}: {last}"), {}
    if done.returncode:
        return Ended("refused", seconds, " ".join(done.stderr.split())), {}
    found = json.loads(done.stdout)
    return Ended("ok", seconds), found


def compared(file: Path, other: Path, data: Path, *, equal: bool) -> Ended:
    """``compare`` of two files, with what it says of their outputs."""
    ended, found = command("compare", file, other, "--data", data)
    if ended.how != "ok":
        return ended
    (row,) = found["agreement"]
    if equal and not row["outputs_equal"]:
        return replace(ended, how="FAULT", sentence="a copy gives other outputs")
    sqnr = row["output_sqnr_db"]
    said = "equal" if row["outputs_equal"] else "" if sqnr is None else f"{sqnr:.1f} dB"
    layers = len({layer["layer"] for layer in found["layers"]})
    return replace(ended, sentence=f"{said}, {layers} layers measured, "
                                   f"{len(found['notes'])} notes")


def row_of(file: Path, examples: int, folder: Path) -> dict[str, Ended]:
    """All commands on one file."""
    found = {"inspect": command("inspect", file)[0]}
    copy, other, data = folder / "copy.tflite", folder / "int8.tflite", folder / "data.npz"
    shutil.copy(file, copy)
    x = inputs_of(file, examples)
    np.savez(data, **x)
    found["itself"] = compared(file, copy, data, equal=True)
    try:
        other.write_bytes(quantized(file, x))
    except QinspectError as error:
        found["int8"] = Ended("no copy", 0.0, str(error))
    else:
        found["int8"] = compared(file, other, data, equal=False)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--examples", type=int, default=4)
    chosen = parser.parse_args()
    faults = 0
    print("| file | KB | command | ended | s | sentence |")
    print("|---|---:|---|---|---:|---|")
    with tempfile.TemporaryDirectory() as folder:
        for file in files_of(chosen.paths, Path(folder)):
            size = round(file.stat().st_size / 1000)
            for what, ended in row_of(file, chosen.examples, Path(folder)).items():
                faults += ended.how == "FAULT"
                sentence = ended.sentence.replace(str(file), file.name)
                print(f"| {file.name} | {size} | {what} | {ended.how} | {ended.seconds:.1f} | "
                      f"{sentence} |", flush=True)
    print(f"\n{faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
