"""Data in other units than a QUANTIZE behind a float input stores are refused, not clipped."""

from __future__ import annotations

from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as fb

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


def test_bytes_that_a_quantize_shows_to_be_right(cases: Path, tmp_path: Path) -> None:
    # Nothing is in doubt where the QUANTIZE behind the float input holds 0 to 255.
    files = [cases / "10-uint8-units" / f"cls_{name}.tflite" for name in ("float", "ptq")]
    model = fb.ModelT.InitFromPackedBuf(files[1].read_bytes(), 0)
    stored = next(t for t in model.subgraphs[0].tensors if t.name == b"tfl.quantize")
    stored.quantization.scale = [1.0]
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    (tmp_path / "bytes.tflite").write_bytes(bytes(builder.Output()))
    data = cases / "10-uint8-units" / "cls_u8.npz"
    doubted = qi.compare([files[0], files[0]], data).to_json()["notes"]
    assert any("nothing shows whether they are in the units" in note for note in doubted)
    found = qi.compare([files[0], tmp_path / "bytes.tflite"], data).to_json()["notes"]
    assert not any("nothing shows" in note for note in found)
