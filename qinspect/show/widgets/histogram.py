"""The histogram whose range is dragged, drawn in the browser."""

from __future__ import annotations

from typing import Any

import anywidget
import traitlets

from qinspect.show.static import source


class ClipHistogram(anywidget.AnyWidget):
    """Histogram with two limits; what they do to the first series is worked out in the browser.

    Attributes
    ----------
    series : list of dict
        See :meth:`qinspect.show.clipping.Binned.series`.
    marks : list of dict
        ``name``, ``colour``, ``low``, ``high``: stored ranges to show.
    clip : list of float
        Lower and upper limit, lower <= 0 <= upper.
    bits : int
    symmetric, log : bool
    title, unit : str
    """

    _esm = source("histogram.js")
    series: Any = traitlets.List().tag(sync=True)
    marks: Any = traitlets.List().tag(sync=True)
    clip: Any = traitlets.List(default_value=[-1.0, 1.0]).tag(sync=True)
    bits = traitlets.Int(8).tag(sync=True)
    symmetric = traitlets.Bool(False).tag(sync=True)
    log = traitlets.Bool(False).tag(sync=True)
    title = traitlets.Unicode("values").tag(sync=True)
    unit = traitlets.Unicode("value").tag(sync=True)
