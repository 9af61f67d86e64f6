"""Streams of one seed are independent of each other and of the bare seed."""

from __future__ import annotations

import numpy as np
import pytest

from qinspect.data import calibration_subset, load_dataset, split
from qinspect.data.streams import stream


def test_numpy_pads_entropy_with_zeros() -> None:
    same = np.random.default_rng([3, 0]).random() == np.random.default_rng(3).random()
    assert same, "the reason for streams with a purpose is gone"


def test_streams_repeat_and_differ() -> None:
    first = {stream(3, purpose, k).random() for purpose in ("a", "b") for k in (0, 1)}
    again = {stream(3, purpose, k).random() for purpose in ("a", "b") for k in (0, 1)}
    assert first == again
    assert len(first | {np.random.default_rng(3).random(), stream(4, "a").random()}) == 6


@pytest.mark.parametrize("seed", range(3))
def test_the_batch_order_is_not_that_of_the_split(seed: int) -> None:
    from qinspect.train.training import batch_order

    order = batch_order(500, seed, 0)
    assert sorted(order) == list(range(500))
    assert (order != np.random.default_rng(seed).permutation(500)).any()


def test_the_calibration_subset_is_not_drawn_as_the_split_was() -> None:
    part = split(load_dataset("digits"), seed=5).calibration
    drawn = calibration_subset(part, len(part), order="random", seed=5).ids
    assert (drawn != part.ids[np.random.default_rng(5).permutation(len(part))]).any()
