"""Turn a study's predictions into its tables: runs, comparisons, decomposition."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import pandas as pd

from qinspect import store
from qinspect.predictions import Results
from qinspect.schema import HISTORY, OBSERVERS, RUNS
from qinspect.studies.arms import Arm, compare_arms, decompose_gap, models_for
from qinspect.studies.build import BuildContext
from qinspect.studies.stored import RESULT_FILES, read_objective, study_results
from qinspect.tflite import read_graph, scheme_of

_PACKAGES = (
    "qinspect", "numpy", "scipy", "pandas", "ai-edge-litert", "tensorflow", "tf-keras",
    "tensorflow-model-optimization",
)

FREE_THREADS = (
    "Not all of this was trained on one thread (TensorFlow was in use before in the process, or an "
    "older version began the study): the same seed may give other files elsewhere; a fresh process "
    "trains alike on any number of cores."
)


def summarise(context: BuildContext, arms: tuple[Arm, ...], batchnorm: bool) -> None:
    """Write ``runs.csv``, ``history.csv``, ``observers.csv`` and ``summary.json``."""
    folder, spec = context.folder, context.spec
    judged = read_objective(folder)["metric"]
    results = study_results(store.read_arrays(folder / "predictions.npz"), spec, judged)
    rows = [_arm_row(folder, arm, results) for arm in arms]
    store.write_frame(folder / "runs.csv", pd.DataFrame(rows, columns=list(RUNS)))
    models = models_for(batchnorm)
    _concatenate(folder, models, "history", ("phase", *HISTORY[1:]))
    _concatenate(folder, models, "observers", ("phase", *OBSERVERS))
    store.write_json(folder / "summary.json", {
        "metric": judged,
        "arms": [_summary_row(row, arm.title, results)
                 for row, arm in zip(rows, arms, strict=True)],
        "comparisons": [one.to_json() for one in compare_arms(results)],
        "decomposition": decompose_gap(results),
        "notes": _notes(folder, rows),
        "spec": spec.to_dict(),
        "environment": environment(folder),
    })
    store.mark_done(folder, "summary", {"digests": {
        name: store.digest(folder / name) for name in RESULT_FILES}})


def environment(folder: Path) -> dict[str, Any]:
    """Versions and facts of the machine and of the training that a result may depend on."""
    from qinspect.train import machine

    versions: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "python": platform.python_version(), "system": platform.system(),
        "machine": platform.machine(), "cpus": os.cpu_count(), "packages": versions,
        "training": {"threads": _threads(folder), **machine()},
    }


def _threads(folder: Path) -> list[list[int]]:
    """TensorFlow's threads, within and between operations, in the steps of the study."""
    steps = [store.read_json(path) for path in sorted((folder / "steps").glob("*.json"))]
    return [list(pair) for pair in sorted({tuple(step.get("threads", ())) for step in steps})]


def _arm_row(folder: Path, arm: Arm, results: Results) -> dict[str, Any]:
    path = folder / arm.file
    value: float | None = None
    low: float | None = None
    high: float | None = None
    if results.metric.id.endswith("accuracy"):
        value, (low, high) = results.value(arm.name), results.value_interval(arm.name)
    return {
        "arm": arm.name, "file": arm.file,
        "scheme": None if arm.recipe is None else scheme_of(read_graph(path)),
        "bytes": path.stat().st_size, "n": results.n,
        "accuracy": value, "accuracy_low": low, "accuracy_high": high,
    }


def _summary_row(row: dict[str, Any], title: str, results: Results) -> dict[str, Any]:
    kept = ("file", "scheme", "bytes", "n", "accuracy")
    ends = list(results.value_interval(row["arm"]))
    return {"arm": row["arm"], "title": title, **{name: row[name] for name in kept},
            "accuracy_ci": None if row["accuracy"] is None else ends,
            "score": results.value(row["arm"]), "score_ci": ends, "metric": results.metric.id}


def _notes(folder: Path, rows: list[dict[str, Any]]) -> list[str]:
    """What a reader of the table should know, most important first."""
    from qinspect.train import THREADS

    notes = []
    if _threads(folder) != [[THREADS, THREADS]]:
        notes.append(FREE_THREADS)
    for row in rows:
        if row["arm"] == "ptq_dynamic_range" and row["scheme"] == "float32":
            notes.append(
                "ptq_dynamic_range is really float32: the converter leaves kernels under 1,024 "
                "elements in float, and this network has no larger one."
            )
    recorded: dict[str, list[str]] = store.read_json(folder / "notes.json")
    return notes + [f"{arm}: {note}" for arm, found in recorded.items() for note in found]


def _concatenate(
    folder: Path, models: tuple[str, ...], kind: str, columns: tuple[str, ...]
) -> None:
    """Join the per-model tables of one kind into ``<kind>.csv``."""
    frames = []
    for name in models:
        path = folder / "models" / f"{name}.{kind}.csv"
        if path.exists():
            frames.append(store.read_frame(path).assign(phase=name))
    joined = pd.concat(frames) if frames else pd.DataFrame(columns=list(columns))
    store.write_frame(folder / f"{kind}.csv", joined[list(columns)])
