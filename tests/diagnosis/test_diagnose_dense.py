"""per-tensor-weights in a QAT file: tfmot gives a dense kernel one range, the remedy one each."""

from __future__ import annotations

from pathlib import Path

import pytest
from parts import need_package
from train_models import digits, uneven

from qinspect.causes import all_rules
from qinspect.diagnosis.cases import Case, TrainingFacts
from qinspect.diagnosis.engine import diagnose
from qinspect.diagnosis.evidence import Evidence
from qinspect.tflite.read import read_graph
from qinspect.train import convert, convert_qat, fit_qat, quantize_aware, save_keras

need_package("tensorflow_model_optimization")
pytestmark = pytest.mark.slow


def test_qat_of_uneven_dense_channels_is_mended_by_a_range_each(tmp_path: Path) -> None:
    model, calibration = uneven(), digits().calibration.x
    save_keras(model, tmp_path / "float.h5")
    qat_model = quantize_aware(model)
    # So small a learning rate that QAT cannot train its way out.
    fit_qat(qat_model, digits().train, None, epochs=1, learning_rate=1e-7, seed=0,
            warm_start_x=calibration)
    case = Case(
        float_graph=read_graph(convert(model, "float32")),
        ptq_graph=read_graph(convert(model, "int8", calibration)),
        qat_graph=read_graph(convert_qat(qat_model)),
        data=digits().test, calibration_x=calibration, train=digits().train,
        keras_float=tmp_path / "float.h5",
        facts=TrainingFacts(float_epochs=4, qat_epochs=1, float_lr=2e-3, qat_lr=1e-7,
                            warm_start=True, exact=True),
    )
    finding = all_rules()["per-tensor-weights"].check(Evidence(case))
    assert finding.verdict == "indicated"
    assert finding.numbers["qat_harmed_layers"]
    assert not finding.numbers["ptq_harmed_layers"]
    found = diagnose(case, num_threads=1, budget=600)
    effect = found.cause("per-tensor-weights").effect
    assert effect is not None
    assert "dense" in effect.done
    assert effect.closed_share > 0.8
    assert found.primary == "per-tensor-weights"
    assert found.proved
