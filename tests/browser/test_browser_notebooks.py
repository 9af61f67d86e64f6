"""Three notebooks in a real JupyterLab: run from top to bottom, and their widgets worked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab_browser import (
    BrowserContext,
    Page,
    changes,
    expect,
    no_alert,
    press,
    run_notebook,
    select,
    stop_kernels,
    type_in,
)
from parts import need_package

from qinspect.lab import copy_notebooks

pytestmark = pytest.mark.slow

# Writes a cell as a learner would, runs it, and gives what it says.
_ANSWER = """async ([id, source]) => {
  const app = window.jupyterapp, p = app.shell.currentWidget;
  const at = p.content.widgets.findIndex(cell => cell.model.id === id);
  p.content.activeCellIndex = at;
  p.content.widgets[at].model.sharedModel.setSource(source);
  await app.commands.execute('notebook:run-cell');
  const said = p.content.model.sharedModel.cells[at].outputs;
  return said.map(o => o.data['text/markdown']).join(); }"""


@pytest.fixture(scope="module")
def run(
    lab: tuple[Path, str, str],
    chromium: BrowserContext,
) -> Iterator[Callable[[str], Page]]:
    """Run a notebook of the series as ``qinspect lab`` puts it there."""
    need_package("tensorflow")
    root, url, token = lab
    copy_notebooks(root)
    pages: list[Page] = []

    def go(name: str) -> Page:
        for page in pages:
            page.close()
        stop_kernels(url, token)  # a learner's laptop runs one at a time, too
        pages[:] = [run_notebook(chromium, url, token, name)]
        no_alert(pages[0])
        return pages[0]

    yield go
    for page in pages:
        page.close()
    stop_kernels(url, token)


def test_start_here(run: Callable[[str], Page]) -> None:
    page = run("00_start_here")
    expect(page.locator(".qi-over-figure")).to_be_visible()
    expect(page.locator(".qi-over-table")).to_contain_text("ptq_int8")
    for figure in ("gap", "learning"):
        changes(page, select(page, "qi-over-choice", figure), ".qi-over-figure")
    for answer, said in ((8, "Right."), (12, "Not yet."), (None, "No answer yet.")):
        cell = f'answer = {answer}\nqi.exercises.check("00.2", answer)'
        assert page.evaluate(_ANSWER, ["c19bx", cell]).startswith(said)


def test_ptq(run: Callable[[str], Page]) -> None:
    page = run("03_ptq")
    expect(page.locator(".qi-range-table")).to_be_visible()
    layers = page.locator(".qi-range-layer option").all_inner_texts()
    changes(
        page, select(page, "qi-range-layer", layers[1]), ".qi-range-table", ".qi-range-effect",
        ".qi-range-histogram",
    )
    changes(page, type_in(page, "qi-range-bits", "4"), ".qi-range-effect", ".qi-range-table")


def test_is_it_real(run: Callable[[str], Page]) -> None:
    page = run("07_is_it_real")
    expect(page.locator(".qi-sig-figure")).to_be_visible()
    shown = (".qi-sig-figure", ".qi-sig-verdict", ".qi-sig-table")
    changes(page, select(page, "qi-sig-a", "float"), *shown)
    changes(page, press(page, ".qi-sig-n .noUi-handle", "ArrowLeft", 5), *shown)
    changes(page, type_in(page, "qi-sig-draw", "7"), *shown)
