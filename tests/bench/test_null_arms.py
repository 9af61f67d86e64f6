"""The family's decision of the simulation is that of the package; the stored table keeps to it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from parts import ROOT

from qinspect.predictions import Results
from qinspect_bench.null_arms import DRAWS, drawn, found_better, to_markdown

STORED = ROOT / "data" / "null_arms.csv"


def test_one_pair_decides_as_the_whole_family_does() -> None:
    rng, seen = np.random.default_rng(0), set()
    for at, how in enumerate((*DRAWS, *DRAWS)):
        right = drawn(rng, how)[:4]
        right = np.concatenate([right, np.repeat(right[:1], 13, axis=0)])
        right[3, :40] &= at < len(DRAWS)  # one is worse in half of the studies
        family = Results(dict(zip(map(str, range(17)), right, strict=True))).compare(
            reference="0")
        better = any(one.significant for one in family)
        assert found_better(right, True) == better
        seen.add(better)
    assert seen == {False, True}


def test_the_stored_table_keeps_to_5_percent_and_is_printed() -> None:
    stored = pd.read_csv(STORED)
    assert (stored["studies"] >= 2_000).all()
    assert (stored["false_better"] <= 0.05).all()
    assert to_markdown(stored) in (ROOT / "docs" / "intervals.md").read_text()
