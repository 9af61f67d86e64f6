"""Grids, keys, records and the finding of a sweep; nothing here trains."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from qinspect.errors import DataError, SpecError, StoreError
from qinspect.show.terminal import print_view
from qinspect.show.view import view_of
from qinspect.stats import wilson_interval
from qinspect.studies.run import load_splits
from qinspect.studies.spec import StudySpec, make_spec
from qinspect.studies.stored import GAPS, Sweep, failed_record, load_sweep, sweep_frame
from qinspect.studies.sweeping import duration, grid, parse_seeds, run_key, run_sweep, sweep


def quiet(*arguments: object) -> None:
    """Say nothing."""


# --- grid ---------------------------------------------------------------------------------------


def test_grid_is_every_combination_in_order() -> None:
    specs = grid("one-epoch", dataset=["digits", "glyphs"], qat_lr=[1e-4, 1e-3], seed=range(3))
    assert [(s.dataset, s.qat_lr, s.seed) for s in specs] == [
        (d, lr, k) for d in ("digits", "glyphs") for lr in (1e-4, 1e-3) for k in range(3)
    ]
    assert all(s.bn_momentum == 0.99 and s.qat_epochs == 1 for s in specs)
    with_base = grid({"preset": "one-epoch", "model": "mlp"}, seed=np.arange(2))
    assert [(s.model, s.seed, s.float_epochs) for s in with_base] == [("mlp", 0, 1), ("mlp", 1, 1)]
    # None is a value of an axis, not "keep the default".
    assert [s.train_size for s in grid({"train_size": 9}, train_size=[None, 5])] == [None, 5]


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"sead": [1]}, "did you mean seed"),
        ({"dataset": "digits"}, "give a list of values"),
        ({"seed": 3}, "give a list of values"),
        ({"seed": []}, "no values"),
        ({"seed": [1, 1]}, "same run twice"),
        ({"seed": [-1]}, "at least 0"),
        ({"recipes": [("int9",)]}, "unknown recipe"),
        ({"split_seed": [-1]}, "at least 0"),
    ],
)
def test_grid_refuses(axes: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        grid(None, **axes)  # type: ignore[arg-type]


def test_seeds_repeat_every_spec_on_shared_test_examples_unless_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run: list[list[StudySpec]] = []
    monkeypatch.setattr("qinspect.studies.sweeping.run_sweep",
                        lambda specs, out, **options: run.append(specs))
    base = make_spec("one-epoch")
    two = grid("one-epoch", model=["mlp", "bn_cnn"])
    sweep("one-epoch", seeds="0-1")
    sweep(two, seeds=[5, 6])
    sweep(base, seeds=[3], new_splits=True)
    sweep(dataclasses.replace(base, split_seed=9), seeds=[3])
    assert run[0] == [dataclasses.replace(base, seed=k, split_seed=0) for k in (0, 1)]
    assert [(s.model, s.seed) for s in run[1]] == [
        ("mlp", 5), ("mlp", 6), ("bn_cnn", 5), ("bn_cnn", 6)]
    assert [s.split_seed for runs in run[2:] for s in runs] == [None, 9]


def test_key_depends_on_every_setting_and_on_nothing_else() -> None:
    base = StudySpec()
    assert run_key(base) == run_key(StudySpec.from_dict(base.to_dict()))
    other = {
        "dataset": "glyphs", "model": "mlp", "input_range": "0-255", "float_epochs": 2,
        "qat_epochs": 2, "float_lr": 0.5, "qat_lr": 0.5, "batch_size": 2, "warm_start": True,
        "freeze_batchnorm": True, "skip_layers": ("a",), "bn_momentum": 0.5,
        "calibration_size": 2, "train_size": 2, "test_size": 2, "margin_pp": 2.0,
        "confidence": 0.8, "seed": 2, "split_seed": 2, "recipes": ("int8",), "loss": "mae",
        "metric": "mae", "output": "0",
    }
    assert set(other) == {field.name for field in dataclasses.fields(StudySpec)}
    changed = [dataclasses.replace(base, **{key: value}) for key, value in other.items()]
    assert len({run_key(spec) for spec in [base, *changed]}) == len(other) + 1


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20, unique=True))
def test_seeds_as_text(seeds: list[int]) -> None:
    assert parse_seeds(",".join(map(str, seeds))) == seeds
    low, high = min(seeds), max(seeds)
    assert parse_seeds(f" {low}-{high}") == list(range(low, high + 1))


@pytest.mark.parametrize("text", ["", "a", "3-1", "1,,2", "1.5", "-3", "0-3,2", "0-9999999", "²"])
def test_seeds_that_are_not(text: str) -> None:
    with pytest.raises(SpecError, match="seeds"):
        parse_seeds(text)


# --- records ------------------------------------------------------------------------------------


def finished(seed: int, gap: float, dataset: str = "digits", **more: object) -> dict[str, object]:
    """A record with the given gap QAT - PTQ and otherwise simple numbers."""
    spec = StudySpec(dataset=dataset, seed=seed, **more)  # type: ignore[arg-type]
    results: dict[str, object] = {"n": 449}
    for name in GAPS:
        results |= {f"{name}_pp": 1.0, f"{name}_low_pp": 0.0, f"{name}_high_pp": 2.0,
                    f"{name}_verdict": "cannot_tell"}
    results |= {"qat_minus_ptq_pp": gap, "qat_minus_ptq_verdict": "qat" if gap > 0 else "ptq_int8"}
    results |= {"part_batchnorm_lag_pp": 0.25, "part_quantization_aware_pp": -0.5,
                "part_training_budget_pp": 0.75}
    return {"key": run_key(spec), "status": "finished", "spec": spec.to_dict(),
            "results": results, "seconds": 1.0, "error": None}


def test_finding_counts_and_measures() -> None:
    gaps = [-3.0, -2.0, -1.0, 0.0, 5.0]
    records = [finished(k, gap) for k, gap in enumerate(gaps)]
    records.append(failed_record("k", StudySpec(seed=9), 1.0, ValueError("out of\nluck")))
    lines = Sweep(sweep_frame(records)).finding
    low, high = (100 * bound for bound in wilson_interval(3, 5))
    assert lines[0] == "digits, bn_cnn: 5 runs, 1 more failed."
    assert lines[1].startswith(
        f"PTQ was ahead of QAT in 3 of 5 runs (60 %, 95 % interval {low:.0f} to {high:.0f} %), "
        "level in 1; in the median PTQ was better by 1.00 points (from QAT better by 5.00 to PTQ "
        "better by 3.00 points)."
    )
    assert (
        "PTQ better in 4, QAT better in 1, them equivalent in 0, no gap seen in 0, "
        "and cannot tell in 0" in lines[1]
    )
    assert "QAT was ahead of the equally trained PTQ in 0 of 5 runs" in lines[-1]
    assert "batch-norm statistics alone, in the median QAT was better by 0.25 points" in lines[-1]
    assert "PTQ trained on was ahead of that PTQ in 5 of 5 runs" in lines[-1]


def test_groups_repeat_one_experiment_and_survive_the_csv(tmp_path: Path) -> None:
    records = [
        finished(seed, 1.0, dataset, warm_start=warm, split_seed=0, recipes=())
        for dataset in ("digits", "glyphs") for warm in (False, True) for seed in range(3)
    ]
    frame = sweep_frame(records)
    names = [name for name, rows in Sweep(frame).experiments.items() if len(rows) == 3]
    assert names == [
        f"{dataset}, bn_cnn, warm_start {warm}"
        for dataset in ("digits", "glyphs") for warm in (False, True)
    ]
    warm = Sweep(frame).where(dataset="glyphs", warm_start=True)
    assert list(warm.experiments) == ["glyphs, bn_cnn"]
    assert len(warm.frame) == 3
    frame.to_csv(tmp_path / "s.csv", index=False)
    assert Sweep(pd.read_csv(tmp_path / "s.csv")).finding == Sweep(frame).finding


def test_whole_numbers_beside_gaps_are_named_as_whole_numbers() -> None:
    frame = sweep_frame([finished(0, 1.0, train_size=200), finished(0, 1.0)])
    names = list(Sweep(frame).experiments)
    assert names == ["digits, bn_cnn, train_size 200", "digits, bn_cnn, train_size default"]


def test_a_sweep_where_everything_failed_has_a_finding_and_prints() -> None:
    hostile = StudySpec(dataset="a/[red]x\x1b[31m.npz")
    failed = Sweep(sweep_frame([failed_record("k", hostile, 1.0, DataError("no such file."))]))
    assert failed.finding[0].endswith("0 runs, 1 more failed.")
    console = Console(record=True, width=200)
    print_view(view_of(failed), console)
    shown = console.export_text()
    assert "no such file." in shown
    assert "\x1b" not in shown
    assert "[red]" in shown
    value = json.loads(json.dumps(failed.to_json(), allow_nan=False))
    assert value["runs"][0]["status"] == "failed"


def test_a_missing_result_is_null_in_json() -> None:
    plain = finished(0, 1.0)
    without = finished(1, 2.0)
    del without["results"]["part_batchnorm_lag_pp"]  # type: ignore[attr-defined]
    frame = sweep_frame([plain, without])
    assert math.isnan(frame["part_batchnorm_lag_pp"][1])
    runs = json.loads(json.dumps(Sweep(frame).to_json(), allow_nan=False))["runs"]
    assert [run["part_batchnorm_lag_pp"] for run in runs] == [0.25, None]


def test_finding_refuses_other_tables() -> None:
    with pytest.raises(DataError, match="no column status"):
        Sweep(pd.DataFrame({"dataset": [1], "model": [1], "seed": [1]})).to_json()
    with pytest.raises(DataError, match="no rows"):
        Sweep(sweep_frame([])).to_json()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1 h 30 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# --- failures, with real processes --------------------------------------------------------------


def test_failures_are_rows_and_are_tried_again(tmp_path: Path) -> None:
    """Runs whose data cannot be read fail before TensorFlow is loaded."""
    missing = str(tmp_path / "missing.npz")
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"not a zip")
    specs = grid({"model": "mlp"}, dataset=[missing, str(broken)], seed=range(2))
    shown: list[tuple[int, int, str]] = []
    out = tmp_path / "sweep"
    frame = run_sweep(
        specs, out, notify=quiet, progress=lambda p, done, total, m: shown.append((done, total, m))
    ).frame
    assert list(frame["status"]) == ["failed"] * 4
    assert frame["error"][0].count("missing.npz") == 1
    assert frame["error"][2].count("broken.npz") == 1
    assert [done for done, _, _ in shown] == [0, 1, 2, 3, 4]
    assert shown[-1][1:] == (4, "4 of 4 runs done, 4 failed")
    assert "left" in shown[1][2]
    assert list(pd.read_csv(out / "sweep.csv")["key"]) == list(frame["key"])
    pd.testing.assert_frame_equal(
        load_sweep(out).frame.sort_values("key", ignore_index=True),
        frame.sort_values("key", ignore_index=True),
    )
    before = {path: path.stat().st_mtime_ns for path in (out / "runs").glob("*.json")}
    run_sweep(specs, out, notify=quiet, progress=quiet, workers=1)
    assert all(path.stat().st_mtime_ns > stamp for path, stamp in before.items())


def test_bad_calls(tmp_path: Path) -> None:
    spec = StudySpec()
    with pytest.raises(SpecError, match="keep is 'none'"):
        run_sweep([spec], tmp_path, keep="none")
    with pytest.raises(SpecError, match="workers is 0"):
        run_sweep([spec], tmp_path, workers=0)
    with pytest.raises(SpecError, match="no runs"):
        run_sweep([], tmp_path)
    with pytest.raises(SpecError, match="same run twice"):
        run_sweep([spec, spec], tmp_path)
    with pytest.raises(StoreError, match="cannot write"):
        run_sweep([spec], tmp_path / "file" / "x" if _touch(tmp_path / "file") else tmp_path)
    with pytest.raises(StoreError, match="not a sweep folder"):
        load_sweep(tmp_path / "nothing")


def _touch(path: Path) -> bool:
    path.write_text("a file, not a folder")
    return True


def test_a_test_part_of_one_group_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    x, y = np.zeros((80, 2, 2, 1), np.float32), np.arange(80) % 2
    np.savez(tmp_path / "d.npz", x=x, y=y, group=np.repeat(np.arange(10), 8))
    with pytest.raises(DataError, match="holds one group"):
        load_splits(StudySpec(dataset=str(tmp_path / "d.npz"), test_size=8))
