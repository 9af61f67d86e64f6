"""calibration-small, calibration-shift, calibration-outliers: PTQ stored the wrong ranges.

All three read the same table: the ranges stored in the PTQ file against those that the float
file's activations take on evaluation examples.  Wider means outliers.  Narrower means too few
examples where a handful of evaluation examples would have given the same, and other examples where
not even one would.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qinspect.diagnosis import thresholds as t
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.requantized import best_source, calibration_source, requantized, trimmed
from qinspect.diagnosis.rule import (
    CALIBRATION,
    Finding,
    Remedy,
    Rule,
    Trial,
    cannot_tell,
    refuted,
    supported,
)
from qinspect.schema import Array

_DRAWS = 200


@dataclass(frozen=True)
class _Ranges:
    """The table in a few numbers.

    Attributes
    ----------
    wide, narrow : float
        Shares of tensors whose stored range is wider or narrower than the one seen.
    bits_lost : float
        Median over tensors; negative where stored ranges are narrower.
    widest : float
        Largest ratio of stored to seen width.
    input_ratio : float
        That of the input, NaN where it has no stored range.
    beyond : float
        Largest share of examples that leave the stored range of a tensor.
    worth : float
        Number of evaluation examples whose ranges are as wide, median over tensors.
    calibration_used : bool or None
        Whether the given calibration set gives the stored ranges; None if it was not given.
    calibration_size : int or None
    typical_ratio : float or None
        Input width of the typical calibration example over that of the typical evaluation example,
        where the given set was used.
    """

    wide: float
    narrow: float
    bits_lost: float
    widest: float
    input_ratio: float
    beyond: float
    worth: float
    calibration_used: bool | None
    calibration_size: int | None
    typical_ratio: float | None

    def numbers(self) -> dict[str, object]:
        return {
            "wide_layers_share": self.wide,
            "narrow_layers_share": self.narrow,
            "bits_lost_median": self.bits_lost,
            "widest_ratio": self.widest,
            "input_ratio": self.input_ratio,
            "examples_beyond_share": self.beyond,
            "worth_examples": self.worth,
            "calibration_used": self.calibration_used,
            "calibration_size": self.calibration_size,
            "typical_example_ratio": self.typical_ratio,
        }


def _look(evidence: Evidence) -> _Ranges | None:
    return evidence.once(("calibration look",), lambda: _measure(evidence))


def _measure(evidence: Evidence) -> _Ranges | None:
    table = evidence.ranges("ptq", "evaluation")
    if table.empty:
        return None
    inner = table[table["kind"] == "activation"]
    inner = inner if len(inner) else table
    used, size, typical = None, None, None
    if evidence.case.has("calibration"):
        ratios = evidence.ranges("ptq", "calibration")["ratio"]
        used = bool((np.abs(np.log(ratios)) < t.SAME_RANGE).mean() > 0.5)
        size = len(evidence.examples("calibration"))
        if used:
            widths = [_typical(evidence.examples(s)) for s in ("calibration", "evaluation")]
            typical = widths[0] / widths[1] if widths[1] > 0 else None
    fed = table[table["kind"] == "input"]["ratio"]
    return _Ranges(
        wide=float((inner["ratio"] >= t.WIDE_RATIO).mean()),
        narrow=float((inner["ratio"] <= t.NARROW_RATIO).mean()),
        bits_lost=float(inner["bits_lost"].median()),
        widest=float(inner["ratio"].max()),
        input_ratio=float(fed.iloc[0]) if len(fed) else float("nan"),
        beyond=float(table["beyond_share"].max()),
        worth=_worth(evidence),
        calibration_used=used,
        calibration_size=size,
        typical_ratio=typical,
    )


def _typical(x: Array) -> float:
    """Median over examples of the width of the values, widened to hold 0."""
    flat = x.reshape(len(x), -1)
    return float(np.median(np.maximum(flat.max(axis=1), 0) - np.minimum(flat.min(axis=1), 0)))


def _worth(evidence: Evidence) -> float:
    """How many evaluation examples have ranges as wide as the stored ones, median over tensors.

    With m of n examples drawn at random, the width of the range of one tensor is that of the most
    extreme example; m is the smallest of a doubling series whose median width reaches the stored
    one.  0.5 where even one example has more.
    """
    seen = evidence.observed("evaluation")
    stored = evidence.calibrated_tensors("ptq")
    at = [i for i, name in enumerate(seen.names) if name in stored]
    widths = np.array([stored[seen.names[i]][1] - stored[seen.names[i]][0] for i in at])
    low, high = np.minimum(seen.low[:, at], 0), np.maximum(seen.high[:, at], 0)
    n = len(low)
    rng = evidence.rng(3)
    worth = np.full(len(at), float(n))
    sizes = [m for m in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) if m < n]
    for m in reversed(sizes):
        chosen = rng.integers(0, n, (_DRAWS, m))
        typical = np.median(_width(low, high, chosen), axis=0)
        # The stored range is what m examples typically give, or less.
        worth[widths <= typical * (1 + 1e-6)] = m
    one = np.median(high - low, axis=0)
    worth[widths < one * t.NARROW_RATIO] = 0.5
    return float(np.median(worth))


def _width(low: Array, high: Array, chosen: Array) -> Array:
    """Width of the ranges over drawn sets, shape (draws, tensors)."""
    return np.stack([high[one].max(axis=0) - low[one].min(axis=0) for one in chosen])


def _fits(found: _Ranges) -> Finding:
    return refuted(
        f"the PTQ ranges fit the evaluation examples (stored over seen width, median: "
        f"{2**found.bits_lost:.2f}; {100 * found.beyond:.1f} % of examples leave the range of some "
        "layer).", found.numbers(),
    )


def _tail(found: _Ranges) -> str:
    if found.calibration_used is None:
        return ""
    if found.calibration_used:
        return f"; the given calibration set of {found.calibration_size} gives these ranges"
    return "; the given calibration set gives other ranges, so the file was not made with it"


def _is_narrow(found: _Ranges) -> bool:
    return found.narrow >= t.LAYER_SHARE and found.worth <= t.FEW_EXAMPLES


def _units_differ(found: _Ranges) -> bool:
    """Whether calibration was in other units: the input range is another one, and not by outliers.

    With a calibration set its typical example decides; without one, an input range that is too
    narrow, or too wide by a factor that preprocessing makes.
    """
    ratio = found.input_ratio
    if np.isnan(ratio) or 1 / t.WIDE_RATIO < ratio < t.WIDE_RATIO * (1 - 1e-3):
        return False
    if found.typical_ratio is not None:
        return not 1 / t.UNITS_RATIO < found.typical_ratio < t.UNITS_RATIO
    if ratio < 1:
        return True
    return any(abs(ratio / factor - 1) < t.SAME_RANGE for factor in (2.0, 127.5, 255.0))


def _small(evidence: Evidence) -> Finding:
    found = _look(evidence)
    if found is None:
        return cannot_tell("the PTQ file stores no activation ranges.")
    if not _is_narrow(found):
        return _fits(found)
    few = found.calibration_size is not None and found.calibration_used
    if found.worth < 1 and not few:
        return refuted("the stored ranges are narrower than those of a single typical example; "
                       "that is not a matter of how many.", found.numbers())
    if few and found.calibration_size is not None and found.calibration_size > 4 * t.FEW_EXAMPLES:
        return refuted(
            f"the calibration set of {found.calibration_size} is not small; its ranges are as "
            f"narrow as those of {found.worth:g} evaluation examples.", found.numbers(),
        )
    return supported(
        f"{100 * found.narrow:.0f} % of the PTQ ranges are narrower than what the evaluation "
        f"examples need, about as wide as {max(found.worth, 1):g} of them would give"
        f"{_tail(found)}.", found.numbers(), ("ptq",), strength=0.5 + found.narrow / 3,
    )


def _shift(evidence: Evidence) -> Finding:
    found = _look(evidence)
    if found is None:
        return cannot_tell("the PTQ file stores no activation ranges.")
    if _units_differ(found):
        return supported(
            f"the PTQ file's input range is {found.input_ratio:.3g} times as wide as the "
            f"evaluation inputs: it was calibrated in other units{_tail(found)}.",
            found.numbers(), ("ptq",), strength=0.9,
        )
    large = found.calibration_used and (found.calibration_size or 0) > 4 * t.FEW_EXAMPLES
    if _is_narrow(found) and (found.worth < 1 or large):
        if found.calibration_used and (found.calibration_size or 0) <= t.FEW_EXAMPLES:
            return refuted("the calibration set is small; that is enough to explain its ranges.",
                           found.numbers())
        return supported(
            f"{100 * found.narrow:.0f} % of the PTQ ranges are narrower than what the evaluation "
            f"examples need, and no number of such examples would give them{_tail(found)}.",
            found.numbers(), ("ptq",), strength=0.5 + found.narrow / 3,
        )
    return _fits(found)


def _outliers(evidence: Evidence) -> Finding:
    found = _look(evidence)
    if found is None:
        return cannot_tell("the PTQ file stores no activation ranges.")
    if _units_differ(found):
        return refuted("the input itself is in other units, which is a shift.", found.numbers())
    if found.wide >= t.LAYER_SHARE:
        return supported(
            f"{100 * found.wide:.0f} % of the PTQ ranges are at least {t.WIDE_RATIO:g} times as "
            f"wide as what the evaluation examples need (widest: {found.widest:.1f} times)"
            f"{_tail(found)}.", found.numbers(), ("ptq",), strength=0.5 + found.wide / 3,
        )
    # Activations that are cut at a bound, such as ReLU6, stay in range whatever the input does.
    if found.input_ratio >= t.WIDE_RATIO:
        return supported(
            f"the PTQ file's input range is {found.input_ratio:.1f} times as wide as the "
            f"evaluation inputs{_tail(found)}.", found.numbers(), ("ptq",), strength=0.6,
        )
    return _fits(found)


def _recalibrate(evidence: Evidence, finding: Finding) -> Trial | None:
    source, words = best_source(evidence)
    observed = evidence.observed(source)
    return Trial(f"calibrating PTQ anew with {len(observed):,} of {words}",
                 {"ptq": requantized(evidence, observed.over())},
                 numbers={"recalibrated_with": source})


def _trim(evidence: Evidence, finding: Finding) -> Trial | None:
    source, words = calibration_source(evidence)
    if source == "calibration" and finding.numbers.get("calibration_used") is False:
        source, words = best_source(evidence)
    observed = evidence.observed(source)
    return Trial(f"calibrating PTQ with {words}, the most extreme 1 % of examples left out",
                 {"ptq": requantized(evidence, trimmed(observed))},
                 numbers={"recalibrated_with": source})


_NEEDED = ("ptq", "float", "data")
_CODE = (
    "from qinspect.train import load_keras, convert\n"
    "# several hundred examples like those that the model will meet, preprocessed alike\n"
    'content = convert(load_keras("float.h5"), "int8", calibration_x)'
)
_SOURCE = (
    "TensorFlow Lite documentation, Post-training integer quantization (representative data set); "
    "Nagel et al. 2021, A white paper on neural network quantization, arXiv:2106.08295, 3.1"
)

RULES = (
    Rule(
        id="calibration-small",
        title="PTQ was calibrated with too few examples",
        question="Has calibration seen enough examples to know the ranges?",
        requires=_NEEDED,
        check=_small,
        rank=CALIBRATION,
        symptom="PTQ loses points, and other calibration examples give another accuracy.",
        cause="With few examples the ranges miss large activations, which are then clipped.",
        remedy="Calibrate with a few hundred examples drawn at random from the training data.",
        code=_CODE,
        source=_SOURCE,
        remedies=(Remedy("recalibration", _NEEDED, _recalibrate),),
    ),
    Rule(
        id="calibration-shift",
        title="PTQ was calibrated with examples unlike those of the evaluation",
        question="Were calibration examples prepared like those of the evaluation?",
        requires=_NEEDED,
        check=_shift,
        rank=CALIBRATION,
        symptom="PTQ collapses or loses many points while QAT does not.",
        cause=(
            "The representative data set was scaled otherwise, or shows another kind of image; "
            "the stored ranges belong to those."
        ),
        remedy="Send the calibration examples through the same preprocessing as the evaluation.",
        code=_CODE,
        source=_SOURCE,
        remedies=(Remedy("recalibration", _NEEDED, _recalibrate),),
    ),
    Rule(
        id="calibration-outliers",
        title="outliers stretched PTQ's ranges",
        question="Are the stored ranges wider than the values need?",
        requires=_NEEDED,
        check=_outliers,
        rank=CALIBRATION,
        symptom="PTQ loses points evenly, its activation scales are larger than QAT's.",
        cause="One extreme calibration example sets minimum and maximum; levels are wasted on it.",
        remedy="Remove such examples, or calibrate with a percentile instead of the extremes.",
        code=(
            "from qinspect.measure.ranges import choose_range\n"
            'low, high = choose_range(activations, "percentile", percentile=99.9)'
        ),
        source="Wu et al. 2020, Integer quantization for deep learning inference, "
        "arXiv:2004.09602, section 3.3 (percentile calibration)",
        remedies=(Remedy("calibration without the extremes", _NEEDED, _trim),),
    ),
)
