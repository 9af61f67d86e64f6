"""How Sphinx reads what build.py has laid out; nothing here asks another host for anything."""

from __future__ import annotations

import html
from typing import Any

import latex2mathml.converter
from docutils import nodes
from sphinx.application import Sphinx

project = "qinspect"
author = "The qinspect authors"
project_copyright = author
extensions = ["myst_nb", "sphinx.ext.autodoc", "numpydoc"]

html_theme = "pydata_sphinx_theme"
html_title = "qinspect"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "mathml"
html_sidebars = {"index": []}
html_theme_options = {
    "header_links_before_dropdown": 8,
    "navbar_align": "left",
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}

# Cells are run by build.py.  Pictures and HTML stand for widgets: their manager is on a CDN.
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, dict[str, str]] = {}
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
nb_merge_streams = True
nb_code_prompt_show = "Show what is folded here"
nb_code_prompt_hide = "Hide it"
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
# The README is the first page; links from it to files that are no pages stay as they are.
suppress_warnings = ["myst.xref_missing", "myst.header", "mystnb.unknown_mime_type"]
exclude_patterns = ["README.md"]

toc_object_entries = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False


def _math(visitor: Any, node: nodes.Node, display: str) -> None:
    """A formula as MathML, which browsers draw by themselves."""
    visitor.body.append(latex2mathml.converter.convert(node.astext(), display=display))
    raise nodes.SkipNode


def _inline_math(visitor: Any, node: nodes.Node) -> None:
    _math(visitor, node, "inline")


def _block_math(visitor: Any, node: nodes.Node) -> None:
    visitor.body.append(f'<div class="math" aria-label="{html.escape(node.astext())}">')
    visitor.body.append(latex2mathml.converter.convert(node.astext(), display="block"))
    visitor.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Register the renderer of formulas."""
    app.add_html_math_renderer("mathml", (_inline_math, None), (_block_math, None))
