"""Labels are refused where outputs are no class scores; a wrong number is never printed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from parts import missing
from small_net import small_net

import qinspect as qi
from qinspect.errors import DataError
from qinspect.tflite.inputs import check_classes
from qinspect.tflite.read import read_graph


@pytest.fixture(scope="module")
def cases(data_dir: Path) -> Path:
    folder = data_dir.parent / "cases"
    if not folder.is_dir():
        missing(f"there is no folder {folder}")
    return folder


def test_a_classifier_is_taken() -> None:
    graph = read_graph(small_net())
    check_classes(graph, np.array([0, 1]))
    with pytest.raises(DataError, match="labels run from 0 to 99"):
        check_classes(graph, np.array([0, 99]))


@pytest.mark.parametrize(("stem", "names", "data", "said"), [
    ("04-output-order", ("mo_float", "mo_ptq", "mo_qat"), "par_eval", "has 2 outputs"),
    ("05-sigmoid-diagnose", ("bin_float", "bin_ptq", "bin_qat"), "bin_eval", "gives one number"),
    ("07-autoencoder", ("ae_float", "ae_ptq", "ae_qat"), "ae_eval", "as an autoencoder does"),
    ("07-autoencoder", ("seg_float", "seg_ptq"), "seg_img", "gives an array"),
])
def test_no_number_where_there_is_no_class(
    cases: Path, stem: str, names: tuple[str, ...], data: str, said: str
) -> None:
    files = [cases / stem / f"{name}.tflite" for name in names]
    examples = cases / stem / f"{data}.npz"
    for ask in (
        lambda: qi.compare(files, examples),
        lambda: qi.evaluate(files, examples),
        lambda: qi.sensitivity(files[0], examples, calibration=examples),
        lambda: qi.diagnose(qi.case(float=files[0], ptq=files[1], data=examples)),
    ):
        with pytest.raises(DataError, match=said):
            ask()
