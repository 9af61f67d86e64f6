"""Independent random streams from one seed, one for each purpose."""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """A generator for one purpose, independent of those for others with the same seed.

    Parameters
    ----------
    seed : int
        0 or greater.
    purpose : str
        What the numbers are for.
    *index : int
        Further numbers, such as the epoch.

    Returns
    -------
    numpy.random.Generator

    Notes
    -----
    NumPy pads entropy with zeros, so ``default_rng([seed, 0])`` is ``default_rng(seed)``.  The
    same stream behind a split and the order of its first epoch makes the two permutations
    depend on each other; the purpose, as a CRC-32 that is not 0, keeps them apart
    (numpy.random.SeedSequence, documentation).
    """
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()) or 1, *index])
