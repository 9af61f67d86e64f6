"""Each cause's fix is a whole script: no name is undefined, whatever the files are called."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from diagnose_cases import calibration, data, float_graph, int8, moved, ranges
from parts import other_process

from qinspect.causes import all_rules
from qinspect.data import Source
from qinspect.diagnosis.answer import Diagnosis
from qinspect.diagnosis.cases import case
from qinspect.diagnosis.engine import diagnose
from qinspect.diagnosis.rule import Rule
from qinspect.diagnosis.script import fix_script
from qinspect.errors import SpecError

EVIL = 'a"b\'c\\d # (é).tflite'
NONE = {rule.id for rule in all_rules().values() if not rule.makes}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    """A diagnosis with everything given; Keras models are only named, never opened."""
    folder = tmp_path_factory.mktemp("fix")
    files = {"float": folder / EVIL, "ptq": folder / "ptq.tflite", "qat": folder / "qat.tflite"}
    files["float"].write_bytes(float_graph().content)
    files["ptq"].write_bytes(int8(ranges(calibration() * np.float32(0.1))).content)
    files["qat"].write_bytes(moved(0.1).content)
    for name, x, y in (("eval", data().x, data().y), ("train", data().x[:200], data().y[:200])):
        np.savez(folder / f"{name}.npz", x=x, y=y)
    made = case(**files, data=Source(folder / "eval.npz", "x", "y"), train=folder / "train.npz")
    keras = {"keras_float": folder / "float.h5", "keras_qat": folder / "qat.h5"}
    made = replace(made, **keras, told={**made.told, **keras})
    return diagnose(made, interventions=False)


def of(found: Diagnosis, cause: str, **changes: object) -> Diagnosis:
    """The same diagnosis, had it named another cause."""
    causes = tuple(
        replace(one, finding=replace(one.finding, hurts=())) if one.rule.id == cause else one
        for one in found.causes)
    return replace(found, primary=cause, causes=causes, case=replace(found.case, **changes))


def undefined(script: str, folder: Path) -> str:
    (folder / "fix.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F", "fix.py"],
        cwd=folder, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout if done.returncode else ""


@pytest.mark.parametrize("rule", all_rules().values(), ids=lambda rule: rule.id)
def test_every_script_is_whole(found: Diagnosis, rule: Rule, tmp_path: Path) -> None:
    if rule.id in NONE:
        with pytest.raises(SpecError, match="no fix to write: no script can") as caught:
            of(found, rule.id).write_fix(tmp_path / "fix.py")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "fix.py").exists()
        return
    script = fix_script(of(found, rule.id))
    wrong = undefined(script, tmp_path)
    assert not [line for line in wrong.splitlines() if "F821" in line or "yntax" in line], wrong
    assert ("write_bytes(OUT, content)" in script) == (rule.makes != "evaluation")
    if rule.code_of_qat:
        other = of(found, rule.id)
        causes = tuple(replace(one, finding=replace(one.finding, hurts=("qat",)))
                       if one.rule is rule else one for one in other.causes)
        script = fix_script(replace(other, causes=causes))
        assert "F821" not in undefined(script, tmp_path)
        assert "content = convert_qat(" in script
    if rule.code_of_files:
        bare = of(found, rule.id, keras_float=None, keras_qat=None, train=None)
        assert "F821" not in undefined(fix_script(bare), tmp_path)


def test_causes_without_a_fix_are_those_of_luck_and_of_the_device() -> None:
    assert sorted(NONE) == ["distribution-shift", "kernel-difference", "lucky-checkpoint", "noise",
                            "non-finite-weights", "preprocessing-mismatch", "regularisation"]


def test_what_was_assumed_is_marked(found: Diagnosis) -> None:
    script = fix_script(of(found, "stale-observers"))
    assert "qat_epochs = 3  # ASSUMED" in script
    assert "qat_lr = 0.0001  # ASSUMED" in script
    assert "batch_size = 32  # ASSUMED" in script
    assert "qi.robust_qat(float_h5" in script
    told = replace(found.case, told={**found.case.told, "qat_epochs": 7})
    script = fix_script(replace(of(found, "stale-observers"), case=told))
    assert "qat_epochs = 7  # as given" in script


@pytest.mark.parametrize(("cause", "lacking", "words"), [
    ("stale-observers", {"train": None}, r"needs the training data \(--train\)\."),
    ("stale-observers", {"keras_float": None, "train": None},
     r"the training data \(--train\) and the float Keras model \(--keras-float\)"),
    ("qat-requantized", {"keras_qat": None}, r"the QAT Keras model \(--keras-qat\)"),
    ("calibration-small", {"keras_float": None, "float_graph": None},
     r"\(--keras-float\), or the float .tflite file \(--float\)"),
])
def test_what_is_missing_is_said_with_its_option(found, cause, lacking, words):
    with pytest.raises(SpecError, match=words):
        fix_script(of(found, cause, **lacking))


def test_no_cause_no_script(found, tmp_path):
    for primary in ("undecided", "unexplained", "none"):
        with pytest.raises(SpecError, match=f"names no cause \\({primary}\\)"):
            replace(found, primary=primary).write_fix(tmp_path / "fix.py")
    made = case(float=float_graph(), ptq=int8(ranges(calibration())), data=data())
    with pytest.raises(SpecError, match="was given as an object; give its path"):
        replace(of(found, "calibration-small"), case=made).write_fix(tmp_path / "fix.py")
    assert not (tmp_path / "fix.py").exists()


def test_a_file_of_somebody_else_stays(found, tmp_path):
    target = tmp_path / "train.py"
    target.write_text("mine")
    with pytest.raises(SpecError, match=r"train.py is there and is no script of qinspect"):
        of(found, "calibration-shift").write_fix(target)
    assert target.read_text() == "mine"
    own = of(found, "calibration-shift").write_fix(tmp_path / "fix.py")
    assert of(found, "calibration-small").write_fix(own).read_text() != ""


@pytest.mark.slow
def test_the_command_writes_a_script_that_mends(tmp_path):
    """Two files and examples, no Keras: the script makes PTQ anew and shows before and after."""
    (tmp_path / "float.tflite").write_bytes(float_graph().content)
    (tmp_path / "ptq.tflite").write_bytes(int8(ranges(calibration() * np.float32(0.1))).content)
    np.savez(tmp_path / "eval.npz", x=data().x, y=data().y)
    where = {"cwd": tmp_path, "capture_output": True, "text": True, "env": other_process()}
    told = subprocess.run([sys.executable, "-m", "qinspect", "diagnose", ".", "--write-fix",
                           "fix.py"], **where)
    assert told.returncode == 0, told.stderr
    assert "fix: fix.py; run it with: python fix.py" in told.stdout
    done = subprocess.run([sys.executable, "fix.py"], **where)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    value = {row[0]: float(row[2]) for row in rows if row[1:2] == ["accuracy"]}
    assert value["ptq"] < value["fixed"]
    assert "fixed is better than ptq" in done.stdout
    before = (tmp_path / "fixed.tflite").read_bytes()
    again = subprocess.run([sys.executable, "fix.py"], **where)
    assert again.returncode == 1
    assert "is there; move it away" in again.stderr
    assert (tmp_path / "fixed.tflite").read_bytes() == before
    # Nothing to mend is said after the answer, which stands.
    (tmp_path / "ptq.tflite").write_bytes(int8(ranges(calibration())).content)
    told = subprocess.run([sys.executable, "-m", "qinspect", "diagnose", ".", "--json",
                           "--write-fix", "other.py"], **where)
    assert told.returncode == 2
    assert "names no cause" in told.stderr
    assert json.loads(told.stdout)["primary"] in ("none", "undecided")
    assert not (tmp_path / "other.py").exists()
