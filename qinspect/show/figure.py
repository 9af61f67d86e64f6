"""A figure: what draws it, the sentence that says the same, a title; it renders itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from qinspect.show.style import figure_of, look, new_axes
from qinspect.show.text import elided, escaped

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Figure:
    """``draw`` takes empty axes; ``sentence`` says what it shows, also to those who cannot see it.

    ``size`` is width and height in inches.
    """

    draw: Callable[[Axes], object]
    sentence: str
    title: str = ""
    size: tuple[float, float] = (7.0, 4.0)

    def about(self, name: str) -> Figure:
        """The same, said to be of one model, layer or file."""
        return replace(self, sentence=f"{name}: {self.sentence}",
                       title=f"{self.title}: {name}" if self.title else name)

    def on(self, ax: Axes) -> Axes:
        """Draw on axes of your own."""
        with look():
            self.draw(ax)
        return ax

    def axes(self) -> Axes:
        """Draw on fresh axes."""
        return self.on(new_axes(*self.size))

    def png(self, dpi: float = 110) -> bytes:
        """The figure as PNG; metadata is left out, so equal data give equal bytes."""
        buffer = io.BytesIO()
        with look():
            figure_of(self.axes()).savefig(buffer, format="png", dpi=dpi, transparent=True,
                                           metadata={"Software": None})
        return buffer.getvalue()

    def data_uri(self, dpi: float = 110) -> str:
        """The PNG as an address that needs no file."""
        return f"data:image/png;base64,{base64.b64encode(self.png(dpi)).decode()}"

    def html(self, dpi: float = 110) -> str:
        """Title, picture and sentence; all escaped."""
        title = f"<h4>{escaped(self.title)}</h4>" if self.title else ""
        said = escaped(self.sentence)
        width = round(100 * self.size[0])
        return (f'<figure class="qi-figure">{title}<img alt="{said}" width="{width}" '
                f'src="{self.data_uri(dpi)}" style="max-width:100%;height:auto">'
                f"<figcaption>{said}</figcaption></figure>")

    def __repr__(self) -> str:
        return f"<Figure: {self.title or elided(self.sentence, 80)}>"

    def _repr_html_(self) -> str:
        return self.html()


def least(frame: pd.DataFrame, column: str) -> dict[Any, Any]:
    """The first row with the least value of ``column``; NaN is passed over."""
    return dict(frame.iloc[int(np.nanargmin(frame[column].to_numpy(dtype=float)))])


def most(frame: pd.DataFrame, column: str) -> dict[Any, Any]:
    """The first row with the greatest value of ``column``; NaN is passed over."""
    return dict(frame.iloc[int(np.nanargmax(frame[column].to_numpy(dtype=float)))])
