"""The fault benchmark of the diagnosis: makes every case, diagnoses it, prints the scores.

    python benchmarks/diagnosis.py --half calibration --given files

Rows are kept in the scratch folder as they finish, so that an interrupted run goes on.  See
``docs/diagnosis_benchmark.md``.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from qinspect import store
from qinspect_bench.architectures import HALVES
from qinspect_bench.benchmark import (
    GIVEN,
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
    parser.add_argument("--out", type=Path, default=None, help="folder for the tables")
    parser.add_argument("--half", choices=(*HALVES, "both"), default="both")
    parser.add_argument("--given", choices=(*GIVEN, "both"), default="both")
    parser.add_argument("--only", default="", help="part of the names of the cases to run")
    parser.add_argument("--full", action="store_true", help="every cause on three networks a half")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    started = time.perf_counter()
    chosen = [
        plan for plan in plans(full=given.full)
        if given.only in plan.key and given.half in ("both", plan.cell.half)
        and given.given in ("both", plan.given)
    ]
    rows = run_benchmark(
        given.work, chosen, workers=given.workers,
        on_row=lambda told: print(told, f"{time.perf_counter() - started:.0f} s",
                                  file=sys.stderr, flush=True),
    )
    table = confusion(rows)
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        design = "_full" if given.full else ""
        store.write_frame(given.out / f"diagnosis{design}_cases.csv", rows)
        store.write_frame(given.out / f"diagnosis{design}_confusion.csv", table)
        drawn = table[table["half"] == "scored"]
        if len(drawn):
            store.write_bytes(given.out / f"diagnosis{design}_confusion.png",
                              confusion_figure(drawn).png(80))
    print(table.to_string(index=False))
    print(by_cause(rows).to_string(index=False))
    print(scores(rows).round(3).to_string(index=False))
    print(f"targets: {TARGETS}")
    for way, seconds in rows.groupby("given")["seconds"]:
        print(f"seconds of a diagnosis, {way}: median {seconds.median():.1f}, "
              f"most {seconds.max():.1f}")
    for cause, why in NOT_INJECTED.items():
        print(f"not injected: {cause}: {why}")
    for half in HALVES:
        print(f"not right, {half} half:")
        for line in misses(rows, half):
            print(f"- {line}")
    print(f"{len(rows)} of {len(chosen)} cases, {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
