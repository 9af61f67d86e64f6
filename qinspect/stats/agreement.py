"""Do two models give the same answers, whatever these are worth?"""

from __future__ import annotations

import math

import numpy as np

from qinspect.errors import DataError
from qinspect.schema import Array


def churn(answers_a: Array, answers_b: Array) -> float:
    """Share of examples whose answer changes from one model to the other.

    References
    ----------
    Milani Fard et al. (2016), Launch and Iterate: Reducing Prediction Churn, NIPS 29.

    Examples
    --------
    >>> churn(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2]))
    0.25
    """
    a, b = np.asarray(answers_a), np.asarray(answers_b)
    if a.shape != b.shape or a.ndim != 1 or a.size == 0:
        raise DataError(f"answers have shapes {a.shape} and {b.shape}; give one an example of both "
                        "models, with at least one example.")
    return float(np.mean(a != b))


def cohen_kappa(answers_a: Array, answers_b: Array) -> float:
    """Agreement beyond what two models with these shares of answers have by chance.

    1 where all answers are the same, 0 at chance; NaN where both give one answer only.

    References
    ----------
    Cohen (1960), Educational and Psychological Measurement 20, 37-46.

    Examples
    --------
    >>> round(cohen_kappa(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])), 3)
    0.5
    """
    same = 1 - churn(answers_a, answers_b)
    names, codes = np.unique(np.concatenate([answers_a, answers_b]), return_inverse=True)
    shares = [np.bincount(part, minlength=len(names)) / len(answers_a)
              for part in np.split(codes, 2)]
    chance = float(shares[0] @ shares[1])
    return (same - chance) / (1 - chance) if chance < 1 else math.nan
