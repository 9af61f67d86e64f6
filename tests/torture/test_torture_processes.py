"""Studies, sweeps and diagnoses that are killed at any moment end as if nothing had happened."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parts import need_package, other_process

from qinspect import store
from qinspect.errors import StoreError
from qinspect.store import read_arrays, write_json
from qinspect.studies.stored import load_study

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, mounts")

SPEC = ["--preset", "one-epoch", "--model", "mlp", "--train-size", "200", "--test-size", "150"]
STUDY = ["study", *SPEC, "--repeats", "1"]
SWEEP = ["sweep", *SPEC, "--seeds", "0-1", "--workers", "2"]
KILLS = 50


def start(arguments: Sequence[str], **pipes: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "qinspect", *arguments], env=other_process(),
                            start_new_session=True, **pipes)


def finish(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "qinspect", *arguments], env=other_process(),
                          capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return done


def kill_after(arguments: Sequence[str], seconds: float) -> bool:
    """Whether the command was still at work and is now dead, its children with it."""
    process = start(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return True


def contents(folder: Path) -> dict[str, Any]:
    """What a study came to: arrays by value, ``.tflite`` files and tables by their bytes."""
    found: dict[str, Any] = {
        str(path.relative_to(folder)): path.read_bytes()
        for pattern in ("*.tflite", "runs.csv", "splits.json", "spec.json")
        for path in folder.rglob(pattern)}
    for path in folder.rglob("predictions.npz"):
        found[str(path.relative_to(folder))] = {
            key: (array.dtype.str, array.tobytes()) for key, array in read_arrays(path).items()}
    return found


def check_same(folder: Path, wanted: dict[str, Any]) -> None:
    found = contents(folder)
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name]] == []
    # Temporary files of a killed writer are recognised by their names, see store.write_bytes.
    left = [str(path) for path in folder.rglob(".*") if path.name != ".lock"]
    assert left == []


def attack(arguments: Sequence[str], out: Path, wanted: dict[str, Any], kills: int, seed: int,
           length: float) -> int:
    """Kill a command at random moments, beginning anew whenever it got through."""
    rng, killed, rounds = np.random.default_rng(seed), 0, 0
    while killed < kills:
        folder = out / str(rounds)
        # Several kills in one folder, so that resumed runs are killed, too.
        for _ in range(min(int(rng.integers(1, 5)), kills - killed)):
            killed += kill_after([*arguments, "--out", str(folder)], rng.uniform(0.2, length))
        finish([*arguments, "--out", str(folder)])
        check_same(folder, wanted)
        shutil.rmtree(folder)
        rounds += 1
    return rounds


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A finished study, and how long it took."""
    need_package("tensorflow")
    out, began = tmp_path_factory.mktemp("undisturbed") / "study", time.monotonic()
    finish([*STUDY, "--out", str(out)])
    return out, time.monotonic() - began


@pytest.mark.torture
def test_a_study_killed_at_any_moment(study, tmp_path) -> None:
    rounds = attack(STUDY, tmp_path, contents(study[0]), KILLS, KILLS, study[1])
    print(f"{KILLS} kills of {rounds} studies")


@pytest.mark.torture
def test_a_sweep_killed_at_any_moment(tmp_path) -> None:
    need_package("tensorflow")
    plain, began = tmp_path / "plain", time.monotonic()
    finish([*SWEEP, "--out", str(plain)])
    rounds = attack(SWEEP, tmp_path / "killed", contents(plain), KILLS, 1,
                    time.monotonic() - began)
    print(f"{KILLS} kills of {rounds} sweeps")


@pytest.mark.torture
def test_a_diagnosis_killed_at_any_moment(study, tmp_path) -> None:
    """It changes nothing that it reads, and says afterwards what it says undisturbed."""
    folder = tmp_path / "study"
    shutil.copytree(study[0], folder)
    command = ["diagnose", str(folder), "--json"]
    began = time.monotonic()
    wanted = {**json.loads(finish(command).stdout), "seconds": None}
    length, before = time.monotonic() - began, contents(folder)
    rng = np.random.default_rng(2)
    killed, runs = 0, 0
    while killed < KILLS:
        moment, runs = rng.uniform(0.2, length), runs + 1
        if kill_after(command, moment):
            killed += 1
        else:
            length = moment  # it was through before
    print(f"{killed} kills of {runs} diagnoses")
    assert {**json.loads(finish(command).stdout), "seconds": None} == wanted
    check_same(folder, before)


# --- file systems --------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of so many kilobytes, where the machine lets a test have one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = []

    def make(kilobytes: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(place)]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True,
                                                       check=False).returncode:
            pytest.skip("this machine lets no test mount a file system")
        mounted.append(place)
        return place

    yield make
    for one in mounted:
        subprocess.run(["umount", "-l", str(one)], check=True)


