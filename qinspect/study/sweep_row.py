"""One run of a sweep as one row: its settings, accuracies, gaps and the parts of the gap."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import pandas as pd

from qinspect.study.load import Study
from qinspect.study.spec import StudySpec

# Name of a gap and its arms (a, b): accuracy of b - accuracy of a.
GAPS = {
    "qat_minus_ptq": ("ptq_int8", "qat"),
    "ptq_minus_float": ("float", "ptq_int8"),
    "qat_minus_float": ("float", "qat"),
    "ptq_ft_minus_ptq": ("ptq_int8", "ptq_int8_ft"),
    "qat_minus_ptq_ft": ("ptq_int8_ft", "qat"),
}
SPEC_COLUMNS = tuple(field.name for field in dataclasses.fields(StudySpec))


def finished_record(key: str, study: Study, seconds: float) -> dict[str, Any]:
    """What is kept of a finished run.

    Parameters
    ----------
    key : str
        Name of the run's files.
    study : Study
        The run.
    seconds : float
        Wall-clock time of the attempt that finished it.

    Returns
    -------
    dict
        JSON-able: ``key``, ``status``, ``spec``, ``results``, ``seconds``, ``error``.
    """
    summary = study.summary
    results: dict[str, Any] = {"n": summary["arms"][0]["n"]}
    for name, (a, b) in GAPS.items():
        found = next(row for row in summary["comparisons"] if (row["a"], row["b"]) == (a, b))
        results[f"{name}_pp"] = found["diff_pp"]
        results[f"{name}_low_pp"], results[f"{name}_high_pp"] = found["ci_pp"]
        # The better arm by name: "b_better" says nothing in a row with five gaps.
        results[f"{name}_verdict"] = {"a_better": a, "b_better": b}.get(
            found["verdict"], found["verdict"]
        )
    for part in summary["decomposition"]:
        name = f"part_{part['id'].replace('-', '_')}"
        results[f"{name}_pp"] = part["diff_pp"]
        results[f"{name}_low_pp"], results[f"{name}_high_pp"] = part["ci_pp"]
    results |= {f"accuracy_{arm['arm']}": arm["accuracy"] for arm in summary["arms"]}
    return _record(key, study.spec, "finished", results, seconds, None)


def failed_record(key: str, spec: StudySpec, seconds: float, error: BaseException | str) -> Any:
    """What is kept of a failed run; the arguments are those of :func:`finished_record`."""
    from qinspect.errors import QinspectError

    text = str(error) or type(error).__name__
    if isinstance(error, BaseException) and not isinstance(error, QinspectError):
        text = f"{type(error).__name__}: {error}"
    return _record(key, spec, "failed", {}, seconds, " ".join(text.split())[:500])


def sweep_frame(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """One row a record: ``key``, ``status``, the spec, results, ``seconds``, ``error``.

    Settings that hold several names (``skip_layers``, ``recipes``) are joined with spaces.
    Results that a run does not have are NaN.
    """
    rows, columns = [], ["key", "status", *SPEC_COLUMNS]
    for record in records:
        spec = {
            name: " ".join(value) if isinstance(value, list) else value
            for name, value in record["spec"].items()
        }
        columns += [name for name in record["results"] if name not in columns]
        rows.append(
            {
                "key": record["key"],
                "status": record["status"],
                **spec,
                **record["results"],
                "seconds": record["seconds"],
                "error": record["error"],
            }
        )
    return pd.DataFrame(rows, columns=[*columns, "seconds", "error"])


def _record(
    key: str,
    spec: StudySpec,
    status: str,
    results: dict[str, Any],
    seconds: float,
    error: str | None,
) -> dict[str, Any]:
    return {
        "key": key,
        "status": status,
        "spec": spec.to_dict(),
        "results": results,
        "seconds": round(seconds, 3),
        "error": error,
    }
