"""per-tensor-weights and bias-saturation: what the stored constants cannot hold."""

from __future__ import annotations

import numpy as np

from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.requantized import remade, requantized, with_stored_ranges
from qinspect.diagnosis.retrain import Training
from qinspect.diagnosis.rule import (
    FORMAT,
    PTQ_CODE,
    PTQ_OF_FILES,
    Finding,
    Measure,
    Remedy,
    Rule,
    Trial,
    indicated,
    qat_code,
    ruled_out,
)
from qinspect.measure.weights import channel_summary
from qinspect.schema import Array
from qinspect.tflite import constant
from qinspect.tflite.constants import INTEGER_KINDS, Weight, all_weights
from qinspect.tflite.graph import Graph
from qinspect.tflite.requantize import Ranges, replace_constants

_INT32 = 2**31 - 1
_DISPARITY = 16.0
_SQNR_DB = 12.0
_HARMED = Measure(
    "{role}_harmed_layers", "layers with one scale for unequal channels", threshold=1,
    side="above",
    basis=f"channels that differ {_DISPARITY:g} times, which loses 4 of 8 bits, and of which the "
    f"worst keeps less than {_SQNR_DB:g} dB, too little to carry information; chosen",
)
_LARGEST_BIAS = Measure(
    "{role}_largest_bias_share_of_int32", "largest bias / limit of 32 bits", threshold=0.999,
    side="above", basis="the converter clips to the limit itself",
)


def _check_granularity(evidence: Evidence) -> Finding:
    facts: dict[str, object] = {}
    measures, hurt, words = [], [], []
    for role in evidence.case.roles:
        if role == "float":
            continue
        table = channel_summary(evidence.weights(role))
        coarse = table[table["granularity"] == "per tensor"]
        bad = coarse[(coarse["disparity"] >= _DISPARITY) & (coarse["worst_sqnr_db"] < _SQNR_DB)]
        facts |= {
            f"{role}_per_tensor_layers": len(coarse),
            f"{role}_largest_disparity": float(coarse["disparity"].max()) if len(coarse) else 1.0,
            f"{role}_worst_channel_sqnr_db": (
                float(coarse["worst_sqnr_db"].min()) if len(coarse) else None
            ),
        }
        measures.append(_HARMED.of(len(bad), role))
        if measures[-1].speaks:
            hurt.append(role)
            first = bad.sort_values("disparity").iloc[-1]
            words.append(
                f"in the {role.upper()} file {len(bad)} layers have one weight scale for channels "
                f"that differ by a factor of up to {first['disparity']:.0f}; their smallest "
                f"channels keep {first['worst_sqnr_db']:.0f} dB"
            )
    if not hurt:
        return ruled_out("no layer has one scale for channels of very different size.", measures,
                         facts)
    return indicated("; ".join(words) + ".", measures, facts, tuple(hurt), strength=0.7)


def _per_channel(evidence: Evidence, finding: Finding) -> Trial | None:
    if not finding.numbers.get("ptq_harmed_layers"):
        return None
    ranges = with_stored_ranges(evidence, "ptq")
    return Trial("giving every weight channel of PTQ its own scale, ranges unchanged",
                 {"ptq": requantized(evidence, Ranges(ranges.bounds))},
                 controls={"ptq": remade(evidence)})


def _per_channel_qat(evidence: Evidence, finding: Finding) -> Trial | None:
    if not finding.numbers.get("qat_harmed_layers"):
        return None
    return Trial(
        "training QAT again with a weight range of its own for every output of dense layers",
        again={"qat": Training("qat", per_channel_dense=True)}, sham={"qat": Training("qat")},
    )


def _check_bias(evidence: Evidence) -> Finding:
    facts: dict[str, object] = {}
    measures, hurt, words = [], [], []
    for role in evidence.case.roles:
        if role == "float":
            continue
        graph = evidence.graph(role)
        shares = [_share(graph, weight) for weight in all_weights(graph)]
        clipped = sum(bool(_LARGEST_BIAS.of(share).speaks) for share in shares)
        facts[f"{role}_clipped_biases"] = clipped
        measures.append(_LARGEST_BIAS.of(max(shares, default=0.0), role))
        if measures[-1].speaks:
            hurt.append(role)
            words.append(f"the {role.upper()} file has {clipped} layers whose bias sits at "
                         "the limit of 32 bits")
    if not hurt:
        return ruled_out("no bias is near the limit of 32 bits.", measures, facts)
    return indicated("; ".join(words) + ".", measures, facts, tuple(hurt), strength=0.85)


def _share(graph: Graph, weight: Weight) -> float:
    """The largest bias of a layer against what 32 bits hold; 0 without one of that type."""
    bias = weight.bias
    if bias is None or bias.dtype != "int32" or weight.kind not in INTEGER_KINDS:
        return 0.0
    stored = np.abs(np.asarray(constant(graph, bias), dtype=np.float64))
    return float(stored.max(initial=0.0)) / _INT32


