"""From a study to a proved cause, with real training."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from parts import is_alive, need_package, other_process

from qinspect.causes import all_rules
from qinspect.data.dataset import Dataset
from qinspect.diagnosis import cases
from qinspect.diagnosis.cases import Case
from qinspect.diagnosis.engine import diagnose
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.retrain import Training, _materials, _on_disk, make_file
from qinspect.studies.pool import processes
from qinspect.studies.run import run_study
from qinspect.studies.spec import make_spec
from qinspect.tflite import evaluate, read_graph, read_keras
from qinspect_bench.networks import exported

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def one_epoch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_package("tensorflow")
    out = tmp_path_factory.mktemp("one_epoch") / "study"
    run_study(make_spec("one-epoch", dataset="digits", seed=1, recipes=()), out)
    return out


def test_one_epoch_is_explained_by_batch_norm(one_epoch: Path) -> None:
    """Interventions are the study's own arms: the numbers must be those of its decomposition."""
    case = cases.case(one_epoch)
    found = diagnose(case, training=False)
    assert found.primary == "batchnorm-lag"
    assert found.proved
    effect = found.cause("batchnorm-lag").effect
    part = next(part for part in case.parts if part["id"] == "batchnorm-lag")
    assert effect is not None
    assert effect.amount == pytest.approx(part["diff_pp"])
    assert effect.interval == pytest.approx(tuple(part["ci_pp"]))
    for refuted in ("evaluation-mismatch", "input-quantization", "different-network",
                    "different-format", "qat-not-applied"):
        assert found.cause(refuted).verdict == "ruled_out"


def test_the_equally_trained_control_leaves_no_budget_to_blame(one_epoch: Path) -> None:
    case = cases.case(one_epoch, equal_budget=True)
    assert case.facts is not None
    assert case.facts.equal_budget
    found = diagnose(case, training=False)
    assert found.cause("training-budget").verdict == "ruled_out"
    # One epoch of each: both curves are far from flat, between equally long trainings.
    assert found.cause("undertrained").finding.verdict == "indicated"
    assert found.cause("evaluation-mismatch").verdict == "ruled_out"


def test_equal_budgets_are_read_from_history_and_weights(one_epoch: Path, tmp_path: Path) -> None:
    known = cases.case(one_epoch)
    assert known.data is not None
    np.savez(tmp_path / "eval.npz", x=known.data.x, y=known.data.y)
    models = one_epoch / "models"
    for ptq, expected in (("ptq_int8_ft", True), ("ptq_int8", False)):
        case = cases.case(
            ptq=models / f"{ptq}.tflite", qat=models / "qat.tflite",
            data=tmp_path / "eval.npz", keras_float=models / "float.h5",
            history=one_epoch / "history.csv",
        )
        assert case.facts is not None
        assert case.facts.equal_budget is expected


def test_loose_files_give_the_same_cause_by_retraining(one_epoch: Path, tmp_path: Path) -> None:
    """Only files and data: the remedies are made with TensorFlow instead of read from arms."""
    known = cases.case(one_epoch)
    assert known.data is not None
    assert known.train is not None
    np.savez(tmp_path / "eval.npz", x=known.data.x, y=known.data.y)
    np.savez(tmp_path / "train.npz", x=known.train.x, y=known.train.y)
    np.savez(tmp_path / "cal.npz", x=known.calibration_x)
    models = one_epoch / "models"
    case = cases.case(
        float=models / "float.tflite", ptq=models / "ptq_int8.tflite",
        qat=models / "qat.tflite", data=tmp_path / "eval.npz",
        calibration=tmp_path / "cal.npz", keras_float=models / "float.h5",
        keras_qat=models / "qat.h5", train=tmp_path / "train.npz",
        history=one_epoch / "history.csv",
    )
    found = diagnose(case, causes=("batchnorm-lag", "stale-observers"), num_threads=1, budget=600)
    assert found.primary == "batchnorm-lag"
    assert found.proved
    stale = found.cause("stale-observers")
    assert stale.finding.verdict == "indicated"
    assert stale.effect is not None


def test_files_made_in_other_processes_are_those_made_here(one_epoch: Path, tmp_path: Path) -> None:
    """Byte by byte, with the examples read from files there."""
    given = _materials(Evidence(cases.case(one_epoch)))
    trainings = {str(one): one for one in (
        Training("qat", seed_shift=3), Training("qat", warm_start=True, rate_factor=0.5),
        Training("ptq trained on", seed_shift=3))}
    there = _on_disk(given, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calibration_x.npy", "x.npy",
                                                                "y.npy"]
    with processes(2, script=False) as run:
        made = dict(run(make_file, {key: (there, one) for key, one in trainings.items()}))
    assert made == {key: make_file(given, one) for key, one in trainings.items()}
    assert len(set(made.values())) == len(trainings)


