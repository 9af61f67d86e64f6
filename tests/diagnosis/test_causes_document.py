"""The document of the causes: public threads, and scores from the benchmark's rows."""

from __future__ import annotations

import re
import sys
from itertools import product
from pathlib import Path

import pandas as pd
import pytest

from qinspect.causes import all_rules
from qinspect.causes.__main__ import document, main
from qinspect.diagnosis.rule import Rule
from qinspect_bench.benchmark import GIVEN, HALVES, by_cause
from qinspect_bench.faults import FAULTS, NOT_INJECTED


@pytest.mark.parametrize("rule", all_rules().values(), ids=lambda rule: rule.id)
def test_a_thread_is_a_short_fact_with_its_address(rule: Rule) -> None:
    assert len(rule.met) <= 2
    for met in rule.met:
        fact, _, address = met.rpartition(" (")
        assert 20 <= len(fact) <= 120
        assert re.fullmatch(r"https://[\w.]+/[\w./-]+/\d+\)", address)


def sections(text: str) -> dict[str, str]:
    """Text by id of the cause, on one line each."""
    parts = text.split("\n## ")[1:]
    return {part.split("\n", 1)[0]: " ".join(part.split()) for part in parts}


def some_rows() -> pd.DataFrame:
    """Two causes at every setting, right where a rule by the number of the row says so."""
    settings = product(("argmax-ties", "undertrained"), HALVES, GIVEN, ("opened", "silent"), "ab")
    rows = pd.DataFrame(settings, columns=["truth", "half", "given", "status", "network"])
    rows["kind"], rows["right"] = "single", rows.index % 3 > 0
    rows["outcome"] = ["right" if right else "wrong, proved" for right in rows["right"]]
    pair = {"kind": "pair", "truth": "argmax-ties+undertrained", "right": False, "half": "scored",
            "given": "all", "status": "opened", "network": "a", "outcome": "wrong, proved"}
    return pd.concat([rows, pd.DataFrame([pair])], ignore_index=True)


def test_scores_are_those_of_the_benchmark() -> None:
    rows = some_rows()
    found = sections(document(rows, NOT_INJECTED))
    for given, title in (("all", "everything given"), ("files", "files only")):
        for row in by_cause(rows[rows["given"] == given]).to_dict("records"):
            right, opened = (sum(row[f"{half}_{what}"] for half in HALVES)
                             for what in ("right", "opened"))
            said = (f"with {title} {right} of {opened} "
                    f"(networks held out {row['scored_right']} of {row['scored_opened']})")
            assert said in found[row["truth"]]
    # By hand: rows 0, 3, ..., 15 of the first sixteen are wrong.
    assert "wrong and proved in 6 of all 16 diagnoses." in found["argmax-ties"]


def test_a_cause_without_rows_says_why() -> None:
    found = sections(document(some_rows(), NOT_INJECTED))
    for cause, why in NOT_INJECTED.items():
        assert found[cause].endswith(f"Not in the fault benchmark: {why}.")
    assert found["swapped-roles"].endswith(
        "No public thread is known to us. Not in the fault benchmark.")
    assert set(found) == set(FAULTS) | set(NOT_INJECTED)
    assert "right first where it opened a gap" not in document()


def told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
         *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["causes", *arguments])
    code = main()
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_rows_are_read_from_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, path = some_rows(), tmp_path / "rows.csv"
    rows.to_csv(path, index=False)
    assert told(capsys, monkeypatch, str(path), "qinspect_bench.faults:NOT_INJECTED") == (
        0, document(rows, NOT_INJECTED), "")
    rows.drop(columns="given").to_csv(path, index=False)
    for arguments, words in (
        ([str(path)], "has no column given"), ([str(tmp_path / "none.csv")], "cannot read"),
        ([str(tmp_path)], "cannot read"), ([], ""),
    ):
        code, out, error = told(capsys, monkeypatch, *arguments)
        assert (code, bool(out)) == ((2, False) if words else (0, True))
        assert words in error
        assert error.count("\n") == bool(words)


def test_one_cause_is_told_by_its_id(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the card names works without a checkout."""
    for rule in all_rules().values():
        code, out, error = told(capsys, monkeypatch, rule.id)
        assert (code, error, out.count("\n## ")) == (0, "", 0)
        assert out.startswith(f"## {rule.id}\n")
        assert rule.code in out
    code, out, error = told(capsys, monkeypatch, "stale-observer")
    assert (code, out) == (2, "")
    assert "did you mean stale-observers" in error
