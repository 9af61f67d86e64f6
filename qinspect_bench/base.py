"""What every fault starts from: one healthy study of a network, and changed copies of its case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qinspect import store
from qinspect.data import DATASETS
from qinspect.data.dataset import Dataset, one_array
from qinspect.data.streams import stream
from qinspect.diagnosis import cases
from qinspect.diagnosis.cases import Case
from qinspect.metrics import ACCURACY
from qinspect.schema import Array, Arrays
from qinspect.studies.run import load_splits, run_study
from qinspect.studies.spec import StudySpec, make_spec
from qinspect.tflite import evaluate, read_graph
from qinspect.tflite.graph import Graph
from qinspect_bench.architectures import ARCHITECTURES, SOURCES, Architecture, build, examples

_RATE = 3e-5
# Arms of a study in which a remedy has been applied.
_REMEDIED = ("ptq_int8_ft", "ptq_int8_bn", "ptq_int8_ft_bn", "float_bn", "qat_bn")


@dataclass(frozen=True, order=True)
class Cell:
    """One trained network: its architecture and its seed."""

    model: str
    seed: int  # of the split, the weights and the batch order

    @property
    def architecture(self) -> Architecture:
        """What kind of network it is."""
        return ARCHITECTURES[self.model]

    @property
    def half(self) -> str:
        """``calibration``: thresholds may be set by looking at it; ``scored``: they may not."""
        return self.architecture.half

    @property
    def key(self) -> str:
        """Name of its folder."""
        return f"{self.model}-{self.seed}"


CELLS: tuple[Cell, ...] = tuple(Cell(model, 0) for model in ARCHITECTURES)


@dataclass(frozen=True)
class Injected:
    """A case with a fault in it."""

    case: Case
    # The same puzzle on the same examples without the fault; None where it is in the examples.
    before: Case | None


@dataclass(frozen=True)
class Base:
    """A healthy study, its case, and a folder for what is made from it."""

    cell: Cell
    folder: Path
    spec: StudySpec
    case: Case

    def rng(self, number: int) -> np.random.Generator:
        """A generator that depends on the cell's seed and the number alone."""
        return stream(self.cell.seed, "fault", number)


Inject = Callable[[Base, Case, str, int], Injected]


def base_spec(cell: Cell, model: Path, data: str) -> StudySpec:
    """A study in which nothing is wrong: of a trained model, ranges set from calibration."""
    kind = cell.architecture
    _, training, evaluation = SOURCES[kind.data]
    return make_spec(
        None, dataset=data, model=str(model), seed=cell.seed, float_epochs=2, float_lr=_RATE,
        qat_epochs=1, qat_lr=_RATE, warm_start=True, recipes=(), skip_layers=kind.skip_layers,
        loss=kind.loss, metric=kind.metric, train_size=training, test_size=evaluation,
    )


def make_base(cell: Cell, folder: Path) -> Base:
    """Train the study of a cell, or find it trained."""
    from qinspect.progress import no_progress

    own = store.prepare_folder(folder / cell.key, ("study", "made"))
    spec = base_spec(cell, own / "made" / "trained.h5", str(_data(cell, own)))
    _pretrain(cell, own, spec)
    study = run_study(spec, own / "study", num_threads=1, progress=no_progress)
    return Base(cell, own, spec, cases.case(study))


def _data(cell: Cell, own: Path) -> str | Path:
    """The file with the examples of a cell, or the name of a data set that is taken as it is."""
    if cell.architecture.data in DATASETS:
        return cell.architecture.data
    path = own / "made" / "data.npz"
    if not path.exists():
        store.write_arrays(path, examples(cell.architecture.data))
    return path


