"""What choosing gaps for being significant does to them, and to remedies that are judged by them.

``python -m qinspect_bench.selection`` simulates pairs of files, keeps those whose gap is
significant, and judges two remedies as a diagnosis does: one that changes answers but not accuracy
(``idle``), and one that takes the true gap away (``cure``).  It writes ``data/selection.csv`` and
prints the table of ``docs/intervals.md``.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from qinspect import store
from qinspect.diagnosis.answer import CLOSED_SHARE
from qinspect.predictions import Results

CHOSEN = 150
ACCURACY = 0.93
GRID = tuple(product((449, 2000), (0.0, 1.0, 2.0, 4.0)))


def simulated(n: int, gap: float, chosen: int = CHOSEN) -> dict[str, float]:
    """Means over ``chosen`` significant gaps of a true one of ``gap`` points, QAT the worse."""
    rng = np.random.default_rng([n, int(gap)])
    rows: list[dict[str, float]] = []
    while len(rows) < chosen:
        ptq = rng.beta(1.2 * ACCURACY, 1.2 * (1 - ACCURACY), n)
        chance = {"ptq": ptq, "qat": np.clip(ptq - gap / 100, 0, 1),
                  "idle": np.clip(ptq - gap / 100, 0, 1), "cure": ptq}
        right = {name: rng.random(n) < share for name, share in chance.items()}
        apart = np.count_nonzero(right["ptq"] != right["qat"])
        if abs(right["ptq"].sum() - right["qat"].sum()) < 1.9 * np.sqrt(apart):
            continue
        found = Results(right)
        focus = found.comparison("ptq", "qat")
        if not focus.significant:
            continue
        toward = np.sign(focus.gap)
        row = {"seen": abs(focus.gap), "shrunk": abs(focus.unselected)}
        for name in ("idle", "cure"):
            estimate, *ends = found.effect("ptq", "qat", {"qat": name})
            low = min(toward * end for end in ends)
            good = toward * estimate >= CLOSED_SHARE * row["seen"]
            row |= {f"{name}_share": estimate / focus.gap, f"{name}_before": low > 0 and good,
                    name: low > row["seen"] - row["shrunk"] and good}
        rows.append(row)
    table = pd.DataFrame(rows).astype(float)
    return {str(name): float(value) for name, value in table.mean().items()}


def to_markdown(found: pd.DataFrame) -> str:
    """One row a setting; shares in percent, gaps in points."""
    lines = ["| n | true gap | seen | shrunk | idle: closes | confirmed, before | confirmed "
             "| cure: closes | confirmed, before | confirmed |",
             "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for row in found.to_dict("records"):
        shares = " | ".join(
            f"{100 * row[name]:.0f}" for name in
            ("idle_share", "idle_before", "idle", "cure_share", "cure_before", "cure"))
        lines.append(f"| {row['n']} | {row['gap']:g} | {row['seen']:.2f} | {row['shrunk']:.2f} "
                     f"| {shares} |")
    return "\n".join(lines)


def main() -> None:
    """Simulate the grid and print its table."""
    parser = argparse.ArgumentParser(prog="python -m qinspect_bench.selection",
                                     description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/selection.csv"))
    found = pd.DataFrame([{"n": n, "gap": gap, **simulated(n, gap)} for n, gap in GRID])
    store.write_frame(parser.parse_args().out, found)
    print(to_markdown(found))


if __name__ == "__main__":
    main()
