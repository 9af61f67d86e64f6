"""How often does a diagnosis take luck for a cause, and how often does it find what is there?

A sham remedy is QAT trained again with nothing changed but the batch order.  For each study a pool
of such runs is trained, and one of runs with ranges set by calibration first (a remedy that works
where observers are stale); trials draw remedy and sham runs from them and are judged by the rule of
``qinspect.diagnosis.replicates``, beside the rule that asked the examples of one run only.

``python benchmarks/shams.py FOLDER [--runs 18] [--trials 40]``; what is trained is kept in FOLDER,
so that it can be stopped and gone on with.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from qinspect.diagnosis import retrain
from qinspect.diagnosis.answer import CLOSED_SHARE
from qinspect.diagnosis.cases import case
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.replicates import LOOKS, _closing, decided
from qinspect.schema import Array
from qinspect.stats import mean_interval
from qinspect.studies.run import study

STUDIES = [
    *({"preset": "one-epoch", "dataset": "digits", "seed": seed} for seed in range(5)),
    *({"preset": "one-epoch", "dataset": "fashion_mnist", "train_size": 4000, "test_size": 1000,
       "seed": seed} for seed in (0, 4)),
    *({"dataset": "digits", "model": "plain_cnn", "input_range": "0-255", "float_epochs": 4,
       "qat_epochs": 1, "seed": seed} for seed in range(2)),
    *({"dataset": "digits", "model": "plain_cnn", "float_epochs": 4, "qat_epochs": 1,
       "seed": seed} for seed in range(2)),
]


def pools(folder: Path, spec: dict[str, object], runs: int) -> tuple[float, Array, Array]:
    """The gap, and what of it each sham and each warm start closes on every example."""
    name = "-".join(str(value) for value in spec.values())
    if not (folder / name / "summary.json").exists():
        study(out=folder / name, recipes=(), **spec)  # type: ignore[arg-type]
    evidence = Evidence(case(folder / name))
    focus = evidence.comparison("ptq", "qat")
    made = {}
    for kind, warm in (("sham", None), ("warm", True)):
        kept = folder / f"{name}-{kind}.npz"
        done = dict(np.load(kept)) if kept.exists() else {}
        for run in range(1, runs + 1):
            if str(run) not in done:
                answers = retrain.qat_again(evidence, warm_start=warm, seed_shift=run + 5_000)
                done[str(run)] = _closing(evidence, focus, {"qat": answers})
                np.savez(kept, **done)
        made[kind] = np.stack([done[str(run)] for run in range(1, runs + 1)])
    return focus.gap, made["sham"], made["warm"]


def trials(
    remedy: Array, sham: Array, gap: float, number: int, rng: np.random.Generator
) -> Iterator[tuple[bool, int, bool]]:
    """Whether the rule confirms, after how many runs, and whether examples of one run would have.

    Remedy and sham are other runs, also where both come from one pool.
    """
    same, toward = remedy is sham, np.sign(gap)
    most = LOOKS[-1]
    for _ in range(number):
        drawn = rng.permutation(len(sham))[:most]
        others = np.setdiff1d(np.arange(len(remedy)), drawn) if same else np.arange(len(remedy))
        chosen = rng.permutation(others)[:most]
        e, s = toward * remedy[chosen].mean(axis=1), toward * sham[drawn].mean(axis=1)
        confirmed, used = False, 0
        for used in LOOKS:
            share = float(e[:used].mean() - s[:used].mean()) / abs(gap)
            confirmed = decided(e[:used], s[:used]) and share >= CLOSED_SHARE
            if confirmed or share < CLOSED_SHARE / 2:
                break
        one = toward * remedy[chosen[0]]
        yield confirmed, used, bool(mean_interval(one)[0] > 0
                                    and one.mean() / abs(gap) >= CLOSED_SHARE)


def main() -> None:
    """Print a row a study, and the sums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=18)
    parser.add_argument("--trials", type=int, default=40)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    print("| study | gap | sd of runs | shams confirmed | by one run's examples | "
          "warm start: effect in sd | confirmed |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    sums = np.zeros(6)
    for spec in STUDIES:
        gap, sham, warm = pools(given.folder, spec, given.runs)
        spread = float(sham.mean(axis=1).std(ddof=1))
        false = list(trials(sham, sham, gap, given.trials, rng))
        real = list(trials(warm, sham, gap, given.trials, rng))
        size = float(np.sign(gap) * (warm.mean() - sham.mean())) / spread
        large = size >= 4 and abs(warm.mean() - sham.mean()) >= CLOSED_SHARE * abs(gap)
        found = [sum(column) for column in itertools.islice(zip(*false, strict=True), 3)]
        hits = sum(one[0] for one in real)
        sums += (len(false), found[0], found[2], large * len(real), large * hits, found[1])
        print(f"| {' '.join(str(value) for value in spec.values())} | {gap:+.2f} | {spread:.2f} | "
              f"{found[0]} of {len(false)} | {found[2]} of {len(false)} | {size:+.1f} | "
              f"{hits} of {len(real)}{'' if large else ' (not counted)'} |", flush=True)
    print(f"\nShams confirmed: {sums[1]:.0f} of {sums[0]:.0f} "
          f"({100 * sums[1] / sums[0]:.1f} %), in the mean after {sums[5] / sums[0]:.1f} runs; "
          f"by the examples of one run {100 * sums[2] / sums[0]:.1f} %. Known remedies of four "
          f"standard deviations and more: {sums[4]:.0f} of {sums[3]:.0f}.")


if __name__ == "__main__":
    main()
