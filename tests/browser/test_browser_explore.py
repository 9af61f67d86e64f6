"""The dashboard of loose files in a real JupyterLab: what is missing is made, one choice rules."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable

import pytest
from lab_browser import (
    Page,
    answered,
    changes,
    chromium,  # noqa: F401
    expect,
    keep_pictures,
    lab,  # noqa: F401
    no_alert,
    open_cells,  # noqa: F401
    open_tab,
    press,
    select,
)
from show_study import HOSTILE, write_study

pytestmark = pytest.mark.slow

# Names of the float network's layers, as the chart shows them.
CHOSEN = ".qi-range-overview svg"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, open_cells: Callable[..., Page]) -> Page:  # noqa: F811
    folder = tmp_path_factory.mktemp("explore")
    study = write_study(folder / "study", n=400)
    (folder / "loose").mkdir()
    for role, arm in (("float", "float"), ("ptq", "ptq_int8"), ("qat", "qat")):
        shutil.copy(study.file(arm), folder / "loose" / f"{role}.tflite")
    shutil.copy(folder / "study" / "data.npz", folder / "loose" / "eval.npz")
    return open_cells("explore", f"import qinspect as qi\nqi.explore({str(folder / 'loose')!r})")


def theme(page: Page, name: str) -> None:
    page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme',"
                  " {theme: name})", name)
    page.wait_for_timeout(500)


def test_the_files_are_run_unasked(page: Page) -> None:
    accuracies = page.locator(".qi-over-table").first
    expect(accuracies).to_contain_text("accuracy", timeout=60_000)
    expect(accuracies).to_contain_text("ptq")
    no_alert(page)
    keep_pictures(page, "loose-overview")


def test_the_diagnosis_runs_while_other_controls_answer(page: Page) -> None:
    open_tab(page, "Diagnosis", ".qi-make-start")
    select(page, "qi-make-remedies", "none: the evidence alone")()
    page.get_by_role("button", name="Run the diagnosis").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".qi-make-said")).to_contain_text("Stopped", timeout=60_000)
    page.get_by_role("button", name="Run the diagnosis").click()
    expect(page.locator(".qi-make-said")).to_contain_text("evidence, ")
    # Another tab is worked meanwhile.
    open_tab(page, "Playground", ".qi-play-histogram svg")
    changes(page, press(page, ".qi-play-histogram .qi-hist-handle0", "ArrowRight", 5),
            ".qi-play-said")
    page.get_by_role("tab", name="Diagnosis", exact=True).click()
    expect(page.locator(".qi-board-summary")).to_be_visible(timeout=120_000)
    no_alert(page)
    keep_pictures(page, "loose-diagnosis")


def test_measured_layers_fill_both_tabs(page: Page) -> None:
    open_tab(page, "Errors", ".qi-make-start")
    open_tab(page, "Ranges", ".qi-make-start")
    page.get_by_role("button", name="Measure the layers").last.click()
    expect(page.locator(CHOSEN)).to_be_visible(timeout=60_000)
    open_tab(page, "Errors", ".qi-err-profile svg")
    keep_pictures(page, "loose-errors")


def test_a_layer_chosen_in_one_tab_is_chosen_in_the_others(page: Page) -> None:
    open_tab(page, "Errors", ".qi-err-profile svg")
    chart = page.locator(".qi-err-profile svg")
    changes(page, press(page, ".qi-err-profile svg", "Home"), ".qi-err-histogram", ".qi-err-table")
    expect(chart).to_have_attribute("aria-valuetext", valued(HOSTILE))
    expect(page.locator(".qi-err-layer option:checked")).to_have_text(HOSTILE)
    open_tab(page, "Ranges", CHOSEN)
    expect(page.locator(".qi-range-layer option:checked")).to_have_text(HOSTILE)
    expect(page.locator(CHOSEN)).to_have_attribute("aria-valuetext", valued(HOSTILE))
    changes(page, click_item(page, CHOSEN, 2, of=3), ".qi-range-histogram svg", ".qi-range-table")
    chosen = page.locator(".qi-range-layer option:checked").inner_text()
    assert chosen != HOSTILE
    open_tab(page, "Errors", ".qi-err-profile svg")
    expect(page.locator(".qi-err-layer option:checked")).to_have_text(chosen)
    expect(chart).to_have_attribute("aria-valuetext", valued(chosen))
    # A softmax has no weights: the ranges turn to activations.
    changes(page, select(page, "qi-err-layer", "softmax"), ".qi-err-histogram")
    open_tab(page, "Ranges", CHOSEN)
    expect(page.locator(".qi-range-layer option:checked")).to_have_text("softmax")
    no_alert(page)


def test_a_channel_is_chosen_in_the_picture(page: Page) -> None:
    open_tab(page, "Ranges", CHOSEN)
    changes(page, lambda: page.locator(".qi-range-kind").get_by_role(
        "button", name="weight").click(), ".qi-range-histogram svg")
    # The small net's convolution has six channels.
    expect(page.locator(".qi-range-channels svg")).to_have_attribute("aria-valuemax", "6")
    changes(page, press(page, ".qi-range-channels svg", "ArrowRight", 2),
            ".qi-range-histogram svg", ".qi-range-table")
    expect(page.locator(".qi-range-channel option:checked")).to_have_text("1")
    keep_pictures(page, "loose-ranges")


def test_hover_names_and_the_wheel_looks_closer(page: Page) -> None:
    open_tab(page, "Errors", ".qi-err-profile svg")
    told = page.locator(".qi-err-profile .qi-chart-told")
    page.locator(".qi-err-profile svg").scroll_into_view_if_needed()
    box = page.locator(".qi-err-profile svg").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 70, box["y"] + 100)
    expect(told).to_contain_text(HOSTILE)
    expect(told).to_contain_text("dB")
    page.locator(".qi-err-profile svg").press("+")
    expect(told).to_contain_text("shown)")
    page.locator(".qi-err-profile svg").press("0")
    expect(told).not_to_contain_text("shown)")


def test_thresholds_filter_the_table_and_say_how_many(page: Page) -> None:
    open_tab(page, "Errors", ".qi-err-profile svg")
    count = page.locator(".qi-err-count")
    every = count.inner_text()
    changes(page, press(page, ".qi-err-least .noUi-handle", "ArrowRight", 5), ".qi-err-count",
            ".qi-err-profile svg")
    assert "error above" in count.inner_text()
    rows = page.locator(".qi-err-table tbody tr").count()
    assert count.inner_text().startswith(f"{rows} of ")
    press(page, ".qi-err-least .noUi-handle", "Home")()
    expect(count).to_have_text(every)
    no_alert(page)


def test_an_example_chosen_among_the_flips_is_shown_alone(page: Page) -> None:
    open_tab(page, "Flips", ".qi-flip-table")
    first = page.locator(".qi-flip-example option").first.inner_text()
    changes(page, select(page, "qi-flip-example", first), ".qi-flip-table")
    open_tab(page, "Examples", ".qi-one-table")
    expect(page.locator(".qi-one-table")).to_contain_text(first)
    keep_pictures(page, "loose-example")


@pytest.mark.parametrize("name", ["JupyterLab Dark", "JupyterLab Light"])
def test_titles_of_tabs_are_whole_and_type_is_legible(page: Page, name: str) -> None:
    theme(page, name)
    page.set_viewport_size({"width": 1024, "height": 768})
    page.wait_for_timeout(300)
    assert page.locator(".qinspect-dashboard").evaluate(_CUT) == []
    for title in page.locator(".qinspect-dashboard [role=tab]").all_inner_texts():
        page.get_by_role("tab", name=title, exact=True).click()
        answered(page)
        assert page.locator(".qinspect-dashboard").evaluate(_SMALL) == [], title
        keep_pictures(page, f"{name.split()[1].lower()}-{title.lower()}")


def click_item(page: Page, place: str, at: int, of: int) -> Callable[[], object]:
    """Click on one of the items of a chart."""

    def act() -> None:
        page.locator(place).scroll_into_view_if_needed()
        box = page.locator(place).bounding_box()
        assert box is not None
        left, right = 62, 12
        x = left + (box["width"] - left - right) * (at + 0.5) / of
        page.mouse.click(box["x"] + x, box["y"] + 120)

    return act


def valued(name: str) -> re.Pattern[str]:
    return re.compile(f"^{re.escape(name)}: ")


_CUT = """root => [...root.querySelectorAll('.lm-TabBar-tabLabel')]
  .filter(e => e.scrollWidth > e.clientWidth + 1 || e.offsetWidth > e.parentElement.offsetWidth)
  .map(e => e.textContent)"""
# Size as painted: a drawing may be scaled.
_SMALL = """root => [...root.querySelectorAll('*')]
  .filter(e => e.offsetParent !== null || e.ownerSVGElement?.parentElement?.offsetParent)
  .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
  .map(e => [e, parseFloat(getComputedStyle(e).fontSize) * (e.getScreenCTM ? Math.hypot(
    e.getScreenCTM().a, e.getScreenCTM().b) : 1)])
  .filter(([e, size]) => size < 11).map(([e, size]) => `${size}: ${e.textContent.slice(0, 40)}`)"""
