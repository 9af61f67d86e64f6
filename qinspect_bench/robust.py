"""Does the robust recipe lose to its own PTQ?  Seeds x data sets x networks x input ranges.

    python -m qinspect_bench.robust --out robust

A run trains a float network for one epoch and goes on from there for one more, four ways: in
float, then PTQ; QAT as tfmot does it; QAT by :func:`qinspect.train.robust_qat`; and in float with
everything of the robust recipe but fake quantization, then PTQ.  All are evaluated as TFLite files
on the same test examples, which are the same for all seeds.

``runs/KEY.npz`` holds which examples each file gets right, ``runs/KEY.json``, written last, the
row of the table; a run with a row is not done again.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qinspect import store
from qinspect.data import calibration_subset
from qinspect.errors import QinspectError, SpecError
from qinspect.predictions import Results
from qinspect.schema import Array
from qinspect.studies.build import finetune_seed
from qinspect.studies.pool import one_thread, run_on_processes
from qinspect.studies.run import load_splits
from qinspect.studies.spec import INPUT_RANGES, StudySpec, make_spec
from qinspect.studies.sweeping import parse_seeds
from qinspect.tflite.run import evaluate

DATASETS = ("digits", "fashion_mnist")
MODELS = ("bn_cnn", "plain_cnn", "depthwise_cnn")
SEEDS = "0-9"

# ptq_ft: PTQ of the float model trained on; ptq_same: the same with the learning rate and the
# batch-norm statistics of the robust recipe; default, robust: QAT.
ARMS = ("ptq_ft", "ptq_same", "default", "robust")
# The cells' differences, b - a; the margin is of the first.
PAIRS = (("ptq_ft", "robust"), ("ptq_ft", "default"), ("ptq_same", "robust"))
MARGIN_PP = 0.2
CELL = ("dataset", "model", "input_range")


def robust_specs(
    seeds: Sequence[int],
    datasets: Sequence[str] = DATASETS,
    models: Sequence[str] = MODELS,
    input_ranges: Sequence[str] = INPUT_RANGES,
) -> list[StudySpec]:
    """The runs, all cells of one seed before the next seed."""
    return [
        make_spec(
            "one-epoch", dataset=dataset, model=model, input_range=input_range, seed=seed,
            split_seed=0,
        )
        for seed, dataset, model, input_range in itertools.product(
            seeds, datasets, models, input_ranges
        )
    ]


def run_key(spec: StudySpec) -> str:
    """Name of a run's files."""
    return _name(vars(spec))


def _name(settings: Mapping[Any, Any]) -> str:
    """The same from a spec's fields or a row of the table."""
    return "-".join(str(settings[name]) for name in (*CELL, "seed"))


def run_one(spec: StudySpec, out: str) -> dict[str, Any]:
    """One run, in a worker process: its row, which is on disk too if it has finished."""
    started = time.perf_counter()
    row: dict[str, Any] = {name: getattr(spec, name) for name in (*CELL, "seed")}
    with one_thread():
        try:
            correct, sizes = _correct(spec)
        except Exception as error:
            return {**row, "error": f"{type(error).__name__}: {error}"}
    row |= sizes
    row |= {f"accuracy_{arm}": float(right.mean()) for arm, right in correct.items()}
    for a, b in PAIRS:
        right_a, right_b = correct[a], correct[b]
        row[f"only_{a}_right_vs_{b}"] = int((right_a & ~right_b).sum())
        row[f"only_{b}_right_vs_{a}"] = int((~right_a & right_b).sum())
    row["seconds"] = round(time.perf_counter() - started, 1)
    folder = Path(out) / "runs"
    store.write_arrays(folder / f"{run_key(spec)}.npz", correct)
    # Last of all: a run with a row is never looked at again.
    store.write_json(folder / f"{run_key(spec)}.json", row)
    return row


def _correct(spec: StudySpec) -> tuple[dict[str, Array], dict[str, int]]:
    """Which test examples each arm gets right, and the sizes of the parts used."""
    from qinspect.train import (
        build_model,
        convert,
        convert_qat,
        fit,
        fit_qat,
        quantize_aware,
        reestimate_batchnorm,
        reset,
        robust_qat,
    )

    splits = load_splits(spec)
    train, test = splits.train, splits.test
    size = min(spec.calibration_size, len(splits.calibration))
    calibration = calibration_subset(splits.calibration, size, seed=spec.seed).x
    settings: dict[str, Any] = {
        "epochs": 1, "learning_rate": spec.qat_lr, "batch_size": spec.batch_size,
        "seed": finetune_seed(spec),
    }

    reset(spec.seed)
    model = build_model(
        spec.model, train.array.shape[1:], train.num_classes,
        bn_momentum=spec.bn_momentum, seed=spec.seed,
    )
    fit(model, train, None, **{**settings, "learning_rate": spec.float_lr, "seed": spec.seed})

    qat = quantize_aware(model)
    first = model.get_weights()
    robust = robust_qat(model, train, calibration=calibration, **settings)
    fit_qat(qat, train, None, **settings)
    files = {"default": convert_qat(qat), "robust": robust.content}
    fit(model, train, None, **settings)
    files["ptq_ft"] = convert(model, "int8", calibration)
    model.set_weights(first)
    reestimate_batchnorm(model, train.array)
    record = robust.record
    fit(
        model, train, None, **{**settings, "learning_rate": record.peak_rate},
        warm_up=record.warm_up, decay_from=record.decay_from,
    )
    files["ptq_same"] = convert(reestimate_batchnorm(model, train.array), "int8", calibration)
    correct = {
        arm: evaluate(content, test.array, num_threads=1).prediction == test.labels
        for arm, content in files.items()
    }
    return correct, {"train_n": len(train), "calibration_n": size, "test_n": len(test)}


