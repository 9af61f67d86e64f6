"""Look at the examples on which two models part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import numpy as np

from qinspect.data.dataset import Dataset
from qinspect.errors import SpecError
from qinspect.show.flips import WHICH, class_name, flip_table, picture, top_outputs
from qinspect.show.widgets import markup
from qinspect.show.widgets.base import LABEL, Explorer, choice, hooked

if TYPE_CHECKING:
    from qinspect.studies.stored import Study

_PER_PAGE = 12


class FlipBrowser(Explorer):
    """The examples that one model gets right and the other does not, with both outputs.

    Parameters
    ----------
    study : Study
    data : Dataset, optional
        The study's test examples in any order, for the pictures and class names.
    a, b : str, optional
        Arms at the start.
    """

    def __init__(
        self, study: Study, data: Dataset | None = None, a: str = "ptq_int8", b: str = "qat"
    ) -> None:
        self._study = study
        self._data = data
        self._at = {} if data is None else {name: i for i, name in enumerate(data.ids.tolist())}
        self._ends = (0.0, 1.0) if data is None else (float(data.x.min()), float(data.x.max()))
        arms = list(study.arms)
        self.a = choice("model a", arms, "qi-flip-a", a if a in arms else arms[0])
        self.b = choice("model b", arms, "qi-flip-b", b if b in arms else arms[-1])
        self.which = hooked(
            widgets.ToggleButtons(
                options=[(title, key) for key, title in WHICH.items()], description="show",
                tooltips=list(WHICH.values()), style={**LABEL, "button_width": "220px"},
                layout={"width": "max-content"},
            ),
            "qi-flip-which",
        )
        self.page = hooked(
            widgets.BoundedIntText(1, 1, 1, description="page", style=LABEL), "qi-flip-page"
        )
        self.said = hooked(widgets.HTML(), "qi-flip-said")
        self.pictures = hooked(widgets.HTML(), "qi-flip-pictures")
        self.table = hooked(widgets.HTML(), "qi-flip-table")
        controls = [self.a, self.b, self.which, self.page]
        super().__init__("flips", controls, [self.said, self.pictures, self.table])
        self.watch(self._restart, self.a, self.b, self.which)
        self.watch(self.refresh, self.page)
        self.guarded(self.refresh)()

    def _restart(self) -> None:
        if self.page.value == 1:
            self.refresh()
        else:
            self.page.value = 1

    def refresh(self) -> None:
        """Show the page."""
        study, a, b = self._study, self.a.value, self.b.value
        if a == b:
            raise SpecError(f"both models are {a}; choose two different ones.")
        arrays = study.arrays
        found = flip_table(
            arrays["y"], study.prediction(a), study.prediction(b), arrays["id"], self.which.value
        )
        self.page.max = max(1, -(-len(found) // _PER_PAGE))
        start = (self.page.value - 1) * _PER_PAGE
        shown = found.iloc[start : start + _PER_PAGE].to_dict("records")
        what = WHICH[self.which.value].replace("only a", f"only {a}").replace("only b", f"only {b}")
        self.said.value = markup.sentence(
            f"{len(found)} of {len(arrays['y']):,} examples: {what}. Page {self.page.value} of "
            f"{self.page.max}."
        )
        self.pictures.value = "".join(self._figure(row, a, b) for row in shown)
        self.table.value = markup.table([self._row(row, a, b) for row in shown], what)

    def _names(self) -> tuple[str, ...]:
        return () if self._data is None else self._data.class_names

    def _row(self, row: dict[Any, Any], a: str, b: str) -> dict[str, str]:
        cells = {"id": str(row["id"]), "true class": class_name(int(row["y"]), self._names())}
        for key, arm in (("a", a), ("b", b)):
            raw = self._study.arrays.get(f"raw__{arm}")
            said = class_name(int(row[key]), self._names())
            if raw is not None and np.ndim(raw) == 2:
                said = top_outputs(raw[int(row["index"])], self._names())
            cells[f"{arm} says (output)"] = said
        return cells

    def _figure(self, row: dict[Any, Any], a: str, b: str) -> str:
        at = self._at.get(str(row["id"]))
        if self._data is None or at is None:
            return ""
        source = picture(self._data.x[at], *self._ends)
        if source is None:
            return ""
        names = self._names()
        said = (
            f"{row['id']}: is {class_name(int(row['y']), names)}, {a} says "
            f"{class_name(int(row['a']), names)}, {b} says {class_name(int(row['b']), names)}"
        )
        return (
            '<figure style="display:inline-block;margin:6px;max-width:150px;vertical-align:top">'
            f'<img alt="{markup.escaped(said)}" src="{source}" style="image-rendering:pixelated">'
            f'<figcaption style="font-size:12px;line-height:1.3">{markup.escaped(said)}'
            "</figcaption></figure>"
        )
