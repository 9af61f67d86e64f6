"""What a diagnosis is given: any part of files, data, models, history and claimed predictions."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qinspect.data.dataset import Dataset, take
from qinspect.data.npz import read_arrays
from qinspect.data.sources import Source
from qinspect.data.tables import read_claim
from qinspect.diagnosis.histories import History, gather_history
from qinspect.diagnosis.loose import is_loose, loose_files
from qinspect.errors import DataError, ModelFileError, SpecError
from qinspect.measure.layer_tables import EXAMPLES, Layers, layer_tables
from qinspect.metrics import ACCURACY, Metric
from qinspect.metrics.classes import class_of
from qinspect.progress import Progress, no_progress
from qinspect.schema import Array, Arrays
from qinspect.shown import Shown
from qinspect.studies.build import calibration_examples, finetune_seed
from qinspect.studies.run import load_splits
from qinspect.studies.stored import Study, load_study
from qinspect.tflite import read_keras, scheme_of
from qinspect.tflite.ancestry import lineage
from qinspect.tflite.graph import Graph
from qinspect.tflite.inputs import Examples, asked_for, in_shape, load_examples, prepare
from qinspect.tflite.recorded import Place, given_by_name
from qinspect.tflite.sandbox import open_model

File = str | os.PathLike[str]

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
# The option that gives it.
OPTIONS: dict[str, str] = {
    "float": "--float", "ptq": "--ptq", "qat": "--qat", "data": "--data",
    "calibration": "--calibration", "train": "--train", "keras_float": "--keras-float",
    "keras_qat": "--keras-qat", "history": "--history-float and --history-qat",
    "recipe": "--history-qat, or --qat-epochs and --qat-lr", "checkpoints": "--checkpoints",
}
_FLOAT_SCHEMES = ("float32", "float16")
# Arms of a study that take the roles, and those of its equally trained control.
_ARMS = {"float": "float", "ptq": "ptq_int8", "qat": "qat"}
_EQUAL_ARMS = {"float": "float_ft", "ptq": "ptq_int8_ft", "qat": "qat"}
# What re-estimated batch norm makes of these, by the name of the arm that has that part otherwise.
_EQUAL_REMEDIES = {"ptq_int8_bn": "ptq_int8_ft_bn", "qat_bn": "qat_bn"}


@dataclass(frozen=True)
class Claim:
    """Classes that someone got elsewhere from one of the files, in the order they were scored.

    ``ids``: which examples they are of, None means the order of the evaluation data; ``y``: labels
    they were scored against, None means those of the evaluation data, by position.
    """

    prediction: Array
    ids: Array | None = None
    y: Array | None = None


@dataclass(frozen=True)
class TrainingFacts:
    """Settings of the training, as far as known: what a retraining needs.

    ``float_epochs`` and ``float_lr`` are None where they are not known.  ``seed`` is of QAT's batch
    order; ``equal_budget``: PTQ was made from a float model trained for as long as QAT in all;
    ``exact``: the settings reproduce the QAT model, otherwise an intervention that trains again is
    compared with QAT trained again unchanged, so that another run's luck is not counted.
    """

    float_epochs: int | None
    qat_epochs: int
    float_lr: float | None
    qat_lr: float
    batch_size: int = 32
    seed: int = 0
    warm_start: bool = False
    freeze_batchnorm: bool = False
    skip_layers: tuple[str, ...] = ()
    equal_budget: bool = False
    exact: bool = False
    # None: that of the Keras file, or of the metric.
    loss: str | None = None


@dataclass(frozen=True)
class Case(Shown):
    """One puzzle to be diagnosed; every part but two files may be missing.

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
    recorded : mapping of role to path or array
        Outputs that were recorded elsewhere, as ``docs/device.md`` tells; the gap is then theirs.
    debugger : mapping of role to path
        ``accuracy_summary.csv`` of LiteRT's accuracy debugger.
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
    margin : float or None
        Difference that would matter, in the metric's unit; the metric's own where None.
    metric, output : str or Metric, str, or None
        What the files are scored by, and which of their outputs; see :func:`qinspect.evaluate`.
    seed : int
        Of everything random.
    told : mapping of str
        What :func:`case` was given, by the names of its arguments; of a folder what was found.
    notes : tuple of str
        What was taken for what, where that had to be guessed.

    Examples
    --------
    >>> found = case(float="float.tflite", ptq="ptq.tflite", data="data.npz")
    >>> found.pair, found.has("history")
    (('float', 'ptq'), False)
    """

    float_graph: Graph | None = None
    ptq_graph: Graph | None = None
    qat_graph: Graph | None = None
    data: Dataset | None = None
    calibration_x: Arrays | None = None
    train: Dataset | None = None
    keras_float: Path | None = None
    keras_qat: Path | None = None
    history: pd.DataFrame | None = None
    observers: pd.DataFrame | None = None
    claims: Mapping[str, Claim] = field(default_factory=dict)
    recorded: Mapping[str, Place] = field(default_factory=dict)
    debugger: Mapping[str, File] = field(default_factory=dict)
    arms: Mapping[str, Array] = field(default_factory=dict)
    arm_models: Mapping[str, Path] = field(default_factory=dict)
    checkpoints: Mapping[str, Array] = field(default_factory=dict)
    facts: TrainingFacts | None = None
    parts: tuple[dict[str, Any], ...] = ()
    name: str = "case"
    confidence: float = 0.95
    margin: float | None = None
    metric: Metric | str | None = None
    output: str | None = None
    seed: int = 0
    told: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.roles) < 2:
            raise SpecError(
                f"the case has {len(self.roles)} of the float, PTQ and QAT files; "
                "give at least two to compare."
            )
        if self.float_graph is not None:
            _check_float({role: graph for role in self.roles
                          if (graph := self.graph(role)) is not None})
        for kind in (self.claims, self.checkpoints):
            for role in kind:
                if role not in ROLES:
                    raise SpecError(f"{role!r} is not a file of the case; use {', '.join(ROLES)}.")
        for what, given in (("outputs were recorded", self.recorded),
                            ("there is an accuracy debugger's table", self.debugger)):
            for role in given:
                if role not in self.roles:
                    raise SpecError(f"{what} of {role[:60]!r}, which is no file of the case; it "
                                    f"has {', '.join(self.roles)}.")
        n = None if self.data is None else len(self.data)
        if n is None:
            return
        for name, prediction in self.arms.items():
            if len(prediction) != n:
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

    @property
    def pair(self) -> tuple[str, str]:
        """The two files whose difference is asked about first: PTQ and QAT where there are both."""
        roles = self.roles
        return ("ptq", "qat") if {"ptq", "qat"} <= set(roles) else (roles[0], roles[1])

    def graph(self, role: str) -> Graph | None:
        """The file of a role."""
        return {"float": self.float_graph, "ptq": self.ptq_graph, "qat": self.qat_graph}[role]

    def layers(
        self, examples: int = EXAMPLES, progress: Progress = no_progress
    ) -> Layers | None:
        """Layers of the files, measured on the first evaluation examples.

        None where the first file is not float32 and there is nothing to compare with.
        """
        graphs = {role: graph for role in self.roles if (graph := self.graph(role)) is not None}
        if scheme_of(next(iter(graphs.values()))) != "float32":
            return None
        x = None if self.data is None else take(self.data.x, slice(examples))
        return layer_tables(graphs, x, progress)

    def steps(self, phase: str) -> int | None:
        """Training steps of a phase by the history, None where they are not known."""
        if self.history is None:
            return None
        steps = self.history.loc[self.history["phase"] == phase, "steps"].max()
        return None if pd.isna(steps) else int(steps)

    @property
    def frame(self) -> pd.DataFrame:
        """One row an input of a diagnosis: whether it is there."""
        return pd.DataFrame([(name, words, self.has(name)) for name, words in NEEDS.items()],
                            columns=["input", "what", "given"])

    @property
    def sentence(self) -> str:
        """Which files there are, and what is missing."""
        n = "no" if self.data is None else f"{len(self.data):,}"
        missing = ", ".join(words for name, words in NEEDS.items() if not self.has(name))
        return (f"{', '.join(self.roles)} on {n} examples. "
                + (f"Not given: {missing}." if missing else "Nothing is missing."))

    def to_json(self) -> dict[str, Any]:
        """Which inputs there are."""
        return {"name": self.name, "n": None if self.data is None else len(self.data),
                "inputs": {name: self.has(name) for name in NEEDS}}

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


def case(
    study: Study | File | None = None,
    *,
    float: File | Graph | None = None,
    ptq: File | Graph | None = None,
    qat: File | Graph | None = None,
    data: File | Source | Dataset | None = None,
    calibration: File | Dataset | Array | None = None,
    train: File | Dataset | None = None,
    keras_float: File | None = None,
    keras_qat: File | None = None,
    history: History | None = None,
    history_float: History | None = None,
    history_qat: History | None = None,
    batch_size: int | None = None,
    qat_epochs: int | None = None,
    qat_lr: int | float | None = None,
    float_lr: int | float | None = None,
    claims: Mapping[str, File | Array | Claim | None] | None = None,
    recorded: Mapping[str, Place] | None = None,
    debugger: Mapping[str, File] | None = None,
    checkpoints: File | Mapping[str, Array] | None = None,
    equal_budget: bool = False,
    input_scale: int | float | None = None,
    input_offset: int | float | None = None,
    label_offset: int = 0,
    metric: Metric | str | None = None,
    output: str | None = None,
    margin: int | float | None = None,
    seed: int = 0,
) -> Case:
    """Gather what is known about a gap: all that a study holds, or whatever files there are.

    Parameters
    ----------
    study : Study or path, optional
        A finished study; nothing else is needed then.  Or a folder of loose files: which is which
        is read from their names (``float.tflite``, ``ptq.tflite``, ``qat.tflite``, ``eval.npz``,
        ``calib.npz``, ``train.npz``, ``float.h5``, ``qat.h5``, ``history.csv``,
        ``ptq_recorded.npz`` and the like); what is given beside it counts more.
    float, ptq, qat : path or Graph, optional
        ``.tflite`` files, at least two; a path is first tried in a child process.
    data : path or Dataset, optional
        ``.npz`` with ``x`` and ``y`` (and ``id``, ``group``), or anything else that
        :class:`qinspect.data.Source` reads: evaluation examples.
    calibration : path, Dataset or ndarray, optional
        ``.npz`` with ``x``: the examples that PTQ was calibrated with.
    train : path or Dataset, optional
        ``.npz`` with ``x`` and ``y``.
    keras_float, keras_qat : path, optional
        Keras models; opened only by interventions, but their configuration is read.
    history : path or DataFrame, optional
        ``.csv`` with ``phase`` (``float``, ``qat``), ``epoch``, ``steps``, ``loss`` and so on; or
        what Keras' ``CSVLogger`` wrote, of QAT, or of the float training and then of QAT.  A
        phase ``float_ft`` of as many steps as ``qat`` says that the float model was trained on as
        well; if the PTQ file then holds weights that moved on from those of ``keras_float``,
        budgets are equal.
    history_float, history_qat : path, DataFrame or mapping, optional
        Instead of ``history``: what Keras' ``CSVLogger`` wrote of each training, or the ``history``
        that ``fit`` returns.
    batch_size : int, optional
        Of both trainings; with ``train`` it says how many steps an epoch of those had.
    qat_epochs, qat_lr, float_lr : number, optional
        Epochs and learning rate of QAT, and the rate of the float training, where no history tells:
        with them QAT can be trained again.  Rates that are not given are read from the Keras models
        where those were saved with their optimizer.
    claims : mapping of role to path, ndarray or Claim, optional
        Predictions of a file (``float``, ``ptq``, ``qat``) got elsewhere: ``.npz`` with
        ``prediction`` (n,) and optionally ``id`` and ``y``, or scores as ``outputs`` (n, classes);
        or a ``.csv`` or ``.parquet`` of one column of predictions, ids and labels.
    recorded : mapping of role to path or array, optional
        Outputs of a file (``float``, ``ptq``, ``qat``) recorded on a device, as ``docs/device.md``
        tells.  The gap to explain is then that of the recorded outputs.
    debugger : mapping of role to path, optional
        ``accuracy_summary.csv`` of LiteRT's accuracy debugger, which tells the operator.
    checkpoints : path or mapping of role to ndarray, optional
        ``.npz`` with arrays ``float``, ``ptq``, ``qat`` of shape (k, n): classes predicted by each
        checkpoint that was tried on ``data``.
    equal_budget : bool
        Of a study: take its fine-tuned control as the float model and PTQ of it as PTQ.  Both sides
        were then trained for as many epochs, and what is left of the gap is not the budget.
    input_scale, input_offset : float
        The model is given ``input_scale * x + input_offset``; for every data file.
    label_offset : int
        Added to ``y``.
    metric, output : optional
        What files are scored by, and which output counts, as :func:`qinspect.evaluate` takes them.
    margin : float, optional
        Difference that would matter, in the metric's unit; of accuracy 1 point.
    seed : int
        Of everything random.

    Returns
    -------
    Case
        Of a study, its own predictions of the three files are claims, so that a wrong evaluation is
        noticed; those of its other arms are interventions that have been made.

    Raises
    ------
    DataError, ModelFileError, SpecError, StoreError
        One sentence each.

    Examples
    --------
    >>> case("study").roles
    ('float', 'ptq', 'qat')
    >>> found = case(float="float.tflite", ptq="ptq.tflite", data="data.npz")
    >>> found.missing(("qat", "train"))
    ['the QAT .tflite file', 'the training data']
    """
    told = {name: value for name, value in locals().items() if value is not None}
    claimed = {role: source for role, source in (claims or {}).items() if source is not None}
    told["claims"] = claimed
    outputs = given_by_name(recorded)
    if both := claimed.keys() & outputs.keys():
        raise SpecError(f"of {min(both)} there are recorded outputs and predictions obtained "
                        "elsewhere; give one of them.")
    if isinstance(study, str | os.PathLike) and is_loose(study):
        del told["study"]
        return _of_folder(study, told)
    files = {"float": float, "ptq": ptq, "qat": qat}
    given = {name: file for name, file in files.items() if file is not None}
    if study is not None:
        if given or data is not None:
            raise SpecError("give a study's folder or loose files, not both.")
        found = study if isinstance(study, Study) else load_study(study)
        return replace(_of_study(found, equal_budget), recorded=outputs,
                       debugger=debugger or {})
    if data is None:
        raise SpecError("give a study's folder, or files with data.")
    graphs = {
        name: file if isinstance(file, Graph) else open_model(file) for name, file in given.items()
    }
    first = next(iter(graphs.values()), None)
    how = asked_for(input_scale, input_offset, label_offset)

    def examples(source: Examples) -> Dataset:
        loaded = load_examples(source, list(graphs.values()), [how] * len(graphs))
        # Only the units are bridged here; a range that does not fit a file is a cause to be found.
        x = loaded.x
        said: tuple[str, ...] = ()
        if first is not None:
            x, said = (prepare(x, first, how) if (how.scale, how.offset) != (1.0, 0.0)
                       else in_shape(x, first))
        y = loaded.labels + label_offset if label_offset and loaded.labelled else loaded.y
        return replace(loaded, x=x, y=y, notes=(*loaded.notes, *said))

    calibration_x: Arrays | None = None
    if calibration is not None:
        # An array is what the model is given, as it is.
        calibration_x = (calibration if isinstance(calibration, np.ndarray)
                         else examples(calibration).x)
    for what, number in (("batch size", batch_size), ("number of QAT epochs", qat_epochs)):
        if number is not None and number < 1:
            raise SpecError(f"the {what} is {number}; it must be at least 1.")
    evaluated, training = examples(data), None if train is None else examples(train)
    epoch_steps = None if training is None or batch_size is None else math.ceil(
        len(training) / batch_size)
    table, said = gather_history(history, {"float": history_float, "qat": history_qat}, epoch_steps)
    return Case(
        float_graph=graphs.get("float"),
        ptq_graph=graphs.get("ptq"),
        qat_graph=graphs.get("qat"),
        data=evaluated,
        calibration_x=calibration_x,
        train=training,
        keras_float=None if keras_float is None else Path(keras_float),
        keras_qat=None if keras_qat is None else Path(keras_qat),
        history=table,
        claims={role: _by_id(_claim(source), evaluated) for role, source in claimed.items()},
        recorded=outputs,
        debugger=debugger or {},
        checkpoints=_checkpoints(checkpoints),
        facts=_facts_of(
            table, batch_size, epochs={"qat": qat_epochs},
            rates={"float": _rate(float_lr, keras_float), "qat": _rate(qat_lr, keras_qat)},
            equal_budget=_trained_on(table, keras_float, graphs.get("ptq")), seed=seed,
        ),
        name=" against ".join(
            file.file if isinstance(file, Graph) else Path(file).name for file in given.values()
        ),
        margin=margin,
        metric=metric,
        output=output,
        seed=seed,
        told=told,
        notes=said,
    )


def _of_folder(folder: File, told: dict[str, Any]) -> Case:
    """The case of a folder of loose files, and of what was given beside it."""
    found = loose_files(folder, told)
    made = case(**found.arguments(told))
    return replace(made, name=str(folder), notes=(*found.notes, *made.notes))


def _check_float(graphs: Mapping[str, Graph]) -> None:
    """Refuse a quantized file as the float one: every cause is measured from that."""
    schemes = {role: scheme_of(graph) for role, graph in graphs.items()}
    if schemes["float"] in _FLOAT_SCHEMES:
        return
    others = [role for role in ("ptq", "qat") if schemes.get(role) in _FLOAT_SCHEMES]
    way = "give the float32 file that the others were made from"
    if others:
        way = (f"exchange it with the one given as {others[0].upper()}, which is "
               f"{schemes[others[0]]}")
    else:
        way += ", or give this one as PTQ" if "ptq" not in graphs else (
            ", or leave it out" if "qat" in graphs else "")
    raise ModelFileError(f"the file given as float, {graphs['float'].file!r}, is quantized "
                         f"({schemes['float']}); {way}.")


def _of_study(study: Study, equal_budget: bool) -> Case:
    """Everything a finished study knows, as a case."""
    spec, folder = study.spec, study.folder
    role_arms = _EQUAL_ARMS if equal_budget else _ARMS
    splits = load_splits(spec)
    models = {path.stem: path for path in (folder / "models").glob("*.h5")}
    graphs = {
        role: open_model(path) if (path := folder / "models" / f"{arm}.tflite").exists() else None
        for role, arm in role_arms.items()
    }
    if not any(graphs.values()):
        study.file(role_arms["qat"])  # a study kept as results says how to get its models
    results = study.results
    # Of a classifier the classes, else what the metric scores; claims are of classes alone.
    classes = results.metric.id == ACCURACY.id
    arms = {arm: np.asarray(results.outputs[arm]) for arm in study.arms
            if arm not in role_arms.values()}
    if equal_budget:
        arms = {name: arms[arm] for name, arm in _EQUAL_REMEDIES.items() if arm in arms}
    return Case(
        float_graph=graphs["float"],
        ptq_graph=graphs["ptq"],
        qat_graph=graphs["qat"],
        data=_in_order(splits.test, study.arrays["id"]),
        calibration_x=calibration_examples(spec, splits),
        train=splits.train,
        keras_float=models.get("float"),
        keras_qat=models.get("qat"),
        history=study.history,
        observers=study.observers,
        claims={role: Claim(study.prediction(arm)) for role, arm in role_arms.items()
                if classes},
        arms=arms,
        arm_models=models,
        facts=TrainingFacts(
            spec.float_epochs, spec.qat_epochs, spec.float_lr, spec.qat_lr, spec.batch_size,
            finetune_seed(spec), spec.warm_start, spec.freeze_batchnorm, spec.skip_layers,
            equal_budget=equal_budget, exact=True, loss=study.objective["loss"],
        ),
        # They are parts of the gap to PTQ of the float model before it was trained on.
        parts=() if equal_budget else tuple(study.summary["decomposition"]),
        name=str(folder),
        confidence=spec.confidence,
        margin=results.margin,
        metric=results.metric,
        seed=spec.seed,
        told={"study": folder, "equal_budget": equal_budget},
    )


def _in_order(test: Dataset, ids: Array) -> Dataset:
    """The test examples in the order of the stored predictions."""
    at = {name: i for i, name in enumerate(test.ids.tolist())}
    try:
        return test.take([at[name] for name in ids.tolist()])  # type: ignore[arg-type]
    except KeyError as error:
        raise DataError(
            f"the study was tested on example {error.args[0]!r}, which the data set does not have "
            "now; was the data set changed?"
        ) from None


def _claim(told: File | Array | Claim) -> Claim:
    if isinstance(told, Claim):
        return told
    if isinstance(told, np.ndarray):
        name = "the claimed predictions"
        arrays = {"prediction" if told.ndim == 1 else "outputs": told}
    else:
        name = str(told)
        path = Path(told)
        if path.suffix.lower() in (".csv", ".parquet"):
            prediction, ids, y = read_claim(path)
            arrays = {"prediction": _whole(prediction), **({} if ids is None else {"id": ids}),
                      **({} if y is None else {"y": _whole(y)})}
        else:
            arrays = read_arrays(path, (), ("prediction", "outputs", "id", "y"))
    if "prediction" in arrays:
        prediction = arrays["prediction"]
    elif "outputs" in arrays and arrays["outputs"].ndim == 2:
        prediction = class_of(arrays["outputs"])
    else:
        raise DataError(f"{name}: needs 'prediction' (n,) or 'outputs' (n, classes).")
    for key in ("prediction", "id", "y"):
        if key in arrays and arrays[key].shape != (len(prediction),):
            raise DataError(
                f"{name}: {key!r} has shape {arrays[key].shape}; it must be ({len(prediction)},)."
            )
    if prediction.dtype.kind not in "iu":
        raise DataError(f"{name}: 'prediction' has dtype {prediction.dtype}; it must be integers.")
    ids = arrays["id"].astype(str) if "id" in arrays else None
    return Claim(prediction.astype("int64"), ids, arrays.get("y"))


def _by_id(claim: Claim, data: Dataset) -> Claim:
    """The claim by the ids of the data, and in their order where it brings its own labels."""
    ids, n = claim.ids, len(data)
    if ids is None:
        return claim
    if data.ids.tolist() == [f"{data.name}-{i:06d}" for i in range(n)]:
        # The data have no ids of their own: only row numbers can be found in them.
        if set(ids.tolist()) != set(map(str, range(n))):
            return replace(claim, ids=None)
        ids = data.ids[ids.astype(int)]
    if claim.y is not None and len(ids) == n and set(ids.tolist()) == set(data.ids.tolist()):
        order = pd.Index(ids).get_indexer(pd.Index(data.ids))
        return Claim(claim.prediction[order], None, claim.y[order])
    return replace(claim, ids=ids)


def _whole(values: Array) -> Array:
    """Whole numbers as integers, whatever they were written as."""
    if values.dtype.kind == "f" and (values == np.round(values)).all():
        return values.astype(np.int64)
    return values


def _checkpoints(given: File | Mapping[str, Array] | None) -> dict[str, Array]:
    if given is None or isinstance(given, Mapping):
        return dict(given or {})
    arrays = read_arrays(Path(given), (), ROLES)
    if not arrays:
        raise DataError(f"{given}: needs arrays named {', '.join(ROLES)} of shape (k, n).")
    return arrays


def _trained_on(history: pd.DataFrame | None, keras_float: File | None, ptq: Graph | None) -> bool:
    """Whether PTQ was made from a float model that was trained on for as many steps as QAT.

    The history alone does not say which of the float models was quantized, the weights do.
    """
    if history is None or keras_float is None or ptq is None:
        return False
    steps = history.groupby("phase")["steps"].max().to_dict()
    if "float_ft" not in steps:
        return False
    if steps["float_ft"] != steps.get("qat"):
        return False
    return lineage(read_keras(keras_float), ptq).verdict == "fine-tuned from"


def _facts_of(
    history: pd.DataFrame | None, batch_size: int | None, *, epochs: dict[str, int | None],
    rates: dict[str, float | None], equal_budget: bool, seed: int,
) -> TrainingFacts | None:
    """Settings of the training: as given, else by the history; None where QAT's are not known."""
    for phase, rows in () if history is None else history.groupby("phase"):
        name = str(phase)
        if epochs.get(name) is None:
            epochs[name] = int(rows["epoch"].max())
        if rates.get(name) is None and "learning_rate" in rows:
            last = float(rows["learning_rate"].iloc[-1])
            rates[name] = last if math.isfinite(last) else None
    count, rate = epochs["qat"], rates["qat"]
    if count is None or rate is None:
        return None
    return TrainingFacts(
        epochs.get("float"), count, rates["float"], rate, batch_size or TrainingFacts.batch_size,
        seed=seed, equal_budget=equal_budget,
    )


def _rate(given: float | None, model: File | None) -> float | None:
    """A learning rate as given, else that of the optimizer that a Keras model was saved with."""
    if given is not None:
        if not 0 < given < math.inf:
            raise SpecError(f"the learning rate is {given}; it must be above 0.")
        return given
    if model is None:
        return None
    from qinspect.train import learning_rate_of

    return learning_rate_of(model)
