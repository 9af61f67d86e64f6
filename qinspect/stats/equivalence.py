"""Two one-sided tests: are two models equally accurate within a stated margin?"""

from __future__ import annotations

import math

from scipy.special import ndtr

from qinspect.errors import SpecError
from qinspect.stats.intervals import tango_statistic


def equivalence_test(n: float, a_only: float, b_only: float, margin_pp: float) -> float:
    """p-value of the hypothesis that the accuracies differ by ``margin_pp`` or more.

    A small value shows equivalence within the margin.  Both one-sided hypotheses, difference at
    most -margin and difference at least +margin, are tested with Tango's score statistic and the
    larger p-value counts.

    Parameters
    ----------
    n, a_only, b_only : float
        Examples, and how many of them only a, only b gets right; effective numbers may be broken.
    margin_pp : float
        Margin in percentage points, above 0 and below 100.

    Returns
    -------
    float
        p-value in 0..1.

    Raises
    ------
    SpecError
        When the margin is not positive or reaches 100.

    References
    ----------
    Schuirmann (1987), Journal of Pharmacokinetics and Biopharmaceutics 15, 657-680; with the
    score statistic of Tango (1998): Liu et al. (2002), Statistics in Medicine 21, 231-245.
    """
    if not 0 < margin_pp < 100 or not math.isfinite(margin_pp):
        raise SpecError(f"the margin is {margin_pp} points; it must lie between 0 and 100.")
    margin = margin_pp / 100
    above_lower = ndtr(-float(tango_statistic(n, a_only, b_only, -margin)))
    below_upper = ndtr(float(tango_statistic(n, a_only, b_only, margin)))
    return float(max(above_lower, below_upper))
