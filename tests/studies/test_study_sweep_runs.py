"""Sweeps that train: real worker processes, kills, full disks and Dask clusters."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from parts import need_package

from qinspect.diagnosis.cases import case
from qinspect.diagnosis.engine import diagnose
from qinspect.errors import DataError, SpecError
from qinspect.show.view import view_of
from qinspect.stats import compare_paired, compare_seeds
from qinspect.studies.pool import dask_executor
from qinspect.studies.spec import StudySpec
from qinspect.studies.stored import GAPS, Sweep, load_study, load_sweep
from qinspect.studies.sweeping import grid, run_key, run_sweep

pytestmark = pytest.mark.slow

TINY = {
    "preset": "one-epoch", "model": "mlp", "train_size": 200, "test_size": 150, "split_seed": 0,
    "recipes": (),
}
SWEEP = [sys.executable, "-m", "qinspect", "sweep", "--preset", "one-epoch", "--model", "mlp",
         "--train-size", "200", "--test-size", "150"]


def quiet(*arguments: object) -> None:
    """Say nothing."""


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.05)


def without_time(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows without what differs from run to run, empty cells of one kind."""
    plain = frame.drop(columns="seconds").sort_values("key", ignore_index=True)
    return plain.dropna(axis="columns", how="all")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """Two seeds and one run that fails, on two processes."""
    out = tmp_path_factory.mktemp("sweep")
    specs = [*grid(TINY, seed=[0, 1]), StudySpec(dataset=str(out / "missing.npz"))]
    return out, run_sweep(specs, out, workers=2, notify=quiet, progress=quiet).frame


def test_rows_say_what_the_predictions_say(swept: tuple[Path, pd.DataFrame]) -> None:
    out, frame = swept
    assert list(frame["status"]) == ["finished", "finished", "failed"]
    assert "missing.npz" in frame["error"][2]
    for _, row in frame[:2].iterrows():
        study = load_study(out / "runs" / row["key"])
        for name, (a, b) in GAPS.items():
            paired = study.results.comparison(a, b)
            gap = 100 * (study.correct(b).mean() - study.correct(a).mean())
            assert row[f"{name}_pp"] == pytest.approx(gap, abs=1e-9)
            ends = (row[f"{name}_low_pp"], row[f"{name}_high_pp"])
            assert ends == pytest.approx(paired.interval)
        parts = row["part_training_budget_pp"] + row["part_quantization_aware_pp"]
        assert parts == pytest.approx(row["qat_minus_ptq_pp"], abs=1e-9)
        assert row["accuracy_float"] == study.correct("float").mean()
        assert row["seconds"] > 0
    pd.testing.assert_frame_equal(without_time(load_sweep(out).frame), without_time(frame))


def test_summaries_are_kept_and_models_are_not(swept: tuple[Path, pd.DataFrame]) -> None:
    out, frame = swept
    for key in frame["key"][:2]:
        folder = out / "runs" / key
        kept = {path.name for path in folder.iterdir()}
        assert {"summary.json", "runs.csv", "history.csv", "predictions.npz"} <= kept
        assert not list(folder.rglob("*.tflite"))
        assert not list(folder.rglob("*.h5"))
        assert not [name for name in load_study(folder).arrays if name.startswith("raw__")]


def test_seeds_share_their_test_examples(swept: tuple[Path, pd.DataFrame]) -> None:
    out, frame = swept
    done = frame[:2]
    found = Sweep(done, out).results
    ptq, qat = found.scores("ptq_int8"), found.scores("qat")
    assert ptq.shape == (2, 150)
    assert ptq.dtype == bool
    assert np.any(ptq[0] != ptq[1]), "another seed trains another model"
    over_seeds = compare_seeds(ptq, qat, a="ptq_int8", b="qat")
    assert over_seeds.per_seed == pytest.approx(tuple(done["qat_minus_ptq_pp"]), abs=1e-9)
    # Of each experiment, and not of one with a single or no finished run.
    assert list(Sweep(frame, out).seeds.values()) == [over_seeds]


def test_experiments_are_one_family(swept: tuple[Path, pd.DataFrame]) -> None:
    out, frame = swept
    done = frame[:2]
    both = Sweep(pd.concat([done, done.assign(batch_size=64)], ignore_index=True), out)
    (alone,) = Sweep(done, out).seeds.values()
    found = both.seeds
    assert len(found) == 2
    for one in found.values():
        assert one.family == 2
        assert one.interval == alone.interval
        assert one.possible[0] <= alone.possible[0] <= alone.possible[1] <= one.possible[1]
        assert "simultaneous for 2 comparisons" in one.sentence
    drawn = view_of(both).figures
    assert all("simultaneous for 2 comparisons" in drawn[name]().sentence for name in found)
    (single,) = view_of(Sweep(done, out)).figures.values()
    assert "simultaneous" not in single().sentence


