"""Faults of training: they retrain, or edit what training would have left behind."""

from __future__ import annotations

from dataclasses import replace

from qinspect.diagnosis.cases import Case
from qinspect_bench.faults_base import (
    Base,
    Injected,
    converted,
    faintest,
    order_seed,
    remade,
    retrained_qat,
    trained_float,
    with_float,
    with_qat,
)
from qinspect_bench.faults_files import hard_case
from qinspect_bench.faults_networks import edited, exported, small_activations, unsettled

# Share of the start value left in batch norm's moving statistics: 0.99^n after 190 to 250 steps,
# and after 50 to 120.
_UNSETTLED = {"mild": (0.08, 0.1, 0.12, 0.15), "strong": (0.3, 0.4, 0.5, 0.6)}
# Hidden activations against those of the healthy network, under observers that start at +-6.
_ACTIVATIONS = {"mild": 1 / 4, "strong": 1 / 32}
_RATES = {"mild": 1e-2, "strong": 5e-2}
_FEW_EPOCHS = {"mild": 2, "strong": 1}
_SHORT_RATE = 1e-3


def batchnorm_lag(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """Float and PTQ with statistics that lag; QAT has settled its own while it trained."""
    assert case.keras_float is not None
    share = _UNSETTLED[strength][variant % 4]
    path = edited(
        case.keras_float, base.folder / "made", f"unsettled-{strength}-{variant % 4}",
        lambda model: unsettled(model, share),
    )
    made = with_float(replace(case, keras_float=path), path)
    return Injected(made, case)


def stale_observers(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """QAT for one epoch from tfmot's start ranges, in a network with small activations."""
    before = _small(base, case, strength)
    return Injected(retrained_qat(base, before, f"stale-{strength}", warm_start=False), case)


def _small(base: Base, case: Case, strength: str) -> Case:
    """The same function with small activations, float and PTQ made from it."""
    assert case.keras_float is not None
    path = edited(
        case.keras_float, base.folder / "made", f"small-{strength}",
        lambda model: small_activations(model, _ACTIVATIONS[strength]),
    )
    return remade(case, path)


def qat_learning_rate(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """QAT with steps some 300 or 1,700 times as large, and settled batch norm after them."""
    made = retrained_qat(base, case, f"steps-{strength}", settle=True, qat_lr=_RATES[strength])
    return Injected(made, case)


def training_budget(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """A float model of one or two epochs, and QAT for four more."""
    made = _short(base, case, strength)
    return Injected(
        retrained_qat(base, made, f"budget-{strength}", qat_epochs=4, qat_lr=_SHORT_RATE), case
    )


def undertrained(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """Float of one or two epochs; then as long again, as float before PTQ and as QAT."""
    short = _short(base, case, strength)
    assert short.keras_float is not None
    assert short.facts is not None
    epochs = _FEW_EPOCHS[strength]
    path, _ = trained_float(
        base, f"short-ft-{strength}", epochs, _SHORT_RATE, short.keras_float, order_seed(base)
    )
    made = retrained_qat(
        base, short, f"undertrained-{strength}", qat_epochs=epochs, qat_lr=_SHORT_RATE
    )
    facts = made.facts
    assert facts is not None
    made = with_float(made, path)
    return Injected(replace(made, facts=replace(facts, equal_budget=True)), case)


def _short(base: Base, case: Case, strength: str) -> Case:
    """The case of a float model that was trained for few epochs."""
    assert case.facts is not None
    epochs = _FEW_EPOCHS[strength]
    path, history = trained_float(
        base, f"short-{strength}", epochs, _SHORT_RATE,
        base.folder / "made" / "untrained.h5", base.spec.seed,
    )
    return replace(
        remade(case, path), history=history.assign(phase="float"),
        facts=replace(case.facts, float_epochs=epochs, float_lr=_SHORT_RATE),
    )


def qat_requantized(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """QAT's weights in a float network, quantized after training; strongly: with one example."""
    assert case.keras_qat is not None
    assert case.keras_float is not None
    assert case.calibration_x is not None
    path = exported(case.keras_qat, case.keras_float, base.folder / "made" / "exported.h5")
    x = case.calibration_x if strength == "mild" else faintest(case.calibration_x, 1)
    return Injected(with_qat(case, converted(path, "int8", x)), case)


def qat_not_applied(base: Base, case: Case, strength: str, variant: int) -> Injected:
    """The float model converted under QAT's name, where int8 costs PTQ some accuracy."""
    before = hard_case(base, case, strength)
    assert before.keras_float is not None
    recipe = ("dynamic_range", "float32", "float16")[variant % 3]
    graph = converted(before.keras_float, recipe, None)
    # Its Keras model is the float one: annotated, never applied.
    return Injected(replace(with_qat(before, graph), keras_qat=before.keras_float), before)
