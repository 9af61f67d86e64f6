"""What LiteRT's accuracy debugger found, operator by operator: an accelerator against the CPU.

Facts on its table: google-ai-edge/LiteRT, litert/tools/accuracy_debugger,
accuracy_debugger_util.cc, read at commit 08e46ce.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qinspect.data.names import listed
from qinspect.data.tables import read_csv
from qinspect.errors import DataError
from qinspect.tflite.beside import STEPS, in_steps
from qinspect.tflite.graph import Graph, Operator, Tensor

# Columns that are read, by the names of the table.
_READ = {"Index": "row", "Op Code": "code", "Tensor Name": "tensor", "Max Diff": "max_diff",
         "SNR (dB)": "snr_db", "NaN": "nan", "Min Ref": "low", "Max Ref": "high",
         "Status": "status"}
# One row an output of an operator, the operator where the difference grows most first; ``operator``
# is its number in the file, ``steps`` the largest difference in stored steps, of floats in 255ths
# of the range of the reference; ``grows`` that over the largest difference among its own inputs, at
# least one step; ``found`` one of FOUND.
DEVICE = ("operator", "op", "tensor", "steps", "unit", "grows", "snr_db", "found", "status")
# What a row says; whatever it is called there, one step of an integer is no fault.
FOUND = {
    "nan": "NaN",
    "differs": "differs by more than a step",
    "rounding": "differs by at most a step",
    "equal": "equal",
    "not_taken": "not taken by the accelerator",
    "not_run": "not compared",
}
OF_RANGE = "255ths of the range"
_YES = ("Y", "YES", "TRUE", "1")
_COMPARED = ("OK", "REGRESSION")


def read_debugger(path: Path, graph: Graph) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table ``accuracy_summary.csv`` of a file, columns ``DEVICE``, and notes."""
    raw = read_csv(path)
    missing = [name for name in _READ if name not in raw]
    if missing:
        raise DataError(f"{path} is no accuracy_summary.csv of LiteRT's accuracy debugger: it has "
                        f"no column {listed(missing)}.")
    if raw.empty:
        raise DataError(f"{path} has no rows; run the accuracy debugger again.")
    frame = raw[list(_READ)].rename(columns=_READ)
    # Text that pandas takes for a missing value stands for itself: empty names are.
    frame["tensor"] = frame["tensor"].fillna("").astype(str)
    frame["nan"] = frame["nan"].astype(str).str.strip().str.upper().isin(_YES)
    for column in ("max_diff", "snr_db", "low", "high"):
        text, frame[column] = frame[column], pd.to_numeric(frame[column], errors="coerce")
        no_nan = text.notna() & ~text.astype(str).str.contains("nan", case=False)
        bad = frame[column].isna() & no_nan & (column != "snr_db")
        if column == "max_diff":
            bad |= frame[column] < 0
        bad &= frame["status"].isin(_COMPARED)
        if bad.any():
            name = next(name for name, own in _READ.items() if own == column)
            at = int(bad.to_numpy().argmax())
            raise DataError(f"{path}: {name} is {str(text.iloc[at])[:60]!r} in row {at + 1}, "
                            "which is no "
                            f"{'difference' if column == 'max_diff' else 'number'}; run the "
                            "accuracy debugger again.")
    rows, lost = [], 0
    for row in frame.to_dict("records"):
        op, tensor = _operator_of(graph, row)
        if op is None:
            lost += 1
            continue
        steps = _steps(row, tensor)
        rows.append((op.index, op.code, row["tensor"], steps, _unit(tensor), np.nan,
                     row["snr_db"], _found(row, steps), str(row["status"])))
    if not rows:
        raise DataError(f"{path} is of another file: none of its {len(frame):,} rows is an "
                        f"operator of {graph.file}.")
    found = pd.DataFrame(rows, columns=list(DEVICE))
    found["grows"] = _growth(found, graph)
    notes = (f"{path}: {lost} of {len(frame)} rows are no operators of {graph.file}.",
             ) if lost else ()
    order = found.sort_values(["grows", "operator"], ascending=[False, True], kind="stable",
                              na_position="last")
    return order.reset_index(drop=True), notes


