"""Split the gap between QAT and PTQ into parts that sum to it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import pandas as pd

from qinspect import store
from qinspect.predictions import Comparisons, Results
from qinspect.schema import HISTORY, OBSERVERS, RUNS
from qinspect.studies.arms import Arm, arms_for, families_for, models_for
from qinspect.studies.build import Workshop
from qinspect.studies.spec import StudySpec
from qinspect.studies.stored import study_results
from qinspect.tflite import read_graph, scheme_of

# id, title, and the contrast: (arm, sign) pairs whose accuracies add up to the part.
_TITLES = {
    "batchnorm-lag": "batch-norm statistics",
    "training-budget": "training budget",
    "quantization-aware": "quantization-aware training itself",
}


def contrasts(batchnorm: bool) -> dict[str, dict[str, int]]:
    """Signed arms of each part; together they are ``qat - ptq_int8``.

    With batch norm the statistics' part is the gap minus the gap between the models whose
    statistics were re-estimated, and the other two parts are taken on those models: unsettled
    statistics would otherwise pass as an effect of the extra training.
    """
    end = "_bn" if batchnorm else ""
    parts: dict[str, dict[str, int]] = {}
    if batchnorm:
        parts["batchnorm-lag"] = {"qat": 1, "ptq_int8": -1, "qat_bn": -1, "ptq_int8_bn": 1}
    parts["training-budget"] = {f"ptq_int8_ft{end}": 1, f"ptq_int8{end}": -1}
    parts["quantization-aware"] = {f"qat{end}": 1, f"ptq_int8_ft{end}": -1}
    return parts


def decompose_gap(results: Results) -> list[dict[str, Any]]:
    """Parts of the gap QAT - PTQ in points, each a signed sum of arms; they add up to the gap."""
    parts = []
    for name, signed in contrasts("qat_bn" in results.models).items():
        estimate, low, high = results.contrast(signed)
        parts.append({"id": name, "title": _TITLES[name], "arms": signed, "diff_pp": estimate,
                      "ci_pp": [low, high]})
    return parts


def compare_arms(results: Results) -> Comparisons:
    """The comparisons of a study: with float, the question, and the steps between."""
    families = [results.compare(pairs) for pairs in families_for(results.models)]
    return sum(families[1:], families[0])


# --- Turn a study's predictions into its tables: runs, comparisons, decompo ---------------------

_PACKAGES = (
    "qinspect", "numpy", "scipy", "pandas", "ai-edge-litert", "tensorflow", "tf-keras",
    "tensorflow-model-optimization",
)


def summarise(shop: Workshop, arms: tuple[Arm, ...], batchnorm: bool) -> None:
    """Write ``runs.csv``, ``history.csv``, ``observers.csv`` and ``summary.json``."""
    folder, spec = shop.folder, shop.spec
    results = study_results(store.read_arrays(folder / "predictions.npz"), spec)
    rows = [_arm_row(folder, arm, results) for arm in arms]
    store.write_frame(folder / "runs.csv", pd.DataFrame(rows, columns=list(RUNS)))
    models = models_for(batchnorm)
    _concatenate(folder, models, "history", ("phase", *HISTORY[1:]))
    _concatenate(folder, models, "observers", ("phase", *OBSERVERS))
    store.write_json(folder / "summary.json", _summary(folder, spec, batchnorm, rows, results))
    store.mark_done(folder, "summary", {})


def _summary(
    folder: Path,
    spec: StudySpec,
    batchnorm: bool,
    rows: list[dict[str, Any]],
    results: Results,
) -> dict[str, Any]:
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
        "comparisons": [one.to_json() for one in compare_arms(results)],
        "decomposition": decompose_gap(results),
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


def _arm_row(folder: Path, arm: Arm, results: Results) -> dict[str, Any]:
    path = folder / arm.file
    scheme = None if arm.recipe is None else scheme_of(read_graph(path))
    low, high = results.value_interval(arm.name)
    return {
        "arm": arm.name,
        "file": arm.file,
        "scheme": scheme,
        "bytes": path.stat().st_size,
        "n": results.n,
        "accuracy": results.value(arm.name),
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
