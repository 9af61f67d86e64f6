"""The ranges that QAT's observers hold, step by step, default start against warm start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import pandas as pd

from qinspect.errors import DataError
from qinspect.show import figures, text
from qinspect.show.figures.training import observers_at
from qinspect.show.table import Table, table
from qinspect.show.text import elided, printable
from qinspect.show.widgets.base import FLOW, LABEL, WIDE, Explorer, hooked, sentence, shown
from qinspect.show.widgets.figure import FigureView
from qinspect.show.widgets.selection import Selection

if TYPE_CHECKING:
    from qinspect.train.monitor import QATMonitor

_CHECKS = 8


def joined_runs(runs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Observer tables of several runs in one, with a column ``run``."""
    parts = [frame.assign(run=name) for name, frame in runs.items() if len(frame)]
    joined = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if joined.empty or not (joined["kind"] == "activation").any():
        raise DataError("no QAT run has logged the ranges of its observers.")
    return joined


def holders(observers: pd.DataFrame) -> dict[str, str]:
    """Which layer holds the range of what each layer gives: itself, or the next one that does.

    QAT observes an activation that is a layer of its own where the file has one operator.
    """
    found: dict[str, str] = {}
    waiting: list[str] = []
    holding = set(observers_at(observers, int(observers["step"].max()))["layer"])
    inputs = observers[observers["tensor"] == "input"]["layer"]
    for layer in dict.fromkeys(map(str, observers[~observers["layer"].isin(inputs)]["layer"])):
        waiting.append(layer)
        if layer in holding:
            found |= dict.fromkeys(waiting, layer)
            waiting = []
    return found


def held_table(held: pd.DataFrame, step: int, chosen: str) -> Table:
    """Ranges that are held at a step, one row a layer, one column a run."""
    rows: dict[str, dict[str, Any]] = {}
    for record in held.to_dict("records"):
        row = rows.setdefault(str(record["layer"]), {"layer": str(record["layer"])})
        row[str(record["run"])] = (record["min"], record["max"])
    runs = {str(run): (str(run), text.span) for run in held["run"].unique()}
    return table(f"Ranges held at step {step}", rows.values(), {
        "": lambda row: ">" if row["layer"] == chosen else "", "layer": "layer", **runs})


