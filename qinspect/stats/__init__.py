"""Is the difference real: paired tests, intervals, power, equivalence and seeds.

NumPy, SciPy and pandas only.  Differences are always b - a; accuracies are shares in 0..1 and
what ends in ``_pp`` is in percentage points.
"""

from qinspect.stats.bootstrap import bootstrap_difference, bootstrap_distribution, bootstrap_mean
from qinspect.stats.compare import compare_paired, comparison_row
from qinspect.stats.contrast import contrast_interval
from qinspect.stats.crossed import crossed_bootstrap, crossed_interval, variance_components
from qinspect.stats.equivalence import equivalence_test
from qinspect.stats.intervals import tango_interval, tango_statistic, wilson_interval
from qinspect.stats.many import cochran_q, compare_many, holm
from qinspect.stats.mcnemar import mcnemar_exact, mcnemar_midp, sign_flip_test
from qinspect.stats.power import (
    SignError,
    examples_needed,
    mcnemar_power,
    power_curve,
    power_sentence,
    sign_error_probability,
    smallest_detectable,
)
from qinspect.stats.predictions import Predictions, read_predictions, significance_report
from qinspect.stats.seeds import SeedComparison, compare_seeds, seed_matrices, seeds_row

__all__ = [
    "Predictions",
    "SeedComparison",
    "SignError",
    "bootstrap_difference",
    "bootstrap_distribution",
    "bootstrap_mean",
    "cochran_q",
    "compare_many",
    "compare_paired",
    "compare_seeds",
    "comparison_row",
    "contrast_interval",
    "crossed_bootstrap",
    "crossed_interval",
    "equivalence_test",
    "examples_needed",
    "holm",
    "mcnemar_exact",
    "mcnemar_midp",
    "mcnemar_power",
    "power_curve",
    "power_sentence",
    "read_predictions",
    "seed_matrices",
    "seeds_row",
    "sign_error_probability",
    "sign_flip_test",
    "significance_report",
    "smallest_detectable",
    "tango_interval",
    "tango_statistic",
    "variance_components",
    "wilson_interval",
]