def test_a_finished_sweep_is_not_run_again(swept: tuple[Path, pd.DataFrame]) -> None:
    out, frame = swept
    stamps = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*.json")}
    said: list[str] = []
    again = run_sweep(grid(TINY, seed=[0, 1]), out, notify=said.append, progress=quiet).frame
    assert said == ["2 of 2 runs are finished already."]
    pd.testing.assert_frame_equal(without_time(again), without_time(frame[:2]), check_dtype=False)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    # The run of the other spec that shares the folder stays in its table.
    assert set(pd.read_csv(out / "sweep.csv")["key"]) == set(frame["key"])


def test_a_changed_file_is_measured_again(swept: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    """A finished run whose data file has changed since no longer counts as finished."""
    out = tmp_path / "copy"
    shutil.copytree(swept[0], out)
    data = tmp_path / "own.npz"
    spec = StudySpec(dataset=str(data), **{k: v for k, v in TINY.items() if k != "preset"})  # type: ignore[arg-type]
    old, new = swept[1]["key"][0], run_key(spec)
    # The study of a known run passes as one of this spec, measured on some older file.
    shutil.move(out / "runs" / old, out / "runs" / new)
    stored = {**spec.to_dict(), "digests": {"dataset": "0" * 64}}
    (out / "runs" / new / "spec.json").write_text(json.dumps(stored))
    record = json.loads((out / "runs" / f"{old}.json").read_text())
    record |= {"key": new, "spec": spec.to_dict()}
    (out / "runs" / f"{new}.json").write_text(json.dumps(record))
    assert run_sweep([spec], out, notify=quiet, progress=quiet).frame["status"][0] == "finished"
    data.write_bytes(b"changed, and broken")
    assert run_sweep([spec], out, notify=quiet, progress=quiet).frame["status"][0] == "failed"


@pytest.mark.parametrize(("largest", "code"), [(100, 2), (3500, 1)])
def test_a_full_disk_loses_nothing(
    swept: tuple[Path, pd.DataFrame], tmp_path: Path, largest: int, code: int
) -> None:
    """Files may not grow beyond ``largest`` bytes: a failure's record fits, or does not."""
    out = tmp_path / "copy"
    shutil.copytree(swept[0], out)
    done = {key: (out / "runs" / f"{key}.json").read_bytes() for key in swept[1]["key"][:2]}
    limited = (
        "import resource, runpy, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({largest}, {largest}))\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_module('qinspect', run_name='__main__')\n"
    )
    command = [sys.executable, "-c", limited, *SWEEP[2:], "--seeds", "0-2", "--out", str(out)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    if code == 2:
        assert ended.stderr.splitlines()[-1].startswith("qinspect: cannot write")
    for key, content in done.items():
        assert (out / "runs" / f"{key}.json").read_bytes() == content
        assert load_study(out / "runs" / key).summary["arms"]
    frame = load_sweep(out).frame
    assert list(frame[frame["seed"].lt(2) & frame["model"].eq("mlp")]["status"]) == ["finished"] * 2
    third = frame[frame["seed"] == 2]
    if code == 1:
        assert "cannot write" in third["error"].item()
    else:
        assert third.empty


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds child processes in /proc")
def test_a_killed_worker_and_a_killed_sweep_lose_nothing(
    swept: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    keys = list(swept[1]["key"][:2])
    out = tmp_path / "sweep"
    command = [*SWEEP, "--seeds", "0-1", "--out", str(out), "--json"]
    parent = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    steps = [out / "runs" / key / "steps" / "float.json" for key in keys]
    wait_until(lambda: any(step.exists() for step in steps), "the first trained model")
    first = steps[0] if steps[0].exists() else steps[1]
    stamp = first.stat().st_mtime_ns
    os.kill(worker_of(parent.pid), signal.SIGKILL)
    records = [out / "runs" / f"{key}.json" for key in keys]
    wait_until(lambda: any(record.exists() for record in records), "the first finished run")
    assert parent.poll() is None
    parent.kill()
    parent.wait()
    finished = [record for record in records if record.exists()]
    kept = {record: record.stat().st_mtime_ns for record in finished}

    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "1 of 2 runs are finished already." in ended.stderr
    assert {record: record.stat().st_mtime_ns for record in finished} == kept
    assert first.stat().st_mtime_ns == stamp, "a finished step is not done again"
    # Interruptions change nothing in the result.
    expected = without_time(swept[1][:2])
    pd.testing.assert_frame_equal(without_time(load_sweep(out).frame), expected, check_dtype=False)
    printed = json.loads(ended.stdout)
    assert [run["status"] for run in printed["runs"]] == ["finished"] * 2
    assert printed["finding"]
    assert [found["seeds"] for found in printed["seeds"].values()] == [2]


def worker_of(parent: int) -> int:
    """A worker process of a sweep that this test has started."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            command = (path.parent / "cmdline").read_text()
        except OSError:
            continue
        if int(fields[1]) == parent and "spawn_main" in command:
            return int(path.parent.name)
    raise AssertionError("the sweep has no worker process")


# --- Dask -----------------------------------------------------------------------------------------


def test_dask_local_cluster(swept: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    """One run, one failure; then the failure again, which is not answered from memory."""
    need_package("distributed")
    from distributed import Client, LocalCluster

    good, bad = grid(TINY, seed=[0])[0], StudySpec(dataset=str(tmp_path / "later.npz"))
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None,
                     local_directory=str(tmp_path)) as cluster,
        Client(cluster) as client,
    ):
        executor = client.get_executor(pure=False)
        frame = run_sweep(
            [good, bad], tmp_path / "out", executor=executor, notify=quiet, progress=quiet
        ).frame
        assert list(frame["status"]) == ["finished", "failed"]
        assert "later.npz" in frame["error"][1]
        (tmp_path / "later.npz").write_bytes(b"there, but broken")
        frame = run_sweep(
            [bad], tmp_path / "out", executor=executor, notify=quiet, progress=quiet
        ).frame
        assert frame["status"][0] == "failed"
    same = ["key", "qat_minus_ptq_pp", "accuracy_qat", "accuracy_ptq_int8", "accuracy_float"]
    expected = swept[1][:1][same]
    found = load_sweep(tmp_path / "out").frame.dropna(subset="n")[same]
    pd.testing.assert_frame_equal(found.reset_index(drop=True), expected)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start processes that end with the test."""
    processes = []

    def start(*command: str) -> subprocess.Popen[bytes]:
        log = (tmp_path / f"process{len(processes)}.log").open("wb")
        processes.append(subprocess.Popen([sys.executable, "-m", *command], stdout=log, stderr=log))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_dask_over_tcp_survives_the_death_of_a_worker(
    swept: tuple[Path, pd.DataFrame],
    tmp_path: Path,
    started: Callable[..., subprocess.Popen[bytes]],
) -> None:
    need_package("distributed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    started("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port),
            "--no-dashboard")
    worker = ("distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny",
              "--no-dashboard", "--local-directory", str(tmp_path))
    first = started(*worker)
    out = tmp_path / "out"
    command = [*SWEEP, "--seeds", "1", "--dask", address, "--out", str(out), "--json"]
    wait_until(lambda: _listens(port), "the scheduler")
    sweep = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    key = swept[1]["key"][1]
    step = out / "runs" / key / "steps" / "initial.json"
    wait_until(lambda: step.exists() or sweep.poll() is not None, "the first step of the run")
    first.kill()
    started(*worker)
    printed, errors = sweep.communicate(timeout=240)
    assert sweep.returncode == 0, errors
    found = load_sweep(out).frame
    assert list(found["status"]) == ["finished"]
    assert json.loads(printed)["runs"][0]["key"] == key
    expected = without_time(swept[1][1:2])
    pd.testing.assert_frame_equal(without_time(found), expected, check_dtype=False)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_no_scheduler_is_one_sentence() -> None:
    need_package("distributed")
    with pytest.raises(SpecError, match="no Dask scheduler"), dask_executor("tcp://127.0.0.1:9"):
        pass


def test_runs_with_other_test_examples_are_not_paired(
    swept: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(swept[0], out)
    path = out / "runs" / swept[1]["key"][1] / "predictions.npz"
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["id"] = np.char.add(arrays["id"], "-other")
    np.savez(path, **arrays)
    stranger = Sweep(swept[1][:2], out)
    assert stranger.seeds == {}
    with pytest.raises(DataError, match="same split_seed"):
        _ = stranger.results


def test_groups_of_a_data_set_reach_study_sweep_and_diagnosis(tmp_path: Path) -> None:
    """Frames of one clip: eight alike examples each, which count as one."""
    rng = np.random.default_rng(0)
    clips = np.repeat(np.arange(90), 8)
    y = (clips % 3).astype(np.int64)
    x = (np.eye(3)[y] @ rng.normal(size=(3, 16)) + rng.normal(0, 1.5, (90, 16))[clips])
    np.savez(tmp_path / "clips.npz", x=x.reshape(-1, 4, 4, 1).astype(np.float32), y=y, group=clips)
    spec = {**TINY, "dataset": str(tmp_path / "clips.npz"), "train_size": None, "test_size": None}
    frame = run_sweep(grid(spec, seed=[0, 1]), tmp_path / "out", keep="all", notify=quiet,
                      progress=quiet).frame
    assert list(frame["error"]) == [None, None]
    study = load_study(tmp_path / "out" / "runs" / frame["key"][0])
    groups = len(np.unique(study.arrays["group"]))
    assert 2 <= groups < study.results.n
    assert {row["groups"] for row in study.summary["comparisons"]} == {groups}
    wanted = compare_paired(study.correct("ptq_int8"), study.correct("qat"),
                            groups=study.arrays["group"])
    assert frame["qat_minus_ptq_low_pp"][0] == wanted.interval[0]
    (over_seeds,) = Sweep(frame, tmp_path / "out").seeds.values()
    assert over_seeds.groups == groups
    gap = diagnose(case(study), interventions=False).gap("ptq", "qat")
    assert gap is not None
    assert (gap.groups, gap.interval, gap.p) == (groups, wanted.interval, wanted.p)
