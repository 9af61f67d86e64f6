"""The user's own .npz: what is accepted, and one sentence for each way to be wrong."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qinspect.data import load_npz
from qinspect.errors import DataError

GOOD: dict[str, Any] = {"x": np.arange(24.0).reshape(6, 4), "y": np.array([0, 1, 2, 0, 1, 2])}


def written(folder: Path, **change: Any) -> Path:
    arrays = {k: v for k, v in (GOOD | change).items() if v is not None}
    np.savez(folder / "mine.npz", **arrays)
    return folder / "mine.npz"


def test_a_good_file(tmp_path: Path) -> None:
    path = written(tmp_path, id=np.array(list("abcdef")), group=np.array([0, 0, 1, 1, 2, 2]))
    loaded = load_npz(path)
    np.testing.assert_array_equal(loaded.x, GOOD["x"])
    assert loaded.x.dtype == np.float32
    assert loaded.y.dtype == np.int64
    assert loaded.num_classes == 3
    assert list(loaded.ids) == list("abcdef")
    assert loaded.group is not None
    assert list(loaded.group) == [0, 0, 1, 1, 2, 2]


def test_ids_by_position_and_integer_inputs_kept(tmp_path: Path) -> None:
    loaded = load_npz(written(tmp_path, x=np.arange(24, dtype=np.int8).reshape(6, 4)))
    assert loaded.x.dtype == np.int8
    assert loaded.ids[5] == "mine-000005"


def test_labels_may_be_absent_until_they_are_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, y=None)
    loaded = load_npz(path)
    assert (loaded.y, loaded.labelled, loaded.num_classes) == (None, False, 0)
    with pytest.raises(DataError, match=r"mine has no labels y"):
        _ = loaded.labels


def with_value(value: float, *index: int) -> np.ndarray:
    x = GOOD["x"].copy()
    x[index] = value
    return x


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": None}, "no array 'x'; the file has 'y'"),
        ({"x": with_value(np.nan, 2, 1)}, r"1 values .* \(nan\) at index \(2, 1\)"),
        ({"x": with_value(-np.inf, 4, 0)}, r"1 values .* \(-inf\) at index \(4, 0\)"),
        ({"x": with_value(1e300, 0, 3)}, r"1 values .* \(1e\+300\) at index \(0, 3\)"),
        ({"x": GOOD["x"][:, 0]}, r"shape \(6,\)"),
        ({"x": np.zeros((0, 4)), "y": np.zeros(0, int)}, "empty"),
        ({"x": GOOD["x"].astype(object)}, "'x' is an array of Python objects"),
        ({"x": GOOD["x"].astype(str)}, "dtype"),
        ({"x": GOOD["x"] * 1j}, "dtype complex128"),
        ({"y": GOOD["y"].astype(object)}, "'y' is an array of Python objects"),
        ({"y": GOOD["y"][:5]}, r"'y' has shape \(5,\); it must be \(6,\) or"),
        ({"y": np.array(3)}, r"'y' has shape \(\)"),
        ({"y": GOOD["y"] * np.nan}, "'y' has 6 values that are NaN or infinite"),
        ({"y": GOOD["y"] * 1j}, "'y' has dtype complex128"),
        ({"y": np.array(list("ab cde"))}, "'y' is empty for 1 of 6 examples"),
        ({"y": np.full((6, 2), "a")}, r"'y' holds text in shape \(6, 2\)"),
        ({"y": np.full(6, b"\xff")}, "not UTF-8"),
        ({"y": np.full(6, 2**64 - 1, np.uint64)}, "beyond int64"),
        ({"id": np.array(list("abcdeb"))}, "'b' occurs 2 times, first at index 1"),
        ({"id": np.arange(6) / 2}, "'id' has dtype"),
        ({"id": np.arange(5)}, r"'id' has shape \(5,\)"),
        ({"group": np.zeros((6, 1))}, r"'group' has shape \(6, 1\)"),
        ({"group": np.array([None] * 6)}, "'group' is an array of Python objects"),
    ],
)
def test_each_fault_has_its_sentence(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = written(tmp_path, **change)
    with pytest.raises(DataError, match=words) as caught:
        load_npz(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


Y = GOOD["y"]


@pytest.mark.parametrize("y", [
    Y.astype(float), Y.astype(np.uint8), Y[:, None], np.eye(3)[Y], np.eye(3, dtype=bool)[Y],
    np.array(["ant", "bee", "cat"])[Y], np.array([b"ant", b"bee", b"cat"])[Y], Y.astype(str),
    np.array(["ant", "bee", "cat"])[Y][:, None], np.eye(3)[Y].astype(np.float16),
], ids=lambda y: f"{y.dtype} {y.shape}")
def test_the_same_labels_however_they_are_kept(y: np.ndarray, tmp_path: Path) -> None:
    loaded = load_npz(written(tmp_path, y=y))
    assert loaded.labels.dtype == np.int64
    np.testing.assert_array_equal(loaded.labels, Y)
    assert loaded.num_classes == 3
    # What is more than another type is said.
    assert bool(loaded.notes) == (y.ndim > 1 or y.dtype.kind in "US")
    assert loaded.class_names == (
        ("ant", "bee", "cat") if y.dtype.kind in "US" and y.ravel()[0] not in ("0", b"0") else ())


@pytest.mark.parametrize("y", [
    Y + 0.5, (Y + 0.5).astype(np.float32), Y - 1, Y * 10**9, np.stack([Y, Y], axis=1),
    np.zeros((6, 3)), np.zeros((6, 4, 4), np.uint8),
], ids=lambda y: f"{y.dtype} {y.shape}")
def test_other_targets_stay_as_they_are(y: np.ndarray, tmp_path: Path) -> None:
    loaded = load_npz(written(tmp_path, y=y))
    assert loaded.y is not None
    assert loaded.y.dtype == y.dtype
    np.testing.assert_array_equal(loaded.y, y)
    assert (loaded.num_classes, loaded.labelled) == (0, True)
    with pytest.raises(DataError, match="holds no class labels") as caught:
        _ = loaded.labels
    assert "\n" not in str(caught.value)


def test_ten_comes_after_nine(tmp_path: Path) -> None:
    y = np.array([10, 9, 2, 10, 9, 2])
    loaded = load_npz(written(tmp_path, y=y.astype(str)))
    np.testing.assert_array_equal(loaded.labels, y)


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return (Path.touch, (self.trace,))


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    plain = tmp_path / "plain.npz"
    plain.write_bytes(pickle.dumps(Bomb(trace)))
    inside = written(tmp_path, id=np.array([Bomb(trace)] * 6, dtype=object))
    for path in (plain, inside):
        with pytest.raises(DataError):
            load_npz(path)
    assert not trace.exists()


def test_files_that_are_no_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("x,y\n1,2\n")
    (tmp_path / "empty.npz").touch()
    for name in ("one.npy", "text.npz", "empty.npz", "absent.npz", "."):
        with pytest.raises(DataError) as caught:
            load_npz(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_damage_anywhere_is_one_sentence_or_harmless(tmp_path: Path) -> None:
    """Every truncation and many flipped bytes: a data error or the right data, nothing else."""
    np.savez_compressed(tmp_path / "whole.npz", **GOOD)
    content = (tmp_path / "whole.npz").read_bytes()
    broken = tmp_path / "broken.npz"
    variants = [content[:size] for size in range(0, len(content), 7)]
    for position in range(0, len(content), 3):
        flipped = bytearray(content)
        flipped[position] ^= 0xFF
        variants.append(bytes(flipped))
    refusals = []
    for variant in variants:
        broken.write_bytes(variant)
        try:
            loaded = load_npz(broken)
        except DataError as error:
            refusals.append(str(error))
        else:
            np.testing.assert_array_equal(loaded.x, GOOD["x"])
            # A name that is damaged is the name of another array.
            assert loaded.y is None or np.array_equal(loaded.y, GOOD["y"])
    assert len(refusals) > len(variants) // 2
    assert not any("\n" in sentence for sentence in refusals)


def test_numbers_as_text_are_numbers(tmp_path: Path) -> None:
    loaded = load_npz(written(tmp_path, y=np.array(["0.5", "-1", "2", "3", "1e3", "7"])))
    np.testing.assert_array_equal(loaded.y, [0.5, -1, 2, 3, 1000, 7])
    assert (loaded.num_classes, loaded.class_names) == (0, ())
    assert "numbers as text" in loaded.notes[0]