def _pretrain(cell: Cell, own: Path, spec: StudySpec) -> None:
    """The untrained network, and the same trained at a falling rate."""
    target = own / "made" / "trained.h5"
    if target.exists():
        return
    from qinspect.train import fit, reset, save_keras

    train = load_splits(replace(spec, model="mlp")).train
    outputs = train.num_classes or 1
    reset(cell.seed)
    model = build(cell.model, train.array.shape[1:], outputs, cell.seed)
    save_keras(model, own / "made" / "untrained.h5")
    taught, loss = _taught(model, train, spec.loss, spec.metric)
    for phase, (epochs, rate) in enumerate(zip(cell.architecture.epochs, (1e-3, 2e-4),
                                               strict=True)):
        fit(model, taught, None, epochs=epochs, learning_rate=rate, loss=loss,
            seed=cell.seed + 100 * phase)
    save_keras(model, target)


def _taught(
    model: Any, train: Dataset, loss: str | None, judged: str | None
) -> tuple[Dataset, str]:
    """Training examples with what the network should give, and the loss."""
    from qinspect.train import choose_objective

    aim = choose_objective(model, train.array, train.y, loss=loss, metric=judged)
    return aim.of(train), aim.loss


def files_only(case: Case) -> Case:
    """The case of somebody who has the files and the data, but neither Keras models nor logs."""
    return replace(
        case, keras_float=None, keras_qat=None, history=None, observers=None, arms={},
        arm_models={}, facts=None, parts=(), claims={},
    )


def of_classes(case: Case) -> bool:
    """Whether predictions of the case are classes."""
    judged = case.metric
    return judged is None or ACCURACY.id == (judged if isinstance(judged, str) else judged.id)


def with_ptq(
    case: Case,
    graph: Graph,
    *,
    float_graph: Graph | None = None,
    calibration_x: Array | None = None,
) -> Case:
    """Another PTQ file (and float file), for which no claim and no arm of the study speaks."""
    gone = {"ptq", "float"} if float_graph is not None else {"ptq"}
    return replace(
        case,
        ptq_graph=graph,
        float_graph=case.float_graph if float_graph is None else float_graph,
        calibration_x=case.calibration_x if calibration_x is None else calibration_x,
        claims={role: claim for role, claim in case.claims.items() if role not in gone},
        parts=(),
    )


def with_float(case: Case, path: Path) -> Case:
    """Float and PTQ file made from a Keras file, by the case's calibration set."""
    return with_ptq(
        case, converted(path, "int8", case.calibration_x),
        float_graph=converted(path, "float32", None),
    )


def remade(case: Case, path: Path) -> Case:
    """Another float model and the files made from it, without arms of the first one."""
    made = with_float(replace(case, keras_float=path), path)
    return replace(made, arms={}, arm_models={})


def with_qat(case: Case, graph: Graph, **parts: Any) -> Case:
    """Another QAT file; arms that belong to the old one go with it."""
    return replace(
        case,
        qat_graph=graph,
        claims={role: claim for role, claim in case.claims.items() if role != "qat"},
        arms={name: p for name, p in case.arms.items() if not name.startswith("qat")},
        parts=(),
        **parts,
    )


def recalibrated(case: Case, x: Array) -> Case:
    """PTQ calibrated with other examples, in every arm that a study would calibrate with them."""
    assert case.keras_float is not None
    made = with_ptq(case, converted(case.keras_float, "int8", x), calibration_x=x)
    return with_arms(made)


def with_arms(case: Case) -> Case:
    """The study's budget-matched PTQ converted again with the case's calibration set."""
    # Its arms with re-estimated batch norm are left out.
    arms = {name: p for name, p in case.arms.items() if name not in _REMEDIED}
    # Arms of other tasks hold what their metric scores.
    if "float_ft" in case.arm_models and of_classes(case):
        graph = converted(case.arm_models["float_ft"], "int8", case.calibration_x)
        arms["ptq_int8_ft"] = predictions(graph, case.data)
    return replace(case, arms=arms)


def faintest(x: Array, count: int) -> Array:
    """The examples of least ink: the unlucky draw of a small calibration set."""
    ink = x.reshape(len(x), -1).mean(axis=1)
    return x[np.argsort(ink, kind="stable")[:count]]