class ObserverPlayer(Explorer):
    """Play the observers' ranges over the steps of QAT, several runs side by side."""

    def __init__(
        self, runs: Mapping[str, pd.DataFrame], selection: Selection | None = None
    ) -> None:
        self._observers = joined_runs(runs)
        self._holders = holders(self._observers)
        steps = sorted(int(step) for step in self._observers["step"].unique())
        self.step = hooked(
            widgets.SelectionSlider(
                options=steps, description="QAT step", style=LABEL,
                layout={"width": "560px"},
            ),
            "qi-obs-step",
        )
        self.play = hooked(
            widgets.Play(value=0, min=0, max=len(steps) - 1, interval=400, show_repeat=False,
                         tooltip="play the steps"),
            "qi-obs-play",
        )
        # Linked in the browser: playing needs no answer from the kernel to go on.
        widgets.jslink((self.play, "value"), (self.step, "index"))
        names = [(printable(name), name) for name in runs]
        self.runs = hooked(
            widgets.SelectMultiple(
                options=names, value=[name for _, name in names], rows=min(5, len(names)),
                description="runs", style=LABEL,
            ),
            "qi-obs-runs",
        )
        # By the layer of the file, which other views know; what it says is who holds the range.
        known: dict[str, str] = {}
        for layer, holder in self._holders.items():
            known.setdefault(holder, layer)
        self.layer = hooked(
            widgets.Dropdown(options=[(elided(holder, 60), layer)
                                      for holder, layer in known.items()],
                             description="layer", style=LABEL, layout=WIDE),
            "qi-obs-layer",
        )
        self.figure = FigureView(8.0, 4.0, "qi-obs-figure")
        self.course = FigureView(7.0, 3.2, "qi-obs-course")
        self.table = hooked(widgets.HTML(), "qi-obs-table")
        super().__init__(
            "observers", [self.play, self.step, self.runs, self.layer],
            [widgets.HBox([self.figure, self.table], layout=FLOW), self.course],
        )
        self.watch(self.refresh, self.step)
        self.watch(self._refresh_all, self.layer, self.runs)
        self.guarded(self._refresh_all)()
        chosen = selection or Selection()
        chosen.observe(self.guarded(lambda: self._follow(chosen.layer)), names="layer")
        self.guarded(lambda: self._follow(chosen.layer))()
        self.layer.observe(lambda change: self._lead(chosen), names="value")

    def _follow(self, layer: str) -> None:
        """Show who holds the range of a layer chosen elsewhere."""
        if layer in self._holders and self._holders[layer] != self._holders[self.layer.value]:
            self.layer.value = next(one for _, one in self.layer.options
                                    if self._holders[one] == self._holders[layer])

    def _lead(self, selection: Selection) -> None:
        # Two layers of the file may have one holder; the other one stays chosen.
        if self._holders.get(selection.layer) != self._holders[self.layer.value]:
            selection.layer = self.layer.value

    def refresh(self) -> None:
        """Show the chosen step."""
        chosen: tuple[Any, ...] = self.runs.value
        if not chosen:
            raise DataError("no run is chosen; choose one or more.")
        rows = self._observers[self._observers["run"].isin(chosen)]
        step = int(self.step.value)
        held = observers_at(rows, step)
        low, high = float(rows["min"].min()), float(rows["max"].max())

        figure = figures.observer_bars(held, step)

        def draw(ax: Any) -> None:
            figure.draw(ax)
            # The same axis at every step, so that what moves are the ranges.
            ax.set_xlim(min(low, -6.2) * 1.02, max(high, 6.2) * 1.02)

        layers = tuple(dict.fromkeys(held["layer"]))
        self.figure.show(replace(figure, draw=draw), layout=(chosen, layers))
        self.table.value = shown(held_table(held, step, self._holders[self.layer.value]))

    def _refresh_all(self) -> None:
        self.refresh()
        rows = self._observers[self._observers["run"].isin(self.runs.value)]
        holder = self._holders[self.layer.value]
        self.course.show(figures.observer_course(rows, holder), layout=(self.runs.value, holder))


class QATWatch(Explorer):
    """What a ``QATMonitor`` sees while training goes on; made before ``fit`` is called."""

    def __init__(self, monitor: QATMonitor) -> None:
        self._monitor = monitor
        self.said = hooked(widgets.HTML(), "qi-qat-said")
        self.table = hooked(widgets.HTML(), "qi-qat-table")
        self.figure = FigureView(8.0, 4.0, "qi-qat-figure")
        super().__init__("qat", [], [self.said, self.figure, self.table])
        monitor.on_check = lambda _: self.guarded(self.refresh)()

    def refresh(self) -> None:
        """Show the last check, the ranges now and what was told so far."""
        checks = self._monitor.frame
        self.said.value = "".join(map(sentence, self._monitor.warnings)) or sentence(
            "No known cause is in sight.")
        self.table.value = shown(table("Checks", checks.to_dict("records")[-_CHECKS:], {
            "step": lambda row: f"{row['step']:.0f}",
            "bits unused": ("bits_unused", "{:.1f}".format),
            "at the end": ("bits_unused_at_end", "{:.1f}".format),
            "start value left": ("start_left", text.percent),
            "batch norm shift": ("batchnorm_shift", "{:.2f}".format),
            "Keras": ("keras", text.percent), "file": ("tflite", text.percent)}))
        held = self._monitor.observers.assign(run="qat")
        step = int(held["step"].max())
        self.figure.show(figures.observer_bars(observers_at(held, step), step), layout="qat")
