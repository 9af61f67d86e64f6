"""What every explorer is made of: controls, a place for errors, tabs, HTML that is escaped."""

from __future__ import annotations

import html
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets as widgets

from qinspect.errors import QinspectError
from qinspect.show.style import DRAWING
from qinspect.show.table import LONG, STYLE, Table
from qinspect.show.text import elided, escaped
from qinspect.show.view import script

if TYPE_CHECKING:
    from qinspect.show.widgets.selection import Selection

LABEL = {"description_width": "120px"}
WIDE = {"width": "430px"}
FLOW = {"flex_flow": "row wrap"}
# Of toggle buttons: else their description stands above them.
ONE_ROW = {"width": "max-content", "display": "flex", "flex_flow": "row nowrap"}
# Titles of tabs are never cut: they take the room that they need, on a second line if they must.
_TABS = (
    "<style>.qinspect-dashboard .lm-TabBar-content{flex-wrap:wrap}"
    ".qinspect-dashboard .lm-TabBar-tab{flex:0 0 auto!important;max-width:none!important}"
    ".qinspect-dashboard .lm-TabBar-tabLabel{overflow:visible;text-overflow:clip}</style>"
)


class AccessibleNames(anywidget.AnyWidget):
    """Nothing to see: names the slider handles and player buttons of its explorer."""

    _esm = script("names.js")


class Still(widgets.VBox):
    """A widget that leaves a picture of itself where no kernel runs."""

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = dict(super()._repr_mimebundle_(**options))
        return {**bundle, "text/plain": f"<{type(self).__name__}>",
                "text/html": f'<div class="qi-view">{STYLE}{still(self)}</div>'}


def still(widget: widgets.Widget) -> str:
    """Pictures, sentences and tables of a widget as they stand, without its controls."""
    if getattr(getattr(widget, "layout", None), "display", None) == "none":
        return ""
    if hasattr(widget, "still"):
        return str(widget.still())
    if isinstance(widget, widgets.HTML):
        return str(widget.value)
    return "".join(still(child) for child in getattr(widget, "children", ()))


class Explorer(Still):
    """Controls above, an area for errors, and what the controls change.

    ``name`` is part of the CSS class ``qinspect-name``; ``body`` holds figures, sentences, tables.
    ``busy`` while the explorer itself changes its controls.
    """

    busy = False

    def __init__(
        self, name: str, controls: Sequence[widgets.Widget], body: Iterable[widgets.Widget]
    ) -> None:
        self.error = hooked(widgets.HTML(), f"qinspect-{name}-error")
        flow = widgets.Layout(display="flex", **FLOW)
        super().__init__(
            [widgets.Box(list(controls), layout=flow), self.error, *body, AccessibleNames()]
        )
        self.add_class("qinspect-explorer")
        self.add_class(f"qinspect-{name}")

    def guarded(self, function: Callable[[], None]) -> Callable[..., None]:
        """A callback that shows what goes wrong in the widget itself.

        A widget's callbacks run where nobody sees an exception, so it is caught here, all of it;
        the area is emptied by the next success.  One callback at a time: two would draw into each
        other's figure.
        """

        def callback(change: Any = None) -> None:
            with DRAWING:
                try:
                    function()
                except Exception as error:
                    self.error.value = alert(error)
                else:
                    if self.error.value:
                        self.error.value = ""

        return callback

    def watch(self, function: Callable[[], None], *controls: widgets.Widget) -> None:
        """Call ``function`` whenever the value of a control changes."""
        callback = self.guarded(function)
        for control in controls:
            control.observe(callback, names="value")

    def quietly(self, control: Any, offered: Sequence[tuple[str, Any]], value: Any) -> None:
        """Change what a control offers without answering to it."""
        self.busy = True
        try:
            control.options = offered
            control.value = value
        finally:
            self.busy = False

    def joins(self, selection: Selection, trait: str, control: Any) -> None:
        """Let a control follow what is chosen elsewhere, and choose for all other views.

        What the control does not offer leaves it as it is.
        """

        def follow() -> None:
            wanted = getattr(selection, trait)
            if wanted != control.value and wanted in [value for _, value in control.options]:
                control.value = wanted

        def lead(change: Any) -> None:
            # A control that is offered other names chooses by itself; nobody wished for that.
            if not self.busy and change["new"] is not None:
                setattr(selection, trait, change["new"])

        selection.observe(self.guarded(follow), names=trait)
        control.observe(lead, names="value")
        self.guarded(follow)()


