"""Peak memory of passes over a memory-mapped file, at 1e4, 1e5 and 1e6 examples of 512 bytes.

Every pass is a process of its own. Anonymous memory (sampled) is what it and the children that run
the files ask for; the peak resident size of `getrusage` also counts pages of the data file, which
the kernel takes back when it needs them. Bytes an example are the slope between the ends: the
outputs that are kept, ids (84 bytes as NumPy makes them here) and labels.
"""

from __future__ import annotations

import json
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bench import Row, examples, generated, int8_of, labelled, met, python, span

SIZES = (10_000, 100_000, 1_000_000)
PASSES = ("evaluate", "activations", "layers", "report")
# Per cent by which memory may grow from the least to the most examples, but for the outputs.
LIMIT = 10
PIECE = 10_000


def rows() -> Iterator[Row | str]:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_files(folder, 5, SIZES[-1])
        for what in PASSES:
            found = [measure(what, folder, size) for size in SIZES]
            anonymous = [one["peak_kib"] for one in found]
            slope = 1024 * (anonymous[-1] - anonymous[0]) / (SIZES[-1] - SIZES[0])
            growth = 100 * (anonymous[-1] / anonymous[0] - 1)
            kept = what in ("evaluate", "report")
            yield Row(
                f"memory of {what}, " + ", ".join(f"{size:,}" for size in SIZES),
                ", ".join(f"{one / 1024:.0f}" for one in anonymous) + " MiB anonymous",
                "the file", f"{SIZES[-1] * 512 / 2**20:.0f} MiB",
                f"grows by {growth:.0f} %, {slope:.0f} bytes an example",
                "flat but for the outputs" if kept
                else f"at most {LIMIT} %: {met(growth <= LIMIT)}",
                "peak resident " + ", ".join(f"{one['resident_kib'] / 1024:.0f}" for one in found)
                + " MiB; " + ", ".join(span(one["seconds"]) for one in found))
        deep = folder / "deep"
        deep.mkdir()
        write_files(deep, 100, 1000)
        for what in ("diagnose", "diagnose and report"):
            one = measure(what, deep, 1000)
            yield Row(f"{what}, 100 layers, 1,000 examples", span(one["seconds"]),
                      check=f"peak {one['resident_kib'] / 1024:.0f} MiB resident, "
                            f"{one['peak_kib'] / 1024:.0f} MiB anonymous")


def write_files(folder: Path, layers: int, count: int) -> None:
    """A float file, its int8 file, one with other weights in int8, and examples with labels."""
    content = generated(layers)
    (folder / "float.tflite").write_bytes(content)
    (folder / "int8.tflite").write_bytes(int8_of(content))
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (count, 8, 8, 2))
    rng = np.random.default_rng(1)
    for start in range(0, count, PIECE):
        part = x[start : start + PIECE]
        part[:] = rng.standard_normal(part.shape, dtype=np.float32)
    x.flush()


def measure(what: str, folder: Path, count: int) -> dict[str, Any]:
    """Peaks in KiB and seconds of one pass in a child process."""
    code = "import sys, bench_memory; bench_memory.child(*sys.argv[1:])"
    found: dict[str, Any] = json.loads(python(code, what, str(folder), str(count)).splitlines()[-1])
    return found


def anonymous_kib() -> int:
    """Anonymous memory of this process and its children now, in KiB; Linux only."""
    found, waiting, own = 0, ["self"], Path("/proc/self/cmdline").read_bytes()
    while waiting:
        process = Path("/proc") / waiting.pop()
        try:
            if process.name != "self" and (process / "cmdline").read_bytes() == own:
                continue  # it still shares our memory, until it has become another program
            lines = (process / "status").read_text().splitlines()
            waiting += [one for task in (process / "task").iterdir()
                        for one in (task / "children").read_text().split()]
        except OSError:  # it has ended
            continue
        found += sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))
    return found


def child(what: str, folder: str, count: str) -> None:
    """One pass; prints its peaks as JSON."""
    work = work_of(what, Path(folder), int(count))
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, anonymous_kib())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    found = work()
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    print(json.dumps({"examples": found, "seconds": seconds, "peak_kib": peak,
                      "resident_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


def work_of(what: str, folder: Path, count: int) -> Callable[[], int]:
    """What the child does, and how many examples it says it did it with."""
    import qinspect as qi
    from qinspect.measure.activations import activation_statistics
    from qinspect.measure.local import layer_errors
    from qinspect.tflite import match_graphs, read_graph

    x = np.load(folder / "x.npy", mmap_mode="r")[:count]
    files = [folder / "float.tflite", folder / "int8.tflite"]
    a, b = (read_graph(file.read_bytes()) for file in files)

    def diagnosed() -> Any:
        case = qi.case(float=files[0], ptq=files[1], qat=files[0],
                       data=labelled(np.array(x)), calibration=examples(64))
        return qi.diagnose(case, training=False)

    def work() -> int:
        if what == "activations":
            return activation_statistics(b, x).examples
        if what == "layers":
            return layer_errors(a, b, match_graphs(a, b), x).examples
        if what.startswith("diagnose"):
            found = diagnosed()
            if what != "diagnose":
                found.report(folder / "diagnosis.html")
            return count
        results = qi.evaluate(files, labelled(x))
        if what == "report":
            results.compare().report(folder / "report.html")
        return len(results.y)

    return work
