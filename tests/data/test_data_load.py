"""Data sets by name: shapes, units, ids, and what the door refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from parts import ROOT

from qinspect.data import DATASETS, load_dataset
from qinspect.errors import DataError, SpecError


def test_digits_are_the_images_of_scikit_learn_in_0_1() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    digits = load_dataset("digits")
    assert digits.x.dtype == np.float32
    assert digits.x.shape == (1797, 8, 8, 1)
    np.testing.assert_array_equal(digits.x[..., 0] * 16, bunch.images)
    np.testing.assert_array_equal(digits.y, bunch.target)
    assert len(set(digits.ids)) == 1797


@pytest.mark.parametrize("name", ["digits", "glyphs"])
def test_input_range_only_scales(name: str) -> None:
    unit = load_dataset(name, limit=50)
    pixels = load_dataset(name, limit=50, input_range="0-255")
    assert pixels.x.dtype == np.float32
    np.testing.assert_allclose(pixels.x, 255 * unit.x, rtol=1e-6)
    np.testing.assert_array_equal(pixels.ids, unit.ids)


def test_limit_keeps_proportions_and_pairs_ids_with_images() -> None:
    whole = load_dataset("digits")
    some = load_dataset("digits", limit=500, seed=3)
    share = np.bincount(whole.y) * 500 / 1797
    assert len(some) == 500
    assert np.all(np.abs(np.bincount(some.y) - share) < 1)
    position = {one: i for i, one in enumerate(whole.ids)}
    there = [position[one] for one in some.ids]
    np.testing.assert_array_equal(some.x, whole.x[there])
    assert there == sorted(there)
    assert list(load_dataset("digits", limit=500, seed=4).ids) != list(some.ids)


@pytest.mark.parametrize("name", ["fashion_mnist", "mnist"])
def test_published_sets_keep_their_order_and_origin(name: str, data_dir: Path) -> None:
    loaded = load_dataset(name)
    with np.load(data_dir / f"{name}.npz", allow_pickle=False) as file:
        test, labels = file["x_test"], file["y_test"]
    assert loaded.x.shape == (70000, 28, 28, 1)
    assert loaded.x.dtype == np.float32
    assert loaded.x.min() == 0
    assert loaded.x.max() == 1
    assert loaded.part is not None
    assert list(np.unique(loaded.part, return_counts=True)[1]) == [10000, 60000]
    np.testing.assert_array_equal(loaded.x[60000:, ..., 0], test / np.float32(255))
    np.testing.assert_array_equal(loaded.y[60000:], labels)
    assert loaded.ids[12] == f"{name}-train-00012"
    assert loaded.ids[60003] == f"{name}-test-00003"
    # Published means of the train pixels.
    mean = {"fashion_mnist": 0.2860, "mnist": 0.1307}[name]
    assert loaded.x[:60000].mean(dtype=np.float64) == pytest.approx(mean, abs=5e-5)


def test_limit_of_a_published_set_keeps_parts_in_proportion(data_dir: Path) -> None:
    some = load_dataset("fashion_mnist", limit=700, input_range="0-255")
    assert some.part is not None
    assert np.count_nonzero(some.part == "test") == 100
    assert all(f"-{part}-" in one for one, part in zip(some.ids, some.part, strict=True))
    assert some.x.max() == 255


def test_cifar10_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QINSPECT_DATA", str(tmp_path))
    x = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    y = (np.arange(30) % 10)[:, None]
    np.savez(tmp_path / "cifar10.npz", x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:])
    loaded = load_dataset("cifar10", input_range="0-255")
    np.testing.assert_array_equal(loaded.x, x)
    np.testing.assert_array_equal(loaded.y, y[:, 0])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"y_test": None}, "no array 'y_test'"),
        ({"x_test": np.zeros((10, 28, 28), np.float32)}, "uint8"),
        ({"y_train": np.full(20, 10)}, "labels"),
        ({"y_train": np.zeros(19, int)}, "labels"),
        ({"x_test": np.zeros((10, 27, 28), np.uint8)}, "differ in size"),
    ],
)
def test_a_wrong_published_file_is_refused(
    change: dict[str, np.ndarray | None], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QINSPECT_DATA", str(tmp_path))
    arrays = {
        "x_train": np.zeros((20, 28, 28), np.uint8),
        "y_train": np.arange(20) % 10,
        "x_test": np.zeros((10, 28, 28), np.uint8),
        "y_test": np.arange(10),
    } | change
    np.savez(tmp_path / "mnist.npz", **{k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(DataError, match=word):
        load_dataset("mnist")


def test_own_uint8_is_pixels_and_other_types_stay(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
    np.savez(tmp_path / "pixels.npz", x=pixels, y=np.arange(6) % 2)
    np.savez(tmp_path / "floats.npz", x=pixels * 0.5 - 3, y=np.arange(6) % 2)
    loaded = load_dataset(tmp_path / "pixels.npz")
    np.testing.assert_allclose(loaded.x, pixels[..., None] / 255, rtol=1e-6)
    floats = load_dataset(str(tmp_path / "floats.npz"), input_range="0-255", limit=4)
    assert floats.x.shape == (4, 5, 4)
    assert floats.x.dtype == np.float32
    assert floats.x.min() < 0


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"name": "fashion_minst"}, SpecError, "fashion_mnist"),
        ({"name": "digits", "input_range": "0-1.0"}, SpecError, "input range"),
        ({"name": "digits", "limit": 0}, SpecError, "at least 1"),
        ({"name": "digits", "noise": 0.1}, SpecError, "'noise'"),
        ({"name": "glyphs", "blur": 1}, SpecError, "'blur'"),
        ({"name": "absent.npz"}, DataError, "no such file"),
        ({"name": "absent.npz", "limit": 5}, DataError, "no such file"),
    ],
)
def test_refusals_are_one_sentence(
    arguments: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        load_dataset(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_importing_the_room_loads_no_plotting_learning_or_training_package() -> None:
    code = (
        "import sys, qinspect.data\n"
        "heavy = {'matplotlib', 'sklearn', 'scipy', 'tensorflow', 'tf_keras'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_every_name_is_known_to_the_door() -> None:
    assert DATASETS == ("digits", "glyphs", "angles", "odd-digits", "fashion_mnist", "mnist",
                        "cifar10")
