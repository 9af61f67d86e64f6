"""Which figure shows the evidence of which cause."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pandas as pd

from qinspect.show import plots
from qinspect.stats import bootstrap_distribution, compare_paired

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from qinspect.show.layer_tables import LayerTables
    from qinspect.study import Study

Draw = Callable[["Axes"], str]


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
    history = study.history
    found: dict[str, Draw] = {
        "noise": lambda ax: _noise(study, ax),
        "different-format": lambda ax: _say(
            plots.accuracy_size, plots.describe_size, study.runs, ax
        ),
    }
    if len(history):
        for name in ("undertrained", "training-budget", "qat-learning-rate", "batchnorm-lag"):
            found[name] = lambda ax: _say(
                plots.learning_curves, plots.describe_learning, history, ax
            )
    if tables is None:
        return found
    for model, names in (
        ("qat", ("stale-observers", "qat-requantized")),
        ("ptq_int8", ("calibration-small", "calibration-shift", "calibration-outliers")),
    ):
        if model in tables.models and tables.activations:
            for name in names:
                found[name] = _ranges(tables, model)
    weights = tables.of("weight")
    found["different-network"] = lambda ax: _say(
        plots.weight_ranges, plots.describe_weight_ranges, weights, ax
    )
    if len(weights):
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
    right_a, right_b = study.correct("ptq_int8"), study.correct("qat")
    comparison = compare_paired(
        right_a, right_b, a="ptq_int8", b="qat", confidence=study.spec.confidence,
        margin_pp=study.spec.margin_pp, rng=study.spec.seed,
    )  # fmt: skip
    difference = right_b.astype(float) - right_a
    resamples = 100 * bootstrap_distribution(difference, rng=study.spec.seed)
    plots.bootstrap_plot(pd.DataFrame({"diff_pp": resamples}), comparison, ax)
    return plots.describe_bootstrap(comparison)


def _most_unequal(weights: pd.DataFrame) -> pd.DataFrame:
    """Rows of the layer whose channels differ most in reach."""
    channels = weights[weights["channel"] >= 0]
    reach = channels.assign(reach=channels[["min", "max"]].abs().max(axis=1))
    by_layer = reach[reach["reach"] > 0].groupby("layer", sort=False)["reach"]
    ratio = by_layer.max() / by_layer.min()
    return weights[weights["layer"] == ratio.index[int(ratio.to_numpy().argmax())]]
