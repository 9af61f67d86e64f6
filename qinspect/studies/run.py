"""Run a study from its spec to its verdict, continuing from whatever is already finished."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qinspect import store
from qinspect.data import load_dataset, split
from qinspect.data.dataset import Splits
from qinspect.errors import DataError, SpecError
from qinspect.schema import Array
from qinspect.studies.arms import Arm, arms_for, models_for
from qinspect.studies.build import Workshop, make_initial, make_model, make_tflite
from qinspect.studies.spec import StudySpec, input_digests
from qinspect.studies.stored import Study, load_study
from qinspect.studies.summary import summarise
from qinspect.tflite.run import evaluate

if TYPE_CHECKING:
    from qinspect.train.progress import Progress

# Sizes that keep a study on a large public set within minutes on a laptop.
_DEFAULT_TRAIN = {"fashion_mnist": 12_000, "mnist": 12_000, "cifar10": 12_000}


def run_study(
    spec: StudySpec,
    out: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    notify: Callable[[str], None] | None = None,
    num_threads: int = 2,
) -> Study:
    """Train, quantize, evaluate and compare; write everything below ``out``.

    Parameters
    ----------
    spec : StudySpec
        The settings.
    out : path
        Folder of the study.  Finished steps found there are kept; a finished study is only
        loaded.
    progress : callable, optional
        Progress line; chosen for terminal, notebook or log when not given.
    notify : callable, optional
        Receives one-line messages to the user; standard error when not given.
    num_threads : int
        Threads that run each ``.tflite`` file.

    Returns
    -------
    Study

    Raises
    ------
    SpecError
        If ``out`` holds a study with other settings.
    StoreError
        If ``out`` cannot be written.
    DataError
        If the data set cannot be read or is too small.
    TrainError
        If the model cannot be trained, quantized or converted.
    """
    say = notify or (lambda text: print(text, file=sys.stderr))
    splits = load_splits(spec)
    folder = store.prepare_folder(out)
    with store.locked(folder, say):
        _claim(folder, spec)
        if store.is_done(folder, "summary"):
            say(f"{folder} already holds this study, finished; nothing is trained again.")
            return load_study(folder)
        _run_steps(spec, folder, splits, progress, num_threads)
    return load_study(folder)


def load_splits(spec: StudySpec) -> Splits:
    """The four parts of the spec's data set, the same ones at every call.

    Raises
    ------
    DataError
        If the data set cannot be read or is too small for its parts.
    """
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
    differing = [key for key in wanted if found.get(key) != wanted[key]]
    if differing:
        key = differing[0]
        raise SpecError(
            f"{str(folder)!r} holds a study with other settings ({key}: {found.get(key)!r} there, "
            f"{wanted[key]!r} here); choose another --out."
        )


def _run_steps(
    spec: StudySpec, folder: Path, splits: Splits, progress: Progress | None, num_threads: int
) -> None:
    from qinspect.train import has_batchnorm, load_keras, make_progress

    show = progress or make_progress()
    shop = Workshop(spec, folder, splits, show)
    store.write_json(
        folder / "splits.json",
        {name: getattr(splits, name).ids.tolist()
         for name in ("train", "validation", "calibration", "test")},
    )
    shop.once("initial", lambda: make_initial(shop))
    batchnorm = has_batchnorm(load_keras(shop.model_path("initial")))
    models, arms = models_for(batchnorm), arms_for(batchnorm, spec.recipes)
    files = [arm for arm in arms if arm.recipe is not None]
    total = len(models) + len(files) + 1
    done = 0
    for name in models:
        show("study", done, total, f"training {name}")
        shop.once(name, lambda name=name: make_model(shop, name))  # type: ignore[misc]
        done += 1
    for arm in files:
        show("study", done, total, f"converting {arm.name}")
        shop.once(f"tflite-{arm.name}", lambda arm=arm: make_tflite(shop, arm))  # type: ignore[misc]
        done += 1
    show("study", done, total, "evaluating")
    _evaluate_arms(shop, arms, num_threads)
    summarise(shop, arms, batchnorm)
    show("study", total, total, "done")


def _evaluate_arms(shop: Workshop, arms: tuple[Arm, ...], num_threads: int) -> None:
    """Raw outputs of every arm on the test part, into ``predictions.npz``."""
    from qinspect.train import load_keras, predict

    test = shop.splits.test
    arrays: dict[str, Array] = {"id": test.ids, "y": test.y}
    if test.group is not None:
        arrays["group"] = test.group
    notes: dict[str, list[str]] = {}
    for arm in arms:
        if arm.recipe is None:
            outputs = predict(load_keras(shop.folder / arm.file), test.x)
            prediction, tied = outputs.argmax(axis=1), np.zeros(len(outputs), dtype=bool)
            raw: Array = outputs
        else:
            result = evaluate(shop.folder / arm.file, test.x, num_threads=num_threads)
            outputs, raw = result.outputs, result.raw
            prediction, tied = result.prediction, result.tied
            notes[arm.name] = list(result.notes)
        _check_outputs(arm, outputs, test.num_classes)
        arrays[f"prediction__{arm.name}"] = prediction.astype(np.int64)
        arrays[f"raw__{arm.name}"] = raw
        arrays[f"tied__{arm.name}"] = tied
    store.write_arrays(shop.folder / "predictions.npz", arrays)
    store.write_json(shop.folder / "notes.json", notes)


def _check_outputs(arm: Arm, outputs: Array, num_classes: int) -> None:
    if outputs.ndim != 2 or outputs.shape[1] < num_classes:
        raise DataError(
            f"{arm.name} gives outputs of shape {tuple(outputs.shape[1:])} for each example, but "
            f"the data set has {num_classes} classes; the study is for classifiers."
        )
