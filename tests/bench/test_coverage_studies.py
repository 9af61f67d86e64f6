"""Studies of few seeds against the twenty of the shipped sweep."""

from __future__ import annotations

import numpy as np
import pytest

from qinspect.data.shipped import shipped_table
from qinspect_bench.coverage_studies import judged, one_run, tables


def test_made_examples_have_the_gaps_and_intervals_of_the_runs() -> None:
    runs = shipped_table("one_epoch_sweep").query("dataset == 'digits'")
    width = (runs["qat_minus_ptq_high_pp"] - runs["qat_minus_ptq_low_pp"]).to_numpy()
    for table in tables(runs, np.random.default_rng(0)).values():
        assert table.mean(axis=1) == pytest.approx(runs["qat_minus_ptq_pp"].to_numpy())
        ends = 2 * 1.959964 * table.std(axis=1) / np.sqrt(table.shape[1])
        assert ends == pytest.approx(width)


def test_five_seeds_contradict_twenty_in_at_most_five_percent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("qinspect_bench.coverage_studies.DRAWS", 1500)
    runs = shipped_table("one_epoch_sweep").query("dataset == 'digits'")
    assert one_run(runs)["contradicted"] > 0.5
    for table in tables(runs, np.random.default_rng(0)).values():
        found = judged(table, 5, np.random.default_rng(5))
        # Two standard errors of 1,500 draws.
        assert found["contradicted"] < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 1500)