class Tabs(Still):
    """Widgets in tabs; each is built when its tab is first opened."""

    def __init__(self, builders: Mapping[str, Callable[[], widgets.Widget]]) -> None:
        self._builders = dict(builders)
        self.pages = {name: widgets.VBox() for name in self._builders}
        self.tabs = widgets.Tab(children=list(self.pages.values()), titles=list(self.pages))
        self.tabs.selected_index = 0
        self.tabs.observe(lambda change: self.page(list(self.pages)[change["new"] or 0]),
                          "selected_index")
        super().__init__([widgets.HTML(_TABS), self.tabs])
        self.add_class("qinspect-dashboard")
        self.page(next(iter(self.pages)))

    def page(self, name: str) -> widgets.Widget:
        """Build a tab if it is not there yet, and give its content; what fails is shown in it."""
        holder = self.pages[name]
        with DRAWING:
            if not holder.children:
                try:
                    holder.children = (self._builders[name](),)
                except Exception as error:
                    holder.children = (widgets.HTML(alert(error)),)
        return holder.children[0]

    def rebuild(self, *names: str) -> None:
        """Build those tabs anew that have been opened."""
        for name in names:
            with DRAWING:
                if self.pages[name].children:
                    self.pages[name].children = ()
                    self.page(name)


def choice(description: str, names: Sequence[str], hook: str, value: str | None = None) -> Any:
    """A drop-down of names."""
    control = widgets.Dropdown(
        options=options(names), value=value if value is not None else names[0],
        description=description, style=LABEL, layout=WIDE,
    )
    return hooked(control, hook)


def options(names: Iterable[str]) -> list[tuple[str, str]]:
    """Names for a drop-down: what is shown is printable, what is chosen is the name itself.

    The browser puts option texts in as text, not as markup.
    """
    return [(elided(name, 60), name) for name in names]


def hooked(control: Any, hook: str) -> Any:
    """The control with a CSS class that tests and style sheets can hold on to."""
    control.add_class(hook)
    return control


# Widgets do not sanitise HTML: every value that comes in is escaped here.


def sentence(said: str) -> str:
    """A paragraph that screen readers announce when it changes."""
    return f'<p class="qi-said" role="status" aria-live="polite">{escaped(said)}</p>'


def shown(table: Table) -> str:
    """A table in a box that scrolls."""
    return STYLE + table.html()


class TableView(widgets.VBox):
    """A table; a long one sorts and filters where itables is installed."""

    def __init__(self, hook: str) -> None:
        self._static = widgets.HTML()
        self._live: Any = None
        super().__init__([self._static])
        self.add_class(hook)

    def show(self, table: Table) -> None:
        """Show another table."""
        self._static.value = shown(table)
        if len(table.rows) <= LONG or find_spec("itables") is None:
            self.children = (self._static,)
            return
        from itables.widget import ITable

        values = table.frame.map(lambda v: float(f"{v:.4g}") if isinstance(v, float) else v)
        looks: dict[str, Any] = {"caption": table.title, "pageLength": LONG, "showIndex": False}
        if self._live is None:
            self._live = ITable(values, **looks)
        else:
            self._live.update(values, **looks)
        self.children = (self._live,)

    def still(self) -> str:
        """The table for pages without a kernel."""
        return str(self._static.value)


def alert(error: Exception) -> str:
    """An error in words; what the kit did not foresee with its details folded away."""
    said, folded = str(error), ""
    if not isinstance(error, QinspectError):
        said = f"{type(error).__name__}: {error}"
        details = html.escape("".join(traceback.format_exception(error)))
        folded = f"<details><summary>Details</summary><pre>{details}</pre></details>"
    return (
        '<div role="alert" style="border:2px solid #D55E00;padding:6px 10px;max-width:75ch">'
        f"<b>This did not work:</b> {escaped(said)}{folded}</div>"
    )
