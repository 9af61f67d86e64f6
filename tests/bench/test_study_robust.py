"""The comparison of robust QAT with PTQ: its table from known answers, and one real run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parts import need_package

from qinspect import store
from qinspect.studies.spec import StudySpec
from qinspect_bench import robust


def finished(out: Path, specs: list[StudySpec], shares: dict[str, float], n: int = 400) -> None:
    """Write runs with arms that are right on given shares of the examples."""
    store.prepare_folder(out, parts=("runs",))
    for spec in specs:
        rng = np.random.default_rng(spec.seed)
        correct = {arm: rng.random(n) < shares[arm] for arm in robust.ARMS}
        row = {name: getattr(spec, name) for name in (*robust.CELL, "seed")} | {"test_n": n}
        store.write_arrays(out / "runs" / f"{robust.run_key(spec)}.npz", correct)
        store.write_json(out / "runs" / f"{robust.run_key(spec)}.json", row)


def test_the_runs_cover_every_cell_with_every_seed() -> None:
    specs = robust.robust_specs(range(10))
    assert len({robust.run_key(spec) for spec in specs}) == len(specs) == 120
    assert {spec.split_seed for spec in specs} == {0}
    cells = {(spec.dataset, spec.model, spec.input_range) for spec in specs[:12]}
    assert len(cells) == 12
    one = robust.robust_specs([3], ["digits"], ["plain_cnn"], ["0-255"])
    assert [robust.run_key(spec) for spec in one] == ["digits-plain_cnn-0-255-3"]


@pytest.mark.parametrize(("robust_share", "verdict"), [(0.9, "yes"), (0.7, "no")])
def test_the_table_says_what_the_arrays_say(
    robust_share: float, verdict: str, tmp_path: Path
) -> None:
    specs = robust.robust_specs(range(5), ["digits"], ["plain_cnn"])
    shares = {"ptq_ft": 0.8, "ptq_same": 0.8, "default": 0.75, "robust": robust_share}
    finished(tmp_path, specs, shares)
    # Everything is finished, so nothing is trained.
    frame = robust.run_robust(specs, tmp_path)
    assert len(frame) == 10
    cells = robust.cell_table(frame, tmp_path)
    assert cells["seeds"].tolist() == [5, 5]
    assert cells["within_margin"].tolist() == [verdict] * 2
    for row in cells.to_dict("records"):
        arrays = [
            store.read_arrays(tmp_path / "runs" / f"digits-plain_cnn-{row['input_range']}-{s}.npz")
            for s in range(5)
        ]
        for a, b in robust.PAIRS:
            means = [100 * (x[b].mean() - x[a].mean()) for x in arrays]
            name = f"{b}_minus_{a}"
            assert row[f"{name}_pp"] == pytest.approx(np.mean(means))
            assert row[f"{name}_low_pp"] < row[f"{name}_pp"] < row[f"{name}_high_pp"]
    assert robust.cell_sentences(cells).count("\n") == 3
    # Asked for in parts, the table is still of all.
    assert robust.run_robust(specs[:2], tmp_path).equals(frame)


def test_a_cell_with_one_seed_has_no_interval(tmp_path: Path) -> None:
    specs = robust.robust_specs([3], ["digits"], ["plain_cnn"])
    finished(tmp_path, specs, dict.fromkeys(robust.ARMS, 0.5))
    assert robust.cell_table(robust.run_robust(specs, tmp_path), tmp_path).empty


@pytest.mark.parametrize("arguments", [["--workers", "0"], ["--seeds", "9-1"]])
def test_bad_options_are_refused_in_one_sentence(
    arguments: list[str], tmp_path: Path, capsys: Any
) -> None:
    assert robust.main([*arguments, "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1


@pytest.mark.slow
def test_a_run_evaluates_all_arms_on_the_same_examples(tmp_path: Path) -> None:
    need_package("tensorflow_model_optimization")
    spec = robust.robust_specs([100], ["digits"], ["plain_cnn"])[0]
    store.prepare_folder(tmp_path, parts=("runs",))
    row = robust.run_one(spec, str(tmp_path))
    assert "error" not in row
    arrays = store.read_arrays(tmp_path / "runs" / f"{robust.run_key(spec)}.npz")
    assert {len(arrays[arm]) for arm in robust.ARMS} == {row["test_n"]} == {449}
    for a, b in robust.PAIRS:
        difference = row[f"only_{b}_right_vs_{a}"] - row[f"only_{a}_right_vs_{b}"]
        gap = row[f"accuracy_{b}"] - row[f"accuracy_{a}"]
        assert difference / row["test_n"] == pytest.approx(gap)
    assert store.read_json(tmp_path / "runs" / f"{robust.run_key(spec)}.json") == row
