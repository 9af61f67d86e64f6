"""Coverage over groups by simulation: the stored table, a small part of it again, and the docs."""

import numpy as np
import pandas as pd
import pytest
from parts import ROOT

from qinspect.stats import compare_paired, wilson_interval
from qinspect_bench.coverage_groups import (
    FOUND,
    GRID,
    MARGIN,
    Setting,
    drawn,
    found,
    simulated,
    to_markdown,
)

STORED = ROOT / "data" / "group_coverage.csv"
HARD = Setting(20, 200, True, 0.012, 0.01, 0.2)


def test_draws_have_the_stated_shares_and_correlation():
    setting = Setting(4, 50, False, 0.3, 0.1, 0.2)
    sizes, a_only, b_only = drawn(setting, 20_000, np.random.default_rng(0))
    assert (a_only + b_only <= sizes).all()
    assert (a_only / sizes).mean() == pytest.approx(0.1, abs=0.003)
    assert (b_only / sizes).mean() == pytest.approx(0.2, abs=0.003)
    # Variance of a mean of m alike examples: p (1 - p) (1 + (m - 1) correlation) / m.
    expected = 0.2 * 0.8 * (1 + 49 * 0.2) / 50
    assert (b_only / sizes).var() == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("setting", [HARD, Setting(50, 20, False, 0.1, 0.0, 0.05)])
def test_studies_are_counted_as_the_comparison_counts_them(setting):
    sizes, a_only, b_only = drawn(setting, 6, np.random.default_rng(1))
    counted = found(setting, sizes, a_only, b_only)
    truth = 100 * setting.difference
    for at, (size, of_a, of_b) in enumerate(zip(sizes, a_only, b_only, strict=True)):
        groups = np.repeat(np.arange(setting.groups), size)
        place = np.arange(len(groups)) - np.repeat(np.cumsum(size) - size, size)
        a, b = place < of_a[groups], (place >= of_a[groups]) & (place < (of_a + of_b)[groups])
        c = compare_paired(a, b, groups=groups)
        assert counted["gap"][at] == (c.interval[0] <= truth <= c.interval[1])
        assert counted["equivalent"][at] == (c.equivalence_p <= 0.05)
        low, high = c.interval_b
        share = (setting.disagreement + setting.difference) / 2
        assert counted["share"][at] == (low <= share <= high)


def test_hard_rows_are_covered_where_they_were_not():
    again = simulated(HARD, studies=4000)
    assert again["before"] < 0.85
    assert again["gap"] > 0.95
    assert again["equivalent"] < 0.055


def test_the_stored_table_is_the_grid_and_keeps_its_promise():
    stored = pd.read_csv(STORED)
    assert list(stored.columns) == [*Setting._fields, *FOUND]
    assert sorted(map(tuple, stored[list(Setting._fields)].to_numpy().tolist())) == sorted(
        tuple(map(float, setting)) for setting in GRID)
    assert stored["gap"].min() >= 0.935
    assert stored[stored["difference"] >= MARGIN]["equivalent"].max() <= 0.055
    setting = GRID[0]
    row = stored.iloc[0]
    assert simulated(setting) == pytest.approx({name: row[name] for name in FOUND}, rel=1e-4)


def test_the_least_covered_share_is_wilsons_own_flaw():
    """Ten groups whose examples are nearly alike are ten examples, of which 1.1 % are a hit."""
    low, _ = wilson_interval(1, 10)
    assert low > 0.011
    alone = 0.989**10
    stored = pd.read_csv(STORED)
    assert stored["share"].min() == pytest.approx(alone, abs=0.03)


def test_the_documentation_prints_the_stored_table():
    assert to_markdown(pd.read_csv(STORED)) in (ROOT / "docs" / "intervals.md").read_text()
