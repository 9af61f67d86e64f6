"""Independent random streams from one seed, one for each purpose."""

from __future__ import annotations

import zlib

import numpy as np

from qinspect.errors import SpecError


def check_seed(seed: int) -> None:
    """Refuse a seed that no generator takes."""
    if seed < 0:
        raise SpecError(f"seed is {seed}; it must be a whole number of at least 0.")


def stream(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """A generator for one purpose (and epoch, ...), independent of others with the same seed.

    References
    ----------
    numpy.random.SeedSequence, documentation: entropy is padded with zeros.
    """
    check_seed(seed)
    # default_rng([seed, 0]) is default_rng(seed); the same stream behind a split and the order of
    # its first epoch makes the two permutations depend on each other.  The CRC-32 of the purpose,
    # never 0, keeps them apart.
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()) or 1, *index])
