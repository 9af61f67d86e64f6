"""The numbers that decided a verdict, beside the thresholds they were held against."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from qinspect.diagnosis import thresholds as t
from qinspect.diagnosis.cases import ROLES

_MODELS = {"float": "float", "ptq": "PTQ", "qat": "QAT"}


@dataclass(frozen=True)
class Measure:
    """One number of a finding and what it is held against.

    Attributes
    ----------
    key : str
        Name in the evidence; ``{role}_...`` where there is one for each file.
    title : str
    threshold : float
    above : bool
        Whether the cause is spoken for above the threshold or below it.
    divide_by : str
        Key of the number that it is a part of.
    """

    key: str
    title: str
    threshold: float
    above: bool = True
    divide_by: str = ""


_AGREEMENT = Measure("{role}_agreement_share", "predictions equal to the file's own",
                     t.SAME_PREDICTIONS, above=False)
_RANGES = {
    "wide": (
        Measure("wide_layers_share", "share of ranges too wide", t.LAYER_SHARE),
        Measure("widest_ratio", "widest range / range seen", t.WIDE_RATIO),
    ),
    "narrow": (
        Measure("narrow_layers_share", "share of ranges too narrow", t.LAYER_SHARE),
        Measure("worth_examples", "as narrow as that of so many examples", t.FEW_EXAMPLES,
                above=False),
    ),
}
MEASURES: dict[str, tuple[Measure, ...]] = {
    "evaluation-mismatch": (_AGREEMENT,),
    "input-quantization": (
        _AGREEMENT,
        Measure("{role}_input_ratio", "input range / range of the data", t.WIDE_RATIO),
    ),
    "kernel-difference": (
        Measure("{role}_flips", "share of flips between kernels", t.KERNEL_FLIPS,
                divide_by="examples"),
    ),
    "argmax-ties": (Measure("{role}_tied_share", "share of tied outputs", t.TIE_SHARE),),
    "lucky-checkpoint": (
        Measure("{role}_optimism_pp", "points gained by choosing", t.OPTIMISM_PP),
    ),
    "distribution-shift": (
        Measure("largest_distance", "largest distance of ranges", t.SHIFT_DISTANCE),
        Measure("median_distance", "median distance of ranges", t.SHIFT_DISTANCE),
    ),
    "regularisation": (
        Measure("p", "p of the gain over float", t.REGULARISATION_P, above=False),
        Measure("perturbation_p", "p against random noise", t.REGULARISATION_P, above=False),
    ),
    "different-format": (
        Measure("{role}_float_ops", "operators left in float", 1.0),
    ),
    "qat-not-applied": (
        Measure("wrapped_layers", "layers with a QAT wrapper", 0.5, above=False),
    ),
    "noise": (Measure("p", "p of the gap", 0.05),),
    "different-network": (
        Measure("float_{role}_cosine_median", "cosine of the weights to float's",
                t.LINEAGE_COSINE, above=False),
    ),
    "per-tensor-weights": (
        Measure("{role}_largest_disparity", "largest channel / smallest", t.CHANNEL_DISPARITY),
        Measure("{role}_worst_channel_sqnr_db", "SQNR of the worst channel, dB",
                t.CHANNEL_SQNR_DB, above=False),
    ),
    "bias-saturation": (
        Measure("{role}_largest_bias_share_of_int32", "largest bias / limit of 32 bits",
                t.BIAS_LIMIT),
    ),
    "sensitive-layer": (
        Measure("{role}_lowest_sqnr_db", "lowest SQNR of a layer, dB", t.SENSITIVE_LEVEL_DB,
                above=False),
        Measure("{role}_levels_of_typical_channel", "levels of the typical channel",
                t.STARVED_LEVELS, above=False),
    ),
    "stale-observers": (
        Measure("bits_lost_median", "bits unused, median of layers", t.STALE_BITS),
        Measure("clipping_layers_share", "share of layers that clip", t.LAYER_SHARE),
    ),
    "calibration-outliers": _RANGES["wide"],
    "calibration-small": _RANGES["narrow"],
    "calibration-shift": (
        *_RANGES["narrow"],
        Measure("typical_example_ratio", "typical calibration / evaluation example",
                t.UNITS_RATIO),
    ),
    "batchnorm-lag": (
        Measure("mean_shift_sd", "shift of the means, standard deviations", t.BN_SHIFT),
        Measure("sd_ratio", "ratio of the standard deviations", t.BN_RATIO),
    ),
    "undertrained": (
        Measure("{role}_last_fall_share", "fall of the loss in the last epoch",
                t.STILL_FALLING),
    ),
    "qat-learning-rate": (
        Measure("loss_ratio", "QAT's loss / float's last", t.LOSS_RISE),
        Measure("weight_cosine_median", "cosine of QAT's weights to float's", t.MOVED_COSINE,
                above=False),
    ),
}
_TIES = ("tied_share", "worst_pp", "best_pp")
COLUMNS = ("measure", "value", "threshold", "above")


def measured(cause: Mapping[str, Any]) -> pd.DataFrame:
    """The numbers of a cause that have a threshold.

    Parameters
    ----------
    cause : mapping
        ``id`` and ``evidence``, as in the dict of a diagnosis.

    Returns
    -------
    DataFrame
        ``measure`` (text), ``value``, ``threshold``, ``above`` (bool: the cause is spoken for
        above the threshold); empty where nothing was measured.
    """
    evidence = cause.get("evidence") or {}
    rows = []
    for measure in MEASURES.get(str(cause["id"]), ()):
        for key, who in _keys(measure.key):
            value = evidence.get(key)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            if measure.divide_by:
                value = value / max(float(evidence.get(measure.divide_by) or 0), 1.0)
            if math.isfinite(value):
                rows.append((f"{who}{measure.title}", float(value), float(measure.threshold),
                             measure.above))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def ties(cause: Mapping[str, Any]) -> pd.DataFrame:
    """The ties of each file, from the numbers of ``argmax-ties``.

    Returns
    -------
    DataFrame
        ``model``, ``tied_share``, ``worst_pp``, ``best_pp``; empty where no file was run.
    """
    evidence = cause.get("evidence") or {}
    rows = [
        (_MODELS[role], *(evidence[f"{role}_{key}"] for key in _TIES))
        for role in ROLES
        if all(evidence.get(f"{role}_{key}") is not None for key in _TIES)
    ]
    return pd.DataFrame(rows, columns=["model", *_TIES])


def disagreement(cause: Mapping[str, Any]) -> pd.DataFrame:
    """The examples that only one of two files gets right, from the numbers of ``noise``.

    Returns
    -------
    DataFrame
        ``a``, ``b``, ``a_only``, ``b_only``; empty where nothing was compared.
    """
    evidence = cause.get("evidence") or {}
    if evidence.get("only_a_right") is None or evidence.get("only_b_right") is None:
        return pd.DataFrame(columns=["a", "b", "a_only", "b_only"])
    row = ("model a", "model b", int(evidence["only_a_right"]), int(evidence["only_b_right"]))
    return pd.DataFrame([row], columns=["a", "b", "a_only", "b_only"])


def _keys(key: str) -> list[tuple[str, str]]:
    if "{role}" not in key:
        return [(key, "")]
    return [(re.sub(r"\{role\}", role, key), f"{_MODELS[role]}: ") for role in ROLES]
