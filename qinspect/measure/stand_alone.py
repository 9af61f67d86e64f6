"""The worst operator of a file, cut out to stand alone, with what it was given and what it gave."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qinspect import store
from qinspect.data.dataset import count, take
from qinspect.data.names import listed
from qinspect.errors import ModelFileError, QinspectError, StoreError
from qinspect.measure.cut import (
    CutModel,
    CutOperators,
    constant_tensors,
    cut_alone,
    cut_operators,
    cut_session,
    outside_inputs,
    why_not_alone,
)
from qinspect.measure.debugger import OF_RANGE, beyond_rounding, of_range
from qinspect.measure.kernels import multiplications
from qinspect.schema import Array, Arrays
from qinspect.tflite.beside import STEPS, in_steps
from qinspect.tflite.graph import Graph
from qinspect.tflite.runner import READABLE, Kernels, Session
from qinspect.verdicts import examples

# One row an operator: by how much the optimised and the reference kernel differ when both are given
# the same, in stored steps, of floats in 255ths of the range seen.
KERNELS = ("operator", "op", "tensor", "steps", "unit")
# More than rounding, in steps.
_ROUNDING = 1.0
# Examples at most, values of activations and multiplications by reference kernels; chosen.
_MOST, _VALUES, _WORK = 32, 2e7, 4e9
# What a cut writes into its folder, and how its README.txt begins.
_README, _EXAMPLES = "README.txt", "examples.npz"
_OWN = re.compile(r"op_\d{4,}_\w+\.tflite|(input_\d+|output_\d+_(default|reference))\.bin")
_BEGINS = re.compile(r"op_\d{4,}_\w+\.tflite: operator \d+ ")
_KERNELS: tuple[Kernels, ...] = ("default", "reference")


@dataclass(frozen=True)
class CutOut:
    """An operator that stands alone in a folder: which one, why, and what lies there."""

    folder: str
    operator: int
    op: str
    tensor: str
    chosen: str
    examples: int
    files: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What was cut out, and why."""
        return (f"operator {self.operator} ({self.op}, {self.tensor!r}) stands alone in "
                f"{self.folder}: {self.chosen}")


def some_of(graph: Graph, x: Arrays) -> Arrays:
    """As many examples as are run by reference kernels, and held, in little time."""
    values = sum(np.prod(np.maximum(t.shape, 1), dtype=float) for t in graph.main.tensors
                 if not t.constant)
    most = min(_VALUES / max(values, 1.0), _WORK / multiplications(graph))
    return take(x, slice(int(np.clip(most, 1, min(_MOST, count(x))))))


