"""Read a finished study back from its folder; nothing here needs TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from qinspect import store
from qinspect.errors import QinspectError, StoreError, unknown_name
from qinspect.measure.layer_tables import EXAMPLES, Layers, layer_tables
from qinspect.predictions import Results
from qinspect.schema import Array
from qinspect.shown import Shown
from qinspect.studies.spec import StudySpec
from qinspect.tflite import read_graph

# Arms whose layers are shown.
_LAYER_ARMS = ("float", "ptq_int8", "qat")


@dataclass(frozen=True)
class Study(Shown):
    """A finished study.

    Attributes
    ----------
    folder : Path
        Where it lives.
    spec : StudySpec
        Its settings.
    summary : dict
        The content of ``summary.json``: arms, comparisons, decomposition, spec, environment.
    runs : DataFrame
        One row an arm (``schema.RUNS``).
    history : DataFrame
        One row an epoch (``schema.HISTORY``).
    observers : DataFrame
        One row a logged range (``schema.OBSERVERS`` and ``phase``).
    arrays : dict of ndarray
        ``id``, ``y``, ``group`` where there are groups and, for each arm, ``prediction__ARM``,
        ``raw__ARM``, ``tied__ARM``.
    """

    folder: Path
    spec: StudySpec
    summary: dict[str, Any]
    runs: pd.DataFrame
    history: pd.DataFrame
    observers: pd.DataFrame
    arrays: dict[str, Array]

    @property
    def frame(self) -> pd.DataFrame:
        """One row a model."""
        return self.runs

    @property
    def sentence(self) -> str:
        """QAT against PTQ."""
        pair = ("ptq_int8", "qat")
        return next(str(row["sentence"]) for row in self.summary["comparisons"]
                    if (row["a"], row["b"]) == pair)

    def to_json(self) -> dict[str, Any]:
        """The content of ``summary.json``."""
        return self.summary

    def layers(self, examples: int = EXAMPLES) -> Layers:
        """Layers of the float, PTQ and QAT files, measured on the first test examples.

        Without activations, and with a note, where the data set cannot be loaded.
        """
        from qinspect.studies.run import load_splits

        files = {arm: read_graph(self.file(arm)) for arm in _LAYER_ARMS if arm in self.arms}
        try:
            return layer_tables(files, load_splits(self.spec).test.x[:examples])
        except QinspectError as error:
            tables = layer_tables(files, None)
            return replace(tables, notes=(*tables.notes, f"no activations and errors: {error}"))

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms, in table order."""
        return tuple(self.runs["arm"])

    @cached_property
    def results(self) -> Results:
        """What every arm predicted, to be compared as the study's settings say."""
        return study_results(self.arrays, self.spec)

    def prediction(self, arm: str) -> Array:
        """Predicted class of each test example, int64, shape (n,)."""
        if arm not in self.arms:
            raise unknown_name("arm", arm, self.arms)
        return self.arrays[f"prediction__{arm}"]

    def correct(self, arm: str) -> Array:
        """Which test examples the arm gets right, bool, shape (n,)."""
        return self.results.scores(arm)

    def file(self, arm: str) -> Path:
        """The model file of an arm."""
        if arm not in self.arms:
            raise unknown_name("arm", arm, self.arms)
        return self.folder / str(self.runs.set_index("arm").loc[arm, "file"])


def study_results(arrays: Mapping[str, Array], spec: StudySpec) -> Results:
    """The content of ``predictions.npz`` as results."""
    prefix = "prediction__"
    return Results(
        {name.removeprefix(prefix): values for name, values in arrays.items()
         if name.startswith(prefix)},
        arrays["y"], arrays["id"], arrays.get("group"),
        confidence=spec.confidence, margin=spec.margin_pp, seed=spec.seed)


def load_study(folder: str | os.PathLike[str]) -> Study:
    """Load a finished study.

    Raises
    ------
    StoreError
        If the folder is not a study, or the study is not finished.
    """
    path = Path(folder)
    if not path.is_dir():
        raise StoreError(f"the study folder {str(path)!r} does not exist.")
    if not (path / "spec.json").exists():
        raise StoreError(f"{str(path)!r} is not a study folder: it has no spec.json.")
    if not store.is_done(path, "summary"):
        raise StoreError(
            f"the study in {str(path)!r} is not finished; run 'qinspect study' with the same "
            "settings to continue it."
        )
    stored = store.read_json(path / "spec.json")
    stored.pop("digests", None)
    return Study(
        folder=path,
        spec=StudySpec.from_dict(stored),
        summary=store.read_json(path / "summary.json"),
        runs=store.read_frame(path / "runs.csv"),
        history=store.read_frame(path / "history.csv"),
        observers=store.read_frame(path / "observers.csv"),
        arrays=store.read_arrays(path / "predictions.npz"),
    )
