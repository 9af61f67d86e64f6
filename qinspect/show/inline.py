"""Put a figure and the sentence that says the same into a notebook's output."""

from __future__ import annotations

import html
import io
from typing import TYPE_CHECKING, Any

import pandas as pd

from qinspect.show.plots.style import figure_of
from qinspect.show.study_table import arm_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def png_bytes(ax: Axes, dpi: int = 100) -> bytes:
    """The figure of ``ax`` as PNG; metadata is left out, so equal data give equal bytes."""
    buffer = io.BytesIO()
    figure_of(ax).savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def show_figure(ax: Axes, sentence: str) -> None:
    """Display a figure in a notebook, with its sentence below and as its alternative text.

    Parameters
    ----------
    ax : Axes
        From a function of ``qinspect.show.plots``.
    sentence : str
        What the figure shows.
    """
    import base64

    from IPython.display import HTML, display

    encoded = base64.b64encode(png_bytes(ax)).decode()
    said = html.escape(sentence)
    markup = f'<img alt="{said}" src="data:image/png;base64,{encoded}"><p>{said}</p>'
    display(HTML(markup))


def arm_frame(summary: dict[str, Any]) -> pd.DataFrame:
    """The table of a study as a frame of text, for display in a notebook."""
    return pd.DataFrame(arm_rows(summary)).set_index("arm")


def decomposition_frame(summary: dict[str, Any]) -> pd.DataFrame:
    """The parts of the gap QAT - PTQ and their sum, percentage points."""
    parts = pd.DataFrame(
        [
            {"part": p["title"], "points": p["diff_pp"], "low": p["ci_pp"][0],
             "high": p["ci_pp"][1]}
            for p in summary["decomposition"]
        ]
    ).set_index("part")
    parts.loc["sum: the gap", "points"] = parts["points"].sum()
    return parts.round(2)
