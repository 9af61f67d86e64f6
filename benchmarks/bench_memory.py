"""Peak anonymous memory of a streaming pass, for few and for many examples of a generator.

Each pass runs in a child process of its own, which samples its own anonymous memory
(``Pss_Anon`` of ``/proc/self/smaps_rollup``, else ``RssAnon`` of ``/proc/self/status``) every
five milliseconds while it works.  Linux only.

    python benchmarks/bench_memory.py [--few 1000] [--many 100000] [--batch 32]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path


def data_folder() -> Path:
    named = os.environ.get("QINSPECT_DATA")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"


def anonymous_kib() -> int:
    """Anonymous memory of this process now, in KiB."""
    for path, field in (
        ("/proc/self/smaps_rollup", "Pss_Anon:"),
        ("/proc/self/status", "RssAnon:"),
    ):
        try:
            for line in Path(path).read_text().splitlines():
                if line.startswith(field):
                    return int(line.split()[1])
        except OSError:
            continue
    raise SystemExit("this system does not tell the anonymous memory of a process")


def child(what: str, examples: int, batch: int, depth: int) -> None:
    """One pass; prints its peak as JSON."""
    import numpy as np

    from qinspect.measure.activations import activation_statistics
    from qinspect.measure.local import layer_errors
    from qinspect.tflite import read_graph

    folder = data_folder() / "tflite" / "resnet8"
    pool = np.load(folder / "cifar_eval.npz", allow_pickle=False)["x"][:256]
    a, b = read_graph(folder / "float32.tflite"), read_graph(folder / "int8.tflite")

    def generator():
        for start in range(0, examples, batch):
            index = np.arange(start, min(start + batch, examples)) % len(pool)
            yield pool[index].astype(np.float32)

    peak, done = 0, threading.Event()

    def watch():
        nonlocal peak
        while not done.is_set():
            peak = max(peak, anonymous_kib())
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    if what == "activations":
        found = activation_statistics(b, generator(), batch_size=batch).examples
    else:
        found = layer_errors(
            a, b, [(i, i) for i in range(depth)], generator(), batch_size=batch
        ).examples
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    print(json.dumps({"examples": found, "peak_kib": peak, "seconds": seconds}))


def measure(what: str, examples: int, batch: int = 32, depth: int = 16) -> dict:
    """Peak of one pass in a child process: ``examples``, ``peak_kib``, ``seconds``."""
    root = Path(__file__).resolve().parents[1]
    path = os.pathsep.join(p for p in (str(root), os.environ.get("PYTHONPATH", "")) if p)
    command = [sys.executable, __file__, "--child", what, str(examples), str(batch), str(depth)]
    run = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": path}
    )
    return json.loads(run.stdout.strip().splitlines()[-1])


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] == "--child":
        child(sys.argv[2], *(int(v) for v in sys.argv[3:6]))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=1000)
    parser.add_argument("--many", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    for what in ("activations", "layer errors"):
        few = measure(what, options.few, options.batch)
        many = measure(what, options.many, options.batch)
        ratio = many["peak_kib"] / few["peak_kib"]
        print(json.dumps({"pass": what, "few": few, "many": many, "ratio": round(ratio, 4)}))


if __name__ == "__main__":
    main()
