"""The design of the fault benchmark: which networks it rests on, and which fault is put where."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

ARCHITECTURES: tuple[str, ...] = ("plain_cnn", "bn_cnn", "depthwise_cnn")
STRENGTHS: tuple[str, ...] = ("mild", "strong")
# Healthy cases of each network, in several forms of what a person may have at hand.
CONTROLS: tuple[str, ...] = (
    "study", "equal-budget", "files-only", "two-files", "loose-files", "other-calibration",
    "half-of-examples", "other-half",
)

# Causes that this benchmark cannot put into a study, and why.
NOT_INJECTED: dict[str, str] = {
    "kernel-difference": (
        "which kernels run is decided by the installed runtime, and on this one the optimised and "
        "the reference kernels agree on every file that the converter makes"
    ),
}


@dataclass(frozen=True, order=True)
class Cell:
    """One trained network: its architecture, its seed and, with them, its data and its half.

    Attributes
    ----------
    model : str
        A name of :data:`ARCHITECTURES`.
    seed : int
        Of the split, the weights and the batch order.
    """

    model: str
    seed: int

    @property
    def dataset(self) -> str:
        """Small and large images alternate over architectures and seeds.

        Drawn characters stand in for Fashion-MNIST where ``QINSPECT_DATA`` does not have it.
        """
        if (ARCHITECTURES.index(self.model) + self.seed) % 2 == 0:
            return "digits"
        folder = os.environ.get("QINSPECT_DATA", "")
        at_hand = folder and (Path(folder) / "fashion_mnist.npz").exists()
        return "fashion_mnist" if at_hand else "glyphs"

    @property
    def half(self) -> str:
        """``calibration``: thresholds may be set by looking at it; ``scored``: they may not."""
        if self in CONTROL_CELLS:
            return "scored"
        return next(half for half, cells in HALVES.items() if self in cells)

    @property
    def key(self) -> str:
        """Name of its folder."""
        return f"{self.model}-{self.seed}"


# Each architecture once in either half, on the other data set, with another seed and so another
# split, other weights and another order of batches; five seeds in all.
HALVES: dict[str, tuple[Cell, ...]] = {
    "calibration": (Cell("plain_cnn", 0), Cell("bn_cnn", 2), Cell("depthwise_cnn", 0)),
    "scored": (Cell("plain_cnn", 5), Cell("bn_cnn", 3), Cell("depthwise_cnn", 7)),
}
# Networks that are only asked about as they are, so that a false alarm is rare enough to be bounded
# at 5 %: 96 healthy cases of twelve networks in the scored half.
CONTROL_CELLS: tuple[Cell, ...] = tuple(
    Cell(model, seed) for model in ARCHITECTURES for seed in (10, 11, 12)
)
CELLS: tuple[Cell, ...] = (*HALVES["calibration"], *HALVES["scored"], *CONTROL_CELLS)


@dataclass(frozen=True)
class Plan:
    """One case to be made and diagnosed.

    Attributes
    ----------
    kind : {"single", "pair", "control"}
    truth : tuple of str
        Ids of the injected causes; none for a control.
    strength : str
        Of all of them, or the form of a control.
    cell : Cell
    variant : int
        Number of this setting among those of the same truth and strength in its half, from which
        a fault with several variants takes its one.
    """

    kind: str
    truth: tuple[str, ...]
    strength: str
    cell: Cell
    variant: int

    @property
    def key(self) -> str:
        """Unique name, fit for a file."""
        what = "+".join(self.truth) or "healthy"
        return f"{what}.{self.strength}.{self.cell.key}.{self.variant}"


def settings(shift: int, models: tuple[str, ...] = ARCHITECTURES) -> list[tuple[Cell, int]]:
    """Three settings or more in either half for one truth and strength.

    Every architecture comes once in each half.  Variants are dealt out in turn, begun at
    ``shift``, so that over the truths every variant meets every architecture.  Where a truth asks
    for architectures of its own, each comes twice, with different variants.
    """
    found = []
    for cells in HALVES.values():
        fitting = [cell for cell in cells if cell.model in models]
        times = 1 if len(fitting) == len(ARCHITECTURES) else 2
        for at, cell in enumerate(fitting * times):
            found.append((cell, (at + shift) % max(3, len(fitting) * times)))
    return found


def design(
    single: dict[str, tuple[str, ...]], pairs: tuple[tuple[str, str], ...]
) -> tuple[Plan, ...]:
    """All cases of the benchmark.

    Parameters
    ----------
    single : dict of str to tuple of str
        Causes that can be injected, with the architectures that can have them.
    pairs : tuple of (str, str)
        Causes that are injected together, strongly.

    Returns
    -------
    tuple of Plan
        Sorted by cell, so that each network is made once.
    """
    plans = [Plan("control", (), form, cell, 0) for cell in CELLS for form in CONTROLS]
    for at, (cause, models) in enumerate(single.items()):
        for more, strength in enumerate(STRENGTHS):
            plans += [
                Plan("single", (cause,), strength, cell, variant)
                for cell, variant in settings(at + more, models)
            ]
    for at, pair in enumerate(pairs):
        models = tuple(m for m in ARCHITECTURES if all(m in single[cause] for cause in pair))
        plans += [
            Plan("pair", pair, "strong", cell, variant) for cell, variant in settings(at, models)
        ]
    return tuple(sorted(plans, key=lambda plan: (plan.cell, plan.kind, plan.key)))
