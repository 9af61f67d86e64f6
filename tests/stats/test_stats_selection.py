"""What is left of a difference that was chosen for being significant, by simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from parts import ROOT

from qinspect.stats import compare_paired, unselected
from qinspect_bench.selection import simulated, to_markdown


def test_it_maximises_the_likelihood_of_what_is_seen_beyond_the_level() -> None:
    from scipy.stats import norm

    true = np.linspace(-1, 6, 7001)
    beyond = norm.sf(1.959964 - true) + norm.cdf(-1.959964 - true)
    for seen in (1.97, 2.2, 3.0, 4.5):
        best = true[np.argmax(norm.logpdf(seen - true) - np.log(beyond))]
        assert unselected(seen, 1.0) == pytest.approx(best, abs=0.002)
        assert unselected(-2 * seen, 2.0) == pytest.approx(-2 * best, abs=0.004)


@pytest.mark.parametrize("true", [1.0, 2.0])
def test_of_chosen_differences_it_is_nearer_to_the_truth(true: float) -> None:
    seen = true + np.random.default_rng(0).normal(size=4000)
    chosen = seen[seen > 1.96]
    shrunk = np.array([unselected(one, 1.0) for one in chosen])
    assert abs(shrunk.mean() - true) < 0.7 * abs(chosen.mean() - true)
    assert (shrunk <= chosen).all()


def test_a_clear_or_an_unchosen_difference_stays() -> None:
    a = np.zeros(400, bool)
    clear = compare_paired(a, np.arange(400) < 60)
    assert clear.unselected == pytest.approx(clear.gap, rel=1e-3)
    none = compare_paired(a, np.arange(400) < 2)
    assert not none.significant
    assert none.unselected == none.gap
    just = compare_paired(a, np.arange(400) < 6)
    assert just.significant
    assert 0 < just.unselected < just.gap


def test_an_idle_remedy_is_seldom_confirmed_of_a_chosen_gap() -> None:
    found = simulated(449, 0.0, chosen=40)
    assert found["shrunk"] < 0.6 * found["seen"]
    assert found["idle"] <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 40)
    stored = pd.read_csv(ROOT / "data" / "selection.csv")
    assert (stored["idle"] <= 0.05).all()
    assert to_markdown(stored) in (ROOT / "docs" / "intervals.md").read_text()
