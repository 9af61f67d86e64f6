"""Is the difference real: paired tests, intervals, power, equivalence and seeds.

NumPy, SciPy and pandas only.  Differences are always b - a, in the unit of the metric; accuracies
are shares in 0..1 and their differences are in percentage points.
"""

from qinspect.stats.agreement import churn, cohen_kappa
from qinspect.stats.bootstrap import bootstrap_distribution
from qinspect.stats.contrast import contrast_interval
from qinspect.stats.exact import mcnemar_exact, mcnemar_midp, sign_flip_test
from qinspect.stats.intervals import equivalence_test, tango_interval, wilson_interval
from qinspect.stats.many import cochran_q, false_discovery, holm
from qinspect.stats.paired import Comparison, compare_paired, score_interval
from qinspect.stats.power import (
                                  SignError,
                                  examples_needed,
                                  mcnemar_power,
                                  power_curve,
                                  power_sentence,
                                  sign_error_probability,
                                  smallest_detectable,
)
from qinspect.stats.seeds import (
                                  SeedComparison,
                                  compare_seeds,
                                  crossed_bootstrap,
                                  crossed_interval,
                                  mean_interval,
                                  variance_components,
)
from qinspect.stats.selection import unselected
from qinspect.stats.sequential import alpha_spent, look_confidence, look_levels
from qinspect.stats.sets import compare_sets, pseudo_values, resampled_values, set_interval

__all__ = [
                                  "Comparison",
                                  "SeedComparison",
                                  "SignError",
                                  "alpha_spent",
                                  "bootstrap_distribution",
                                  "churn",
                                  "cochran_q",
                                  "cohen_kappa",
                                  "compare_paired",
                                  "compare_seeds",
                                  "compare_sets",
                                  "contrast_interval",
                                  "crossed_bootstrap",
                                  "crossed_interval",
                                  "equivalence_test",
                                  "examples_needed",
                                  "false_discovery",
                                  "holm",
                                  "look_confidence",
                                  "look_levels",
                                  "mcnemar_exact",
                                  "mcnemar_midp",
                                  "mcnemar_power",
                                  "mean_interval",
                                  "power_curve",
                                  "power_sentence",
                                  "pseudo_values",
                                  "resampled_values",
                                  "score_interval",
                                  "set_interval",
                                  "sign_error_probability",
                                  "sign_flip_test",
                                  "smallest_detectable",
                                  "tango_interval",
                                  "unselected",
                                  "variance_components",
                                  "wilson_interval",
]
