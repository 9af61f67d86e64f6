"""What every explorer is made of: controls, a figure that is redrawn, and a place for errors."""

from __future__ import annotations

import io
import traceback
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets as widgets
import numpy as np
from PIL import Image

from qinspect.errors import QinspectError
from qinspect.show.plots.style import clear_axes, figure_of, new_axes
from qinspect.show.static import source
from qinspect.show.widgets import markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class AccessibleNames(anywidget.AnyWidget):
    """Nothing to see: names the slider handles and player buttons of its explorer."""

    _esm = source("names.js")


_DPI = 88
LABEL = {"description_width": "120px"}
WIDE = {"width": "430px"}


class FigureView(widgets.VBox):
    """A matplotlib figure as an image, and the sentence that says the same.

    The figure is made once and its artists are replaced; its margins are computed anew only when
    what stands around the data changes.

    Parameters
    ----------
    width, height : float
        Inches.
    hook : str
        CSS class of the image; ``hook``-said is that of the sentence.
    """

    def __init__(self, width: float, height: float, hook: str) -> None:
        self._ax = new_axes(width, height)
        self._figure = figure_of(self._ax)
        self._figure.set_dpi(_DPI)
        self._layout: Hashable = None
        shape = {"max_width": "100%", "align_self": "flex-start"}
        self.image = widgets.Image(format="png", layout=shape)
        self.image.add_class(hook)
        self.sentence = widgets.HTML()
        self.sentence.add_class(f"{hook}-said")
        super().__init__([self.image, self.sentence])

    @property
    def axes(self) -> Axes:
        """Axes as last drawn."""
        return self._ax

    def show(
        self, draw: Callable[[Axes], object], said: str, *, layout: Hashable, height: float = 0.0
    ) -> None:
        """Redraw.

        Parameters
        ----------
        draw : callable
            Takes the emptied axes.
        said : str
            What the figure shows.
        layout : hashable
            What the margins depend on, such as the names along an axis; when it is the same as
            last time they are kept, which halves the time of a redraw.
        height : float
            New height in inches; 0 keeps it.
        """
        changed = layout != self._layout
        if changed:
            if height:
                self._figure.set_figheight(height)
            clear_axes(self._ax)
            self._figure.set_layout_engine("constrained")
        else:
            _wipe(self._ax)
        draw(self._ax)
        engine = self._figure.get_layout_engine()
        if changed and engine is not None:
            # Once here and once when drawn: the first pass does not yet know the last label.
            engine.execute(self._figure)
        self.image.value = self._png()
        if changed:
            self._figure.set_layout_engine("none")
        self._layout = layout
        self.sentence.value = markup.sentence(said)

    def _png(self) -> bytes:
        # savefig would draw everything twice.
        self._figure.canvas.draw()
        pixels = np.asarray(self._figure.canvas.buffer_rgba())  # type: ignore[attr-defined]
        buffer = io.BytesIO()
        Image.fromarray(pixels).convert("RGB").save(buffer, "png", compress_level=1)
        return buffer.getvalue()


def _wipe(ax: Axes) -> None:
    """Remove what was drawn but keep ticks and labels, which are slow to make."""
    for artist in [*ax.lines, *ax.patches, *ax.collections, *ax.texts]:
        artist.remove()
    legend = ax.get_legend()
    if legend is not None:
        legend.remove()
    ax.set_prop_cycle(None)
    ax.relim()
    ax.autoscale(True)


class Explorer(widgets.VBox):
    """Controls above, an area for errors, and what the controls change.

    Parameters
    ----------
    name : str
        Part of the CSS class ``qinspect-name``.
    controls : sequence of Widget
        Each has a description.
    body : sequence of Widget
        Figures, sentences and tables.
    """

    def __init__(
        self, name: str, controls: Sequence[widgets.Widget], body: Iterable[widgets.Widget]
    ) -> None:
        self.error = widgets.HTML()
        self.error.add_class(f"qinspect-{name}-error")
        flow = widgets.Layout(flex_flow="row wrap", display="flex")
        super().__init__(
            [widgets.Box(list(controls), layout=flow), self.error, *body, AccessibleNames()]
        )
        self.add_class("qinspect-explorer")
        self.add_class(f"qinspect-{name}")

    def guarded(self, function: Callable[[], None]) -> Callable[..., None]:
        """A callback that shows what goes wrong in the widget itself.

        A widget's callbacks run where nobody sees an exception, so it is caught here, all of it;
        the area is emptied by the next success.
        """

        def callback(change: Any = None) -> None:
            try:
                function()
            except QinspectError as error:
                self.error.value = markup.alert(str(error))
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
                self.error.value = markup.alert(said, traceback.format_exc())
            else:
                if self.error.value:
                    self.error.value = ""

        return callback

    def watch(self, function: Callable[[], None], *controls: widgets.Widget) -> None:
        """Call ``function`` whenever the value of a control changes."""
        callback = self.guarded(function)
        for control in controls:
            control.observe(callback, names="value")


def options(names: Iterable[str]) -> list[tuple[str, str]]:
    """Names for a drop-down: what is shown is printable, what is chosen is the name itself.

    The browser puts option texts in as text, not as markup.
    """
    return [(_shown(name), name) for name in names]


def _shown(name: str) -> str:
    text = "".join(c if c.isprintable() else "?" for c in name)
    return text if len(text) <= 60 else f"{text[:28]}…{text[-30:]}"


def choice(description: str, names: Sequence[str], hook: str, value: str | None = None) -> Any:
    """A drop-down of names."""
    control = widgets.Dropdown(
        options=options(names), value=value if value is not None else names[0],
        description=description, style=LABEL, layout=WIDE,
    )  # fmt: skip
    control.add_class(hook)
    return control


def hooked(control: Any, hook: str) -> Any:
    """The control with a CSS class that tests and style sheets can hold on to."""
    control.add_class(hook)
    return control
