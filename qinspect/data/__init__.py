"""Data sets, splits and calibration sets."""

from qinspect.data.characters import glyphs
from qinspect.data.npz import load_npz
from qinspect.data.sets import DATASETS, load_dataset
from qinspect.data.sources import Source
from qinspect.data.splitting import ORDERS, calibration_subset, split

__all__ = [
    "DATASETS", "ORDERS", "Source", "calibration_subset", "glyphs", "load_dataset", "load_npz",
    "split",
]