def kernel_table(graph: Graph, x: Arrays) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Each operator by optimised and by reference kernels, given the same; columns ``KERNELS``."""
    main, constants = graph.main, constant_tensors(graph.main)
    needed = {op.index: outside_inputs(main, [op.index], constants) for op in main.operators
              if why_not_alone(main, op.index) is None and op.outputs}
    given = _values(graph, sorted({i for inputs in needed.values() for i in inputs}), x)
    layers = {op: CutOperators((op,), {i: i for i in inputs}, main.operators[op].outputs[0])
              for op, inputs in needed.items()
              if inputs and all(i in given for i in inputs)
              and main.tensors[main.operators[op].outputs[0]].dtype in READABLE}
    found, notes = _both(graph, layers, given)
    rows = []
    for op, (usual, reference) in sorted(found.items()):
        tensor = main.tensors[main.operators[op].outputs[0]]
        steps, unit = _difference(usual, reference)
        rows.append((op, main.operators[op].code, tensor.name, steps, unit))
    frame = pd.DataFrame(rows, columns=list(KERNELS))
    left = [f"{op.index} ({op.code})" for op in main.operators
            if op.index not in found and op.index not in constants.values()]
    if left:
        notes.append(f"not held against the reference kernels, because they cannot stand alone: "
                     f"operators {', '.join(left)}.")
    return frame.sort_values("steps", ascending=False, kind="stable").reset_index(drop=True), tuple(
        notes)


def _both(graph: Graph, layers: Mapping[int, CutOperators], given: Mapping[int, Array]
          ) -> tuple[dict[int, tuple[Array, Array]], list[str]]:
    """What operators give by either kernels; one that does not run takes no others with it."""
    if not layers:
        return {}, []
    try:
        cut = cut_operators(graph, layers)  # type: ignore[arg-type]
        by_kernels = [_run(cut, graph, given, kernels) for kernels in _KERNELS]
    except QinspectError as error:
        if len(layers) == 1:
            op = next(iter(layers))
            return {}, [f"operator {op} ({graph.main.operators[op].code}): {error}"]
        half = len(layers) // 2
        items = list(layers.items())
        parts = [_both(graph, dict(part), given) for part in (items[:half], items[half:])]
        return parts[0][0] | parts[1][0], parts[0][1] + parts[1][1]
    return {op: (by_kernels[0][op], by_kernels[1][op]) for op in layers
            if all(op in one for one in by_kernels)}, []


def _values(graph: Graph, tensors: Sequence[int], x: Arrays) -> dict[int, Array]:
    with Session(graph, tensors=tensors) as session:
        return session.run(x)


def _run(cut: CutModel, graph: Graph, given: Mapping[int, Array], kernels: Kernels
         ) -> dict[Any, Array]:
    """What a cut model gives, by the names of its outputs."""
    with cut_session(cut, graph, kernels=kernels) as session:
        found = session.run({own: given[source] for source, own in cut.inputs.items()})  # type: ignore[index]
    return {name: found[index] for name, index in cut.outputs.items() if index in found}


def _difference(usual: Array, reference: Array) -> tuple[float, str]:
    if usual.dtype.kind != "f":
        gap = np.abs(usual.astype(np.int64) - reference.astype(np.int64))
        return float(gap.max(initial=0)), STEPS
    same = (usual == reference) | (np.isnan(usual) & np.isnan(reference))
    gap = np.where(same, 0.0, np.abs(usual.astype(np.float64) - reference))
    finite = reference[np.isfinite(reference)].astype(np.float64)
    width = float(np.ptp(finite)) if finite.size else 0.0
    largest = float(np.where(np.isnan(gap), np.inf, gap).max(initial=0))
    return of_range(largest, width), OF_RANGE


# --- one of them ---------------------------------------------------------------------------------


def ranked(kernels: pd.DataFrame, device: pd.DataFrame | None,
           own_error: Mapping[int, float]) -> list[tuple[int, str]]:
    """Operators with the reason for each, the worst first.

    By the accelerator's table if it shows one; else by kernels that differ by more than rounding;
    else by the error against the float file (``own_error``: SQNR in dB); else by any difference.
    """
    rows = None if device is None else beyond_rounding(device)
    if rows is not None and len(rows):
        return [(int(row["operator"]), "by the accuracy debugger its difference grows most ("
                 + ("NaN" if row["found"] == "nan" else in_steps(row["steps"], row["unit"])) + ")")
                for row in rows.to_dict("records")]
    differ = kernels[kernels["steps"] > _ROUNDING]
    if differ.empty and own_error:
        return [(op, "optimised and reference kernels differ by at most a step, and it adds most "
                 f"error to what the float file gives ({sqnr:.1f} dB)")
                for op, sqnr in sorted(own_error.items(), key=lambda item: item[1])]
    rounding = "" if len(differ) else ", no more than rounding"
    differ = differ if len(differ) else kernels[kernels["steps"] > 0]
    return [(int(row["operator"]), "its optimised and reference kernels differ most "
             f"({in_steps(row['steps'], row['unit'])}{rounding})")
            for row in differ.to_dict("records")]


def cut_worst_of(
    graph: Graph, x: Arrays, folder: Path, ranking: Sequence[tuple[int, str]]
) -> CutOut:
    """Write the first operator of a ranking that can stand alone into a folder.

    What an older cut left there is replaced; a folder that holds other files of these names is
    refused.
    """
    if not ranking:
        raise ModelFileError(f"no operator of {graph.file} is worse than the others: optimised and "
                             "reference kernels agree on all that can stand alone; give the float "
                             "file first, whose errors then decide, or the table of LiteRT's "
                             "accuracy debugger (--debugger).")
    older = _older(folder)
    refused: list[str] = []
    for op, why in ranking:
        try:
            cut = cut_alone(graph, op)
            inputs = [int(i) for i in cut.inputs]  # type: ignore[call-overload]
            given = _values(graph, inputs, x)
            missing = [i for i in inputs if i not in given]
            if missing:
                raise ModelFileError(f"operator {op} cannot stand alone: its input "
                                     f"{graph.main.tensors[missing[0]].name!r} cannot be read.")
            gave = {kernels: _run(cut, graph, given, kernels) for kernels in _KERNELS}
        except ModelFileError as error:
            refused.append(str(error).rstrip("."))
            continue
        passed = "".join(f"{said}, so the next candidate was taken; " for said in refused)
        made = _write(graph, op, f"{passed}{why}.", cut, given, gave, folder)
        for name in older - set(made.files):
            (folder / name).unlink()
        return made
    raise ModelFileError(f"no operator that differs can stand alone: {'; '.join(refused)}.")


def _older(folder: Path) -> set[str]:
    """Names of the files of an older cut in a folder, which its README.txt shows to be one."""
    store.prepare_folder(folder, ("",), "--cut-worst")
    there = {file.name for file in folder.iterdir()}
    ours = {name for name in there if _OWN.fullmatch(name) or name in (_README, _EXAMPLES)}
    if ours:
        readme = folder / _README
        text = readme.read_text("utf-8", "replace") if store.is_file(readme) else ""
        if not _BEGINS.match(text):
            raise StoreError(f"{store.shown(folder)} holds {listed(sorted(ours))}, which no older "
                             "cut has left there; name another folder with --cut-worst.")
    return ours


def _write(graph: Graph, op: int, chosen: str, cut: CutModel, given: Mapping[int, Array],
           gave: Mapping[Kernels, Mapping[Any, Array]], folder: Path) -> CutOut:
    operator, tensors = graph.main.operators[op], graph.main.tensors
    arrays: dict[str, Array] = {}
    lines: list[str] = []

    def keep(key: str, tensor: Any, values: Array, what: str) -> None:
        arrays[key] = values
        lines.append(f"{key}: {what} {tensors[tensor].name!r}, {values.dtype}, "
                     f"{list(values.shape)}")

    for at, source in enumerate(cut.inputs):
        keep(f"input_{at}", source, given[source], "input")  # type: ignore[index]
    for at, name in enumerate(cut.outputs):
        for kernels, outputs in gave.items():
            if name in outputs:
                keep(f"output_{at}_{kernels}", name, outputs[name], f"{kernels} kernels, output")
    model = f"op_{op:04d}_{operator.code.lower()}.tflite"
    store.write_bytes(folder / model, cut.content)
    store.write_arrays(folder / _EXAMPLES, arrays)
    for key, values in arrays.items():
        little = values.astype(values.dtype.newbyteorder("<"), copy=False)
        store.write_bytes(folder / f"{key}.bin", little.tobytes())
    n = len(next(iter(arrays.values())))
    files = (model, _EXAMPLES, *(f"{key}.bin" for key in arrays), _README)
    name = tensors[operator.outputs[0]].name
    found = CutOut(str(folder), op, operator.code, name, chosen, n, files)
    store.write_text(folder / _README, "\n".join([
        f"{model}: operator {op} ({operator.code}) of {graph.file}, output {name!r}.",
        f"Chosen: {chosen}",
        "The operator is as it is in the file: weights, scales and zero points are unchanged.",
        f"Inputs are what it is given in the whole network for {examples(n)}; outputs are what it "
        "gives here by",
        "the optimised (default) and by the reference kernels of LiteRT. All are stored values, "
        "first axis the examples,",
        "in examples.npz, and little-endian without a header in a .bin file each:", "",
        *lines, ""]))
    return found


def cut_json(cut: CutOut | None) -> dict[str, Any] | None:
    """A cut as plain data."""
    return None if cut is None else {**asdict(cut), "files": list(cut.files)}
