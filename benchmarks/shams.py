"""How often does a diagnosis take luck for a cause, and how often does it find what is there?

A sham remedy is QAT trained again with nothing changed but the batch order.  For each study a pool
of such runs is trained, and one of runs with ranges set by calibration first (a remedy that works
where observers are stale).  Trials draw remedy and sham runs from them without putting any back, so
that no two trials of a shuffle share a run, and are judged by the rule of
``qinspect.diagnosis.replicates``, beside the rule that asked the examples of one run only.

``python benchmarks/shams.py FOLDER [--runs 24] [--shuffles 10]``; what is trained is kept in
FOLDER, so that it can be stopped and gone on with.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from qinspect.diagnosis import retrain
from qinspect.diagnosis.answer import CLOSED_SHARE
from qinspect.diagnosis.cases import case
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.replicates import LOOKS, _closing, closed
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
        study(out=folder / name, recipes=(), repeats=1, **spec)  # type: ignore[arg-type]
    evidence = Evidence(case(folder / name))
    focus = evidence.comparison("ptq", "qat")
    made = {}
    for kind, warm in (("sham", None), ("warm", True)):
        kept = folder / f"{name}-{kind}.npz"
        done = dict(np.load(kept)) if kept.exists() else {}
        for run in range(1, runs + 1):
            if str(run) not in done:
                answers = retrain.answers(
                    evidence, retrain.Training("qat", warm_start=warm, seed_shift=run + 5_000))
                done[str(run)] = _closing(evidence, focus, {"qat": answers})
                np.savez(kept, **done)
        made[kind] = np.stack([done[str(run)] for run in range(1, runs + 1)])
    return focus.gap / focus.metric.scale, made["sham"], made["warm"]


def trials(
    remedy: Array, sham: Array, gap: float, shuffles: int, rng: np.random.Generator
) -> Iterator[tuple[bool, int, bool]]:
    """Whether the rule confirms, after how many runs, and whether examples of one run would have.

    Gap and what of it runs close are scores.  Remedy and sham are other runs, also where both come
    from one pool.
    """
    most, toward = LOOKS[-1], np.sign(gap)
    for _ in range(shuffles):
        one = rng.permutation(len(sham))
        other = one if remedy is sham else rng.permutation(len(remedy))
        step = 2 * most if remedy is sham else most
        for start in range(0, len(sham) - step + 1, step):
            shams = sham[one[start : start + most]]
            tried = remedy[other[start + step - most : start + step]]
            for used in LOOKS:
                found = closed(tried[:used], shams[:used], gap, 0.95, bound=1.0)
                if found.ends:
                    break
            first = toward * tried[0]
            yield found.confirmed, found.runs, bool(
                mean_interval(first)[0] > 0 and first.mean() / abs(gap) >= CLOSED_SHARE)


def main() -> None:
    """Print a row a study, and the sums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--shuffles", type=int, default=10)
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
        false = list(trials(sham, sham, gap, 2 * given.shuffles, rng))
        real = list(trials(warm, sham, gap, given.shuffles, rng))
        effect = float(np.sign(gap) * (warm.mean() - sham.mean()))
        large = effect >= 4 * spread and effect >= CLOSED_SHARE * abs(gap)
        found = [sum(column) for column in zip(*false, strict=True)]
        hits = sum(one[0] for one in real)
        sums += (len(false), found[0], found[2], large * len(real), large * hits, found[1])
        print(f"| {' '.join(str(value) for value in spec.values())} | {100 * gap:+.2f} | "
              f"{100 * spread:.2f} | {found[0]} of {len(false)} | {found[2]} of {len(false)} | "
              f"{effect / spread:+.1f} | {hits} of {len(real)}"
              f"{'' if large else ' (not counted)'} |",
              flush=True)
    print(f"\nShams confirmed: {sums[1]:.0f} of {sums[0]:.0f} "
          f"({100 * sums[1] / sums[0]:.1f} %), in the mean after {sums[5] / sums[0]:.1f} runs; "
          f"by the examples of one run {100 * sums[2] / sums[0]:.1f} %. Known remedies of four "
          f"standard deviations and more: {sums[4]:.0f} of {sums[3]:.0f}.")


if __name__ == "__main__":
    main()