def run_robust(specs: Sequence[StudySpec], out: Path, workers: int = 1) -> pd.DataFrame:
    """Run what has not finished; one row a finished run of the folder, asked for now or before."""
    folder = store.prepare_folder(out, parts=("runs",))
    tasks = {run_key(spec): (spec, str(folder)) for spec in _missing(specs, folder)}
    for done, (key, row) in enumerate(run_on_processes(run_one, tasks, workers), start=1):
        failed = str(row) if isinstance(row, Exception) else row.get("error")
        print(f"{done}/{len(tasks)} {key} {failed or 'done'}", file=sys.stderr, flush=True)
        store.write_frame(folder / "runs.csv", _table(folder))
    return _table(folder)


def _missing(specs: Sequence[StudySpec], folder: Path) -> list[StudySpec]:
    """Those without a row."""
    return [spec for spec in specs if not (folder / "runs" / f"{run_key(spec)}.json").exists()]


def _table(folder: Path) -> pd.DataFrame:
    """All rows of a folder, by seed and then in the order of the cells."""
    rows: list[dict[str, Any]] = [
        store.read_json(path) for path in (folder / "runs").glob("*.json")
    ]

    def place(row: dict[str, Any]) -> tuple[int, ...]:
        return (
            row["seed"], DATASETS.index(row["dataset"]), MODELS.index(row["model"]),
            INPUT_RANGES.index(row["input_range"]),
        )

    rows.sort(key=place)
    return pd.DataFrame(rows)


def cell_table(frame: pd.DataFrame, out: Path) -> pd.DataFrame:
    """Mean differences b - a of each cell of two seeds or more, points, with 95 % intervals.

    Intervals are for new seeds and new examples: from the variances (``_low_pp``, ``_high_pp``)
    and from the crossed bootstrap (``_boot_``), see :class:`qinspect.stats.SeedComparison`.
    ``within_margin`` says whether ``robust`` is shown to lose at most ``MARGIN_PP`` to ``ptq_ft``
    (``yes``), to lose more (``no``), or neither.
    """
    rows = []
    for cell, runs in frame.groupby(list(CELL), sort=False):
        if len(runs) < 2:
            continue
        results = _results(runs, out)
        row: dict[str, Any] = dict(zip(CELL, cell, strict=True))
        row |= {"seeds": len(runs), "test_n": int(runs["test_n"].iloc[0])}
        row |= {arm: 100 * results.value(arm) for arm in ARMS}
        for a, b in PAIRS:
            found = results.over_runs(a, b)
            name = f"{b}_minus_{a}"
            row[f"{name}_pp"] = found.gap
            row[f"{name}_low_pp"], row[f"{name}_high_pp"] = found.interval
            row[f"{name}_boot_low_pp"], row[f"{name}_boot_high_pp"] = found.crossed_interval
        low, high = row["robust_minus_ptq_ft_low_pp"], row["robust_minus_ptq_ft_high_pp"]
        row["within_margin"] = (
            "yes" if low >= -MARGIN_PP else "no" if high < -MARGIN_PP else "cannot tell"
        )
        rows.append(row)
    return pd.DataFrame(rows)


def _results(runs: pd.DataFrame, out: Path) -> Results:
    """Which examples each arm gets right, over the seeds of a cell."""
    stored = [
        store.read_arrays(out / "runs" / f"{_name(row)}.npz") for row in runs.to_dict("records")
    ]
    correct = {arm: np.stack([arrays[arm] for arrays in stored]) for arm in ARMS}
    return Results(correct, runs=tuple(runs["seed"]))


def cell_sentences(cells: pd.DataFrame) -> str:
    """The table of cells as Markdown: mean difference and interval of each pair, in points."""
    lines = [
        "| data set | network | inputs | seeds | robust - PTQ(float_ft) "
        "| default - PTQ(float_ft) | robust - PTQ(float_ft), same schedule and statistics "
        "| within 0.2 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in cells.to_dict("records"):
        differences = [
            f"{row[f'{b}_minus_{a}_pp']:+.2f} ({row[f'{b}_minus_{a}_low_pp']:+.2f} to "
            f"{row[f'{b}_minus_{a}_high_pp']:+.2f})"
            for a, b in PAIRS
        ]
        words = [row["dataset"], row["model"], row["input_range"], str(row["seeds"])]
        lines.append(f"| {' | '.join([*words, *differences, row['within_margin']])} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison, write its two tables and print that of the cells."""
    parser = argparse.ArgumentParser(prog="python -m qinspect_bench.robust", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("robust"), help="folder of the runs")
    parser.add_argument("--seeds", default=SEEDS, help="training seeds: 0-9 or 0,3,10-12")
    parser.add_argument("--dataset", action="append", choices=DATASETS)
    parser.add_argument("--model", action="append", choices=MODELS)
    parser.add_argument("--input-range", action="append", choices=INPUT_RANGES)
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    given = parser.parse_args(arguments)
    try:
        if given.workers < 1:
            raise SpecError(f"workers is {given.workers}; it must be at least 1.")
        specs = robust_specs(
            parse_seeds(given.seeds), given.dataset or DATASETS, given.model or MODELS,
            given.input_range or INPUT_RANGES,
        )
        frame = run_robust(specs, given.out, given.workers)
        cells = cell_table(frame, given.out)
        store.write_frame(given.out / "cells.csv", cells)
    except QinspectError as error:
        print(error, file=sys.stderr)
        return 2
    print(cell_sentences(cells))
    return 1 if _missing(specs, given.out) else 0


if __name__ == "__main__":
    raise SystemExit(main())
