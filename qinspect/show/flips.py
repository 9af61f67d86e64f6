"""The examples that one model gets right and the other does not, as pictures and rows."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from qinspect.errors import SpecError
from qinspect.schema import Array

WHICH = {
    "b": "only b right",
    "a": "only a right",
    "differ": "different answers, both wrong",
}
_SIDE = 112


def flip_table(
    y: Array, prediction_a: Array, prediction_b: Array, ids: Array, which: str
) -> pd.DataFrame:
    """Examples on which two models differ.

    Parameters
    ----------
    y, prediction_a, prediction_b : ndarray of int64, shape (n,)
    ids : ndarray of str, shape (n,)
    which : str
        Key of ``WHICH``.

    Returns
    -------
    DataFrame
        ``index``, ``id``, ``y``, ``a``, ``b`` (the two answers), in the order of the examples.

    Raises
    ------
    SpecError
        If ``which`` is not known.
    """
    right_a, right_b = prediction_a == y, prediction_b == y
    masks = {
        "a": right_a & ~right_b,
        "b": right_b & ~right_a,
        "differ": ~right_a & ~right_b & (prediction_a != prediction_b),
    }
    if which not in masks:
        raise SpecError(f"which is {which!r}; choose one of {', '.join(masks)}.")
    at = np.flatnonzero(masks[which])
    return pd.DataFrame(
        {"index": at, "id": ids[at], "y": y[at], "a": prediction_a[at], "b": prediction_b[at]}
    )


def top_outputs(output: Array, names: tuple[str, ...], most: int = 2) -> str:
    """The greatest outputs of one example in words, in the units of the file's output."""
    order = np.argsort(-output.astype(np.float64), kind="stable")[:most]
    return ", ".join(f"{class_name(int(i), names)} ({output[i]:.3g})" for i in order)


def class_name(label: int, names: tuple[str, ...]) -> str:
    """Name of a class, its number where it has none."""
    return names[label] if 0 <= label < len(names) else str(label)


def picture(x: Array, low: float, high: float) -> str | None:
    """An example as a data URI, or None where it is not an image.

    Parameters
    ----------
    x : ndarray, shape (height, width), (height, width, 1) or (height, width, 3)
    low, high : float
        Values shown as black and as white.
    """
    image: Any = x[..., 0] if x.ndim == 3 and x.shape[-1] == 1 else x
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[-1] != 3):
        return None
    span = high - low if high > low else 1.0
    levels = np.clip(255 * (image.astype(np.float64) - low) / span, 0, 255).astype(np.uint8)
    drawn = Image.fromarray(levels)
    factor = max(1, _SIDE // max(drawn.size))
    size = (drawn.width * factor, drawn.height * factor)
    buffer = io.BytesIO()
    drawn.resize(size, Image.Resampling.NEAREST).save(buffer, "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
