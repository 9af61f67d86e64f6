"""What a diagnosis is given: any part of files, data, models, history and claimed predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from qinspect.errors import DataError, SpecError
from qinspect.schema import Array, Dataset, Graph

ROLES: tuple[str, ...] = ("float", "ptq", "qat")
# What an input is called when it is missing.
NEEDS: dict[str, str] = {
    "float": "the float .tflite file",
    "ptq": "the PTQ .tflite file",
    "qat": "the QAT .tflite file",
    "data": "labelled evaluation examples",
    "calibration": "the calibration set",
    "train": "the training data",
    "keras_float": "the float Keras model",
    "keras_qat": "the QAT Keras model",
    "history": "the training history",
    "observers": "the log of QAT ranges",
    "claims": "the predictions that were obtained elsewhere",
    "checkpoints": "predictions of all checkpoints that were compared",
    "recipe": "the training settings (epochs and learning rate, from a study or a history)",
}


@dataclass(frozen=True)
class Claim:
    """Predictions that someone got elsewhere from one of the files.

    Attributes
    ----------
    prediction : ndarray of int64, shape (m,)
        Classes, in the order in which they were scored.
    ids : ndarray of str or None, shape (m,)
        Which examples they are of; None means the order of the evaluation data.
    y : ndarray of int64 or None, shape (m,)
        Labels they were scored against; None means those of the evaluation data, by position.
    """

    prediction: Array
    ids: Array | None = None
    y: Array | None = None


@dataclass(frozen=True)
class TrainingFacts:
    """Settings of the training, as far as known: what a retraining needs.

    Attributes
    ----------
    float_epochs, qat_epochs : int
    float_lr, qat_lr : float
        Adam learning rates.
    batch_size : int
    seed : int
        Of the batch order that QAT used.
    warm_start, freeze_batchnorm : bool
    skip_layers : tuple of str
        Layers without fake quantization during QAT.
    equal_budget : bool
        PTQ was made from a float model trained for as long as QAT in all.
    exact : bool
        The settings reproduce the QAT model; otherwise an intervention that trains again is
        compared with QAT trained again unchanged, so that another run's luck is not counted.
    """

    float_epochs: int
    qat_epochs: int
    float_lr: float
    qat_lr: float
    batch_size: int = 32
    seed: int = 0
    warm_start: bool = False
    freeze_batchnorm: bool = False
    skip_layers: tuple[str, ...] = ()
    equal_budget: bool = False
    exact: bool = False


@dataclass(frozen=True)
class Case:
    """One puzzle to be diagnosed; every part may be missing.

    Attributes
    ----------
    float_graph, ptq_graph, qat_graph : Graph or None
        The files, read; they have been tried in a child process by whoever built the case.
    data : Dataset or None
        Labelled evaluation examples in the units of the float model's input.
    calibration_x : ndarray or None, shape (m, ...)
        Examples that PTQ was calibrated with.
    train : Dataset or None
        Training data.
    keras_float, keras_qat : Path or None
        Keras models, opened only when something needs them.
    history, observers : DataFrame or None
        ``schema.HISTORY`` and ``schema.OBSERVERS`` with a column ``phase`` whose values ``float``
        and ``qat`` are used.
    claims : mapping of role to Claim
        Predictions obtained elsewhere, by the file they belong to.
    arms : mapping of str to ndarray of int64, shape (n,)
        Predictions of further models on ``data``, by the name of a study's arm: interventions
        that somebody has already made.
    arm_models : mapping of str to Path
        Keras models of a study by name (``float_bn``).
    checkpoints : mapping of role to ndarray of int64, shape (k, n)
        Predictions on ``data`` of all checkpoints that were compared there.
    facts : TrainingFacts or None
    parts : tuple of dict
        Parts of the gap that add up to it, where a study has measured them: ``id``, ``title``,
        ``diff_pp``, ``ci_pp``.
    name : str
        For titles.
    confidence : float
        Of every interval.
    margin_pp : float
        Difference that would matter, percentage points.
    seed : int
        Of everything random.
    """

    float_graph: Graph | None = None
    ptq_graph: Graph | None = None
    qat_graph: Graph | None = None
    data: Dataset | None = None
    calibration_x: Array | None = None
    train: Dataset | None = None
    keras_float: Path | None = None
    keras_qat: Path | None = None
    history: pd.DataFrame | None = None
    observers: pd.DataFrame | None = None
    claims: Mapping[str, Claim] = field(default_factory=dict)
    arms: Mapping[str, Array] = field(default_factory=dict)
    arm_models: Mapping[str, Path] = field(default_factory=dict)
    checkpoints: Mapping[str, Array] = field(default_factory=dict)
    facts: TrainingFacts | None = None
    parts: tuple[dict[str, Any], ...] = ()
    name: str = "case"
    confidence: float = 0.95
    margin_pp: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.roles) < 2:
            raise SpecError(
                f"the case has {len(self.roles)} of the float, PTQ and QAT files; "
                "give at least two to compare."
            )
        for kind in (self.claims, self.checkpoints):
            for role in kind:
                if role not in ROLES:
                    raise SpecError(f"{role!r} is not a file of the case; use {', '.join(ROLES)}.")
        n = None if self.data is None else len(self.data)
        if n is None:
            return
        for name, prediction in self.arms.items():
            if prediction.shape != (n,):
                raise DataError(
                    f"arm {name!r} has predictions of shape {prediction.shape} for {n} examples."
                )
        for role, table in self.checkpoints.items():
            if table.ndim != 2 or table.shape[1] != n or len(table) < 2:
                raise DataError(
                    f"checkpoints of {role} have shape {table.shape}; it must be (k, {n}) with at "
                    "least two checkpoints."
                )

    @property
    def roles(self) -> tuple[str, ...]:
        """Which of the three files there are."""
        return tuple(role for role in ROLES if self.graph(role) is not None)

    def graph(self, role: str) -> Graph | None:
        """The file of a role."""
        return {"float": self.float_graph, "ptq": self.ptq_graph, "qat": self.qat_graph}[role]

    def has(self, need: str) -> bool:
        """Whether an input of :data:`NEEDS` is there."""
        if need in ROLES:
            return self.graph(need) is not None
        given = {
            "data": self.data,
            "calibration": self.calibration_x,
            "train": self.train,
            "keras_float": self.keras_float,
            "keras_qat": self.keras_qat,
            "history": None if self.history is None or self.history.empty else self.history,
            "observers": None if self.observers is None or self.observers.empty else 1,
            "claims": self.claims or None,
            "checkpoints": self.checkpoints or None,
            "recipe": self.facts,
        }
        return given[need] is not None

    def missing(self, requires: tuple[str, ...]) -> list[str]:
        """Names of inputs that are not there; ``"a|b"`` asks for one of several."""
        return [
            " or ".join(NEEDS[name] for name in need.split("|"))
            for need in requires
            if not any(self.has(name) for name in need.split("|"))
        ]
