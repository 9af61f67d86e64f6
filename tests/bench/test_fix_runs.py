"""The script of each cause, run on files into which that cause was put: it mends them."""

from __future__ import annotations

import re
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from parts import need_package

from qinspect.causes import all_rules
from qinspect.diagnosis import cases
from qinspect.diagnosis.cases import Case
from qinspect.diagnosis.engine import diagnose
from qinspect.errors import SpecError
from qinspect.stats import Comparison
from qinspect.studies.run import run_study
from qinspect.studies.spec import make_spec
from qinspect_bench.base import Base, Cell
from qinspect_bench.faults import FAULTS, NOT_INJECTED

MENDED = [rule for rule in all_rules().values() if rule.makes]
# What a fault has to cost before its remedy has something to bring back, as a share.
_SEEN = 0.02
# The file is a float one that was called QAT: int8 can only be worse.
_FLOAT_BEFORE = "qat-not-applied"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """A study of a small network, trained for seconds, as what faults are put into."""
    need_package("tensorflow")
    from qinspect.train import build_model, save_keras

    folder = tmp_path_factory.mktemp("fix")
    (folder / "made").mkdir()
    spec = make_spec(None, dataset="digits", model="bn_cnn", float_epochs=4, float_lr=3e-3,
                     qat_epochs=1, qat_lr=1e-4, warm_start=True, recipes=(), seed=0)
    study = run_study(spec, folder / "study")
    save_keras(build_model("bn_cnn", (8, 8, 1), 10, seed=0), folder / "made" / "untrained.h5")
    return Base(Cell("bn_cnn", 0), folder, spec, cases.case(study))


@pytest.fixture(scope="module")
def healthy(base: Base) -> Comparison:
    """The pair to be explained before any fault; which causes are asked about is all the same."""
    return diagnose(base.case, causes=["noise"], interventions=False).focus


def on_files(made: Case, folder: Path) -> Case:
    """A case as a person has it: files, and the numbers of the training."""
    told: dict[str, object] = {}
    for role in made.roles:
        told[role] = folder / f"{role}.tflite"
        (folder / f"{role}.tflite").write_bytes(made.graph(role).content)
    for name, x, rest in (
        ("data", made.data.x, {"y": made.data.y, "id": made.data.ids}),
        ("calibration", made.calibration_x, {}),
        ("train", made.train and made.train.x, {"y": made.train and made.train.y}),
    ):
        if x is not None:
            np.savez(folder / f"{name}.npz", x=x, **rest)
            told[name] = folder / f"{name}.npz"
    for name in ("keras_float", "keras_qat"):
        if getattr(made, name) is not None:
            told[name] = getattr(made, name)
    facts = made.facts
    if facts is not None:
        told |= {"qat_epochs": facts.qat_epochs, "qat_lr": facts.qat_lr,
                 "float_lr": facts.float_lr, "batch_size": facts.batch_size}
    return cases.case(**told)


def accuracies(printed: str) -> dict[str, float]:
    """The table that a script prints, by model."""
    rows = re.findall(r"^ *(\w+) accuracy +([\d.]+)", printed, re.M)
    return {name: float(value) for name, value in rows}


@pytest.mark.slow
@pytest.mark.parametrize("rule", MENDED, ids=lambda rule: rule.id)
def test_the_script_runs_and_mends(base, healthy, rule, tmp_path, capsys):
    injected = rule.id in FAULTS
    assert injected or rule.id in NOT_INJECTED
    made = FAULTS[rule.id](base, base.case, "strong", 0).case if injected else base.case
    given = on_files(made, tmp_path)
    found = diagnose(given, causes=[rule.id], interventions=False)
    # What is asked is whether the script mends, not whether evidence alone finds the cause.
    found = replace(found, primary=rule.id)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    hurt = found.cause(rule.id).finding.hurts
    if rule.makes in ("ptq", "qat") and hurt and rule.makes not in hurt and not rule.code_of_qat:
        with pytest.raises(SpecError, match="here the cause is in"):
            found.write_fix(tmp_path / "fix.py")
        return
    if given.keras_float is None and rule.makes == "ptq" and not rule.code_of_files and (
            "float_h5" in rule.code):
        with pytest.raises(SpecError, match="--keras-float"):
            found.write_fix(tmp_path / "fix.py")
        return
    capsys.readouterr()
    runpy.run_path(str(found.write_fix(tmp_path / "fix.py")), run_name="__main__")
    value = accuracies(capsys.readouterr().out)
    assert {path: path.read_bytes() for path in before} == before
    assert ("fixed" in value) == (rule.makes != "evaluation") == (
        tmp_path / "fixed.tflite").exists()
    if rule.makes == "evaluation":
        assert set(value) == set(made.roles)
        return
    cost = {healthy.a: healthy.value_a, healthy.b: healthy.value_b}[rule.makes] - value[rule.makes]
    print(f"{rule.id}: cost {cost:.3f}, {value}")
    if rule.id == _FLOAT_BEFORE:
        assert value["fixed"] > 0
    elif cost > _SEEN:
        assert value["fixed"] > value[rule.makes]
    else:
        assert value["fixed"] > value[rule.makes] - _SEEN
