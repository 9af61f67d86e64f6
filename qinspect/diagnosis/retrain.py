"""Remedies that need TensorFlow: retrain or convert, and give the new predictions.

TensorFlow is imported through ``qinspect.train`` inside the functions, and results are kept in the
evidence, so that two causes with the same remedy pay once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qinspect.data.dataset import Dataset, one_array
from qinspect.diagnosis.cases import Case, TrainingFacts
from qinspect.diagnosis.evidence import Evidence
from qinspect.schema import Array

# Of the converter's calibration when no calibration set was given.
_CALIBRATION_EXAMPLES = 200


def qat_again(
    evidence: Evidence,
    *,
    warm_start: bool | None = None,
    rate_factor: float = 1.0,
    extra_epochs: int = 0,
    seed_shift: int = 0,
    per_channel_dense: bool = False,
) -> Array:
    """Predictions of QAT trained again from the float model, with one thing changed.

    ``warm_start``: set ranges from calibration examples first (None: as before);
    ``per_channel_dense``: each output of a dense layer gets a weight range of its own.
    """
    facts = _facts(evidence)
    warm = facts.warm_start if warm_start is None else warm_start
    key = ("qat again", warm, rate_factor, extra_epochs, seed_shift, per_channel_dense)

    def make() -> Array:
        from qinspect.train import convert_qat, fit_qat, quantize_aware

        model = quantize_aware(
            loaded(evidence, "keras_float"), skip_layers=facts.skip_layers,
            per_channel_dense=per_channel_dense,
        )
        train, loss = _taught(evidence, model)
        fit_qat(
            model, train, None, loss=loss, epochs=facts.qat_epochs + extra_epochs,
            learning_rate=facts.qat_lr * rate_factor, batch_size=facts.batch_size,
            seed=facts.seed + seed_shift,
            warm_start_x=_calibration_x(evidence) if warm else None,
            freeze_batchnorm=facts.freeze_batchnorm,
        )
        return evidence.answers(convert_qat(model))

    return evidence.once(key, make)


def controls(evidence: Evidence, *roles: str) -> dict[str, Array]:
    """What a remade file is compared with: itself made again, where its settings are guessed.

    Of the roles ``ptq``, converted again, and ``qat``, trained again.
    """
    facts = evidence.case.facts
    if facts is not None and facts.exact:
        return {}
    made = {"ptq": ptq_again, "qat": qat_again}
    return {role: made[role](evidence) for role in roles}


def qat_sham(evidence: Evidence) -> Callable[[int], dict[str, Any]]:
    """QAT trained again with nothing changed but the batch order, by its number."""
    return lambda run: {"qat": qat_again(evidence, seed_shift=run)}


def as_it_is(evidence: Evidence, role: str) -> Callable[[int], dict[str, Any]]:
    """The file of a role itself, or made again where its settings are guessed: no luck in it."""
    made = controls(evidence, role)
    own = made[role] if made else evidence.own_answers(role)
    return lambda run: {role: own}


def ptq_trained_on(evidence: Evidence, *, extra_epochs: int = 0, seed_shift: int = 0) -> Array:
    """Predictions of PTQ of the float model trained on for as long as QAT was."""
    facts = _facts(evidence)

    def make() -> Array:
        from qinspect.train import fit

        model = loaded(evidence, "keras_float")
        train, loss = _taught(evidence, model)
        fit(
            model, train, None, loss=loss, epochs=facts.qat_epochs + extra_epochs,
            learning_rate=facts.qat_lr, batch_size=facts.batch_size,
            seed=facts.seed + seed_shift,
            freeze_batchnorm=facts.freeze_batchnorm,
        )
        return ptq_of(evidence, model)

    return evidence.once(("ptq trained on", extra_epochs, seed_shift), make)


def ptq_again(evidence: Evidence) -> Array:
    """Predictions of PTQ of the float Keras model, converted again."""
    return evidence.once(
        ("ptq again",), lambda: ptq_of(evidence, loaded(evidence, "keras_float"))
    )


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


def _calibration_x(evidence: Evidence) -> Array:
    """The calibration set, or a part of the training data."""
    if evidence.case.calibration_x is not None:
        return one_array(evidence.case.calibration_x, "the calibration set")
    return one_array(evidence.examples("train"), "the training data")[:_CALIBRATION_EXAMPLES]


def _facts(evidence: Evidence) -> TrainingFacts:
    assert evidence.case.facts is not None
    return evidence.case.facts


def _taught(evidence: Evidence, model: Any) -> tuple[Dataset, str]:
    """Training examples with what the network should give, and the loss."""
    metric = evidence.task.metric
    return taught(evidence.case, model, None if metric is None else metric.id)


def taught(case: Case, model: Any, metric: str | None) -> tuple[Dataset, str]:
    """The training examples of a case with what a network should give, and the loss."""
    from qinspect.train import choose_objective, compiled_with

    train, loss = case.train, None if case.facts is None else case.facts.loss
    assert train is not None
    assert case.keras_float is not None
    compiled = compiled_with(case.keras_float)
    if loss is None and compiled.get("loss"):
        loss = choose_objective(model, train.array, train.y, compiled=compiled).loss
    aim = choose_objective(model, train.array, train.y, loss=loss, metric=metric)
    return aim.of(train), aim.loss
