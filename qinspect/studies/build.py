"""The steps of a study that make models: each reads its parent from disk and writes its result.

A step resets Keras first and starts from files only, so a resumed study makes the same bytes as
an uninterrupted one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qinspect import store
from qinspect.data import calibration_subset
from qinspect.data.dataset import Dataset, Splits
from qinspect.progress import no_progress
from qinspect.schema import Array
from qinspect.studies.arms import PARENTS, Arm
from qinspect.studies.spec import StudySpec, is_path
from qinspect.studies.stored import read_objective
from qinspect.train.recipes import AUTOENCODER, PTQ_RECIPES

if TYPE_CHECKING:
    from qinspect.progress import Progress
    from qinspect.train.objective import Objective


@dataclass(frozen=True)
class BuildContext:
    """What every step needs."""

    spec: StudySpec
    folder: Path
    splits: Splits
    progress: Progress

    def model_path(self, name: str) -> Path:
        """Where a Keras model is kept."""
        return self.folder / "models" / f"{name}.h5"

    def objective(self) -> Objective:
        """What the study trains for, as its first step decided."""
        from qinspect.train.objective import Objective

        return Objective(**read_objective(self.folder))

    def once(self, step: str, make: Callable[..., None], *arguments: Any) -> None:
        """Do a step, ``make(self, *arguments)``, unless an earlier run has finished it."""
        from qinspect.train import threads

        if store.is_done(self.folder, step):
            return
        started = time.perf_counter()
        make(self, *arguments)
        store.mark_done(self.folder, step, {
            "seconds": round(time.perf_counter() - started, 3), "threads": threads()})


def make_initial(context: BuildContext) -> None:
    """The untrained zoo model, or the user's own model as given."""
    from qinspect.train import (
        check_model,
        choose_objective,
        compiled_with,
        flatten_model,
        load_keras,
        one_output,
        reset,
        save_keras,
    )
    from qinspect.train.training import check_examples

    spec, train = context.spec, context.splits.train
    reset(spec.seed)
    compiled = None
    if is_path(spec.model):
        model = one_output(flatten_model(load_keras(spec.model)), spec.output)
        compiled = compiled_with(spec.model)
    else:
        model = _built(spec, train)
    check_model(model, skip_layers=spec.skip_layers)
    check_examples(model, train.array, train.name)
    chosen = choose_objective(model, train.array, train.y, loss=spec.loss, metric=spec.metric,
                              compiled=compiled)
    store.write_json(context.folder / "objective.json", asdict(chosen))
    save_keras(model, context.model_path("initial"))


def _built(spec: StudySpec, train: Dataset) -> Any:
    """A network of the zoo with as many outputs as the data and the loss ask for."""
    from qinspect.train import build_autoencoder, build_model

    shape = train.array.shape[1:]
    if spec.model == AUTOENCODER:
        return build_autoencoder(shape, seed=spec.seed)
    activation: str | None = "softmax"
    numbers = train.num_classes
    if not train.num_classes or spec.loss in ("mae", "mse", "huber"):
        numbers, activation = 1 if train.y is None else train.y[0].size, None
    elif spec.loss == "binary-crossentropy":
        numbers, activation = 1, "sigmoid"
    return build_model(spec.model, shape, numbers, bn_momentum=spec.bn_momentum, seed=spec.seed,
                       activation=activation)


def make_model(context: BuildContext, name: str) -> None:
    """Train or adjust one Keras model of the study and write it with its history."""
    from qinspect.train import load_keras, reestimate_batchnorm, reset, save_keras

    reset(context.spec.seed)
    model = load_keras(context.model_path(PARENTS[name]))
    if name == "float_bn":
        reestimate_batchnorm(model, context.splits.train.array)
    elif name.startswith("qat"):
        model = _train_qat(context, model, name)
    else:
        _train_float(context, model, name)
    if name in {"float_ft_bn", "qat_bn"}:
        # Training unsettles the statistics again; both sides are compared with settled ones.
        reestimate_batchnorm(model, context.splits.train.array)
    save_keras(model, context.model_path(name))


def _train_float(context: BuildContext, model: Any, name: str) -> None:
    from qinspect.train import fit

    spec, aim = context.spec, context.objective()
    first = name == "float"
    history = fit(
        model, aim.of(context.splits.train), aim.of(context.splits.validation), loss=aim.loss,
        epochs=spec.float_epochs if first else spec.qat_epochs,
        learning_rate=spec.float_lr if first else spec.qat_lr,
        batch_size=spec.batch_size,
        seed=spec.seed if first else finetune_seed(spec),
        phase=name, progress=context.progress,
        freeze_batchnorm=spec.freeze_batchnorm and not first,
    )
    store.write_frame(context.folder / "models" / f"{name}.history.csv", history)


def _train_qat(context: BuildContext, model: Any, name: str) -> Any:
    from qinspect.train import fit_qat, quantize_aware

    spec, aim = context.spec, context.objective()
    qat_model = quantize_aware(model, skip_layers=spec.skip_layers)
    history, observers = fit_qat(
        qat_model, aim.of(context.splits.train), aim.of(context.splits.validation), loss=aim.loss,
        epochs=spec.qat_epochs, learning_rate=spec.qat_lr, batch_size=spec.batch_size,
        seed=finetune_seed(spec), phase=name, progress=context.progress,
        warm_start_x=calibration_examples(spec, context.splits) if spec.warm_start else None,
        freeze_batchnorm=spec.freeze_batchnorm,
    )
    store.write_frame(context.folder / "models" / f"{name}.history.csv", history)
    store.write_frame(context.folder / "models" / f"{name}.observers.csv", observers)
    return qat_model


def make_tflite(context: BuildContext, arm: Arm) -> None:
    """Convert one arm's Keras model and write the ``.tflite`` file."""
    from qinspect.train import convert, convert_qat, load_keras, reset

    spec = context.spec
    reset(spec.seed)
    model = load_keras(context.model_path(arm.model))
    if arm.recipe == "qat":
        content = convert_qat(model)
    else:
        assert arm.recipe is not None
        content = convert(model, arm.recipe,
                          calibration_examples(spec, context.splits, arm.recipe),
                          progress=no_progress)
    store.write_bytes(context.folder / arm.file, content)


def finetune_seed(spec: StudySpec) -> int:
    """Seed of the batch order that QAT and its float control share."""
    return spec.seed + 1_000_003


def calibration_examples(spec: StudySpec, splits: Splits, recipe: str = "int8") -> Array:
    """The representative data set of a PTQ recipe; that of int8 also warm-starts observers."""
    chosen = PTQ_RECIPES[recipe]
    part = getattr(splits, chosen.calibration_source)
    size = min(spec.calibration_size, len(part))
    return calibration_subset(part, size, order=chosen.calibration_order, seed=spec.seed).array
