"""What takes its time: made beside the kernel's messages, with progress and a way to stop it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
import traitlets

from qinspect.progress import Progress
from qinspect.show.style import DRAWING
from qinspect.show.widgets.base import Explorer, alert, hooked, sentence


class Work(traitlets.HasTraits):
    """Something that is made once, in a thread of its own; ``value`` is None until it is there.

    ``make`` gets a progress function.  That is also where it is stopped: the next call of it
    raises KeyboardInterrupt, as Ctrl-C would.
    """

    state = traitlets.Enum(("to do", "running", "stopping", "done"), "to do")
    share = traitlets.Float(0.0)
    said = traitlets.Unicode("")
    error: Any = traitlets.Instance(Exception, allow_none=True)
    value = traitlets.Any(None)

    def __init__(
        self, title: str, about: str, make: Callable[[Progress], Any], value: Any = None
    ) -> None:
        super().__init__()
        self.title, self.about, self._make = title, about, make
        self._thread: threading.Thread | None = None
        if value is not None:
            self.value, self.state = value, "done"

    def start(self) -> None:
        """Begin, unless it is there or on its way."""
        if self.state != "to do":
            return
        self.error, self.share, self.said, self.state = None, 0.0, "starting", "running"
        self._thread = threading.Thread(target=self._run, name=self.title, daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Stop at the next step."""
        if self.state == "running":
            self.state = "stopping"

    def wait(self) -> Any:
        """The value, when it has been made."""
        self.start()
        if self._thread is not None:
            self._thread.join()
        if self.error is not None:
            raise self.error
        return self.value

    def _run(self) -> None:
        try:
            value = self._make(self._show)
        except KeyboardInterrupt:
            self.said, self.state = "Stopped.", "to do"
        except Exception as error:
            self.error, self.said, self.state = error, "", "to do"
        else:
            self.state = "done"
            self.value = value

    def _show(self, phase: str, done: int, total: int, message: str) -> None:
        if self.state == "stopping":
            # Once: what ends with what it has may go on and say so.
            self.state = "running"
            raise KeyboardInterrupt
        self.share = min(done / total, 1.0) if total else 1.0
        self.said = f"{phase}, {done} of {total}: {message}"


class Maker(Explorer):
    """In the place of what is missing: a button that makes it, then progress and Cancel."""

    def __init__(self, work: Work, *choices: widgets.Widget) -> None:
        self._work = work
        self.button = hooked(
            widgets.Button(description=work.title, button_style="primary",
                           layout={"width": "max-content"}), "qi-make-start")
        self.cancel = hooked(widgets.Button(description="Cancel"), "qi-make-cancel")
        self.bar = hooked(widgets.FloatProgress(0.0, min=0.0, max=1.0), "qi-make-bar")
        self.said = hooked(widgets.HTML(), "qi-make-said")
        about = widgets.HTML(sentence(work.about))
        super().__init__(
            "maker", [*choices, self.button, self.bar, self.cancel], [self.said, about])
        self.button.on_click(lambda button: work.start())
        self.cancel.on_click(lambda button: work.cancel())
        work.observe(lambda change: self.refresh(), names=["state", "said", "error"])
        self.refresh()

    def refresh(self) -> None:
        """Show how far it is."""
        work = self._work
        with DRAWING:  # it is called by two threads
            busy = work.state in ("running", "stopping")
            self.button.disabled = work.state != "to do"
            self.cancel.disabled = work.state != "running"
            for part in (self.bar, self.cancel):
                part.layout.display = "" if busy else "none"
            self.bar.value = work.share
            stopping = " Stopping when this step ends." if work.state == "stopping" else ""
            self.said.value = sentence(f"{work.said}{stopping}") if work.said else ""
            self.error.value = "" if work.error is None else alert(work.error)
