"""Splits: disjoint, stratified, stable, official test images kept apart, groups kept whole."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import other_process

from qinspect.data import calibration_subset, load_dataset, split
from qinspect.data.dataset import Dataset, Splits
from qinspect.data.splitting import draw, quotas
from qinspect.errors import DataError, SpecError

PARTS = ("train", "validation", "calibration", "test")


def toy(y: np.ndarray, group: np.ndarray | None = None, part: np.ndarray | None = None) -> Dataset:
    n = len(y)
    ids = np.array([f"toy-{i}" for i in range(n)])
    return Dataset("toy", np.arange(n, dtype=np.float32)[:, None], y, ids, int(y.max()) + 1, group,
                   (), part)


def parts(splits: Splits) -> dict[str, Dataset]:
    return {part: getattr(splits, part) for part in PARTS}


def test_a_data_set_splits_itself() -> None:
    data = toy(np.arange(60) % 3)
    sizes = {"train": 30, "validation": 9, "calibration": 9, "test": 12, "seed": 4}
    for name, own in parts(data.split(**sizes)).items():
        np.testing.assert_array_equal(own.ids, parts(split(data, **sizes))[name].ids)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.data())
@settings(max_examples=150, deadline=None)
def test_quotas_against_exact_shares(counts: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(0, sum(counts)))
    got = quotas(np.array(counts), total)
    assert got.sum() == total if sum(counts) else got.sum() == 0
    assert np.all(got <= counts)
    for quota, count in zip(got, counts, strict=True):
        share = Fraction(count * total, max(1, sum(counts)))
        assert abs(int(quota) - share) < 1
    lifted = quotas(np.array(counts), total, each=True)
    assert lifted.sum() == got.sum()
    assert np.all((lifted >= 0) & (lifted <= counts))
    if total >= np.count_nonzero(counts):
        assert np.all(lifted[np.array(counts) > 0] >= 1)


def test_draw_gives_every_example_of_a_class_the_same_chance() -> None:
    strata = np.array([0] * 4 + [1] * 8)
    rng = np.random.default_rng(0)
    hits = np.zeros(12)
    for _ in range(4000):
        hits[draw(strata, 6, rng)] += 1
    # Two of four and four of eight, each with probability 1/2; 5 standard errors.
    assert np.all(np.abs(hits / 4000 - 0.5) < 5 * 0.5 / 4000**0.5)


@given(
    seed=st.integers(0, 2**32),
    labels=st.lists(st.integers(0, 3), min_size=60, max_size=120),
    sizes=st.fixed_dictionaries(
        {},
        optional={
            "validation": st.integers(1, 9),
            "calibration": st.integers(1, 9),
            "test": st.integers(8, 20),
            "train": st.integers(8, 22),
        },
    ),
    grouped=st.booleans(),
    official=st.booleans(),
)
@settings(max_examples=120, deadline=None)
def test_parts_never_overlap(
    seed: int, labels: list[int], sizes: dict[str, int], grouped: bool, official: bool
) -> None:
    y = np.array(labels)
    y[:8] = np.arange(8) % 4
    y[-8:] = np.arange(8) % 4
    where = np.where(np.arange(len(y)) < 40, "train", "test") if official else None
    group = np.arange(len(y)) // 2 if grouped else None
    if official and sizes.get("test", 0) > len(y) - 40:
        sizes["test"] = len(y) - 40
    dataset = toy(y, group, where)
    try:
        got = parts(split(dataset, seed=seed, **sizes))
    except DataError as error:
        # Whole groups cannot always give every class to both parts; nothing else may fail.
        if not grouped:
            raise
        assert "missing" in str(error) or "empty" in str(error)  # noqa: PT017
        return
    ids = np.concatenate([one.ids for one in got.values()])
    assert len(set(ids)) == len(ids)
    for part, one in got.items():
        assert len(one) > 0
        np.testing.assert_array_equal(one.ids, [f"toy-{i}" for i in one.x[:, 0].astype(int)])
        np.testing.assert_array_equal(one.y, y[one.x[:, 0].astype(int)])
        if not grouped and part in sizes:
            assert len(one) == sizes[part]
        if official:
            assert set(one.part) == {"test" if part == "test" else "train"}
    for part in ("train", "test"):
        assert set(got[part].y) == {0, 1, 2, 3}
    if grouped:
        owners = [set(one.group) for one in got.values()]
        assert sum(map(len, owners)) == len(set().union(*owners))


def test_default_sizes_and_class_shares_on_digits() -> None:
    digits = load_dataset("digits")
    got = parts(split(digits))
    assert {part: len(one) for part, one in got.items()} == {
        "train": 988, "validation": 180, "calibration": 180, "test": 449,
    }
    share = np.bincount(digits.y) / len(digits)
    for one in got.values():
        assert np.all(np.abs(np.bincount(one.y) - share * len(one)) < 2)


def test_test_part_depends_on_its_size_and_the_seed_alone() -> None:
    digits = load_dataset("digits")
    default = split(digits, seed=5)
    other = split(digits, seed=5, calibration=50, validation=300, train=600)
    np.testing.assert_array_equal(default.test.ids, other.test.ids)
    assert set(split(digits, seed=6).test.ids) != set(default.test.ids)


def test_parts_are_shuffled() -> None:
    got = split(toy(np.sort(np.arange(400) % 4)))
    for one in parts(got).values():
        assert len(set(one.y[: len(one) // 2])) == 4


def digest(dataset: Dataset) -> str:
    got = parts(split(dataset, seed=11))
    return hashlib.sha256("\n".join(i for p in got.values() for i in p.ids).encode()).hexdigest()


def test_same_seed_same_ids_in_another_process() -> None:
    code = (
        "from qinspect.data import load_dataset\n"
        "from test_data_split import digest\n"
        "print(digest(load_dataset('digits')), digest(load_dataset('glyphs', limit=300)))"
    )
    env = other_process(Path(__file__).parent, PYTHONHASHSEED="123")
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    here = [digest(load_dataset("digits")), digest(load_dataset("glyphs", limit=300))]
    assert done.stdout.split() == here, done.stderr


def test_published_test_images_stay_test(data_dir: Path) -> None:
    for name in ("fashion_mnist", "mnist"):
        limited = load_dataset(name, limit=7000)
        got = parts(split(limited, seed=1))
        assert {part: len(one) for part, one in got.items()} == {
            "train": 4900, "validation": 600, "calibration": 500, "test": 1000,
        }
        for part, one in got.items():
            origin = "test" if part == "test" else "train"
            assert all(example.startswith(f"{name}-{origin}-") for example in one.ids)


def test_groups_are_met_in_size_and_class() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(300), rng.integers(1, 9, 300))
    y = rng.integers(0, 5, 300)[group]
    got = parts(split(toy(y, group)))
    wanted = {"train": 0.55, "validation": 0.10, "calibration": 0.10, "test": 0.25}
    for part, one in got.items():
        assert abs(len(one) / len(y) - wanted[part]) < 0.02
        share = np.bincount(one.y, minlength=5) / len(one)
        assert np.all(np.abs(share - np.bincount(y) / len(y)) < 0.04)


def test_groups_with_small_parts_leave_the_rest_unused() -> None:
    y = np.arange(1000) % 4
    got = parts(split(toy(y, np.arange(1000) // 2), train=200, test=100, validation=40,
                      calibration=40))
    assert abs(len(got["train"]) - 200) <= 4
    assert abs(len(got["test"]) - 100) <= 4


def test_rare_class_reaches_train_and_test() -> None:
    y = np.array([0] * 100 + [1, 1])
    got = split(toy(y))
    assert 1 in got.train.y
    assert 1 in got.test.y


@pytest.mark.parametrize(
    ("y", "sizes", "error", "words"),
    [
        (np.arange(40) % 4, {"test": 0}, SpecError, "test part is 0"),
        (np.arange(40) % 4, {"train": 0.5}, SpecError, "train part is 0.5"),
        (np.arange(40) % 4, {"validation": True}, SpecError, "validation part is True"),
        (np.arange(40) % 4, {"test": 40}, SpecError, "40 examples for the parts"),
        (np.arange(40) % 4, {"train": 30}, SpecError, "together"),
        (np.arange(3) % 2, {}, SpecError, "at least one"),
        (np.arange(40) % 4, {"test": 3}, DataError, "missing from the test part"),
        (np.array([0] * 39 + [1]), {}, DataError, "class 1 .* missing from the train part"),
        (np.array([0] * 20 + [2] * 20), {}, DataError, "class 1 .* has 0 in all"),
    ],
)
def test_what_cannot_be_split(
    y: np.ndarray, sizes: dict[str, int], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        split(toy(y), **sizes)


def test_one_group_for_all_cannot_be_split() -> None:
    with pytest.raises(DataError, match="groups"):
        split(toy(np.arange(40) % 4, np.zeros(40)))


def test_group_in_both_official_parts_is_refused() -> None:
    part = np.repeat(["train", "test"], [30, 10])
    group = np.arange(40) // 2
    group[30] = 0
    with pytest.raises(DataError, match=r"'0' .* both"):
        split(toy(np.arange(40) % 2, group, part))


def test_calibration_orders() -> None:
    pool = split(load_dataset("digits")).calibration
    first = calibration_subset(pool, 20, "first")
    np.testing.assert_array_equal(first.ids, pool.ids[:20])
    by_class = calibration_subset(pool, 20, "sorted_by_class")
    assert len(set(by_class.y)) <= 2
    assert list(by_class.y) == sorted(by_class.y)
    small, large = (calibration_subset(pool, size, seed=3) for size in (20, 90))
    np.testing.assert_array_equal(small.ids, large.ids[:20])
    assert set(calibration_subset(pool, 20, seed=4).ids) != set(small.ids)
    everything = calibration_subset(pool, len(pool), seed=3)
    assert set(everything.ids) == set(pool.ids)


@pytest.mark.parametrize("size", [0, 181, -1])
def test_calibration_size_out_of_range(size: int) -> None:
    pool = split(load_dataset("digits")).calibration
    with pytest.raises(SpecError, match="between 1 and 180"):
        calibration_subset(pool, size)


def test_unknown_calibration_order() -> None:
    pool = split(load_dataset("digits")).calibration
    with pytest.raises(SpecError, match="sorted_by_class"):
        calibration_subset(pool, 10, "sorted")


@pytest.mark.parametrize("y", [None, np.linspace(-1, 1, 40), np.zeros((40, 2, 2), np.uint8)])
def test_without_class_labels_parts_are_random_and_disjoint(y: np.ndarray | None) -> None:
    ids = np.array([f"toy-{i}" for i in range(40)])
    data = Dataset("toy", {"a": np.arange(40.0)[:, None], "b": np.arange(40)}, y, ids, 0)
    got = split(data, seed=3)
    parts = [getattr(got, name) for name in ("train", "validation", "calibration", "test")]
    assert sorted(np.concatenate([part.ids for part in parts])) == sorted(ids)
    for part in parts:
        at = np.array([int(name.removeprefix("toy-")) for name in part.ids])
        np.testing.assert_array_equal(part.x["b"], at)
        assert y is None or np.array_equal(part.y, y[at])
    assert list(got.test.ids) != sorted(got.test.ids)
