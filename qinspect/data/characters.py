"""Glyphs: rendered characters, any number of them, with shift and noise to dial.

The fonts are those that matplotlib ships (``mpl-data/fonts/ttf``): DejaVu, STIX and Computer
Modern, so nothing is downloaded.  Fonts there without Latin letters are left out.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from qinspect.data.dataset import Dataset
from qinspect.errors import SpecError
from qinspect.schema import Array

FONTS: tuple[str, ...] = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-BoldOblique", "DejaVuSans-Oblique",
    "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-BoldOblique",
    "DejaVuSansMono-Oblique", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-BoldItalic",
    "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralBolIta",
    "STIXGeneralItalic",
)
HELD_OUT_FONTS: tuple[str, ...] = ("cmb10", "cmr10", "cmss10", "cmti10", "cmtt10")

# Images are sampled this much finer than they are returned, then averaged.
_OVERSAMPLING = 3
_BLOCK = 256
# Streams of random numbers; separate, so that turning one knob leaves the others' draws alone.
_LABEL, _POSE, _NOISE = range(3)


def glyphs(
    n: int = 4000,
    *,
    size: int = 16,
    classes: str = "0123456789",
    rotation: float = 10.0,
    noise: float = 0.05,
    contrast: float = 1.0,
    held_out_fonts: bool = False,
    seed: int = 0,
) -> Dataset:
    """Render ``n`` grey images of characters.

    Parameters
    ----------
    n : int
        Images.
    size : int
        Height and width in pixels, 8 to 128.
    classes : str
        The characters, one class each, at least two.
    rotation : float
        Each image is turned by an angle drawn evenly from -rotation..rotation, degrees.
    noise : float
        Standard deviation of the Gaussian pixel noise, in units of the 0..1 range.
    contrast : float
        Pixels become 0.5 + contrast (pixel - 0.5); 1 leaves them, above 1 saturates.
    held_out_fonts : bool
        Draw from :data:`HELD_OUT_FONTS` (Computer Modern) in place of :data:`FONTS`.
    seed : int
        0 or greater.

    Returns
    -------
    Dataset
        ``x`` float32 (n, size, size, 1) in 0..1, ink is 1; ids ``glyphs-s<seed>-<i>``.

    Raises
    ------
    SpecError
        If a knob is outside what is said above or a character is in none of the fonts.

    Notes
    -----
    Image i depends on the seed and the knobs only, not on ``n``; the same seed with one knob
    turned gives the same images with only that changed (and the same ids, so that they can be
    paired).  Each run of ``len(classes)`` images holds every class once.  Besides the knobs,
    every image has a random place (up to 6 % of its size) and scale (0.85 to 1.1).
    """
    _check(n, size, classes, rotation, noise, contrast, seed)
    k = len(classes)
    templates = _templates(HELD_OUT_FONTS if held_out_fonts else FONTS, classes,
                           _OVERSAMPLING * size)
    y = np.concatenate([np.random.default_rng([seed, _LABEL, b]).permutation(k)
                        for b in range(-(-n // k))])[:n].astype(np.int64)
    x = np.empty((n, size, size), dtype=np.float32)
    for block, start in enumerate(range(0, n, _BLOCK)):
        stop = min(start + _BLOCK, n)
        pose = _poses(seed, block)
        for i in range(start, stop):
            x[i] = _posed(templates[:, y[i]], pose[i - start], rotation)
        x[start:stop] = 0.5 + contrast * (x[start:stop] - 0.5)
        grain = np.random.default_rng([seed, _NOISE, block])
        x[start:stop] += noise * grain.standard_normal((stop - start, size, size), np.float32)
    np.clip(x, 0.0, 1.0, out=x)
    ids = np.array([f"glyphs-s{seed}-{i:06d}" for i in range(n)])
    return Dataset("glyphs", x[..., None], y, ids, k, None, tuple(classes))


def turned_glyphs(n: int = 3000, *, seed: int = 0) -> Dataset:
    """Grey images of characters whose ``y`` is the angle in degrees, -45..45, they are turned by.

    The characters 1, 2, 4 and 7 as :func:`glyphs` draws them, of 12 x 12 pixels.
    """
    rotation = 45.0
    made = glyphs(n, size=12, classes="1247", rotation=rotation, seed=seed)
    turns = np.concatenate([_poses(seed, block)[:, 1] for block in range(-(-n // _BLOCK))])[:n]
    return replace(made, name="angles", y=rotation * (2 * turns - 1), num_classes=0,
                   class_names=(), ids=np.char.replace(made.ids, "glyphs", "angles"))


def _poses(seed: int, block: int) -> Array:
    """Font, angle, scale and place of a block of images, as numbers of 0..1."""
    return np.random.default_rng([seed, _POSE, block]).random((_BLOCK, 5))


def _check(
    n: int, size: int, classes: str, rotation: float, noise: float, contrast: float, seed: int
) -> None:
    wrong = (
        ("n", n, n >= 1, "at least 1"),
        ("size", size, 8 <= size <= 128, "between 8 and 128"),
        ("rotation", rotation, 0 <= rotation <= 180, "between 0 and 180 degrees"),
        ("noise", noise, 0 <= noise < np.inf, "0 or greater"),
        ("contrast", contrast, 0 < contrast < np.inf, "greater than 0"),
        ("seed", seed, seed >= 0, "0 or greater"),
    )
    for knob, value, fine, allowed in wrong:
        if not fine:
            raise SpecError(f"glyphs: {knob} is {value}; it must be {allowed}.")
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise SpecError(f"glyphs: classes is {classes!r}; it must be two or more different "
                        "characters.")


@lru_cache(maxsize=8)
def _templates(fonts: tuple[str, ...], classes: str, side: int) -> Array:
    """Characters by font, float32 (fonts, classes, side, side), a capital about 60 % high."""
    from matplotlib import get_data_path
    from matplotlib.ft2font import FT2Font

    sheets = np.zeros((len(fonts), len(classes), side, side), dtype=np.float32)
    for f, name in enumerate(fonts):
        font = FT2Font(f"{get_data_path()}/fonts/ttf/{name}.ttf")
        # The widest letters are 1.1 of the font's size; a capital is about 0.7 of it high.
        font.set_size(0.9 * side, 72)
        for c, character in enumerate(classes):
            if ord(character) not in font.get_charmap() or character.isspace():
                raise SpecError(f"glyphs: the character {character!r} is not in the font {name}; "
                                "use letters, digits and common signs.")
            font.set_text(character, 0.0)
            font.draw_glyphs_to_bitmap(antialiased=True)
            ink = np.asarray(font.get_image(), dtype=np.float32) / 255
            ink = ink[max(0, (ink.shape[0] - side) // 2) :, max(0, (ink.shape[1] - side) // 2) :]
            ink = ink[:side, :side]
            top, left = (side - ink.shape[0]) // 2, (side - ink.shape[1]) // 2
            sheets[f, c, top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    sheets.flags.writeable = False
    return sheets


def _posed(templates: Array, draw: Array, rotation: float) -> Array:
    """One image: font, angle, scale and place from five numbers of 0..1."""
    from scipy.ndimage import affine_transform

    template = templates[int(draw[0] * len(templates))]
    side = len(template)
    angle = np.deg2rad(rotation) * (2 * draw[1] - 1)
    scale = 0.85 + 0.25 * draw[2]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale
    centre = np.full(2, (side - 1) / 2)
    offset = centre - turn @ (centre + 0.12 * side * (draw[3:] - 0.5))
    fine = affine_transform(template, turn, offset, order=1)
    coarse = side // _OVERSAMPLING
    return fine.reshape(coarse, _OVERSAMPLING, coarse, _OVERSAMPLING).mean(axis=(1, 3))
