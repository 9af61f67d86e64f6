"""Evaluation of resnet8 on all cores against the loop of the TensorFlow Lite tutorials.

Every round runs all ways in turn, so that ratios do not depend on what else the machine does; the
table has the median ratio of the rounds and their quartiles, and the processor time of this process
(a child's is not counted).  All ways must give equal outputs.

    python benchmarks/bench_runner.py [--rounds 9] [--examples 1000] [--workers 2]
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def data_folder() -> Path:
    named = os.environ.get("QINSPECT_DATA")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"


def interpreter(content: bytes, batch: int, threads: int) -> tuple[Any, dict[str, Any], int]:
    from ai_edge_litert.interpreter import Interpreter

    made = Interpreter(model_content=content, num_threads=threads)
    detail = made.get_input_details()[0]
    if batch > 1:
        made.resize_tensor_input(detail["index"], (batch, *detail["shape"][1:]))
    made.allocate_tensors()
    return made, detail, made.get_output_details()[0]["index"]


def stored(x: Array, detail: dict[str, Any]) -> Array:
    if detail["dtype"] is np.float32:
        return x
    scale, zero = detail["quantization"]
    return np.clip(np.rint(x.astype(np.float64) / scale) + zero, -128, 127).astype(np.int8)


def tutorial(content: bytes, x: Array) -> Array:
    """One example after the other, as in the tutorials."""
    made, detail, out = interpreter(content, 1, 1)
    rows = []
    for example in x:
        made.set_tensor(detail["index"], stored(example[None], detail))
        made.invoke()
        rows.append(made.get_tensor(out)[0])
    return np.stack(rows)


def batches_of_128(content: bytes, x: Array) -> Array:
    """One interpreter with two threads and batches of 128: what evaluate was before the runner."""
    made, detail, out = interpreter(content, 128, 2)
    fed = stored(x, detail)
    rows = []
    for start in range(0, len(x), 128):
        part = fed[start : start + 128]
        count = len(part)
        part = np.concatenate([part, np.repeat(part[-1:], 128 - count, axis=0)])
        made.set_tensor(detail["index"], part)
        made.invoke()
        rows.append(made.get_tensor(out)[:count])
    return np.concatenate(rows)


def bare(content: bytes, x: Array, workers: int, batch: int) -> Callable[[], Array]:
    """Nothing but set, invoke and get on warm interpreters: the limit of the machine."""
    ready = [interpreter(content, batch, 1) for _ in range(workers)]
    fed = stored(x, ready[0][1])
    rows = len(x) // batch * batch

    def run() -> Array:
        lock, starts = threading.Lock(), iter(range(0, rows, batch))
        found = np.empty((rows, 10), fed.dtype)

        def work(made: Any, detail: dict[str, Any], out: int) -> None:
            while True:
                with lock:
                    start = next(starts, None)
                if start is None:
                    return
                made.set_tensor(detail["index"], fed[start : start + batch])
                made.invoke()
                found[start : start + batch] = made.get_tensor(out)

        threads = [threading.Thread(target=work, args=one) for one in ready]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    return run


def main() -> None:
    from qinspect.tflite.runner import Session, cores, run_files

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=cores())
    chosen = parser.parse_args()
    folder = data_folder() / "tflite" / "resnet8"
    with np.load(folder / "cifar_eval.npz", allow_pickle=False) as archive:
        x = archive["x"][: chosen.examples].astype(np.float32)
    print(f"{len(x)} images, {chosen.workers} workers, median of {chosen.rounds} rounds")
    for file in ("float32.tflite", "int8.tflite"):
        content = (folder / file).read_bytes()

        def ours(isolated: bool, content: bytes = content) -> Array:
            run = run_files({"m": content}, x, workers=chosen.workers, isolated=isolated)["m"]
            return next(iter(run.outputs.values()))

        warm = Session(content, workers=chosen.workers)
        ways: dict[str, Callable[[], Array]] = {
            "ours": lambda: ours(False),
            "ours, warm": lambda warm=warm: next(iter(warm.run(x, copy=False).values())),
            "ours, isolated": lambda: ours(True),
            "tutorial loop": lambda content=content: tutorial(content, x),
            "batches of 128": lambda content=content: batches_of_128(content, x),
        }
        limits = {f"bare {batch}": bare(content, x, chosen.workers, batch)
                  for batch in (1, 2, 4, 8, 16, 32)}
        seconds: dict[str, list[float]] = {name: [] for name in (*ways, *limits)}
        busy: dict[str, list[float]] = {name: [] for name in (*ways, *limits)}
        expected = tutorial(content, x)
        for _ in range(chosen.rounds):
            for name, run in (ways | limits).items():
                began, used = time.perf_counter(), time.process_time()
                found = run()
                seconds[name].append(time.perf_counter() - began)
                busy[name].append(time.process_time() - used)
                assert np.array_equal(found, expected[: len(found)]), name
        limit = np.min([seconds[name] for name in limits], axis=0)
        least = min(np.median(busy[name]) for name in limits)
        base = np.array(seconds["ours"])
        print(f"\n{file}: at best {1e6 * np.median(limit) / len(x):.0f} us an image, "
              f"{1e6 * least / len(x):.0f} us of processor")
        for name in ways:
            took = np.array(seconds[name])
            low, middle, high = np.percentile(took / base, [25, 50, 75])
            print(f"  {name:16s} {1e6 * np.median(took) / len(x):6.0f} us  {middle:.2f} times ours "
                  f"[{low:.2f}, {high:.2f}]  {np.median(took / limit):.2f} of the limit, "
                  f"{np.median(busy[name]) / least:.2f} of its processor time")


if __name__ == "__main__":
    main()
