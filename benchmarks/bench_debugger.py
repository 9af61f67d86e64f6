"""Local error per layer: qinspect against TensorFlow's QuantizationDebugger, in one run.

Same Keras model, same int8 file (the debugger's own ``get_nondebug_quantized_model()``), same
examples, default kernels in both.  Counted for the debugger: its construction (calibration and
conversion) and its run.  Counted for qinspect: reading both files and the whole measurement.
Importing TensorFlow (about 8 s) and LiteRT (0.3 s) counts for neither.  The debugger goes first in
a fresh process, as it does for its user.  qinspect uses two threads, the debugger mostly one: on a
machine that does other work at the same time look at the processor seconds, not at the clock.

    python benchmarks/bench_debugger.py [--examples 1000] [--calibration 200]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

# Their output is on their input's grid, so nothing is rounded in a step of their own.
SHARED_SCALE = ("AVERAGE_POOL_2D", "MAX_POOL_2D", "RESHAPE")


def data_folder() -> Path:
    named = os.environ.get("QINSPECT_DATA")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"


def run_debugger(model, x, calibration):
    """Statistics, int8 file, two times and processor time (seconds) of the debugger."""
    import tensorflow as tf

    def examples(n):
        return lambda: ([x[i : i + 1]] for i in range(n))

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = examples(calibration)
    start, before = time.perf_counter(), time.process_time()
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=examples(len(x)),
        debug_options=tf.lite.experimental.QuantizationDebugOptions(fully_quantize=True),
    )
    built = time.perf_counter()
    debugger.run()
    done = time.perf_counter()
    processor = time.process_time() - before
    rows = []
    for name, metrics in debugger.layer_statistics.items():
        op = debugger._numeric_verify_op_details[name]
        index = op["inputs"][0]
        detail = debugger._quant_interpreter._get_tensor_details(index, subgraph_index=0)
        scale = float(detail["quantization_parameters"]["scales"][0])
        rows.append(
            {
                "op": debugger._quant_interpreter._get_op_details(debugger._defining_op[index])[
                    "op_name"
                ],
                "rmse_over_scale": float(np.sqrt(metrics["mean_squared_error"])) / scale,
                "scale": scale,
            }
        )
    quantized = bytes(debugger.get_nondebug_quantized_model())
    return pd.DataFrame(rows), quantized, built - start, done - built, processor


def pairs_of(a, b):
    """Both files come from one conversion: their operators stand in the same order."""
    codes = [[op.code for op in g.main.operators] for g in (a, b)]
    assert codes[0] == codes[1], codes
    return [(i, i) for i in range(len(codes[0]))]


def agreement(debugger: pd.DataFrame, errors: pd.DataFrame) -> pd.DataFrame:
    """RMSE / scale of both, layer by layer, with the ratio."""
    local = errors[errors["reference"] == "local"].reset_index(drop=True)
    assert list(local["op"]) == list(debugger["op"])
    table = pd.DataFrame(
        {
            "op": local["op"],
            "debugger": debugger["rmse_over_scale"],
            "qinspect": local["rmse_over_scale"],
        }
    )
    table["ratio"] = table["qinspect"] / table["debugger"]
    table["own_scale"] = ~table["op"].isin(SHARED_SCALE)
    return table


def compare(examples: int, calibration: int, repeats: int = 3) -> dict:
    """Everything: times, ratios, and the largest disagreement."""
    import tensorflow as tf
    import tf_keras

    from qinspect.measure.local import layer_errors
    from qinspect.tflite import read_graph

    folder = data_folder() / "tflite" / "resnet8"
    model = tf_keras.models.load_model(folder / "keras.h5", compile=False)
    x = np.load(folder / "cifar_eval.npz", allow_pickle=False)["x"][:examples].astype(np.float32)
    statistics, quantized, construct, run, debugger_cpu = run_debugger(model, x, calibration)
    float_file = bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())

    def measure(**options):
        times, processor = [], []
        for _ in range(repeats):
            start, before = time.perf_counter(), time.process_time()
            a, b = read_graph(float_file), read_graph(quantized)
            result = layer_errors(a, b, pairs_of(a, b), x, **options)
            times.append(time.perf_counter() - start)
            processor.append(time.process_time() - before)
        return result, times, processor

    local, local_times, local_cpu = measure(accumulated=False, histograms=False)
    full, full_times, full_cpu = measure()
    table = agreement(statistics, local.errors)
    own = table[table["own_scale"]]
    total = construct + run
    return {
        "examples": examples,
        "calibration": calibration,
        "debugger_construct_s": construct,
        "debugger_run_s": run,
        "debugger_processor_s": debugger_cpu,
        "local_s": local_times,
        "local_processor_s": local_cpu,
        "full_s": full_times,
        "full_processor_s": full_cpu,
        "local_speedup_first": total / local_times[0],
        "local_speedup_median": total / float(np.median(local_times)),
        "full_speedup_first": total / full_times[0],
        "full_speedup_median": total / float(np.median(full_times)),
        "largest_disagreement": float((own["ratio"] - 1).abs().max()),
        "table": table,
        "notes": [*local.notes, *full.notes],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--calibration", type=int, default=200)
    options = parser.parse_args()
    result = compare(options.examples, options.calibration)
    print(result.pop("table").round(5).to_string())
    print(json.dumps(result, indent=1, default=float))


if __name__ == "__main__":
    main()
