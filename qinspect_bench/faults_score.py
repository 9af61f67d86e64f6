"""Scores of the fault benchmark: confusion matrix, shares with Wilson intervals, misses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from qinspect.show.figure import Figure
from qinspect.show.style import row_height
from qinspect.stats import wilson_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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


def confusion_figure(counts: pd.DataFrame) -> Figure:
    """Injected cause against answer: shares of a row, the counts written in."""
    truths = sorted(set(counts["truth"]), key=lambda name: (name.startswith("none"), name))
    given = set(counts["answer"])
    # In one order, so that right answers lie on the diagonal.
    answers = [name for name in truths if name in given] + sorted(given - set(truths))
    table = counts.pivot_table(index="truth", columns="answer", values="cases", aggfunc="sum")
    table = table.reindex(index=truths, columns=answers).fillna(0).astype(int)

    def draw(ax: Axes) -> None:
        import seaborn as sns

        shares = table.div(table.sum(axis=1), axis=0)
        sns.heatmap(shares, annot=table.where(table > 0, "").astype(str), fmt="", cmap="Blues",
                    vmin=0, vmax=1, cbar=False, ax=ax, xticklabels=True, yticklabels=True)
        ax.set_xlabel("answer")
        ax.set_ylabel("injected")

    wrong = [f"{row['truth']} answered as {row['answer']} ({row['cases']})"
             for row in counts.to_dict("records")
             if row["truth"] != row["answer"] and not row["truth"].startswith("none")]
    said = f"{table.to_numpy().sum()} cases of {len(truths)} truths."
    said += f" Taken for something else: {'; '.join(wrong)}." if wrong else ""
    return Figure(draw, said, "Answers to known faults",
                  (row_height(len(answers), 0.36, 3.4), row_height(len(truths), 0.3, 2.4)))
