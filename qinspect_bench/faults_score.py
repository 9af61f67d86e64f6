"""Scores of the fault benchmark: confusion matrix, shares with Wilson intervals, misses."""

from __future__ import annotations

from typing import Any

import pandas as pd

from qinspect.stats import wilson_interval

# One row a truth and an answer.
CONFUSION = ("half", "truth", "answer", "cases")
# What the benchmark is held to, shares.
TARGETS = {"top-1": 0.95, "pairs": 0.80, "false alarms": 0.05}


def confusion(rows: pd.DataFrame) -> pd.DataFrame:
    """Counts of answers to each truth.

    Parameters
    ----------
    rows : DataFrame
        ``faults.ROW``.

    Returns
    -------
    DataFrame
        Columns :data:`CONFUSION`; single causes that opened a gap under their own name, those
        that did not as ``none (silent fault)``, and healthy controls as ``none (healthy)``.
    """
    shown = rows[rows["kind"].isin(["single", "control"]) & (rows["status"] != "other gap")]
    truth = shown["truth"].where(shown["status"] == "opened", "none (silent fault)")
    truth = truth.where(shown["kind"] == "single", "none (healthy)")
    counted = shown.assign(truth=truth).groupby(["half", "truth", "answer"], sort=True).size()
    return counted.rename("cases").reset_index()[list(CONFUSION)]


def scores(rows: pd.DataFrame) -> pd.DataFrame:
    """Shares by half, with what they are shares of.

    Returns
    -------
    DataFrame
        ``half``, ``score``, ``hits``, ``n``, ``share``, ``low``, ``high`` (Wilson, 95 %).
    """
    found = []
    for half in ("calibration", "scored"):
        part = rows[rows["half"] == half]
        single = part[part["kind"] == "single"]
        opened, silent = (single[single["status"] == s] for s in ("opened", "silent"))
        pairs, healthy = (part[part["kind"] == kind] for kind in ("pair", "control"))
        pair_gap = pairs[pairs["status"] == "opened"]
        counted = {
            "top-1": opened["right"],
            "top-1, silent faults included": pd.concat([opened["right"], silent["right"]]),
            "silent faults: no cause claimed": silent["right"],
            "silent faults: noticed all the same": silent["noticed"],
            "cause among those named": opened["noticed"],
            "proved by intervention": opened["proved"] & opened["right"],
            "pairs": pairs["right"],
            "pairs: primary is one of the two": pd.Series(
                [a in t.split("+") for a, t in zip(pair_gap["answer"], pair_gap["truth"],
                                                   strict=True)], dtype=bool),
            "false alarms": ~healthy["right"].astype(bool),
        }
        found += [_share(half, name, values) for name, values in counted.items()]
    return pd.DataFrame(found)


def _share(half: str, name: str, values: pd.Series) -> dict[str, Any]:
    hits, n = int(values.astype(bool).sum()), len(values)
    low, high = wilson_interval(hits, n) if n else (float("nan"), float("nan"))
    share = hits / n if n else float("nan")
    return {"half": half, "score": name, "hits": hits, "n": n, "share": share, "low": low,
            "high": high}


def by_cause(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a cause and strength: settings, how many opened a gap, right answers in each half."""
    single = rows[rows["kind"] == "single"]
    found = []
    for (truth, strength), part in single.groupby(["truth", "strength"], sort=True):
        row: dict[str, Any] = {"truth": truth, "strength": strength, "settings": len(part)}
        for half in ("calibration", "scored"):
            here = part[part["half"] == half]
            opened = here[here["status"] == "opened"]
            row[f"{half}_opened"] = len(opened)
            row[f"{half}_right"] = int(opened["right"].astype(bool).sum())
            row[f"{half}_silent"] = int((here["status"] == "silent").sum())
        found.append(row)
    return pd.DataFrame(found)


def misses(rows: pd.DataFrame, half: str) -> list[str]:
    """One line for each wrong answer: what was injected, what came out, and why."""
    wrong = rows[(rows["half"] == half) & ~rows["right"].astype(bool)]
    return [
        f"{r['key']} ({r['dataset']}, {r['status']}): answered {r['answer']}; named: "
        f"{r['named'] or 'nothing'}. {r['summary']}"
        for r in wrong.sort_values("key").to_dict("records")
    ]
