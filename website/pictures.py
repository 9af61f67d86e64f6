"""The README's pictures: a study is made, diagnosed and explored in JupyterLab, and photographed.

``make pictures``, which is ``pytest website/pictures.py``: JupyterLab and Chromium are started by
what the browser tests use.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from lab_browser import Locator, Page, chromium, expect, lab, open_cells  # noqa: F401
from parts import ROOT
from PIL import Image

FOLDER = ROOT / "docs" / "pictures"
LARGEST = 150_000
STUDY = """
import qinspect as qi
study = qi.study("digits", preset="one-epoch", seed=1, repeats=1, recipes=(), out="study")
"""
ANSWER = "found = qi.diagnose(study, training=False)\nfound"
EXPLORE = "qi.explore(found)"
RANGES = "study.layers().figure('ranges of qat')"


def photograph(place: Locator, name: str, height: int = 1000) -> None:
    """Keep the upper part of an element's picture, in few colours so that it stays small."""
    place.scroll_into_view_if_needed()
    image = Image.open(io.BytesIO(place.screenshot())).convert("RGB").quantize(64)
    image = image.crop((0, 0, image.width, min(height, image.height)))
    kept = io.BytesIO()
    image.save(kept, "PNG", optimize=True)
    assert len(kept.getvalue()) < LARGEST, f"{name} has {len(kept.getvalue()):,} bytes"
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.png").write_bytes(kept.getvalue())


@pytest.mark.slow
def test_pictures(open_cells: Callable[..., Page]) -> None:  # noqa: F811
    """Take all three, from one notebook."""
    page = open_cells("pictures", STUDY, ANSWER, RANGES, EXPLORE)
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    figure = cells.nth(2).locator(".qi-figure img").first
    expect(figure).to_be_visible()
    photograph(cells.nth(1).locator(".qi-card"), "answer")
    photograph(figure, "ranges")
    photograph(cells.nth(3).locator(".jupyter-widgets").first, "dashboard", 490)
