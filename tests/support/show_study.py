"""A small finished study folder written with the store's own functions; nothing is trained.

The float network is ``small_net``; "ptq_int8" is quantized with the ranges that occur, "qat" with
ranges of -6 to 6, as if its observers had never moved.  One layer has a hostile name.
"""

from __future__ import annotations

import sys
from pathlib import Path

import flatbuffers
import numpy as np
import pandas as pd
from ai_edge_litert import schema_py_generated as fb
from small_net import examples, small_net

from qinspect import store
from qinspect.measure.activations import observe_ranges
from qinspect.schema import HISTORY, OBSERVERS, RUNS
from qinspect.stats import wilson_interval
from qinspect.studies.arms import compare_arms, decompose_gap
from qinspect.studies.run import load_splits
from qinspect.studies.spec import StudySpec
from qinspect.studies.stored import Study, load_study, study_results
from qinspect.studies.summary import environment
from qinspect.tflite import evaluate, read_graph, scheme_of
from qinspect.tflite.requantize import Ranges, activations, quantize_file

HOSTILE = "<img src=x onerror=window.XSS=1>"
ARMS = ("float", "ptq_int8", "ptq_int8_ft", "qat")


def hostile_net(deeper: int = 0) -> bytes:
    model = fb.ModelT.InitFromPackedBuf(small_net(channels=3, deeper=deeper), 0)
    for tensor in model.subgraphs[0].tensors:
        tensor.name = tensor.name.decode().replace("conv/", f"{HOSTILE}/", 1)
        tensor.name = tensor.name.replace("depthwise/", "$x$/")
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def write_study(folder: Path, n: int = 1600, deeper: int = 0) -> Study:
    """Write the study and load it; ``deeper`` layers are added to its network."""
    (folder / "steps").mkdir(parents=True)
    content = hostile_net(deeper)
    x = examples(n, channels=3)  # colours, to be shown as pictures
    y = evaluate(content, x).prediction
    y[::7] = (y[::7] + 1) % 4  # no network is right on all
    np.savez(folder / "data.npz", x=x, y=y)
    spec = StudySpec(dataset=str(folder / "data.npz"), seed=1, test_size=n // 2)
    test = load_splits(spec).test
    _write_models(folder / "models", content, test.x)
    arrays, rows = {"id": test.ids, "y": test.y}, []
    for arm in ARMS:
        path = folder / "models" / f"{arm}.tflite"
        ran = evaluate(path.read_bytes(), test.x)
        arrays |= {f"prediction__{arm}": ran.prediction, f"raw__{arm}": ran.raw,
                   f"tied__{arm}": ran.tied}
        right = ran.prediction == test.y
        low, high = wilson_interval(int(right.sum()), len(right))
        rows.append((arm, f"models/{arm}.tflite", scheme_of(read_graph(path)),
                     path.stat().st_size, len(right), float(right.mean()), low, high))
    runs = pd.DataFrame(rows, columns=list(RUNS))
    store.write_arrays(folder / "predictions.npz", arrays)
    store.write_frame(folder / "runs.csv", runs)
    store.write_frame(folder / "history.csv", _history())
    store.write_frame(folder / "observers.csv", _observers())
    results = study_results(arrays, spec)
    store.write_json(
        folder / "summary.json",
        {
            "arms": [
                {**row, "title": row["arm"], "accuracy_ci": [row["accuracy_low"],
                                                             row["accuracy_high"]]}
                for row in runs.to_dict("records")
            ],
            "comparisons": [one.to_json() for one in compare_arms(results)],
            "decomposition": decompose_gap(results),
            "notes": [],
            "spec": spec.to_dict(),
            "environment": environment(folder),
        },
    )
    store.write_json(folder / "spec.json", {**spec.to_dict(), "digests": {}})
    store.mark_done(folder, "summary", {})
    return load_study(folder)


def _write_models(folder: Path, content: bytes, x: np.ndarray) -> None:
    folder.mkdir()
    (folder / "float.tflite").write_bytes(content)
    graph = read_graph(folder / "float.tflite")
    good = observe_ranges(graph, x).over()
    stale = Ranges({tensor.name: (-6.0, 6.0) for tensor in activations(graph)}, frozenset())
    for arm, ranges in (("ptq_int8", good), ("ptq_int8_ft", good), ("qat", stale)):
        (folder / f"{arm}.tflite").write_bytes(quantize_file(graph, ranges))


def _history() -> pd.DataFrame:
    rows = [
        (phase, epoch, 50 * epoch, 1 / epoch, 0.5 + epoch / 20, 1 / epoch, 0.5 + epoch / 25, 1e-3,
         1.0)
        for phase in ("float", "qat")
        for epoch in (1, 2, 3)
    ]
    return pd.DataFrame(rows, columns=["phase", *HISTORY[1:]])


def _observers(decay: float = 0.999) -> pd.DataFrame:
    rows = [
        ("qat", step, layer, "output", "activation", -6 * decay**step,
         target + (6 - target) * decay**step)
        for step in (0, 1, 10, 50, 150)
        for layer, target in ((HOSTILE, 2.0), ("dense", 9.0))
    ]
    return pd.DataFrame(rows, columns=["phase", *OBSERVERS])


if __name__ == "__main__":
    write_study(Path(sys.argv[1]))
