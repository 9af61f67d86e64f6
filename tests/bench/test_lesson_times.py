"""The page with the times of the notebooks: written as it is read, and with a row for each."""

from __future__ import annotations

from parts import ROOT

from qinspect_bench.lesson_times import read_table, table


def test_a_page_is_read_as_it_was_written() -> None:
    rows = {"01_b": (12.0, 30.0), "00_a": (3.0, 4.0)}
    page = table(rows)
    assert read_table(page) == rows
    assert page.index("00_a") < page.index("01_b") < page.index("`all` | 15 | 34 |")


def test_the_page_names_every_notebook_and_none_takes_two_minutes_of_processor() -> None:
    rows = read_table((ROOT / "notebooks" / "TIMES.md").read_text())
    assert set(rows) == {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert max(used for _, used in rows.values()) < 120
