"""The reports opened from disk in Chromium with the network off."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab_browser import (
    ARTIFACTS,
    SIZES,
    BrowserContext,
    Page,
    state,
    watch_errors,
)
from report_files import write_reports
from show_study import HOSTILE

pytestmark = pytest.mark.slow

KINDS = ("study", "compare", "diagnose")
PAGES = 3  # of A4
HISTOGRAM, SAID = "#qi-layers-figure svg", "#qi-layers-figure .qi-hist-said"


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_reports(tmp_path_factory.mktemp("reports"))


@pytest.fixture
def open_report(chromium: BrowserContext) -> Iterator[Callable[[Path], Page]]:
    """Open a file; the page has lists ``errors`` and ``asked``, addresses that it requested."""
    pages: list[Page] = []
    chromium.set_offline(True)

    def go(path: Path) -> Page:
        page = chromium.new_page()
        pages.append(page)
        page.errors = watch_errors(page)  # type: ignore[attr-defined]
        page.asked = []  # type: ignore[attr-defined]
        page.on("request", lambda request: page.asked.append(request.url))  # type: ignore[attr-defined]
        page.on("requestfailed", lambda request: page.errors.append(request.url))  # type: ignore[attr-defined]
        page.goto(path.as_uri())
        return page

    yield go
    for page in pages:
        page.close()
    chromium.set_offline(False)


@pytest.mark.parametrize("kind", KINDS)
def test_report_works_offline(
    reports: dict[str, Path], open_report: Callable[[Path], Page], kind: str
) -> None:
    page = open_report(reports[kind])
    figure, said = page.locator(HISTOGRAM), page.locator(SAID)
    handle = page.locator("#qi-layers-figure .qi-hist-handle1")
    handle.scroll_into_view_if_needed()
    handle.focus()
    for key in ("ArrowLeft", "PageDown", "Home", "End"):
        before = state(figure), state(said)
        page.keyboard.press(key)
        assert state(figure) != before[0], key
        assert state(said) != before[1], key
    before = state(figure), state(said)
    page.locator("#qi-layers-kind").select_option("activation")
    page.locator("#qi-layers-layer").select_option("dense")
    assert state(figure) != before[0]
    assert state(said) != before[1]
    page.locator("#qi-layers-layer").select_option(HOSTILE)
    assert HOSTILE in (page.locator("#qi-layers-figure g[role=img]").get_attribute("aria-label"))
    pictures = page.locator("img")
    assert pictures.count() >= (2 if kind == "compare" else 5)
    for picture in pictures.all():
        assert picture.evaluate("i => i.naturalWidth > 300 && i.alt.length > 30")
    assert page.evaluate("window.XSS") is None
    own = reports[kind].as_uri()
    assert [url for url in page.asked if url != own and not url.startswith("data:")] == []
    assert page.errors == []
    ARTIFACTS.mkdir(exist_ok=True)
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, "the page scrolls sideways"
        page.screenshot(path=ARTIFACTS / f"report-{kind}-{width}.png", full_page=True)


@pytest.mark.parametrize("kind", KINDS)
def test_report_prints(
    reports: dict[str, Path], open_report: Callable[[Path], Page], kind: str
) -> None:
    page = open_report(reports[kind])
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 700, "height": 1000})  # A4 without its margins
    for folded in page.locator("details:not([open])").all():
        assert not folded.is_visible()
    opened = page.locator("details").first
    opened.evaluate("e => { e.open = true; }")
    assert opened.is_visible()  # what the reader opened is printed
    opened.evaluate("e => { e.open = false; }")
    assert not page.locator("#qi-layers-kind").is_visible()
    too_wide = page.evaluate(
        """[...document.querySelectorAll('img, svg, table, pre')]
             .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
             .map(e => e.outerHTML.slice(0, 80))"""
    )
    assert too_wide == []
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"report-{kind}-print.png", full_page=True)
    pdf = page.pdf(path=ARTIFACTS / f"report-{kind}.pdf", format="A4", print_background=True)
    assert 1 <= len(re.findall(rb"/Type /Page\b", pdf)) <= PAGES, kind
    assert page.errors == []