def _rewrite(evidence: Evidence, finding: Finding) -> Trial | None:
    """The float file's biases in the place of the clipped ones, in the steps that they have."""
    if not finding.numbers.get("ptq_clipped_biases"):
        return None
    graph, values = evidence.graph("ptq"), {}
    for weight, bias in _clipped(evidence):
        assert weight.bias is not None
        stored = weight.bias.quantization
        if stored is None or stored.scale.size not in (1, bias.size):
            return None
        steps = np.rint(bias / stored.scale)
        if np.abs(steps).max() / _INT32 >= (_LARGEST_BIAS.threshold or 1):
            return None
        values[weight.bias.index] = steps.astype(np.int32)
    if not values:
        return None
    return Trial("writing the float file's biases into the PTQ file",
                 {"ptq": evidence.answers(replace_constants(graph, values))})


def _clipped(evidence: Evidence) -> list[tuple[Weight, Array]]:
    """Layers of PTQ with a bias at the limit, and the same bias in the float file."""
    graph, parent = evidence.graph("ptq"), evidence.graph("float")
    floats = {weight.operator.index: weight for weight in all_weights(parent)}
    pairs = {pair.b: floats.get(pair.a) for pair in evidence.match("float", "ptq").pairs}
    found = []
    for weight in all_weights(graph):
        mine = pairs.get(weight.operator.index)
        if mine is None or mine.bias is None or not _LARGEST_BIAS.of(_share(graph, weight)).speaks:
            continue
        found.append((weight, np.asarray(constant(parent, mine.bias), dtype=np.float64)))
    return found


def _keep(evidence: Evidence, finding: Finding) -> Trial | None:
    if not finding.numbers.get("ptq_clipped_biases"):
        return None
    pairs = {pair.b: pair.a for pair in evidence.match("float", "ptq").pairs}
    layers = [pairs[weight.operator.index] for weight, _ in _clipped(evidence)]
    if not layers:
        return None
    kept = requantized(evidence, with_stored_ranges(evidence, "ptq"),
                       dict.fromkeys(layers, "float32"))
    return Trial("keeping the layers with clipped biases in float in the PTQ file", {"ptq": kept},
                 controls={"ptq": remade(evidence)})


RULES = (
    Rule(
        id="per-tensor-weights",
        title="one weight scale for channels of very different size",
        question="Does every channel of the weights get a scale that fits it?",
        requires=("float", "ptq|qat"),
        check=_check_granularity,
        rank=FORMAT,
        symptom="Networks with depthwise convolutions or folded batch norm collapse in one file.",
        cause=(
            "Channels differ in size, often because batch norm was folded into them; with one "
            "scale for all, small channels round to zero."
        ),
        remedy="Quantize weights per channel.",
        code=PTQ_CODE,
        code_of_files=PTQ_OF_FILES,
        makes="ptq",
        code_of_qat=qat_code(layers="skip_layers, per_channel_dense=True"),
        met=(
            "MobileNetV3: 76.33 % in float, 14.33 % with one scale a tensor, 69.00 % with one a "
            "channel (https://github.com/Edgecortix-Inc/pytorch_quantization/pull/5)",
            "MobileNetV1 and V2 with one scale a layer: top-1 of 0.001 and 0.004, quoted from the "
            "whitepaper (https://github.com/ARM-software/armnn/issues/344)",
        ),
        source="Krishnamoorthi 2018, arXiv:1806.08342, section 3.1 (per-channel quantization)",
        measures=(_HARMED,),
        remedies=(
            Remedy("per-channel weights", ("ptq", "float", "data"), _per_channel),
            Remedy("QAT with per-channel dense weights",
                   ("qat", "keras_float", "train", "recipe"), _per_channel_qat, trains=True),
        ),
        figure="channels",
    ),
    Rule(
        id="bias-saturation",
        title="biases do not fit into 32 bits",
        question="Is any bias clipped by its integer format?",
        requires=("ptq|qat",),
        check=_check_bias,
        rank=FORMAT,
        symptom="One layer's output is off by a constant in some channels.",
        cause=(
            "A bias is stored in steps of input scale times weight scale; where these are tiny, "
            "the number of steps exceeds 32 bits and is cut off."
        ),
        remedy="Give the layer a coarser scale: a wider input range, or larger weights.",
        code=PTQ_CODE,
        code_of_files=PTQ_OF_FILES,
        makes="ptq",
        met=(
            "Inception V4 calibrated with 10 images: biases of most convolutions are -2147483647 "
            "(https://github.com/tensorflow/tensorflow/issues/33735)",
            "ONNX Runtime: biases beyond int32 cost some models more than 51 % of accuracy "
            "(https://github.com/microsoft/onnxruntime/pull/25278)",
        ),
        source="Jacob et al. 2018, arXiv:1712.05877, section 2.4 (biases as int32)",
        measures=(_LARGEST_BIAS,),
        remedies=(
            Remedy("the float file's biases", ("ptq", "float", "data"), _rewrite),
            Remedy("keeping layers in float", ("ptq", "float", "data"), _keep),
        ),
        note="Biases that fit are written into the file, where nothing else then changes; layers "
        "whose biases cannot fit are kept in float.",
    ),
)
