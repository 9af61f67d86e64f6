"""Look at examples: those on which two models part, and any single one."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd
from PIL import Image

from qinspect.data.dataset import Dataset
from qinspect.errors import DataError, SpecError
from qinspect.predictions import Results
from qinspect.schema import Array
from qinspect.show import text
from qinspect.show.table import table
from qinspect.show.text import escaped
from qinspect.show.widgets.base import (
    FLOW,
    LABEL,
    ONE_ROW,
    WIDE,
    Explorer,
    choice,
    hooked,
    options,
    sentence,
    shown,
)
from qinspect.show.widgets.selection import Selection

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


@dataclass(frozen=True, eq=False)
class Answers:
    """What models gave, in words, and what they were given, as pictures.

    ``data``: the same examples in any order, for pictures and class names; ``raw``: outputs by
    model, (n, classes), where the results hold classes alone.
    """

    results: Results
    data: Dataset | None = None
    raw: Mapping[str, Array] = field(default_factory=dict)

    @cached_property
    def ids(self) -> list[str]:
        """Name of each example, in the order of the results."""
        ids = self.results.ids
        return [str(name) for name in (range(self.results.n) if ids is None else ids)]

    @cached_property
    def _at(self) -> dict[str, int]:
        return {} if self.data is None else {str(n): i for i, n in enumerate(self.data.ids)}

    @cached_property
    def _ends(self) -> tuple[float, float]:
        assert self.data is not None
        return float(self.data.array.min()), float(self.data.array.max())

    def value(self, value: Any) -> str:
        """A label, a target or an answer in words."""
        if self.results.metric.classes:
            return class_name(int(value), () if self.data is None else self.data.class_names)
        return text.plain(value.item() if isinstance(value, np.generic) else value)

    def says(self, model: str, index: int, answer: Any) -> str:
        """An answer, with the greatest outputs where they are known."""
        raw = self.raw.get(model)
        if raw is None or np.ndim(raw) != 2 or not self.results.metric.classes:
            return self.value(answer)
        return top_outputs(raw[index], () if self.data is None else self.data.class_names)

    @property
    def truth(self) -> str:
        """What the labels are called."""
        return "true class" if self.results.metric.classes else "target"

    def picture(self, name: str, said: str) -> str:
        """The example as a figure; empty where it is no image."""
        at = self._at.get(name)
        if self.data is None or at is None or not isinstance(self.data.x, np.ndarray):
            return ""
        source = picture(self.data.array[at], *self._ends)
        if source is None:
            return ""
        return (
            '<figure style="display:inline-block;margin:6px;max-width:150px;vertical-align:top">'
            f'<img alt="{escaped(said)}" src="{source}" style="image-rendering:pixelated">'
            f'<figcaption style="font-size:12px;line-height:1.3">{escaped(said)}'
            "</figcaption></figure>"
        )


def _check_single(results: Results) -> None:
    if results.metric.kind == "set":
        raise DataError(f"{results.metric.title} is a statistic of all examples; there are no "
                        "single ones to show.")


class FlipBrowser(Explorer):
    """The examples that one model gets right (or does better) and the other not, with both outputs.

    ``a`` and ``b`` are the models at the start; the first and the last where they are not there.
    """

    def __init__(
        self, answers: Answers, a: str = "", b: str = "", selection: Selection | None = None
    ) -> None:
        results = answers.results
        _check_single(results)
        self._answers, self._results = answers, results
        self._selection = selection or Selection()
        self._which = WHICH if results.right_or_wrong else AHEAD
        arms = list(results.models)
        self.a = choice("model a", arms, "qi-flip-a", a if a in arms else arms[0])
        self.b = choice("model b", arms, "qi-flip-b", b if b in arms else arms[-1])
        self.which = hooked(
            widgets.ToggleButtons(
                options=[(title, key) for key, title in self._which.items()], description="show",
                tooltips=list(self._which.values()), style={**LABEL, "button_width": "220px"},
                layout=ONE_ROW,
            ),
            "qi-flip-which",
        )
        self.page = hooked(
            widgets.BoundedIntText(1, 1, 1, description="page", style=LABEL), "qi-flip-page"
        )
        self.example = hooked(
            widgets.Select(options=[], rows=4, description="example", style=LABEL, layout=WIDE),
            "qi-flip-example",
        )
        self.said = hooked(widgets.HTML(), "qi-flip-said")
        self.pictures = hooked(widgets.HTML(), "qi-flip-pictures")
        self.table = hooked(widgets.HTML(), "qi-flip-table")
        controls = [self.a, self.b, self.which, self.page, self.example]
        super().__init__("flips", controls, [self.said, self.pictures, self.table])
        self.watch(self._restart, self.a, self.b, self.which)
        self.watch(self.refresh, self.page)
        self.watch(self._choose, self.example)
        self._selection.observe(self.guarded(self._follow), names="example")
        self.guarded(self.refresh)()
        self.guarded(self._follow)()

    def _restart(self) -> None:
        if self.page.value == 1:
            self.refresh()
        else:
            self.page.value = 1

    def _found(self) -> pd.DataFrame:
        a, b = self.a.value, self.b.value
        if a == b:
            raise SpecError(f"both models are {a}; choose two different ones.")
        return self._results.flips(a, b, self.which.value)

    def refresh(self) -> None:
        """Show the page."""
        found = self._found()
        a, b = self.a.value, self.b.value
        self.page.max = max(1, -(-len(found) // _PER_PAGE))
        start = (self.page.value - 1) * _PER_PAGE
        page = found.iloc[start : start + _PER_PAGE].to_dict("records")
        what = self._words(a, b)
        self.said.value = sentence(
            f"{len(found)} of {self._results.n:,} examples: {what}. Page {self.page.value} of "
            f"{self.page.max}."
        )
        names = [str(row["id"]) for row in page]
        chosen = self._selection.example
        self.quietly(self.example, options(names), chosen if chosen in names else None)
        self.pictures.value = "".join(self._figure(row, a, b) for row in page)
        rows = [self._row(row, a, b) for row in page]
        self.table.value = shown(table(what, rows, {key: key for key in rows[0]} if rows else {}))

    def _choose(self) -> None:
        if not self.busy and self.example.value is not None:
            self._selection.example = self.example.value

    def _follow(self) -> None:
        """Turn to the page of an example chosen elsewhere, if it is among these."""
        at = np.flatnonzero(self._found()["id"].astype(str) == self._selection.example)
        if len(at):
            self.page.value = 1 + int(at[0]) // _PER_PAGE
        self.refresh()

    def _words(self, a: str, b: str) -> str:
        """What the examples shown have in common."""
        name = {"a": a, "b": b}.get(self.which.value)
        if name is None:
            return WHICH["differ"]
        return (f"only {name} right" if self._which is WHICH else
                f"{name} better, the largest difference first")

    def _row(self, row: dict[Any, Any], a: str, b: str) -> dict[str, str]:
        told, metric = self._answers, self._results.metric
        marked = ">" if str(row["id"]) == self._selection.example else ""
        cells = {"": marked, "id": str(row["id"])}
        if "y" in row:
            cells[told.truth] = told.value(row["y"])
        for key, arm in (("a", a), ("b", b)):
            if not metric.classes:
                score = self._results.scores(arm)[int(row["index"])]
                cells |= {f"{arm} gives": told.value(row[key]),
                          f"{metric.title} of {arm}": told.value(score)}
                continue
            cells[f"{arm} says (output)"] = told.says(arm, int(row["index"]), row[key])
        return cells

    def _figure(self, row: dict[Any, Any], a: str, b: str) -> str:
        value = self._answers.value
        true = f"is {value(row['y'])}, " if "y" in row else ""
        return self._answers.picture(str(row["id"]), (
            f"{row['id']}: {true}{a} says {value(row['a'])}, {b} says {value(row['b'])}"))


class ExampleView(Explorer):
    """One example: what it is, and what every model says to it."""

    def __init__(self, answers: Answers, selection: Selection | None = None) -> None:
        _check_single(answers.results)
        self._answers = answers
        self._selection = selection or Selection()
        self.number = hooked(
            widgets.BoundedIntText(0, 0, answers.results.n - 1, description="example", style=LABEL),
            "qi-one-number",
        )
        self.picture = hooked(widgets.HTML(), "qi-one-picture")
        self.table = hooked(widgets.HTML(), "qi-one-table")
        super().__init__("example", [self.number],
                         [widgets.HBox([self.picture, self.table], layout=FLOW)])
        self._selection.observe(self.guarded(self._follow), names="example")
        self.watch(self._choose, self.number)
        self.guarded(self._follow)()
        self.guarded(self.refresh)()

    def _follow(self) -> None:
        if self._selection.example in self._answers.ids:
            self.number.value = self._answers.ids.index(self._selection.example)

    def _choose(self) -> None:
        self._selection.example = self._answers.ids[self.number.value]
        self.refresh()

    def refresh(self) -> None:
        """Show the example."""
        told, results, at = self._answers, self._answers.results, int(self.number.value)
        name = told.ids[at]
        labelled = results.y is not None and np.ndim(results.y) == 1
        true = f", {told.truth} {told.value(results.y[at])}" if labelled else ""  # type: ignore[index]
        self.picture.value = told.picture(name, f"{name}{true}")
        rows = [{"model": model, "says": told.says(model, at, results.answers(model)[at]),
                 "score": results.scores(model)[at]} for model in results.models]
        head, form = ("right", lambda right: "yes" if right else "no") if (
            results.right_or_wrong) else (results.metric.title, text.number)
        self.table.value = shown(table(f"{name}{true}", rows, {
            "model": "model", "says": "says", head: ("score", form)}))
