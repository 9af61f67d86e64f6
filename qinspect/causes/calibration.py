"""calibration-small, calibration-shift, calibration-outliers: PTQ stored the wrong ranges.

All three read the same table: the ranges stored in the PTQ file against those that the float
file's activations take on evaluation examples.  Wider means outliers.  Narrower means too few
examples where a handful of evaluation examples would have given the same, and other examples where
not even one would.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from qinspect.data.dataset import count, one_array
from qinspect.diagnosis.evidence import WIDE_RATIO, Evidence
from qinspect.diagnosis.requantized import (
    alike,
    best_source,
    calibration_source,
    remade,
    requantized,
    trimmed,
)
from qinspect.diagnosis.rule import (
    CALIBRATION,
    PTQ_CODE,
    PTQ_OF_FILES,
    Finding,
    Measure,
    Remedy,
    Rule,
    Trial,
    does_not_apply,
    indicated,
    ruled_out,
    speaking,
    together,
)
from qinspect.measure.ranges import LAYER_SHARE
from qinspect.schema import Array

# A stored range is narrow up to this share of the one seen; chosen.
_NARROW_RATIO = 0.9
# Stored and recomputed ranges agree to this relative width when the set was used; measured 1e-3
# between LiteRT and the converter's calibrator, the margin is chosen.
_SAME_RANGE = 0.05
# A calibration set of up to so many examples is small, one of more than four times as many is not;
# chosen.
_FEW = 16
_LARGE = 4 * _FEW
# Stored widths are whole steps of 255.
_ROUNDED = 1 / 255
# Factors by which preprocessing makes inputs wider.
_UNITS = (2.0, 127.5, 255.0)
_DRAWS = 200

_WIDE = Measure(
    "wide_layers_share", f"share of ranges at least {WIDE_RATIO:g} times as wide as what is seen",
    threshold=LAYER_SHARE, side="above", basis="chosen; twice as wide is one bit",
)
_WIDE_INPUT = Measure(
    "input_ratio", "input range / range of the inputs", threshold=WIDE_RATIO, side="above",
    basis="chosen; activations that are cut at a bound, such as ReLU6, stay in range whatever the "
    "input does",
)
_NARROW = Measure(
    "narrow_layers_share", "share of ranges narrower than what is seen", threshold=LAYER_SHARE,
    side="above", basis=f"chosen; narrow is up to {_NARROW_RATIO:g} of the width",
)
_WORTH = Measure(
    "worth_examples", "evaluation examples that give ranges as wide", threshold=_FEW + 1,
    side="below", basis=f"chosen: up to {_FEW}",
)
_ONE = Measure(
    "worth_examples", "evaluation examples that give ranges as wide, at least one", threshold=1,
    side="above",
)
_NONE = Measure(
    "worth_examples", "evaluation examples that give ranges as wide, not even one", threshold=1,
    side="below",
)
_NOT_LARGE = Measure(
    "calibration_size", "examples in the calibration set that was used", threshold=_LARGE + 1,
    side="below", basis="chosen",
)
_IS_LARGE = Measure(
    "calibration_size", "examples in the calibration set that was used", threshold=_LARGE + 1,
    side="above", basis="chosen",
)
_NOT_SMALL = Measure(
    "calibration_size", "examples in the calibration set that was used", threshold=_FEW + 1,
    side="above", basis="chosen",
)
_OTHER_INPUT = Measure(
    "input_factor", "input range against the inputs, a factor either way", side="above",
    basis=f"from {WIDE_RATIO:g}, less what rounding makes: inputs of -1 to 1 against 0 to 1 are "
    "just that (chosen)",
)
_TYPICAL = Measure(
    "typical_example_factor", "typical calibration example / evaluation example",
    threshold=1.5, side="above", basis="of their widths, either way; chosen",
)
_KNOWN_UNITS = Measure(
    "units_deviation_share", "input range off a factor that preprocessing makes",
    threshold=_SAME_RANGE, side="below", basis="factors 2, 127.5 and 255; chosen",
)
_ELSEWHERE = Measure(
    "input_elsewhere_share", "share of the inputs' range beyond a stored one as wide",
    threshold=0.1, side="above", basis="chosen; the mean of MNIST subtracted makes 0.13",
)
_SHIFTED = Measure(
    "input_in_other_units", "the input itself is in other units, which is a shift", threshold=True,
    side="below",
)


@dataclass(frozen=True)
class _Ranges:
    """The table in a few numbers.

    Shares of tensors whose stored range is wider or narrower than the one seen; bits lost, median
    over tensors (negative where stored ranges are narrower); largest ratio of stored to seen width,
    and that of the input (NaN where it has no range); largest share of examples that leave the
    range of a tensor; share of the inputs' range that the stored one does not hold, beyond what it
    is too narrow (NaN where the input has no range); number of evaluation examples whose ranges are
    as wide, median over tensors; whether the given calibration set gives the stored ranges (None
    if none was given), its size, and the width of its typical example over that of the typical
    evaluation example.
    """

    wide: float
    narrow: float
    bits_lost: float
    widest: float
    input_ratio: float
    beyond: float
    elsewhere: float
    worth: float
    calibration_used: bool | None
    calibration_size: int | None
    typical_ratio: float | None

    def facts(self) -> dict[str, object]:
        return {
            "wide_layers_share": self.wide,
            "narrow_layers_share": self.narrow,
            "bits_lost_median": self.bits_lost,
            "widest_ratio": self.widest,
            "input_ratio": self.input_ratio,
            "examples_beyond_share": self.beyond,
            "input_elsewhere_share": self.elsewhere,
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
        used = bool((np.abs(np.log(ratios)) < _SAME_RANGE).mean() > 0.5)
        size = count(evidence.examples("calibration"))
        if used:
            widths = [_typical(one_array(evidence.examples(source), f"the {source} set"))
                      for source in ("calibration", "evaluation")]
            typical = widths[0] / widths[1] if widths[1] > 0 else None
    fed = table[table["kind"] == "input"]
    return _Ranges(
        wide=float((inner["ratio"] >= WIDE_RATIO).mean()),
        narrow=float((inner["ratio"] <= _NARROW_RATIO).mean()),
        bits_lost=float(inner["bits_lost"].median()),
        widest=float(inner["ratio"].max()),
        input_ratio=float(fed["ratio"].iloc[0]) if len(fed) else math.nan,
        beyond=float(table["beyond_share"].max()),
        elsewhere=_elsewhere(fed.iloc[0]) if len(fed) else math.nan,
        worth=_worth(evidence),
        calibration_used=used,
        calibration_size=size,
        typical_ratio=typical,
    )


def _elsewhere(row: pd.Series) -> float:
    """Share of the range seen that the stored one leaves out, beyond what its width makes it."""
    seen = row["high"] - row["low"]
    held = min(row["high"], row["stored_high"]) - max(row["low"], row["stored_low"])
    return float(1 - max(held, 0.0) / seen - max(0.0, 1 - row["ratio"]))


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
    seen = evidence.observed("evaluation", "ptq")
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
    worth[widths < one * _NARROW_RATIO] = 0.5
    return float(np.median(worth))


def _width(low: Array, high: Array, chosen: Array) -> Array:
    """Width of the ranges over drawn sets, shape (draws, tensors)."""
    return np.stack([high[one].max(axis=0) - low[one].min(axis=0) for one in chosen])


def _no_ranges() -> Finding:
    return does_not_apply("the PTQ file stores no activation ranges.")


def _fits(found: _Ranges, measures: tuple[Measure, ...]) -> Finding:
    return ruled_out(
        f"the PTQ ranges fit the evaluation examples (stored over seen width, median: "
        f"{2**found.bits_lost:.2f}; {100 * found.beyond:.1f} % of examples leave the range of some "
        "layer).", measures, found.facts(),
    )


def _tail(found: _Ranges) -> str:
    if found.calibration_used is None:
        return ""
    if found.calibration_used:
        return f"; the given calibration set of {found.calibration_size} gives these ranges"
    return "; the given calibration set gives other ranges, so the file was not made with it"


def _used_size(found: _Ranges) -> int | None:
    """Size of the calibration set that gave the ranges, where it is known."""
    return found.calibration_size if found.calibration_used else None


def _other_units(found: _Ranges) -> tuple[Measure, ...]:
    """Whether calibration was in other units: the input range is another one, not by outliers.

    With a calibration set its typical example decides; without one, an input range that is too
    narrow, or too wide by a factor that preprocessing makes.
    """
    ratio = found.input_ratio
    if not ratio > 0:
        return ()
    place = _ELSEWHERE.of(found.elsewhere)
    factor, typical = max(ratio, 1 / ratio), found.typical_ratio
    other = _OTHER_INPUT.of(factor, threshold=WIDE_RATIO * (1 - _ROUNDED))
    if typical is not None:
        unlike = max(typical, 1 / typical) if typical > 0 else np.inf
        return (place, *together(other, _TYPICAL.of(unlike)))
    if ratio < 1:
        return (place, other)
    off = min(abs(ratio / units - 1) for units in _UNITS)
    return (place, *together(other, _KNOWN_UNITS.of(off)))


def _small(evidence: Evidence) -> Finding:
    found = _look(evidence)
    if found is None:
        return _no_ranges()
    size, few = _used_size(found), _WORTH.of(found.worth)
    further = [_NOT_LARGE.of(size)] if size is not None else []
    if size is None and found.worth < 1:
        few = _ONE.of(found.worth)
    narrow = _NARROW.of(found.narrow)
    measures = together(narrow, few, *further)
    if speaking(measures):
        return indicated(
            f"{100 * found.narrow:.0f} % of the PTQ ranges are narrower than what the evaluation "
            f"examples need, about as wide as {max(found.worth, 1):g} of them would give"
            f"{_tail(found)}.", measures, found.facts(), ("ptq",), strength=0.5 + found.narrow / 3,
        )
    if not narrow.speaks or not _WORTH.of(found.worth).speaks:
        return _fits(found, measures)
    if size is None:
        return ruled_out("the stored ranges are narrower than those of a single typical example; "
                         "that is not a matter of how many.", measures, found.facts())
    return ruled_out(
        f"the calibration set of {size} is not small; its ranges are as "
        f"narrow as those of {found.worth:g} evaluation examples.", measures, found.facts(),
    )


def _shift(evidence: Evidence) -> Finding:
    found = _look(evidence)
    if found is None:
        return _no_ranges()
    units, size = _other_units(found), _used_size(found)
    unlike: tuple[Measure, ...]
    if size is not None and size > _LARGE:
        unlike = (_WORTH.of(found.worth), _IS_LARGE.of(size))
    else:
        unlike = (_NONE.of(found.worth), *([] if size is None else [_NOT_SMALL.of(size)]))
    narrow = together(_NARROW.of(found.narrow), *unlike)
    measures = (*units, *narrow)
    if units and units[0].speaks:
        return indicated(
            f"the PTQ file's input range leaves out {100 * found.elsewhere:.0f} % of the range of "
            f"the evaluation inputs though it is as wide: it was calibrated at another place"
            f"{_tail(found)}.", measures, found.facts(), ("ptq",), strength=0.9,
        )
    if speaking(units):
        return indicated(
            f"the PTQ file's input range is {found.input_ratio:.3g} times as wide as the "
            f"evaluation inputs: it was calibrated in other units{_tail(found)}.",
            measures, found.facts(), ("ptq",), strength=0.9,
        )
    if speaking(narrow):
        return indicated(
            f"{100 * found.narrow:.0f} % of the PTQ ranges are narrower than what the evaluation "
            f"examples need, and no number of such examples would give them{_tail(found)}.",
            measures, found.facts(), ("ptq",), strength=0.5 + found.narrow / 3,
        )
    if found.narrow >= LAYER_SHARE and found.worth < 1:
        return ruled_out("the calibration set is small; that is enough to explain its ranges.",
                         measures, found.facts())
    return _fits(found, measures)


def _outliers(evidence: Evidence) -> Finding:
    found = _look(evidence)
    if found is None:
        return _no_ranges()
    if speaking(_other_units(found)):
        return ruled_out("the input itself is in other units, which is a shift.",
                         [_SHIFTED.of(True)], found.facts())
    measures = (_WIDE.of(found.wide), _WIDE_INPUT.of(found.input_ratio))
    if measures[0].speaks:
        return indicated(
            f"{100 * found.wide:.0f} % of the PTQ ranges are at least {WIDE_RATIO:g} times as "
            f"wide as what the evaluation examples need (widest: {found.widest:.1f} times)"
            f"{_tail(found)}.", measures, found.facts(), ("ptq",), strength=0.5 + found.wide / 3,
        )
    if measures[1].speaks:
        return indicated(
            f"the PTQ file's input range is {found.input_ratio:.1f} times as wide as the "
            f"evaluation inputs{_tail(found)}.", measures, found.facts(), ("ptq",), strength=0.6,
        )
    return _fits(found, measures)


def _recalibrate(evidence: Evidence, finding: Finding) -> Trial | None:
    source, words = best_source(evidence)
    observed = evidence.observed(source, "ptq")
    return Trial(f"calibrating PTQ anew with {len(observed):,} of {words}",
                 {"ptq": requantized(evidence, alike(evidence, "ptq", observed.over()))},
                 controls={"ptq": remade(evidence)}, numbers={"recalibrated_with": source})


def _trim(evidence: Evidence, finding: Finding) -> Trial | None:
    source, words = calibration_source(evidence)
    if source == "calibration" and finding.numbers.get("calibration_used") is False:
        source, words = best_source(evidence)
    observed = evidence.observed(source, "ptq")
    return Trial(f"calibrating PTQ with {words}, the most extreme 1 % of examples left out",
                 {"ptq": requantized(evidence, alike(evidence, "ptq", trimmed(observed)))},
                 controls={"ptq": remade(evidence)}, numbers={"recalibrated_with": source})


_NEEDED = ("ptq", "float", "data")
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
        code=PTQ_CODE.replace("calibration_x", "fresh_x"),
        code_of_files=PTQ_OF_FILES.replace("calibration_x", "fresh_x"),
        makes="ptq",
        met=(
            "A detector calibrated with 200 images and with 2: both find poorly, and much alike "
            "(https://github.com/tensorflow/model-optimization/issues/1002)",
            "Three images were given for calibration where a maintainer advises about 100 "
            "(https://github.com/margaretmz/esrgan-e2e-tflite-tutorial/issues/3)",
        ),
        source=_SOURCE,
        measures=(_NARROW, _WORTH, _ONE, _NOT_LARGE),
        remedies=(Remedy("recalibration", _NEEDED, _recalibrate, mends=("negative-tail",)),),
        note=(
            "All must hold. The three calibration causes read one table: stored ranges against "
            "those of the evaluation examples. As wide as a handful of random evaluation examples "
            "would give: too few; narrower than a single one gives, or from a large set: other "
            "examples (`calibration-shift`)."
        ),
        figure="PTQ ranges",
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
        code=PTQ_CODE.replace("calibration_x", "fresh_x"),
        code_of_files=PTQ_OF_FILES.replace("calibration_x", "fresh_x"),
        makes="ptq",
        met=(
            "YOLOv8n: mAP50 0.752 calibrated with the default data, 0.856 with images of the data "
            "set itself (https://github.com/ultralytics/ultralytics/pull/1695)",
            "One answer for all inputs; the advice: calibrate without normalizing, the model does "
            "that itself (https://github.com/PINTO0309/onnx2tf/issues/610)",
        ),
        source=_SOURCE,
        measures=(_ELSEWHERE, _OTHER_INPUT, _TYPICAL, _KNOWN_UNITS, _NARROW, _NONE, _WORTH,
                  _IS_LARGE, _NOT_SMALL),
        remedies=(Remedy("recalibration", _NEEDED, _recalibrate, mends=("negative-tail",)),),
        note=(
            "The input range lies at another place; or it is in other units (with the calibration "
            "set at hand its typical example tells units from outliers, else a factor that "
            "preprocessing makes); "
            "or ranges are narrow and no number of evaluation examples would give them."
        ),
        figure="PTQ ranges",
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
            "import numpy as np\n"
            "from qinspect.measure.activations import observe_ranges\n"
            "from qinspect.tflite import read_graph\n"
            "from qinspect.tflite.requantize import Ranges, quantize_file\n"
            "graph = read_graph(float_file)\n"
            "seen = observe_ranges(graph, calibration_x)\n"
            "low = np.quantile(seen.low, 0.01, axis=0)  # 1 % of the examples is left out\n"
            "high = np.quantile(seen.high, 0.99, axis=0)\n"
            "bounds = {name: (float(min(a, b)), float(max(a, b)))\n"
            "          for name, a, b in zip(seen.names, low, high)}\n"
            'content = quantize_file(graph, Ranges(bounds), "int8")'
        ),
        makes="ptq",
        met=(
            "From 400 to 20,000 calibration examples accuracy fell from 0.85 to 0.50; extreme "
            "examples are suspected (https://github.com/tensorflow/tensorflow/issues/49927)",
        ),
        source="Wu et al. 2020, Integer quantization for deep learning inference, "
        "arXiv:2004.09602, section 3.3 (percentile calibration)",
        measures=(_SHIFTED, _WIDE, _WIDE_INPUT),
        remedies=(Remedy("calibration without the extremes", _NEEDED, _trim),),
        note="An input range in other units is a shift, which rules this out.",
        figure="PTQ ranges",
    ),
)
