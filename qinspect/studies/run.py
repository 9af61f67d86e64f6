"""Run a study from its spec to its verdict, continuing from whatever is already finished."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from qinspect import store
from qinspect.data import load_dataset, split
from qinspect.data.dataset import Splits
from qinspect.errors import DataError, SpecError, StoreError
from qinspect.metrics import ACCURACY, metric
from qinspect.metrics.classes import class_of
from qinspect.progress import Progress, make_progress
from qinspect.schema import Array
from qinspect.shown import tell
from qinspect.studies.arms import Arm, arms_for, models_for
from qinspect.studies.build import BuildContext, make_initial, make_model, make_tflite
from qinspect.studies.pool import refuse_in_worker_import
from qinspect.studies.spec import StudySpec, input_digests, is_path, make_spec
from qinspect.studies.stored import QUESTION, REPEATS, USUAL_REPEATS, Study, load_study
from qinspect.studies.summary import FREE_THREADS, summarise
from qinspect.tflite.isolated import cores
from qinspect.tflite.run import evaluate

# Sizes that keep a study on a large public set within minutes on a laptop.
_DEFAULT_TRAIN = {"fashion_mnist": 12_000, "mnist": 12_000, "cifar10": 12_000}


def study(
    dataset: str | None = None, *, preset: str | None = None,
    out: str | os.PathLike[str] = "study", repeats: int | None = None,
    workers: int | None = None, notify: Callable[[str], None] | None = None,
    progress: Progress | None = None, **settings: Any,
) -> Study:
    """Train, quantize both ways, evaluate as TFLite and compare; write everything below ``out``.

    Parameters
    ----------
    dataset : str, optional
        Name of a data set (digits by default), or what
        :func:`qinspect.data.load_dataset` reads: a file, a folder of images.
    preset : str, optional
        ``one-epoch``, the forum puzzle; ``regression``, the forum's mean absolute error of 5.7
        against 6.7; ``anomaly``, a small autoencoder.  Settings given beside it win.
    out : path
        Folder of the study.  Finished steps found there are kept; a finished study is only loaded.
    repeats : int, optional
        Trainings, each with a seed of its own and the same test examples: from two on the answer is
        about the ways of training as well.  Five for a data set known by name; one for your own
        data, after which is said what five would take.  The further ones are kept below ``repeats``
        in ``out``.
    workers : int, optional
        Local processes for the further ones, each held to one thread; by default as many as there
        are cores.
    notify : callable, optional
        Receives one-line messages to the user; standard error when not given.
    progress : callable, optional
        ``progress(phase, done, total, message)``; chosen for terminal, notebook or log when not
        given.
    **settings
        Fields of :class:`StudySpec`, such as ``model``, ``qat_epochs`` or ``seed``; those that are
        None keep the preset's or default value.

    Returns
    -------
    Study

    Raises
    ------
    SpecError
        If a setting is not allowed, or ``out`` holds a study with other settings.
    StoreError
        If ``out`` cannot be written.
    DataError
        If the data set cannot be read or is too small.
    TrainError
        If the model cannot be trained, quantized or converted.

    Examples
    --------
    >>> found = study("digits", model="mlp", train_size=100, test_size=100, float_epochs=1,
    ...               qat_epochs=1, recipes=(), repeats=1, out="study-of-digits")
    >>> found.arms
    ('float_keras', 'float', 'float_ft', 'ptq_int8', 'ptq_int8_ft', 'qat_keras', 'qat')
    """
    refuse_in_worker_import()
    spec = make_spec(preset, dataset=dataset, **settings)
    for name, number in (("repeats", repeats), ("workers", workers)):
        if number is not None and (not isinstance(number, int) or number < 1):
            raise SpecError(f"{name} is {number!r}; it must be a whole number of at least 1.")
    first, say = run_study(spec, out, notify=notify, progress=progress), notify or tell
    own, wanted = is_path(spec.dataset), repeats or USUAL_REPEATS
    side_by_side = min(workers or cores(), max(1, wanted - 1))
    if repeats is None and own:
        say(f"To tell of the ways of training, --repeats {wanted} would train {wanted - 1} times "
            f"more, {_time(first, wanted - 1, side_by_side)}.")
    return first if wanted == 1 or (repeats is None and own) else _repeated(
        first, wanted, side_by_side, say, progress)


def _time(first: Study, further: int, workers: int) -> str:
    """How long further trainings take by the first one's steps."""
    # A sweep is made of studies.
    from qinspect.studies.sweeping import duration

    took = sum(store.read_json(path).get("seconds", 0.0)
               for path in (first.folder / "steps").glob("*.json"))
    return f"about {duration(took * math.ceil(further / workers))} on {workers} " + (
        "process" if workers == 1 else "processes")


