"""The site's own checks: what they find, and that pages built from a notebook pass them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from parts import ROOT, need_package

from qinspect.causes import all_rules

sys.path.insert(0, str(ROOT / "website"))
import check

LOADS = (
    '<script src="https://cdn.example/a.js"></script>',
    '<script>require(["https://cdn.example/a.js"])</script>',
    '<script>import "//cdn.example/a.mjs";</script>',
    '<link rel="stylesheet" href="//cdn.example/a.css">',
    '<img src="http://cdn.example/a.png">',
    '<img srcset="https://cdn.example/a.png 2x">',
    '<iframe src="https://cdn.example/"></iframe>',
    '<svg><use href="https://cdn.example/a.svg#b"></use></svg>',
    '<style>p { background: url( "https://cdn.example/a.png") }</style>',
    '<style>@import "https://cdn.example/a.css";</style>',
    '<p style="background:url(//cdn.example/a.png)">x</p>',
)
STAYS = (
    '<a href="https://example.org/thread/1">a link in text</a>',
    '<link rel="canonical" href="https://example.org/">',
    '<img src="data:image/png;base64,AAAA"><img src="../_images/a.png">',
    "<p>url(https://example.org/a.png), 'https://example.org/a.js'</p>",
    "<script>var said = 'see https://example.org/a.js for more';</script>",
    "<style>/* https://example.org/a.css */ p { background: url(a.png) }</style>",
)
# An executed notebook in small: a formula, a picture, and a widget with what stands for it.
PICTURE = ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJ"
           "RU5ErkJggg==")
OUTPUTS = (
    {"image/png": PICTURE, "text/plain": "a picture"},
    {"application/vnd.jupyter.widget-view+json": {"model_id": "0", "version_major": 2,
                                                  "version_minor": 0},
     "text/html": "<p>the widget, standing still</p>", "text/plain": "Widget"},
)


@pytest.mark.parametrize("text", LOADS)
def test_what_comes_from_another_host_is_found(text: str) -> None:
    elsewhere, _, _ = check.read(text)
    assert len(elsewhere) == 1
    assert "cdn.example" in elsewhere[0]


@pytest.mark.parametrize("text", STAYS)
def test_links_and_own_files_are_no_fault(text: str) -> None:
    assert check.read(text)[0] == []


def test_pictures_count_inside_of_outputs_only() -> None:
    inside = '<div class="cell_output docutils"><div><img src="a.png"></div></div>'
    assert check.read(inside)[1:] == (1, 1)
    assert check.read(f'{inside}<img src="b.png"><svg></svg>')[1:] == (1, 1)


def test_a_notebook_without_outputs_is_a_fault(tmp_path: Path) -> None:
    page = tmp_path / "notebooks" / "a.html"
    page.parent.mkdir()
    page.write_text("<p>nothing</p>")
    assert len(check.faults(tmp_path)) == 2


def test_the_gallery_names_every_thread_that_a_cause_names() -> None:
    said = (ROOT / "docs" / "gallery.md").read_text()
    for rule in all_rules().values():
        for met in rule.met:
            address = met.rpartition(" (")[2].removesuffix(")")
            assert f"({address})" in said, address
    for name in re.findall(r"\(\.\./(notebooks/[\w./]+)\)", said):
        assert (ROOT / name).is_file(), name
    for path in (ROOT / "notebooks" / "gallery").glob("*.ipynb"):
        assert f"gallery/{path.name}" in said


@pytest.mark.slow
def test_pages_ask_nobody(tmp_path: Path) -> None:
    for package in ("nbformat", "sphinx", "myst_nb", "pydata_sphinx_theme", "numpydoc"):
        need_package(package)
    import nbformat
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

    import build
    import execute

    cells = [new_markdown_cell("# Is it so?\n\n$$\\frac{a}{b} < 1$$\n\nand $a^2$"),
             new_code_cell("1", outputs=[new_output("display_data", data=d) for d in OUTPUTS])]
    made = tmp_path / "made.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata={"language_info": {"name": "python"}}), made)
    build.lay_out(tmp_path / "source", dict.fromkeys(execute.notebook_paths(), made))
    build.run_sphinx(tmp_path / "source", tmp_path / "site")
    assert check.faults(tmp_path / "site") == []
    text = (tmp_path / "site" / "notebooks" / "00_start_here.html").read_text()
    assert "<mfrac>" in text
    assert "the widget, standing still" in text
    assert "widget-view" not in text
