"""One function a figure: a tidy frame or a result in, a ``Figure`` out."""

from qinspect.show.figures.accuracy import accuracy_forest, accuracy_size
from qinspect.show.figures.causes import (
    diagnosis_board,
    effect_plot,
    statistics_plot,
    threshold_plot,
    tie_plot,
    waterfall,
)
from qinspect.show.figures.errors import (
    channel_sqnr,
    error_histogram,
    sensitivity_bars,
    sensitivity_curve,
    size_curve,
    sqnr_profile,
    transfer_plot,
)
from qinspect.show.figures.paired import (
    bootstrap_plot,
    differences,
    discordance,
    null_distribution,
    power_plot,
    seeds_plot,
)
from qinspect.show.figures.ranges import activation_ranges, channel_ranges, weight_ranges
from qinspect.show.figures.training import (
    learning_curves,
    observer_bars,
    observer_course,
    observer_ranges,
)
