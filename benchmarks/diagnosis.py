"""The fault benchmark of the diagnosis: makes every case, diagnoses it, prints the scores.

    python benchmarks/diagnosis.py --work scratch --out data

Rows are kept in the scratch folder as they finish, so that an interrupted run goes on.  See
``docs/diagnosis_benchmark.md``.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from qinspect import store
from qinspect_bench.benchmark import (
    TARGETS,
    by_cause,
    confusion,
    confusion_figure,
    misses,
    plans,
    run_benchmark,
    scores,
)
from qinspect_bench.faults import NOT_INJECTED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("work/bench-diagnosis"))
    parser.add_argument("--out", type=Path, default=Path("data"))
    parser.add_argument("--half", choices=("calibration", "scored"), default=None)
    parser.add_argument("--only", default="", help="part of the names of the cases to run")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    started = time.perf_counter()
    keys = [
        plan.key for plan in plans()
        if given.only in plan.key and given.half in (None, plan.cell.half)
    ]
    rows = run_benchmark(
        given.work, keys=keys, workers=given.workers,
        on_row=lambda told: print(told, f"{time.perf_counter() - started:.0f} s",
                                  file=sys.stderr, flush=True),
    )
    complete = len(rows) == len(plans())
    table = confusion(rows)
    if complete:
        given.out.mkdir(parents=True, exist_ok=True)
        store.write_frame(given.out / "diagnosis_cases.csv", rows)
        store.write_frame(given.out / "diagnosis_confusion.csv", table)
        drawn = confusion_figure(table[table["half"] == "scored"]).png(80)
        store.write_bytes(given.out / "diagnosis_confusion.png", drawn)
    print(table.to_string(index=False))
    print(by_cause(rows).to_string(index=False))
    print(scores(rows).round(3).to_string(index=False))
    print(f"targets: {TARGETS}")
    print(
        f"mean seconds of a diagnosis: {rows['seconds'].mean():.1f} of "
        f"wall-clock time, {rows['cpu_seconds'].mean():.1f} of processor time"
    )
    for cause, why in NOT_INJECTED.items():
        print(f"not injected: {cause}: {why}")
    for half in ("calibration", "scored"):
        print(f"misses, {half} half:")
        for line in misses(rows, half):
            print(f"- {line}")
    print(f"{len(rows)} of {len(plans())} cases, {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
