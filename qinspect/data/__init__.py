"""Data sets, splits and calibration sets."""

from __future__ import annotations

from qinspect.data.calibration import ORDERS, calibration_subset
from qinspect.data.characters import glyphs
from qinspect.data.load import DATASETS, load_dataset
from qinspect.data.npz import load_npz
from qinspect.data.parts import split

__all__ = [
    "DATASETS",
    "ORDERS",
    "calibration_subset",
    "glyphs",
    "load_dataset",
    "load_npz",
    "split",
]
