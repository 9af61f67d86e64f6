"""Split the gap between QAT and PTQ into parts that sum to it."""

from __future__ import annotations

from typing import Any

from qinspect.schema import Array
from qinspect.stats import contrast_interval

# id, title, and the contrast: (arm, sign) pairs whose accuracies add up to the part.
_TITLES = {
    "batchnorm-lag": "batch-norm statistics",
    "training-budget": "training budget",
    "quantization-aware": "quantization-aware training itself",
}


def contrasts(batchnorm: bool) -> dict[str, dict[str, int]]:
    """Signed arms of each part; together they are ``qat - ptq_int8``.

    With batch norm the statistics' part is the gap minus the gap between the models whose
    statistics were re-estimated, and the other two parts are taken on those models: unsettled
    statistics would otherwise pass as an effect of the extra training.
    """
    end = "_bn" if batchnorm else ""
    parts: dict[str, dict[str, int]] = {}
    if batchnorm:
        parts["batchnorm-lag"] = {"qat": 1, "ptq_int8": -1, "qat_bn": -1, "ptq_int8_bn": 1}
    parts["training-budget"] = {f"ptq_int8_ft{end}": 1, f"ptq_int8{end}": -1}
    parts["quantization-aware"] = {f"qat{end}": 1, f"ptq_int8_ft{end}": -1}
    return parts


def decompose_gap(
    correct: dict[str, Array], batchnorm: bool, *, confidence: float = 0.95
) -> list[dict[str, Any]]:
    """Parts of the gap QAT - PTQ in percentage points, with paired intervals.

    Parameters
    ----------
    correct : dict of arm name -> ndarray of bool, shape (n,)
        Which examples each arm gets right, in one order.
    batchnorm : bool
        Whether the arms with re-estimated batch norm exist.
    confidence : float
        Confidence of each interval.

    Returns
    -------
    list of dict
        ``id``, ``title``, ``arms`` (signed), ``diff_pp`` and ``ci_pp``, a score interval.  The
        ``diff_pp`` sum to 100 (accuracy of qat - accuracy of ptq_int8).
    """
    parts = []
    for name, signed in contrasts(batchnorm).items():
        estimate, low, high = contrast_interval(correct, signed, confidence=confidence)
        parts.append(
            {
                "id": name,
                "title": _TITLES[name],
                "arms": signed,
                "diff_pp": estimate,
                "ci_pp": [low, high],
            }
        )
    return parts
