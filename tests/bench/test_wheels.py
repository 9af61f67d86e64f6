"""The table of wheels: what pip says is read, and who has none is told from who has old ones."""

from __future__ import annotations

from packaging.specifiers import SpecifierSet
from parts import ROOT

from qinspect.workshop import Target
from qinspect_bench.wheels import PACKAGES, PLATFORMS, PYTHONS, cell, newest, table


def test_the_newest_that_is_asked_for() -> None:
    asked = SpecifierSet(">=2.1,<3")
    assert newest(["3.0", "2.9", "2.1"], asked) == "2.9"
    assert newest(["1.4.0", "1.3.0"], asked) == "– (1.4.0)"
    assert newest([], asked) == "–"


def test_cells_name_python_where_it_matters() -> None:
    assert cell({"3.11": "2.1", "3.12": "2.1", "3.13": "2.1"}) == "2.1"
    assert cell({"3.11": "2.1", "3.12": "–"}) == "3.11: 2.1, 3.12: –"


def test_every_package_is_asked_once_for_each_target() -> None:
    asked: list[tuple[str, Target]] = []

    def ask(package: str, target: Target) -> list[str]:
        asked.append((package, target))
        return ["99.0"] if target.platform == "win_amd64" else []

    rows = [line.split(" | ") for line in table(ask).splitlines() if line.startswith("| ")]
    assert len(asked) == len(set(asked)) == len(PACKAGES) * len(PLATFORMS) * len(PYTHONS)
    assert len(rows) == 1 + len(PACKAGES)
    assert {len(row) for row in rows} == {2 + len(PLATFORMS)}


def test_the_page_has_a_row_for_each_package() -> None:
    page = (ROOT / "docs" / "platforms.md").read_text(encoding="utf-8")
    assert [name for name in PACKAGES if f"\n| {name} | " not in page] == []
    assert "| " + " | ".join(("package", "asked for", *PLATFORMS)) + " |" in page
