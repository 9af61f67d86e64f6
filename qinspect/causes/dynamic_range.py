"""dynamic-range-collapse: activations quantized while running keep only their largest values."""

from __future__ import annotations

import numpy as np

from qinspect.data.dataset import take
from qinspect.diagnosis.evidence import OWN_EXAMPLES, Evidence
from qinspect.diagnosis.rule import (
    FORMAT,
    Finding,
    Measure,
    Remedy,
    Rule,
    Trial,
    does_not_apply,
    indicated,
    ruled_out,
)
from qinspect.measure.first_cut import stored_weights
from qinspect.measure.probe import batches
from qinspect.tflite.constants import weights_of
from qinspect.tflite.graph import Graph
from qinspect.tflite.network import layer_names
from qinspect.tflite.runner import Session

_LOST = Measure(
    "ptq_lost_share", "values into a layer that round to zero, of those not zero", threshold=0.2,
    side="above", basis="the worst layer, each example with a scale of its own, as the file does; "
    "measured: up to 2 % in six healthy networks, 29 % where accuracy begins to fall",
)


def _lost(evidence: Evidence) -> dict[int, float]:
    """Of each operator that quantizes its input while running: the share that rounds to zero."""
    return evidence.once(("lost while running",), lambda: _run(evidence, evidence.graph("ptq")))


def _run(evidence: Evidence, graph: Graph) -> dict[int, float]:
    read = {weight.operator.index: weight.activation.index for weight in weights_of(graph.main)
            if weight.kind == "dynamic_range" and not weight.activation.constant}
    lost, whole = dict.fromkeys(read, 0), dict.fromkeys(read, 0)
    x = take(evidence.data.x, slice(OWN_EXAMPLES))
    with Session(graph, tensors=sorted(set(read.values())),
                 workers=evidence.num_threads) as session:
        for batch in batches(x, 32):
            found = session.view(batch)
            for operator, index in read.items():
                # What cannot be read for every example is left out.
                if index not in found:
                    continue
                size = np.abs(found[index].reshape(len(found[index]), -1))
                width = np.ptp(np.c_[found[index].reshape(size.shape), np.zeros(len(size))], axis=1)
                lost[operator] += int(np.sum((size > 0) & (size < width[:, None] / 255 / 2)))
                whole[operator] += int(np.count_nonzero(size))
    return {operator: lost[operator] / whole[operator] for operator in read if whole[operator]}


def _check(evidence: Evidence) -> Finding:
    if not evidence.identification("ptq").activations["dynamic"]:
        return does_not_apply("no layer of the PTQ file quantizes its input while running.")
    shares = _lost(evidence)
    if not shares:
        return does_not_apply("no input of such a layer of the PTQ file can be read.")
    worst = max(shares, key=lambda operator: shares[operator])
    name = layer_names(evidence.graph("ptq").main)[worst]
    measure = _LOST.of(shares[worst])
    facts = {"ptq_layer_that_loses_most": name, "layers_quantized_while_running": len(shares)}
    if not measure.speaks:
        return ruled_out(
            f"of what goes into {name} {100 * shares[worst]:.0f} % round to zero while the file "
            "runs, elsewhere less.", [measure], facts)
    return indicated(
        f"the PTQ file quantizes the input of {name} while running, with one scale an example: "
        f"{100 * shares[worst]:.0f} % of what is not zero rounds to zero beside the largest.",
        [measure], facts, ("ptq",), strength=0.8)


def _weights_alone(evidence: Evidence, finding: Finding) -> Trial | None:
    """The float network with the file's own weights: all that is left out is the rounding."""
    content = stored_weights(evidence.graph("float"), evidence.graph("ptq"),
                             evidence.match("float", "ptq"))
    return Trial("computing in float with the weights that the PTQ file stores",
                 {"ptq": evidence.answers(content)})


RULE = Rule(
    id="dynamic-range-collapse",
    title="large activations leave no levels to the others",
    question="Are inputs of layers of a size when they are quantized while running?",
    requires=("ptq", "data"),
    check=_check,
    rank=FORMAT,
    symptom="A dynamic-range file loses points though its weights are fine and nothing was "
    "calibrated.",
    cause=(
        "Dynamic-range files quantize each input of a layer while running, with one scale from its "
        "largest value: a channel that is many times as large as the others, as before a "
        "squeeze-and-excite gate, takes all the levels."
    ),
    remedy="Store int8 or float16 weights and compute in float, or bring the channels to one size.",
    code=(
        "from qinspect.train import convert\n"
        'content = convert(float_h5, "float16", None)'
    ),
    makes="ptq",
    met=(
        "A recurrent network is wholly wrong in dynamic range, in CoreML int8, said to compute in "
        "16 bits, not (https://github.com/tensorflow/tensorflow/issues/48774)",
        "OpenVINO: one scale a token for outputs of wide range collapsed them; one for 128 values "
        "does not (https://github.com/openvinotoolkit/openvino/pull/35961)",
    ),
    source="TensorFlow Lite documentation, Post-training dynamic range quantization (activations "
    "are quantized dynamically)",
    measures=(_LOST,),
    remedies=(Remedy("the same weights, computed in float", ("ptq", "float", "data"),
                     _weights_alone),),
    acts_on=("ptq",),
    note="A QAT file of that format is `qat-not-applied`.",
)
