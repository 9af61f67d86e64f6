"""What each layer costs, beside the converter with a denylist of one layer.

resnet8 from Keras, 200 images for calibration, 1,000 for evaluation. One file with one layer in
float is made and evaluated; all of `sensitivity` calibrates once and makes three files a layer. The
peer is a conversion by TensorFlow's `QuantizationDebugger` with a denylist, as its guide shows, and
the tutorials' loop. It is measured on some layers, and the others are taken to cost the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from bench import Row, labelled, met, paired, profile, resnet8, span, tutorial
from bench_layers import debugger_of, setting

TARGET = 20
LAYERS = (0, 4, 8)  # positions of the convolutions that stay in float, one at a time


def rows() -> Iterator[Row | str]:
    from qinspect import sensitivity
    from qinspect.measure.activations import observe_ranges
    from qinspect.tflite import read_graph
    from qinspect.tflite.requantize import quantizable_operators, quantize_file
    from qinspect.tflite.run import evaluate

    given = setting()
    _, _, y = resnet8(len(given.x))
    calibration = given.calibration
    names = layer_names(debugger_of(given.model, calibration, given.x[:1]))
    graph = read_graph(given.float_file)
    layers = quantizable_operators(graph)
    ranges = observe_ranges(graph, calibration).over()

    def ours(at: int) -> Any:
        content = quantize_file(graph, ranges, "int8", {layers[at].index: "float32"})
        return evaluate(content, given.x).prediction

    def peer(at: int) -> Any:
        made = debugger_of(given.model, calibration, given.x[:1],
                           denylisted_nodes=[names[at]])
        return tutorial(bytes(made.get_nondebug_quantized_model()), given.x).argmax(axis=1)

    ways: dict[str, Callable[[], Any]] = {}
    for at in LAYERS:
        ways[f"ours {at}"], ways[f"peer {at}"] = _call(ours, at), _call(peer, at)
    timed = paired(ways)
    ratios = [timed.seconds[f"peer {at}"] / timed.seconds[f"ours {at}"] for at in LAYERS]
    low, middle, high = np.percentile(np.concatenate(ratios), [25, 50, 75])
    same = [np.mean(timed.found[f"peer {at}"] == timed.found[f"ours {at}"]) for at in LAYERS]
    right = [100 * np.median([np.mean(timed.found[f"{who} {at}"] == y) for at in LAYERS])
             for who in ("ours", "peer")]
    # Two quantizers that are given the same images agree on 98 % of them without a denylist.
    assert min(same) > 0.9, same
    one, other = (float(np.median([timed.median(f"{who} {at}") for at in LAYERS]))
                  for who in ("ours", "peer"))
    yield Row("one file with one layer in float, made and evaluated", span(one),
              "a conversion with a denylist and the tutorials' loop", span(other),
              f"{middle:.3g} [{low:.3g}, {high:.3g}]",
              f"at least {TARGET}: {met(middle >= TARGET)}",
              f"the same class for at least {100 * min(same):.1f} % of the images; right: ours "
              f"{right[0]:.1f} %, the peer {right[1]:.1f} %")
    data = labelled(given.x, y)
    whole = paired({"ours": lambda: sensitivity(graph, data, calibration=calibration)}, 3)
    found, seconds = whole.found["ours"], whole.median("ours")
    files, count = len(found.layers) + len(found.curve) - 1, len(found.order)
    yield Row(f"all of `sensitivity`: {files} files of {count} layers", span(seconds),
              f"{count} files by denylist, scaled", span(count * other),
              f"{count * other / seconds:.3g}",
              check=f"for as many files as ours {files * other / seconds:.3g}")
    if middle < TARGET:
        yield "Where the time of one file goes:\n\n" + profile(lambda: ours(LAYERS[0]))


def _call(work: Callable[[int], Any], at: int) -> Callable[[], Any]:
    return lambda: work(at)


def layer_names(debugger: Any) -> list[str]:
    """Names of the layers' outputs in the order of execution, as a denylist takes them."""
    debugger.run()
    runner = debugger._quant_interpreter
    return [runner._get_tensor_details(debugger._numeric_verify_op_details[name]["inputs"][0],
                                       subgraph_index=0)["name"]
            for name in debugger.layer_statistics]
