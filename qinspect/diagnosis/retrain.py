"""Files made again with TensorFlow: trained or converted anew, with one thing changed.

What is made is described by a :class:`Training`, and made in this process or, several side by side,
in others, with equal results.  TensorFlow is imported through ``qinspect.train`` inside the
functions, and answers are kept in the evidence, so that two causes with the same training pay once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from qinspect import store
from qinspect.data.dataset import Dataset, one_array
from qinspect.diagnosis.cases import Case, TrainingFacts
from qinspect.diagnosis.evidence import Evidence
from qinspect.errors import QinspectError, TrainError
from qinspect.schema import Array
from qinspect.studies.pool import Run, processes

# Of the converter's calibration when no calibration set was given.
_CALIBRATION_EXAMPLES = 200


@dataclass(frozen=True)
class Training:
    """A file made again from the float Keras model: which one, and what is changed.

    ``which``: "qat", trained again; "ptq", converted again; "ptq trained on", of the float model
    trained on for as long as QAT was.  ``warm_start``: set ranges from calibration examples first
    (None: as before); ``per_channel_dense``: each output of a dense layer gets a weight range of
    its own; ``every_layer``: none left out of QAT but what tfmot does not take; ``seed_shift``:
    another order of the batches.
    """

    which: Literal["qat", "ptq", "ptq trained on"]
    warm_start: bool | None = None
    rate_factor: float = 1.0
    extra_epochs: int = 0
    seed_shift: int = 0
    per_channel_dense: bool = False
    every_layer: bool = False

    @property
    def key(self) -> tuple[str, Training]:
        """Under which the evidence keeps what came of it."""
        return "made again", self


@dataclass(frozen=True)
class Materials:
    """What files are made again from; ``x`` and what follows are of the training examples.

    Arrays are ``.npy`` files where another process reads them.
    """

    keras_float: Path
    facts: TrainingFacts | None
    seed: int
    metric: str | None
    calibration_x: Array | Path | None
    x: Array | Path | None = None
    y: Array | Path | None = None
    num_classes: int = 0
    name: str = ""


# ``make(trainings, until)``: trainings with the answers of their files, in any order.  Where one
# has not begun at the time ``until`` (of ``perf_counter``), a TimeoutError.
Maker = Callable[[Sequence[Training], float], Iterator[tuple[Training, Any]]]


def answers(evidence: Evidence, training: Training) -> Any:
    """What is scored of a file made again, in this process unless it was made before."""
    return evidence.once(
        training.key, lambda: evidence.answers(make_file(_materials(evidence), training)))


def unchanged(evidence: Evidence, role: str) -> Training | None:
    """What a remade file is compared with where its settings are guessed: itself made again.

    None where they are known, so that the file stands for itself.
    """
    facts = evidence.case.facts
    if facts is not None and facts.exact:
        return None
    return Training("ptq" if role == "ptq" else "qat")


@contextmanager
def side_by_side(
    evidence: Evidence, workers: int, notify: Callable[[str], None]
) -> Iterator[Maker]:
    """Make files on so many processes, which end with the block; in this one where none starts."""
    with ExitStack() as held:

        @cache
        def started() -> tuple[Run, Materials] | None:
            materials = _materials(evidence)
            try:
                there = _on_disk(materials, held.enter_context(store.scratch()))
                return held.enter_context(processes(workers, script=False)), there
            except (QinspectError, OSError) as error:
                notify(f"Trainings run one after the other in this process: {error}")
                return None

        def make(trainings: Sequence[Training], until: float) -> Iterator[tuple[Training, Any]]:
            found = started() if workers > 1 else None
            if found is None:
                return one_by_one(evidence, trainings, until)
            return _in_others(evidence, *found, trainings, until)

        yield make


def one_by_one(
    evidence: Evidence, trainings: Sequence[Training], until: float
) -> Iterator[tuple[Training, Any]]:
    """The files made in this process."""
    for training in trainings:
        if not evidence.knows(training.key) and time.perf_counter() >= until:
            raise TimeoutError
        yield training, answers(evidence, training)


def _in_others(
    evidence: Evidence, run: Run, materials: Materials, trainings: Sequence[Training], until: float
) -> Iterator[tuple[Training, Any]]:
    tasks = {}
    for training in trainings:
        if evidence.knows(training.key):
            yield training, answers(evidence, training)
        else:
            tasks[str(training)] = (materials, training)
    for name, content in run(_file_or_error, tasks, until):
        if isinstance(content, (QinspectError, BrokenExecutor)):
            raise TrainError(str(content))
        training = tasks[name][1]
        yield training, evidence.once(training.key, partial(evidence.answers, content))


def _file_or_error(given: Materials, training: Training) -> bytes | TrainError:
    """The file, or why there is none: not every error comes over from another process as it is."""
    try:
        return make_file(given, training)
    except QinspectError as error:
        return TrainError(str(error))


def make_file(given: Materials, training: Training) -> bytes:
    """The file of a description."""
    from qinspect.train import (
        convert,
        convert_qat,
        fit,
        fit_qat,
        layers_not_taken,
        load_keras,
        quantize_aware,
        reset,
    )

    reset(given.seed)
    model = load_keras(given.keras_float)
    calibration_x = _array(given.calibration_x)
    if training.which == "ptq":
        return convert(model, "int8", calibration_x)
    facts = given.facts
    assert facts is not None
    qat = training.which == "qat"
    if qat:
        skipped = layers_not_taken(model) if training.every_layer else facts.skip_layers
        model = quantize_aware(model, skip_layers=skipped,
                               per_channel_dense=training.per_channel_dense)
    x = _array(given.x)
    assert x is not None
    train, loss = _taught(
        model, Dataset(given.name, x, _array(given.y), np.arange(len(x)).astype(str),
                       given.num_classes), given.keras_float, facts.loss, given.metric)
    how: dict[str, Any] = {
        "loss": loss, "epochs": facts.qat_epochs + training.extra_epochs,
        "learning_rate": facts.qat_lr * training.rate_factor, "batch_size": facts.batch_size,
        "seed": facts.seed + training.seed_shift, "freeze_batchnorm": facts.freeze_batchnorm,
    }
    if not qat:
        fit(model, train, None, **how)
        return convert(model, "int8", calibration_x)
    warm = facts.warm_start if training.warm_start is None else training.warm_start
    fit_qat(model, train, None, warm_start_x=calibration_x if warm else None, **how)
    return convert_qat(model)


def qat_converted(evidence: Evidence) -> Array:
    """Predictions of the QAT Keras model, converted as it should be."""

    def make() -> Array:
        from qinspect.train import convert_qat

        content = convert_qat(loaded(evidence, "keras_qat"))
        return evidence.answers(content)

    return evidence.once(("qat converted",), make)


def ptq_of(evidence: Evidence, model: Any) -> Array:
    """Predictions of PTQ of a Keras model, calibrated as the case's PTQ file was."""
    from qinspect.train import convert

    content = convert(model, "int8", _calibration_x(evidence))
    return evidence.answers(content)


