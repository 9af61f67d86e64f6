"""The dashboard in a real JupyterLab: every control of every tab is worked in Chromium."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from lab_browser import (
    Page,
    answered,
    changes,
    expect,
    keep_pictures,
    no_alert,
    open_tab,
    press,
    select,
    state,
    type_in,
)
from show_study import HOSTILE

pytestmark = pytest.mark.slow

def button(page: Page, hook: str, title: str) -> Callable[[], object]:
    return lambda: page.locator(f".{hook}").get_by_role("button", name=title).click()


def tick(page: Page, hook: str) -> Callable[[], object]:
    return lambda: page.locator(f".{hook} input[type=checkbox]").click()


def drag(page: Page, place: str, by: int) -> Callable[[], object]:
    """Take something with the mouse and move it, pixels to the right."""

    def act() -> None:
        handle = page.locator(place)
        handle.scroll_into_view_if_needed()
        box = handle.bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + by, y, steps=6)
        page.mouse.up()

    return act


def test_overview(page: Page) -> None:
    for title in ("gap", "size", "learning", "resamples"):
        changes(page, select(page, "qi-over-choice", title), ".qi-over-figure",
                ".qi-over-figure-said")
    assert "float" in state(page.locator(".qi-over-table"))
    keep_pictures(page, "overview")


def test_ranges(page: Page) -> None:
    open_tab(page, "Ranges", ".qi-range-histogram svg")
    figure, said, effect, table = (
        ".qi-range-histogram svg", ".qi-range-histogram .qi-hist-said", ".qi-range-effect",
        ".qi-range-table",
    )
    overview, channels = ".qi-range-overview", ".qi-range-channels"
    changes(page, select(page, "qi-range-layer", "dense"), figure, said, effect, table, overview,
            channels, f"{channels}-said")
    changes(page, select(page, "qi-range-channel", "2"), figure, said, effect, table)
    changes(page, select(page, "qi-range-model", "qat"), figure)
    changes(page, type_in(page, "qi-range-bits", "4"), figure, said, effect, table)
    changes(page, tick(page, "qi-range-symmetric"), figure, said, effect)
    changes(page, select(page, "qi-range-method", "least squared error"), figure, said, effect)
    changes(page, tick(page, "qi-range-log"), figure)
    changes(page, button(page, "qi-range-kind", "activation"), figure, said, effect, table,
            overview, f"{overview}-said")
    upper = ".qi-range-histogram .qi-hist-handle1"
    changes(page, press(page, upper, "PageDown", 3), figure, said, effect)
    expect(page.locator(".qi-range-method option:checked")).to_have_text("by hand")
    changes(page, drag(page, upper, -60), figure, said, effect)
    # The browser works it out while the limit is dragged, the kernel once more: the same numbers.
    browser = page.locator(said).inner_text().strip()
    expect(page.locator(effect)).to_have_text(f"Checked in Python: {browser}")
    keep_pictures(page, "ranges")


def test_errors(page: Page) -> None:
    open_tab(page, "Errors", ".qi-err-histogram")
    figure = (".qi-err-histogram", ".qi-err-histogram-said")
    table = ".qi-err-table"
    # Not the first layer, whose own error is all that has accumulated.
    changes(page, select(page, "qi-err-layer", "$x$"), *figure, table)
    changes(page, select(page, "qi-err-metric", "largest error"), ".qi-err-profile", table)
    changes(page, button(page, "qi-err-reference", "of the layer itself"), *figure, table)
    changes(page, select(page, "qi-err-model", "qat"), *figure, table, ".qi-err-profile-said")
    first = page.locator(".qi-err-layer option").first.inner_text() == "$x$"
    changes(page, press(page, ".qi-err-layer select", "ArrowDown" if first else "ArrowUp"),
            *figure, table)
    keep_pictures(page, "errors")


def test_significance(page: Page) -> None:
    open_tab(page, "Significance", ".qi-sig-figure")
    all_four = (".qi-sig-figure", ".qi-sig-figure-said", ".qi-sig-verdict", ".qi-sig-table")
    changes(page, press(page, ".qi-sig-n .noUi-handle", "ArrowLeft", 4), *all_four)
    assert page.locator(".qi-sig-n .widget-readout").inner_text() == "200"
    changes(page, type_in(page, "qi-sig-draw", "7"), *all_four)
    changes(page, select(page, "qi-sig-confidence", "80 %"), *all_four)
    changes(page, type_in(page, "qi-sig-margin", "5"), ".qi-sig-figure", ".qi-sig-table")
    changes(page, select(page, "qi-sig-a", "float"), *all_four)
    changes(page, select(page, "qi-sig-b", "ptq_int8"), *all_four)
    keep_pictures(page, "significance")
    # An impossible choice is said in the dashboard, and taken back with the next possible one.
    select(page, "qi-sig-b", "float")()
    expect(page.locator(".qinspect-significance-error")).to_contain_text("choose two different")
    changes(page, select(page, "qi-sig-b", "qat"), *all_four)


def test_flips(page: Page) -> None:
    open_tab(page, "Flips", ".qi-flip-table")
    shown = (".qi-flip-said", ".qi-flip-table", ".qi-flip-pictures")
    changes(page, button(page, "qi-flip-which", "only a right"), *shown)
    changes(page, select(page, "qi-flip-a", "float"), *shown)
    assert page.locator(".qi-flip-pictures img").count() == 12
    changes(page, type_in(page, "qi-flip-page", "2"), *shown)
    changes(page, select(page, "qi-flip-b", "ptq_int8"), *shown)
    for picture in page.locator(".qi-flip-pictures img").all():
        assert picture.evaluate("i => i.naturalWidth > 0 && i.alt.length > 20")
    keep_pictures(page, "flips")


def test_observers(page: Page) -> None:
    open_tab(page, "Observers", ".qi-obs-figure")
    shown = (".qi-obs-figure", ".qi-obs-figure-said", ".qi-obs-table")
    changes(page, press(page, ".qi-obs-step .noUi-handle", "ArrowRight", 3), *shown)
    play = page.get_by_role("button", name="play or pause the steps")
    changes(page, play.click, *shown)
    changes(page, select(page, "qi-obs-runs", "warm start"), *shown, ".qi-obs-course")
    layer = page.locator(".qi-obs-layer option:not(:checked)").first.inner_text()
    changes(page, select(page, "qi-obs-layer", layer), ".qi-obs-course-said", ".qi-obs-table")
    page.get_by_role("tab", name="Ranges", exact=True).click()
    expect(page.locator(".qi-range-layer option:checked")).to_have_text(layer)
    page.get_by_role("tab", name="Observers", exact=True).click()
    keep_pictures(page, "observers")


def test_diagnosis(page: Page, folder: Path) -> None:
    open_tab(page, "Diagnosis", ".qi-board-summary")
    causes = page.locator(".qi-board-cause option").all_inner_texts()
    told = json.loads((folder / "diagnosis.json").read_text())["causes"]
    assert len(causes) == len(told)
    without = []
    for title, cause in zip(causes[1:], told[1:], strict=True):
        changes(page, select(page, "qi-board-cause", title), ".qi-board-detail")
        shown = page.locator(".qi-board-measured:visible, .qi-board-evidence:visible")
        if shown.count() == 0 and cause["measures"]:
            without.append(cause["id"])
        for said in page.locator(
            ".qi-board-measured-said:visible, .qi-board-evidence-said:visible"
        ).all_inner_texts():
            assert len(said) > 30
    assert without == []
    stale = next(title for title in causes if "start\xa0value" in title)
    changes(page, select(page, "qi-board-cause", stale), ".qi-board-measured",
            ".qi-board-evidence", ".qi-board-detail")
    keep_pictures(page, "diagnosis")


def test_playground(page: Page) -> None:
    open_tab(page, "Playground", ".qi-play-histogram svg")
    figure, said, table = ".qi-play-figure", ".qi-play-said", ".qi-play-table"
    drawing, under = ".qi-play-histogram svg", ".qi-play-histogram .qi-hist-said"
    everything = (figure, f"{figure}-said", said, table, drawing, under)
    changes(page, select(page, "qi-play-distribution", "normal with outliers"), *everything)
    changes(page, press(page, ".qi-play-count .noUi-handle", "ArrowRight"), *everything)
    changes(page, type_in(page, "qi-play-seed", "3"), *everything)
    changes(page, type_in(page, "qi-play-bits", "3"), *everything)
    changes(page, select(page, "qi-play-method", "percentile"), *everything)
    changes(page, type_in(page, "qi-play-percentile", "95"), *everything)
    changes(page, tick(page, "qi-play-symmetric"), *everything)
    changes(page, tick(page, "qi-play-channel"), figure, said, table)
    changes(page, select(page, "qi-play-method", "k-means levels"), figure, said, table)
    lower = ".qi-play-histogram .qi-hist-handle0"
    changes(page, press(page, lower, "ArrowRight", 5), *everything)
    changes(page, select(page, "qi-play-method", "least squared error"), *everything)
    changes(page, drag(page, lower, -60), *everything)
    keep_pictures(page, "playground")


def test_hostile_name_stays_text(page: Page) -> None:
    page.get_by_role("tab", name="Ranges", exact=True).click()
    select(page, "qi-range-layer", "dense")()
    answered(page)
    changes(page, select(page, "qi-range-layer", HOSTILE), ".qi-range-table")
    assert HOSTILE in page.locator(".qi-range-histogram").evaluate(
        "e => e.querySelector('svg').getAttribute('aria-label')"
    )
    page.get_by_role("tab", name="Errors", exact=True).click()
    expect(page.locator(".qi-err-layer option:checked")).to_have_text(HOSTILE)
    expect(page.locator(".qi-err-histogram-said")).to_contain_text(HOSTILE)
    assert page.evaluate("window.XSS") is None
    assert page.locator('img[src="x"]').count() == 0
    no_alert(page)


def test_every_control_has_an_accessible_name(page: Page) -> None:
    for title in page.locator(".qinspect-dashboard [role=tab]").all_inner_texts():
        page.get_by_role("tab", name=title, exact=True).click()
        nameless = page.locator(".qinspect-dashboard").evaluate(_NAMELESS)
        assert nameless == [], title


_NAMELESS = """root => [...root.querySelectorAll(
    'select, input, button, [role=slider], .noUi-handle, [role=img], img')]
  .filter(e => e.offsetParent !== null || e.ownerSVGElement)
  .filter(e => !(e.labels && [...e.labels].some(l => l.textContent.trim())))
  .filter(e => !['aria-label', 'title', 'alt'].some(a => (e.getAttribute(a) || '').trim()))
  .filter(e => !e.textContent.trim())
  .map(e => e.outerHTML.slice(0, 200))"""