def resize(place: Path, kilobytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(place)], check=True)


@pytest.mark.torture
@pytest.mark.parametrize("kilobytes", [8, 64, 128, 256, 512, 1024])
def test_a_full_disk_and_then_a_larger_one(kilobytes, small_disk, study, tmp_path) -> None:
    place = small_disk(kilobytes)
    command = [sys.executable, "-m", "qinspect", *STUDY, "--out", str(place / "study")]
    done = subprocess.run(command, capture_output=True, text=True, env=other_process(),
                          timeout=600, check=False)
    assert done.returncode == 2, (done.returncode, done.stderr[-2000:])
    assert "Traceback" not in done.stderr
    assert "No space left" in done.stderr.splitlines()[-1]
    if kilobytes > 8:
        resize(place, 100_000)
        finish([*STUDY, "--out", str(place / "study")])
        check_same(place / "study", contents(study[0]))


def test_a_write_that_does_not_fit_leaves_the_old_file(small_disk) -> None:
    file = small_disk(64) / "one.json"
    write_json(file, [1])
    with pytest.raises(StoreError, match="No space left"):
        write_json(file, ["x" * 200_000])
    assert json.loads(file.read_text()) == [1]
    assert [path.name for path in file.parent.iterdir()] == ["one.json"]


def test_a_folder_that_cannot_be_written(small_disk) -> None:
    place = small_disk(1000)
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "qinspect", *STUDY, "--out", str(place / "study")],
        capture_output=True, text=True, env=other_process(), timeout=300, check=False)
    assert done.returncode == 2
    assert "choose another one with --out" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.torture
def test_a_finished_study_on_a_read_only_disk_is_read(small_disk, study) -> None:
    place = small_disk(50_000)
    shutil.copytree(study[0], place / "study")
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    assert load_study(place / "study").summary["arms"]
    assert finish(["diagnose", str(place / "study"), "--no-interventions"]).stdout


@pytest.mark.torture
def test_two_writers_and_a_clock_that_goes_back(study, tmp_path) -> None:
    """Two commands on one folder at once, whose files are from the future when both go on."""
    folder = tmp_path / "study"
    command = [*STUDY, "--out", str(folder)]
    while not kill_after(command, 0.6 * study[1]):
        shutil.rmtree(folder)
    ahead = time.time() + 10 * 365 * 86400
    for path in folder.rglob("*"):
        os.utime(path, (ahead, ahead))
    pair = [start(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(2)]
    errors = [process.communicate(timeout=600)[1] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], errors
    check_same(folder, contents(study[0]))


# --- Dask ----------------------------------------------------------------------------------------


def wait_until(condition: Callable[[], Any], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.torture
def test_a_dask_scheduler_that_is_killed(tmp_path) -> None:
    """The sweep ends and says why; with a new scheduler the same command goes on."""
    need_package("distributed")
    out = tmp_path / "sweep"
    plain = tmp_path / "plain"
    finish([*SWEEP, "--out", str(plain)])
    for life in ("killed", "well"):
        log = (tmp_path / f"{life}.log").open("wb")
        file = tmp_path / f"{life}.json"
        scheduler = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1",
             "--port", "0", "--no-dashboard", "--scheduler-file", str(file)], stdout=log,
            stderr=log)
        wait_until(lambda file=file: file.exists() and file.read_text().endswith("}"))
        address = json.loads(file.read_text())["address"]
        worker = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1",
             "--no-nanny", "--no-dashboard", "--local-directory", str(tmp_path)],
            stdout=log, stderr=log, env=other_process())
        command = ["sweep", *SPEC, "--seeds", "0-1", "--dask", address, "--out", str(out)]
        try:
            sweep = start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            if life == "killed":
                wait_until(lambda: list(out.glob("runs/*/steps/initial.json")))
                scheduler.kill()
            printed, said = (text.decode() for text in sweep.communicate(timeout=300))
        finally:
            for process in (worker, scheduler):
                process.kill()
                process.wait()
            log.close()
        assert "Traceback" not in said, said
        if life == "well":
            assert sweep.returncode == 0, said
        else:
            assert sweep.returncode in (1, 2), said
            assert "scheduler" in printed + said, printed + said
    check_same(out, contents(plain))


def test_a_scratch_folder_of_a_killed_process_is_removed_and_one_in_use_is_not(
        monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    code = ("import sys, time\nfrom qinspect.store import scratch\n"
            "with scratch() as folder:\n print(folder, flush=True)\n time.sleep(600)")
    owners = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
              for _ in range(2)]
    folders = [Path(owner.stdout.readline().strip()) for owner in owners if owner.stdout]
    owners[0].kill()
    owners[0].wait()
    for folder in folders:
        os.utime(folder, (0, 0))
    with store.scratch():
        assert [folder.exists() for folder in folders] == [False, True]
    owners[1].kill()
    owners[1].wait()
