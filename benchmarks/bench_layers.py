"""Errors of layers, beside TensorFlow's `QuantizationDebugger` and the quantizer's `validate`.

resnet8 from Keras, one int8 file (the debugger's own), the same 1,000 images. Of the debugger its
calibration, conversion and run count; of ours reading both files and the pass. `validate` compares
whole tensors (the accumulated error) of 100 images. Imports count for nobody. Full is local and
accumulated error with histograms; the debugger gives the local error alone.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from bench import Array, Row, interpreter, need, paired, resnet8, span

# Their output is on their input's grid, so nothing is rounded in a step of their own.
SHARED_SCALE = ("AVERAGE_POOL_2D", "MAX_POOL_2D", "RESHAPE")
TARGET_LOCAL, TARGET_FULL = 10, 5
VALIDATED = 100


@dataclass(frozen=True)
class Setting:
    """A Keras model, its float file and its int8 file, and examples."""

    model: Any
    float_file: bytes
    quantized: bytes
    x: Array
    calibration: Array


def debugger_of(model: Any, calibration: Array, x: Array, **options: Any) -> Any:
    """TensorFlow's debugger of the file that ``calibration`` makes, to be run on ``x``."""
    tf = need("tensorflow")
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([one[None]] for one in calibration)
    return tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=lambda: ([one[None]] for one in x),
        debug_options=tf.lite.experimental.QuantizationDebugOptions(fully_quantize=True, **options))


def setting(examples: int = 1000, calibration: int = 200) -> Setting:
    tf, keras = need("tensorflow"), need("tf_keras")
    folder, x, _ = resnet8(examples)
    model = keras.models.load_model(folder / "keras.h5", compile=False)
    quantized = debugger_of(model, x[:calibration], x).get_nondebug_quantized_model()
    plain = bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    return Setting(model, plain, bytes(quantized), x, x[:calibration])


def debugged(given: Setting) -> pd.DataFrame:
    """RMSE over scale of every layer, by the debugger."""
    debugger = debugger_of(given.model, given.calibration, given.x)
    debugger.run()
    made = []
    for name, metrics in debugger.layer_statistics.items():
        index = debugger._numeric_verify_op_details[name]["inputs"][0]
        runner = debugger._quant_interpreter
        scales = runner._get_tensor_details(index, subgraph_index=0)["quantization_parameters"]
        made.append({
            "op": runner._get_op_details(debugger._defining_op[index])["op_name"],
            "rmse_over_scale": float(np.sqrt(metrics["mean_squared_error"]))
            / float(scales["scales"][0]),
        })
    return pd.DataFrame(made)


def ours(given: Setting, x: Array | None = None, **options: Any) -> pd.DataFrame:
    from qinspect.measure.local import layer_errors
    from qinspect.tflite import match_graphs, read_graph

    a, b = read_graph(given.float_file), read_graph(given.quantized)
    return layer_errors(a, b, match_graphs(a, b), given.x if x is None else x, **options).errors


def agreement(debugger: pd.DataFrame, errors: pd.DataFrame) -> pd.DataFrame:
    """RMSE over scale of both, layer by layer, of layers that round in a step of their own."""
    local = errors[errors["reference"] == "local"].reset_index(drop=True)
    assert list(local["op"]) == list(debugger["op"])
    both = pd.DataFrame({"op": local["op"], "debugger": debugger["rmse_over_scale"],
                         "qinspect": local["rmse_over_scale"]})
    both["ratio"] = both["qinspect"] / both["debugger"]
    return both[~both["op"].isin(SHARED_SCALE)]


def validated(given: Setting) -> dict[str, float]:
    """Mean squared error of every tensor of both files, by the quantizer."""
    made = need("litert_quantizer.quantizer").Quantizer(given.float_file, None, given.quantized)
    signatures = interpreter(given.float_file)[0].get_signature_list()
    (key, ports), = signatures.items()
    data = {key: [{ports["inputs"][0]: one[None]} for one in given.x[:VALIDATED]]}
    found = made.validate(data, num_threads=2).get_all_tensor_results()
    return {name: float(metrics["mse"]) for name, metrics in found.items()}


def rows() -> Iterator[Row | str]:
    given = setting()
    local = {"accumulated": False, "histograms": False}
    timed = paired({
        "local": lambda: ours(given, **local),
        "full": lambda: ours(given),
        "QuantizationDebugger": lambda: debugged(given),
    })
    gap = (agreement(timed.found["QuantizationDebugger"], timed.found["local"])["ratio"] - 1).abs()
    assert gap.max() < 0.02, gap.max()
    same = f"RMSE / scale of {len(gap)} layers equal to {gap.max():.1g}"
    yield timed.row("local error of layers, 1,000 images", "local", "QuantizationDebugger",
                    target=TARGET_LOCAL, check=same)
    yield timed.row("local and accumulated error and histograms", "full", "QuantizationDebugger",
                    target=TARGET_FULL, check=same)
    part = given.x[:VALIDATED]
    against = paired({
        "full": lambda: ours(given, part),
        "the quantizer's validate": lambda: validated(given),
    }, longest=60)
    yield against.row(f"the same, {VALIDATED} images", "full", "the quantizer's validate",
                      target=TARGET_FULL, check=check_validated(given, against.found))
    for name, options, goal in (("local", local, TARGET_LOCAL), ("full", {}, TARGET_FULL)):
        if timed.ratio("QuantizationDebugger", name)[0] < goal:
            yield f"Where the time of the {name} error goes: {spent(given, options)}."


def check_validated(given: Setting, found: dict[str, Any]) -> str:
    """The accumulated errors beside the mean squared errors of the quantizer, layer by layer."""
    from qinspect.tflite import read_graph

    errors, theirs = found["full"], found["the quantizer's validate"]
    mine = errors[errors["reference"] == "accumulated"]["mse"]
    main = read_graph(given.quantized).main
    made = [main.tensors[operator.outputs[0]].name for operator in main.operators
            if operator.code not in ("QUANTIZE", "DEQUANTIZE")]
    worst = max(abs(mse / theirs[name] - 1) for name, mse in zip(made, mine, strict=True))
    assert worst < 1e-4, worst
    return f"MSE of {len(made)} tensors equal to {worst:.1g}"


def spent(given: Setting, options: dict[str, Any]) -> str:
    """Processor time of one pass, of this process and of the children that run the files."""
    from qinspect.tflite import isolated

    def used() -> Array:
        isolated.end_spare()  # a child is counted when it has ended
        whole = [resource.getrusage(who) for who in (resource.RUSAGE_SELF,
                                                     resource.RUSAGE_CHILDREN)]
        return np.array([time.perf_counter(), *(one.ru_utime + one.ru_stime for one in whole)])

    before = used()
    ours(given, **options)
    clock, here, children = used() - before
    return (f"{span(clock)} on the clock; processor time: {span(children)} in the children that "
            f"run LiteRT, their start included, {span(here)} here (values made real, sums of "
            "errors)")
