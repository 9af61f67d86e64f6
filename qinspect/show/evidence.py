"""Which figure shows the evidence of which cause."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from qinspect.causes.batchnorm_lag import batchnorm_channels
from qinspect.diagnosis.cases import ROLES, Case
from qinspect.diagnosis.rule import MODELS, Measure
from qinspect.show import plots
from qinspect.stats import bootstrap_distribution

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from qinspect.show.layer_tables import LayerTables
    from qinspect.studies.stored import Study

Draw = Callable[["Axes"], str]
_TRAINING = ("undertrained", "training-budget", "qat-learning-rate")


def evidence_figures(study: Study, tables: LayerTables | None = None) -> dict[str, Draw]:
    """Figures of a study that bear on the causes of a diagnosis.

    Parameters
    ----------
    study : Study
    tables : LayerTables, optional
        Of its layers; without them causes inside the files have no figure.

    Returns
    -------
    dict of cause id to callable
        Draws on the axes it is given and returns the sentence that says the same.
    """
    models = study.folder / "models"
    settled = (models / "float.h5", models / "float_bn.h5")
    return {
        **_of_layers(tables),
        **_of_training(study.history, settled if all(p.exists() for p in settled) else None),
        "noise": lambda ax: _noise(study, ax),
        "different-format": lambda ax: _say(
            plots.accuracy_size, plots.describe_size, study.runs, ax
        ),
    }


def case_figures(case: Case, tables: LayerTables | None = None) -> dict[str, Draw]:
    """The same for any case: what its history, Keras models and layers show.

    Parameters
    ----------
    case : Case
    tables : LayerTables, optional
        From :func:`qinspect.show.layer_tables.case_layer_tables`.

    Returns
    -------
    dict of cause id to callable
    """
    settled = case.arm_models.get("float_bn")
    pair = None if settled is None or case.keras_float is None else (case.keras_float, settled)
    history = case.history
    return {
        **_of_layers(tables),
        **_of_training(history if history is not None else pd.DataFrame(), pair),
    }


def number_figure(cause: Mapping[str, Any]) -> Draw | None:
    """The numbers that decided about a cause, as a figure; None where there are none.

    Parameters
    ----------
    cause : mapping
        ``id``, ``evidence`` and ``measures``, as in the JSON of a diagnosis.
    """
    tied, parted, held = _ties(cause), _disagreement(cause), deciding(cause)
    if cause["id"] == "argmax-ties" and len(tied):
        return lambda ax: _say(plots.tie_plot, plots.describe_ties, tied, ax)
    if cause["id"] == "noise" and len(parted):
        return lambda ax: _say(plots.discordance, plots.describe_discordance, parted, ax)
    if len(held):
        return lambda ax: _say(plots.threshold_plot, plots.describe_thresholds, held, ax)
    return None


def deciding(cause: Mapping[str, Any]) -> pd.DataFrame:
    """The measures of a cause, as in the JSON of a diagnosis, that were held against a threshold.

    ``title``, ``value``, ``threshold``, ``side``, ``unit``, ``speaks``; one row each.
    """
    rows = []
    for told in cause.get("measures") or ():
        measure = Measure(**told)
        if measure.speaks is not None:
            rows.append({**told, "speaks": measure.speaks})
    return pd.DataFrame(rows, columns=["title", "value", "threshold", "side", "unit", "speaks"])


_TIES = ("tied_share", "worst_pp", "best_pp")


def _ties(cause: Mapping[str, Any]) -> pd.DataFrame:
    """The ties of each file, from the numbers of ``argmax-ties``."""
    evidence = cause.get("evidence") or {}
    rows = [
        (MODELS[role], *(evidence[f"{role}_{key}"] for key in _TIES))
        for role in ROLES
        if all(evidence.get(f"{role}_{key}") is not None for key in _TIES)
    ]
    return pd.DataFrame(rows, columns=["model", *_TIES])


def _disagreement(cause: Mapping[str, Any]) -> pd.DataFrame:
    """The examples that only one of two files gets right, from the numbers of ``noise``."""
    evidence = cause.get("evidence") or {}
    if evidence.get("only_a_right") is None or evidence.get("only_b_right") is None:
        return pd.DataFrame(columns=["a", "b", "a_only", "b_only"])
    row = ("model a", "model b", int(evidence["only_a_right"]), int(evidence["only_b_right"]))
    return pd.DataFrame([row], columns=["a", "b", "a_only", "b_only"])


def _of_training(history: pd.DataFrame, batchnorm: tuple[Path, Path] | None) -> dict[str, Draw]:
    found: dict[str, Draw] = {}
    if len(history):
        for name in _TRAINING:
            found[name] = lambda ax: _say(
                plots.learning_curves, plots.describe_learning, history, ax
            )
    if batchnorm is not None:
        channels = batchnorm_channels(*batchnorm)
        if len(channels):
            found["batchnorm-lag"] = lambda ax: _say(
                plots.batchnorm_plot, plots.describe_batchnorm, channels, ax
            )
    return found


def _of_layers(tables: LayerTables | None) -> dict[str, Draw]:
    found: dict[str, Draw] = {}
    if tables is None:
        return found
    for models, names in (
        (("qat",), ("stale-observers", "qat-requantized", "qat-not-applied")),
        (("ptq_int8", "ptq"), ("calibration-small", "calibration-shift", "calibration-outliers")),
    ):
        for model in models:
            if model in tables.models and tables.activations:
                found |= dict.fromkeys(names, _ranges(tables, model))
    weights = tables.of("weight")
    if len(weights):
        found["different-network"] = lambda ax: _say(
            plots.weight_ranges, plots.describe_weight_ranges, weights, ax
        )
        wide = _most_unequal(weights)
        found["per-tensor-weights"] = lambda ax: _say(
            plots.channel_ranges, plots.describe_channel_ranges, wide, ax
        )
    for errors in tables.errors.values():
        frame = errors.errors
        found["sensitive-layer"] = lambda ax, frame=frame: _say(  # type: ignore[misc]
            plots.sqnr_profile, plots.describe_sqnr, frame, ax
        )
    return found


def _say(
    draw: Callable[..., Axes],
    describe: Callable[[pd.DataFrame], str],
    frame: pd.DataFrame,
    ax: Axes,
) -> str:
    draw(frame, ax)
    return describe(frame)


def _ranges(tables: LayerTables, model: str) -> Draw:
    frame = tables.stored_against_observed(model)

    def draw(ax: Axes) -> str:
        plots.activation_ranges(frame, ax)
        return f"Activation ranges of {model}. {plots.describe_activation_ranges(frame)}"

    return draw


def _noise(study: Study, ax: Axes) -> str:
    results = study.results
    comparison = results.comparison("ptq_int8", "qat")
    difference = results.scores("qat").astype(float) - results.scores("ptq_int8")
    resamples = 100 * bootstrap_distribution(
        difference, groups=results.groups, rng=study.spec.seed)
    plots.bootstrap_plot(pd.DataFrame({"diff_pp": resamples}), comparison, ax)
    return plots.describe_bootstrap(comparison)


def _most_unequal(weights: pd.DataFrame) -> pd.DataFrame:
    """Rows of the layer whose channels differ most in reach."""
    channels = weights[weights["channel"] >= 0]
    reach = channels.assign(reach=channels[["min", "max"]].abs().max(axis=1))
    by_layer = reach[reach["reach"] > 0].groupby("layer", sort=False)["reach"]
    ratio = by_layer.max() / by_layer.min()
    return weights[weights["layer"] == ratio.index[int(ratio.to_numpy().argmax())]]
