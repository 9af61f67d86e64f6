"""Glyphs: deterministic, stable in n, one knob changes one thing, and learnable."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from parts import ROOT

from qinspect.data import glyphs
from qinspect.data.characters import FONTS, HELD_OUT_FONTS
from qinspect.errors import SpecError

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def test_image_does_not_depend_on_how_many_there_are() -> None:
    few, many = glyphs(37, seed=4), glyphs(600, seed=4)
    np.testing.assert_array_equal(few.x, many.x[:37])
    np.testing.assert_array_equal(few.y, many.y[:37])
    np.testing.assert_array_equal(few.ids, many.ids[:37])


def test_same_images_in_another_process() -> None:
    code = (
        "import hashlib; from qinspect.data import glyphs\n"
        "print(hashlib.sha256(glyphs(300, seed=2).x.tobytes()).hexdigest())"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "5"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    here = hashlib.sha256(glyphs(300, seed=2).x.tobytes()).hexdigest()
    assert done.stdout.strip() == here, done.stderr


def test_seeds_differ_and_images_are_distinct() -> None:
    one, two = glyphs(400, noise=0), glyphs(400, noise=0, seed=1)
    assert not np.array_equal(one.x, two.x)
    assert len({image.tobytes() for image in one.x}) == 400


def test_shape_range_and_balance() -> None:
    made = glyphs(520, size=24, classes=LETTERS)
    assert made.x.shape == (520, 24, 24, 1)
    assert made.x.dtype == np.float32
    assert made.x.min() >= 0
    assert made.x.max() <= 1
    assert made.num_classes == 52
    assert list(np.bincount(made.y)) == [10] * 52
    assert made.class_names == tuple(LETTERS)


def test_noise_is_what_it_says_and_nothing_else_moves() -> None:
    # Mid grey at low contrast, so that clipping at 0 and 1 does not bite.
    clean = glyphs(200, noise=0, contrast=0.2)
    noisy = glyphs(200, noise=0.05, contrast=0.2)
    grain = noisy.x - clean.x
    assert abs(grain.mean()) < 5 * 0.05 / grain.size**0.5
    assert grain.std() == pytest.approx(0.05, rel=0.03)
    twice = glyphs(200, noise=0.10, contrast=0.2)
    np.testing.assert_allclose(twice.x - clean.x, 2 * grain, atol=1e-6)
    np.testing.assert_array_equal(twice.y, clean.y)
    np.testing.assert_array_equal(twice.ids, clean.ids)


def test_contrast_is_about_mid_grey() -> None:
    full, half = glyphs(100, noise=0), glyphs(100, noise=0, contrast=0.5)
    np.testing.assert_allclose(half.x, 0.25 + 0.5 * full.x, atol=1e-6)


def test_rotation_turns_about_the_centre_without_changing_the_ink() -> None:
    straight, turned = glyphs(200, noise=0, rotation=0), glyphs(200, noise=0, rotation=30)
    assert not np.allclose(straight.x, turned.x)
    ink, ink_turned = (made.x.sum(axis=(1, 2, 3)) for made in (straight, turned))
    assert np.corrcoef(ink, ink_turned)[0, 1] > 0.99


def test_held_out_fonts_change_the_shapes_only() -> None:
    assert not set(FONTS) & set(HELD_OUT_FONTS)
    usual, other = glyphs(200, noise=0), glyphs(200, noise=0, held_out_fonts=True)
    np.testing.assert_array_equal(usual.y, other.y)
    assert not any(np.array_equal(a, b) for a, b in zip(usual.x, other.x, strict=True))


def test_no_character_is_empty_or_touches_too_much_of_the_frame() -> None:
    for held_out in (False, True):
        made = glyphs(104, classes=LETTERS, noise=0, size=32, rotation=0, held_out_fonts=held_out)
        ink = made.x.mean(axis=(1, 2, 3))
        assert ink.min() > 0.01
        assert ink.max() < 0.5


def test_classes_can_be_told_apart_and_knobs_make_it_harder() -> None:
    """A linear model: well above chance on fresh images, worse under each shift."""
    from sklearn.linear_model import LogisticRegression

    train = glyphs(1500, seed=0)
    model = LogisticRegression(max_iter=200).fit(train.x.reshape(1500, -1), train.y)

    def accuracy(**knobs: float) -> float:
        fresh = glyphs(600, seed=1, **knobs)  # type: ignore[arg-type]
        return float(model.score(fresh.x.reshape(600, -1), fresh.y))

    plain = accuracy()
    assert plain > 0.8
    assert accuracy(rotation=60) < plain - 0.1
    assert accuracy(noise=0.4) < plain - 0.05
    assert accuracy(held_out_fonts=True) < plain


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"n": 0}, "n is 0"),
        ({"size": 4}, "between 8 and 128"),
        ({"classes": "a"}, "two or more"),
        ({"classes": "aba"}, "two or more"),
        ({"classes": "a "}, "not in the font"),
        ({"classes": "a\u4e2d"}, "not in the font"),
        ({"rotation": -1}, "rotation is -1"),
        ({"noise": float("nan")}, "noise is nan"),
        ({"contrast": 0}, "contrast is 0"),
        ({"seed": -3}, "seed is -3"),
    ],
)
def test_knobs_out_of_range(knobs: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        glyphs(**knobs)  # type: ignore[arg-type]