def converted(model: Path, recipe: str, x: Arrays | None) -> Graph:
    """A Keras file by a recipe, as a file that has been read."""
    from qinspect.train import convert, load_keras, reset

    reset(0)
    return read_graph(convert(load_keras(model), recipe, x))


def predictions(graph: Graph, data: Dataset | None) -> Array:
    """Classes of a file on the evaluation examples."""
    assert data is not None
    return evaluate(graph.content, data.x, num_threads=1).prediction


def retrained_qat(
    base: Base, case: Case, name: str, *, settle: bool = False, **changes: Any
) -> Case:
    """QAT trained again from the case's float model with other settings, unless it is there.

    ``settle`` re-estimates batch norm at the end, so that it is no second cause; ``changes`` are of
    ``qat_epochs``, ``qat_lr`` or ``warm_start``.
    """
    from qinspect.train import (
        convert_qat,
        fit_qat,
        load_keras,
        quantize_aware,
        reestimate_batchnorm,
        reset,
        save_keras,
    )

    assert case.keras_float is not None
    assert case.train is not None
    assert case.facts is not None
    assert case.history is not None
    facts = replace(case.facts, **changes)
    path = base.folder / "made" / f"{name}-of-{case.keras_float.stem}.h5"
    logs = path.with_suffix(".history.csv"), path.with_suffix(".observers.csv")
    if not all(log.exists() for log in logs):
        reset(base.spec.seed)
        plain = load_keras(case.keras_float)
        taught, loss = _taught(plain, case.train, base.spec.loss, base.spec.metric)
        model = quantize_aware(plain, skip_layers=facts.skip_layers)
        history, observers = fit_qat(
            model, taught, None, epochs=facts.qat_epochs, learning_rate=facts.qat_lr,
            batch_size=facts.batch_size, seed=facts.seed, loss=loss,
            warm_start_x=(one_array(case.calibration_x, "the calibration set")
                          if facts.warm_start and case.calibration_x is not None else None),
        )
        if settle:
            reestimate_batchnorm(model, case.train.array)
        save_keras(model, path)
        for log, table in zip(logs, (history, observers), strict=True):
            store.write_frame(log, table.assign(phase="qat"))
        store.write_bytes(path.with_suffix(".tflite"), convert_qat(model))
    history, observers = (store.read_frame(log) for log in logs)
    kept = case.history[case.history["phase"] != "qat"]
    # With another QAT the fine-tuned control of the study has other settings than QAT, too.
    rate = (facts.qat_lr, facts.qat_epochs) == (case.facts.qat_lr, case.facts.qat_epochs)
    arms = case.arms if rate else {n: p for n, p in case.arms.items() if "_ft" not in n}
    made = with_qat(
        case, read_graph(path.with_suffix(".tflite")), keras_qat=path, facts=facts,
        history=pd.concat([kept, history], ignore_index=True), observers=observers,
    )
    return replace(made, arms={n: p for n, p in arms.items() if n in made.arms})


def trained_float(
    base: Base, name: str, epochs: int, learning_rate: float, parent: Path, seed: int
) -> tuple[Path, pd.DataFrame]:
    """A float model trained from a Keras file, with settled batch norm, and its history."""
    from qinspect.train import fit, load_keras, reestimate_batchnorm, reset, save_keras

    path = base.folder / "made" / f"{name}.h5"
    log = path.with_suffix(".history.csv")
    if not log.exists():
        assert base.case.train is not None
        reset(base.spec.seed)
        model = load_keras(parent)
        taught, loss = _taught(model, base.case.train, base.spec.loss, base.spec.metric)
        history = fit(
            model, taught, None, epochs=epochs, learning_rate=learning_rate,
            batch_size=base.spec.batch_size, seed=seed, loss=loss,
        )
        # Few steps leave batch norm behind, which is another cause.
        reestimate_batchnorm(model, base.case.train.array)
        save_keras(model, path)
        store.write_frame(log, history)
    return path, store.read_frame(log)
