"""Jobs on real worker processes: every result arrives once, deaths are blamed on the right run."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
from parts import is_alive, other_process

from qinspect.errors import QinspectError
from qinspect.studies.pool import one_thread, processes, run_on_executor, run_on_processes

VARIABLES = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def report(number: int) -> tuple[int, int, list[str | None]]:
    time.sleep(0.1)
    return number, os.getpid(), [os.environ.get(name) for name in VARIABLES]


def die_if_bad(name: str) -> str:
    if name.startswith("bad"):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return name


def leave_pid_and_wait(folder: str, name: str) -> str:
    """Wait to be killed the first time, return the second time."""
    path = Path(folder) / name
    if not path.exists():
        path.write_text(str(os.getpid()))
        time.sleep(600)
    return name


def fail(name: str) -> str:
    raise ValueError(name)


def wait_for_text(path: Path, seconds: float = 30) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.05)
    raise AssertionError(f"{path} did not appear")


def test_every_result_once_and_one_thread_each() -> None:
    results = dict(run_on_processes(report, {str(k): (k,) for k in range(6)}, workers=2))
    assert {key: value[0] for key, value in results.items()} == {str(k): k for k in range(6)}
    assert 1 <= len({pid for _, pid, _ in results.values()} - {os.getpid()}) <= 2
    assert all(threads == ["1", "1", "1"] for _, _, threads in results.values())


def test_processes_are_replaced_after_some_runs() -> None:
    tasks = {str(k): (k,) for k in range(5)}
    results = dict(run_on_processes(report, tasks, workers=1, runs_per_process=2))
    assert sorted(results) == sorted(tasks)
    pids = [pid for _, pid, _ in results.values()]
    assert sorted(pids.count(pid) for pid in set(pids)) == [1, 2, 2]


def test_a_run_that_kills_its_worker_is_found_and_the_others_finish() -> None:
    names = ["a", "bad1", "b", "c", "bad2", "d"]
    outcomes = list(run_on_processes(die_if_bad, {name: (name,) for name in names}, workers=2))
    assert sorted(key for key, _ in outcomes) == sorted(names)
    for key, outcome in outcomes:
        if key.startswith("bad"):
            assert isinstance(outcome, BrokenExecutor)
            assert "died twice" in str(outcome)
        else:
            assert outcome == key


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_worker_killed_from_outside_costs_no_run(tmp_path: Path) -> None:
    outcomes: list[tuple[str, object]] = []
    tasks = {name: (str(tmp_path), name) for name in ("one", "two")}
    thread = threading.Thread(
        target=lambda: outcomes.extend(run_on_processes(leave_pid_and_wait, tasks, workers=2))
    )
    thread.start()
    wait_for_text(tmp_path / "two")
    # Started by the pool of this test a moment ago.
    os.kill(int(wait_for_text(tmp_path / "one")), signal.SIGKILL)
    # Long before the surviving worker would have returned by itself.
    thread.join(120)
    assert sorted(outcomes) == [("one", "one"), ("two", "two")]


@pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(tmp_path: Path, how: signal.Signals) -> None:
    code = (
        "from qinspect.studies.pool import run_on_processes\n"
        "from test_study_sweep_pool import leave_pid_and_wait\n"
        f"list(run_on_processes(leave_pid_and_wait, {{'w': ({str(tmp_path)!r}, 'w')}}, 1))\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        env=other_process(Path(__file__).parent),
        stderr=subprocess.DEVNULL,
        # What a shell starts in the background inherits that interrupts are ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    worker = int(wait_for_text(tmp_path / "w"))
    assert is_alive(worker)
    # An interrupt that comes while Python runs a callback is lost; one presses Ctrl-C again then.
    for _ in range(12):
        parent.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            parent.wait(5)
            break
    assert parent.poll() is not None
    end = time.monotonic() + 10
    while is_alive(worker) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_alive(worker)


def test_processes_stay_for_the_next_call_and_are_replaced_after_a_death() -> None:
    with processes(1, script=False) as run:
        (_, first), = run(report, {"a": (1,)})
        (_, second), = run(report, {"b": (2,)})
        assert first[1] == second[1]
        ((_, died),) = run(die_if_bad, {"bad": ("bad",)})
        assert isinstance(died, BrokenExecutor)
        ((_, third),) = run(report, {"c": (3,)})
    assert third[0] == 3
    assert third[1] != first[1]


@pytest.mark.slow
def test_nothing_is_begun_after_its_time_and_what_is_then_of_no_use_ends(tmp_path: Path) -> None:
    with processes(1) as run:
        assert [key for key, _ in run(report, {"a": (1,)}, time.perf_counter() + 600)] == ["a"]
        begun = time.perf_counter()
        with pytest.raises(TimeoutError):
            list(run(leave_pid_and_wait, {name: (str(tmp_path), name) for name in "xy"}, begun + 3))
        assert time.perf_counter() < begun + 60
        assert not (tmp_path / "y").exists()
        # Another process answers.
        assert [key for key, _ in run(report, {"b": (2,)})] == ["b"]


def test_a_daemon_is_told_that_it_may_start_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    with pytest.raises(QinspectError, match="cannot start worker processes: this process is a d"):
        list(run_on_processes(report, {"a": (1,)}, 1))


def test_an_executor_of_the_caller_stays_open_and_its_failures_are_results() -> None:
    with ThreadPoolExecutor(2) as executor:
        good = dict(run_on_executor(report, {"a": (1,), "b": (2,)}, executor))
        assert sorted(value[0] for value in good.values()) == [1, 2]
        ((key, error),) = run_on_executor(fail, {"x": ("reason",)}, executor)
        assert key == "x"
        assert isinstance(error, ValueError)
        assert executor.submit(len, "abc").result() == 3


def test_a_broken_executor_of_the_caller_is_an_error_not_a_result() -> None:
    with (
        ProcessPoolExecutor(1) as executor,
        pytest.raises(QinspectError, match="workers died; finished runs are kept"),
    ):
        list(run_on_executor(die_if_bad, {"bad": ("bad",)}, executor))


def test_threads_take_turns_and_the_environment_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    inside = []

    def work() -> None:
        with one_thread():
            inside.append("in")
            time.sleep(0.05)
            assert [os.environ[name] for name in VARIABLES] == ["1"] * 3
            inside.append("out")

    with ThreadPoolExecutor(3) as executor:
        for future in [executor.submit(work) for _ in range(3)]:
            future.result()
    assert inside == ["in", "out"] * 3
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "TF_NUM_INTRAOP_THREADS" not in os.environ
