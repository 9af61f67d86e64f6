"""Coverage of the intervals by exact enumeration, on a small part of the grid in the docs."""


import numpy as np
import pandas as pd
import pytest
from parts import ROOT
from scipy.stats import multinomial

from qinspect.stats import tango_interval
from qinspect_bench.coverage import (
    COLUMNS,
    GRID_DISAGREEMENT,
    GRID_N,
    GRID_SHARE,
    coverage,
    coverage_table,
    outcomes,
    to_markdown,
)


def test_outcomes_are_the_multinomial_distribution():
    a_only, b_only, probability = outcomes(25, 0.3, 0.1)
    cells = np.column_stack([a_only, b_only, 25 - a_only - b_only])
    assert probability == pytest.approx(multinomial.pmf(cells, 25, [0.1, 0.2, 0.7]), rel=1e-9)
    assert probability.sum() == pytest.approx(1, abs=1e-7)


def test_enumeration_equals_counting_the_intervals_themselves():
    n, disagreement, difference = 120, 0.06, 0.03
    a_only, b_only, probability = outcomes(n, disagreement, difference)
    low, high = tango_interval(n, a_only, b_only)
    held = probability[(low <= difference) & (difference <= high)].sum()
    assert coverage(n, disagreement, difference)["tango"] == pytest.approx(held, abs=1e-12)


def test_the_bootstrap_fails_where_few_examples_disagree():
    small = coverage(200, 0.01, 0.004)
    assert small["percentile"] < 0.75
    assert small["bca"] < 0.75
    assert small["tango"] > 0.93


def test_bootstrap_coverage_agrees_with_simulation():
    """Draw studies, resample each, and count: the enumeration without its Fourier transform."""
    n, disagreement, difference, studies = 200, 0.05, 0.02, 1500
    rng = np.random.default_rng(0)
    cells = [0.015, 0.035, 0.95]
    held = 0
    for counts in rng.multinomial(n, cells, size=studies):
        draws = rng.multinomial(n, counts / n, size=1999)
        low, high = np.quantile((draws[:, 1] - draws[:, 0]) / n, [0.025, 0.975])
        held += low - 1e-12 <= difference <= high + 1e-12
    expected = coverage(n, disagreement, difference)["percentile"]
    assert held / studies == pytest.approx(expected, abs=4 * np.sqrt(0.05 * 0.95 / studies))


def test_default_interval_keeps_its_promise_on_part_of_the_grid():
    table = coverage_table((200, 1000), (0.005, 0.02, 0.05), (0, 0.6, 0.8, 1))
    assert table["tango"].min() >= 0.93
    many = table[table["expected_disagreements"] >= 50]
    assert len(many) == 4
    assert many["tango"].between(0.945, 0.965).all()


def test_stored_table_is_the_stated_grid_and_what_the_code_gives():
    stored = pd.read_csv(ROOT / "data" / "interval_coverage.csv")
    assert list(stored.columns) == list(COLUMNS)
    assert len(stored) == len(GRID_N) * len(GRID_DISAGREEMENT) * len(GRID_SHARE)
    assert stored["tango"].min() >= 0.93
    many = stored[stored["expected_disagreements"] >= 50]
    assert many["tango"].between(0.945, 0.965).all()
    rows = stored[(stored["n"] == 1000) & (stored["disagreement"] == 0.02)]
    fresh = coverage_table(ns=(1000,), disagreements=(0.02,))
    for name in ("difference_pp", "percentile", "bca", "tango"):
        assert fresh[name].to_numpy() == pytest.approx(rows[name].to_numpy(), abs=1e-5)


def test_the_documentation_prints_the_stored_table():
    stored = pd.read_csv(ROOT / "data" / "interval_coverage.csv")
    assert to_markdown(stored) in (ROOT / "docs" / "intervals.md").read_text()
