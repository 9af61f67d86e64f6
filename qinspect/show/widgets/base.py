"""What every explorer is made of: controls, and a place for errors."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import anywidget
import ipywidgets as widgets

from qinspect.errors import QinspectError
from qinspect.show.static import source
from qinspect.show.widgets import markup


class AccessibleNames(anywidget.AnyWidget):
    """Nothing to see: names the slider handles and player buttons of its explorer."""

    _esm = source("names.js")


LABEL = {"description_width": "120px"}
WIDE = {"width": "430px"}


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
    )
    control.add_class(hook)
    return control


def hooked(control: Any, hook: str) -> Any:
    """The control with a CSS class that tests and style sheets can hold on to."""
    control.add_class(hook)
    return control