def loaded(evidence: Evidence, which: str) -> Any:
    """A Keras model of the case, in a fresh session."""
    from qinspect.train import load_keras, reset

    path = evidence.case.keras_float if which == "keras_float" else evidence.case.keras_qat
    assert path is not None
    reset(evidence.case.seed)
    return load_keras(path)


def _materials(evidence: Evidence) -> Materials:
    case = evidence.case
    assert case.keras_float is not None
    given = Materials(case.keras_float, case.facts, case.seed,
                      None if evidence.task.metric is None else evidence.task.metric.id,
                      _calibration_x(evidence))
    if case.train is None:
        return given
    return replace(given, x=case.train.array, y=case.train.y, num_classes=case.train.num_classes,
                   name=case.train.name)


def _on_disk(given: Materials, folder: Path) -> Materials:
    """The same with its arrays as files, which processes read without a copy each."""
    paths: dict[str, Any] = {}
    for name in ("calibration_x", "x", "y"):
        if (values := getattr(given, name)) is not None:
            paths[name] = folder / f"{name}.npy"
            np.save(paths[name], values, allow_pickle=False)
    return replace(given, **paths)


def _array(given: Array | Path | None) -> Array | None:
    if not isinstance(given, Path):
        return given
    return np.asarray(np.load(given, mmap_mode="r", allow_pickle=False))


def _calibration_x(evidence: Evidence) -> Array | None:
    """The calibration set, or a part of the training data."""
    if evidence.case.calibration_x is not None:
        return one_array(evidence.case.calibration_x, "the calibration set")
    if evidence.case.train is None:
        return None
    return one_array(evidence.examples("train"), "the training data")[:_CALIBRATION_EXAMPLES]


def taught(case: Case, model: Any, metric: str | None) -> tuple[Dataset, str]:
    """The training examples of a case with what a network should give, and the loss."""
    assert case.train is not None
    assert case.keras_float is not None
    loss = None if case.facts is None else case.facts.loss
    return _taught(model, case.train, case.keras_float, loss, metric)


def _taught(
    model: Any, train: Dataset, keras_float: Path, loss: str | None, metric: str | None
) -> tuple[Dataset, str]:
    from qinspect.train import choose_objective, compiled_with

    compiled = compiled_with(keras_float)
    if loss is None and compiled.get("loss"):
        loss = choose_objective(model, train.array, train.y, compiled=compiled).loss
    aim = choose_objective(model, train.array, train.y, loss=loss, metric=metric)
    return aim.of(train), aim.loss
