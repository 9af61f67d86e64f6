"""Turn a study's predictions into its tables: runs, comparisons, decomposition, summary."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import pandas as pd

from qinspect.schema import HISTORY, OBSERVERS, RUNS, Array
from qinspect.stats import compare_paired, comparison_row, wilson_interval
from qinspect.study import store
from qinspect.study.arms import Arm, arms_for, comparisons_for, models_for
from qinspect.study.build import Workshop
from qinspect.study.decompose import decompose_gap
from qinspect.study.spec import StudySpec
from qinspect.tflite import read_graph, scheme_of

_PACKAGES = (
    "qinspect", "numpy", "scipy", "pandas", "ai-edge-litert", "tensorflow", "tf-keras",
    "tensorflow-model-optimization",
)  # fmt: skip


def summarise(shop: Workshop, arms: tuple[Arm, ...], batchnorm: bool) -> None:
    """Write ``runs.csv``, ``history.csv``, ``observers.csv`` and ``summary.json``."""
    folder, spec = shop.folder, shop.spec
    arrays = store.read_arrays(folder / "predictions.npz")
    correct = {arm.name: arrays[f"prediction__{arm.name}"] == arrays["y"] for arm in arms}
    rows = [_arm_row(folder, arm, correct[arm.name], spec) for arm in arms]
    store.write_frame(folder / "runs.csv", pd.DataFrame(rows, columns=list(RUNS)))
    models = models_for(batchnorm)
    _concatenate(folder, models, "history", ("phase", *HISTORY[1:]))
    _concatenate(folder, models, "observers", ("phase", *OBSERVERS))
    store.write_json(folder / "summary.json", _summary(folder, spec, batchnorm, rows, correct))
    store.mark_done(folder, "summary", {})


def _summary(
    folder: Path,
    spec: StudySpec,
    batchnorm: bool,
    rows: list[dict[str, Any]],
    correct: dict[str, Array],
) -> dict[str, Any]:
    comparisons = [
        comparison_row(
            compare_paired(
                correct[a], correct[b], a=a, b=b, confidence=spec.confidence,
                margin_pp=spec.margin_pp, rng=spec.seed,
            )
        )
        for a, b in comparisons_for(batchnorm, spec.recipes)
    ]  # fmt: skip
    titles = {arm.name: arm.title for arm in arms_for(batchnorm, spec.recipes)}
    return {
        "arms": [
            {
                "arm": row["arm"],
                "title": titles[row["arm"]],
                "file": row["file"],
                "scheme": row["scheme"],
                "bytes": row["bytes"],
                "n": row["n"],
                "accuracy": row["accuracy"],
                "accuracy_ci": [row["accuracy_low"], row["accuracy_high"]],
            }
            for row in rows
        ],
        "comparisons": comparisons,
        "decomposition": decompose_gap(correct, batchnorm, confidence=spec.confidence),
        "notes": _notes(folder, rows),
        "spec": spec.to_dict(),
        "environment": environment(),
    }


def environment() -> dict[str, Any]:
    """Versions and machine facts that a result may depend on."""
    versions: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "packages": versions,
    }


def _arm_row(folder: Path, arm: Arm, correct: Array, spec: StudySpec) -> dict[str, Any]:
    path = folder / arm.file
    scheme = None if arm.recipe is None else scheme_of(read_graph(path))
    low, high = wilson_interval(int(correct.sum()), len(correct), spec.confidence)
    return {
        "arm": arm.name,
        "file": arm.file,
        "scheme": scheme,
        "bytes": path.stat().st_size,
        "n": len(correct),
        "accuracy": float(correct.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
    }


def _notes(folder: Path, rows: list[dict[str, Any]]) -> list[str]:
    """What a reader of the table should know, most important first."""
    notes = []
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
