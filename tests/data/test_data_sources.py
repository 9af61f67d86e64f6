"""Examples as people keep them: the same ones, and the same labels, from every kind of source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from parts import need_package
from PIL import Image

from qinspect.data.sources import Source, read
from qinspect.errors import DataError, QinspectError
from qinspect.loading import load

RNG = np.random.default_rng(5)
X = RNG.random((12, 4, 3)).astype(np.float32)
Y = np.array([0, 1, 2] * 4)
NAMES = np.array(["ant", "bee", "cat"])


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "kept.npz", **arrays)
    return folder / "kept.npz"


@pytest.mark.parametrize(("x", "y"), [
    ("X", "Y"), ("X_test", "y_test"), ("images", "labels"), ("test_images", "test_labels"),
    ("data", "target"), ("inputs", "targets"), ("x_val", "y_true"), ("Features", "class"),
    ("x", "label"), ("img", "y"), ("whatever", "y"),
])
def test_usual_names(x: str, y: str, tmp_path: Path) -> None:
    found = read(Source(npz(tmp_path, **{x: X, y: Y})))
    np.testing.assert_array_equal(found.x, X)
    np.testing.assert_array_equal(found.labels, Y)
    # What was not called x or y is named in a note.
    said = " ".join(found.notes)
    assert (f"{x!r} was taken for x" in said) == (x != "x")
    assert (f"{y!r} was taken for y" in said) == (y != "y")


@pytest.mark.parametrize(("names", "words"), [
    (("x_train", "y_train", "x_test", "y_test"), "'x_train', 'x_test' may each be x.*--x-key"),
    (("images", "data", "y"), "'images', 'data' may each be x"),
    (("x", "label", "target"), "'label', 'target' may each be y.*--y-key"),
    (("a", "b", "y"), "no array 'x'; the file has 'a', 'b', 'y'.*--x-key"),
    (("y",), "no array 'x'; the file has 'y'"),
])
def test_two_readings_are_refused_with_the_names(
    names: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    path = npz(tmp_path, **{name: Y if name[0] in "ylt" else X for name in names})
    with pytest.raises(DataError, match=words):
        read(Source(path))


def test_a_key_chooses_and_its_part_chooses_the_labels(tmp_path: Path) -> None:
    path = npz(tmp_path, x_train=X, y_train=Y, x_test=X + 1, y_test=2 - Y)
    found = read(Source(path, "x_test"))
    np.testing.assert_array_equal(found.x, X + 1)
    np.testing.assert_array_equal(found.labels, 2 - Y)
    other = read(Source(path, "x_test", "y_train"))
    np.testing.assert_array_equal(other.labels, Y)
    with pytest.raises(DataError, match=r"has no 'x_tset'; it has 'x_train', 'y_train'"):
        read(Source(path, "x_tset"))
    loaded = load(path, x_key="x_test")
    np.testing.assert_array_equal(loaded.x, X + 1)


def test_arrays_that_may_be_labels_are_named(tmp_path: Path) -> None:
    found = read(Source(npz(tmp_path, x=X, gt=Y)))
    assert found.y is None
    assert found.notes == (f"{tmp_path / 'kept.npz'}: none of 'gt' was taken for y; --y-key names "
                           "one.",)
    with pytest.raises(DataError, match=r"kept has no labels y .*none of 'gt' was taken"):
        _ = found.labels


def test_several_inputs_leave_out_what_is_none(tmp_path: Path) -> None:
    path = npz(tmp_path, img=X, meta=X[:, 0], y=Y, classes=NAMES, mean=np.float32(3))
    found = read(Source(path), inputs=2)
    assert set(found.x) == {"img", "meta"}
    np.testing.assert_array_equal(found.labels, Y)
    assert len(found) == 12
    assert set(read(Source(path, "meta,img"), inputs=2).x) == {"img", "meta"}


def test_npy_and_the_labels_beside_it(tmp_path: Path) -> None:
    np.save(tmp_path / "X_test.npy", X)
    assert read(Source(tmp_path / "X_test.npy")).y is None
    np.save(tmp_path / "y_test.npy", NAMES[Y])
    np.save(tmp_path / "y_train.npy", 2 - Y)
    found = read(Source(tmp_path / "X_test.npy"))
    np.testing.assert_array_equal(found.x, X)
    np.testing.assert_array_equal(found.labels, Y)
    assert "y_test.npy beside it" in found.notes[0]
    asked = read(Source(tmp_path / "X_test.npy", None, str(tmp_path / "y_train.npy")))
    np.testing.assert_array_equal(asked.labels, 2 - Y)
    np.save(tmp_path / "labels_test.npy", Y)
    with pytest.raises(DataError, match=r"'labels_test.npy', 'y_test.npy' beside it"):
        read(Source(tmp_path / "X_test.npy"))
    np.save(tmp_path / "bad.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(DataError, match=r"not a readable .npy"):
        read(Source(tmp_path / "bad.npy"))


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_rows_of_a_table(ending: str, tmp_path: Path) -> None:
    if ending == ".parquet":
        need_package("pyarrow")
    flat = X.reshape(12, -1)
    frame = pd.DataFrame(flat, columns=[f"pixel{at}" for at in range(12)])
    frame.insert(3, "label", NAMES[Y])

    def kept(table: pd.DataFrame, **options: Any) -> Path:
        path = tmp_path / f"rows{ending}"
        table.to_csv(path, **options) if ending == ".csv" else table.to_parquet(path)
        return path

    found = read(Source(kept(frame)))
    np.testing.assert_allclose(found.x, flat, rtol=1e-6)
    np.testing.assert_array_equal(found.labels, Y)
    assert found.class_names == tuple(NAMES)
    shaped = read(Source(kept(frame)), shape=(4, 3, 1))
    np.testing.assert_allclose(shaped.array[..., 0], X, rtol=1e-6)
    assert any("12 columns were read as (4, 3, 1), row by row" in note for note in shaped.notes)
    some = read(Source(kept(frame), "pixel2,pixel0", "label"))
    np.testing.assert_allclose(some.x, flat[:, [2, 0]], rtol=1e-6)
    with pytest.raises(DataError, match="'city' hold text, not numbers; choose the columns"):
        read(Source(kept(frame.assign(city="A"))))
    with pytest.raises(DataError, match="'label', 'y' may each be y"):
        read(Source(kept(frame.assign(y=Y))))


GIVEN = '''
import numpy as np
X, Y = np.load("X.npy"), np.load("Y.npy")
def arrays(): return X, Y
def alone(): return X
def batches():
    for at in range(0, 12, 5): yield X[at:at + 5], Y[at:at + 5]
def representative():
    for one in X: yield [one[None]]
def named():
    for at in range(0, 12, 4): yield {"img": X[at:at + 4], "meta": X[at:at + 4, 0]}, Y[at:at + 4]
def broken(): raise RuntimeError("no disk\\nat all")
def empty(): return []
def half():
    yield X[:4], Y[:4]
    yield X[4:]
def three(): return X, Y, Y
number = 3
'''


def test_a_function_gives_arrays_or_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "given_here.py").write_text(GIVEN)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "Y.npy", Y)
    monkeypatch.chdir(tmp_path)
    for function, labelled in (("arrays", True), ("alone", False), ("batches", True),
                               ("representative", False)):
        found = read(Source(f"given_here:{function}"))
        np.testing.assert_array_equal(found.x, X)
        assert (found.y is not None) == labelled
        assert not labelled or np.array_equal(found.labels, Y)
    named = read(Source("given_here:named"))
    np.testing.assert_array_equal(named.x["img"], X)
    np.testing.assert_array_equal(named.x["meta"], X[:, 0])
    for function, words in (
        ("broken", "RuntimeError: no disk at all"), ("empty", "gives no examples"),
        ("half", "y with 1 of 2 batches"), ("three", "3 values at once"), ("number", "TypeError"),
        ("nothing", "cannot be found"),
    ):
        with pytest.raises(QinspectError, match=words) as caught:
            read(Source(f"given_here:{function}"))
        assert "\n" not in str(caught.value)


def pictures(folder: Path, *, size: tuple[int, int] = (3, 4), mode: str = "L") -> np.ndarray:
    """Twelve images in three folders, and their pixels in the order of names."""
    rng = np.random.default_rng(1)
    depth = {"L": (), "RGB": (3,)}[mode]
    pixels = rng.integers(0, 256, (12, size[1], size[0], *depth), np.uint8)
    for at in range(12):
        place = folder / NAMES[at // 4]
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels[at]).save(place / f"{at:02d}.png")
    (folder / "ant" / "notes.txt").write_text("no image")
    (folder / ".cache").mkdir()
    return pixels


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_folder_a_class(mode: str, tmp_path: Path) -> None:
    pixels = pictures(tmp_path, mode=mode)
    found = read(Source(tmp_path))
    assert found.array.dtype == np.uint8
    np.testing.assert_array_equal(found.array.reshape(pixels.shape), pixels)
    np.testing.assert_array_equal(found.labels, np.repeat([0, 1, 2], 4))
    assert found.class_names == tuple(NAMES)
    assert found.ids[4] == "bee/04.png"
    assert "0 = ant, 1 = bee, 2 = cat" in found.notes[0]
    # The same as a data set by path: 0 to 1.
    loaded = load(tmp_path)
    np.testing.assert_array_equal(loaded.x, found.array.astype(np.float32) / np.float32(255))


def test_images_are_brought_to_the_shape_of_the_model(tmp_path: Path) -> None:
    pixels = pictures(tmp_path, mode="RGB")
    found = read(Source(tmp_path), shape=(8, 6, 1))
    assert found.array.shape == (12, 8, 6, 1)
    one = Image.fromarray(pixels[0]).convert("L").resize((6, 8), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(found.array[0, ..., 0], np.asarray(one))
    assert any("12 of 12 images were resized to 8 x 6" in note for note in found.notes)
    assert any("12 of 12 images were converted to L" in note for note in found.notes)
    with pytest.raises(DataError, match=r"takes \(64,\), not \(height, width, channels\)"):
        read(Source(tmp_path), shape=(64,))
    Image.fromarray(pixels[0][:2]).save(tmp_path / "ant" / "small.png")
    with pytest.raises(DataError, match=r"different sizes \(4 x 3, 2 x 3\)"):
        read(Source(tmp_path))
    (tmp_path / "cat" / "broken.png").write_bytes(b"\x89PNG and nothing else")
    with pytest.raises(DataError, match=r"broken.png: not a readable image"):
        read(Source(tmp_path))


def test_a_class_without_images_keeps_its_number(tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "bat").mkdir()
    found = read(Source(tmp_path))
    assert found.num_classes == 4
    np.testing.assert_array_equal(found.labels, np.repeat([0, 2, 3], 4))


def test_parts_above_the_classes_are_no_classes(tmp_path: Path) -> None:
    for part in ("test", "train"):
        (tmp_path / part).mkdir()
        pictures(tmp_path / part)
    with pytest.raises(DataError, match=r"two folders down, in 'test/ant', 'test/bee', 'test/cat'"):
        read(Source(tmp_path))
    assert len(read(Source(tmp_path / "test"))) == 12


def test_a_study_with_pictures_in_it_is_a_study(tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "spec.json").write_text("{}")
    with pytest.raises(QinspectError, match="spec"):
        load(tmp_path)


def test_folders_that_are_numbers_in_another_order(tmp_path: Path) -> None:
    pictures(tmp_path)
    for old, new in zip(NAMES, ("0", "1", "2"), strict=True):
        (tmp_path / old).rename(tmp_path / new)
    np.testing.assert_array_equal(read(Source(tmp_path)).labels, np.repeat([0, 1, 2], 4))
    (tmp_path / "2").rename(tmp_path / "10")
    with pytest.raises(DataError, match="are numbers that differ from their places"):
        read(Source(tmp_path))


@pytest.mark.parametrize(("name", "words"), [
    ("absent.npz", "no such file"), ("absent", "no such file"), ("text.md", "ends in '.md'"),
    ("nowhere:fn", "cannot be found"), ("", "holds no images"),
])
def test_what_is_no_source(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "text.md").write_text("text")
    with pytest.raises(QinspectError, match=words):
        read(Source(name if ":" in name else tmp_path / name))
