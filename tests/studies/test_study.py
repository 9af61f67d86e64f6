"""One real study end to end: its files, its numbers, its resumption."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from parts import need_package

from qinspect.errors import SpecError, StoreError
from qinspect.predictions import Results
from qinspect.schema import RUNS
from qinspect.studies.arms import arms_for, contrasts, decompose_gap, families_for
from qinspect.studies.spec import StudySpec, input_digests, make_spec
from qinspect.studies.stored import load_study
from qinspect.tflite.graph import SCHEMES
from qinspect.verdicts import DIFFERENCES

pytestmark = pytest.mark.slow
OPTIONS = ["--model", "bn_cnn", "--preset", "one-epoch", "--seed", "3", "--repeats", "1"]


def command(out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "qinspect", "study", *OPTIONS, "--out", str(out), *options]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, dict, subprocess.CompletedProcess[str]]:
    need_package("tensorflow")
    out = tmp_path_factory.mktemp("study") / "out"
    done = subprocess.run(
        command(out, "--json"), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout), done


def test_json_is_all_of_standard_output(finished) -> None:
    out, summary, _ = finished
    stored = json.loads((out / "summary.json").read_text())
    assert summary == {**stored, "training": None}


def test_summary_has_its_keys(finished) -> None:
    _, summary, _ = finished
    assert {"arms", "comparisons", "decomposition", "spec", "environment"} <= set(summary)
    for arm in summary["arms"]:
        assert {"arm", "file", "scheme", "bytes", "n", "accuracy", "accuracy_ci"} <= set(arm)
        assert arm["scheme"] in SCHEMES or (arm["scheme"] is None and "keras" in arm["arm"])
    for row in summary["comparisons"]:
        assert {"a", "b", "n", "diff_pp", "ci_pp", "mcnemar_p", "a_only", "b_only", "mde_pp",
                "verdict"} <= set(row)
        assert row["verdict"] in DIFFERENCES
    for part in summary["decomposition"]:
        assert {"id", "diff_pp", "ci_pp"} <= set(part)


def test_arms_have_their_names_and_formats(finished) -> None:
    _, summary, _ = finished
    scheme = {arm["arm"]: arm["scheme"] for arm in summary["arms"]}
    expected = {
        "float_keras": None, "float": "float32", "float_ft": "float32", "ptq_float16": "float16",
        "ptq_int8": "int8", "ptq_int8_io": "int8", "ptq_uint8_io": "int8",
        "ptq_int16x8": "int16x8", "ptq_int8_per_tensor": "int8", "ptq_int8_ft": "int8",
        "qat_keras": None, "qat": "int8", "float_bn": "float32", "ptq_int8_bn": "int8",
        "qat_bn": "int8",
    }
    assert {name: scheme[name] for name in expected} == expected
    assert scheme["ptq_dynamic_range"] in {"dynamic_range", "float32", "mixed"}


def test_numbers_agree_with_the_predictions(finished) -> None:
    out, summary, _ = finished
    study = load_study(out)
    y = study.arrays["y"]
    for arm in summary["arms"]:
        assert arm["accuracy"] == pytest.approx(np.mean(study.prediction(arm["arm"]) == y))
        assert arm["bytes"] == (out / arm["file"]).stat().st_size
    for row in summary["comparisons"]:
        a, b = study.correct(row["a"]), study.correct(row["b"])
        assert row["diff_pp"] == pytest.approx(100 * (b.mean() - a.mean()))
        assert (row["a_only"], row["b_only"]) == (int((a & ~b).sum()), int((b & ~a).sum()))
        assert row["ci_pp"][0] <= row["diff_pp"] <= row["ci_pp"][1]
    assert tuple(study.runs.columns) == RUNS


def test_decomposition_sums_to_the_gap(finished) -> None:
    out, summary, _ = finished
    study = load_study(out)
    gap = 100 * (study.correct("qat").mean() - study.correct("ptq_int8").mean())
    parts = {part["id"]: part["diff_pp"] for part in summary["decomposition"]}
    assert sum(parts.values()) == pytest.approx(gap, abs=1e-9)
    assert set(parts) == {"batchnorm-lag", "training-budget", "quantization-aware"}


def test_float_file_equals_its_keras_model(finished) -> None:
    study = load_study(finished[0])
    agreement = np.mean(study.prediction("float") == study.prediction("float_keras"))
    assert agreement > 0.995
    np.testing.assert_allclose(
        study.arrays["raw__float"], study.arrays["raw__float_keras"], atol=1e-4
    )


def test_float_and_integer_io_agree(finished) -> None:
    study = load_study(finished[0])
    for arm in ("ptq_int8_io", "ptq_uint8_io"):
        assert np.mean(study.prediction("ptq_int8") == study.prediction(arm)) > 0.98


def test_splits_do_not_overlap(finished) -> None:
    splits = json.loads((finished[0] / "splits.json").read_text())
    ids = [name for part in splits.values() for name in part]
    assert len(ids) == len(set(ids))
    np.testing.assert_array_equal(splits["test"], load_study(finished[0]).arrays["id"])


def test_report_is_one_self_contained_file(finished) -> None:
    text = (finished[0] / "report.html").read_text()
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!data:|#)", text)
    assert text.count("<img") == text.count("alt=") == 7
    for arm in ("ptq_int8", "qat_bn"):
        assert f">{arm}</td>" in text


def test_observers_and_history_are_logged(finished) -> None:
    study = load_study(finished[0])
    qat = study.observers[study.observers["phase"] == "qat"]
    # The input's observer keeps extremes and starts at zero; the others are moving averages.
    moving = qat[(qat["kind"] == "activation") & (qat["tensor"] != "input")]
    start = moving[moving["step"] == 0]
    assert len(start) > 0
    # tfmot's own start, so the preset's "no warm start" is really what ran.
    assert (start["min"] == -6).all()
    assert (start["max"] == 6).all()
    assert {"float", "float_ft", "qat"} <= set(study.history["phase"])
    steps = study.history.groupby("phase")["steps"].max()
    assert steps["float_ft"] == steps["qat"], "the control trains exactly as long as QAT"


def test_finished_study_is_not_retrained(finished) -> None:
    out = finished[0]
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in (out / "models").iterdir()}
    again = subprocess.run(
        command(out, "--json"), capture_output=True, text=True, timeout=300, check=False
    )
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == finished[1]
    after = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in (out / "models").iterdir()}
    assert before == after


def test_other_settings_are_refused(finished) -> None:
    out = finished[0]
    done = subprocess.run(
        command(out, "--qat-lr", "0.5"), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 2
    assert "qat_lr" in done.stderr
    assert load_study(out).spec.qat_lr == 1e-3


def test_killed_study_resumes_to_the_same_bytes(finished, tmp_path) -> None:
    out = tmp_path / "killed"
    process = subprocess.Popen(
        command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.time() + 300
    while not (out / "steps" / "tflite-float.json").exists():
        assert time.time() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with pytest.raises(StoreError, match="not finished"):
        load_study(out)
    first = (out / "models" / "float.h5").stat().st_mtime_ns
    # Two processes continue at once: one works, the other waits and finds it finished.
    pair = [
        subprocess.Popen(command(out, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=600) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], outputs
    assert (out / "models" / "float.h5").stat().st_mtime_ns == first
    for path in sorted((finished[0] / "models").glob("*.tflite")):
        assert (out / "models" / path.name).read_bytes() == path.read_bytes(), path.name
    ours, theirs = load_study(out).arrays, load_study(finished[0]).arrays
    assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)
    for name in ("runs.csv", "splits.json", "spec.json"):
        assert (out / name).read_bytes() == (finished[0] / name).read_bytes(), name
    # Temporary files of a killed writer are removed.
    assert [path.name for path in out.rglob(".*") if path.name != ".lock"] == []


def test_contrasts_telescope() -> None:
    for batchnorm in (False, True):
        total: dict[str, int] = {}
        for signed in contrasts(batchnorm).values():
            for arm, sign in signed.items():
                total[arm] = total.get(arm, 0) + sign
        assert {arm: sign for arm, sign in total.items() if sign} == {"qat": 1, "ptq_int8": -1}


def test_decomposition_of_known_answers() -> None:
    rng = np.random.default_rng(0)
    correct = {name: rng.random(500) < 0.8 for name in ("qat", "ptq_int8", "ptq_int8_ft")}
    parts = decompose_gap(Results(correct))
    assert parts[0]["diff_pp"] == pytest.approx(
        100 * (correct["ptq_int8_ft"].mean() - correct["ptq_int8"].mean())
    )
    assert sum(p["diff_pp"] for p in parts) == pytest.approx(
        100 * (correct["qat"].mean() - correct["ptq_int8"].mean())
    )


def test_every_compared_arm_exists() -> None:
    for batchnorm in (False, True):
        names = {arm.name for arm in arms_for(batchnorm)}
        families = families_for([arm.name for arm in arms_for(batchnorm)])
        assert {name for family in families for pair in family for name in pair} <= names
        # Every arm once with float; nothing is asked twice; the question stands alone.
        assert [b for _, b in families[0]] == [arm.name for arm in arms_for(batchnorm)
                                               if arm.name != "float"]
        pairs = [pair for family in families for pair in family]
        assert len(set(pairs)) == len(pairs)
        assert families[1] == (("ptq_int8", "qat"),)
        assert len(families[2]) == (8 if batchnorm else 3)
        needed = {arm for signed in contrasts(batchnorm).values() for arm in signed}
        assert needed <= names


def test_preset_and_explicit_settings() -> None:
    spec = make_spec("one-epoch", float_epochs=4)
    assert (spec.float_epochs, spec.qat_epochs, spec.bn_momentum) == (4, 1, 0.99)
    assert make_spec().bn_momentum == 0.9
    with pytest.raises(SpecError, match="one-epoch"):
        make_spec("one-epch")


def test_the_digest_of_a_folder_follows_names_and_contents(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "cat").mkdir(parents=True)
    (folder / "cat" / "a.png").write_bytes(b"one")
    seen = set()
    for change in (lambda: None, lambda: (folder / "cat" / "a.png").write_bytes(b"two"),
                   lambda: (folder / "cat" / "a.png").rename(folder / "cat" / "b.png")):
        change()
        digest = input_digests(StudySpec(dataset=str(folder)))["dataset"]
        assert digest == input_digests(StudySpec(dataset=f"{folder}/"))["dataset"]
        seen.add(digest)
    assert len(seen) == 3
