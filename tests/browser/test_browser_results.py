"""Results as the last line of a cell: light and dark, live and saved, names as text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lab_browser import ARTIFACTS, BrowserContext, Page, expect, stop_kernels
from show_study import HOSTILE

pytestmark = pytest.mark.slow

CELLS = (
    "from qinspect.studies.stored import load_study\nstudy = load_study({folder!r})\nstudy",
    "from qinspect.diagnosis.cases import case\nfrom qinspect.diagnosis.engine import diagnose\n"
    "diagnosis = diagnose(case(study), interventions=False)\ndiagnosis",
    "study.layers()",
    "study.figure('learning')",
    "from qinspect.show.table import table\n"
    "table('Many', [{{'n': i, 'name': {name!r} + str(i)}} for i in range(60)],\n"
    "      {{'n': 'n', 'name': 'name'}})",
)
# Contrast of a colour with the page behind it.
_CONTRAST = """e => {
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3)
      .map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  let page = e;
  while (/rgba\\(.*, 0\\)|transparent/.test(getComputedStyle(page).backgroundColor))
    page = page.parentElement;
  const ends = [light(getComputedStyle(e).color), light(getComputedStyle(page).backgroundColor)];
  return (Math.max(...ends) + 0.05) / (Math.min(...ends) + 0.05); }"""
_CORNER = """i => { const c = document.createElement('canvas'); c.width = i.naturalWidth;
  c.height = i.naturalHeight; const g = c.getContext('2d'); g.drawImage(i, 0, 0);
  return g.getImageData(1, 1, 1, 1).data[3]; }"""


@pytest.fixture(scope="module")
def results(folder: Path, open_cells: Callable[..., Page]) -> Page:
    cells = [cell.format(folder=str(folder), name=HOSTILE) for cell in CELLS]
    made = open_cells("results", *cells)
    made.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    return made


def set_theme(page: Page, name: str) -> None:
    page.evaluate(
        f"window.jupyterapp.commands.execute('apputils:change-theme', {{theme: '{name}'}})")
    page.wait_for_function(f"document.body.dataset.jpThemeName === '{name}'")


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_results_read_in_both_themes(results: Page, theme: str) -> None:
    set_theme(results, theme)
    results.set_viewport_size({"width": 1024, "height": 7000})
    expect(results.locator(".qi-view")).to_have_count(3)
    for place in (".qi-view h3", ".qi-said", ".qi-table td", ".qi-table th", "figcaption"):
        for found in results.locator(f"{place}:visible").all()[:12]:
            assert found.evaluate(_CONTRAST) > 7, (place, found.inner_text())
    pictures = results.locator("img:visible").all()
    assert len(pictures) >= 6
    for picture in pictures:
        assert picture.evaluate("i => i.complete && i.naturalWidth > 300 && i.alt.length > 30")
        assert picture.evaluate(_CORNER) == 0, "a box behind the figure"
    ARTIFACTS.mkdir(exist_ok=True)
    results.screenshot(path=ARTIFACTS / f"results-{theme.split()[1].lower()}.png")
    assert results.errors == []  # type: ignore[attr-defined]


def test_a_long_table_sorts_and_filters(results: Page) -> None:
    table = results.locator("table.dataTable").last
    expect(table).to_be_visible()
    expect(table.locator("tbody tr")).to_have_count(20)
    for _ in range(2):
        table.locator("thead th").first.click()
    expect(table.locator("tbody tr").first.locator("td").first).to_have_text("59")
    results.locator(".dt-search input").last.fill("XSS=1>7")
    expect(table.locator("tbody tr")).to_have_count(1)
    assert results.evaluate("window.XSS") is None


def test_a_saved_notebook_shows_all_without_a_kernel(
    results: Page, lab: tuple[Path, str, str], chromium: BrowserContext
) -> None:
    _, url, token = lab
    stop_kernels(url, token)
    page = chromium.new_page()
    page.goto(f"{url}/doc/tree/results.ipynb?token={token}&reset")
    expect(page.locator(".qi-view")).to_have_count(3)
    assert page.locator(".qi-view img").count() >= 4
    expect(page.locator(".qi-table").first).to_contain_text("ptq_int8")
    assert page.locator(".qi-table tbody tr").count() > 60
    assert page.evaluate("window.XSS") is None
    assert page.locator('img[src="x"]').count() == 0
    page.close()
