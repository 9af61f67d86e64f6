"""Look at the examples on which two models part."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import numpy as np
from PIL import Image

from qinspect.data.dataset import Dataset
from qinspect.errors import DataError, SpecError
from qinspect.schema import Array
from qinspect.show import text
from qinspect.show.table import table
from qinspect.show.text import escaped
from qinspect.show.widgets.base import LABEL, Explorer, choice, hooked, sentence, shown

if TYPE_CHECKING:
    from qinspect.studies.stored import Study

WHICH = {
    "b": "only b right",
    "a": "only a right",
    "differ": "different answers, both wrong",
}
# Of scores that are not right or wrong.
AHEAD = {"b": "b better", "a": "a better"}
_SIDE = 112
_PER_PAGE = 12


def top_outputs(output: Array, names: tuple[str, ...], most: int = 2) -> str:
    """The greatest outputs of one example in words, in the units of the file's output."""
    order = np.argsort(-output.astype(np.float64), kind="stable")[:most]
    return ", ".join(f"{class_name(int(i), names)} ({output[i]:.3g})" for i in order)


def class_name(label: int, names: tuple[str, ...]) -> str:
    """Name of a class, its number where it has none."""
    return names[label] if 0 <= label < len(names) else str(label)


def picture(x: Array, low: float, high: float) -> str | None:
    """An example as a data URI, ``low`` black and ``high`` white; None where it is no image."""
    image: Any = x[..., 0] if x.ndim == 3 and x.shape[-1] == 1 else x
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[-1] != 3):
        return None
    span = high - low if high > low else 1.0
    levels = np.clip(255 * (image.astype(np.float64) - low) / span, 0, 255).astype(np.uint8)
    drawn = Image.fromarray(levels)
    factor = max(1, _SIDE // max(drawn.size))
    size = (drawn.width * factor, drawn.height * factor)
    buffer = io.BytesIO()
    drawn.resize(size, Image.Resampling.NEAREST).save(buffer, "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


class FlipBrowser(Explorer):
    """The examples that one model gets right (or does better) and the other not, with both outputs.

    ``data``: the study's test examples in any order, for pictures and class names.
    """

    def __init__(
        self, study: Study, data: Dataset | None = None, a: str = "ptq_int8", b: str = "qat"
    ) -> None:
        if study.results.metric.kind == "set":
            raise DataError(f"{study.results.metric.title} is a statistic of all examples; there "
                            "are no single ones to show.")
        self._study = study
        self._which = WHICH if study.results.right_or_wrong else AHEAD
        self._data = data
        self._at = {} if data is None else {name: i for i, name in enumerate(data.ids.tolist())}
        self._ends = (0.0, 1.0) if data is None else (
            float(data.array.min()), float(data.array.max()))
        arms = list(study.arms)
        self.a = choice("model a", arms, "qi-flip-a", a if a in arms else arms[0])
        self.b = choice("model b", arms, "qi-flip-b", b if b in arms else arms[-1])
        self.which = hooked(
            widgets.ToggleButtons(
                options=[(title, key) for key, title in self._which.items()], description="show",
                tooltips=list(self._which.values()), style={**LABEL, "button_width": "220px"},
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
        found = study.results.flips(a, b, self.which.value)
        self.page.max = max(1, -(-len(found) // _PER_PAGE))
        start = (self.page.value - 1) * _PER_PAGE
        page = found.iloc[start : start + _PER_PAGE].to_dict("records")
        what = self._words(a, b)
        self.said.value = sentence(
            f"{len(found)} of {study.results.n:,} examples: {what}. Page {self.page.value} of "
            f"{self.page.max}."
        )
        self.pictures.value = "".join(self._figure(row, a, b) for row in page)
        rows = [self._row(row, a, b) for row in page]
        self.table.value = shown(table(what, rows, {key: key for key in rows[0]} if rows else {}))

    def _words(self, a: str, b: str) -> str:
        """What the examples shown have in common."""
        name = {"a": a, "b": b}.get(self.which.value)
        if name is None:
            return WHICH["differ"]
        return (f"only {name} right" if self._which is WHICH else
                f"{name} better, the largest difference first")

    def _names(self) -> tuple[str, ...]:
        return () if self._data is None else self._data.class_names

    def _value(self, value: Any) -> str:
        """A label, a target or an answer in words."""
        if self._study.results.metric.classes:
            return class_name(int(value), self._names())
        return text.plain(value.item() if isinstance(value, np.generic) else value)

    def _row(self, row: dict[Any, Any], a: str, b: str) -> dict[str, str]:
        cells, metric = {"id": str(row["id"])}, self._study.results.metric
        if "y" in row:
            cells["true class" if metric.classes else "target"] = self._value(row["y"])
        for key, arm in (("a", a), ("b", b)):
            if not metric.classes:
                score = self._study.results.scores(arm)[int(row["index"])]
                cells |= {f"{arm} gives": self._value(row[key]),
                          f"{metric.title} of {arm}": self._value(score)}
                continue
            raw = self._study.arrays.get(f"raw__{arm}")
            said = self._value(row[key])
            if raw is not None and np.ndim(raw) == 2:
                said = top_outputs(raw[int(row["index"])], self._names())
            cells[f"{arm} says (output)"] = said
        return cells

    def _figure(self, row: dict[Any, Any], a: str, b: str) -> str:
        at = self._at.get(str(row["id"]))
        if self._data is None or at is None:
            return ""
        source = picture(self._data.array[at], *self._ends)
        if source is None:
            return ""
        true = f"is {self._value(row['y'])}, " if "y" in row else ""
        said = (f"{row['id']}: {true}{a} says {self._value(row['a'])}, {b} says "
                f"{self._value(row['b'])}")
        return (
            '<figure style="display:inline-block;margin:6px;max-width:150px;vertical-align:top">'
            f'<img alt="{escaped(said)}" src="{source}" style="image-rendering:pixelated">'
            f'<figcaption style="font-size:12px;line-height:1.3">{escaped(said)}'
            "</figcaption></figure>"
        )
