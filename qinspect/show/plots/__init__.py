"""One function a figure: a tidy frame in, axes out, and a sentence that says the same."""

from qinspect.show.plots.board import (
    accuracy_size,
    cause_frame,
    describe_board,
    describe_size,
    diagnosis_board,
)
from qinspect.show.plots.confusion import confusion_matrix, describe_confusion
from qinspect.show.plots.decomposition import describe_waterfall, waterfall
from qinspect.show.plots.errors import (
    describe_error_histogram,
    describe_sensitivity,
    describe_sqnr,
    error_histogram,
    sensitivity_bars,
    sqnr_profile,
)
from qinspect.show.plots.evidence import (
    batchnorm_plot,
    describe_batchnorm,
    describe_thresholds,
    describe_ties,
    threshold_plot,
    tie_plot,
)
from qinspect.show.plots.forest import accuracy_forest, describe_forest
from qinspect.show.plots.ranges import (
    activation_ranges,
    channel_ranges,
    describe_activation_ranges,
    describe_channel_ranges,
    describe_weight_ranges,
    range_use,
    weight_ranges,
)
from qinspect.show.plots.significance import (
    bootstrap_plot,
    describe_bootstrap,
    describe_discordance,
    describe_power,
    describe_seeds,
    discordance,
    power_plot,
    seeds_plot,
)
from qinspect.show.plots.training import (
    describe_learning,
    describe_observer_bars,
    describe_observers,
    learning_curves,
    observer_bars,
    observer_ranges,
    observers_at,
)
from qinspect.show.plots.transfer import describe_transfer, transfer_plot

__all__ = [
    "accuracy_forest",
    "accuracy_size",
    "activation_ranges",
    "batchnorm_plot",
    "bootstrap_plot",
    "cause_frame",
    "channel_ranges",
    "confusion_matrix",
    "describe_activation_ranges",
    "describe_batchnorm",
    "describe_board",
    "describe_bootstrap",
    "describe_channel_ranges",
    "describe_confusion",
    "describe_discordance",
    "describe_error_histogram",
    "describe_forest",
    "describe_learning",
    "describe_observer_bars",
    "describe_observers",
    "describe_power",
    "describe_seeds",
    "describe_sensitivity",
    "describe_size",
    "describe_sqnr",
    "describe_thresholds",
    "describe_ties",
    "describe_transfer",
    "describe_waterfall",
    "describe_weight_ranges",
    "diagnosis_board",
    "discordance",
    "error_histogram",
    "learning_curves",
    "observer_bars",
    "observer_ranges",
    "observers_at",
    "power_plot",
    "range_use",
    "seeds_plot",
    "sensitivity_bars",
    "sqnr_profile",
    "threshold_plot",
    "tie_plot",
    "transfer_plot",
    "waterfall",
    "weight_ranges",
]
