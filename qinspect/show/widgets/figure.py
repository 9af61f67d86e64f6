"""What a widget draws: a matplotlib figure that is redrawn while a slider moves, and a histogram
that is drawn in the browser.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets as widgets
import numpy as np
import traitlets
from PIL import Image

from qinspect.show.style import figure_of, look, new_axes
from qinspect.show.text import escaped
from qinspect.show.view import script
from qinspect.show.widgets.base import hooked, sentence

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from qinspect.show.figure import Figure

_DPI = 96
_PAD = 6.0  # pixels around everything
_FRAMES = 16  # pictures of axes kept, about 1 MB each


class ClipHistogram(anywidget.AnyWidget):
    """Histogram with two limits; what they do to the first series is worked out in the browser.

    ``series`` and ``marks`` (stored ranges: name, colour, low, high) as made in
    ``show/histograms.py``; ``clip``: lower <= 0 <= upper.
    """

    _esm = script("drawing.js", "histogram.js")
    series: Any = traitlets.List().tag(sync=True)
    marks: Any = traitlets.List().tag(sync=True)
    clip: Any = traitlets.List(default_value=[-1.0, 1.0]).tag(sync=True)
    bits = traitlets.Int(8).tag(sync=True)
    symmetric = traitlets.Bool(False).tag(sync=True)
    log = traitlets.Bool(False).tag(sync=True)
    title = traitlets.Unicode("values").tag(sync=True)
    unit = traitlets.Unicode("value").tag(sync=True)


class FigureView(widgets.VBox):
    """A figure as an image, and the sentence that says the same.

    The matplotlib figure is made once, ``width`` and ``height`` in inches.  Axis, labels and legend
    are most of the work of a redraw and come back: they are kept as pictures, over which the data
    are drawn anew.  ``hook`` is the CSS class of the image, ``hook``-said that of the sentence.
    """

    def __init__(self, width: float, height: float, hook: str) -> None:
        self._ax = new_axes(width, height)
        self._figure = figure_of(self._ax)
        self._figure.set_layout_engine("none")
        self._figure.set_dpi(_DPI)
        self._canvas: Any = self._figure.canvas
        self._layout: Hashable = None
        self._frames: dict[Hashable, Any] = {}
        shape = {"max_width": "100%", "align_self": "flex-start"}
        self.image = hooked(widgets.Image(format="png", layout=shape), hook)
        self.sentence = hooked(widgets.HTML(), f"{hook}-said")
        self._said = ""
        super().__init__([self.image, self.sentence])

    @property
    def axes(self) -> Axes:
        """Axes as last drawn."""
        return self._ax

    def show(self, figure: Figure, *, layout: Hashable) -> None:
        """Redraw; while ``layout``, such as the names along an axis, stays the same, so do the
        margins and the height.
        """
        changed = layout != self._layout
        self._layout = None  # what fails below leaves axes that cannot be built upon
        with look():
            if changed:
                self._figure.set_figheight(figure.size[1])
                self._ax.clear()
            else:
                _wipe(self._ax)
            figure.draw(self._ax)
            if changed:
                self._fit()
                self._frames.clear()
            self._paint()
        self.image.value = self._png()
        self._layout = layout
        self._said = figure.sentence
        self.sentence.value = sentence(figure.sentence)

    def still(self) -> str:
        """The figure as it stands, for pages without a kernel."""
        encoded = base64.b64encode(bytes(self.image.value)).decode()
        said = escaped(self._said)
        return (f'<figure class="qi-figure"><img alt="{said}" style="max-width:100%" '
                f'src="data:image/png;base64,{encoded}"><figcaption>{said}</figcaption></figure>')

    def _fit(self) -> None:
        """Give axis labels, ticks and legend the room that they take, and the axes the rest."""
        wide, high = self._figure.bbox.width, self._figure.bbox.height
        # Twice, for the number of ticks depends on the size of the axes.
        for _ in range(2):
            self._ax.apply_aspect()
            axes = self._ax.get_window_extent()
            taken = self._ax.get_tightbbox(self._canvas.get_renderer())
            assert taken is not None
            left, right = axes.x0 - taken.x0 + _PAD, taken.x1 - axes.x1 + _PAD
            below, above = axes.y0 - taken.y0 + _PAD, taken.y1 - axes.y1 + _PAD
            width = max(wide - left - right, 0.2 * wide) / wide
            height = max(high - below - above, 0.2 * high) / high
            self._ax.set_position((left / wide, below / high, width, height))

    def _sticks_out(self) -> bool:
        """Whether something, such as a longer number at a tick, does not fit the margins."""
        taken = self._ax.get_tightbbox(self._canvas.get_renderer())
        assert taken is not None
        page = self._figure.bbox
        return bool(
            taken.x0 < page.x0 or taken.y0 < page.y0 or taken.x1 > page.x1 or taken.y1 > page.y1
        )

    def _paint(self) -> None:
        data = _data_artists(self._ax)
        frame = _frame_of(self._ax)
        if frame in self._frames:
            self._canvas.restore_region(self._frames[frame])
        else:
            if len(self._frames) >= _FRAMES or self._sticks_out():
                self._fit()
                self._frames.clear()
            for artist in data:
                artist.set_visible(False)
            self._canvas.draw()
            self._frames[frame] = self._canvas.copy_from_bbox(self._figure.bbox)
            for artist in data:
                artist.set_visible(True)
        renderer = self._canvas.get_renderer()
        for artist in sorted(data, key=lambda artist: artist.get_zorder()):
            artist.draw(renderer)
        for spine in self._ax.spines.values():
            spine.draw(renderer)

    def _png(self) -> bytes:
        buffer = io.BytesIO()
        pixels = np.asarray(self._canvas.buffer_rgba())
        Image.fromarray(pixels).save(buffer, "png", compress_level=1)
        return buffer.getvalue()


def _data_artists(ax: Axes) -> list[Artist]:
    return [*ax.lines, *ax.patches, *ax.collections, *ax.texts]


def _frame_of(ax: Axes) -> Hashable:
    """What the picture behind the data shows."""
    legend = ax.get_legend()
    axes = [
        (
            axis.get_label_text(), axis.get_scale(), tuple(axis.get_view_interval()),
            tuple(axis.get_majorticklocs()),
            tuple(label.get_text() for label in axis.get_majorticklabels()),
        )
        for axis in (ax.xaxis, ax.yaxis)
    ]
    names = () if legend is None else tuple(text.get_text() for text in legend.get_texts())
    return (*axes, names)


def _wipe(ax: Axes) -> None:
    """Remove the data but keep ticks, labels and legend, which are slow to make."""
    for artist in _data_artists(ax):
        artist.remove()
    ax.set_prop_cycle(None)
    ax.relim()
    ax.autoscale(True)