def test_every_layer_leaves_none_out_that_tfmot_takes(one_epoch: Path) -> None:
    given = _materials(Evidence(cases.case(one_epoch)))
    assert given.facts is not None
    first = read_keras(given.keras_float).layers[1].name
    part = dataclasses.replace(given, facts=dataclasses.replace(given.facts, skip_layers=(first,)))
    assert make_file(part, Training("qat", every_layer=True)) == make_file(given, Training("qat"))
    assert make_file(part, Training("qat")) != make_file(given, Training("qat"))


@pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")
def test_a_script_without_a_guard_trains_on_processes_that_a_stop_ends(
    one_epoch: Path, tmp_path: Path
) -> None:
    """The script is run once; Ctrl-C while they train gives the answer so far."""
    script = tmp_path / "plain.py"
    script.write_text(
        "import signal, qinspect as qi\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "print('begun', flush=True)\n"
        "def show(phase, done, total, message):\n"
        "    if phase == 'training': print(message, flush=True)\n"
        f"found = qi.diagnose({str(one_epoch)!r}, causes=['stale-observers', 'batchnorm-lag'],\n"
        "                    budget=600, num_threads=2, progress=show)\n"
        "print(found.primary, found.cause('stale-observers').note)\n")
    with subprocess.Popen([sys.executable, str(script)], env=other_process(), text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout is not None
        said = [run.stdout.readline() for _ in range(3)]
        assert said[0] == "begun\n"
        assert said[1].startswith("0 of 6 files to run 3 of at most 6: ")
        assert said[2].startswith("1 of 6 files to run 3 of at most 6: ")
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        run.send_signal(signal.SIGINT)
        rest, errors = run.communicate(timeout=120)
    assert rest.splitlines()[-1] == "batchnorm-lag its training was stopped."
    assert "begun" not in rest
    assert "on 2 processes" in errors
    assert "Traceback" not in errors
    assert len(children) >= 2
    end = time.monotonic() + 30
    while any(is_alive(int(pid)) for pid in children) and time.monotonic() < end:
        time.sleep(0.1)
    assert not [pid for pid in children if is_alive(int(pid))]


def test_stale_observers_are_proved_by_a_warm_start(tmp_path: Path) -> None:
    """Pixels of 0 to 255 against observers that start at -6 to 6 and have 31 steps."""
    need_package("tensorflow")
    spec = make_spec(None, dataset="digits", model="plain_cnn", input_range="0-255",
                     qat_epochs=1, qat_lr=1e-4, recipes=())
    run_study(spec, tmp_path / "study")
    case = cases.case(tmp_path / "study")
    found = diagnose(case, num_threads=1, budget=600)
    assert found.focus.gap < -5
    assert (found.primary, found.proved) == ("stale-observers", True)
    unproved = diagnose(case, interventions=False)
    assert (unproved.primary, unproved.proved) == ("stale-observers", False)


def test_a_settled_study_blames_nothing(tmp_path: Path) -> None:
    need_package("tensorflow")
    run_study(make_spec(None, dataset="digits", warm_start=True, recipes=()), tmp_path / "study")
    found = diagnose(cases.case(tmp_path / "study"), num_threads=1, budget=600)
    assert found.primary in ("none", "undecided", "noise")
    assert found.cause("batchnorm-lag").verdict == "ruled_out"
    assert found.cause("stale-observers").verdict == "ruled_out"


# --- files whose origin is known ---------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = (bunch.images / 16).astype("float32")[600:, ..., None]
    ids = np.array([f"d{i:04d}" for i in range(len(x))])
    return Dataset("digits", x, bunch.target[600:].astype(np.int64), ids, 10)


@pytest.mark.parametrize(
    ("cause", "ptq", "qat", "verdict"),
    [
        ("stale-observers", "int8", "qat", "indicated"),
        ("stale-observers", "int8", "tuned_int8", "does_not_apply"),
        ("qat-not-applied", "int8", "qat_float", "indicated"),
        ("qat-not-applied", "int8", "float16", "indicated"),
        ("qat-not-applied", "int8", "qat", "ruled_out"),
        ("qat-requantized", "int8", "tuned_int8", "indicated"),
        ("qat-requantized", "int8", "qat", "ruled_out"),
        ("different-format", "dynamic_range", "qat", "indicated"),
        ("different-format", "int16x8", "qat", "indicated"),
        ("different-format", "int8", "qat_part", "ruled_out"),
        ("layers-left-out-of-qat", "int8", "qat_part", "indicated"),
        ("different-format", "uint8_io", "qat", "ruled_out"),
        ("different-format", "int8", "float32", "ruled_out"),
        ("different-network", "stranger_int8", "qat", "indicated"),
        ("different-network", "tuned_int8", "qat", "indicated"),
        ("different-network", "drifted_int8", "qat", "indicated"),
        ("different-network", "int8_per_tensor", "qat", "ruled_out"),
        ("qat-learning-rate", "int8", "qat", "ruled_out"),
        ("calibration-shift", "int8", "qat", "ruled_out"),
        ("calibration-outliers", "int8", "qat", "ruled_out"),
    ],
)
def test_known_files(
    cause: str, ptq: str, qat: str, verdict: str, converted_files: Path, digits: Dataset
) -> None:
    graphs = {
        role: read_graph(converted_files / f"{name}.tflite")
        for role, name in (("float", "float32"), ("ptq", ptq), ("qat", qat))
    }
    case = Case(
        float_graph=graphs["float"], ptq_graph=graphs["ptq"], qat_graph=graphs["qat"], data=digits
    )
    assert all_rules()[cause].check(Evidence(case)).verdict == verdict


def test_learning_rate_is_not_ruled_out_where_qat_is_behind(
    converted_files: Path, digits: Dataset
) -> None:
    """Steps that are far too large need not raise the loss; only another rate can tell."""
    graphs = {name: read_graph(converted_files / f"{name}.tflite") for name in ("int8", "qat")}
    # Labels that PTQ gets right, all of them.
    y = evaluate(converted_files / "int8.tflite", digits.x).prediction
    case = Case(
        ptq_graph=graphs["int8"], qat_graph=graphs["qat"], data=dataclasses.replace(digits, y=y)
    )
    found = all_rules()["qat-learning-rate"].check(Evidence(case))
    assert (found.verdict, found.hurts) == ("not_tried", ("qat",))


@pytest.mark.parametrize("keras_qat", [True, False])
def test_a_requantized_file_is_told_from_one_with_observers(
    keras_qat: bool, converted_files: Path, digits: Dataset, tmp_path: Path
) -> None:
    """QAT's weights quantized with faint examples: too narrow ranges, not those of observers."""
    from qinspect.train import convert, load_keras

    plain = exported(converted_files / "qat.h5", converted_files / "net.h5", tmp_path / "plain.h5")
    content = convert(load_keras(plain), "int8", digits.x[:64] * np.float32(0.2))
    found = diagnose(Case(
        float_graph=read_graph(converted_files / "float32.tflite"),
        ptq_graph=read_graph(converted_files / "int8.tflite"),
        qat_graph=read_graph(content), data=digits, calibration_x=digits.x[:64],
        keras_qat=converted_files / "qat.h5" if keras_qat else None,
    ), causes=("qat-requantized", "stale-observers", "qat-not-applied"), num_threads=1)
    assert found.focus.worse == "qat"
    assert (found.primary, found.proved) == ("qat-requantized", True)
    assert found.cause("stale-observers").verdict == "does_not_apply"
    assert found.cause("qat-not-applied").verdict == "ruled_out"


def test_a_converted_qat_model_mends_one_that_was_not(
    converted_files: Path, digits: Dataset
) -> None:
    """The untrained wrapper stands in for a ruined file; converting the trained model mends it."""
    ruined = Case(
        float_graph=read_graph(converted_files / "float32.tflite"),
        ptq_graph=read_graph(converted_files / "int8.tflite"),
        qat_graph=read_graph(converted_files / "stranger_int8.tflite"),
        data=digits,
        keras_qat=converted_files / "qat.h5",
    )
    rule = all_rules()["qat-requantized"]
    finding = dataclasses.replace(
        rule.check(Evidence(ruined)), facts={"wrapped_layers": 1}, verdict="indicated"
    )
    trial = rule.remedies[0].apply(Evidence(ruined), finding)
    assert trial is not None
    good = Evidence(ruined).run(
        (converted_files / "qat.tflite").read_bytes(), digits.x
    ).prediction
    assert np.mean(trial.swaps["qat"] == good) > 0.99
