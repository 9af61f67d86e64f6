"""Stored coverage over seeds and of remedies: what is promised, a part again, and the docs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from parts import ROOT

from qinspect_bench import coverage_remedies, coverage_seeds


def stored(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "data" / f"{name}_coverage.csv")


def test_gaussian_seeds_are_covered() -> None:
    found = stored("seed")
    assert found[found["kind"] == "gaussian"]["runs_and_examples"].min() >= 0.935
    assert set(found["seeds"]) == set(coverage_seeds.SEEDS)
    again = coverage_seeds.coverage(coverage_seeds.gaussian(0.0, 0.039), 0.0, 3, 300)
    assert again["runs_and_examples"] > 0.95 - 0.038


def test_smoothed_seeds_keep_mean_and_variance() -> None:
    values = np.array([-0.3, 0.0, 0.1, 0.12])
    drawn = coverage_seeds.drawn(values, smooth=True)(np.random.default_rng(0), (200_000,))
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.002)
    assert drawn.std() == pytest.approx(values.std(), rel=0.01)


def test_remedies_are_covered_and_shams_seldom_confirmed() -> None:
    found = stored("remedy")
    assert found["covered"].min() >= 0.95
    assert found[found["effect"] == 0]["confirmed"].max() <= 0.05
    strong = found[(found["effect"] == 10) & (found["groups"] == 0)]
    assert strong["confirmed"].min() >= 0.89


@pytest.mark.parametrize(("name", "module"), [("seed", coverage_seeds),
                                              ("remedy", coverage_remedies)])
def test_the_documentation_prints_the_stored_tables(name: str, module: object) -> None:
    assert module.to_markdown(stored(name)) in (  # type: ignore[attr-defined]
        ROOT / "docs" / "intervals.md").read_text()