def _repeated(
    first: Study, repeats: int, workers: int, say: Callable[[str], None],
    progress: Progress | None,
) -> Study:
    """The study with as many trainings in all, told how it stands after the first."""
    # A sweep is made of studies.
    from qinspect.studies.sweeping import run_sweep

    spec = first.spec
    say(f"first of {repeats} trainings: {first.pair(*QUESTION)['sentence']} Of the ways of "
        f"training the others will tell, {_time(first, repeats - 1, workers)}; interrupted, the "
        "same command goes on.")
    split_seed = spec.seed if spec.split_seed is None else spec.split_seed
    others = [replace(spec, seed=spec.seed + number, split_seed=split_seed, recipes=())
              for number in range(1, repeats)]
    done = run_sweep(others, first.folder / REPEATS, workers=workers, notify=say,
                     progress=progress).frame
    failed = done[done["status"] == "failed"]
    if len(failed):
        say(f"{len(failed)} of {repeats} trainings failed and do not count: "
            f"{failed['error'].iloc[0]}")
    return load_study(first.folder)


def run_study(
    spec: StudySpec, out: str | os.PathLike[str], *, progress: Progress | None = None,
    notify: Callable[[str], None] | None = None, num_threads: int | None = None,
) -> Study:
    """The study of a spec, run or only loaded; files are run with ``num_threads`` threads."""
    say = notify or tell
    splits = load_splits(spec)
    folder = store.prepare_folder(out)
    with store.locked(folder, say):
        _claim(folder, spec)
        if store.is_done(folder, "summary"):
            say(f"{folder} already holds this study, finished; nothing is trained again.")
            return load_study(folder)
        try:
            _run_steps(spec, folder, splits, progress, num_threads, say)
        except BaseException:
            # Nothing is done, so the folder is nobody's: another spec may have it.
            if not any((folder / "steps").iterdir()):
                (folder / "spec.json").unlink(missing_ok=True)
            raise
    return load_study(folder)


def load_splits(spec: StudySpec) -> Splits:
    """The four parts of the spec's data set, the same ones at every call."""
    data = load_dataset(spec.dataset, input_range=spec.input_range)
    train_size = spec.train_size or _DEFAULT_TRAIN.get(spec.dataset)
    seed = spec.seed if spec.split_seed is None else spec.split_seed
    splits = split(data, train=train_size, test=spec.test_size, seed=seed)
    for name in ("train", "calibration", "test"):
        if len(getattr(splits, name)) == 0:
            raise DataError(f"the {name} part of {spec.dataset!r} is empty; give more examples.")
    if splits.test.group is not None and len(np.unique(splits.test.group)) < 2:
        raise DataError(f"the test part of {spec.dataset!r} holds one group, which nothing can be "
                        "concluded from; give more groups.")
    return splits


def _claim(folder: Path, spec: StudySpec) -> None:
    """Write the spec into a new folder, or make sure that the folder's spec is the same."""
    path = folder / "spec.json"
    wanted = {**spec.to_dict(), "digests": input_digests(spec)}
    if not path.exists():
        store.write_json(path, wanted)
        return
    found = store.read_json(path)
    if not isinstance(found, dict):
        raise StoreError(f"{str(path)!r} holds no settings of a study; choose another --out.")
    differing = [key for key in wanted if found.get(key) != wanted[key]]
    if differing:
        key = differing[0]
        raise SpecError(
            f"{str(folder)!r} holds a study with other settings ({key}: {found.get(key)!r} there, "
            f"{wanted[key]!r} here); choose another --out."
        )


