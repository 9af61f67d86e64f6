"""A sweep of eight small studies on two worker processes against one, each held to one thread.

    python benchmarks/bench_sweep.py

Needs TensorFlow and two idle cores; takes some six minutes.  Exits with code 1 when two workers
are less than 1.6 times as fast as one, or one worker keeps more than 1.15 cores busy.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from qinspect.studies.sweeping import grid, run_sweep

SPECS = grid(
    {"preset": "one-epoch", "dataset": "digits", "model": "bn_cnn", "split_seed": 0, "recipes": ()},
    seed=range(8),
)


def quiet(*arguments: object) -> None:
    """Say nothing."""


def measure(workers: int) -> tuple[float, float]:
    """Wall-clock seconds of the sweep, and CPU seconds of its worker processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        frame = run_sweep(SPECS, Path(folder), workers=workers, notify=quiet, progress=quiet).frame
        wall = time.perf_counter() - started
    assert (frame["status"] == "finished").all(), frame["error"].to_list()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    load = os.getloadavg()[0]
    one, cpu_one = measure(1)
    two, cpu_two = measure(2)
    print(f"load before the start: {load:.1f} on {os.cpu_count()} cores")
    print(f"1 worker:  {one:.1f} s, {cpu_one:.1f} s of CPU, {cpu_one / one:.2f} cores busy")
    print(f"2 workers: {two:.1f} s, {cpu_two:.1f} s of CPU, {cpu_two / two:.2f} cores busy")
    print(f"{one / two:.2f} times as fast with two workers")
    return int(one / two < 1.6 or cpu_one / one > 1.15)


if __name__ == "__main__":
    sys.exit(main())
