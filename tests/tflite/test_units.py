"""Data in other units than a QUANTIZE behind a float input stores are refused, not clipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import qinspect as qi
from qinspect.errors import DataError
from qinspect.tflite.inputs import preprocessing_of


def test_bytes_given_to_a_float_input(cases: Path) -> None:
    files = [cases / "10-uint8-units" / f"cls_{name}.tflite" for name in ("float", "ptq", "qat")]
    data = cases / "10-uint8-units" / "cls_u8.npz"
    with pytest.raises(DataError, match=r"x runs from 0 to 255, the QUANTIZE behind .* 0 to 1"):
        qi.compare(files, data)
    ways = preprocessing_of(3, ["0.00392156862745098"])
    found = qi.evaluate(files, data, preprocessing=ways)
    right = [100 * found.value(file.name) for file in files]
    assert np.round(right, 2).tolist() == [97.18, 96.78, 97.38]