def _operator_of(graph: Graph, row: Mapping[Any, Any]) -> tuple[Operator | None, Tensor | None]:
    """The operator of a row and its output: by number and name, else by the name alone."""
    number, operators = str(row["row"]), graph.main.operators
    own = operators[int(number)] if number.isdecimal() and int(number) < len(operators) else None
    if own is not None and row["tensor"]:
        for index in own.outputs:
            if graph.main.tensors[index].name == row["tensor"]:
                return own, graph.main.tensors[index]
    if row["tensor"]:
        # Rows of an island have the island's number.
        for operator in operators:
            for index in operator.outputs:
                if graph.main.tensors[index].name == row["tensor"]:
                    return operator, graph.main.tensors[index]
        return None, None
    code = re.sub(r"\(.*\)$", "", str(row["code"])).removeprefix("tfl.").replace(".", "_").upper()
    return (own if own is not None and code == own.code else None), None


def _steps(row: Mapping[Any, Any], tensor: Tensor | None) -> float:
    """The largest difference in steps; NaN where nothing was compared."""
    if tensor is None or row["status"] not in _COMPARED:
        return float("nan")
    largest = float(row["max_diff"])
    if tensor.dtype[:3] in ("int", "uin"):
        # It compares what is stored, so that its differences are steps.
        return largest
    return of_range(largest, float(row["high"]) - float(row["low"]))


def of_range(largest: float, width: float) -> float:
    """A difference of floats in 255ths of the width of their range, which may be none."""
    if width > 0:
        return 255 * largest / width
    if largest == width == 0:
        return 0.0
    return np.inf if largest > 0 else np.nan


def _unit(tensor: Tensor | None) -> str:
    if tensor is None:
        return ""
    return STEPS if tensor.dtype[:3] in ("int", "uin") else OF_RANGE


def _found(row: Mapping[Any, Any], steps: float) -> str:
    if row["status"] == "REGRESSION" and not row["tensor"]:
        return "not_taken"
    if row["status"] not in _COMPARED or (not row["tensor"] and np.isnan(steps)):
        return "not_run"
    if row["nan"] or np.isnan(steps):
        return "nan"
    return "equal" if steps == 0 else "rounding" if steps <= 1 else "differs"


def _growth(found: pd.DataFrame, graph: Graph) -> list[float]:
    """How far each difference exceeds those that its operator was given: errors pile up."""
    steps = np.where(found["found"] == "nan", np.inf, found["steps"].astype(float))
    by_name = dict(zip(found["tensor"], steps, strict=True))
    grown = []
    for operator, here in zip(found["operator"], steps, strict=True):
        given = [by_name.get(graph.main.tensors[i].name, 0.0)
                 for i in graph.main.operators[operator].inputs if i >= 0]
        most = max((one for one in given if not np.isnan(one)), default=0.0)
        # Behind a NaN nothing is told any more.
        grown.append(0.0 if np.isinf(most) else float(here / max(1.0, most)))
    return grown


def beyond_rounding(found: pd.DataFrame) -> pd.DataFrame:
    """The rows that show a fault."""
    return found[found["found"].isin(["nan", "differs"])]


def culprit(found: pd.DataFrame) -> dict[str, Any] | None:
    """The row where the difference grows most, if any is more than rounding."""
    worst = beyond_rounding(found)
    return None if worst.empty else {str(key): value for key, value in worst.iloc[0].items()}


def debugger_sentence(found: pd.DataFrame) -> str:
    """Where the difference begins, in words."""
    counts = ", ".join(f"{count} {FOUND[name]}" for name in FOUND
                       if (count := int((found["found"] == name).sum())))
    worst = culprit(found)
    if not found["found"].isin(["nan", "differs", "rounding", "equal"]).any():
        return f"LiteRT's accuracy debugger compared no operator ({counts})."
    if worst is None:
        return f"LiteRT's accuracy debugger shows no operator beyond rounding ({counts})."
    by = ("gives NaN" if worst["found"] == "nan" else
          f"differs by {in_steps(worst['steps'], worst['unit'])}")
    return (f"by LiteRT's accuracy debugger the difference grows most in operator "
            f"{worst['operator']} ({worst['op']}, {worst['tensor']!r}), which {by} ({counts}).")
