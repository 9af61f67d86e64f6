"""Images in a folder with one folder a class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from qinspect.data.dataset import Dataset
from qinspect.data.names import listed
from qinspect.errors import DataError
from qinspect.schema import Array

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# More than eight bits a channel do not become pixels 0 to 255 without a choice.
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L")


def holds_images(folder: Path) -> bool:
    """Whether there is an image in a folder or in one right below it."""
    return any(_is_image(file) for pattern in ("*", "*/*") for file in folder.glob(pattern))


def read_folder(folder: Path, shape: tuple[int, ...] = ()) -> Dataset:
    """Images as uint8 0..255 (n, height, width, channels), of the shape that a model takes.

    Classes are the folders in sorted order, also those without images, as Keras numbers them.
    """
    classes = sorted(path for path in folder.iterdir()
                     if path.is_dir() and not path.name.startswith("."))
    names = [path.name for path in classes]
    files = [(file, label) for label, path in enumerate(classes)
             for file in sorted(path.iterdir()) if _is_image(file)]
    loose = [file for file in sorted(folder.iterdir()) if _is_image(file)]
    notes = []
    inside = [path.relative_to(folder).as_posix() for path in sorted(folder.glob("*/*"))
              if path.is_dir() and any(map(_is_image, path.iterdir()))]
    if inside:
        raise DataError(f"{folder}: there are images two folders down, in {listed(inside)}, so "
                        "the folders right below it need not be classes; give the folder that has "
                        "one folder a class.")
    if files:
        if loose:
            notes.append(f"{folder}: {len(loose)} images outside of the folders of classes were "
                         "left out.")
        _check_numbers(folder, names)
        shown = ", ".join(f"{at} = {name[:30]}" for at, name in enumerate(names[:10]))
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        notes.append(f"{folder}: folders were taken for classes, in sorted order: {shown}{more}.")
    else:
        files = [(file, -1) for file in loose]
        names = []
    if not files:
        raise DataError(f"{folder} holds no images ({', '.join(SUFFIXES)}); give a folder with one "
                        "folder of images a class.")
    size, mode, said = _form(folder, [file for file, _ in files], shape)
    x = np.stack([_pixels(file, size, mode) for file, _ in files])
    ids = np.array([file.relative_to(folder).as_posix() for file, _ in files])
    y = np.array([label for _, label in files]) if names else None
    return Dataset(folder.name, x[..., None] if x.ndim == 3 else x, y, ids, len(names),
                   class_names=tuple(names), notes=(*notes, *said))


def _is_image(file: Path) -> bool:
    return (file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file())


def _check_numbers(folder: Path, names: list[str]) -> None:
    """Folders 1, 2, 10 are numbered 1, 2, 10 or, in sorted order, 0, 2, 1: refuse to choose."""
    if all(name.isdecimal() for name in names) and [*map(int, names)] != [*range(len(names))]:
        raise DataError(f"{folder}: the folders {listed(names)} are numbers that differ from their "
                        "places in sorted order, 0, 1, 2, ...; rename them (class_00, class_01, "
                        "...) and add empty folders for classes without images.")


def _form(folder: Path, files: list[Path], shape: tuple[int, ...]
          ) -> tuple[tuple[int, int], str, tuple[str, ...]]:
    """Height and width, and the mode of Pillow that all images are brought to; and notes."""
    sizes: Counter[tuple[int, int]] = Counter()
    modes: Counter[str] = Counter()
    for file in files:
        with _opened(file) as image:
            if image.mode in _DEEP:
                raise DataError(f"{file} has more than 8 bits a channel; store it with 8, in the "
                                "scaling that the model was trained with.")
            sizes[image.height, image.width] += 1
            modes["L" if image.mode in ("1", "L", "LA") else "RGB"] += 1
    height, width, channels = -1, -1, 0
    if shape:
        form = (*shape, 1) if len(shape) == 2 else shape
        if len(form) != 3 or form[2] not in (*_MODES, -1):
            raise DataError(f"{folder} holds images, but the model takes {shape}, not (height, "
                            "width, channels) with 1, 3 or 4 channels.")
        height, width, channels = form
    mode = _MODES.get(channels, "L" if "RGB" not in modes else "RGB")
    own = next(iter(sizes))
    size = (own[0] if height < 0 else height, own[1] if width < 0 else width)
    if -1 in (height, width) and len(sizes) > 1:
        found = ", ".join(f"{one[0]} x {one[1]}" for one in list(sizes)[:3])
        raise DataError(f"{folder}: its images have different sizes ({found}), and no model says "
                        "which one it takes; resize them.")
    notes = []
    if resized := len(files) - sizes[size]:
        notes.append(f"{folder}: {resized} of {len(files)} images were resized to {size[0]} x "
                     f"{size[1]} (bilinear, proportions not kept).")
    if changed := sum(count for one, count in modes.items() if one != mode[:3]):
        notes.append(f"{folder}: {changed} of {len(files)} images were converted to {mode}.")
    return size, mode, tuple(notes)


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(file) as image:
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        why = " ".join(str(error).split())[:120]
        raise DataError(f"{file}: not a readable image ({why}); repair or remove it.") from error


def _pixels(file: Path, size: tuple[int, int], mode: str) -> Array:
    with _opened(file) as image:
        pixels = image.convert(mode)
        if (pixels.height, pixels.width) != size:
            pixels = pixels.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        return np.asarray(pixels)