def _run_steps(
    spec: StudySpec, folder: Path, splits: Splits, progress: Progress | None,
    num_threads: int | None, say: Callable[[str], None],
) -> None:
    from qinspect.train import THREADS, has_batchnorm, load_keras, threads

    if threads() != [THREADS, THREADS]:
        say(FREE_THREADS)
    show = progress or make_progress()
    context = BuildContext(spec, folder, splits, show)
    store.write_json(
        folder / "splits.json",
        {name: getattr(splits, name).ids.tolist()
         for name in ("train", "validation", "calibration", "test")},
    )
    context.once("initial", make_initial)
    batchnorm = has_batchnorm(load_keras(context.model_path("initial")))
    models, arms = models_for(batchnorm), arms_for(batchnorm, spec.recipes)
    files = [arm for arm in arms if arm.recipe is not None]
    total = len(models) + len(files) + 1
    say(_length(context, models, len(files)))
    done = 0
    for name in models:
        show("study", done, total, f"training {name}")
        context.once(name, make_model, name)
        done += 1
    for arm in files:
        show("study", done, total, f"converting {arm.name}")
        context.once(f"tflite-{arm.name}", make_tflite, arm)
        done += 1
    show("study", done, total, "evaluating")
    _evaluate_arms(context, arms, num_threads)
    summarise(context, arms, batchnorm)
    show("study", total, total, "done")


def _length(context: BuildContext, models: tuple[str, ...], files: int) -> str:
    """What is trained for, and how long it will take, in steps."""
    spec, aim = context.spec, context.objective()
    trained = [name for name in models if name != "float_bn"]
    epochs = spec.float_epochs + (len(trained) - 1) * spec.qat_epochs
    steps = epochs * math.ceil(len(aim.of(context.splits.train)) / spec.batch_size)
    return (f"Loss {aim.loss}, judged by {metric(aim.metric).title}"
            + (f" ({aim.why})" if aim.why else "")
            + f". To do: {len(trained)} trainings of {steps:,} steps in all, {files} files.")


def _evaluate_arms(context: BuildContext, arms: tuple[Arm, ...], num_threads: int | None) -> None:
    """Outputs of every arm on the test part, as the metric needs them, into ``predictions.npz``."""
    from qinspect.train import load_keras, predict

    test, judged = context.splits.test, metric(context.objective().metric)
    arrays: dict[str, Array] = {"id": test.ids}
    if test.y is not None:
        arrays["y"] = test.labels if judged.classes else test.y
    if test.group is not None:
        arrays["group"] = test.group
    notes: dict[str, list[str]] = {}
    for arm in arms:
        if arm.recipe is None:
            outputs = predict(load_keras(context.folder / arm.file), test.array)
            tied = np.zeros(len(outputs), dtype=bool)
            prediction = class_of(outputs)
            raw: Array = outputs
        else:
            result = evaluate(context.folder / arm.file, test.array, num_threads=num_threads)
            outputs, raw = result.outputs, result.raw
            prediction, tied = result.prediction, result.tied
            notes[arm.name] = list(result.notes)
        arrays[f"raw__{arm.name}"] = raw
        if judged.classes:
            _check_outputs(arm, outputs, test.num_classes)
            arrays[f"prediction__{arm.name}"] = prediction.astype(np.int64)
            arrays[f"tied__{arm.name}"] = tied
        if judged.id != ACCURACY.id:
            arrays[f"output__{arm.name}"] = outputs if judged.reduce is None else judged.reduce(
                test.array, outputs)
    store.write_arrays(context.folder / "predictions.npz", arrays)
    store.write_json(context.folder / "notes.json", notes)


def _check_outputs(arm: Arm, outputs: Array, num_classes: int) -> None:
    if outputs.ndim != 2 or outputs.shape[1] < num_classes:
        raise DataError(
            f"{arm.name} gives outputs of shape {tuple(outputs.shape[1:])} for each example, but "
            f"the data set has {num_classes} classes; name another metric with --metric."
        )
